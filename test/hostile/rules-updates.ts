/** BOLT 2, "Normal Operation", as the receiver of each message. */
import type { MessageOf } from '@fulmen/wire';
import { make } from '@fulmen/wire';
import { type Rule, highS, spoiled } from './rule.ts';
import type { Wire } from './play.ts';
import type { Scene } from './scene.ts';

type Commitment = MessageOf<'commitment_signed'>;
type Revocation = MessageOf<'revoke_and_ack'>;

const REMOVING =
  'Removing an HTLC: `update_fulfill_htlc`, `update_fail_htlc`, and `update_fail_malformed_htlc`';
const COMMITTING = 'Committing Updates So Far: `commitment_signed`';
const REVOKING = 'Completing the Transition to the Updated State: `revoke_and_ack`';
const FEES = 'Updating Fees: `update_fee`';
const OR = 'send a `warning` and close the connection, or send an `error` and fail the channel.';
const AMOUNT_MSAT = 50_000_000n;

/** A removal of an HTLC of the fleet's. */
function removal(
  name: string,
  sentence: string,
  message: (scene: Scene, htlc: { readonly id: bigint; readonly preimage: Uint8Array }) => Wire,
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
