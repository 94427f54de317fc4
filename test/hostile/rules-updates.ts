/** BOLT 2, "Normal Operation", as the receiver of each message. */
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import { type Rule, highS, spoiled } from './rule.ts';
import type { Wire } from './play.ts';
import type { Scene } from './scene.ts';

type Add = MessageOf<'update_add_htlc'>;
type Commitment = MessageOf<'commitment_signed'>;
type Revocation = MessageOf<'revoke_and_ack'>;

const ADDING = 'Adding an HTLC: `update_add_htlc`';
const REMOVING =
  'Removing an HTLC: `update_fulfill_htlc`, `update_fail_htlc`, and `update_fail_malformed_htlc`';
const COMMITTING = 'Committing Updates So Far: `commitment_signed`';
const REVOKING = 'Completing the Transition to the Updated State: `revoke_and_ack`';
const FEES = 'Updating Fees: `update_fee`';
const OR = 'send a `warning` and close the connection, or send an `error` and fail the channel.';
const AMOUNT_MSAT = 50_000_000n;

/** An add of the peer's, changed; what signs for it stays away. */
function add(
  name: string,
  sentence: string,
  change: (message: Add) => Partial<Add>,
  reaction: Rule['reaction'],
): Rule {
  return {
    name: `update_add_htlc: ${name}`,
    section: ADDING,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('update_add_htlc', (message) => ({ ...message, ...change(message) }), 'commitment_signed');
      scene.pay(AMOUNT_MSAT);
    },
    reaction,
  };
}

/** A removal of an HTLC of the fleet's. */
function removal(
  name: string,
  sentence: string,
  message: (
    scene: Scene,
    htlc: { readonly id: bigint; readonly preimage: Uint8Array },
  ) => Wire,
): Rule {
  return {
    name,
    section: REMOVING,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const htlc = await scene.receive(AMOUNT_MSAT);
      scene.send(message(scene, htlc));
    },
    reaction: 'warning_disconnect',
  };
}

function commitment(
  name: string,
  sentence: string,
  change: (message: Commitment) => Partial<Commitment>,
): Rule {
  return {
    name: `commitment_signed: ${name}`,
    section: COMMITTING,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('commitment_signed', (message) => ({ ...message, ...change(message) }));
      scene.pay(AMOUNT_MSAT);
    },
    reaction: 'error',
  };
}

function revocation(
  name: string,
  sentence: string,
  change: (message: Revocation) => Partial<Revocation>,
): Rule {
  return {
    name: `revoke_and_ack: ${name}`,
    section: REVOKING,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('revoke_and_ack', (message) => ({ ...message, ...change(message) }));
      scene.pay(AMOUNT_MSAT);
    },
    reaction: 'error',
  };
}

function fee(name: string, sentence: string, stage: Rule['stage'], feeratePerKw: number): Rule {
  return {
    name: `update_fee: ${name}`,
    section: FEES,
    sentence,
    stage,
    act: (scene) => scene.send(make('update_fee', { channelId: scene.channelId, feeratePerKw })),
    reaction: 'warning_disconnect',
  };
}

const UNKNOWN_ID =
  'if the `id` does not correspond to an HTLC in its current commitment transaction: MUST ' + OR;
const NO_SECRET =
  'if `per_commitment_secret` is not a valid secret key or does not generate the previous `per_commitment_point`: MUST send an `error` and fail the channel.';

export const UPDATE_RULES: readonly Rule[] = [
  add(
    'an amount of 0',
    'receiving an `amount_msat` equal to 0, OR less than its own `htlc_minimum_msat`: SHOULD ' + OR,
    () => ({ amountMsat: 0n }),
    'warning_disconnect',
  ),
  add(
    'more than the peer has',
    'receiving an `amount_msat` that the sending node cannot afford at the current `feerate_per_kw`: SHOULD ' +
      OR,
    () => ({ amountMsat: 699_000_000n }),
    'warning_disconnect',
  ),
  add(
    'an expiry that is a time',
    'if sending node sets `cltv_expiry` to greater or equal to 500000000: SHOULD ' + OR,
    () => ({ cltvExpiry: 500_000_000 }),
    'warning_disconnect',
  ),
  {
    name: 'update_add_htlc: one more than max_accepted_htlcs',
    section: ADDING,
    sentence:
      'if a sending node adds more than receiver `max_accepted_htlcs` HTLCs to its local commitment transaction: SHOULD ' +
      OR,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      const first = scene.channel.changes.nextOutboundHtlcId;
      for (let i = 0n; i <= 30n; i += 1n)
        scene.send(
          make('update_add_htlc', {
            channelId: scene.channelId,
            id: first + i,
            amountMsat: 1_000_000n,
            paymentHash: new Uint8Array(32).fill(Number(i)),
            cltvExpiry: scene.height + 500,
            onionRoutingPacket: new Uint8Array(1_366),
            tlvs: {},
          }),
        );
    },
    reaction: 'warning_disconnect',
  },
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
    hears: ['revoke_and_ack'],
  },
  {
    name: 'update_add_htlc: the same id after a reconnection',
    section: ADDING,
    sentence:
      'if the sender did not previously acknowledge the commitment of that HTLC: MUST ignore a repeated `id` value after a reconnection.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.hostile.tamper = (message) => (message.type === 'commitment_signed' ? [] : [message]);
      scene.pay(AMOUNT_MSAT);
      await scene.pause(200);
      scene.hostile.tamper = (message) => [message];
      await scene.reconnect();
      await scene.until('the payment ends', () =>
        scene.hostile.payments.every(({ state }) => state === 'fulfilled'),
      );
    },
    reaction: 'ignore',
    hears: ['revoke_and_ack'],
  },
  removal('update_fulfill_htlc: an unknown id', UNKNOWN_ID, ({ channelId }, { id, preimage }) =>
    make('update_fulfill_htlc', { channelId, id: id + 7n, paymentPreimage: preimage, tlvs: {} }),
  ),
  removal(
    'update_fulfill_htlc: a wrong preimage',
    "if the `payment_preimage` value in `update_fulfill_htlc` doesn't SHA256 hash to the corresponding HTLC `payment_hash`: MUST " +
      OR,
    ({ channelId }, { id }) =>
      make('update_fulfill_htlc', { channelId, id, paymentPreimage: new Uint8Array(32).fill(1), tlvs: {} }),
  ),
  removal('update_fail_htlc: an unknown id', UNKNOWN_ID, ({ channelId }, { id }) =>
    make('update_fail_htlc', { channelId, id: id + 7n, reason: new Uint8Array(292), tlvs: {} }),
  ),
  removal('update_fail_malformed_htlc: an unknown id', UNKNOWN_ID, ({ channelId }, { id }) =>
    make('update_fail_malformed_htlc', {
      channelId,
      id: id + 7n,
      sha256OfOnion: new Uint8Array(32),
      failureCode: 0xc005,
    }),
  ),
  removal(
    'update_fail_malformed_htlc: without BADONION',
    'if the `BADONION` bit in `failure_code` is not set for `update_fail_malformed_htlc`: MUST ' + OR,
    ({ channelId }, { id }) =>
      make('update_fail_malformed_htlc', {
        channelId,
        id,
        sha256OfOnion: new Uint8Array(32),
        failureCode: 0x4005,
      }),
  ),
  ...(['spoiled', 'high-S'] as const).flatMap((kind) => {
    const change = kind === 'spoiled' ? spoiled : highS;
    return [
      commitment(
        `a ${kind} signature`,
        'if `signature` is not valid for its local commitment transaction OR non-compliant with LOW-S-standard rule: MUST ' +
          OR,
        ({ signature }) => ({ signature: change(signature) }),
      ),
      commitment(
        `a ${kind} HTLC signature`,
        'if any `htlc_signature` is not valid for the corresponding HTLC transaction OR non-compliant with LOW-S-standard rule: MUST ' +
          OR,
        ({ htlcSignatures }) => ({ htlcSignatures: htlcSignatures.map(change) }),
      ),
    ];
  }),
  commitment(
    'one HTLC signature too many',
    'if `num_htlcs` is not equal to the number of HTLC outputs in the local commitment transaction: MUST ' +
      OR,
    ({ signature, htlcSignatures }) => ({ htlcSignatures: [...htlcSignatures, signature] }),
  ),
  commitment(
    'no HTLC signature',
    'if `num_htlcs` is not equal to the number of HTLC outputs in the local commitment transaction: MUST ' +
      OR,
    () => ({ htlcSignatures: [] }),
  ),
  revocation('a secret of nothing', NO_SECRET, () => ({ perCommitmentSecret: new Uint8Array(32).fill(3) })),
  revocation('a secret that is no key', NO_SECRET, () => ({ perCommitmentSecret: new Uint8Array(32) })),
  {
    name: 'revoke_and_ack: nobody asked',
    section: REVOKING,
    sentence: NO_SECRET,
    stage: 'open_funded_by_peer',
    act: (scene) =>
      scene.send(
        make('revoke_and_ack', {
          channelId: scene.channelId,
          perCommitmentSecret: new Uint8Array(32).fill(3),
          nextPerCommitmentPoint: scene.hostile.node.signer.point(5n),
        }),
      ),
    reaction: 'error',
  },
  fee(
    'too low',
    'if the `update_fee` is too low for timely processing, OR is unreasonably large: MUST ' + OR,
    'open_funded_by_peer',
    100,
  ),
  fee(
    'unreasonably large',
    'if the `update_fee` is too low for timely processing, OR is unreasonably large: MUST ' + OR,
    'open_funded_by_peer',
    4_000_000_000,
  ),
  fee(
    'of who does not pay it',
    'if the sender is not responsible for paying the Bitcoin fee: MUST ' + OR,
    'open_funded_by_fleet',
    1_500,
  ),
];
