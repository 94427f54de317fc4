// The story of a revoked commitment, broadcast while nothing of the fleet lives but chain-monitor and the signer.
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { balanceSheet, holdings } from './balance-sheet.ts';
import { chainTransactions, descendants } from './chain-transactions.ts';
import { closedBy, closingInMempool, closingOf, mineUntil, nothingPending, tellClosing } from './closing.ts';
import { bookEnded, hold, type HeldPayment } from './held-payments.ts';
import { type Ledger, newLedger, payOnce, startPayments } from './payments.ts';
import { closeChannel, fund, type Outcome, openChannels, PUSHED_TO_BOB_MSAT } from './scenario.ts';
import { ensure, until } from './waiting.ts';
import type { World } from './world.ts';

const CALM_PAYMENTS = 6;
/** Paid to Bob, so that the fleet can pay Alice afterwards. */
const ROOM_MSAT = 500_000_000n;
/** What Alice would take back: paid after the state that she broadcasts. */
const STOLEN_MSAT = 2_000_000_000n;
const MAX_BLOCKS = 200;
const DEAD = [
  'channel-manager-1',
  'channel-manager-2',
  'peer-gateway-1',
  'peer-gateway-2',
  'router',
] as const;

export async function breachStory(world: World): Promise<Outcome> {
  const { report, bob, fleet } = world;
  const ledger = newLedger();
  await fund(world);
  const before = await holdings(world);
  const height = Number(await fleet.chain.call('getblockcount'));

  report.step('1. Alice opens a channel to the fleet; the fleet opens one to Bob');
  await openChannels(world);
  ledger.fleetMsat -= PUSHED_TO_BOB_MSAT;
  ledger.bobMsat += PUSHED_TO_BOB_MSAT;

  report.step('2. Alice and Bob pay each other; Alice keeps a copy of an old state');
  const calm = await startPayments(world, ledger, CALM_PAYMENTS, 4);
  await calm.done;
  await payOnce(world, ledger, ROOM_MSAT);
  const inFlight = [
    await hold(world, { payer: 'alice', amountSat: 150_000, end: 'claimed' }),
    await hold(world, { payer: 'bob', amountSat: 90_000, end: 'claimed' }),
  ];
  const snapshotDir = path.join(fleet.stateDir, 'wallets', 'alice-of-old');
  await world.alice.call('snapshot', { dir: snapshotDir });
  report.say('Alice’s state is copied, with a payment in flight each way');
  await endHeld(world, ledger, inFlight);
  await payOnce(world, ledger, STOLEN_MSAT);
  await Promise.all([world.balancesAgree(world.alice, 'Alice'), world.balancesAgree(bob, 'Bob')]);
  const channel = await world.fleetChannel(world.alice);
  ensure(channel !== undefined, 'Alice’s channel is gone');
  report.say('both went through, and Alice paid Bob 2,000,000 sat more: the copied state is revoked');

  report.step('3. Everything but chain-monitor and the signer dies; Alice broadcasts the revoked commitment');
  for (const victim of DEAD) {
    await fleet.supervisor.kill9ForGood(victim);
    ledger.kills += 1;
  }
  await fleet.nats.kill();
  ledger.kills += 1;
  report.say(`${DEAD.join(', ')} and NATS killed with -9, and they stay dead`);
  await world.setAliceBack(snapshotDir);
  const closing = closingOf(channel, 'revoked', 'alice', []);
  await world.alice.call('closeChannel', { channelId: toHex(channel.channelId), force: true });
  const closingTxid = await closingInMempool(world, closing);
  report.say('Alice’s old self broadcasts a commitment that she revoked', { closingTxid });
  await world.mineForChainMonitor(1);

  report.step('4. Justice, by chain-monitor and the signer alone');
  const penalties = await until('a claim of every output in the mempool', () => claimsInMempool(world));
  await tellClosing(world);
  report.say(
    `${penalties.claims} outputs are claimed by ${penalties.txids.length} transactions in the mempool`,
    { txids: penalties.txids.join(' ') },
  );
  await world.mineForChainMonitor(1);
  const transactions = await chainTransactions(world, height);
  const spends = descendants(transactions, new Set([closingTxid]));
  ensure(
    penalties.txids.every((txid) => spends.has(txid)),
    'not every penalty confirmed in the block after the breach',
  );
  report.say('all of them confirmed one block after the breach');

  report.step('5. The fleet comes back; the other channel goes on, and closes; the books are opened');
  await fleet.nats.start();
  for (const name of DEAD) await fleet.supervisor.restart(name);
  await world.usable(bob, 'Bob');
  await tellClosing(world);
  const closedWithBob = await closeChannel(world, 'bob');
  await mineUntil(
    world,
    'an end of everything that was pending',
    async () => ((await nothingPending(world)) ? true : undefined),
    { blocks: MAX_BLOCKS, step: 2 },
  );
  report.say('no channel is closing, nothing is swept, nothing is in limbo');
  const made = await chainTransactions(world, height);
  const closed = [closedBy(closing, made), closedWithBob];
  const after = await holdings(world);
  const unaccountedMsat = balanceSheet(world, before, after, ledger, closed, made);
  return { ledger, unaccountedMsat };
}

/** Once each output but the anchor is claimed by a transaction that waits for a block. */
async function claimsInMempool(
  world: World,
): Promise<{ readonly claims: number; readonly txids: readonly string[] } | undefined> {
  const { node } = world;
  const [{ channels }, { sweeps }] = await Promise.all([
    node.channels.listClosingChannels({ includeResolved: false, limit: 0 }, node.auth()),
    node.onchain.listSweeps({}, node.auth()),
  ]);
  const outputs = channels.flatMap((channel) => channel.outputs).filter(({ kind }) => kind !== 'anchor');
  const claims = sweeps.filter(({ kind }) => kind !== 'anchor');
  const txids = new Set(claims.map(({ sweepTxid }) => toHex(Uint8Array.from(sweepTxid).reverse())));
  const mempool = await world.mempool();
  const all =
    claims.length > 0 &&
    claims.length === outputs.length &&
    [...txids].every((txid) => mempool.includes(txid));
  return all ? { claims: claims.length, txids: [...txids] } : undefined;
}

/** The payees let the held payments' preimages out. */
async function endHeld(world: World, ledger: Ledger, payments: readonly HeldPayment[]): Promise<void> {
  for (const { payee, paymentHash } of payments) await world[payee].call('claim', { paymentHash });
  let waiting = payments;
  await until('the end of the payments in flight', async () => {
    waiting = bookEnded(world, ledger, waiting);
    return Promise.resolve(waiting.length === 0 ? true : undefined);
  });
}
