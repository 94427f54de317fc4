// The proof at the end of a story: every satoshi of every party before and after, explained to the millisatoshi.
import { ANCHOR_VALUE_SAT, type ChainTransaction, descendants } from './chain-transactions.ts';
import type { Ledger } from './payments.ts';
import { type Party, PARTIES, sat, type World } from './world.ts';

export type Holdings = Readonly<Record<Party, bigint>>;

/** On-chain satoshis of each party. */
export async function holdings(world: World): Promise<Holdings> {
  const [alice, bob, fleet] = await Promise.all([
    world.alice.call('balances'),
    world.bob.call('balances'),
    world.fleetOnchainSat(),
  ]);
  return { alice: BigInt(alice.onchainSat), bob: BigInt(bob.onchainSat), fleet };
}

/** An HTLC that a commitment carried when it was broadcast. */
export type HeldHtlc = {
  readonly amountMsat: bigint;
  readonly offeredBy: Party;
  /** Who got it in the end. */
  readonly winner: Party;
  /** Below the dust limit: it has no output, and its amount went to the miner. */
  readonly trimmed: boolean;
};

/** A closed channel: its two transactions, and the millisatoshis of each side in it. */
export type ClosedChannel = {
  readonly how: 'mutual' | 'commitment' | 'revoked';
  readonly funder: Party;
  readonly wallet: Party;
  readonly fundingTxid: string;
  readonly closingTxid: string;
  /** What each side had besides the HTLCs. */
  readonly fleetMsat: bigint;
  readonly walletMsat: bigint;
  readonly htlcs: readonly HeldHtlc[];
};

/** What explains a party's difference. */
type Account = {
  paymentsMsat: bigint;
  justiceMsat: bigint;
  /** Fees, and the values of anchors that it paid for, less those that it swept. */
  onchainSat: bigint;
  roundingMsat: bigint;
};

type Accounts = Readonly<Record<Party, Account>>;

/** What a commitment takes from an HTLC that is not whole satoshis, or has no output. */
const lostMsat = ({ amountMsat, trimmed }: HeldHtlc): bigint => (trimmed ? amountMsat : amountMsat % 1000n);

const feeOf = (transactions: ReadonlyMap<string, ChainTransaction>, txid: string): bigint =>
  transactions.get(txid)?.feeSat ?? 0n;

/** Closing fees and rounding of one channel. */
function settleChannel(
  accounts: Accounts,
  channel: ClosedChannel,
  transactions: ReadonlyMap<string, ChainTransaction>,
): void {
  const { how, funder, wallet, closingTxid } = channel;
  accounts[funder].onchainSat += feeOf(transactions, channel.fundingTxid);
  const anchors =
    how === 'mutual'
      ? 0
      : (transactions.get(closingTxid)?.outputsSat.filter((value) => value === ANCHOR_VALUE_SAT).length ?? 0);
  const closingSat = feeOf(transactions, closingTxid) + BigInt(anchors) * ANCHOR_VALUE_SAT;
  if (how === 'revoked') {
    // The cheater's whole balance is the fleet's, less what the revoked transaction itself left to the miner and in anchors.
    accounts[wallet].justiceMsat -= channel.walletMsat;
    accounts.fleet.justiceMsat += channel.walletMsat;
    accounts.fleet.onchainSat += closingSat;
    return;
  }
  // Whole satoshis only go on-chain: what is less goes to the miner with the closing fee.
  accounts.fleet.roundingMsat += channel.fleetMsat % 1000n;
  accounts[wallet].roundingMsat += channel.walletMsat % 1000n;
  let remainderMsat = (channel.fleetMsat % 1000n) + (channel.walletMsat % 1000n);
  for (const htlc of channel.htlcs) {
    accounts[htlc.winner].roundingMsat += lostMsat(htlc);
    remainderMsat += lostMsat(htlc);
  }
  accounts[funder].onchainSat += closingSat - remainderMsat / 1000n;
}

/**
 * Who paid for which transaction, and who won what. A transaction that spends the outputs of a broadcast commitment, or
 * of another such one, is its maker's: a wallet tells what it broadcasts, the others are the fleet's.
 * @returns the accounts, and the transactions that nothing explains
 */
function explain(
  world: World,
  ledger: Ledger,
  channels: readonly ClosedChannel[],
  transactions: ReadonlyMap<string, ChainTransaction>,
): { readonly accounts: Accounts; readonly unknown: readonly string[] } {
  const account = (paymentsMsat: bigint): Account => ({
    paymentsMsat,
    justiceMsat: 0n,
    onchainSat: 0n,
    roundingMsat: 0n,
  });
  const accounts: Accounts = {
    alice: account(ledger.aliceMsat),
    bob: account(ledger.bobMsat),
    fleet: account(ledger.fleetMsat),
  };
  const known = new Set<string>();
  for (const channel of channels) {
    settleChannel(accounts, channel, transactions);
    known.add(channel.fundingTxid).add(channel.closingTxid);
  }
  const commitments = new Set(
    channels.filter(({ how }) => how !== 'mutual').map(({ closingTxid }) => closingTxid),
  );
  const settling = descendants(transactions, commitments);
  const makers = (['alice', 'bob'] as const).map((party) => [party, world.broadcastBy(party)] as const);
  const unknown: string[] = [];
  for (const [txid, transaction] of transactions) {
    if (known.has(txid)) continue;
    const maker =
      makers.find(([, broadcast]) => broadcast.has(txid))?.[0] ?? (settling.has(txid) ? 'fleet' : undefined);
    if (maker === undefined) {
      unknown.push(txid);
      continue;
    }
    const anchors = transaction.inputs.filter(
      ({ txid: spent, valueSat }) => commitments.has(spent) && valueSat === ANCHOR_VALUE_SAT,
    );
    accounts[maker].onchainSat += transaction.feeSat - BigInt(anchors.length) * ANCHOR_VALUE_SAT;
  }
  return { accounts, unknown };
}

/** Prints the sheet; gives the sum of what nothing explains, in millisatoshis. */
export function balanceSheet(
  world: World,
  before: Holdings,
  after: Holdings,
  ledger: Ledger,
  channels: readonly ClosedChannel[],
  transactions: ReadonlyMap<string, ChainTransaction>,
): bigint {
  const { accounts, unknown } = explain(world, ledger, channels, transactions);
  const hasJustice = channels.some(({ how }) => how === 'revoked');
  let unaccounted = 0n;
  world.report.say(
    `party        before             after   payments (msat)${hasJustice ? '    justice (msat)' : ''}   on-chain fees   rounding (msat)   unexplained`,
  );
  for (const party of PARTIES) {
    const { paymentsMsat, justiceMsat, onchainSat, roundingMsat } = accounts[party];
    const expectedMsat =
      before[party] * 1000n + paymentsMsat + justiceMsat - onchainSat * 1000n - roundingMsat;
    const differenceMsat = after[party] * 1000n - expectedMsat;
    unaccounted += differenceMsat < 0n ? -differenceMsat : differenceMsat;
    const cells = [
      party.padEnd(6),
      sat(before[party]).padStart(18),
      sat(after[party]).padStart(18),
      paymentsMsat.toLocaleString('en-US').padStart(15),
      ...(hasJustice ? [justiceMsat.toLocaleString('en-US').padStart(16)] : []),
      sat(onchainSat).padStart(14),
      roundingMsat.toLocaleString('en-US').padStart(13),
      `${differenceMsat} msat`.padStart(14),
    ];
    world.report.say(cells.join('  '), {
      party,
      beforeSat: before[party],
      afterSat: after[party],
      paymentsMsat,
      ...(hasJustice && { justiceMsat }),
      onchainFeesSat: onchainSat,
      roundingMsat,
      unexplainedMsat: differenceMsat,
    });
  }
  for (const txid of unknown) {
    const feeSat = feeOf(transactions, txid);
    world.report.say(`a transaction that the story does not know: ${txid}, fee ${sat(feeSat)}`);
    unaccounted += feeSat * 1000n;
  }
  return unaccounted;
}
