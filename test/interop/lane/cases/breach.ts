/** A peer whose database was set back broadcasts a commitment that it revoked, and loses everything in it. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import type { InteropPeer } from '../peer.ts';
import type { World } from '../world.ts';
import { type Books, openBooks, settleBooks } from './books.ts';
import { closingInMempool, closings, display, hex } from './closing.ts';
import { forward, holdOfFleet } from './held.ts';
import { ensureSucceeded, invoiceOfFleet, peerWithChannel } from './support.ts';

const HELD_MSAT = 100_000_000n;
const FORWARDED_MSAT = 150_000_000n;
/** What the cheater would take back: paid after the state that it broadcasts. */
const STOLEN_MSAT = 1_000_000_000n;

function breach(format: 'anchors' | 'static_remotekey'): Case {
  return {
    group: 'close',
    name: `by a revoked commitment of a peer that was set back (${format}), an HTLC each way in it: all of it is the fleet's`,
    over: 'peers',
    run: async (world, kind) => {
      const payee = await peerWithChannel(world, 'ldk');
      const cheater = await world.peer(kind);
      await world.connect(cheater);
      await world.open(cheater, 'peer', { format });
      const held = await holdOfFleet(world, cheater, HELD_MSAT);
      const forwarded = await forward(world, cheater, payee, FORWARDED_MSAT);
      await cheater.snapshot();
      await world.usable(cheater);
      await cheater.settle(held);
      await payee.settle(forwarded.paymentHash);
      ensureSucceeded(await forwarded.paying, 'the forwarded payment');
      ensureSucceeded(await cheater.pay(await invoiceOfFleet(world, STOLEN_MSAT)), 'the payment afterwards');
      await world.agree(cheater);
      const books = await openBooks(world, cheater);
      await withoutGateways(world, async () => {
        await cheater.setBack();
        await closeOldState(cheater);
        await closingInMempool(world, books);
        await world.mine(1);
        await ensureClaimed(world, books);
      });
      const inChannelMsat = books.peers[0]?.inChannelsMsat ?? 0n;
      await settleBooks(world, books, new Map([[cheater, -inChannelMsat]]), { whose: 'fleet' });
      const [closed] = await closings(world, books);
      ensure(closed?.closeType === 'revoked', `closed as ${closed?.closeType}`);
      for (const { kind: output, spentBy } of closed.outputs)
        ensure(output === 'anchor' || spentBy === 'holder', `${output} was spent by the ${spentBy}`);
      await world.usable(payee);
    },
  };
}

/** No node reaches the fleet meanwhile. */
async function withoutGateways(world: World, story: () => Promise<void>): Promise<void> {
  const { supervisor, services } = world.fleet;
  const gateways = services.filter((name) => name.startsWith('peer-gateway'));
  await Promise.all(gateways.map((name) => supervisor.stop(name)));
  await story();
  await Promise.all(gateways.map((name) => supervisor.restart(name)));
}

async function closeOldState(cheater: InteropPeer): Promise<void> {
  const [channel] = await cheater.channels();
  ensure(channel !== undefined, 'the cheater has its channel');
  await cheater.close(channel.channelId, 'force');
}

/** What was the cheater's, and both HTLCs, are claimed while the revoked commitment is one block deep. */
async function ensureClaimed(world: World, books: Books): Promise<void> {
  await until('a claim of every contested output in the mempool', async () => {
    const [closed] = await closings(world, books);
    const contested = (closed?.outputs ?? []).filter(({ kind }) => kind !== 'anchor' && kind !== 'to_remote');
    const { sweeps } = await world.node.onchain.listSweeps({}, world.node.auth());
    const mempool = new Set(await world.chain.mempool());
    const isClaimed = contested.every(({ txid, outputIndex }) =>
      sweeps.some(
        (sweep) =>
          hex(sweep.txid) === hex(txid) &&
          sweep.outputIndex === outputIndex &&
          mempool.has(display(sweep.sweepTxid)),
      ),
    );
    return contested.length === 3 && isClaimed ? true : undefined;
  });
}

export const BREACH_CASES: readonly Case[] = [breach('anchors'), breach('static_remotekey')];
