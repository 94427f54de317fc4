/** A case as lines for people: which transactions were broadcast and confirmed, what they spend and pay. */
import { decodeBlock, displayHash } from '@fulmen/bitcoin';
import { type StoredTx, storeRawTx, storeTx } from '@fulmen/testing/devchain';
import type { WorldEvent } from './world.ts';

export function storyOf(events: readonly WorldEvent[]): string[] {
  const values = new Map<string, bigint>();
  const lines: string[] = [];
  let height = 0;
  const learn = ({ tx, txid }: StoredTx): void => {
    for (const [vout, { valueSat }] of tx.outputs.entries()) values.set(`${txid}:${vout}`, valueSat);
  };
  const describe = (stored: StoredTx): string => {
    const { tx, txid, vsize } = stored;
    const spent = tx.inputs.map((input) => `${displayHash(input.txid)}:${input.vout}`);
    const inSat = spent.reduce((sum, key) => sum + (values.get(key) ?? 0n), 0n);
    const feeSat = tx.outputs.reduce((left, { valueSat }) => left - valueSat, inSat);
    learn(stored);
    const inputs = spent.map((key) => key.replace(/^(.{8}).*(:\d+)$/, '$1$2')).join(' ');
    return `${txid.slice(0, 8)} [${inputs}] fee ${feeSat} (${(Number(feeSat) / vsize).toFixed(1)} sat/vB)`;
  };
  for (const event of events) {
    switch (event.type) {
      case 'block': {
        const block = decodeBlock(event.raw);
        if (!block.ok) throw block.error;
        height += 1;
        const [, ...transactions] = block.value.transactions.map(storeTx);
        const [coinbase] = block.value.transactions;
        if (coinbase !== undefined) learn(storeTx(coinbase));
        if (transactions.length > 0) lines.push(`block ${height}: ${transactions.map(describe).join('; ')}`);
        break;
      }
      case 'invalidate':
        lines.push(`reorganisation of ${event.hash.slice(0, 8)}`);
        break;
      case 'broadcast': {
        const verdict = event.outcome.kind === 'accepted' ? 'accepted' : `refused: ${event.outcome.reason}`;
        const what = event.transactions.map(storeRawTx).map((tx) => (tx === undefined ? '?' : describe(tx)));
        lines.push(`  at ${height} ${verdict}: ${what.join('; ')}`);
        break;
      }
    }
  }
  return lines;
}
