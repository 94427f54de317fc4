/** BOLT 2, "Message Retransmission", as the receiver of channel_reestablish and of what comes before it. */
import { make, type MessageOf } from '@fulmen/wire';
import { type Rule, spoiled } from './rule.ts';
import type { Scene } from './scene.ts';

type Reestablish = MessageOf<'channel_reestablish'>;

const RETRANSMISSION = 'Message Retransmission';
const AMOUNT_MSAT = 50_000_000n;

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

//MORE
export const REESTABLISH_RULES: readonly Rule[] = [
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
//ROWS
];
