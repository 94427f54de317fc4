/**
 * Signs a planned sweep: the channels' outputs one by one through SignClaim,
 * the wallet's through SignPsbt. The signer rebuilds every script itself; here
 * only the words are translated and the witnesses put together.
 */
import { type Tx, decodeTx, encodeTx, encodeTxWithoutWitness, withWitness } from '@fulmen/bitcoin';
import { psbtWitnesses } from '@fulmen/bitcoin/psbt';
import { assertNever } from '@fulmen/codec';
import type { MonitorHtlc } from '@fulmen/monitor';
import type { Htlc, SignClaimRequest } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { Claim, OutPoint } from '@fulmen/settlement';
import { type PlannedSweep, type SweepableClaim, sweepTransaction } from '@fulmen/settlement/sweep/index';
import { assembleWitness } from '@fulmen/settlement/witness';
import type { AddressRecord } from '@fulmen/store/chain/chain-store';
import type { SignerClient } from '../ports.ts';
import type { AddressBook } from '../wallet/address-book.ts';
import { psbtWithOrigins } from '../wallet/coins.ts';

/** What the signer signed does not make a transaction. */
export class SweepSigningError extends Error {
  override readonly name = 'SweepSigningError';
}

/** The signer refuses these claims, whichever transaction makes them. */
export class ClaimsRefusedError extends Error {
  override readonly name = 'ClaimsRefusedError';
  readonly claims: readonly OutPoint[];

  constructor(claims: readonly OutPoint[], message: string) {
    super(message);
    this.claims = claims;
  }
}

/** A definite answer: it would be the same again. */
function isRefusal(error: unknown): error is RpcError {
  return (
    error instanceof RpcError &&
    (error.code === 'failed_precondition' ||
      error.code === 'permission_denied' ||
      error.code === 'invalid_argument')
  );
}

const HARDENED_OFFSET = 0x8000_0000;

export interface SweepSigningPorts {
  readonly signer: Pick<SignerClient, 'signClaim' | 'signPsbt'>;
  readonly book: AddressBook;
  readonly addressOf: (script: Uint8Array) => AddressRecord | undefined;
}

/** The whole transaction. @throws ClaimsRefusedError; RpcError when the signer does not answer; SweepSigningError */
export async function signSweep(
  ports: SweepSigningPorts,
  planned: PlannedSweep,
  homeScript: Uint8Array,
): Promise<Tx> {
  let tx = sweepTransaction(planned, homeScript);
  const unsigned = encodeTxWithoutWitness(tx);
  const origins = originsOf(ports, tx);
  const refused: { readonly outPoint: OutPoint; readonly reason: string }[] = [];
  for (const [index, input] of planned.inputs.entries()) {
    if (input.type !== 'claim') continue;
    try {
      const witness = await claimWitness(ports, input.claimed, { unsigned, index, origins });
      tx = withWitness(tx, index, witness);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      // All that are refused are found at once.
      refused.push({ outPoint: input.claimed.claim.outPoint, reason: error.message });
    }
  }
  const [first] = refused;
  if (first !== undefined)
    throw new ClaimsRefusedError(
      refused.map(({ outPoint }) => outPoint),
      first.reason,
    );
  const coins = planned.inputs.some(({ type }) => type === 'coin');
  return coins ? withCoinWitnesses(ports, planned, tx) : tx;
}

/** Outputs of the wallet's, by the paths of their keys. */
function originsOf({ book, addressOf }: SweepSigningPorts, tx: Tx): SignClaimRequest['outputOrigins'] {
  return tx.outputs.flatMap(({ script }, outputIndex) => {
    const address = addressOf(script);
    return address === undefined ? [] : [{ outputIndex, path: pathOf(book.origin(address).path) }];
  });
}

/** m/84'/1'/0'/1/7 as numbers. */
function pathOf(text: string): number[] {
  return text
    .split('/')
    .slice(1)
    .map((part) => (part.endsWith("'") ? Number(part.slice(0, -1)) + HARDENED_OFFSET : Number(part)));
}

async function claimWitness(
  { signer }: SweepSigningPorts,
  { claim, channelKeysId }: SweepableClaim,
  at: {
    readonly unsigned: Uint8Array;
    readonly index: number;
    readonly origins: SignClaimRequest['outputOrigins'];
  },
): Promise<Uint8Array[]> {
  const { signature, publicKey, witnessScript } = await signer.signClaim({
    channelKeysId: Buffer.from(channelKeysId),
    transaction: Buffer.from(at.unsigned),
    inputIndex: at.index,
    spentValueSat: claim.valueSat,
    output: wireOutput(claim),
    outputOrigins: at.origins,
  });
  return assembleWitness(claim, {
    signature: Uint8Array.from(signature),
    publicKey: Uint8Array.from(publicKey),
    witnessScript: witnessScript.length === 0 ? undefined : Uint8Array.from(witnessScript),
  });
}

function wireHtlc({ direction, id, amountMsat, paymentHash, cltvExpiryHeight }: MonitorHtlc): Htlc {
  return {
    outbound: direction === 'outbound',
    id,
    amountMsat,
    paymentHash: Buffer.from(paymentHash),
    cltvExpiryHeight,
  };
}

function wireOutput({ kind }: Claim): NonNullable<SignClaimRequest['output']> {
  switch (kind.type) {
    case 'holder_delayed':
      return { $case: 'holderDelayed', value: { commitmentNumber: kind.commitmentNumber } };
    case 'holder_htlc': {
      const { commitmentNumber, htlc } = kind;
      return { $case: 'holderHtlc', value: { commitmentNumber, htlc: wireHtlc(htlc) } };
    }
    case 'counterparty_htlc': {
      const perCommitmentPoint = Buffer.from(kind.perCommitmentPoint);
      return { $case: 'counterpartyHtlc', value: { perCommitmentPoint, htlc: wireHtlc(kind.htlc) } };
    }
    case 'counterparty_balance':
      return { $case: 'counterpartyBalance', value: {} };
    case 'revoked_delayed':
      return {
        $case: 'revokedDelayed',
        value: { perCommitmentSecret: Buffer.from(kind.perCommitmentSecret) },
      };
    case 'revoked_htlc': {
      const perCommitmentSecret = Buffer.from(kind.perCommitmentSecret);
      return { $case: 'revokedHtlc', value: { perCommitmentSecret, htlc: wireHtlc(kind.htlc) } };
    }
    case 'anchor':
      return { $case: 'anchor', value: {} };
    default:
      return assertNever(kind);
  }
}

async function withCoinWitnesses(
  { signer, book, addressOf }: SweepSigningPorts,
  planned: PlannedSweep,
  tx: Tx,
): Promise<Tx> {
  const inputs = tx.inputs.flatMap(({ txid, vout, sequence }, index) => {
    const input = planned.inputs[index];
    if (input === undefined) return [];
    const spent =
      input.type === 'coin'
        ? { valueSat: input.coin.valueSat, script: input.coin.script }
        : { valueSat: input.claimed.claim.valueSat, script: input.claimed.claim.scriptPubKey };
    return [{ txid, vout, sequence, spent }];
  });
  const { version, locktime, outputs } = tx;
  const answer = await signer.signPsbt({
    psbt: Buffer.from(psbtWithOrigins({ version, locktime, inputs, outputs }, book, addressOf)),
    delayedOutputs: planned.inputs.flatMap((input, outputIndex) => {
      if (input.type !== 'claim' || input.claimed.claim.kind.type !== 'holder_htlc') return [];
      const { channelKeysId, claim } = input.claimed;
      const { commitmentNumber } = claim.kind as Extract<Claim['kind'], { type: 'holder_htlc' }>;
      return [{ channelKeysId: Buffer.from(channelKeysId), commitmentNumber, outputIndex }];
    }),
  });
  const witnesses = psbtWitnesses(Uint8Array.from(answer.psbt));
  if (!witnesses.ok) throw new SweepSigningError(witnesses.error.message);
  return planned.inputs.reduce((signed, input, index) => {
    if (input.type !== 'coin') return signed;
    const witness = witnesses.value[index];
    if (witness === undefined) throw new SweepSigningError(`the wallet's input ${index} is not signed`);
    return withWitness(signed, index, witness);
  }, tx);
}

/** The bytes of a signed sweep, read back once: what cannot be read must not be stored. */
export function encodeSweep(tx: Tx): Uint8Array {
  const raw = encodeTx(tx);
  const decoded = decodeTx(raw);
  if (!decoded.ok) throw new SweepSigningError(decoded.error.message);
  return raw;
}
