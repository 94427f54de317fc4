/** BOLT 2, "Closing Initiation: shutdown", as its receiver. */
import { p2trScript } from '@fulmen/bitcoin';
import { make } from '@fulmen/wire';
import type { Wire } from './play.ts';
import type { Rule } from './rule.ts';
import type { Scene } from './scene.ts';

const SHUTDOWN = 'Closing Initiation: `shutdown`';
const AMOUNT_MSAT = 50_000_000n;

const FORMS = 'if the `scriptpubkey` is not in one of the above forms: SHOULD send a `warning`.';
const EARLY =
  "if it hasn't received a `funding_signed` (if it is a funder) or a `funding_created` (if it is a fundee): SHOULD send an `error` and fail the channel.";
const REPLY =
  'once there are no outstanding updates on the peer, UNLESS it has already sent a `shutdown`: MUST reply to a `shutdown` message with a `shutdown`.';
const AFTER = 'MUST NOT send an `update_add_htlc` after a `shutdown`.';
const NO_UPDATE =
  'if no HTLCs remain in either commitment transaction (including dust HTLCs) and neither side has a pending `revoke_and_ack` to send: MUST NOT send any `update` message after that point.';

const shutdown = ({ channelId, hostile }: Scene, scriptpubkey?: Uint8Array): Wire =>
  make('shutdown', {
    channelId,
    scriptpubkey: scriptpubkey ?? hostile.channel?.shutdownScript ?? new Uint8Array(),
  });

const addOf = (scene: Scene): Wire =>
  make('update_add_htlc', {
    channelId: scene.channelId,
    id: scene.channel.changes.nextOutboundHtlcId,
    amountMsat: 1_000_000n,
    paymentHash: new Uint8Array(32).fill(9),
    cltvExpiry: scene.height + 500,
    onionRoutingPacket: new Uint8Array(1_366),
  });

/** A channel whose opening promised no script. */
const promisesNothing = (scene: Scene): void =>
  scene.change('open_channel', (message) => ({
    ...message,
    tlvs: { ...message.tlvs, upfrontShutdownScript: new Uint8Array(0) },
  }));

function form(name: string, script: readonly number[]): Rule {
  return {
    name: `shutdown: ${name}`,
    section: SHUTDOWN,
    sentence: FORMS,
    stage: 'open_funded_by_peer',
    prepare: promisesNothing,
    act: (scene) => scene.send(shutdown(scene, Uint8Array.from(script))),
    reaction: 'warning_disconnect',
    hears: ['warning: shutdown: scriptpubkey of no accepted form'],
  };
}

function simple(
  name: string,
  sentence: string,
  act: Rule['act'],
  outcome: Pick<Rule, 'reaction' | 'hears' | 'never' | 'stage'>,
): Rule {
  return { name: `shutdown: ${name}`, section: SHUTDOWN, sentence, act, ...outcome };
}

export const SHUTDOWN_RULES: readonly Rule[] = [
  form('a script of no allowed form', [0x51, 0x51, 0x51]),
  form('an empty script', []),
  form('OP_RETURN without option_simple_close', [0x6a, 6, 1, 2, 3, 4, 5, 6]),
  form('a script to a public key hash', [0x76, 0xa9, 20, ...new Uint8Array(20), 0x88, 0xac]),
  form('a witness program of one byte', [0x51, 1, 1]),
  {
    ...simple(
      'another script than promised',
      'if both nodes advertised the `option_upfront_shutdown_script` feature, and the receiving node received a non-zero-length `shutdown_scriptpubkey` in `open_channel` or `accept_channel`, and that `shutdown_scriptpubkey` is not equal to `scriptpubkey`: MAY send a `warning`. MUST fail the connection.',
      (scene) => scene.send(shutdown(scene, Uint8Array.from([0, 20, ...new Uint8Array(20).fill(0x77)]))),
      {
        stage: 'open_funded_by_peer',
        reaction: 'warning_disconnect',
      },
    ),
  },
  {
    ...simple(
      'taproot, where nothing was promised',
      '`OP_1` through `OP_16` inclusive, followed by a single push of 2 to 40 bytes (witness program versions 1 through 16)',
      (scene) => {
        scene.lose('shutdown');
        scene.send(shutdown(scene, p2trScript(new Uint8Array(32).fill(1))));
      },
      { stage: 'open_funded_by_peer', reaction: 'ignore', hears: ['shutdown'] },
    ),
    prepare: promisesNothing,
  },
  simple('of an idle channel', REPLY, ({ hostile }) => hostile.close(), {
    stage: 'open_funded_by_peer',
    reaction: 'closed',
    hears: ['shutdown', 'closing_signed'],
  }),
  simple(
    'with an HTLC under way',
    REPLY,
    async (scene) => {
      await scene.receive(AMOUNT_MSAT);
      scene.hostile.close();
    },
    { stage: 'open_funded_by_peer', reaction: 'ignore', hears: ['shutdown'], never: 'closing_signed' },
  ),
  simple(
    'before channel_ready',
    "if it hasn't sent a `channel_ready` yet: MAY reply to a `shutdown` message with a `shutdown`.",
    ({ hostile }) => hostile.close(),
    { stage: 'unconfirmed_by_peer', reaction: 'closed', hears: ['shutdown', 'closing_signed'] },
  ),
  simple(
    'before funding_created',
    EARLY,
    (scene) =>
      scene.change('funding_created', (message) => [
        make('shutdown', { channelId: message.temporaryChannelId, scriptpubkey: new Uint8Array(22) }),
      ]),
    { stage: 'opening_by_peer', reaction: 'error', hears: ['error: shutdown during the opening'] },
  ),
  simple(
    'in place of funding_signed',
    EARLY,
    (scene) =>
      scene.change('funding_signed', ({ channelId }) => [
        make('shutdown', { channelId, scriptpubkey: new Uint8Array(22) }),
      ]),
    { stage: 'opening_by_fleet', reaction: 'error', hears: ['error: shutdown during the opening'] },
  ),
  simple(
    'twice',
    'MUST NOT send multiple `shutdown` messages.',
    async (scene) => {
      await scene.receive(AMOUNT_MSAT);
      scene.send(shutdown(scene), shutdown(scene));
    },
    { stage: 'open_funded_by_peer', reaction: 'warning', hears: ['warning: a second shutdown'] },
  ),
  simple(
    'of an idle channel, twice',
    'MUST NOT send multiple `shutdown` messages.',
    (scene) => {
      scene.change('closing_signed', () => [], 'shutdown');
      scene.send(shutdown(scene), shutdown(scene));
    },
    { stage: 'open_funded_by_peer', reaction: 'warning', hears: ['shutdown', 'warning: a second shutdown'] },
  ),
  {
    ...simple(
      'and then update_add_htlc',
      AFTER,
      async (scene) => {
        await scene.receive(AMOUNT_MSAT);
        scene.send(shutdown(scene), addOf(scene));
      },
      {
        stage: 'open_funded_by_peer',
        reaction: 'warning_disconnect',
        hears: ['warning: update_add_htlc after shutdown'],
      },
    ),
  },
  simple(
    'of an idle channel, and then update_add_htlc',
    NO_UPDATE,
    (scene) => scene.send(shutdown(scene), addOf(scene)),
    {
      stage: 'open_funded_by_peer',
      reaction: 'warning_disconnect',
    },
  ),
  simple(
    'of an idle channel, and then update_fee',
    NO_UPDATE,
    (scene) =>
      scene.send(shutdown(scene), make('update_fee', { channelId: scene.channelId, feeratePerKw: 1_100 })),
    { stage: 'open_funded_by_peer', reaction: 'warning_disconnect' },
  ),
  {
    name: 'shutdown: once more after a reconnection',
    section: 'Message Retransmission',
    sentence: 'if it has sent a previous `shutdown`: MUST retransmit `shutdown`.',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      await scene.receive(AMOUNT_MSAT);
      scene.hostile.close();
      await scene.until('the fleet answers', () => scene.heard.some(({ type }) => type === 'shutdown'));
      scene.heard.length = 0;
      await scene.reconnect();
    },
    reaction: 'ignore',
    hears: ['channel_reestablish', 'shutdown'],
  },
];
