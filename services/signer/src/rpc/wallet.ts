/** The on-chain wallet: what to watch, and signatures for what it spends. */
import type {
  GetWalletDescriptorsResponse,
  SignPsbtRequest,
  SignPsbtResponse,
} from '@fulmen/proto/signer/v1/signer';
import { txid as txidOf } from '@fulmen/bitcoin';
import type { Tx, TxOutput } from '@fulmen/bitcoin';
import { psbtSpentOutputs, psbtUnsignedTx, signPsbt as signPsbtInputs } from '@fulmen/bitcoin/psbt';
import type { PsbtInputSignature } from '@fulmen/bitcoin/psbt';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { assertNever, equalBytes, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { encodeExtendedPublic, hardened, neuter } from '@fulmen/keys';
import { MalformedRequestError, commitmentNumber, decoding, fixed } from '../decode.ts';
import { holderDelayedScriptPubKey } from '../enforcement/claim.ts';
import { refuse } from '../enforcement/refuse.ts';
import type { Refusal, SignerChannelState } from '../enforcement/types.ts';
import type { LaneView } from '../lane.ts';
import { contextOf, orRefuse, runUnary, unregistered } from '../signer.ts';
import type { Signer } from '../signer.ts';
import type { Velocity } from '../store/port.ts';
import { walletKeyOf } from '../wallet/paths.ts';
import { readPsbtOrigins } from '../wallet/psbt-origins.ts';
import type { PsbtOrigins } from '../wallet/psbt-origins.ts';

const MAX_INPUTS = 500;
const ACCOUNT_DEPTH = 3;

/** Account keys of BIP 84 and BIP 86, public, and what a transaction of theirs may cost. */
export async function getWalletDescriptors(signer: Signer): Promise<GetWalletDescriptorsResponse> {
  const { secp, keys } = signer;
  const position = (parentFingerprint: number) => ({
    depth: ACCOUNT_DEPTH,
    parentFingerprint,
    childIndex: hardened(0),
  });
  return {
    bip84AccountXpub: encodeExtendedPublic(
      neuter(secp, keys.segwitAccount),
      position(keys.segwitParentFingerprint),
      keys.coinType,
    ),
    bip86AccountXpub: encodeExtendedPublic(
      neuter(secp, keys.taprootAccount),
      position(keys.taprootParentFingerprint),
      keys.coinType,
    ),
    fingerprint: keys.masterFingerprint.toString(16).padStart(8, '0'),
    maximumFeeSat: signer.onchain.maximumFeeSat,
  };
}

interface ParsedPsbt {
  readonly bytes: Uint8Array;
  readonly transaction: Tx;
  readonly spent: readonly TxOutput[];
  readonly origins: PsbtOrigins;
  /** Of the channel being funded. */
  readonly channelKeysId: Uint8Array | undefined;
  readonly secondStage: SecondStage | undefined;
}

/** Outputs of a channel's second stages, by index, with the number of their commitment. */
interface SecondStage {
  readonly channelKeysId: Uint8Array;
  readonly commitmentNumbers: ReadonlyMap<number, bigint>;
}

function decodeSecondStage(request: SignPsbtRequest): SecondStage | undefined {
  const [first] = request.delayedOutputs;
  if (first === undefined) return undefined;
  if (request.channelKeysId !== undefined)
    throw new MalformedRequestError('a funding has no second-stage outputs');
  if (request.delayedOutputs.length > MAX_INPUTS)
    throw new MalformedRequestError(`more than ${MAX_INPUTS} second-stage outputs`);
  const channelKeysId = fixed('channel_keys_id', first.channelKeysId, 32);
  const isOfOneChannel = request.delayedOutputs.every((one) => equalBytes(one.channelKeysId, channelKeysId));
  if (!isOfOneChannel) throw new MalformedRequestError('second-stage outputs of several channels');
  return {
    channelKeysId,
    commitmentNumbers: new Map(
      request.delayedOutputs.map((one) => [one.outputIndex, commitmentNumber(one.commitmentNumber)]),
    ),
  };
}

function parse(request: SignPsbtRequest): Result<ParsedPsbt, Refusal> {
  const channelKeysId = decoding(() =>
    request.channelKeysId === undefined ? undefined : fixed('channel_keys_id', request.channelKeysId, 32),
  );
  if (!channelKeysId.ok) return channelKeysId;
  const secondStage = decoding(() => decodeSecondStage(request));
  if (!secondStage.ok) return secondStage;
  const bytes = Uint8Array.from(request.psbt);
  const transaction = psbtUnsignedTx(bytes);
  if (!transaction.ok) return refuse('policy-malformed-request', transaction.error.message);
  if (transaction.value.inputs.length > MAX_INPUTS)
    return refuse('policy-malformed-request', `more than ${MAX_INPUTS} inputs`);
  const spent = psbtSpentOutputs(bytes);
  if (!spent.ok) return refuse('policy-malformed-request', spent.error.message);
  const origins = readPsbtOrigins(bytes);
  if (!origins.ok) return refuse('policy-malformed-request', 'not a PSBT');
  return ok({
    bytes,
    transaction: transaction.value,
    spent: spent.value,
    origins: origins.value,
    channelKeysId: channelKeysId.value,
    secondStage: secondStage.value,
  });
}

/**
 * Signs the inputs whose key origin leads to the wallet, and leaves the others
 * alone: they bring money of their own, which counts for the fee. Every output
 * is the wallet's own (by its origin), the funding of a channel, the delayed
 * output of a second stage of the holder's, or a payment that the velocity
 * limit allows. So is what a channel gives to its counterparty from the start.
 */
export async function signPsbt(signer: Signer, request: SignPsbtRequest): Promise<SignPsbtResponse> {
  const operation = 'sign_psbt';
  const psbt = orRefuse(signer, operation, parse(request));
  return runUnary<SignPsbtResponse>(signer, operation, {
    // Second stages have deadlines.
    priority: psbt.secondStage === undefined ? 'channel' : 'claim',
    channelKeysId: psbt.channelKeysId ?? psbt.secondStage?.channelKeysId,
    evaluate: (view) => {
      const saidSat = new Map(psbt.spent.map(({ valueSat }, index) => [index, valueSat]));
      const inSat = signer.inputSums.totalSat(psbt.transaction, saidSat);
      const checked = checkOutputs(signer, view, psbt, inSat);
      if (!checked.ok) return checked;
      const signed = signInputs(signer, psbt);
      if (!signed.ok) return signed;
      signer.inputSums.add(psbt.transaction, saidSat);
      const audit = {
        operation,
        channelKeysId: psbt.channelKeysId ?? psbt.secondStage?.channelKeysId,
        detail: txidOf(psbt.transaction),
      } as const;
      return ok({
        answer: { psbt: signed.value },
        audit,
        ...(checked.value === undefined ? {} : { velocity: checked.value }),
      });
    },
  });
}

/** The velocity after this payment, whose inputs bring `inSat`; undefined when nothing leaves the wallet and its channels. */
function checkOutputs(
  signer: Signer,
  view: LaneView,
  psbt: ParsedPsbt,
  inSat: bigint,
): Result<Velocity | undefined, Refusal> {
  const { transaction, origins } = psbt;
  const outSat = transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  if (outSat > inSat || inSat - outSat > signer.onchain.maximumFeeSat)
    return refuse('policy-onchain-fee-range', `fee of ${inSat - outSat} sat`);
  const funded = fundingOf(view, psbt);
  if (!funded.ok) return funded;
  let foreignSat = 0n;
  for (const [index, output] of transaction.outputs.entries()) {
    if (isOwn(signer, output.script, origins.outputs[index] ?? [])) continue;
    if (index === funded.value?.outputIndex || isSecondStage(signer, view, psbt, index)) continue;
    foreignSat += output.valueSat;
  }
  if (foreignSat > 0n && funded.value !== undefined)
    return refuse('policy-onchain-destination', 'a funding pays nobody else');
  const leavingSat = foreignSat + (funded.value?.givenSat ?? 0n);
  return leavingSat === 0n ? ok(undefined) : spend(signer, view.velocity, leavingSat);
}

function isOwn(signer: Signer, script: Uint8Array, origins: PsbtOrigins['inputs'][number]): boolean {
  if (signer.limits.allowedScripts.some((allowed) => equalBytes(allowed, script))) return true;
  return walletKeyOf(signer.secp, signer.keys, script, origins) !== undefined;
}

interface Funding {
  readonly outputIndex: number;
  /** What is not the holder's in the commitment that leaves it least: a push, which is a payment like any other. */
  readonly givenSat: bigint;
}

/**
 * How a transaction that funds a channel pays it; undefined for all others.
 * Nothing but the registered funding is one: the word of whoever holds the
 * wallet would take any amount to anybody. BOLT 2: "MUST NOT broadcast the
 * funding transaction before receipt of a valid funding_signed"; before that
 * there is no signature to broadcast it with either. Both sides' commitments
 * are known by then: what one that came later gave away could not be counted.
 */
function fundingOf(
  { channel }: LaneView,
  { channelKeysId, transaction }: ParsedPsbt,
): Result<Funding | undefined, Refusal> {
  if (channelKeysId === undefined) return ok(undefined);
  if (channel === undefined) return unregistered();
  const { funding } = channel.registration;
  const output = transaction.outputs[funding.fundingOutputIndex];
  const script = fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  const isRegistered =
    equalBytes(txidOf(transaction), funding.fundingTxid) &&
    output?.valueSat === funding.fundingValueSat &&
    equalBytes(output.script, script);
  if (!isRegistered)
    return refuse('policy-onchain-destination', 'not the funding with which this channel was registered');
  if (channel.lock.type === 'frozen')
    return refuse('policy-commitment-not-closed', 'the channel is frozen: nothing would come back');
  const { nextHolderCommitment, nextCounterpartyCommitment } = channel;
  if (nextHolderCommitment === 0n || nextCounterpartyCommitment === 0n)
    return err({
      kind: 'unavailable',
      policy: 'policy-commitment-initial-not-validated',
      reason: 'the first commitments are not validated and signed yet',
    });
  return ok({ outputIndex: funding.fundingOutputIndex, givenSat: givenSat(channel) });
}

/** Rounded up: a commitment rounds every output down. */
function givenSat({ registration, holderCommitments, counterpartyCommitments }: SignerChannelState): bigint {
  const fundingMsat = 1000n * registration.funding.fundingValueSat;
  return [...holderCommitments, ...counterpartyCommitments].reduce((mostSat, { toHolderMsat }) => {
    const sat = (fundingMsat - toHolderMsat + 999n) / 1000n;
    return sat > mostSat ? sat : mostSat;
  }, 0n);
}

/** The output pays the delayed script of the holder commitment that the request names for it. */
function isSecondStage(
  signer: Signer,
  { channel }: LaneView,
  { secondStage, transaction }: ParsedPsbt,
  outputIndex: number,
): boolean {
  const number = secondStage?.commitmentNumbers.get(outputIndex);
  const script = transaction.outputs[outputIndex]?.script;
  if (secondStage === undefined || number === undefined || script === undefined || channel === undefined)
    return false;
  const ctx = contextOf(signer, secondStage.channelKeysId);
  return equalBytes(script, holderDelayedScriptPubKey(ctx, channel.registration, number));
}

function spend(signer: Signer, velocity: Velocity, foreignSat: bigint): Result<Velocity, Refusal> {
  const nowMs = signer.runtime.wallClockMs();
  const { velocitySat, velocityWindowMs } = signer.onchain;
  const fresh = nowMs >= velocity.windowStartMs + velocityWindowMs;
  const spentSat = (fresh ? 0n : velocity.spentSat) + foreignSat;
  if (spentSat > velocitySat) return refuse('policy-onchain-velocity', `${spentSat} sat within one window`);
  return ok({ windowStartMs: fresh ? nowMs : velocity.windowStartMs, spentSat });
}

function signInputs(signer: Signer, psbt: ParsedPsbt): Result<Uint8Array, Refusal> {
  const { secp, keys } = signer;
  let signatures = 0;
  const signed = signPsbtInputs(
    psbt.bytes,
    ({ inputIndex, spent, sighash }): PsbtInputSignature | undefined => {
      const key = walletKeyOf(secp, keys, spent.script, psbt.origins.inputs[inputIndex] ?? []);
      if (key === undefined) return undefined;
      signatures += 1;
      switch (key.kind) {
        case 'p2wpkh':
          return {
            inputIndex,
            kind: 'p2wpkh',
            signature: secp.sign(sighash, key.secretKey),
            publicKey: key.publicKey,
          };
        case 'p2tr':
          return {
            inputIndex,
            kind: 'p2tr',
            signature: secp.schnorrSign(sighash, key.secretKey, new Uint8Array(32)),
          };
        default:
          return assertNever(key.kind);
      }
    },
  );
  if (!signed.ok) return refuse('policy-malformed-request', signed.error.message);
  return signatures === 0
    ? refuse('policy-onchain-input', 'no input’s key origin leads to the wallet')
    : ok(signed.value);
}
