/** BOLT 2, "Removing an HTLC", as the receiver of each message, and what follows for who offered it first. */
import { toHex } from '@fulmen/codec';
import { make } from '@fulmen/wire';
import type { Wire } from './play.ts';
import type { Rule } from './rule.ts';
import type { Scene } from './scene.ts';

const REMOVING =
  'Removing an HTLC: `update_fulfill_htlc`, `update_fail_htlc`, and `update_fail_malformed_htlc`';
const DEADLINES = '`cltv_expiry_delta` Selection';
const OR = 'send a `warning` and close the connection, or send an `error` and fail the channel.';
const AMOUNT_MSAT = 50_000_000n;
/** What the fleet's incoming HTLC has in hand over its outgoing one, which lasts 400 blocks. */
const OUTGOING_BLOCKS = 400;

interface Held {
  readonly id: bigint;
  readonly preimage: Uint8Array;
}

/** A removal of an HTLC of the fleet's. */
function removal(
  name: string,
  sentence: string,
  messages: (scene: Scene, htlc: Held) => Wire | readonly Wire[],
): Rule {
  return {
    name,
    section: REMOVING,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const htlc = await scene.receive(AMOUNT_MSAT);
      scene.send(...[messages(scene, htlc)].flat());
    },
    reaction: 'warning_disconnect',
  };
}

const fulfil = ({ channelId }: Scene, { id, preimage }: Held): Wire =>
  make('update_fulfill_htlc', { channelId, id, paymentPreimage: preimage });
const fail = ({ channelId }: Scene, { id }: Pick<Held, 'id'>): Wire =>
  make('update_fail_htlc', { channelId, id, reason: new Uint8Array(292) });
const malformed = ({ channelId }: Scene, { id }: Pick<Held, 'id'>, failureCode = 0xc005): Wire =>
  make('update_fail_malformed_htlc', { channelId, id, sha256OfOnion: new Uint8Array(32), failureCode });

/** Before the HTLC is on both commitments: the peer answers its update_add_htlc itself. */
function early(name: string, message: (scene: Scene, htlc: Held) => Wire): Rule {
  return {
    name: `${name}: before the HTLC is committed`,
    section: REMOVING,
    sentence: UNKNOWN_ID,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.change('revoke_and_ack', () => []);
      const { paymentHash } = scene.payHostile(AMOUNT_MSAT);
      await scene.until('an HTLC is signed for', () =>
        scene.heard.some(({ type }) => type === 'commitment_signed'),
      );
      const preimage = scene.hostile.preimages.get(toHex(paymentHash)) ?? new Uint8Array(32);
      scene.send(message(scene, { id: 0n, preimage }));
    },
    reaction: 'warning_disconnect',
  };
}

const UNKNOWN_ID =
  'if the `id` does not correspond to an HTLC in its current commitment transaction: MUST ' + OR;
const WRONG_PREIMAGE =
  "if the `payment_preimage` value in `update_fulfill_htlc` doesn't SHA256 hash to the corresponding HTLC `payment_hash`: MUST " +
  OR;

export const REMOVE_RULES: readonly Rule[] = [
  removal('update_fulfill_htlc: an unknown id', UNKNOWN_ID, (scene, htlc) =>
    fulfil(scene, { ...htlc, id: htlc.id + 7n }),
  ),
  removal('update_fulfill_htlc: a wrong preimage', WRONG_PREIMAGE, (scene, htlc) =>
    fulfil(scene, { ...htlc, preimage: new Uint8Array(32).fill(1) }),
  ),
  removal('update_fulfill_htlc: twice', UNKNOWN_ID, (scene, htlc) => [
    fulfil(scene, htlc),
    fulfil(scene, htlc),
  ]),
  removal('update_fail_htlc: an unknown id', UNKNOWN_ID, (scene, htlc) => fail(scene, { id: htlc.id + 7n })),
  removal('update_fail_htlc: after update_fulfill_htlc', UNKNOWN_ID, (scene, htlc) => [
    fulfil(scene, htlc),
    fail(scene, htlc),
  ]),
  removal('update_fail_malformed_htlc: an unknown id', UNKNOWN_ID, (scene, htlc) =>
    malformed(scene, { id: htlc.id + 7n }),
  ),
  removal(
    'update_fail_malformed_htlc: without BADONION',
    'if the `BADONION` bit in `failure_code` is not set for `update_fail_malformed_htlc`: MUST ' + OR,
    (scene, htlc) => malformed(scene, htlc, 0x4005),
  ),
  early('update_fulfill_htlc', fulfil),
  early('update_fail_htlc', fail),
  early('update_fail_malformed_htlc', malformed),
  {
    name: 'update_fulfill_htlc: of an HTLC of its own',
    section: REMOVING,
    sentence: UNKNOWN_ID,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.honest.answers = 'holds';
      scene.pay(AMOUNT_MSAT);
      await scene.until('it is offered', () => scene.honest.channel?.changes.nextInboundHtlcId === 1n);
      scene.send(fulfil(scene, { id: 0n, preimage: new Uint8Array(32) }));
    },
    reaction: 'warning_disconnect',
  },
  {
    name: 'update_fulfill_htlc: and then silence',
    section: 'Forwarding HTLCs',
    sentence:
      'upon receiving an `update_fulfill_htlc` for an outgoing HTLC, OR upon discovering the `payment_preimage` from an on-chain HTLC spend: MUST fulfill the incoming HTLC that corresponds to that outgoing HTLC.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const htlc = await scene.receive(AMOUNT_MSAT);
      scene.change('commitment_signed', () => [], 'revoke_and_ack');
      scene.send(fulfil(scene, htlc));
      await scene.until('the honest payer has it', () =>
        scene.honest.payments.every(({ state }) => state === 'fulfilled'),
      );
    },
    reaction: 'ignore',
  },
  {
    name: 'update_fail_htlc: and then silence',
    section: 'Forwarding HTLCs',
    sentence:
      'until the removal of an outgoing HTLC is irrevocably committed, OR until the outgoing on-chain HTLC output has been spent via the HTLC-timeout transaction (with sufficient depth): MUST NOT fail the incoming HTLC (`update_fail_htlc`) that corresponds to that outgoing HTLC.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const htlc = await scene.receive(AMOUNT_MSAT);
      scene.drive({ type: 'fail_htlc', id: htlc.id, reason: new Uint8Array(292) });
      // It signs its removal, and keeps the secret of the commitment that still has the HTLC.
      scene.change('revoke_and_ack', () => []);
      await scene.until('the fleet signs', () =>
        scene.heard.some(({ type }) => type === 'commitment_signed'),
      );
    },
    reaction: 'ignore',
    check: ({ honest }) => {
      if (honest.payments.some(({ state }) => state !== 'offered')) throw new RangeError('it was failed');
    },
  },
  {
    name: 'update_fail_htlc: forgotten by a reconnection, and then fulfilled',
    section: 'Message Retransmission',
    sentence:
      'MUST reverse any uncommitted updates sent by the other side (i.e. all messages beginning with `update_` for which no `commitment_signed` has been received).',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const htlc = await scene.receive(AMOUNT_MSAT);
      scene.send(fail(scene, htlc));
      await scene.pause(50);
      await scene.reconnect();
      scene.hostile.answers = 'soon';
      await scene.until('reestablished', () => scene.channel.connection.type === 'connected');
      scene.drive({ type: 'fulfil_htlc', id: htlc.id, preimage: htlc.preimage });
      await scene.until('the honest payer has it', () =>
        scene.honest.payments.every(({ state }) => state === 'fulfilled'),
      );
    },
    reaction: 'ignore',
  },
  {
    name: 'update_fail_malformed_htlc: of what was forwarded',
    section: REMOVING,
    sentence:
      'otherwise, a receiving node which has an outgoing HTLC canceled by `update_fail_malformed_htlc`: MUST return an error in the `update_fail_htlc` sent to the link which originally sent the HTLC, using the `failure_code` given and setting the data to `sha256_of_onion`.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const { id } = await scene.receive(AMOUNT_MSAT);
      scene.drive({
        type: 'fail_malformed_htlc',
        id,
        sha256OfOnion: new Uint8Array(32).fill(6),
        failureCode: 0xc005,
      });
      await scene.until('the honest payer hears of it', () =>
        scene.honest.payments.every(({ failure }) => failure !== undefined),
      );
    },
    reaction: 'ignore',
    check: ({ honest }) => {
      const failures = honest.payments.map(({ failure }) => failure).join();
      if (failures !== '0 invalid_onion_hmac') throw new RangeError(failures);
    },
  },
  {
    name: 'no answer: until an HTLC of the fleet has timed out',
    section: DEADLINES,
    sentence:
      "if an HTLC which it offered is in either node's current commitment transaction, AND is past this timeout deadline: SHOULD send an `error` to the receiving peer (if connected). MUST fail the channel.",
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      await scene.receive(AMOUNT_MSAT);
      await scene.mine(OUTGOING_BLOCKS + 4);
    },
    reaction: 'error',
  },
  {
    name: 'no answer: until an HTLC that the fleet fulfilled must be claimed',
    section: DEADLINES,
    sentence:
      "if an HTLC it has fulfilled is in either node's current commitment transaction, AND is past this fulfillment deadline: SHOULD send an `error` to the offering peer (if connected). MUST fail the channel.",
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      let isDeaf = false;
      scene.hostile.receives = ({ type }) => {
        isDeaf ||= type === 'update_fulfill_htlc';
        return !isDeaf;
      };
      scene.pay(AMOUNT_MSAT);
      await scene.until('the fleet fulfils', () =>
        scene.heard.some(({ type }) => type === 'update_fulfill_htlc'),
      );
      await scene.mine(OUTGOING_BLOCKS + 60);
    },
    reaction: 'error',
  },
];
