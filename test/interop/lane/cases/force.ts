/** Channels closed by force with HTLCs under way: offered and received, claimed on-chain, timed out, too small to exist. */
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer, PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { type Books, openBooks, settleBooks } from './books.ts';
import { claimOnChain, ensureClosed, forceClose, mineUntilEnded, mineUntilSettled } from './closing.ts';
import { ensureEnds, type Forwarded, forward, holdOfFleet } from './held.ts';
import { peerWithChannel } from './support.ts';

const group = 'close';
type Format = 'anchors' | 'static_remotekey';

const CLAIMED_MSAT = 100_000_000n;
const EXPIRED_MSAT = 60_000_000n;
/** Below the dust limits of all. */
const DUST_MSAT = 200_000n;

function offeredByFleet(by: 'peer' | 'fleet', format: Format): Case {
  return {
    group,
    name: `by force by the ${by} (${format}): payments of the fleet's, one claimed on-chain, one timed out, one of dust`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.open(peer, 'peer', { format });
      const books = await openBooks(world, peer);
      const claimed = await holdOfFleet(world, peer, CLAIMED_MSAT);
      const expired = await holdOfFleet(world, peer, EXPIRED_MSAT);
      const dust = await holdOfFleet(world, peer, DUST_MSAT);
      const closingTxid = await forceClose(world, books, by, [peer]);
      await ensureClosed(world, books, by === 'fleet' ? 'holder' : 'counterparty', closingTxid);
      await claimOnChain(world, { payee: peer, paymentHash: claimed });
      await settleBooks(world, books, new Map([[peer, CLAIMED_MSAT]]));
      await ensureEnds(
        world,
        new Map([
          [claimed, 'succeeded'],
          [expired, 'failed'],
          [dust, 'failed'],
        ]),
      );
    },
  };
}

/** Two peers, and what one can pay the other through the fleet. */
async function two(
  world: World,
  kind: PeerKind,
  other: PeerKind,
): Promise<{ readonly alice: InteropPeer; readonly bob: InteropPeer; readonly books: Books }> {
  const alice = await peerWithChannel(world, kind);
  const bob = await peerWithChannel(world, other);
  return { alice, bob, books: await openBooks(world, alice, bob) };
}

/** What the payees were paid, and the payers paid with the fleet's fee. */
async function paid(
  claimed: readonly (Forwarded & { readonly amountMsat: bigint })[],
): Promise<Map<InteropPeer, bigint>> {
  const sums = new Map<InteropPeer, bigint>();
  const add = (peer: InteropPeer, msat: bigint): void => void sums.set(peer, (sums.get(peer) ?? 0n) + msat);
  for (const { payer, payee, paying, amountMsat } of claimed) {
    const payment = await paying;
    ensure(payment.status === 'succeeded', `a claimed payment ${payment.status}`);
    add(payee, amountMsat);
    add(payer, -amountMsat - payment.feeMsat);
  }
  return sums;
}

function bothForwarding(by: 'peers' | 'fleet'): Case {
  return {
    group,
    name: `by force by the ${by}, both channels of payments forwarded both ways: claimed on-chain, timed out, dust`,
    over: 'pairs',
    run: async (world, kind, other) => {
      const { alice, bob, books } = await two(world, kind, other);
      // LDK 0.1 takes HTLCs of one expiry back in one transaction, and again and again when one of them was claimed.
      const apart = async (payer: InteropPeer, payee: InteropPeer, amountMsat: bigint) => {
        await world.mine(1);
        return { ...(await forward(world, payer, payee, amountMsat)), amountMsat };
      };
      const claimed = [await apart(alice, bob, CLAIMED_MSAT), await apart(bob, alice, CLAIMED_MSAT)];
      const expired = [
        await apart(alice, bob, EXPIRED_MSAT),
        await apart(bob, alice, EXPIRED_MSAT),
        await apart(alice, bob, DUST_MSAT),
      ];
      await forceClose(world, books, by === 'peers' ? 'peer' : 'fleet', [alice, bob]);
      await claimOnChain(world, ...claimed);
      await mineUntilSettled(world, books);
      await settleBooks(world, books, await paid(claimed));
      for (const { paying } of expired) {
        const { status } = await paying;
        ensure(status === 'failed', `an expired payment ${status}`);
      }
    },
  };
}

const downstreamAlone: Case = {
  group,
  name: 'by force by the payee: what it claims on-chain settles upstream, what times out fails upstream',
  over: 'pairs',
  run: async (world, kind, other) => {
    const { alice, bob } = await two(world, kind, other);
    const books = await openBooks(world, bob);
    const claimed = { ...(await forward(world, alice, bob, CLAIMED_MSAT)), amountMsat: CLAIMED_MSAT };
    const expired = await forward(world, alice, bob, EXPIRED_MSAT);
    const dust = await forward(world, alice, bob, DUST_MSAT);
    await forceClose(world, books, 'peer', [bob]);
    await claimOnChain(world, claimed);
    // Upstream the channel is open and its deadlines pass with the same blocks: LDK, paying, adds some at random, so that
    // the expiry downstream of one may be beyond the deadline of another, which is first settled for that.
    await mineUntilEnded(world, books, 'claim', [claimed.paying, dust.paying]);
    await mineUntilEnded(world, books, 'expiry', [expired.paying]);
    await settleBooks(world, books, new Map([[bob, CLAIMED_MSAT]]));
    await paid([claimed]);
    for (const { paying } of [expired, dust]) {
      const { status } = await paying;
      ensure(status === 'failed', `an expired payment ${status}`);
    }
    await world.usable(alice);
    await world.agree(alice);
  },
};

export const FORCE_CASES: readonly Case[] = [
  offeredByFleet('peer', 'anchors'),
  offeredByFleet('fleet', 'anchors'),
  offeredByFleet('peer', 'static_remotekey'),
  offeredByFleet('fleet', 'static_remotekey'),
  bothForwarding('peers'),
  bothForwarding('fleet'),
  downstreamAlone,
];
