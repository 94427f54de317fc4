/** BOLT 2 "Batching channel messages": the commitment_signed that a start_batch announces reach the channel as one input. */
import { equalBytes } from '@fulmen/codec';
import { type Message, type MessageOf, messageType } from '@fulmen/wire';

/** BOLT 2: "If batch_size is strictly greater than 20: MUST send a warning and close the connection". */
const MAX_BATCH_SIZE = 20;

export type BatchStart =
  | { readonly type: 'begun'; readonly batch: CommitmentBatch }
  | { readonly type: 'ignored' }
  | { readonly type: 'ignored_with_warning'; readonly text: string }
  | { readonly type: 'refused'; readonly text: string };

export type BatchProgress =
  | { readonly type: 'incomplete' }
  | { readonly type: 'complete'; readonly messages: readonly MessageOf<'commitment_signed'>[] }
  | { readonly type: 'refused'; readonly text: string };

export class CommitmentBatch {
  readonly #channelId: Uint8Array;
  readonly #size: number;
  readonly #messages: MessageOf<'commitment_signed'>[] = [];

  private constructor(channelId: Uint8Array, size: number) {
    this.#channelId = channelId;
    this.#size = size;
  }

  static start(message: MessageOf<'start_batch'>): BatchStart {
    const { channelId, batchSize, tlvs } = message;
    // BOLT 2: "If message_type is missing or not set to the type for commitment_signed: MUST ignore the start_batch message
    // and process the following messages sequentially."
    if (tlvs.messageType !== messageType('commitment_signed')) return { type: 'ignored' };
    // BOLT 2: "If batch_size is not strictly greater than 1: MUST ignore the start_batch message. SHOULD send a warning."
    if (batchSize <= 1) return { type: 'ignored_with_warning', text: `start_batch of ${batchSize}` };
    if (batchSize > MAX_BATCH_SIZE) return { type: 'refused', text: `start_batch of ${batchSize}` };
    return { type: 'begun', batch: new CommitmentBatch(channelId, batchSize) };
  }

  get channelId(): Uint8Array {
    return this.#channelId;
  }

  /** BOLT 2: "MUST group the next batch_size messages and process them together." */
  take(message: Message): BatchProgress {
    // BOLT 2: "If one of those messages is not for the specified channel_id: MUST send a warning and close the connection".
    if (message.type !== 'commitment_signed' || !equalBytes(message.channelId, this.#channelId))
      return { type: 'refused', text: `${message.type} inside of a batch` };
    this.#messages.push(message);
    return this.#messages.length < this.#size
      ? { type: 'incomplete' }
      : { type: 'complete', messages: this.#messages };
  }
}
