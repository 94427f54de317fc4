/** BOLT 2, "Batching channel messages", "Committing Updates So Far", `revoke_and_ack` and `update_fee`, as the receiver of each. */
import { encodeMessage, make, type MessageOf } from '@fulmen/wire';
import { type Rule, highS, spoiled } from './rule.ts';
import type { Scene } from './scene.ts';

type Commitment = MessageOf<'commitment_signed'>;
type Revocation = MessageOf<'revoke_and_ack'>;

const BATCHING = 'Batching channel messages';
const COMMITTING = 'Committing Updates So Far: `commitment_signed`';
const REVOKING = 'Completing the Transition to the Updated State: `revoke_and_ack`';
const FEES = 'Updating Fees: `update_fee`';
const OR = 'send a `warning` and close the connection, or send an `error` and fail the channel.';
const AMOUNT_MSAT = 50_000_000n;
const COMMITMENT_SIGNED = 132;

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
  reaction: Rule['reaction'] = 'error',
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
    reaction,
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

/** The peer's next commitment_signed goes out as a batch of its making. */
function batch(
  name: string,
  sentence: string,
  batchOf: (
    message: Commitment,
    scene: Scene,
  ) => readonly (MessageOf<'start_batch'> | Commitment | MessageOf<'update_fee'>)[],
  outcome: Pick<Rule, 'reaction' | 'hears' | 'never'>,
): Rule {
  return {
    name: `start_batch: ${name}`,
    section: BATCHING,
    sentence,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('commitment_signed', (message) => {
        scene.behave();
        return batchOf(message, scene).map(encodeMessage);
      });
      scene.pay(AMOUNT_MSAT);
    },
    ...outcome,
  };
}

const start = (
  { channelId }: Commitment,
  batchSize: number,
  messageType: number | undefined = COMMITMENT_SIGNED,
) => make('start_batch', { channelId, batchSize, tlvs: messageType === 0 ? {} : { messageType } });
const ofAnotherFunding = (message: Commitment): Commitment => ({
  ...message,
  signature: spoiled(message.signature),
  tlvs: { fundingTxid: new Uint8Array(32).fill(4) },
});
const ACCEPTED = { reaction: 'ignore', hears: ['revoke_and_ack', 'update_fulfill_htlc'] } as const;

const NO_SECRET =
  'if `per_commitment_secret` is not a valid secret key or does not generate the previous `per_commitment_point`: MUST send an `error` and fail the channel.';
const NO_FEERATE =
  'if the `update_fee` is too low for timely processing, OR is unreasonably large: MUST ' + OR;
const HTLC_COUNT =
  'if `num_htlcs` is not equal to the number of HTLC outputs in the local commitment transaction: MUST ' + OR;
const NO_UPDATES = 'MUST NOT send a `commitment_signed` message that does not include any updates.';

export const COMMIT_RULES: readonly Rule[] = [
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
  commitment('one HTLC signature too many', HTLC_COUNT, ({ signature, htlcSignatures }) => ({
    htlcSignatures: [...htlcSignatures, signature],
  })),
  commitment('no HTLC signature', HTLC_COUNT, () => ({ htlcSignatures: [] })),
  commitment(
    'for another funding',
    'If `commitment_signed` is missing for the current funding transaction: MUST send an `error` and fail the channel.',
    () => ({ tlvs: { fundingTxid: new Uint8Array(32).fill(4) } }),
  ),
  {
    name: 'commitment_signed: in order',
    section: COMMITTING,
    sentence: 'Otherwise: MUST respond with a `revoke_and_ack` message.',
    stage: 'open_funded_by_peer',
    act: (scene) => void scene.pay(AMOUNT_MSAT),
    ...ACCEPTED,
  },
  {
    name: 'commitment_signed: without any update',
    section: COMMITTING,
    sentence: NO_UPDATES,
    stage: 'open_funded_by_peer',
    shares: 'its_stage',
    act: (scene) =>
      scene.send(
        make('commitment_signed', {
          channelId: scene.channelId,
          signature: new Uint8Array(64).fill(1),
          htlcSignatures: [],
        }),
      ),
    reaction: 'warning_disconnect',
  },
  {
    name: 'commitment_signed: the same once more',
    section: COMMITTING,
    sentence: NO_UPDATES,
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('commitment_signed', (message) => {
        scene.behave();
        return [message, message];
      });
      scene.pay(AMOUNT_MSAT);
    },
    reaction: 'warning_disconnect',
  },
  batch(
    'of one',
    'If `batch_size` is not strictly greater than 1: MUST ignore the `start_batch` message. SHOULD send a `warning`.',
    (message) => [start(message, 1), message],
    { reaction: 'warning', hears: ['warning', 'revoke_and_ack', 'update_fulfill_htlc'] },
  ),
  batch(
    'of 21',
    'If `batch_size` is strictly greater than 20: MUST ' + OR,
    (message) => [start(message, 21), message],
    {
      reaction: 'warning_disconnect',
      hears: ['warning', 'channel_reestablish', 'revoke_and_ack'],
    },
  ),
  batch(
    'without message_type',
    'If `message_type` is missing or not set to the type for `commitment_signed`: MUST ignore the `start_batch` message and process the following messages sequentially.',
    (message) => [start(message, 2, 0), message],
    ACCEPTED,
  ),
  batch(
    'of another message_type',
    'If `message_type` is missing or not set to the type for `commitment_signed`: MUST ignore the `start_batch` message and process the following messages sequentially.',
    (message) => [start(message, 2, 128), message],
    ACCEPTED,
  ),
  batch(
    'another message inside',
    'If one of those messages is not for the specified `channel_id`: MUST ' + OR,
    (message) => [
      start(message, 2),
      message,
      make('update_fee', { channelId: message.channelId, feeratePerKw: 1_000 }),
    ],
    { reaction: 'warning_disconnect', hears: ['warning', 'channel_reestablish', 'revoke_and_ack'] },
  ),
  batch(
    'another channel inside',
    'If one of those messages is not for the specified `channel_id`: MUST ' + OR,
    (message) => [start(message, 2), { ...message, channelId: new Uint8Array(32).fill(3) }, message],
    { reaction: 'warning_disconnect', hears: ['warning', 'channel_reestablish', 'revoke_and_ack'] },
  ),
  batch(
    'incomplete',
    'MUST group the next `batch_size` messages and process them together.',
    (message) => [start(message, 2), message],
    { reaction: 'ignore', never: 'revoke_and_ack' },
  ),
  batch(
    'one of them for another funding',
    'MUST ignore `commitment_signed` where `funding_txid` does not match the current funding transaction.',
    (message) => [start(message, 2), ofAnotherFunding(message), message],
    ACCEPTED,
  ),
  batch(
    'none for the funding',
    'If `commitment_signed` is missing for the current funding transaction: MUST send an `error` and fail the channel.',
    (message) => [start(message, 2), ofAnotherFunding(message), ofAnotherFunding(message)],
    { reaction: 'error' },
  ),
  batch(
    'without funding_txid',
    'If `funding_txid` is missing in one of the `commitment_signed` messages: MUST send an `error` and fail the channel.',
    (message) => [start(message, 2), { ...message, tlvs: {} }, message],
    { reaction: 'error', hears: ['error: commitment_signed without funding_txid in a batch'] },
  ),
  revocation('a secret of nothing', NO_SECRET, () => ({ perCommitmentSecret: new Uint8Array(32).fill(3) })),
  revocation('a secret that is no key', NO_SECRET, () => ({ perCommitmentSecret: new Uint8Array(32) })),
  revocation(
    'a next point that is on no curve',
    'MUST set `next_per_commitment_point` to the values for its next commitment transaction.',
    () => ({ nextPerCommitmentPoint: Uint8Array.from([2, ...new Uint8Array(32).fill(0xff)]) }),
  ),
  revocation(
    'a next point that is no point',
    'MUST set `next_per_commitment_point` to the values for its next commitment transaction.',
    () => ({ nextPerCommitmentPoint: new Uint8Array(33).fill(5) }),
    'warning_disconnect',
  ),
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
  {
    name: 'revoke_and_ack: a secret that another seed made',
    section: REVOKING,
    sentence: 'if the `per_commitment_secret` was not generated by the protocol in BOLT #3: MAY ' + OR,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      // From here on its points are those of secrets without a common seed, and so are the secrets.
      const { signer, secp } = scene.hostile.node;
      const loose = (number: bigint): Uint8Array => new Uint8Array(32).fill(Number(number) + 0x20);
      const point = signer.point.bind(signer);
      const release = signer.release.bind(signer);
      signer.point = (number) => (number < 2n ? point(number) : secp.publicKeyOf(loose(number)));
      signer.release = (number) => ({
        ...release(number),
        ...(number < 2n ? {} : { perCommitmentSecret: loose(number) }),
      });
      for (const amountMsat of [30_000_000n, 20_000_000n]) {
        scene.pay(amountMsat);
        await scene.pause(1_000);
      }
    },
    reaction: 'error',
    hears: ['error: revoke_and_ack: the secret is not from the same seed'],
  },
  fee('too low', NO_FEERATE, 'open_funded_by_peer', 100),
  fee('unreasonably large', NO_FEERATE, 'open_funded_by_peer', 4_000_000_000),
  fee(
    'of who does not pay it',
    'if the sender is not responsible for paying the Bitcoin fee: MUST ' + OR,
    'open_funded_by_fleet',
    1_500,
  ),
  {
    name: 'update_fee: more than the sender can afford',
    section: FEES,
    sentence:
      "if the sender cannot afford the new fee rate on the receiving node's current commitment transaction: SHOULD " +
      OR,
    stage: 'open_funded_by_peer',
    // The funder has 50,000 sat, 10,000 of them the reserve.
    prepare: (scene) => {
      scene.pushMsat = 950_000_000n;
    },
    act: (scene) => scene.send(make('update_fee', { channelId: scene.channelId, feeratePerKw: 40_000 })),
    reaction: 'warning_disconnect',
    hears: ['warning: update_fee: feerate cannot be afforded'],
  },
  {
    name: 'update_fee: forgotten by a reconnection',
    section: 'Message Retransmission',
    sentence:
      'MUST reverse any uncommitted updates sent by the other side (i.e. all messages beginning with `update_` for which no `commitment_signed` has been received).',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      scene.send(make('update_fee', { channelId: scene.channelId, feeratePerKw: 2_000 }));
      await scene.pause(50);
      await scene.reconnect();
      // Its signature is for the feerate that was.
      await scene.payThrough(AMOUNT_MSAT);
    },
    ...ACCEPTED,
  },
];
