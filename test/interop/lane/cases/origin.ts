/** The fleet pays by way of one peer to another: what either says of a failure is told by the public API. */
import type { Payment, PaymentAttempt } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { type InteropPeer, NotApplicable, type PeerChannel, type PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { hintedInvoice, payByFleet } from './support.ts';

const group = 'forward';
const AMOUNT_MSAT = 5_000_000n;
/** The peer between has most of this in its channel with the payee. */
const ONWARD_FUNDING_SAT = 1_000_000n;
const ONWARD_PUSH_MSAT = 300_000_000n;

interface Onward {
  readonly between: InteropPeer;
  readonly payee: InteropPeer;
  /** The channel of the two. */
  readonly channel: PeerChannel;
}

/** Fleet → between → payee; the first channel is public, so that LND gives hints for the second. */
async function onward(world: World, kind: PeerKind, other: PeerKind): Promise<Onward> {
  const between = await world.peer(kind);
  await world.connect(between);
  await world.open(between, 'peer', { announce: 'announced' });
  const payee = await world.peer(other);
  // It hears of the public channel from the fleet, whatever the peer between tells it.
  await world.connect(payee);
  await until('the peers are connected', async () => {
    if (await between.isConnected(payee.nodeId)) return true;
    await between.connect(payee.nodeId, payee.port);
    return undefined;
  });
  await between.open({
    nodeId: payee.nodeId,
    fundingSat: ONWARD_FUNDING_SAT,
    pushMsat: ONWARD_PUSH_MSAT,
    announce: 'private',
  });
  const channel = await world.minedUntil('a usable channel of the peers', async () => {
    const theirs = (await payee.channels()).find(({ isUsable }) => isUsable);
    const ours = (await between.channels()).find(
      ({ isUsable, counterpartyNodeId }) => isUsable && counterpartyNodeId === payee.nodeId,
    );
    return theirs === undefined ? undefined : ours;
  });
  return { between, payee, channel };
}

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

function describe({ status, failureReason, attemptRecords }: Payment): string {
  const attempts = attemptRecords.map(
    ({ failure, status: how }) =>
      `${how} ${failure?.code ?? ''} at ${failure?.sourceIndex ?? '-'} ${hex(failure?.nodeId).slice(0, 8)}`,
  );
  return `${status} ${failureReason} (${attempts.join(', ')})`;
}

/** One attempt failed so, by this node's word, and nobody else is blamed for it. */
function ensureBlamed(
  payment: Payment,
  blamed: { readonly node: InteropPeer; readonly hop: number; readonly codes: readonly string[] },
): PaymentAttempt {
  const found = payment.attemptRecords.find(
    ({ status, failure }) =>
      status === 'failed' &&
      failure !== undefined &&
      blamed.codes.includes(failure.code) &&
      failure.failureCode !== 0 &&
      hex(failure.nodeId) === blamed.node.nodeId &&
      failure.sourceIndex === blamed.hop,
  );
  ensure(found !== undefined, `${blamed.codes.join(' or ')} of ${blamed.node.name}: ${describe(payment)}`);
  return found;
}

interface Terms {
  readonly feeBaseMsat: number;
  readonly cltvExpiryDelta: number;
}

/**
 * By way of others, so that the terms of the invoice are not those before the last change either. LDK tells why the
 * terms before were not met: those break the same rule.
 */
async function raiseTerms({ between, channel }: Onward, onTheWay: Terms, terms: Terms): Promise<void> {
  await between.setTerms(channel.channelId, onTheWay);
  await between.setTerms(channel.channelId, terms);
}

export const ORIGIN_CASES: readonly Case[] = [
  {
    group,
    name: 'the fleet pays over a peer: failures of both are told with code, node and channel',
    over: 'pairs',
    run: async (world, kind, other) => {
      if (kind === 'ldk-node')
        throw new NotApplicable('ldk-node forwards to unannounced channels as a service provider alone');
      const line = await onward(world, kind, other);
      const { between, payee } = line;
      const paid = await payByFleet(world, (await hintedInvoice(payee, { amountMsat: AMOUNT_MSAT })).bolt11);
      ensure(paid.status === 'succeeded', `the first: ${describe(paid)}`);

      const held = await hintedInvoice(payee, { amountMsat: AMOUNT_MSAT, hold: 'hold' });
      const paying = payByFleet(world, held.bolt11);
      await world.waitUntilHeld(payee, held.paymentHash);
      await payee.cancel(held.paymentHash);
      const refused = await paying;
      ensure(refused.status === 'failed', describe(refused));
      ensureBlamed(refused, { node: payee, hop: 2, codes: ['incorrect_or_unknown_payment_details'] });
      ensure(refused.failureReason === 'recipient_rejected', describe(refused));

      // More than the peer has there, and less than the fleet has with the peer.
      const large = await payByFleet(
        world,
        (await hintedInvoice(payee, { amountMsat: 900_000_000n })).bolt11,
      );
      ensure(large.status === 'failed', describe(large));
      const stuck = ensureBlamed(large, { node: between, hop: 1, codes: ['temporary_channel_failure'] });
      ensure(
        stuck.failure?.shortChannelId === stuck.route[1]?.shortChannelId,
        'the channel to the payee is blamed',
      );

      // Terms that rose after the invoice was made.
      const changes = [
        {
          before: undefined,
          onTheWay: { feeBaseMsat: 3_001, cltvExpiryDelta: 80 },
          terms: { feeBaseMsat: 3_000, cltvExpiryDelta: 80 },
          code: 'fee_insufficient',
        },
        {
          before: 3_000,
          onTheWay: { feeBaseMsat: 3_000, cltvExpiryDelta: 121 },
          terms: { feeBaseMsat: 3_000, cltvExpiryDelta: 120 },
          code: 'incorrect_cltv_expiry',
        },
      ];
      for (const { before, onTheWay, terms, code } of changes) {
        const { bolt11 } = await hintedInvoice(payee, { amountMsat: AMOUNT_MSAT }, before);
        await raiseTerms(line, onTheWay, terms);
        const payment = await payByFleet(world, bolt11);
        const attempt = ensureBlamed(payment, { node: between, hop: 1, codes: [code] });
        ensure(attempt.route.length === 2, describe(payment));
        // LDK says nothing of its terms in a failure, so that nobody can do better with the same invoice.
        const expected = kind === 'lnd' ? 'succeeded' : 'failed';
        ensure(payment.status === expected, `${code}: ${describe(payment)}`);
      }

      const { bolt11 } = await hintedInvoice(payee, { amountMsat: AMOUNT_MSAT });
      await between.disconnect(payee.nodeId);
      await until('the payee is away', async () =>
        (await between.isConnected(payee.nodeId)) ? undefined : true,
      );
      const away = await payByFleet(world, bolt11);
      ensure(away.status === 'failed', describe(away));
      const codes = ['temporary_channel_failure', 'unknown_next_peer', 'channel_disabled'];
      ensureBlamed(away, { node: between, hop: 1, codes });
    },
  },
];
