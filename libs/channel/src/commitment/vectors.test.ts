/** BOLT 3, appendices B, C and F: every transaction byte for byte, signatures included, from both parties' points of view. */
import { readFileSync } from 'node:fs';
import {
  OP,
  compactFromDer,
  compileScript,
  derFromCompact,
  encodeTx,
  p2pkhScript,
  parseDisplayHash,
  txidHex,
} from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { InternalError, concatBytes, fromHex, toHex } from '@fulmen/codec';
import { sha256, sha256d } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { derivePrivateKey } from '@fulmen/keys';
import { describe, expect, test } from 'vitest';
import type { CommitmentHtlc, CommitmentSpec } from '../commitment-spec.ts';
import type { CommitmentFormatName } from '../parameters.ts';
import { buildCommitment, decodeCommitmentNumber, obscuringFactor, otherParty } from './build.ts';
import { commitmentFeeSat, countUntrimmed } from './fees.ts';
import { fundingScriptPubKey, fundingWitnessScript } from './scripts/funding.ts';
import {
  assembleCommitment,
  htlcTransactionWitness,
  signCommitment,
  verifyCommitmentSignatures,
} from './sign.ts';
import { runInput } from './testing/interpreter.ts';
import type { CommitmentInputs, CommitmentOwner, CommitmentPartyParameters } from './types.ts';

interface Vector {
  readonly name: string;
  readonly format: CommitmentFormatName;
  readonly toLocalMsat: bigint;
  readonly toRemoteMsat: bigint;
  readonly dustLimitSat: bigint;
  readonly feerateSatPerKw: number;
  readonly htlcs: readonly number[];
  readonly remoteSignature: string;
  readonly commitmentTransaction: string;
  readonly htlcTransactions: readonly { readonly remoteSignature: string; readonly transaction: string }[];
  readonly baseFeeSat?: number | undefined;
  readonly actualFeeSat?: number | undefined;
}

interface AppendixC {
  readonly name: string;
  readonly toLocalMsat: number;
  readonly toRemoteMsat: number;
  readonly feerateSatPerKw: number;
  readonly baseFeeSat?: number;
  readonly actualFeeSat?: number;
  readonly remoteSignature: string;
  readonly commitmentTransaction: string;
  readonly htlcTransactions: readonly { readonly remoteSignature: string; readonly transaction: string }[];
}

interface AppendixF {
  readonly Name: string;
  readonly LocalBalance: number;
  readonly RemoteBalance: number;
  readonly DustLimitSatoshis: number;
  readonly FeePerKw: number;
  readonly UseTestHtlcs: boolean;
  readonly HtlcDescs: readonly { readonly RemoteSigHex: string; readonly ResolutionTxHex: string }[];
  readonly ExpectedCommitmentTxHex: string;
  readonly RemoteSigHex: string;
}

function load(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`./vectors/${name}`, import.meta.url), 'utf8'));
}

/** Which of the appendix's HTLCs a case has follows from its name. */
function htlcsOf(name: string, ours: boolean): readonly number[] {
  if (name.includes('same amount and preimage')) return [1, 5, 6];
  return ours ? [0, 1, 2, 3, 4] : [];
}

const appendixC = (load('bolt03-appendix-c.json') as readonly AppendixC[]).map((vector): Vector => ({
  name: vector.name,
  format: 'static_remotekey',
  toLocalMsat: BigInt(vector.toLocalMsat),
  toRemoteMsat: BigInt(vector.toRemoteMsat),
  dustLimitSat: 546n,
  feerateSatPerKw: vector.feerateSatPerKw,
  htlcs: htlcsOf(vector.name, !vector.name.includes('no HTLCs')),
  remoteSignature: vector.remoteSignature,
  commitmentTransaction: vector.commitmentTransaction,
  htlcTransactions: vector.htlcTransactions,
  baseFeeSat: vector.baseFeeSat,
  actualFeeSat: vector.actualFeeSat,
}));

const appendixF = (load('bolt03-appendix-f.json') as readonly AppendixF[]).map((vector): Vector => ({
  name: vector.Name,
  format: 'anchors',
  toLocalMsat: BigInt(vector.LocalBalance),
  toRemoteMsat: BigInt(vector.RemoteBalance),
  dustLimitSat: BigInt(vector.DustLimitSatoshis),
  feerateSatPerKw: vector.FeePerKw,
  htlcs: htlcsOf(vector.Name, vector.UseTestHtlcs),
  remoteSignature: vector.RemoteSigHex,
  commitmentTransaction: vector.ExpectedCommitmentTxHex,
  htlcTransactions: vector.HtlcDescs.map((htlc) => ({
    remoteSignature: htlc.RemoteSigHex,
    transaction: htlc.ResolutionTxHex,
  })),
}));

const LOCAL_FUNDING_SECRET = fromHex('30ff4956bbdd3222d44cc5e8a1261dab1e07957bdac5ae88fe3261ef321f3749');
const REMOTE_FUNDING_SECRET = fromHex('1552dfba4f6cf29a62a0af13c8d6981d36d0ef8d61ba10fb0fe90da7634d7e13');
const LOCAL_PAYMENT_SECRET = new Uint8Array(32).fill(0x11);
const REMOTE_REVOCATION_SECRET = new Uint8Array(32).fill(0x22);
const LOCAL_DELAYED_SECRET = new Uint8Array(32).fill(0x33);
const REMOTE_PAYMENT_SECRET = new Uint8Array(32).fill(0x44);
const POINT = fromHex('025f7117a78150fe2ef97db7cfc83bd57b2e2c0d0dd25eaf467a4a1c2a45ce1486');
const LOCAL_HTLC_SECRET = derivePrivateKey(secp256k1, LOCAL_PAYMENT_SECRET, POINT);
const REMOTE_HTLC_SECRET = derivePrivateKey(secp256k1, REMOTE_PAYMENT_SECRET, POINT);
const UNUSED = secp256k1.publicKeyOf(new Uint8Array(32).fill(0x55));

const LOCAL: Omit<CommitmentPartyParameters, 'dustLimitSat'> = {
  paymentBasepoint: secp256k1.publicKeyOf(LOCAL_PAYMENT_SECRET),
  htlcBasepoint: secp256k1.publicKeyOf(LOCAL_PAYMENT_SECRET),
  delayedPaymentBasepoint: secp256k1.publicKeyOf(LOCAL_DELAYED_SECRET),
  revocationBasepoint: UNUSED,
  toSelfDelayBlocks: 1000,
};
const REMOTE: Omit<CommitmentPartyParameters, 'dustLimitSat'> = {
  paymentBasepoint: secp256k1.publicKeyOf(REMOTE_PAYMENT_SECRET),
  htlcBasepoint: secp256k1.publicKeyOf(REMOTE_PAYMENT_SECRET),
  delayedPaymentBasepoint: UNUSED,
  revocationBasepoint: secp256k1.publicKeyOf(REMOTE_REVOCATION_SECRET),
  toSelfDelayBlocks: 144,
};

function preimage(htlc: number): Uint8Array {
  return new Uint8Array(32).fill(Math.min(htlc, 5));
}

const TEST_HTLCS = [
  { offered: false, amountMsat: 1_000_000n, cltvExpiryHeight: 500 },
  { offered: false, amountMsat: 2_000_000n, cltvExpiryHeight: 501 },
  { offered: true, amountMsat: 2_000_000n, cltvExpiryHeight: 502 },
  { offered: true, amountMsat: 3_000_000n, cltvExpiryHeight: 503 },
  { offered: false, amountMsat: 4_000_000n, cltvExpiryHeight: 504 },
  { offered: true, amountMsat: 5_000_000n, cltvExpiryHeight: 506 },
  { offered: true, amountMsat: 5_000_001n, cltvExpiryHeight: 505 },
] as const;

/** The case with the vectors' "local" as the holder or as the counterparty; it always owns the commitment and funds. */
function inputsOf(vector: Vector, local: CommitmentOwner): CommitmentInputs {
  const remote = otherParty(local);
  const pubkeys = {
    [local]: secp256k1.publicKeyOf(LOCAL_FUNDING_SECRET),
    [remote]: secp256k1.publicKeyOf(REMOTE_FUNDING_SECRET),
  } as Record<CommitmentOwner, Uint8Array>;
  const parties = {
    [local]: { ...LOCAL, dustLimitSat: vector.dustLimitSat },
    [remote]: { ...REMOTE, dustLimitSat: 1n },
  } as Record<CommitmentOwner, CommitmentPartyParameters>;
  const htlcs = vector.htlcs.map((index): CommitmentHtlc => {
    const { offered, amountMsat, cltvExpiryHeight } = TEST_HTLCS[index] ?? TEST_HTLCS[0];
    return {
      direction: offered === (local === 'holder') ? 'outbound' : 'inbound',
      id: BigInt(index),
      amountMsat,
      cltvExpiryHeight,
      paymentHash: sha256(preimage(index)),
    };
  });
  const spec: CommitmentSpec = {
    commitmentNumber: 42n,
    feerateSatPerKw: vector.feerateSatPerKw,
    toHolderMsat: local === 'holder' ? vector.toLocalMsat : vector.toRemoteMsat,
    toCounterpartyMsat: local === 'holder' ? vector.toRemoteMsat : vector.toLocalMsat,
    htlcs,
  };
  return {
    parameters: { funder: local, commitmentFormat: vector.format, ...parties },
    funding: {
      fundingTxid: parseDisplayHash('8984484a580b825b9972d7adb15050b3ab624ccd731946b3eeddb92f4e7ef6be'),
      fundingOutputIndex: 0,
      fundingValueSat: 10_000_000n,
      holderFundingPubkey: pubkeys.holder,
      counterpartyFundingPubkey: pubkeys.counterparty,
    },
    owner: local,
    spec,
    perCommitmentPoint: POINT,
  };
}

function check(vector: Vector, local: CommitmentOwner): void {
  const inputs = inputsOf(vector, local);
  const built = buildCommitment(secp256k1, inputs);
  const untrimmed = countUntrimmed(vector.format, {
    owner: local,
    htlcs: inputs.spec.htlcs,
    ownerDustLimitSat: vector.dustLimitSat,
    feerateSatPerKw: vector.feerateSatPerKw,
  });
  expect(untrimmed).toBe(vector.htlcTransactions.length);
  if (vector.baseFeeSat !== undefined)
    expect(commitmentFeeSat(vector.format, vector.feerateSatPerKw, untrimmed)).toBe(
      BigInt(vector.baseFeeSat),
    );
  // Where the fee exceeds the funder's balance, the appendix names what it would be, not what there is.
  if (vector.actualFeeSat !== undefined && vector.actualFeeSat < 6_988_000)
    expect(built.feeSat).toBe(BigInt(vector.actualFeeSat));

  const signatures = signCommitment(secp256k1, built, {
    fundingSecret: REMOTE_FUNDING_SECRET,
    htlcSecret: REMOTE_HTLC_SECRET,
  });
  expect(toHex(derFromCompact(signatures.signature, 1)).slice(0, -2)).toBe(vector.remoteSignature);
  expect(verifyCommitmentSignatures(secp256k1, built, signatures).ok).toBe(true);
  const own = secp256k1.sign(built.sighash, LOCAL_FUNDING_SECRET);
  const byParty =
    local === 'holder'
      ? { holderSignature: own, counterpartySignature: signatures.signature }
      : { holderSignature: signatures.signature, counterpartySignature: own };
  const signed = assembleCommitment(built, inputs.funding, byParty);
  expect(toHex(encodeTx(signed))).toBe(vector.commitmentTransaction);
  const { holderFundingPubkey, counterpartyFundingPubkey, fundingValueSat } = inputs.funding;
  // The bytes are the same from both points of view: one run through the (slow) interpreter is enough.
  if (local === 'holder')
    expect(
      runInput(signed, 0, {
        valueSat: fundingValueSat,
        scriptPubKey: fundingScriptPubKey(holderFundingPubkey, counterpartyFundingPubkey),
      }),
    ).toBe('ok');
  expect(decodeCommitmentNumber(signed, obscuringFactor(inputs.parameters))).toBe(42n);

  for (const [index, expected] of vector.htlcTransactions.entries()) {
    const built2 = built.htlcTransactions[index];
    const counterpartySignature = signatures.htlcSignatures[index];
    if (built2 === undefined || counterpartySignature === undefined)
      throw new InternalError('fewer HTLC transactions than the vector');
    expect(toHex(derFromCompact(counterpartySignature, 1)).slice(0, -2)).toBe(expected.remoteSignature);
    const witness = htlcTransactionWitness(
      built2,
      { counterpartySignature, ownSignature: secp256k1.sign(built2.ownSighash, LOCAL_HTLC_SECRET) },
      built2.kind === 'success' ? preimage(Number(built2.htlc.id)) : undefined,
    );
    const [input] = built2.transaction.inputs;
    if (input === undefined) throw new InternalError('no input');
    const complete: Tx = { ...built2.transaction, inputs: [{ ...input, witness }] };
    expect(toHex(encodeTx(complete))).toBe(expected.transaction);
    const spent = built.outputs[built2.outputIndex];
    if (spent === undefined) throw new InternalError('no such output');
    if (local === 'holder') expect(runInput(complete, 0, spent)).toBe('ok');
  }
}

describe.each([
  ['C: static_remotekey', appendixC, 16, 33],
  ['F: anchors', appendixF, 9, 15],
] as const)('BOLT 3 appendix %s', (_, vectors, count, htlcTransactions) => {
  test('is complete', () => {
    expect(vectors.length).toBe(count);
    expect(vectors.reduce((sum, vector) => sum + vector.htlcTransactions.length, 0)).toBe(htlcTransactions);
  });
  test.each(vectors.map((vector) => [vector.name, vector] as const))('%s', (_name, vector) => {
    check(vector, 'holder');
    check(vector, 'counterparty');
  });
});

test('BOLT 3 appendix B: the funding transaction', () => {
  const localKey = secp256k1.publicKeyOf(LOCAL_FUNDING_SECRET);
  const remoteKey = secp256k1.publicKeyOf(REMOTE_FUNDING_SECRET);
  expect(toHex(fundingWitnessScript(remoteKey, localKey))).toBe(
    '5221023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb21030e9f7b623d2ccc7c9bd44d66d5ce21ce504c0acf6385a132cec6d3c39fa711c152ae',
  );
  const coinbaseSecret = fromHex('6bd078650fcee8444e4e09825227b801a1ca928debb750eb36e6d56124bb20e8');
  const keyHash = fromHex('3ca33c2e4446f4a305f23c80df8ad1afdcf652f9');
  const unsigned: Tx = {
    version: 2,
    locktime: 0,
    inputs: [
      {
        txid: parseDisplayHash('fd2105607605d2302994ffea703b09f66b6351816ee737a93e42a841ea20bbad'),
        vout: 0,
        scriptSig: p2pkhScript(keyHash),
        sequence: 0xffff_ffff,
        witness: [],
      },
    ],
    outputs: [
      { valueSat: 10_000_000n, script: fundingScriptPubKey(localKey, remoteKey) },
      { valueSat: 4_989_986_080n, script: compileScript([OP.FALSE, keyHash]) },
    ],
  };
  // The coinbase is P2PKH: its legacy hash is over the transaction with the spent script in place of the signature.
  const signature = secp256k1.sign(
    sha256d(concatBytes(encodeTx(unsigned), Uint8Array.of(1, 0, 0, 0))),
    coinbaseSecret,
  );
  const [input] = unsigned.inputs;
  if (input === undefined) throw new InternalError('no input');
  const scriptSig = compileScript([derFromCompact(signature, 1), secp256k1.publicKeyOf(coinbaseSecret)]);
  const signed: Tx = { ...unsigned, inputs: [{ ...input, scriptSig }] };
  expect(toHex(encodeTx(signed))).toBe(
    '0200000001adbb20ea41a8423ea937e76e8151636bf6093b70eaff942930d20576600521fd000000006b48304502210090587b6201e166ad6af0227d3036a9454223d49a1f11839c1a362184340ef0240220577f7cd5cca78719405cbf1de7414ac027f0239ef6e214c90fcaab0454d84b3b012103535b32d5eb0a6ed0982a0479bbadc9868d9836f6ba94dd5a63be16d875069184ffffffff028096980000000000220020c015c4a6be010e21657068fc2e6a9d02b27ebe4d490a25846f7237f104d1a3cd20256d29010000001600143ca33c2e4446f4a305f23c80df8ad1afdcf652f900000000',
  );
  expect(txidHex(signed)).toBe('8984484a580b825b9972d7adb15050b3ab624ccd731946b3eeddb92f4e7ef6be');
  expect(compactFromDer(derFromCompact(signature, 1)).ok).toBe(true);
});
