/**
 * From a turn's messages to one signer item, and from the signer's answer back
 * to messages. A step of a channel asks the signer once, whatever the number
 * of its HTLCs.
 */
import type { CommitmentSpec, OutboundMessage, PeerMessage, SignerWork } from '@fulmen/channel';
import { assertNever, InternalError } from '@fulmen/codec';
import type { CommitmentSpec as ProtoSpec, SignItem, SignSuccess } from '@fulmen/proto/signer/v1/signer';
import type { Fence } from '@fulmen/store';
import { make } from '@fulmen/wire';

export function protoSpec(spec: CommitmentSpec): ProtoSpec {
  return {
    commitmentNumber: spec.commitmentNumber,
    feerateSatPerKw: spec.feerateSatPerKw,
    toHolderMsat: spec.toHolderMsat,
    toCounterpartyMsat: spec.toCounterpartyMsat,
    htlcs: spec.htlcs.map((htlc) => ({
      outbound: htlc.direction === 'outbound',
      id: htlc.id,
      amountMsat: htlc.amountMsat,
      paymentHash: htlc.paymentHash,
      cltvExpiryHeight: htlc.cltvExpiryHeight,
    })),
  };
}

export interface SignRequest {
  readonly channelKeysId: Uint8Array;
  readonly fence: Fence;
  readonly work: SignerWork;
  readonly messages: readonly OutboundMessage[];
  /** Ephemeral keys of newly committed HTLCs' onions. */
  readonly ecdhKeys: readonly Uint8Array[];
}

/** The item for a turn, or undefined when it needs no signer. A revocation alone waits for the next call. */
export function signItemOf(request: SignRequest): SignItem | undefined {
  const { work, messages } = request;
  let release: bigint | undefined;
  let commitment: { spec: CommitmentSpec; counterpartyPerCommitmentPoint: Uint8Array } | undefined;
  for (const message of messages) {
    if (message.kind === 'revoke_and_ack') release = message.revokedNumber;
    if (
      message.kind === 'commitment_signed' ||
      message.kind === 'funding_created' ||
      message.kind === 'funding_signed'
    )
      commitment = message;
  }
  if (
    work.holderCommitment === undefined &&
    release === undefined &&
    commitment === undefined &&
    request.ecdhKeys.length === 0
  )
    return undefined;
  return {
    channelKeysId: request.channelKeysId,
    shard: request.fence.shard,
    epoch: request.fence.epoch,
    revocations: work.counterpartyRevocations.map(({ commitmentNumber, secret }) => ({
      commitmentNumber,
      secret,
    })),
    holderCommitment:
      work.holderCommitment === undefined
        ? undefined
        : {
            spec: protoSpec(work.holderCommitment.spec),
            signatures: work.holderCommitment.signatures.map(
              ({ fundingTxid, signature, htlcSignatures }) => ({
                fundingTxid,
                signature,
                htlcSignatures: [...htlcSignatures],
              }),
            ),
          },
    releaseSecretNumber: release,
    counterpartyCommitment:
      commitment === undefined
        ? undefined
        : { spec: protoSpec(commitment.spec), perCommitmentPoint: commitment.counterpartyPerCommitmentPoint },
    ecdhs: request.ecdhKeys.map((publicKey) => ({ publicKey, tweak: undefined })),
  };
}

/** Points of the holder's commitments, as the signer gave them. */
export class HolderPoints {
  readonly #points = new Map<bigint, Uint8Array>();

  add(firstNumber: bigint, points: readonly Uint8Array[]): void {
    points.forEach((point, index) => this.#points.set(firstNumber + BigInt(index), point));
    for (const number of this.#points.keys()) if (number + 1n < firstNumber) this.#points.delete(number);
  }

  get(number: bigint): Uint8Array | undefined {
    return this.#points.get(number);
  }
}

/** Answers of other signer calls that a message may need. */
export interface OtherSignatures {
  readonly closing: (message: Extract<OutboundMessage, { kind: 'closing_signed' }>) => Promise<Uint8Array>;
  readonly announcement: (
    message: Extract<OutboundMessage, { kind: 'announcement_signatures' }>,
  ) => Promise<{ node: Uint8Array; bitcoin: Uint8Array }>;
}

/** The message as it goes to the peer. */
export async function materialise(
  message: OutboundMessage,
  signed: SignSuccess | undefined,
  points: HolderPoints,
  others: OtherSignatures,
): Promise<PeerMessage> {
  const point = (number: bigint): Uint8Array => {
    const value = points.get(number);
    if (value === undefined) throw new InternalError(`the holder's point ${number} is not known`);
    return value;
  };
  const signatures = (): { signature: Uint8Array; htlcSignatures: Uint8Array[] } => {
    const first = signed?.signatures[0];
    if (first === undefined) throw new InternalError('the signer gave no signature for a commitment');
    return { signature: first.signature, htlcSignatures: first.htlcSignatures };
  };
  switch (message.kind) {
    case 'ready':
      return message.message;
    case 'commitment_signed':
      return make('commitment_signed', { channelId: message.channelId, ...signatures() });
    case 'revoke_and_ack': {
      const secret = signed?.releasedSecret;
      if (secret === undefined) throw new InternalError('the signer released no secret');
      return make('revoke_and_ack', {
        channelId: message.channelId,
        perCommitmentSecret: secret,
        nextPerCommitmentPoint: point(message.revokedNumber + 2n),
      });
    }
    case 'channel_ready':
      return make('channel_ready', {
        channelId: message.channelId,
        secondPerCommitmentPoint: point(1n),
        tlvs: message.aliasScid === undefined ? {} : { shortChannelId: message.aliasScid },
      });
    case 'funding_created':
      return make('funding_created', {
        temporaryChannelId: message.temporaryChannelId,
        fundingTxid: message.fundingTxid,
        fundingOutputIndex: message.fundingOutputIndex,
        signature: signatures().signature,
      });
    case 'funding_signed':
      return make('funding_signed', { channelId: message.channelId, signature: signatures().signature });
    case 'channel_reestablish':
      return { ...message.message, myCurrentPerCommitmentPoint: point(message.holderCommitmentNumber) };
    case 'closing_signed': {
      const signature = await others.closing(message);
      return make('closing_signed', {
        channelId: message.channelId,
        feeSatoshis: message.closing.feeSat,
        signature,
        tlvs:
          message.feeRange === undefined
            ? {}
            : {
                feeRange: {
                  minFeeSatoshis: message.feeRange.minFeeSat,
                  maxFeeSatoshis: message.feeRange.maxFeeSat,
                },
              },
      });
    }
    case 'announcement_signatures': {
      const { node, bitcoin } = await others.announcement(message);
      return make('announcement_signatures', {
        channelId: message.channelId,
        shortChannelId: message.shortChannelId,
        nodeSignature: node,
        bitcoinSignature: bitcoin,
      });
    }
  }
  return assertNever(message);
}
