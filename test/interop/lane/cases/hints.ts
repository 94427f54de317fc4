/** Payments over channels that only their two ends know: the invoice tells of them. */
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable, type PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { decoded, hex, nextKey } from './invoice-texts.ts';
import { ensureSucceeded, payByFleet, peerWithChannel } from './support.ts';

const group = 'pay';
const AMOUNT_MSAT = 25_000_000n;

/** @throws NotApplicable for a peer that forwards over announced channels alone */
function requireForwarder(kind: PeerKind): void {
  if (kind === 'ldk-node')
    throw new NotApplicable('ldk-node forwards to unannounced channels as a service provider alone');
}

/** A channel between two peers that both can use; nobody else hears of it. */
async function connectPrivately(world: World, funder: InteropPeer, fundee: InteropPeer): Promise<void> {
  await funder.connect(fundee.nodeId, fundee.port);
  await until(`${funder.name} is connected`, async () =>
    (await funder.isConnected(fundee.nodeId)) ? true : undefined,
  );
  await funder.open({
    nodeId: fundee.nodeId,
    fundingSat: 2_000_000n,
    pushMsat: 500_000_000n,
    announce: 'private',
  });
  await world.minedUntil('both can use the channel', async () => {
    const [ofFunder, ofFundee] = await Promise.all([funder.channels(), fundee.channels()]);
    const here = ofFunder.some((one) => one.isUsable && one.counterpartyNodeId === fundee.nodeId);
    const there = ofFundee.some((one) => one.isUsable && one.counterpartyNodeId === funder.nodeId);
    return here && there ? true : undefined;
  });
}

export const HINT_CASES: readonly Case[] = [
  {
    group,
    name: 'the fleet pays a node behind a private channel of the peer’s',
    over: 'peers',
    run: async (world, kind) => {
      requireForwarder(kind);
      const peer = await peerWithChannel(world, kind);
      const payee = await world.peer('ldk');
      await connectPrivately(world, peer, payee);
      // The payee tells of the channel once it knows what the peer asks for.
      const bolt11 = await until('an invoice with a hint', async () => {
        const made = await payee.invoice({ amountMsat: AMOUNT_MSAT });
        const [hint] = decoded(made.bolt11).routeHints;
        return hint !== undefined && hex(hint[0]?.nodeId ?? new Uint8Array()) === peer.nodeId
          ? made.bolt11
          : undefined;
      });
      const payment = await payByFleet(world, bolt11);
      ensure(payment.status === 'succeeded', payment.failureReason);
      ensure(payment.feeMsat > 0n, 'the peer forwarded for nothing');
    },
  },
  {
    group,
    name: 'the fleet is paid over its private channel with the peer, by a node behind the peer',
    over: 'peers',
    run: async (world, kind) => {
      requireForwarder(kind);
      const peer = await peerWithChannel(world, kind);
      const payer = await world.peer(kind);
      await connectPrivately(world, payer, peer);
      const bolt11 = await until('an invoice with a hint', async () => {
        const made = await world.node.invoices.createInvoice(
          { amountMsat: AMOUNT_MSAT, description: 'behind', routeHints: 'always', idempotencyKey: nextKey() },
          world.node.auth(),
        );
        const hints = decoded(made.bolt11).routeHints.flat();
        return hints.some(({ nodeId }) => hex(nodeId) === peer.nodeId) ? made.bolt11 : undefined;
      });
      const payment = await payer.pay(bolt11);
      ensureSucceeded(payment, 'the payer');
      ensure(payment.status === 'succeeded' && payment.feeMsat > 0n, 'the peer forwarded for nothing');
    },
  },
];
