/**
 * What the fleet did of its own accord in a recorded conversation, as commands for the channel's core. Their content is
 * read from the recorded messages: which HTLC was offered when, its onion, when there was a commit, the alias, the
 * funding transaction, a feerate.
 */
import {
  type ChannelContext,
  type ChannelInput,
  type ChannelState,
  type ClosingFeerates,
  decodeChannelType,
  type NegotiatedFeatures,
  openChannel,
  type PeerMessage,
  primaryFunding,
  type StepResult,
} from '@fulmen/channel';
import { closingFeeSat } from '@fulmen/channel/commitment/closing';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { toHex } from '@fulmen/codec';
import { decodeMessage, type Message, type MessageOf, shortChannelId } from '@fulmen/wire';
import type { Conversation } from './conversation.ts';
import { isEstablished, type ReplaySigner } from './signer.ts';

const ANNOUNCEMENT_DEPTH = 6;

export class Commands {
  readonly #conversation: Conversation;
  readonly #channelId: string;
  readonly #signer: ReplaySigner;
  readonly #context: ChannelContext;

  constructor(conversation: Conversation, channelId: string, signer: ReplaySigner, context: ChannelContext) {
    this.#conversation = conversation;
    this.#channelId = channelId;
    this.#signer = signer;
    this.#context = context;
  }

  /** What makes the fleet say this of its own accord; undefined for answers. */
  input(state: ChannelState, message: PeerMessage): ChannelInput | undefined {
    switch (message.type) {
      case 'funding_created': {
        const { fundingTxid, fundingOutputIndex } = message;
        return { type: 'funding_transaction_created', fundingTxid, fundingOutputIndex };
      }
      case 'channel_ready':
        return isEstablished(state) ? this.#confirmed(state, state.minimumDepth) : undefined;
      case 'announcement_signatures':
        return isEstablished(state) ? this.#confirmed(state, ANNOUNCEMENT_DEPTH) : undefined;
      case 'update_add_htlc': {
        const { amountMsat, paymentHash, onionRoutingPacket } = message;
        const cltvExpiryHeight = message.cltvExpiry;
        return { type: 'add_htlc', amountMsat, paymentHash, cltvExpiryHeight, onionRoutingPacket };
      }
      case 'update_fulfill_htlc':
        return { type: 'fulfil_htlc', id: message.id, preimage: message.paymentPreimage };
      case 'update_fail_htlc':
        return { type: 'fail_htlc', id: message.id, reason: message.reason };
      case 'update_fail_malformed_htlc': {
        const { id, sha256OfOnion, failureCode } = message;
        return { type: 'fail_malformed_htlc', id, sha256OfOnion, failureCode };
      }
      case 'update_fee':
        return { type: 'update_fee', feerateSatPerKw: message.feeratePerKw };
      case 'commitment_signed':
        return { type: 'commit' };
      case 'shutdown':
        return { type: 'shutdown', ...this.#closingFeerates(state, message) };
      // Answers, and what a force close says: never the first word.
      case 'open_channel':
      case 'accept_channel':
      case 'funding_signed':
      case 'revoke_and_ack':
      case 'channel_reestablish':
      case 'closing_signed':
      case 'stfu':
      case 'error':
      case 'warning':
        return undefined;
    }
  }

  /** The feerate that the operator asked for, where the first offer is not what the estimates make. */
  #closingFeerates(
    state: ChannelState,
    { scriptpubkey }: MessageOf<'shutdown'>,
  ): { readonly feerates?: ClosingFeerates } {
    if (!isEstablished(state) || state.parameters.funder !== 'holder') return {};
    const offered = this.messages('closing_signed', 'out')[0]?.feeSatoshis;
    const theirs = this.messages('shutdown', 'in')[0]?.scriptpubkey;
    if (offered === undefined || theirs === undefined) return {};
    const feeSat = (feerateSatPerKw: number): bigint =>
      closingFeeSat([scriptpubkey, theirs], feerateSatPerKw);
    if (feeSat(this.#context.feerates.closeTargetSatPerKw) === offered) return {};
    const targetSatPerKw = Math.floor(Number((offered * 1_000_000n) / feeSat(1_000_000)));
    return { feerates: { targetSatPerKw } };
  }

  /** The operator opens a channel. */
  open(features: NegotiatedFeatures | undefined, message: MessageOf<'open_channel'>): StepResult | undefined {
    const channelType = decodeChannelType(message.tlvs.channelType ?? new Uint8Array(0));
    if (channelType === undefined || features === undefined) return undefined;
    return openChannel(this.#context, {
      temporaryChannelId: message.temporaryChannelId,
      counterpartyNodeId: this.#conversation.counterpartyNodeId,
      keys: this.#signer.holderKeys,
      features,
      fundingSat: message.fundingSatoshis,
      pushMsat: message.pushMsat,
      feerateSatPerKw: message.feeratePerKw,
      announce: (message.channelFlags & 1) !== 0,
      channelType,
      shutdownScript: this.#signer.shutdownScript,
      ...this.alias(),
    });
  }

  /** The chain shows the funding output; where, the announcement tells, if there is one. */
  #confirmed(state: Extract<ChannelState, { type: 'established' }>, depth: number): ChannelInput {
    const funding = primaryFunding(state);
    const announced = this.messages('announcement_signatures')[0]?.shortChannelId;
    const place =
      announced === undefined ? { blockHeight: 1, transactionIndex: 1 } : shortChannelId.parts(announced);
    return {
      type: 'funding_confirmed',
      fundingTxid: funding.fundingTxid,
      fundingOutputIndex: funding.fundingOutputIndex,
      valueSat: funding.fundingValueSat,
      scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
      depth,
      blockHeight: place.blockHeight,
      transactionIndex: place.transactionIndex,
    };
  }

  /** The alias that the fleet drew, as its channel_ready says it. */
  alias(): { readonly aliasScid?: bigint } {
    const alias = this.messages('channel_ready', 'out').find(
      (ready) => toHex(ready.channelId) === this.#channelId,
    )?.tlvs.shortChannelId;
    return alias === undefined ? {} : { aliasScid: alias };
  }

  /** All recorded messages of a name. */
  messages<N extends Message['type']>(name: N, direction?: 'in' | 'out'): readonly MessageOf<N>[] {
    return this.#conversation.lines.flatMap((line) => {
      if (line.direction === 'end' || (direction !== undefined && line.direction !== direction)) return [];
      const decoded = decodeMessage(line.message);
      // The name selects the type.
      return decoded.ok && decoded.value.type === name ? [decoded.value as MessageOf<N>] : [];
    });
  }
}
