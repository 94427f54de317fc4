/** Fundings that confirm late, elsewhere, or never. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer } from '../peer.ts';
import type { World } from '../world.ts';
import { ensureSucceeded, invoiceOfFleet, payByFleet } from './support.ts';

const group = 'open';

/** Blocks without the funding. */
const LATE_BLOCKS = 40;
/** Enough for everybody. */
const DEEP_BLOCKS = 6;

async function phaseOf(world: World, peer: InteropPeer): Promise<string> {
  return (await world.fleetChannels(peer)).map(({ phase }) => phase).join(', ');
}

async function payBothWays(world: World, peer: InteropPeer): Promise<void> {
  const amountMsat = 5_000_000n;
  // After a death a shard may have no owner for a moment; the same payment may be asked for again.
  const ours = await until('the fleet makes an invoice', () => invoiceOfFleet(world, amountMsat));
  ensureSucceeded(await peer.pay(ours), 'the peer pays');
  const { bolt11 } = await peer.invoice({ amountMsat });
  const payment = await until('the fleet has tried to pay', () => payByFleet(world, bolt11));
  ensure(payment.status === 'succeeded', `the fleet pays: ${payment.failureReason}`);
  await world.agree(peer);
}

function late(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `by the ${by}, a funding that waits ${LATE_BLOCKS} blocks, while both sides are killed`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      await world.startOpening(peer, by);
      await world.chain.mineOnly(LATE_BLOCKS / 2);
      await world.caughtUp();
      await peer.restart('kill9');
      for (const name of world.fleet.services.filter((one) => /^(channel-manager|chain-monitor)/.test(one)))
        await world.fleet.kill9AndWait(name);
      await world.chain.mineOnly(LATE_BLOCKS / 2);
      await world.caughtUp();
      await world.connect(peer);
      const phase = await phaseOf(world, peer);
      ensure(phase === 'awaiting_funding_confirmations', `without a confirmation the fleet says ${phase}`);
      ensure(!(await peer.channels()).some(({ isUsable }) => isUsable), 'the peer uses it unconfirmed');
      await world.mine(6);
      await world.usable(peer);
      await payBothWays(world, peer);
    },
  };
}

/** Two blocks with the funding are replaced by ones without; it confirms again later. */
function confirmedTwice(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `by the ${by}, a funding that is reorganised away before it is deep, and confirms elsewhere`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      // LND asks for as little as one, and is at a loss when the block of a channel that it uses is gone.
      if (kind === 'lnd') await peer.answerOpens({ how: 'accept', terms: { minimumDepth: DEEP_BLOCKS } });
      const txid = await world.startOpening(peer, by);
      await world.mine(2);
      const scidOf = async (): Promise<bigint> => (await world.fleetChannels(peer))[0]?.shortChannelId ?? 0n;
      const first = await until('the fleet saw the funding', async () => {
        const scid = await scidOf();
        return scid === 0n ? undefined : scid;
      });
      await world.chain.undo(2);
      await world.chain.mineOnly(3);
      await world.caughtUp();
      await until('the funding has no place in the chain', async () =>
        (await scidOf()) === 0n ? true : undefined,
      );
      ensure((await world.chain.mempool()).includes(txid), 'the funding waits again');
      await world.mine(DEEP_BLOCKS);
      await world.usable(peer);
      const second = await scidOf();
      const height = BigInt(await world.chain.height());
      ensure(second !== first && second >> 40n === height - 5n, `the scid was ${first} and is ${second}`);
      await payBothWays(world, peer);
    },
  };
}

/** A channel in use whose funding leaves the chain: whoever did not fund it trusts it no more. */
const TAKEN_FROM_FLEET: Case = {
  group,
  name: 'by the peer, a funding that is reorganised away under an open channel: the fleet closes it',
  over: 'peers',
  run: async (world, kind) => {
    const peer = await world.peer(kind);
    await world.connect(peer);
    await world.open(peer, 'peer');
    await world.chain.undo(6);
    await world.chain.mineOnly(7);
    await until('the fleet fails the channel', async () =>
      (await phaseOf(world, peer)) === 'closing_force' ? true : undefined,
    );
    const [channel] = await world.fleetChannels(peer);
    ensure(
      channel !== undefined && /funding/i.test(channel.closingReason),
      `the reason: ${channel?.closingReason}`,
    );
    await world.caughtUp();
    // The funding comes back, and somebody's commitment after it: both are paid.
    await until('the peer has left the channel', async () =>
      (await peer.channels()).some(({ isUsable }) => isUsable) ? undefined : true,
    );
    const channelId = Buffer.from(channel.channelId).toString('hex');
    await until('everything of the fleet’s is spent', async () => {
      await world.mine(12);
      const { channels } = await world.node.channels.listClosingChannels(
        { includeResolved: true, limit: 100 },
        world.node.auth(),
      );
      const closing = channels.find((one) => Buffer.from(one.channelId).toString('hex') === channelId);
      return closing?.outputs.every(({ kind: what, status }) => what === 'anchor' || status === 'spent') ===
        true
        ? true
        : undefined;
    });
  },
};

/** BOLT 2: "SHOULD forget the channel if it does not see the correct funding transaction after a timeout of 2016 blocks". */
const FUNDING_TIMEOUT_BLOCKS = 2_016;
const BLOCKS_AT_ONCE = 250;

/**
 * The coins of the funding go elsewhere: it can never confirm, and the fleet never knew which coins they were. To be the
 * last: whatever starts on this chain afterwards reads thousands of blocks.
 */
export const REPLACED: Case = {
  group,
  name: 'by the peer, a funding whose coins are spent by another transaction: forgotten after 2016 blocks',
  over: 'peers',
  run: async (world, kind) => {
    const peer = await world.peer(kind);
    await world.connect(peer);
    const txid = await world.startOpening(peer, 'peer');
    await world.chain.replaceAncestorOf(txid);
    await world.caughtUp();
    ensure(!(await world.chain.mempool()).includes(txid), 'the funding is gone');
    // Those of the reorganisation are behind it.
    for (let left = FUNDING_TIMEOUT_BLOCKS - 10; left > 0; left -= BLOCKS_AT_ONCE)
      await world.mine(Math.min(left, BLOCKS_AT_ONCE));
    const phase = await phaseOf(world, peer);
    ensure(phase === 'awaiting_funding_confirmations', `before the time is over the fleet says ${phase}`);
    await world.mine(10);
    await until('the fleet has forgotten the channel', async () =>
      (await world.fleetChannels(peer)).length === 0 ? true : undefined,
    );
    // Neither of them is the worse for it.
    await world.chain.fund(await peer.newAddress(), 100_000_000n);
    await world.mine(1);
    await until('the peer has money again', async () =>
      (await peer.onchainSat()) >= 100_000_000n ? true : undefined,
    );
    await world.connect(peer);
    await world.open(peer, 'peer');
    await payBothWays(world, peer);
  },
};

export const FUNDING_CASES: readonly Case[] = [
  late('peer'),
  late('fleet'),
  confirmedTwice('peer'),
  confirmedTwice('fleet'),
  TAKEN_FROM_FLEET,
];
