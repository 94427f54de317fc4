/**
 * Builds commitment transactions with everything about them. The same function
 * serves the state machine (to verify), the signer (to rebuild and compare
 * before it signs) and whoever claims outputs on-chain, so that they cannot
 * disagree.
 */
import { SIGHASH, p2wshScript, segwitV0Sighash, txid as txidOf } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { compareBytes } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { commitmentKeys, commitmentNumberObscuringFactor, obscureCommitmentNumber } from '@fulmen/keys';
import type { CommitmentKeys } from '@fulmen/keys';
import type { CommitmentHtlc } from '../commitment-spec.ts';
import { CommitmentError } from './errors.ts';
import { commitmentAmounts, htlcSide } from './fees.ts';
import { commitmentFormat } from './format.ts';
import { buildHtlcTransaction } from './htlc-transaction.ts';
import { anchorScript } from './scripts/anchor.ts';
import { fundingWitnessScript } from './scripts/funding.ts';
import { toLocalScript } from './scripts/to-local.ts';
import type {
  BuiltCommitment,
  CommitmentInputs,
  CommitmentOutput,
  CommitmentOwner,
  CommitmentParameters,
} from './types.ts';

type WithoutIndex<T> = T extends unknown ? Omit<T, 'outputIndex'> : never;
type UnplacedOutput = WithoutIndex<CommitmentOutput>;

/** The party that does not own the commitment. */
export function otherParty(owner: CommitmentOwner): CommitmentOwner {
  return owner === 'holder' ? 'counterparty' : 'holder';
}

/**
 * The factor that hides a channel's commitment numbers: "payment_basepoint
 * from open_channel || payment_basepoint from accept_channel" (BOLT 3).
 */
export function obscuringFactor(parameters: CommitmentParameters): bigint {
  const opener = parameters[parameters.funder];
  const accepter = parameters[otherParty(parameters.funder)];
  return commitmentNumberObscuringFactor(opener.paymentBasepoint, accepter.paymentBasepoint);
}

/** Locktime and sequence that carry an obscured commitment number (BOLT 3, "Commitment Transaction"). */
export function encodeCommitmentNumber(
  commitmentNumber: bigint,
  factor: bigint,
): { readonly locktime: number; readonly sequence: number } {
  const obscured = obscureCommitmentNumber(commitmentNumber, factor);
  return {
    locktime: 0x2000_0000 + Number(obscured & 0xff_ffffn),
    sequence: 0x8000_0000 + Number(obscured >> 24n),
  };
}

/** The commitment number that a transaction with one input carries, or undefined when its locktime and sequence are of another form. */
export function decodeCommitmentNumber(transaction: Tx, factor: bigint): bigint | undefined {
  const [input] = transaction.inputs;
  if (input === undefined || transaction.inputs.length !== 1) return undefined;
  if (transaction.locktime >>> 24 !== 0x20 || input.sequence >>> 24 !== 0x80) return undefined;
  const obscured = (BigInt(input.sequence & 0xff_ffff) << 24n) | BigInt(transaction.locktime & 0xff_ffff);
  return obscureCommitmentNumber(obscured, factor);
}

/** The public keys in the scripts of one commitment. */
export function commitmentKeysOf(
  secp: Secp256k1,
  inputs: Pick<CommitmentInputs, 'parameters' | 'owner' | 'perCommitmentPoint'>,
): CommitmentKeys {
  return commitmentKeys(secp, {
    broadcaster: inputs.parameters[inputs.owner],
    countersignatory: inputs.parameters[otherParty(inputs.owner)],
    perCommitmentPoint: inputs.perCommitmentPoint,
  });
}

/** BOLT 3, "Transaction Output Ordering": value, script, and for HTLCs cltv_expiry; then the id, for twins that differ in nothing. */
function compareOutputs(a: UnplacedOutput, b: UnplacedOutput): number {
  if (a.valueSat !== b.valueSat) return a.valueSat < b.valueSat ? -1 : 1;
  const byScript = compareBytes(a.scriptPubKey, b.scriptPubKey);
  if (byScript !== 0 || a.type !== 'htlc' || b.type !== 'htlc') return byScript;
  return a.htlc.cltvExpiryHeight - b.htlc.cltvExpiryHeight || (a.htlc.id < b.htlc.id ? -1 : 1);
}

function htlcOutput(inputs: CommitmentInputs, keys: CommitmentKeys, htlc: CommitmentHtlc): UnplacedOutput {
  const format = commitmentFormat(inputs.parameters.commitmentFormat);
  const side = htlcSide(inputs.owner, htlc.direction);
  const witnessScript =
    side === 'offered'
      ? format.offeredHtlcScript(keys, htlc.paymentHash)
      : format.receivedHtlcScript(keys, htlc);
  return {
    type: 'htlc',
    valueSat: htlc.amountMsat / 1000n,
    scriptPubKey: p2wshScript(witnessScript),
    htlc,
    side,
    witnessScript,
  };
}

function anchorOutput(inputs: CommitmentInputs, party: CommitmentOwner): UnplacedOutput {
  const { anchorSat } = commitmentFormat(inputs.parameters.commitmentFormat);
  const { holderFundingPubkey, counterpartyFundingPubkey } = inputs.funding;
  const witnessScript = anchorScript(party === 'holder' ? holderFundingPubkey : counterpartyFundingPubkey);
  return {
    type: party === 'holder' ? 'anchor_holder' : 'anchor_counterparty',
    valueSat: anchorSat,
    scriptPubKey: p2wshScript(witnessScript),
    witnessScript,
  };
}

/** A commitment without its second-stage transactions and their signature hashes: what is needed to find its outputs on-chain. */
export type CommitmentSkeleton = Omit<BuiltCommitment, 'htlcTransactions'> & {
  /** Script of to_local and of every second stage. */
  readonly delayedScript: Uint8Array;
  readonly delayedScriptPubKey: Uint8Array;
};

/**
 * Builds a commitment transaction, unsigned, and its second-stage transactions.
 *
 * @throws as `buildCommitmentSkeleton`.
 */
export function buildCommitment(secp: Secp256k1, inputs: CommitmentInputs): BuiltCommitment {
  const { delayedScript, delayedScriptPubKey, ...built } = buildCommitmentSkeleton(secp, inputs);
  const format = commitmentFormat(inputs.parameters.commitmentFormat);
  const { feerateSatPerKw } = inputs.spec;
  const common = { format, commitmentTxid: built.txid, feerateSatPerKw, delayedScript, delayedScriptPubKey };
  return {
    ...built,
    htlcTransactions: built.outputs.flatMap((output) =>
      output.type === 'htlc' ? [buildHtlcTransaction({ ...common, output })] : [],
    ),
  };
}

/**
 * Builds a commitment transaction, unsigned.
 *
 * @throws CommitmentError when the spec does not add up to the funding's
 * value, or the funder cannot pay the anchors; KeysError for a commitment
 * number of more than 48 bits; CryptoError for a point that is none.
 */
export function buildCommitmentSkeleton(secp: Secp256k1, inputs: CommitmentInputs): CommitmentSkeleton {
  const { parameters, funding, owner, spec } = inputs;
  const other = otherParty(owner);
  assertAddsUp(inputs);
  const keys = commitmentKeysOf(secp, inputs);
  const format = commitmentFormat(parameters.commitmentFormat);
  const amounts = commitmentAmounts(inputs);
  if (amounts.feeSat < 0n)
    throw new CommitmentError(
      'outputs_exceed_funding',
      `outputs exceed the funding by ${-amounts.feeSat} sat`,
    );

  // What the owner waits for is what the other party asked for.
  const delayBlocks = parameters[other].toSelfDelayBlocks;
  const delayedScript = toLocalScript({
    revocationPubkey: keys.revocationPubkey,
    delayedPubkey: keys.broadcasterDelayedPubkey,
    delayBlocks,
  });
  const delayedScriptPubKey = p2wshScript(delayedScript);

  const unplaced: UnplacedOutput[] = amounts.untrimmedHtlcs.map((htlc) => htlcOutput(inputs, keys, htlc));
  if (amounts.toLocalSat !== undefined) {
    unplaced.push({
      type: 'to_local',
      valueSat: amounts.toLocalSat,
      scriptPubKey: delayedScriptPubKey,
      witnessScript: delayedScript,
      delayBlocks,
    });
  }
  if (amounts.toRemoteSat !== undefined) {
    const publicKey = parameters[other].paymentBasepoint;
    unplaced.push({
      type: 'to_remote',
      valueSat: amounts.toRemoteSat,
      publicKey,
      ...format.toRemote(publicKey),
    });
  }
  if (amounts.ownerAnchor === 'present') unplaced.push(anchorOutput(inputs, owner));
  if (amounts.otherAnchor === 'present') unplaced.push(anchorOutput(inputs, other));
  const outputs = unplaced
    .sort(compareOutputs)
    .map((output, outputIndex): CommitmentOutput => ({ ...output, outputIndex }));

  const { locktime, sequence } = encodeCommitmentNumber(spec.commitmentNumber, obscuringFactor(parameters));
  const transaction: Tx = {
    version: 2,
    locktime,
    inputs: [
      {
        txid: funding.fundingTxid,
        vout: funding.fundingOutputIndex,
        scriptSig: new Uint8Array(0),
        sequence,
        witness: [],
      },
    ],
    outputs: outputs.map(({ valueSat, scriptPubKey }) => ({ valueSat, script: scriptPubKey })),
  };
  const txid = txidOf(transaction);
  const witnessScript = fundingWitnessScript(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  return {
    transaction,
    txid,
    feeSat: amounts.feeSat,
    keys,
    countersignatoryFundingPubkey:
      owner === 'holder' ? funding.counterpartyFundingPubkey : funding.holderFundingPubkey,
    fundingWitnessScript: witnessScript,
    sighash: segwitV0Sighash(transaction, 0, witnessScript, funding.fundingValueSat, SIGHASH.ALL),
    outputs,
    delayedScript,
    delayedScriptPubKey,
  };
}

function assertAddsUp({ funding, spec }: CommitmentInputs): void {
  let totalMsat = spec.toHolderMsat + spec.toCounterpartyMsat;
  for (const htlc of spec.htlcs) totalMsat += htlc.amountMsat;
  const negative = spec.toHolderMsat < 0n || spec.toCounterpartyMsat < 0n;
  if (negative || totalMsat !== 1000n * funding.fundingValueSat) {
    throw new CommitmentError(
      'value_mismatch',
      `a commitment of ${totalMsat} msat on a funding of ${funding.fundingValueSat} sat`,
    );
  }
}
