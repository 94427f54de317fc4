/**
 * Transactions of others in the mempool that spend what is claimed, and what
 * they pay: what must be outbid. Of a rival whose inputs are not all in the
 * chain the fee stays unknown; the node's refusal is the guide then.
 */
import { type Tx, decodeTx, displayHash, parseDisplayHash, txVsize } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import type { OutPoint } from '@fulmen/settlement';
import { type Rival, outPointKeyOf } from '@fulmen/settlement/sweep/index';

/** Outpoints asked about, and rivals looked at, at once. */
const MAX_OUTPOINTS = 2_000;
const MAX_RIVALS = 50;
const MAX_RIVAL_INPUTS = 50;

export async function findRivals(
  source: Pick<ChainSource, 'getMempoolSpends' | 'getMempoolTransaction' | 'getUtxo'>,
  claims: readonly { readonly outPoint: OutPoint; readonly valueSat: bigint }[],
  isOurs: (txid: Uint8Array) => boolean,
): Promise<ReadonlyMap<string, Rival>> {
  const rivals = new Map<string, Rival>();
  const asked = claims.slice(0, MAX_OUTPOINTS);
  if (asked.length === 0) return rivals;
  const values = new Map(asked.map(({ outPoint, valueSat }) => [outPointKeyOf(outPoint), valueSat]));
  const spends = await source.getMempoolSpends(
    asked.map(({ outPoint }) => ({ txid: displayHash(outPoint.txid), vout: outPoint.outputIndex })),
  );
  const byTxid = new Map<string, Promise<Rival | undefined>>();
  for (const { txid, vout, spendingTxid } of spends) {
    if (isOurs(parseDisplayHash(spendingTxid))) continue;
    if (!byTxid.has(spendingTxid) && byTxid.size >= MAX_RIVALS) continue;
    const looking = byTxid.get(spendingTxid) ?? look(source, spendingTxid, values);
    byTxid.set(spendingTxid, looking);
    const rival = await looking;
    const key = outPointKeyOf({ txid: parseDisplayHash(txid), outputIndex: vout });
    if (rival !== undefined) rivals.set(key, rival);
  }
  return rivals;
}

async function look(
  source: Pick<ChainSource, 'getMempoolTransaction' | 'getUtxo'>,
  txid: string,
  values: ReadonlyMap<string, bigint>,
): Promise<Rival | undefined> {
  const raw = await source.getMempoolTransaction(txid);
  const tx = raw === undefined ? undefined : decodeTx(raw);
  if (tx?.ok !== true || tx.value.inputs.length > MAX_RIVAL_INPUTS) return undefined;
  const inSat = await inputsSat(source, tx.value, values);
  if (inSat === undefined) return undefined;
  const outSat = tx.value.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  return inSat < outSat ? undefined : { feeSat: inSat - outSat, vsize: txVsize(tx.value) };
}

async function inputsSat(
  source: Pick<ChainSource, 'getUtxo'>,
  { inputs }: Tx,
  values: ReadonlyMap<string, bigint>,
): Promise<bigint | undefined> {
  let sum = 0n;
  for (const { txid, vout } of inputs) {
    const known = values.get(outPointKeyOf({ txid, outputIndex: vout }));
    const valueSat = known ?? (await source.getUtxo(displayHash(txid), vout))?.valueSat;
    if (valueSat === undefined) return undefined;
    sum += valueSat;
  }
  return sum;
}
