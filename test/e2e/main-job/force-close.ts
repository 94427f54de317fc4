// The story of two channels closed by force, one by each side, with payments in flight both ways.
import { toHex } from '@fulmen/codec';
import { balanceSheet, holdings } from './balance-sheet.ts';
import { chainTransactions } from './chain-transactions.ts';
import {
  type Closing,
  closedBy,
  closeTypes,
  closingInMempool,
  closingOf,
  mineUntil,
  nothingPending,
  tellClosing,
} from './closing.ts';
import { bookEnded, type HeldPayment, hold, htlcsWith, inFlight } from './held-payments.ts';
import { newLedger, payOnce, startPayments } from './payments.ts';
import { fund, type Outcome, openChannels, PUSHED_TO_BOB_MSAT } from './scenario.ts';
import { ensure } from './waiting.ts';
import type { World } from './world.ts';

const CALM_PAYMENTS = 6;
/** Paid to Bob, so that the fleet can pay Alice afterwards. */
const ROOM_MSAT = 500_000_000n;
/** Below the dust limits of both sides' commitments. */
const DUST_SAT = 200;
/** Blocks between the close and the moment in which the payees let the preimages out. */
const LATE_BLOCKS = 4;
/** Beyond the longest chain of waits: an expiry, the expiry upstream, a second stage's delay, and burials. */
const MAX_BLOCKS = 700;
const STEP_BLOCKS = 2;

export async function forceCloseStory(world: World): Promise<Outcome> {
  const { report, node, alice, fleet } = world;
  const ledger = newLedger();
  await fund(world);
  const before = await holdings(world);
  const height = Number(await fleet.chain.call('getblockcount'));

  report.step('1. Alice opens a channel to the fleet; the fleet opens one to Bob');
  await openChannels(world);
  ledger.fleetMsat -= PUSHED_TO_BOB_MSAT;
  ledger.bobMsat += PUSHED_TO_BOB_MSAT;
  const calm = await startPayments(world, ledger, CALM_PAYMENTS, 4);
  await calm.done;
  await payOnce(world, ledger, ROOM_MSAT);
  report.say(`${CALM_PAYMENTS + 1} payments from Alice to Bob settled`);
  await Promise.all([world.balancesAgree(alice, 'Alice'), world.balancesAgree(world.bob, 'Bob')]);

  report.step('2. Payments stay in flight, both ways through both channels');
  const payments = await holdSome(world);
  const [withAlice, withBob] = await Promise.all([world.fleetChannel(alice), world.fleetChannel(world.bob)]);
  ensure(withAlice !== undefined && withBob !== undefined, 'a channel is gone');

  report.step('3. Bob is away, the fleet closes his channel by force; Alice closes hers on the fleet');
  const closings = [
    closingOf(withAlice, 'commitment', 'alice', htlcsWith('alice', payments)),
    closingOf(withBob, 'commitment', 'bob', htlcsWith('bob', payments)),
  ];
  // Away, or he would answer with a commitment of his own.
  await world.bob.kill9();
  await node.channels.closeChannel({ channelId: withBob.channelId, force: true }, node.auth());
  await alice.call('closeChannel', { channelId: toHex(withAlice.channelId), force: true });
  await tellCommitments(world, closings);
  for (const victim of ['channel-manager-1', 'channel-manager-2']) {
    await fleet.kill9AndWait(victim);
    ledger.kills += 1;
  }
  report.say('both channel-managers killed with -9 while the commitments wait, and back again');
  const types = await mineUntil(world, 'both closes in the fleet’s books', () => closeTypes(world, 2), {
    blocks: 4,
    step: 1,
  });
  ensure(
    types.includes('holder') && types.includes('counterparty'),
    `the channels closed by ${types.join(' and ')}`,
  );
  await world.bob.start();
  await tellClosing(world);

  report.step('4. The payees let some preimages out late; the others are timed out');
  await world.mine(LATE_BLOCKS);
  for (const { payee, paymentHash, end } of payments)
    if (end === 'claimed') await world[payee].call('claim', { paymentHash });
  report.say(`after ${LATE_BLOCKS} more blocks Bob and Alice claim on-chain what they were paid`);
  for (const victim of ['chain-monitor', 'signer']) {
    await fleet.kill9AndWait(victim);
    ledger.kills += 1;
  }
  report.say('chain-monitor and the signer killed with -9, and back again');
  let waiting: readonly HeldPayment[] = payments;
  await mineUntil(
    world,
    'an end of every payment',
    async () => {
      const still = bookEnded(world, ledger, waiting);
      for (const { payer, end } of waiting.filter((payment) => !still.includes(payment)))
        report.say(`a payment of ${payer === 'alice' ? 'Alice' : 'Bob'} ended: ${end.replace('_', ' ')}`);
      waiting = still;
      return still.length === 0 ? true : undefined;
    },
    { blocks: MAX_BLOCKS, step: STEP_BLOCKS },
  );

  report.step('5. Everything comes home; the books are opened');
  await mineUntil(
    world,
    'an end of everything that was pending',
    async () => ((await nothingPending(world)) ? true : undefined),
    { blocks: MAX_BLOCKS, step: STEP_BLOCKS },
  );
  report.say('no channel is closing, nothing is swept, nothing is in limbo');
  const transactions = await chainTransactions(world, height);
  const closed = closings.map((closing) => closedBy(closing, transactions));
  const after = await holdings(world);
  const unaccountedMsat = balanceSheet(world, before, after, ledger, closed, transactions);
  return { ledger, unaccountedMsat };
}

/** One of each kind in each direction: claimed late, timed out, and too small for an output of its own. */
async function holdSome(world: World): Promise<readonly HeldPayment[]> {
  const payments: HeldPayment[] = [];
  for (const [payer, claimedSat, timedOutSat] of [
    ['alice', 40_000, 30_000],
    ['bob', 25_000, 20_000],
  ] as const) {
    payments.push(
      await hold(world, { payer, amountSat: claimedSat, end: 'claimed' }),
      await hold(world, { payer, amountSat: timedOutSat, end: 'timed_out' }),
      await hold(world, { payer, amountSat: DUST_SAT, end: 'timed_out', trimmed: true }),
    );
  }
  await inFlight(world, payments.length);
  world.report.say(
    `${payments.length} payments in flight: both ways, of each a part that will be claimed late, one that will time out, ` +
      'and one below the dust limit',
  );
  return payments;
}

async function tellCommitments(world: World, closings: readonly Closing[]): Promise<void> {
  for (const closing of closings) {
    const closingTxid = await closingInMempool(world, closing);
    world.report.say(`the commitment of ${closing.wallet}’s channel is in the mempool`, { closingTxid });
  }
}
