/** Fixes a channel's parameters with the signer, once and for life. */
import {
  channelIdOf,
  type ChannelParameters,
  type ChannelState,
  type EstablishedChannel,
  type Funding,
  type OutboundMessage,
  type PartyParameters,
  primaryFunding,
} from '@fulmen/channel';
import { InternalError } from '@fulmen/codec';
import type { Party, RegisterChannelRequest } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { Fence } from '@fulmen/store';
import type { ChannelActor } from './channel-actor.ts';
import type { EnginePorts } from './ports.ts';

const RETRY_MS = 100;

type RegisteredFunding = Pick<
  Funding,
  | 'fundingTxid'
  | 'fundingOutputIndex'
  | 'fundingValueSat'
  | 'holderFundingPubkey'
  | 'counterpartyFundingPubkey'
>;

export class Registration {
  readonly #ports: EnginePorts;

  constructor(ports: EnginePorts) {
    this.#ports = ports;
  }

  async established(actor: ChannelActor, state: EstablishedChannel): Promise<void> {
    await this.#register(actor, registrationOf(state, actor.fence));
  }

  /** The funder signs the counterparty's first commitment before the channel is established. */
  async opening(
    actor: ChannelActor,
    state: ChannelState,
    messages: readonly OutboundMessage[],
  ): Promise<void> {
    const request = openingRegistrationOf(state, messages, actor.fence);
    if (request !== undefined) await this.#register(actor, request);
  }

  /** An identical retry succeeds, so this repeats while the signer is away. */
  async #register(actor: ChannelActor, request: RegisterChannelRequest): Promise<void> {
    while (!actor.stopped) {
      try {
        await this.#ports.signer.registerChannel(request);
        return;
      } catch (error) {
        const isAway =
          error instanceof RpcError && (error.code === 'unavailable' || error.code === 'deadline_exceeded');
        if (!isAway) throw new InternalError('the signer refuses to register a channel', { cause: error });
        await this.#ports.runtime.sleep(RETRY_MS);
      }
    }
  }
}

/** What the signer is told of a channel that exists. */
export function registrationOf(state: EstablishedChannel, fence: Fence): RegisterChannelRequest {
  return requestOf(state.parameters, state.channelId, primaryFunding(state), fence);
}

/** What the funder's signer is told before it signs the counterparty's first commitment; undefined at any other time. */
export function openingRegistrationOf(
  state: ChannelState,
  messages: readonly OutboundMessage[],
  fence: Fence,
): RegisterChannelRequest | undefined {
  const created = messages.find((message) => message.kind === 'funding_created');
  if (state.type !== 'opening' || state.phase.type !== 'awaiting_funding_signed' || created === undefined)
    return undefined;
  const { terms, phase } = state;
  const { fundingTxid, fundingOutputIndex } = created;
  const parameters: ChannelParameters = {
    channelKeysId: terms.channelKeysId,
    counterpartyNodeId: terms.counterpartyNodeId,
    funder: 'holder',
    commitmentFormat: terms.commitmentFormat,
    channelType: terms.channelType,
    announce: terms.announce,
    holder: terms.holder,
    counterparty: phase.counterparty.parameters,
  };
  const funding = {
    fundingTxid,
    fundingOutputIndex,
    fundingValueSat: terms.fundingSat,
    holderFundingPubkey: terms.holder.fundingPubkey,
    counterpartyFundingPubkey: phase.counterparty.parameters.fundingPubkey,
  };
  return requestOf(parameters, channelIdOf(fundingTxid, fundingOutputIndex), funding, fence);
}

function requestOf(
  parameters: ChannelParameters,
  channelId: Uint8Array,
  funding: RegisteredFunding,
  fence: Fence,
): RegisterChannelRequest {
  const { fundingTxid, fundingOutputIndex, fundingValueSat, holderFundingPubkey, counterpartyFundingPubkey } =
    funding;
  return {
    channelKeysId: parameters.channelKeysId,
    channelId,
    counterpartyNodeId: parameters.counterpartyNodeId,
    holderIsFunder: parameters.funder === 'holder',
    commitmentFormat: parameters.commitmentFormat,
    holder: partyOf(parameters.holder),
    counterparty: partyOf(parameters.counterparty),
    funding: {
      fundingTxid,
      fundingOutputIndex,
      fundingValueSat,
      holderFundingPubkey,
      counterpartyFundingPubkey,
    },
    shard: fence.shard,
    epoch: fence.epoch,
    channelType: parameters.channelType,
    announce: parameters.announce,
    restored: false,
  };
}

function partyOf(party: PartyParameters): Party {
  const { upfrontShutdownScript, ...rest } = party;
  return { ...rest, upfrontShutdownScript };
}
