/** From the contract's messages to the core's requests: every length and range is checked here, once. */
import type {
  CommitmentSignatures as WireSignatures,
  CommitmentSpec as WireSpec,
  HolderCommitment as WireHolderCommitment,
  Htlc as WireHtlc,
  Party as WireParty,
  RegisterChannelRequest,
  SignItem,
} from '@fulmen/proto/signer/v1/signer';
import type { CommitmentHtlc, CommitmentSpec } from '@fulmen/channel/commitment-spec';
import { MAX_ACCEPTED_HTLCS_LIMIT, MAX_MONEY_SAT } from '@fulmen/channel/config';
import type { PartyParameters } from '@fulmen/channel/parameters';
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { MAX_USABLE_COMMITMENT_NUMBER } from '@fulmen/keys';
import type {
  ChannelRegistration,
  FundingSignatures,
  HolderCommitmentRequest,
  Refusal,
  SignItemRequest,
} from './enforcement/types.ts';

const MAX_MSAT = 1000n * MAX_MONEY_SAT;
const MAX_REVOCATIONS = 4;
const MAX_ECDHS = 2 * MAX_ACCEPTED_HTLCS_LIMIT;
/** Bitcoin's limit for a script that relays is far below. */
const MAX_SCRIPT_LENGTH = 520;

/** A message of the caller's that no honest caller sends. */
export class MalformedRequestError extends Error {
  override readonly name = 'MalformedRequestError';
}

function fail(what: string): never {
  throw new MalformedRequestError(what);
}

/** Runs a decoder below; a malformed message becomes a refusal. */
export function decoding<T>(decode: () => T): Result<T, Refusal> {
  try {
    return ok(decode());
  } catch (error) {
    if (error instanceof MalformedRequestError)
      return err({ kind: 'policy', policy: 'policy-malformed-request', reason: error.message });
    throw error;
  }
}

/** A copy of exactly `length` bytes, never a view into a transport's buffer. */
export function fixed(what: string, bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length !== length) fail(`${what} has ${bytes.length} bytes, not ${length}`);
  return Uint8Array.from(bytes);
}

function bounded(what: string, value: bigint, maximum: bigint): bigint {
  return value > maximum ? fail(`${what} is out of range`) : value;
}

export function commitmentNumber(value: bigint): bigint {
  return bounded('commitment number', value, MAX_USABLE_COMMITMENT_NUMBER);
}

export function script(what: string, bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0 || bytes.length > MAX_SCRIPT_LENGTH) fail(`${what} has ${bytes.length} bytes`);
  return Uint8Array.from(bytes);
}

/** Epochs are stored as signed 64 bit. */
export function epoch(value: bigint): bigint {
  return bounded('epoch', value, (1n << 63n) - 1n);
}

export function shard(value: number): number {
  return value > 0xffff ? fail('no such shard') : value;
}

export function decodeSpec(spec: WireSpec | undefined): CommitmentSpec {
  if (spec === undefined) return fail('a commitment without content');
  if (spec.htlcs.length > 2 * MAX_ACCEPTED_HTLCS_LIMIT) fail(`${spec.htlcs.length} HTLCs`);
  return {
    commitmentNumber: commitmentNumber(spec.commitmentNumber),
    feerateSatPerKw: spec.feerateSatPerKw,
    toHolderMsat: bounded('to_holder_msat', spec.toHolderMsat, MAX_MSAT),
    toCounterpartyMsat: bounded('to_counterparty_msat', spec.toCounterpartyMsat, MAX_MSAT),
    htlcs: spec.htlcs.map(decodeHtlc),
  };
}

export function decodeHtlc(htlc: WireHtlc): CommitmentHtlc {
  return {
    direction: htlc.outbound ? 'outbound' : 'inbound',
    id: htlc.id,
    amountMsat: bounded('amount_msat', htlc.amountMsat, MAX_MSAT),
    paymentHash: fixed('payment_hash', htlc.paymentHash, 32),
    cltvExpiryHeight: htlc.cltvExpiryHeight,
  };
}

export function satoshis(what: string, value: bigint): bigint {
  return bounded(what, value, MAX_MONEY_SAT);
}

function decodeSignatures(signatures: WireSignatures): FundingSignatures {
  if (signatures.htlcSignatures.length > 2 * MAX_ACCEPTED_HTLCS_LIMIT)
    fail(`${signatures.htlcSignatures.length} HTLC signatures`);
  return {
    fundingTxid: fixed('funding_txid', signatures.fundingTxid, 32),
    signature: fixed('signature', signatures.signature, 64),
    htlcSignatures: signatures.htlcSignatures.map((signature) => fixed('htlc_signature', signature, 64)),
  };
}

export function decodeHolderCommitment(
  commitment: WireHolderCommitment | undefined,
): HolderCommitmentRequest {
  if (commitment === undefined) return fail('no holder commitment');
  if (commitment.signatures.length !== 1) fail('signatures for exactly one funding are needed');
  return { spec: decodeSpec(commitment.spec), signatures: commitment.signatures.map(decodeSignatures) };
}

export interface DecodedSignItem {
  readonly channelKeysId: Uint8Array;
  readonly shard: number;
  readonly epoch: bigint;
  readonly request: SignItemRequest;
}

export function decodeSignItem(item: SignItem): DecodedSignItem {
  if (item.revocations.length > MAX_REVOCATIONS) fail(`${item.revocations.length} revocations`);
  if (item.ecdhs.length > MAX_ECDHS) fail(`${item.ecdhs.length} shared secrets`);
  const { holderCommitment, counterpartyCommitment, releaseSecretNumber } = item;
  return {
    channelKeysId: fixed('channel_keys_id', item.channelKeysId, 32),
    shard: shard(item.shard),
    epoch: epoch(item.epoch),
    request: {
      revocations: item.revocations.map((revocation) => ({
        commitmentNumber: commitmentNumber(revocation.commitmentNumber),
        secret: fixed('secret', revocation.secret, 32),
      })),
      holderCommitment: holderCommitment === undefined ? undefined : decodeHolderCommitment(holderCommitment),
      releaseSecretNumber:
        releaseSecretNumber === undefined ? undefined : commitmentNumber(releaseSecretNumber),
      counterpartyCommitment:
        counterpartyCommitment === undefined
          ? undefined
          : {
              spec: decodeSpec(counterpartyCommitment.spec),
              perCommitmentPoint: fixed(
                'per_commitment_point',
                counterpartyCommitment.perCommitmentPoint,
                33,
              ),
            },
      ecdhs: item.ecdhs.map(({ publicKey, tweak }) => ({
        publicKey: fixed('public_key', publicKey, 33),
        tweak: tweak === undefined ? undefined : fixed('tweak', tweak, 32),
      })),
    },
  };
}

function decodeParty(party: WireParty | undefined): PartyParameters {
  if (party === undefined) return fail('a party is missing');
  const parameters = {
    fundingPubkey: fixed('funding_pubkey', party.fundingPubkey, 33),
    revocationBasepoint: fixed('revocation_basepoint', party.revocationBasepoint, 33),
    paymentBasepoint: fixed('payment_basepoint', party.paymentBasepoint, 33),
    delayedPaymentBasepoint: fixed('delayed_payment_basepoint', party.delayedPaymentBasepoint, 33),
    htlcBasepoint: fixed('htlc_basepoint', party.htlcBasepoint, 33),
    dustLimitSat: bounded('dust_limit_sat', party.dustLimitSat, MAX_MONEY_SAT),
    // to_self_delay and max_accepted_htlcs are u16 on the wire.
    toSelfDelayBlocks:
      party.toSelfDelayBlocks > 0xffff ? fail('to_self_delay is out of range') : party.toSelfDelayBlocks,
    channelReserveSat: bounded('channel_reserve_sat', party.channelReserveSat, MAX_MONEY_SAT),
    htlcMinimumMsat: party.htlcMinimumMsat,
    maxHtlcValueInFlightMsat: party.maxHtlcValueInFlightMsat,
    maxAcceptedHtlcs:
      party.maxAcceptedHtlcs > 0xffff ? fail('max_accepted_htlcs is out of range') : party.maxAcceptedHtlcs,
  };
  const upfront = party.upfrontShutdownScript;
  // BOLT 2: an upfront_shutdown_script of length 0 is no commitment.
  return upfront === undefined || upfront.length === 0
    ? parameters
    : { ...parameters, upfrontShutdownScript: script('upfront_shutdown_script', upfront) };
}

export function decodeRegistration(request: RegisterChannelRequest): {
  readonly registration: ChannelRegistration;
  readonly epoch: bigint;
} {
  const { commitmentFormat, funding } = request;
  if (commitmentFormat !== 'anchors' && commitmentFormat !== 'static_remotekey')
    return fail(`commitment format ${commitmentFormat.slice(0, 32)}`);
  if (funding === undefined) return fail('no funding');
  if (request.channelType.length > 64) fail('channel_type is too long');
  return {
    epoch: epoch(request.epoch),
    registration: {
      channelKeysId: fixed('channel_keys_id', request.channelKeysId, 32),
      channelId: fixed('channel_id', request.channelId, 32),
      counterpartyNodeId: fixed('counterparty_node_id', request.counterpartyNodeId, 33),
      funder: request.holderIsFunder ? 'holder' : 'counterparty',
      commitmentFormat,
      holder: decodeParty(request.holder),
      counterparty: decodeParty(request.counterparty),
      funding: {
        fundingTxid: fixed('funding_txid', funding.fundingTxid, 32),
        fundingOutputIndex:
          funding.fundingOutputIndex > 0xffff
            ? fail('funding_output_index is out of range')
            : funding.fundingOutputIndex,
        fundingValueSat: bounded('funding_value_sat', funding.fundingValueSat, MAX_MONEY_SAT),
        holderFundingPubkey: fixed('holder_funding_pubkey', funding.holderFundingPubkey, 33),
        counterpartyFundingPubkey: fixed(
          'counterparty_funding_pubkey',
          funding.counterpartyFundingPubkey,
          33,
        ),
      },
      shard: shard(request.shard),
      channelType: Uint8Array.from(request.channelType),
      announce: request.announce,
    },
  };
}
