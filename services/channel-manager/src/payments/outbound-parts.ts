/** From routes to intents, and from the ends of HTLCs to what the payment machine makes of them. */
import { assertNever, equalBytes } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  buildOnion,
  decodeFailureMessage,
  encodeHopPayload,
  failureFromMalformed,
  type FailureMessage,
  onionSharedSecrets,
  unwrapFailure,
} from '@fulmen/onion';
import {
  type Attempt,
  type AttemptFailure,
  type PaymentParameters,
  type PaymentState,
  payloadsOf,
  type Route,
  type RouteHop,
} from '@fulmen/payment';
import type { Intent, Resolution } from '@fulmen/store';
import type { PartName } from './record.ts';

/** The onion of a part; undefined when the route is too long for one. */
export function onionOf(
  secp: Secp256k1,
  parameters: PaymentParameters,
  route: Route,
  sessionKey: Uint8Array,
): Uint8Array | undefined {
  const payloads = payloadsOf(route, parameters.final).map((tlvs) => encodeHopPayload(tlvs));
  const hops = route.hops.map((hop, index) => ({
    nodeId: hop.nodeId,
    payload: payloads[index] ?? new Uint8Array(0),
  }));
  const onion = buildOnion(secp, { sessionKey, hops, associatedData: parameters.paymentHash });
  return onion.ok ? onion.value.packet : undefined;
}

/** The HTLC that the channel of its first hop shall add. */
export function intentOf(
  part: PartName,
  firstHop: RouteHop,
  paymentHash: Uint8Array,
  onion: Uint8Array,
  shards: { readonly payment: number; readonly channel: number },
): Intent {
  return {
    source: { type: 'payment', attemptId: part.attemptId },
    sourceShard: shards.payment,
    target: { type: 'scid', shortChannelId: firstHop.shortChannelId },
    targetShard: shards.channel,
    paymentHash,
    incomingAmountMsat: firstHop.amountMsat,
    incomingCltvExpiryHeight: firstHop.cltvExpiryHeight,
    outgoingAmountMsat: firstHop.amountMsat,
    outgoingCltvExpiryHeight: firstHop.cltvExpiryHeight,
    onion,
    sharedSecret: new Uint8Array(0),
    createdUnixMs: part.startedUnixMs,
  };
}

/** What an HTLC's failure says. */
export function failureOf(
  secp: Secp256k1,
  { route, sessionKey }: Attempt,
  outcome: Exclude<Resolution['outcome'], { type: 'fulfilled' }>,
): AttemptFailure {
  switch (outcome.type) {
    case 'failed': {
      const secrets = onionSharedSecrets(
        secp,
        sessionKey,
        route.hops.map((hop) => hop.nodeId),
      );
      const unwrapped = unwrapFailure(secrets, { reason: outcome.reason, attributionData: undefined });
      return unwrapped.kind === 'failure'
        ? { kind: 'failure', hopIndex: unwrapped.hopIndex, failure: unwrapped.failure }
        : { kind: 'undecodable' };
    }
    case 'failed_here':
      return notAdded(decodeFailureMessage(outcome.failure));
    case 'failed_malformed':
      // Our own counterparty could not read the onion: nothing beyond it is to blame.
      return notAdded(failureFromMalformed(outcome.failureCode, outcome.sha256OfOnion));
  }
  return assertNever(outcome);
}

function notAdded(failure: FailureMessage | undefined): AttemptFailure {
  return failure === undefined ? { kind: 'not_added' } : { kind: 'not_added', failure };
}

/** The router is told channels to avoid, not nodes: those by which this route entered and left a node newly avoided. */
export function withoutNodes(before: PaymentState, after: PaymentState, route: Route): PaymentState {
  const added = after.lessons.avoidedNodes.slice(before.lessons.avoidedNodes.length);
  if (added.length === 0) return after;
  const isAdded = (hop: RouteHop | undefined): boolean =>
    hop !== undefined && added.some((node) => equalBytes(node, hop.nodeId));
  const channels = route.hops.filter((hop, index) => isAdded(hop) || isAdded(route.hops[index - 1]));
  const avoided = channels.map(({ shortChannelId, direction }) => ({ shortChannelId, direction }));
  return {
    ...after,
    lessons: { ...after.lessons, avoidedChannels: [...after.lessons.avoidedChannels, ...avoided] },
  };
}
