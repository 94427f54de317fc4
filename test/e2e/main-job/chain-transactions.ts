// What the chain itself tells of the transactions of a story.
import type { Fleet } from '../support/fleet.ts';
import type { World } from './world.ts';

/** BOLT 3: "The value of both anchors is 330 satoshis". */
export const ANCHOR_VALUE_SAT = 330n;

export type ChainTransaction = {
  readonly height: number;
  readonly feeSat: bigint;
  readonly inputs: readonly { readonly txid: string; readonly vout: number; readonly valueSat: bigint }[];
  readonly outputsSat: readonly bigint[];
};

type Told = {
  readonly txid: string;
  readonly vin: readonly {
    readonly txid: string;
    readonly vout: number;
    readonly prevout?: { readonly value: number };
  }[];
  readonly vout: readonly { readonly value: number }[];
};

const toSat = (bitcoin: number): bigint => BigInt(Math.round(bitcoin * 1e8));
const sum = (values: readonly bigint[]): bigint => values.reduce((total, value) => total + value, 0n);

/** Every transaction but coinbases in the blocks after `height`, by txid in display order. */
export async function chainTransactions(
  world: { readonly fleet: Pick<Fleet, 'chain'> },
  height: number,
): Promise<Map<string, ChainTransaction>> {
  const found = new Map<string, ChainTransaction>();
  const tip = Number(await world.fleet.chain.call('getblockcount'));
  for (let at = height + 1; at <= tip; at += 1) {
    const hash = await world.fleet.chain.call('getblockhash', at);
    const block = (await world.fleet.chain.call('getblock', hash, 3)) as { readonly tx: readonly Told[] };
    for (const { txid, vin, vout } of block.tx.slice(1)) {
      const inputs = vin.map((input) => ({
        txid: input.txid,
        vout: input.vout,
        valueSat: toSat(input.prevout?.value ?? 0),
      }));
      const outputsSat = vout.map(({ value }) => toSat(value));
      const feeSat = sum(inputs.map(({ valueSat }) => valueSat)) - sum(outputsSat);
      found.set(txid, { height: at, feeSat, inputs, outputsSat });
    }
  }
  return found;
}

/** Id of the transaction that waits in the mempool and spends this output. */
export async function spenderInMempool(
  world: World,
  spent: { readonly txid: string; readonly vout: number },
): Promise<string | undefined> {
  for (const txid of await world.mempool()) {
    const { vin } = (await world.fleet.chain.call('getrawtransaction', txid, true)) as Told;
    if (vin.some((input) => input.txid === spent.txid && input.vout === spent.vout)) return txid;
  }
  return undefined;
}

/** Transactions that spend an output of one of these, or of another descendant; in the order of the chain. */
export function descendants(
  transactions: ReadonlyMap<string, ChainTransaction>,
  of: ReadonlySet<string>,
): ReadonlySet<string> {
  const found = new Set<string>();
  for (const [txid, { inputs }] of transactions)
    if (inputs.some((input) => of.has(input.txid) || found.has(input.txid))) found.add(txid);
  return found;
}
