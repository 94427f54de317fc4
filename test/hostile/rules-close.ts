/** BOLT 2, "Channel Close" and "Message Retransmission", as the receiver of each message. */
import { make, type MessageOf } from '@fulmen/wire';
import { type Rule, highS, spoiled } from './rule.ts';

type Reestablish = MessageOf<'channel_reestablish'>;

const SHUTDOWN = 'Closing Initiation: `shutdown`';
const CLOSING = 'Legacy Closing Negotiation: `closing_signed`';
const RETRANSMISSION = 'Message Retransmission';

/** The peer comes back with a channel_reestablish of its own making. */
function reestablish(
  name: string,
  sentence: string,
  change: (message: Reestablish) => Partial<Reestablish>,
  reaction: Rule['reaction'] = 'error',
): Rule {
  return {
    name: `channel_reestablish: ${name}`,
    section: RETRANSMISSION,
    sentence,
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      // Some numbers and secrets first.
      for (const amountMsat of [40_000_000n, 30_000_000n, 20_000_000n]) {
        scene.pay(amountMsat);
        await scene.until('a payment ends', () =>
          scene.hostile.payments.every(({ state }) => state === 'fulfilled'),
        );
        await scene.pause(300);
      }
      scene.change('channel_reestablish', (message) => ({ ...message, ...change(message) }));
      await scene.reconnect();
    },
    reaction,
  };
}

function closing(name: string, change: (signature: Uint8Array) => Uint8Array): Rule {
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

export const CLOSE_RULES: readonly Rule[] = [
  {
    name: 'shutdown: a script of no allowed form',
    section: SHUTDOWN,
    sentence: 'if the `scriptpubkey` is not in one of the above forms: SHOULD send a `warning`.',
    stage: 'open_funded_by_fleet',
    act: (scene) =>
      scene.send(
        make('shutdown', { channelId: scene.channelId, scriptpubkey: Uint8Array.from([0x51, 0x51, 0x51]) }),
      ),
    reaction: 'warning_disconnect',
  },
  {
    name: 'shutdown: another script than promised',
    section: SHUTDOWN,
    sentence:
      'if both nodes advertised the `option_upfront_shutdown_script` feature, and the receiving node received a non-zero-length `shutdown_scriptpubkey` in `open_channel` or `accept_channel`, and that `shutdown_scriptpubkey` is not equal to `scriptpubkey`: MAY send a `warning`. MUST fail the connection.',
    stage: 'open_funded_by_peer',
    act: (scene) =>
      scene.send(
        make('shutdown', {
          channelId: scene.channelId,
          scriptpubkey: Uint8Array.from([0, 20, ...new Uint8Array(20).fill(0x77)]),
        }),
      ),
    reaction: 'warning_disconnect',
  },
  closing('a spoiled signature', spoiled),
  closing('a high-S signature', highS),
  reestablish(
    'next_commitment_number of 0',
    'if `next_commitment_number` is zero: MUST immediately fail the channel and broadcast any relevant latest commitment transaction.',
    () => ({ nextCommitmentNumber: 0n }),
  ),
  reestablish(
    'a next_commitment_number from the future',
    'if `next_commitment_number` is not equal to the commitment number of the next `commitment_signed` that the receiving node would send: SHOULD send an `error` and fail the channel.',
    ({ nextCommitmentNumber }) => ({ nextCommitmentNumber: nextCommitmentNumber + 5n }),
  ),
  reestablish(
    'a next_revocation_number from the past',
    'if `next_revocation_number` is not equal to 1 greater than the commitment number of the last `revoke_and_ack` the receiving node has sent: SHOULD send an `error` and fail the channel.',
    ({ nextRevocationNumber }) => ({ nextRevocationNumber: nextRevocationNumber - 2n }),
  ),
  reestablish(
    'a wrong last secret',
    'if `your_last_per_commitment_secret` does not match the expected values: SHOULD send an `error` and fail the channel.',
    () => ({ yourLastPerCommitmentSecret: new Uint8Array(32).fill(9) }),
  ),
  reestablish(
    'the future, with a secret that proves nothing',
    'if `your_last_per_commitment_secret` does not match the expected values: SHOULD send an `error` and fail the channel.',
    ({ nextRevocationNumber }) => ({
      nextRevocationNumber: nextRevocationNumber + 3n,
      yourLastPerCommitmentSecret: new Uint8Array(32).fill(9),
    }),
  ),
  {
    name: 'channel_ready: once more',
    section: RETRANSMISSION,
    sentence: 'MUST ignore any redundant `channel_ready` it receives.',
    stage: 'open_funded_by_peer',
    act: (scene) =>
      scene.send(
        make('channel_ready', {
          channelId: scene.channelId,
          secondPerCommitmentPoint: scene.hostile.node.signer.point(1n),
          tlvs: {},
        }),
      ),
    reaction: 'ignore',
  },
];
