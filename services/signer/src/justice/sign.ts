/**
 * What a tower's signer signs: spends of outputs of revoked commitments, to one
 * script, and nothing else. The revocation key of a state exists only once both
 * sides' secrets are known, so that it can never spend what is still valid; and
 * whoever asks can send the money nowhere but home.
 */
import { SIGHASH, decodeTx, segwitV0Sighash } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { htlcSide } from '@fulmen/channel/commitment/fees';
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import { toLocalScript } from '@fulmen/channel/commitment/scripts/to-local';
import { equalBytes, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import { commitmentKeys, deriveRevocationPrivateKey } from '@fulmen/keys';
import { decodeMonitorParameters, type MonitorParameters } from '@fulmen/monitor';
import { openJusticeKey } from './seal.ts';

/** Inputs of one transaction; a package of standard weight holds no more. */
const MAX_INPUTS = 400;
const MAX_MONEY_SAT = 21_000_000n * 100_000_000n;

export interface RevokedHtlc {
  readonly direction: 'inbound' | 'outbound';
  readonly paymentHash: Uint8Array;
  readonly cltvExpiryHeight: number;
}

/** An output of a revoked commitment, or of a second stage behind one. */
export interface RevokedOutput {
  /** Encoded MonitorParameters. */
  readonly parameters: Uint8Array;
  readonly sealedKey: Uint8Array;
  readonly valueSat: bigint;
  readonly perCommitmentSecret: Uint8Array;
  /** Absent: a delayed output of the counterparty. */
  readonly htlc: RevokedHtlc | undefined;
}

export interface JusticeRequest {
  readonly transaction: Uint8Array;
  readonly inputs: readonly RevokedOutput[];
}

export interface JusticeSignature {
  readonly signature: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly witnessScript: Uint8Array;
}

export interface JusticeKeys {
  readonly secp: Secp256k1;
  /** The tower's own. */
  readonly secret: Uint8Array;
  readonly destinationScript: Uint8Array;
  /** Of the sum of the inputs. */
  readonly maximumFeePercent: number;
}

/** Why it is not signed. */
export interface JusticeRefusal {
  readonly policy:
    | 'policy-malformed-request'
    | 'policy-justice-destination'
    | 'policy-justice-key'
    | 'policy-onchain-fee-range';
  readonly reason: string;
}

const refuse = (policy: JusticeRefusal['policy'], reason: string): Result<never, JusticeRefusal> =>
  err({ policy, reason });

export function signJustice(
  keys: JusticeKeys,
  request: JusticeRequest,
): Result<readonly JusticeSignature[], JusticeRefusal> {
  const decoded = decodeTx(request.transaction);
  if (!decoded.ok) return refuse('policy-malformed-request', decoded.error.message);
  const tx = decoded.value;
  if (request.inputs.length !== tx.inputs.length || tx.inputs.length > MAX_INPUTS)
    return refuse('policy-malformed-request', 'the inputs are not those of the transaction');
  const paid = checkPayment(keys, tx, request.inputs);
  if (!paid.ok) return paid;
  const signatures: JusticeSignature[] = [];
  for (const [index, input] of request.inputs.entries()) {
    const signed = signInput(keys, tx, index, input);
    if (!signed.ok) return signed;
    signatures.push(signed.value);
  }
  return ok(signatures);
}

function checkPayment(
  { destinationScript, maximumFeePercent }: JusticeKeys,
  tx: Tx,
  inputs: readonly RevokedOutput[],
): Result<void, JusticeRefusal> {
  if (tx.outputs.length === 0) return refuse('policy-justice-destination', 'it pays nobody');
  let outSat = 0n;
  for (const { script, valueSat } of tx.outputs) {
    if (!equalBytes(script, destinationScript))
      return refuse('policy-justice-destination', 'it pays another script than the one of the configuration');
    outSat += valueSat;
  }
  let inSat = 0n;
  for (const { valueSat } of inputs) {
    if (valueSat > MAX_MONEY_SAT) return refuse('policy-malformed-request', 'a value is out of range');
    inSat += valueSat;
  }
  // A wrong value makes a signature that is worth nothing (BIP 143), so the sum is honest or harmless.
  if ((inSat - outSat) * 100n > inSat * BigInt(maximumFeePercent))
    return refuse('policy-onchain-fee-range', `fee of ${inSat - outSat} sat out of ${inSat} sat`);
  return ok(undefined);
}

/** The channel's parameters and its revocation basepoint secret, if they belong together and to this tower. */
export function openKey(
  { secp, secret }: JusticeKeys,
  input: Pick<RevokedOutput, 'parameters' | 'sealedKey'>,
): Result<{ readonly parameters: MonitorParameters; readonly basepointSecret: Uint8Array }, JusticeRefusal> {
  const parameters = decodeMonitorParameters(input.parameters);
  if (!parameters.ok) return refuse('policy-malformed-request', parameters.error.message);
  const basepointSecret = openJusticeKey(secp, input.sealedKey, parameters.value.channelKeysId, secret);
  if (basepointSecret === undefined)
    return refuse('policy-justice-key', 'the key is not sealed to this tower, or of another channel');
  if (!equalBytes(secp.publicKeyOf(basepointSecret), parameters.value.holder.revocationBasepoint))
    return refuse('policy-justice-key', 'the key is not of these parameters');
  return ok({ parameters: parameters.value, basepointSecret });
}

function signInput(
  keys: JusticeKeys,
  tx: Tx,
  index: number,
  input: RevokedOutput,
): Result<JusticeSignature, JusticeRefusal> {
  const { secp } = keys;
  const opened = openKey(keys, input);
  if (!opened.ok) return opened;
  const { parameters, basepointSecret } = opened.value;
  if (input.perCommitmentSecret.length !== 32 || !secp.isSecretKey(input.perCommitmentSecret))
    return refuse('policy-malformed-request', 'the per-commitment secret is no scalar');
  const witnessScript = revokedScript(secp, parameters, input);
  const privateKey = deriveRevocationPrivateKey(secp, basepointSecret, input.perCommitmentSecret);
  const sighash = segwitV0Sighash(tx, index, witnessScript, input.valueSat, SIGHASH.ALL);
  return ok({
    signature: secp.sign(sighash, privateKey),
    publicKey: secp.publicKeyOf(privateKey),
    witnessScript,
  });
}

/** Script of an output of the counterparty's revoked commitment (BOLT 3), from the parameters and its secret. */
function revokedScript(
  secp: Secp256k1,
  parameters: MonitorParameters,
  { perCommitmentSecret, htlc }: Pick<RevokedOutput, 'perCommitmentSecret' | 'htlc'>,
): Uint8Array {
  const { counterparty, holder, commitmentFormat: name } = parameters;
  const keys = commitmentKeys(secp, {
    broadcaster: counterparty,
    countersignatory: holder,
    perCommitmentPoint: secp.publicKeyOf(perCommitmentSecret),
  });
  if (htlc === undefined)
    return toLocalScript({
      revocationPubkey: keys.revocationPubkey,
      delayedPubkey: keys.broadcasterDelayedPubkey,
      delayBlocks: counterparty.selfDelayBlocks,
    });
  const format = commitmentFormat(name);
  return htlcSide('counterparty', htlc.direction) === 'offered'
    ? format.offeredHtlcScript(keys, htlc.paymentHash)
    : format.receivedHtlcScript(keys, htlc);
}
