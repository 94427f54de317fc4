/** The core's requests as the contract's messages, and back: what a client of the signer writes. */
import type {
  CommitmentSpec as WireSpec,
  HolderCommitment as WireHolder,
  Party,
  RegisterChannelRequest,
  SignItem,
  SignSuccess,
} from '@fulmen/proto/signer/v1/signer';
import type { CommitmentSpec } from '@fulmen/channel/commitment-spec';
import type { PartyParameters } from '@fulmen/channel/parameters';
import type {
  ChannelRegistration,
  HolderCommitmentRequest,
  SignItemAnswer,
  SignItemRequest,
} from '../enforcement/types.ts';

export function wireSpec(spec: CommitmentSpec): WireSpec {
  return {
    ...spec,
    htlcs: spec.htlcs.map(({ direction, ...htlc }) => ({ ...htlc, outbound: direction === 'outbound' })),
  };
}

export function wireHolderCommitment(commitment: HolderCommitmentRequest): WireHolder {
  return {
    spec: wireSpec(commitment.spec),
    signatures: commitment.signatures.map(({ fundingTxid, signature, htlcSignatures }) => ({
      fundingTxid,
      signature,
      htlcSignatures: [...htlcSignatures],
    })),
  };
}

export function wireItem(
  channelKeysId: Uint8Array,
  caller: { readonly shard: number; readonly epoch: bigint },
  request: SignItemRequest,
): SignItem {
  const { holderCommitment, counterpartyCommitment } = request;
  return {
    channelKeysId,
    ...caller,
    revocations: [...request.revocations],
    holderCommitment: holderCommitment && wireHolderCommitment(holderCommitment),
    releaseSecretNumber: request.releaseSecretNumber,
    counterpartyCommitment: counterpartyCommitment && {
      spec: wireSpec(counterpartyCommitment.spec),
      perCommitmentPoint: counterpartyCommitment.perCommitmentPoint,
    },
    ecdhs: [...request.ecdhs],
  };
}

function wireParty(party: PartyParameters): Party {
  return { ...party, upfrontShutdownScript: party.upfrontShutdownScript };
}

export function wireRegistration(registration: ChannelRegistration, epoch: bigint): RegisterChannelRequest {
  const { funder, ...rest } = registration;
  return {
    ...rest,
    holderIsFunder: funder === 'holder',
    restored: false,
    epoch,
    holder: wireParty(registration.holder),
    counterparty: wireParty(registration.counterparty),
  };
}

export function fromSuccess(success: SignSuccess): SignItemAnswer {
  return { ...success, releasedSecret: success.releasedSecret };
}
