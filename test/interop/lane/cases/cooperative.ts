/** Channels that both sides close together: fees, pending HTLCs, scripts, restarts, and what stays unconfirmed. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable } from '../peer.ts';
import type { World } from '../world.ts';
import { type Books, openBooks, settleBooks } from './books.ts';
import { closeByFleet, closeByPeer, closingInMempool, closings, display, ensureClosed } from './closing.ts';
import { ensureEnds, forward, holdOfFleet } from './held.ts';
import { ensureSucceeded, invoiceOfFleet, peerWithChannel } from './support.ts';

const group = 'close';
const HELD_MSAT = 70_000_000n;

interface ChainTx {
  readonly vsize: number;
  readonly fees: { readonly base: number };
}

/** What the transaction pays, sat per virtual byte. */
async function feerateOf(world: World, txid: string): Promise<number> {
  const { vsize, fees } = (await world.chain.rpc.call('getmempoolentry', txid)) as ChainTx;
  return Math.round(fees.base * 1e8) / vsize;
}

/** Mines the mutual close, and opens the books. */
async function finish(
  world: World,
  books: Books,
  paidMsat: ReadonlyMap<InteropPeer, bigint> = new Map(),
): Promise<void> {
  const closingTxid = await closingInMempool(world, books);
  await world.mine(1);
  await ensureClosed(world, books, 'mutual', closingTxid);
  await settleBooks(world, books, paidMsat);
}

function plain(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `cooperative by the ${by}; its transaction stays unconfirmed for blocks, and confirms`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      ensureSucceeded(await peer.pay(await invoiceOfFleet(world, 250_000_000n)), 'a payment');
      await world.agree(peer);
      const books = await openBooks(world, peer);
      if (by === 'peer') await closeByPeer(peer, 'cooperative');
      else await closeByFleet(world, peer, 'cooperative');
      const closingTxid = await closingInMempool(world, books);
      await world.chain.rpc.call('prioritisetransaction', closingTxid, 0, -UNATTRACTIVE_SAT);
      await world.mine(3);
      const [waiting] = await closings(world, books);
      ensure(
        waiting?.stage === 'unconfirmed' && display(waiting.closingTxid) === closingTxid,
        `the close is ${waiting?.stage}`,
      );
      await world.chain.rpc.call('prioritisetransaction', closingTxid, 0, UNATTRACTIVE_SAT);
      await finish(world, books);
    },
  };
}

/** No miner takes a transaction whose fee is that much less. */
const UNATTRACTIVE_SAT = 10_000_000;

function feeOf(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `cooperative by the ${by}, who pays the fee, at the feerate that was asked for`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, by);
      const books = await openBooks(world, peer);
      if (by === 'fleet')
        await closeByFleet(world, peer, 'cooperative', { feerateSatPerKw: 7_500, maxFeerateSatPerKw: 8_250 });
      else
        await closeByPeer(peer, 'cooperative', {
          feerateSatPerVb: 30,
          // LDK has no such bound.
          ...(kind === 'lnd' && { maxFeerateSatPerVb: 33 }),
        });
      const feerate = await feerateOf(world, await closingInMempool(world, books));
      // Weights are rounded, and signatures estimated.
      ensure(feerate > 29.5 && feerate < 33.5, `${feerate} sat/vB`);
      await finish(world, books);
    },
  };
}

const noOverlap: Case = {
  group,
  name: 'cooperative for less than the peer accepts: the channel waits, and closes for more',
  over: 'peers',
  run: async (world, kind) => {
    if (kind !== 'lnd') throw new NotApplicable('LDK takes whatever fee the funder pays');
    const peer = await world.peer(kind);
    await world.connect(peer);
    await world.open(peer, 'fleet');
    const books = await openBooks(world, peer);
    const held = await holdOfFleet(world, peer, HELD_MSAT);
    await closeByPeer(peer, 'cooperative', { feerateSatPerVb: 40 });
    await untilPhase(world, peer, 'shutting_down');
    await closeByFleet(world, peer, 'cooperative', { feerateSatPerKw: 253, maxFeerateSatPerKw: 253 });
    await peer.settle(held);
    // The fleet's closing_signed is out, and not answered by one that it could take.
    await untilPhase(world, peer, 'negotiating_closing');
    await ensureUnspent(world, peer);
    // Renegotiated on a new connection, on which LND has forgotten what it wanted.
    await closeByFleet(world, peer, 'cooperative', { feerateSatPerKw: 10_000, maxFeerateSatPerKw: 12_000 });
    await finish(world, books, new Map([[peer, HELD_MSAT]]));
  },
};

function pendingPayment(by: 'peer' | 'fleet', restart: 'clean' | 'kill9' | 'owner'): Case {
  const who =
    restart === 'owner'
      ? 'both managers are killed'
      : `the peer is ${restart === 'clean' ? 'restarted' : 'killed'}`;
  return {
    group,
    name: `cooperative by the ${by}, while a payment of the fleet's is held: no other is added, ${who}, it settles, the channel closes`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      const books = await openBooks(world, peer);
      const held = await holdOfFleet(world, peer, HELD_MSAT);
      if (by === 'peer') await closeByPeer(peer, 'cooperative');
      else await closeByFleet(world, peer, 'cooperative');
      await untilPhase(world, peer, 'shutting_down');
      await ensureNothingAdded(world, peer);
      if (restart === 'owner')
        await Promise.all(
          ['channel-manager-1', 'channel-manager-2'].map((name) => world.fleet.kill9AndWait(name)),
        );
      else await peer.restart(restart);
      await world.untilConnected(peer);
      await ensureUnspent(world, peer);
      await peer.settle(held);
      await ensureEnds(world, new Map([[held, 'succeeded']]));
      await finish(world, books, new Map([[peer, HELD_MSAT]]));
    },
  };
}

/** Nothing closes the channel yet. */
async function ensureUnspent(world: World, peer: InteropPeer): Promise<void> {
  const [channel] = await world.fleetChannels(peer);
  ensure(channel !== undefined, 'the channel is there');
  const isSpent = await world.isSpent(display(channel.fundingTxid), channel.fundingOutputIndex);
  ensure(!isSpent, 'the channel closes');
}

async function untilPhase(world: World, peer: InteropPeer, phase: string): Promise<void> {
  await until(`the channel is ${phase}`, async () =>
    (await world.fleetChannels(peer)).some((channel) => channel.phase === phase) ? true : undefined,
  );
}

/** BOLT 2: "MUST NOT send an update_add_htlc after a shutdown." */
async function ensureNothingAdded(world: World, peer: InteropPeer): Promise<void> {
  const before = (await world.fleetChannels(peer))[0]?.htlcsInFlight;
  const payment = await peer.pay(await invoiceOfFleet(world, 1_000_000n));
  ensure(payment.status === 'failed', 'a payment over a channel that is shutting down');
  const { bolt11 } = await peer.invoice({ amountMsat: 1_000_000n });
  const ours = await world.node.payments.sendPayment(
    { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: 5, wait: true },
    world.node.auth(),
  );
  ensure(ours.status === 'failed', `a payment of the fleet's ${ours.status}`);
  const after = (await world.fleetChannels(peer))[0]?.htlcsInFlight;
  ensure(before === after, `${after} HTLCs, and ${before} before`);
}

const forwarded: Case = {
  group,
  name: 'cooperative of both channels, while a payment from one peer to the other is held: it settles through both',
  over: 'pairs',
  run: async (world, kind, other) => {
    const alice = await peerWithChannel(world, kind);
    const bob = await peerWithChannel(world, other);
    const books = await openBooks(world, alice, bob);
    const { paymentHash, paying } = await forward(world, alice, bob, HELD_MSAT);
    await closeByFleet(world, alice, 'cooperative');
    await closeByPeer(bob, 'cooperative');
    for (const peer of [alice, bob]) await untilPhase(world, peer, 'shutting_down');
    await bob.settle(paymentHash);
    const payment = await paying;
    ensure(payment.status === 'succeeded', `the payment ${payment.status}`);
    await closingInMempool(world, books, 0);
    await closingInMempool(world, books, 1);
    await settleBooks(
      world,
      books,
      new Map([
        [alice, -HELD_MSAT - payment.feeMsat],
        [bob, HELD_MSAT],
      ]),
    );
  },
};

function taproot(whose: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `cooperative, paying the ${whose} to a taproot address`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await openToTaproot(world, peer, whose);
      const books = await openBooks(world, peer);
      await closeByPeer(peer, 'cooperative', whose === 'peer' ? { address: world.vault.address } : {});
      await closingInMempool(world, books);
      await settleBooks(world, books, new Map(), { toVault: whose });
    },
  };
}

/** A channel whose close may pay `whose` side to the vault: the fleet promises it, the peer promises nothing. */
async function openToTaproot(world: World, peer: InteropPeer, whose: 'peer' | 'fleet'): Promise<void> {
  const fundingSat = 5_000_000n;
  const pushMsat = 2_000_000_000n;
  if (whose === 'fleet')
    await world.node.channels.openChannel(
      {
        nodeId: Buffer.from(peer.nodeId, 'hex'),
        fundingSat,
        pushMsat,
        announce: false,
        idempotencyKey: `${peer.name}-taproot`,
        shutdownScript: world.vault.scriptPubkey,
      },
      world.node.auth(),
    );
  else await peer.open({ nodeId: world.nodeId, fundingSat, pushMsat, upfrontShutdown: 'none' });
  await world.minedUntil(`${peer.name} can use the channel`, async () =>
    (await peer.channels()).some(({ isUsable }) => isUsable) ? true : undefined,
  );
  await world.usable(peer);
}

const bothAtOnce: Case = {
  group,
  name: 'cooperative by both at once',
  over: 'peers',
  run: async (world, kind) => {
    const peer = await peerWithChannel(world, kind);
    const books = await openBooks(world, peer);
    // Whoever comes second may hear that the channel is closing already.
    const asked = await Promise.allSettled([
      closeByPeer(peer, 'cooperative'),
      closeByFleet(world, peer, 'cooperative'),
    ]);
    ensure(
      asked.some(({ status }) => status === 'fulfilled'),
      'neither side could close',
    );
    await finish(world, books);
  },
};

function nothingOfFleets(by: 'peer' | 'fleet', holderMsat: bigint): Case {
  return {
    group,
    name: `cooperative by the ${by}, with ${holderMsat} msat of the fleet's: too little for an output`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'peer', { pushMsat: holderMsat });
      const books = await openBooks(world, peer);
      if (by === 'peer') await closeByPeer(peer, 'cooperative');
      else await closeByFleet(world, peer, 'cooperative');
      const closingTxid = await closingInMempool(world, books);
      const { vout } = (await world.chain.rpc.call('getrawtransaction', closingTxid, true)) as {
        readonly vout: readonly unknown[];
      };
      ensure(vout.length === 1, `${vout.length} outputs`);
      await finish(world, books);
    },
  };
}

export const COOPERATIVE_CASES: readonly Case[] = [
  plain('peer'),
  plain('fleet'),
  feeOf('peer'),
  feeOf('fleet'),
  noOverlap,
  pendingPayment('peer', 'clean'),
  pendingPayment('fleet', 'kill9'),
  pendingPayment('fleet', 'owner'),
  forwarded,
  taproot('peer'),
  taproot('fleet'),
  bothAtOnce,
  nothingOfFleets('peer', 0n),
  nothingOfFleets('fleet', 300_000n),
];
