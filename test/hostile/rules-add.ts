/** BOLT 2, "Adding an HTLC" and what it says of forwarding, as the receiver of update_add_htlc. */
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { buildOnion, encodeHopPayload } from '@fulmen/onion';
import { make, type MessageOf } from '@fulmen/wire';
import type { Wire } from './play.ts';
import type { Rule } from './rule.ts';
import type { Scene } from './scene.ts';

type Add = MessageOf<'update_add_htlc'>;

const ADDING = 'Adding an HTLC: `update_add_htlc`';
const FORWARDING = 'Forwarding HTLCs';
const OR = 'send a `warning` and close the connection, or send an `error` and fail the channel.';
const AMOUNT_MSAT = 50_000_000n;

/** An add of the peer's, changed; what signs for it stays away. */
function add(name: string, sentence: string, change: (message: Add) => Partial<Add>): Rule {
  return {
    name: `update_add_htlc: ${name}`,
    section: ADDING,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('update_add_htlc', (message) => ({ ...message, ...change(message) }), 'commitment_signed');
      scene.pay(AMOUNT_MSAT);
    },
    reaction: 'warning_disconnect',
  };
}

/** An add whose onion is another; nothing else depends on the onion, so that it is committed as any other. */
function onion(
  name: string,
  sentence: string,
  change: (message: Add, scene: Scene) => Partial<Add>,
  answer: 'update_fail_htlc' | 'update_fail_malformed_htlc',
): Rule {
  return {
    name: `update_add_htlc: ${name}`,
    section: ADDING,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('update_add_htlc', (message) => ({ ...message, ...change(message, scene) }));
      const payment = scene.pay(AMOUNT_MSAT);
      await scene.until('it is failed', () => payment.state === 'failed');
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack', answer],
  };
}

/** An onion of one hop, which is the fleet. */
function onionFor(scene: Scene, associatedData: Uint8Array, payload: Uint8Array): Uint8Array {
  const built = buildOnion(secp256k1, {
    sessionKey: sha256(payload),
    associatedData,
    hops: [{ nodeId: scene.channel.parameters.counterpartyNodeId, payload }],
  });
  if (!built.ok) throw new RangeError(built.error.kind);
  return built.value.packet;
}

/** Adds of nobody's making. */
function raw(scene: Scene, changes: Partial<Add> = {}): Add {
  return {
    ...make('update_add_htlc', {
      channelId: scene.channelId,
      id: scene.channel.changes.nextOutboundHtlcId,
      amountMsat: 1_000_000n,
      paymentHash: new Uint8Array(32).fill(9),
      cltvExpiry: scene.height + 500,
      onionRoutingPacket: new Uint8Array(1_366),
    }),
    ...changes,
  };
}

function rawRule(
  name: string,
  sentence: string,
  messages: (scene: Scene) => readonly Wire[],
  more: Partial<Rule> = {},
): Rule {
  return {
    name: `update_add_htlc: ${name}`,
    section: ADDING,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => scene.send(...messages(scene)),
    reaction: 'warning_disconnect',
    ...more,
  };
}

/** A payment by way of the fleet with another expiry than is due. */
function expiry(name: string, sentence: string, cltvExpiryHeight: (height: number) => number): Rule {
  return {
    name: `update_add_htlc: ${name}`,
    section: FORWARDING,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const payment = scene.pay(AMOUNT_MSAT, { cltvExpiryHeight: cltvExpiryHeight(scene.height) });
      await scene.until('it is failed', () => payment.state === 'failed');
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack', 'update_fail_htlc'],
    check: ({ honest }) => {
      if (honest.channel?.changes.nextInboundHtlcId !== 0n) throw new RangeError('it was forwarded');
    },
  };
}

const AFFORD =
  'receiving an `amount_msat` that the sending node cannot afford at the current `feerate_per_kw` (while maintaining its channel reserve and any `to_local_anchor` and `to_remote_anchor` costs): SHOULD ' +
  OR;
const TOO_MANY =
  'if a sending node adds more than receiver `max_accepted_htlcs` HTLCs to its local commitment transaction, OR adds more than receiver `max_htlc_value_in_flight_msat` worth of offered HTLCs to its local commitment transaction: SHOULD ' +
  OR;
const PAST = 'MUST fail (and not forward) an HTLC whose fulfillment deadline is already past.';
const OTHER_ID = 'if other `id` violations occur: MAY ' + OR;
const FAILS =
  'If decryption fails, the result is not a valid `payload` TLV, or it contains unknown even types: MUST respond with an error as detailed in Failure Messages.';

export const ADD_RULES: readonly Rule[] = [
  add(
    'an amount of 0',
    'receiving an `amount_msat` equal to 0, OR less than its own `htlc_minimum_msat`: SHOULD ' + OR,
    () => ({ amountMsat: 0n }),
  ),
  add('more than the peer has', AFFORD, () => ({ amountMsat: 699_000_000n })),
  add('more than all money', AFFORD, () => ({ amountMsat: 0xffff_ffff_ffff_ffffn })),
  // 700,000 sat less the reserve of 10,000, less anchors; the fee of a commitment with one HTLC is not left.
  rawRule('the funder keeps its reserve, and no fee', AFFORD, (scene) => [
    raw(scene, { amountMsat: 689_300_000n }),
  ]),
  rawRule('the fundee dips into its reserve', AFFORD, (scene) => [raw(scene, { amountMsat: 290_001_000n })], {
    stage: 'open_funded_by_fleet',
  }),
  rawRule('each alone can be afforded', AFFORD, (scene) => {
    const id = scene.channel.changes.nextOutboundHtlcId;
    return [raw(scene, { amountMsat: 400_000_000n }), raw(scene, { id: id + 1n, amountMsat: 400_000_000n })];
  }),
  add(
    'an expiry that is a time',
    'if sending node sets `cltv_expiry` to greater or equal to 500000000: SHOULD ' + OR,
    () => ({ cltvExpiry: 500_000_000 }),
  ),
  rawRule('one more than max_accepted_htlcs', TOO_MANY, (scene) => {
    const first = scene.channel.changes.nextOutboundHtlcId;
    return Array.from({ length: 31 }, (_, i) =>
      raw(scene, { id: first + BigInt(i), paymentHash: new Uint8Array(32).fill(i) }),
    );
  }),
  rawRule(
    'more than max_htlc_value_in_flight_msat',
    TOO_MANY,
    (scene) => [raw(scene, { amountMsat: 251_000_000n })],
    {
      // An announced channel takes a quarter of its value in flight.
      prepare: (scene) => scene.change('open_channel', (message) => ({ ...message, channelFlags: 1 })),
    },
  ),
  {
    name: 'update_add_htlc: two of one payment_hash',
    section: ADDING,
    sentence: 'MUST allow multiple HTLCs with the same `payment_hash`.',
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.pay(AMOUNT_MSAT);
      scene.pay(AMOUNT_MSAT);
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack', 'update_fulfill_htlc', 'update_fulfill_htlc'],
  },
  {
    name: 'update_add_htlc: the same id after a reconnection',
    section: ADDING,
    sentence:
      'if the sender did not previously acknowledge the commitment of that HTLC: MUST ignore a repeated `id` value after a reconnection.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('commitment_signed', () => []);
      const payment = scene.pay(AMOUNT_MSAT);
      await scene.pause(200);
      scene.behave();
      await scene.reconnect();
      await scene.until('the payment ends', () => payment.state === 'fulfilled');
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack'],
  },
  rawRule('an id twice', OTHER_ID, (scene) => [raw(scene), raw(scene)]),
  rawRule('an id left out', OTHER_ID, (scene) => [
    raw(scene, { id: scene.channel.changes.nextOutboundHtlcId + 1n }),
  ]),
  rawRule(
    'before channel_ready',
    'Once both nodes have exchanged `channel_ready` (and optionally `announcement_signatures`), the channel can be used to make payments via Hashed Time Locked Contracts.',
    (scene) => [raw(scene)],
    { stage: 'unconfirmed_by_peer' },
  ),
  rawRule('a path_key that is no point', 'MUST use `path_key` (if specified).', (scene) => [
    raw(scene, { tlvs: { pathKey: Uint8Array.from([2, ...new Uint8Array(32).fill(0xff)]) } }),
  ]),
  onion(
    'a path_key for an onion that is not blinded',
    'MUST use `path_key` (if specified).',
    (_, { honest }) => ({ tlvs: { pathKey: honest.nodeId } }),
    'update_fail_malformed_htlc',
  ),
  onion(
    'an onion without a key',
    FAILS,
    () => ({ onionRoutingPacket: new Uint8Array(1_366) }),
    'update_fail_malformed_htlc',
  ),
  onion(
    'an onion of an unknown version',
    FAILS,
    ({ onionRoutingPacket }) => ({
      onionRoutingPacket: Uint8Array.from([1, ...onionRoutingPacket.subarray(1)]),
    }),
    'update_fail_malformed_htlc',
  ),
  onion(
    'a spoiled onion',
    FAILS,
    ({ onionRoutingPacket }) => ({
      onionRoutingPacket: Uint8Array.from(onionRoutingPacket, (byte, i) => (i === 700 ? byte ^ 1 : byte)),
    }),
    'update_fail_malformed_htlc',
  ),
  onion(
    'an onion made for another payment_hash',
    'MUST use `payment_hash` as `associated_data`.',
    (_, scene) => ({
      onionRoutingPacket: onionFor(scene, sha256(new Uint8Array(1)), new Uint8Array(4)),
    }),
    'update_fail_malformed_htlc',
  ),
  onion(
    'a payload that is no TLV stream',
    FAILS,
    ({ paymentHash }, scene) => ({
      onionRoutingPacket: onionFor(scene, paymentHash, Uint8Array.from([2, 9, 1])),
    }),
    'update_fail_htlc',
  ),
  onion(
    'a payload with an unknown even type',
    FAILS,
    ({ paymentHash, amountMsat, cltvExpiry }, scene) => {
      const known = encodeHopPayload({
        amtToForwardMsat: amountMsat - 100_000n,
        outgoingCltvHeight: cltvExpiry - 80,
        shortChannelId: 1n,
      });
      const payload = Uint8Array.from([...known, 100, 0]);
      return { onionRoutingPacket: onionFor(scene, paymentHash, payload) };
    },
    'update_fail_htlc',
  ),
  onion(
    'a payload without an amount',
    'Otherwise: MUST follow the requirements for the reader of `payload` in Payload Format.',
    ({ paymentHash, cltvExpiry }, scene) => ({
      onionRoutingPacket: onionFor(
        scene,
        paymentHash,
        encodeHopPayload({ outgoingCltvHeight: cltvExpiry - 80, shortChannelId: 1n }),
      ),
    }),
    'update_fail_htlc',
  ),
  expiry(
    'the fleet has too few blocks for it',
    'once the `cltv_expiry` of an incoming HTLC has been reached, OR if `cltv_expiry` minus `current_height` is less than `cltv_expiry_delta` for the corresponding outgoing HTLC: MUST fail that incoming HTLC (`update_fail_htlc`).',
    (height) => height + 20,
  ),
  expiry('an expiry that has passed', PAST, (height) => height - 1),
  {
    // Of dust, which no transaction shows: the commitment is signed with another expiry all the same.
    name: 'update_add_htlc: an expiry of 0',
    section: FORWARDING,
    sentence: PAST,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('update_add_htlc', (message) => ({ ...message, cltvExpiry: 0 }));
      const payment = scene.pay(100_000n);
      await scene.until('it is failed', () => payment.state === 'failed');
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack', 'update_fail_htlc'],
  },
  expiry(
    'an expiry in years',
    "if an incoming HTLC's `cltv_expiry` is unreasonably far in the future: SHOULD fail that incoming HTLC (`update_fail_htlc`).",
    (height) => height + 100_000,
  ),
  {
    name: 'update_add_htlc: no revoke_and_ack for the commitment that has it',
    section: FORWARDING,
    sentence:
      'until an incoming HTLC has been irrevocably committed: MUST NOT offer the corresponding outgoing HTLC (`update_add_htlc`) in response to that incoming HTLC.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('revoke_and_ack', () => []);
      scene.pay(AMOUNT_MSAT);
      await scene.until('the fleet signs', () =>
        scene.heard.some(({ type }) => type === 'commitment_signed'),
      );
    },
    reaction: 'ignore',
    check: ({ honest }) => {
      if (honest.channel?.changes.nextInboundHtlcId !== 0n) throw new RangeError('it was forwarded');
    },
  },
  {
    name: 'update_add_htlc: more dust than the fleet puts up with',
    section: 'Bounding exposure to trimmed in-flight HTLCs: `max_dust_htlc_exposure_msat`',
    sentence:
      "if the `amount_msat` plus the dust balance of the remote transaction is greater than `max_dust_htlc_exposure_msat`: SHOULD fail this HTLC once it's committed.",
    stage: 'open_funded_by_peer',
    // Nine thousand satoshis are dust for this peer.
    prepare: ({ hostile }) => {
      hostile.config = { dustLimitSat: 9_500n, dustExposureFeerateMultiple: 100_000n };
    },
    act: async (scene) => {
      scene.honest.answers = 'holds';
      const payments = Array.from({ length: 7 }, (_, i) => scene.pay(8_900_000n + BigInt(i)));
      await scene.until('one is failed', () => payments.some(({ state }) => state === 'failed'));
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack', 'update_fail_htlc'],
  },
];
