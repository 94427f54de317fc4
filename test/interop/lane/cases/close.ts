/** Channels that end: together, by either side alone, with HTLCs under way. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer } from '../peer.ts';
import type { World } from '../world.ts';
import { invoiceOfFleet, payByFleet, peerWithChannel } from './support.ts';

const group = 'close';
/** Past every delay and every expiry of these cases. */
const SETTLING_BLOCKS = 300;
const STEP = 12;

async function closeByFleet(world: World, peer: InteropPeer, how: 'cooperative' | 'force'): Promise<void> {
  const [channel] = await world.fleetChannels(peer);
  ensure(channel !== undefined, 'there is a channel');
  await world.node.channels.closeChannel(
    { channelId: channel.channelId, force: how === 'force', scriptPubkey: undefined },
    world.node.auth(),
  );
}

/** Both are paid: together they have what they had, fees apart. */
async function settleAndCompare(
  world: World,
  peer: InteropPeer,
  channelId: string,
  before: Wealth,
): Promise<void> {
  let peerSat = -1n;
  for (let mined = 0; mined < SETTLING_BLOCKS; mined += STEP) {
    await world.mine(STEP);
    const { channels } = await world.node.channels.listClosingChannels(
      { includeResolved: true, limit: 100 },
      world.node.auth(),
    );
    const closing = channels.find((channel) => Buffer.from(channel.channelId).toString('hex') === channelId);
    // An anchor is swept when it is worth its fee, which may be never.
    const isDone = closing?.outputs.every(({ kind, status }) => kind === 'anchor' || status === 'spent');
    const now = await peer.onchainSat();
    const peerIsDone = now === peerSat && near(now, before.peerSat);
    peerSat = now;
    if (isDone === true && peerIsDone) break;
  }
  const after = await wealth(world, peer);
  ensure(
    near(after.fleetSat, before.fleetSat) && near(after.peerSat, before.peerSat),
    `fleet ${before.fleetSat} → ${after.fleetSat}, peer ${before.peerSat} → ${after.peerSat}`,
  );
}

interface Wealth {
  /** On-chain and in channels. */
  readonly fleetSat: bigint;
  readonly peerSat: bigint;
}

/** Fees of funding, closing and claims, and the two anchors. */
const MAX_FEES_SAT = 30_000n;

function near(a: bigint, b: bigint): boolean {
  const difference = a - b;
  return difference < MAX_FEES_SAT && -difference < MAX_FEES_SAT;
}

async function wealth(world: World, peer: InteropPeer): Promise<Wealth> {
  const { confirmedSat, unconfirmedSat, reservedSat, limboSat } = await world.node.onchain.getBalance(
    {},
    world.node.auth(),
  );
  const ours = await world.fleetChannels(peer);
  const theirs = await peer.channels();
  return {
    fleetSat:
      confirmedSat +
      unconfirmedSat +
      reservedSat +
      limboSat +
      ours
        .filter(({ phase }) => phase === 'open')
        .reduce((sum, { holderBalanceMsat }) => sum + holderBalanceMsat, 0n) /
        1_000n,
    peerSat:
      (await peer.onchainSat()) + theirs.reduce((sum, { balanceMsat }) => sum + balanceMsat, 0n) / 1_000n,
  };
}

function closing(by: 'peer' | 'fleet', how: 'cooperative' | 'force'): Case {
  return {
    group,
    name: `${how} by the ${by}`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      await peer.pay(await invoiceOfFleet(world, 250_000_000n));
      await world.agree(peer);
      const before = await wealth(world, peer);
      const [channel] = await peer.channels();
      ensure(channel !== undefined, 'there is a channel');
      if (by === 'peer') await peer.close(channel.channelId, how);
      else await closeByFleet(world, peer, how);
      await until('a close is in the mempool', async () =>
        (await world.chain.mempool()).length > 0 ? true : undefined,
      );
      await settleAndCompare(world, peer, channel.channelId, before);
    },
  };
}

function closingWithHtlc(by: 'peer' | 'fleet', end: 'settle' | 'cancel'): Case {
  return {
    group,
    name: `by force by the ${by}, with an HTLC of the fleet's that the peer ${end === 'settle' ? 'claims' : 'lets expire'}`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await peerWithChannel(world, kind);
      await world.agree(peer);
      const before = await wealth(world, peer);
      const amountMsat = 100_000_000n;
      const { bolt11, paymentHash } = await peer.invoice({ amountMsat, hold: 'hold' });
      const paying = payByFleet(world, bolt11);
      await world.waitUntilHeld(peer, paymentHash);
      const [channel] = await peer.channels();
      ensure(channel !== undefined, 'there is a channel');
      if (by === 'peer') await peer.close(channel.channelId, 'force');
      else await closeByFleet(world, peer, 'force');
      await until('a close is in the mempool', async () =>
        (await world.chain.mempool()).length > 0 ? true : undefined,
      );
      await world.mine(1);
      if (end === 'settle') await peer.settle(paymentHash);
      const paidSat = end === 'settle' ? amountMsat / 1_000n : 0n;
      await settleAndCompare(world, peer, channel.channelId, {
        fleetSat: before.fleetSat - paidSat,
        peerSat: before.peerSat + paidSat,
      });
      const payment = await paying;
      ensure(payment.status === (end === 'settle' ? 'succeeded' : 'failed'), `the payment ${payment.status}`);
    },
  };
}

export const CLOSE_CASES: readonly Case[] = [
  closing('peer', 'cooperative'),
  closing('fleet', 'cooperative'),
  closing('peer', 'force'),
  closing('fleet', 'force'),
  closingWithHtlc('peer', 'settle'),
  closingWithHtlc('fleet', 'settle'),
  closingWithHtlc('peer', 'cancel'),
  closingWithHtlc('fleet', 'cancel'),
];
