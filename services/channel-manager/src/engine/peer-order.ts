/**
 * Messages that no honest peer can send yet, or again. The core answers each message at once; that the answer is not on its
 * way before the turn ends, and which messages the connection brought before, only the shell knows.
 */
import type { ChannelError, ChannelInput, ChannelState, OutboundMessage } from '@fulmen/channel';
import { isClosing } from '@fulmen/channel/close/force';

/** Of the peer's channel_reestablish, on the present connection. */
export type Reestablish = 'awaited' | 'heard' | 'heard_again';

export class PeerOrder {
  #reestablish: Reestablish;

  constructor(reestablish: Reestablish) {
    this.#reestablish = reestablish;
  }

  get reestablish(): Reestablish {
    return this.#reestablish;
  }

  /** A connection begins or ends. */
  forgetConnection(): void {
    this.#reestablish = 'awaited';
  }

  /** @param unsent what the turn has to say so far */
  check(
    input: ChannelInput,
    state: ChannelState,
    unsent: readonly OutboundMessage[],
  ): ChannelError | undefined {
    if (input.type === 'message' && input.message.type === 'channel_reestablish') return this.#heard();
    return isCommitment(input) && owesRevocation(state, unsent)
      ? outOfOrder('commitment_signed before the revoke_and_ack for the one before')
      : undefined;
  }

  /**
   * BOLT 2: "MUST transmit channel_reestablish for each channel", which is once for a connection. Whatever state the channel
   * is in, the next one costs the connection: each may need a point that the signer is asked for, and asks for an answer.
   */
  #heard(): ChannelError | undefined {
    const before = this.#reestablish;
    this.#reestablish = before === 'awaited' ? 'heard' : 'heard_again';
    const message = 'a second channel_reestablish';
    if (before === 'heard') return outOfOrder(message);
    return before === 'heard_again' ? { code: 'unexpected_message', reaction: 'ignore', message } : undefined;
  }
}

/**
 * Whether the peer's last commitment_signed is not answered yet: the revoke_and_ack leaves with this turn, or is held.
 * BOLT 2, of revoke_and_ack: "MUST set next_per_commitment_point to the values for its next commitment transaction".
 * Whoever signs that one before has not waited for its point, and the signer validates none before the last is revoked.
 */
function owesRevocation(state: ChannelState, unsent: readonly OutboundMessage[]): boolean {
  if (state.type !== 'established' || isClosing(state)) return false;
  const { durability } = state.monitor;
  return (
    (durability.type === 'in_progress' && durability.owed.revokeAndAck) ||
    unsent.some(({ kind }) => kind === 'revoke_and_ack')
  );
}

function isCommitment(input: ChannelInput): boolean {
  return (
    input.type === 'commitment_signed_batch' ||
    (input.type === 'message' && input.message.type === 'commitment_signed')
  );
}

function outOfOrder(message: string): ChannelError {
  return { code: 'unexpected_message', reaction: 'warning_disconnect', message };
}
