// The main job, step by step.
import { toHex } from '@fulmen/codec';
import type { LdkWallet } from '../../ldk-wallet/client.ts';
import { balanceSheet, type ClosedChannel, holdings } from './balance-sheet.ts';
import { chainTransactions } from './chain-transactions.ts';
import { closingInMempool, closingOf } from './closing.ts';
import {
  failingPayments,
  fleetPayments,
  killsUnderPayments,
  type Ledger,
  newLedger,
  startPayments,
} from './payments.ts';
import { ensure, until } from './waiting.ts';
import { sat, type World } from './world.ts';

const CHANNEL_SAT = 5_000_000;
/** A gift of the fleet at the opening, so that Bob can pay too. */
export const PUSHED_TO_BOB_MSAT = 1_000_000_000n;
const PAYMENTS = 50;
/** Of the 50, those before anything is killed. */
const CALM_PAYMENTS = 14;
const COINBASE_MATURITY = 100;
const CONFIRMATIONS = 6;

export type Outcome = { readonly ledger: Ledger; readonly unaccountedMsat: bigint };

/** Funds the parties by mining to them. */
export async function fund(world: World): Promise<void> {
  const { alice, bob, node } = world;
  const { address } = await node.onchain.newAddress({ addressType: 'p2wpkh' }, node.auth());
  const [alices, bobs] = await Promise.all([alice.call('newAddress'), bob.call('newAddress')]);
  for (const to of [alices.address, bobs.address, address]) await world.mine(1, to);
  await world.mine(COINBASE_MATURITY);
  await until('confirmed money of all three', async () => {
    const now = await holdings(world);
    return now.alice > 0n && now.bob > 0n && now.fleet > 0n ? true : undefined;
  });
}

/** Step 1: a channel from Alice, and one to Bob. */
export async function openChannels(world: World): Promise<void> {
  const { alice, bob, node, fleet } = world;
  const fleetId = toHex(world.nodeId);
  const [lightningPort] = fleet.lightningPorts.values();
  await alice.call('connect', { nodeId: fleetId, host: '127.0.0.1', port: lightningPort ?? 0 });
  await until('Alice’s connection', async () =>
    (await alice.call('info')).peers.includes(fleetId) ? true : undefined,
  );
  await node.peers.connectPeer(
    { nodeId: Buffer.from(bob.nodeId, 'hex'), host: '127.0.0.1', port: bob.port },
    node.auth(),
  );
  world.report.say('Alice dialled the fleet; the fleet dialled Bob');
  const pending = (wallet: LdkWallet): number =>
    wallet.events.filter((event) => event.event === 'channel_pending').length;
  const [alicesBefore, bobsBefore] = [pending(alice), pending(bob)];
  await alice.call('openChannel', { nodeId: fleetId, sat: CHANNEL_SAT });
  await until('Alice’s channel', async () => (pending(alice) > alicesBefore ? true : undefined));
  world.report.say(`Alice opened a channel of ${sat(CHANNEL_SAT)} to the fleet`);
  const opened = await node.channels.openChannel(
    {
      nodeId: Buffer.from(bob.nodeId, 'hex'),
      fundingSat: BigInt(CHANNEL_SAT),
      pushMsat: PUSHED_TO_BOB_MSAT,
      announce: false,
      idempotencyKey: '',
    },
    node.auth(),
  );
  world.report.say(`the fleet opened a channel of ${sat(CHANNEL_SAT)} to Bob, a fifth of it pushed to him`, {
    channelId: toHex(opened.channelId),
  });
  await until('Bob’s channel', async () => (pending(bob) > bobsBefore ? true : undefined));
  await until('both funding transactions in the mempool', async () => {
    const mempool = (await fleet.chain.call('getrawmempool')) as readonly string[];
    return mempool.length >= 2 ? true : undefined;
  });
  await world.mine(CONFIRMATIONS);
  await Promise.all([world.usable(alice, 'Alice'), world.usable(bob, 'Bob')]);
  const bobsTerms = await until('the fleet’s channel_update at Bob', async () => {
    const channel = (await bob.call('listChannels')).find((candidate) => candidate.usable);
    return channel?.forwarding ?? undefined;
  });
  world.report.say(
    `${CONFIRMATIONS} blocks confirmed both; the fleet asks ${bobsTerms.baseMsat} msat a forward`,
  );
}

/** A channel closes cooperatively: Alice asks for it in hers, the fleet in Bob's. Ends with the transaction in the mempool. */
export async function closeChannel(world: World, party: 'alice' | 'bob'): Promise<ClosedChannel> {
  const wallet = world[party];
  await world.balancesAgree(wallet, party);
  const channel = await world.fleetChannel(wallet);
  ensure(channel !== undefined, `the channel with ${party} is gone`);
  const { channelId } = channel;
  if (party === 'alice') await closeByWallet(wallet);
  else await world.node.channels.closeChannel({ channelId, force: false }, world.node.auth());
  const closing = closingOf(channel, 'mutual', party, []);
  const closingTxid = await closingInMempool(world, closing);
  world.report.say(`${party}’s channel closed cooperatively`, { closingTxid });
  return { ...closing, closingTxid };
}

/** Step 5: both channels close cooperatively. */
async function closeChannels(world: World, ledger: Ledger): Promise<ClosedChannel[]> {
  const parties = [
    ['alice', world.alice],
    ['bob', world.bob],
  ] as const;
  const closed: ClosedChannel[] = [];
  for (const [party] of parties) closed.push(await closeChannel(world, party));
  await world.mine(CONFIRMATIONS);
  // LDK pays a close to a key of its own, and moves it into its wallet once no reorganisation can undo it.
  for (const [party, wallet] of parties) {
    const sweep = await wallet.event('onchain_sweep', () => true, 60_000);
    await until(`the sweep of ${party} in the mempool`, async () => {
      const mempool = (await world.fleet.chain.call('getrawmempool')) as readonly string[];
      return mempool.includes(sweep.txid) ? true : undefined;
    });
  }
  await world.mine(1);
  // The money pushed to Bob at the opening was a gift of the fleet.
  ledger.fleetMsat -= PUSHED_TO_BOB_MSAT;
  ledger.bobMsat += PUSHED_TO_BOB_MSAT;
  return closed;
}

async function closeByWallet(wallet: LdkWallet): Promise<void> {
  const [channel] = await wallet.call('listChannels');
  ensure(channel !== undefined, 'Alice has no channel to close');
  await wallet.call('closeChannel', { channelId: channel.channelId });
}

/** All five steps, on a fleet that just started. */
export async function mainJob(world: World): Promise<Outcome> {
  const { report } = world;
  const ledger = newLedger();
  await fund(world);
  const before = await holdings(world);
  const height = Number(await world.fleet.chain.call('getblockcount'));

  report.step('1. Alice opens a channel to the fleet; the fleet opens one to Bob');
  await openChannels(world);

  report.step('2. Alice pays Bob through the fleet');
  const calm = await startPayments(world, ledger, CALM_PAYMENTS, 0);
  await calm.done;
  report.say(`${CALM_PAYMENTS} payments at once, dust and not, settled`);
  await failingPayments(world, ledger);

  report.step('3. Bob pays the fleet; the fleet pays Bob');
  await fleetPayments(world, ledger);

  report.step('4. Each kind of process is killed with -9 while payments are under way');
  await killsUnderPayments(world, ledger, PAYMENTS - CALM_PAYMENTS);
  await Promise.all([world.usable(world.alice, 'Alice'), world.usable(world.bob, 'Bob')]);
  await Promise.all([world.balancesAgree(world.alice, 'Alice'), world.balancesAgree(world.bob, 'Bob')]);
  report.say('both wallets are connected, no channel was lost, and their balances equal the fleet’s');

  report.step('5. Both channels close; the books are opened');
  const closed = await closeChannels(world, ledger);
  const after = await until('the closed channels’ money in the wallets', async () => {
    const now = await holdings(world);
    const total = now.alice + now.bob + now.fleet;
    const made = [...(await chainTransactions(world, height)).values()];
    const fees = made.reduce((sum, { feeSat }) => sum + feeSat, 0n);
    return total + fees === before.alice + before.bob + before.fleet ? now : undefined;
  }).catch(() => holdings(world));
  const transactions = await chainTransactions(world, height);
  const unaccountedMsat = balanceSheet(world, before, after, ledger, closed, transactions);
  return { ledger, unaccountedMsat };
}
