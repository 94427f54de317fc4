// Step 5's proof: every satoshi of every party before and after, explained to the millisatoshi.
import type { Ledger } from './payments.ts';
import { sat, type World } from './world.ts';

export type Holdings = { readonly alice: bigint; readonly bob: bigint; readonly fleet: bigint };
type Party = keyof Holdings;

/** On-chain satoshis of each party. */
export async function holdings(world: World): Promise<Holdings> {
  const [alice, bob, fleet] = await Promise.all([
    world.alice.call('balances'),
    world.bob.call('balances'),
    world.fleetOnchainSat(),
  ]);
  return { alice: BigInt(alice.onchainSat), bob: BigInt(bob.onchainSat), fleet };
}

type Transaction = {
  readonly txid: string;
  readonly vin: readonly { readonly prevout?: { readonly value: number } }[];
  readonly vout: readonly { readonly value: number }[];
};

const toSat = (bitcoin: number): bigint => BigInt(Math.round(bitcoin * 1e8));

/** Fee of each transaction in the blocks after `height`, by txid, as the chain itself tells. */
export async function chainFees(world: World, height: number): Promise<Map<string, bigint>> {
  const fees = new Map<string, bigint>();
  const tip = Number(await world.fleet.chain.call('getblockcount'));
  for (let at = height + 1; at <= tip; at += 1) {
    const hash = await world.fleet.chain.call('getblockhash', at);
    const block = (await world.fleet.chain.call('getblock', hash, 3)) as {
      readonly tx: readonly Transaction[];
    };
    for (const transaction of block.tx.slice(1)) {
      const spent = transaction.vin.reduce((sum, input) => sum + toSat(input.prevout?.value ?? 0), 0n);
      const paid = transaction.vout.reduce((sum, output) => sum + toSat(output.value), 0n);
      fees.set(transaction.txid, spent - paid);
    }
  }
  return fees;
}

/** A channel's two transactions, and the millisatoshis that each side had in it at the close. */
export type ClosedChannel = {
  readonly funder: Party;
  readonly wallet: Party;
  readonly fundingTxid: string;
  readonly closingTxid: string;
  /** The wallet's own transaction that moved its part on. */
  readonly sweepTxid?: string;
  readonly fleetMsat: bigint;
  readonly walletMsat: bigint;
};

/** Prints the sheet; gives the sum of what nothing explains, in millisatoshis. */
export function balanceSheet(
  world: World,
  before: Holdings,
  after: Holdings,
  ledger: Ledger,
  channels: readonly ClosedChannel[],
  fees: ReadonlyMap<string, bigint>,
): bigint {
  const earned: Record<Party, bigint> = {
    alice: ledger.aliceMsat,
    bob: ledger.bobMsat,
    fleet: ledger.fleetMsat,
  };
  const onchain: Record<Party, bigint> = { alice: 0n, bob: 0n, fleet: 0n };
  const rounding: Record<Party, bigint> = { alice: 0n, bob: 0n, fleet: 0n };
  const known = new Set<string>();
  for (const channel of channels) {
    // Whole satoshis only go on-chain: each side's remainder goes to the miner with the closing fee.
    const remainder = (channel.fleetMsat % 1000n) + (channel.walletMsat % 1000n);
    rounding.fleet += channel.fleetMsat % 1000n;
    rounding[channel.wallet] += channel.walletMsat % 1000n;
    onchain[channel.funder] +=
      (fees.get(channel.fundingTxid) ?? 0n) + (fees.get(channel.closingTxid) ?? 0n) - remainder / 1000n;
    known.add(channel.fundingTxid).add(channel.closingTxid);
    if (channel.sweepTxid !== undefined) {
      onchain[channel.wallet] += fees.get(channel.sweepTxid) ?? 0n;
      known.add(channel.sweepTxid);
    }
  }
  let unaccounted = 0n;
  world.report.say(
    'party        before             after   payments (msat)   on-chain fees   rounding (msat)   unexplained',
  );
  for (const party of ['alice', 'bob', 'fleet'] as const) {
    const expectedMsat = before[party] * 1000n + earned[party] - onchain[party] * 1000n - rounding[party];
    const differenceMsat = after[party] * 1000n - expectedMsat;
    unaccounted += differenceMsat < 0n ? -differenceMsat : differenceMsat;
    const cells = [
      party.padEnd(6),
      sat(before[party]).padStart(18),
      sat(after[party]).padStart(18),
      earned[party].toLocaleString('en-US').padStart(15),
      sat(onchain[party]).padStart(14),
      rounding[party].toLocaleString('en-US').padStart(13),
      `${differenceMsat} msat`.padStart(14),
    ];
    world.report.say(cells.join('  '), {
      party,
      beforeSat: before[party],
      afterSat: after[party],
      paymentsMsat: earned[party],
      onchainFeesSat: onchain[party],
      roundingMsat: rounding[party],
      unexplainedMsat: differenceMsat,
    });
  }
  for (const [txid, fee] of fees) {
    if (known.has(txid)) continue;
    world.report.say(`a transaction that the story does not know: ${txid}, fee ${sat(fee)}`);
    unaccounted += fee * 1000n;
  }
  return unaccounted;
}
