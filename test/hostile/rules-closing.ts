/** BOLT 2, "Legacy Closing Negotiation: closing_signed", as its receiver. */
import { primaryFunding } from '@fulmen/channel';
import { buildClosingTransaction, closingSpec } from '@fulmen/channel/commitment/closing';
import { testSecrets } from '@fulmen/channel/testing/signer';
import { make, type MessageOf } from '@fulmen/wire';
import { type Rule, highS, spoiled } from './rule.ts';
import { type Scene, SceneError } from './scene.ts';

type ClosingSigned = MessageOf<'closing_signed'>;

const CLOSING = 'Legacy Closing Negotiation: `closing_signed`';
/** Longer than any reasonable amount of time. */
const LONG_MS = 200_000;

interface Offer {
  readonly feeSat: bigint;
  readonly range?: readonly [minFeeSat: bigint, maxFeeSat: bigint];
  /** What the transaction has for outputs; those above dust unless it says so. */
  readonly outputs?: 'both';
}

/** A closing_signed of the hostile peer's, properly signed. */
function offerOf(scene: Scene, { feeSat, range, outputs }: Offer): ClosingSigned {
  const { channel, hostile } = scene;
  const { phase, parameters } = channel;
  if (phase.type !== 'negotiating_closing' && phase.type !== 'closing_mutual')
    throw new SceneError(`no closing_signed in phase ${phase.type}`);
  const funding = primaryFunding(channel);
  const scripts = phase.type === 'closing_mutual' ? phase.closing : phase;
  const { holderBalanceMsat, counterpartyBalanceMsat } = funding;
  const { holderScript, counterpartyScript } = scripts;
  const built = buildClosingTransaction({
    funding,
    closing: closingSpec({
      funder: parameters.funder,
      holderBalanceMsat,
      counterpartyBalanceMsat,
      holderScript,
      counterpartyScript,
      feeSat,
    }),
    dustLimitSat: parameters.holder.dustLimitSat,
    ...(outputs === undefined ? {} : { outputs }),
  });
  if (!built.ok) throw new SceneError(built.error.type);
  const { node } = hostile;
  return make('closing_signed', {
    channelId: channel.channelId,
    feeSatoshis: feeSat,
    signature: node.secp.sign(built.value.sighash, testSecrets(node.name).funding),
    tlvs: range === undefined ? {} : { feeRange: { minFeeSatoshis: range[0], maxFeeSatoshis: range[1] } },
  });
}

/** The peer answers with one offer after another, whatever the fleet says; the last one again and again. */
function negotiation(
  name: string,
  sentence: string,
  stage: Rule['stage'],
  offers: (ordinary: ClosingSigned) => readonly Offer[],
  outcome: Pick<Rule, 'reaction' | 'hears' | 'never' | 'prepare' | 'check'>,
  patienceMs = 0,
): Rule {
  return {
    name: `closing_signed: ${name}`,
    section: CLOSING,
    sentence,
    stage,
    act: async (scene) => {
      let left: Offer[] | undefined;
      scene.change('closing_signed', (message) => {
        left ??= [...offers(message)];
        const next = left.shift();
        return next === undefined ? [] : offerOf(scene, next);
      });
      // What the fleet counters is answered here, and not by the peer's core.
      scene.hostile.receives = ({ type }) => {
        if (type !== 'closing_signed' || left === undefined) return true;
        const next = left.shift();
        if (next !== undefined) scene.send(offerOf(scene, next));
        return false;
      };
      scene.hostile.close();
      await scene.pause(patienceMs);
    },
    ...outcome,
  };
}

function signature(name: string, change: (signature: Uint8Array) => Uint8Array): Rule {
  return {
    name: `closing_signed: ${name}`,
    section: CLOSING,
    sentence:
      'if the `signature` is not valid for either variant of closing transaction OR non-compliant with LOW-S-standard rule: MUST send a `warning` and close the connection, or send an `error` and fail the channel.',
    stage: 'open_funded_by_peer',
    act: (scene) => {
      scene.change('closing_signed', (message) => ({ ...message, signature: change(message.signature) }));
      scene.hostile.close();
    },
    reaction: 'warning_disconnect',
  };
}

const feesHeard = ({ heard }: Scene): readonly bigint[] =>
  heard.flatMap(({ message }) => (message.type === 'closing_signed' ? [message.feeSatoshis] : []));

const NO_OVERLAP = 'if there is no overlap between that and its own `fee_range`: SHOULD send a warning.';
const BY_PEER = 'open_funded_by_peer';
const BY_FLEET = 'open_funded_by_fleet';

export const CLOSING_RULES: readonly Rule[] = [
  signature('a spoiled signature', spoiled),
  signature('a high-S signature', highS),
  negotiation(
    'the fee that the fleet proposed',
    'if `fee_satoshis` is equal to its previously sent `fee_satoshis`: SHOULD sign and broadcast the final closing transaction.',
    BY_FLEET,
    ({ feeSatoshis }) => [{ feeSat: feeSatoshis, range: [1n, 100_000n] }],
    {
      reaction: 'closed',
      check: (scene) => {
        if (!scene.hasOrdered('mutual_close')) throw new RangeError('nothing was broadcast');
      },
    },
  ),
  negotiation(
    'another fee that both ranges have, to the funder',
    'if it is the funder: otherwise: MUST reply with the same `fee_satoshis`.',
    BY_FLEET,
    ({ feeSatoshis }) => [{ feeSat: feeSatoshis + 100n, range: [1n, 100_000n] }],
    {
      reaction: 'closed',
      hears: ['closing_signed', 'closing_signed'],
      check: (scene) => {
        const [first, second] = feesHeard(scene);
        if (second !== (first ?? 0n) + 100n) throw new RangeError(`${first}, then ${second}`);
      },
    },
  ),
  negotiation(
    'a fee within the fleet’s own range, without one of its own',
    'if `fee_satoshis` matches its previously sent `fee_range`: SHOULD use `fee_satoshis` to sign and broadcast the final closing transaction.',
    BY_FLEET,
    ({ feeSatoshis }) => [{ feeSat: feeSatoshis + 50n }],
    { reaction: 'closed', hears: ['closing_signed', 'closing_signed'] },
  ),
  negotiation(
    'a fee outside of the overlap, to the funder',
    'if it is the funder: if `fee_satoshis` is not in the overlap between the sent and received `fee_range`: MUST fail the channel.',
    BY_FLEET,
    () => [{ feeSat: 50_000n, range: [1n, 100_000n] }],
    { reaction: 'error' },
  ),
  negotiation(
    'no overlap, to the funder',
    NO_OVERLAP,
    BY_FLEET,
    () => [{ feeSat: 50_000n, range: [40_000n, 60_000n] }],
    {
      reaction: 'warning',
    },
  ),
  negotiation('no overlap, to the fundee', NO_OVERLAP, BY_PEER, () => [{ feeSat: 5n, range: [1n, 10n] }], {
    reaction: 'warning',
  }),
  negotiation(
    'no overlap, for long',
    "MUST fail the channel if it doesn't receive a satisfying `fee_range` after a reasonable amount of time.",
    BY_PEER,
    () => [{ feeSat: 5n, range: [1n, 10n] }],
    { reaction: 'error', hears: ['warning', 'error'] },
    LONG_MS,
  ),
  negotiation(
    'none, for long',
    "if it doesn't receive a `closing_signed` response after a reasonable amount of time: MUST fail the channel.",
    BY_FLEET,
    () => [],
    { reaction: 'error' },
    LONG_MS,
  ),
  negotiation(
    'a fee below what relays, within a range that reaches further',
    'otherwise: MUST propose a `fee_satoshis` in the overlap between received and (about-to-be) sent `fee_range`.',
    BY_PEER,
    () => [{ feeSat: 5n, range: [1n, 5_000n] }],
    {
      reaction: 'ignore',
      hears: ['closing_signed'],
      check: (scene) => {
        const [fee] = feesHeard(scene);
        if (fee === undefined || fee <= 5n || fee > 5_000n) throw new RangeError(`proposed ${fee}`);
      },
    },
  ),
  negotiation(
    'another fee than the fundee has proposed',
    'if it has already sent a `closing_signed`: if `fee_satoshis` is not the same as the value it sent: MUST fail the channel.',
    BY_PEER,
    () => [
      { feeSat: 5n, range: [1n, 5_000n] },
      { feeSat: 6n, range: [1n, 5_000n] },
    ],
    { reaction: 'error', hears: ['closing_signed', 'error'] },
  ),
  negotiation(
    'a fee that the funder does not agree to, without a range',
    'otherwise: MUST propose a value "strictly between" the received `fee_satoshis` and its previously-sent `fee_satoshis`.',
    BY_FLEET,
    () => [{ feeSat: 9_000n }],
    {
      reaction: 'ignore',
      hears: ['closing_signed', 'closing_signed'],
      check: (scene) => {
        const [first, second] = feesHeard(scene);
        if (first === undefined || second === undefined || second <= first || second >= 9_000n)
          throw new RangeError(`${first}, then ${second}`);
      },
    },
  ),
  negotiation(
    'a fee that does not come nearer, without a range',
    'otherwise, if `fee_satoshis` is not strictly between its last-sent `fee_satoshis` and its previously-received `fee_satoshis`, UNLESS it has since reconnected: SHOULD send a `warning` and close the connection, or send an `error` and fail the channel.',
    BY_FLEET,
    () => [{ feeSat: 9_000n }, { feeSat: 9_500n }],
    { reaction: 'warning_disconnect', hears: ['closing_signed', 'closing_signed', 'warning'] },
  ),
  negotiation(
    'the same fee once more, without a range',
    'otherwise, if `fee_satoshis` is not strictly between its last-sent `fee_satoshis` and its previously-received `fee_satoshis`, UNLESS it has since reconnected: SHOULD send a `warning` and close the connection, or send an `error` and fail the channel.',
    BY_FLEET,
    () => [{ feeSat: 9_000n }, { feeSat: 9_000n }],
    { reaction: 'warning_disconnect', hears: ['closing_signed', 'closing_signed', 'warning'] },
  ),
  negotiation(
    'an output of dust',
    'if one of the outputs in the closing transaction is below the dust limit for its `scriptpubkey`: MUST fail the channel.',
    BY_FLEET,
    ({ feeSatoshis }) => [{ feeSat: feeSatoshis, outputs: 'both' }],
    {
      reaction: 'error',
      prepare: (scene) => {
        scene.pushMsat = 280_000n;
      },
    },
  ),
  {
    name: 'closing_signed: more than the funder has',
    section: CLOSING,
    sentence:
      'if the `signature` is not valid for either variant of closing transaction OR non-compliant with LOW-S-standard rule: MUST send a `warning` and close the connection, or send an `error` and fail the channel.',
    stage: BY_PEER,
    act: (scene) => {
      scene.change('closing_signed', (message) => ({ ...message, feeSatoshis: 700_001n }));
      scene.hostile.close();
    },
    reaction: 'warning_disconnect',
    hears: ['warning: closing_signed: the funder cannot pay the fee'],
  },
  {
    name: 'closing_signed: before any shutdown',
    section: CLOSING,
    sentence:
      'after `shutdown` has been received, AND no HTLCs remain in either commitment transaction: SHOULD send a `closing_signed` message.',
    stage: BY_PEER,
    shares: 'its_stage',
    act: (scene) =>
      scene.send(
        make('closing_signed', {
          channelId: scene.channelId,
          feeSatoshis: 1_000n,
          signature: new Uint8Array(64).fill(1),
        }),
      ),
    reaction: 'warning_disconnect',
  },
  {
    name: 'closing_signed: after a reconnection update_fee in its place',
    section: 'Closing Initiation: `shutdown`',
    sentence:
      'if no HTLCs remain in either commitment transaction (including dust HTLCs) and neither side has a pending `revoke_and_ack` to send: MUST NOT send any `update` message after that point.',
    stage: BY_PEER,
    act: async (scene) => {
      scene.change('closing_signed', () => offerOf(scene, { feeSat: 5n, range: [1n, 5_000n] }));
      scene.lose('closing_signed');
      scene.hostile.close();
      await scene.until('the fleet answers', () => scene.heard.some(({ type }) => type === 'closing_signed'));
      scene.heard.length = 0;
      scene.change('shutdown', () => [], 'closing_signed');
      await scene.reconnect();
      await scene.until('the fleet is back', () => scene.heard.some(({ type }) => type === 'shutdown'));
      scene.send(make('update_fee', { channelId: scene.channelId, feeratePerKw: 1_100 }));
    },
    reaction: 'warning_disconnect',
    hears: ['warning: update_fee after the last update'],
  },
  {
    name: 'closing_signed: anew after a reconnection',
    section: 'Message Retransmission',
    sentence: 'if it has sent a previous `shutdown`: MUST retransmit `shutdown`.',
    stage: BY_FLEET,
    act: async (scene) => {
      scene.lose('closing_signed');
      scene.hostile.close();
      await scene.until('the fleet offers', () => scene.heard.some(({ type }) => type === 'closing_signed'));
      scene.heard.length = 0;
      scene.behave();
      await scene.reconnect();
    },
    reaction: 'closed',
    hears: ['channel_reestablish', 'shutdown', 'closing_signed'],
  },
];
