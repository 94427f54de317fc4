/** What a simulated peer pays, and how it answers as the last hop. */
import type { ChannelEffect, ChannelInput, HtlcBody } from '@fulmen/channel';
import { InternalError, toHex } from '@fulmen/codec';
import {
  buildOnion,
  decodeHopPayload,
  encodeHopPayload,
  onionEphemeralKey,
  peelOnion,
  unwrapFailure,
  wrapFailure,
} from '@fulmen/onion';
import type { SimPeerPorts } from './peer.ts';

/** Blocks for the fleet between its incoming and its outgoing HTLC, and for the last hop. */
const FLEET_CLTV_DELTA = 80;
const FINAL_CLTV_DELTA = 400;

type PaymentPorts = Pick<SimPeerPorts, 'secp' | 'chain'>;

/** A payment by way of the fleet. */
export interface Payment {
  readonly paymentHash: Uint8Array;
  readonly amountMsat: bigint;
  readonly feeMsat: bigint;
  readonly payee: Uint8Array;
  /** The fleet's channel with the payee. */
  readonly shortChannelId: bigint;
  readonly expected: 'fulfilled' | 'failed';
  /** Of the HTLC to the fleet, where it is not the ordinary. */
  readonly cltvExpiryHeight?: number;
  state: 'waiting' | 'offered' | 'fulfilled' | 'failed';
  htlcId?: bigint;
  secrets?: readonly Uint8Array[];
  /** Which hop failed it (0 is the fleet), and how. */
  failure?: string;
  /** The same as it came. */
  removal?: Extract<ChannelEffect, { type: 'htlc_failed' }>['removal'];
  /** What is offered in place of an honest onion to the payee. */
  readonly prepared?: {
    readonly packet: Uint8Array;
    readonly sharedSecrets: readonly Uint8Array[];
    readonly cltvExpiryHeight: number;
  };
}

/** The onion of an honest payment by way of the fleet. */
export function prepare(
  { secp, random, fleetNodeId, chain }: PaymentPorts & Pick<SimPeerPorts, 'random' | 'fleetNodeId'>,
  payment: Payment,
): NonNullable<Payment['prepared']> {
  const outgoingCltvHeight = chain.height + FINAL_CLTV_DELTA;
  const common = { amtToForwardMsat: payment.amountMsat, outgoingCltvHeight };
  const paymentData = { paymentSecret: payment.paymentHash, totalMsat: payment.amountMsat };
  const built = buildOnion(secp, {
    sessionKey: random.bytes(32),
    associatedData: payment.paymentHash,
    hops: [
      {
        nodeId: fleetNodeId,
        payload: encodeHopPayload({ ...common, shortChannelId: payment.shortChannelId }),
      },
      { nodeId: payment.payee, payload: encodeHopPayload({ ...common, paymentData }) },
    ],
  });
  if (!built.ok) throw new InternalError(`no onion: ${built.error.kind}`);
  return { ...built.value, cltvExpiryHeight: outgoingCltvHeight + FLEET_CLTV_DELTA };
}

/** What the payee does with an HTLC that is committed; a text: what an honest fleet would not have forwarded. */
export function answerOf(
  { secp, chain }: PaymentPorts,
  staticSecret: Uint8Array,
  htlc: HtlcBody,
  preimages: ReadonlyMap<string, Uint8Array>,
): ChannelInput | string {
  const key = onionEphemeralKey(secp, htlc.onionRoutingPacket);
  if (!key.ok) return 'an onion without a key';
  const secret = secp.ecdh(key.value, staticSecret);
  const peeled = peelOnion(secp, htlc.onionRoutingPacket, secret, htlc.paymentHash);
  if (!peeled.ok || peeled.value.next !== undefined) return 'an onion that is not for the last hop';
  const payload = decodeHopPayload(peeled.value.payload);
  if (!payload.ok || payload.value.tlvs.amtToForwardMsat !== htlc.amountMsat)
    return 'another amount than the onion says';
  const preimage = preimages.get(toHex(htlc.paymentHash));
  return preimage === undefined
    ? {
        type: 'fail_htlc',
        id: htlc.id,
        reason: wrapFailure(secret, {
          kind: 'incorrect_or_unknown_payment_details',
          htlcMsat: htlc.amountMsat,
          height: chain.height,
        }),
      }
    : { type: 'fulfil_htlc', id: htlc.id, preimage };
}

/** Which hop failed a payment (0 is the fleet), and how. */
export function failureText(payment: Payment, reason: Uint8Array): string {
  const unwrapped = unwrapFailure(payment.secrets ?? [], { reason, attributionData: undefined });
  return unwrapped.kind === 'failure' ? `${unwrapped.hopIndex} ${unwrapped.failure.kind}` : 'undecodable';
}
