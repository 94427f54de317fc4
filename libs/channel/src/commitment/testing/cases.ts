/** Commitments of any content, seen from both sides, and every way to spend their outputs. */
import { SIGHASH, segwitV0Sighash, withWitness } from '@fulmen/bitcoin';
import type { Tx } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { derivePrivateKey, deriveRevocationPrivateKey } from '@fulmen/keys';
import fc from 'fast-check';
import type { CommitmentHtlc, CommitmentSpec } from '../../commitment-spec.ts';
import { otherParty } from '../build.ts';
import { anchorAnyoneWitness, anchorWitness } from '../scripts/anchor.ts';
import { htlcPreimageClaimWitness, htlcRevocationWitness, htlcTimeoutClaimWitness } from '../scripts/htlc.ts';
import { toLocalDelayedWitness, toLocalRevocationWitness } from '../scripts/to-local.ts';
import { toRemoteWitness } from '../scripts/to-remote.ts';
import { runInput } from '../testing/interpreter.ts';
import type {
  BuiltCommitment,
  CommitmentInputs,
  CommitmentOutput,
  CommitmentOwner,
  CommitmentPartyParameters,
} from '../types.ts';

export function secret(name: string): Uint8Array {
  return sha256(new TextEncoder().encode(name));
}

export const SECRETS = { holder: secretsOf('holder'), counterparty: secretsOf('counterparty') };

export function secretsOf(
  party: string,
): Record<'funding' | 'revocation' | 'payment' | 'delayed' | 'htlc' | 'commitment', Uint8Array> {
  const of = (name: string): Uint8Array => secret(`${party} ${name}`);
  return {
    funding: of('funding'),
    revocation: of('revocation'),
    payment: of('payment'),
    delayed: of('delayed'),
    htlc: of('htlc'),
    commitment: of('commitment'),
  };
}

export function preimageOf(seed: number): Uint8Array {
  return secret(`preimage ${seed}`);
}

export function partyOf(
  party: CommitmentOwner,
  limits: { readonly dustLimitSat: bigint; readonly toSelfDelayBlocks: number },
): CommitmentPartyParameters {
  const secrets = SECRETS[party];
  return {
    revocationBasepoint: secp.publicKeyOf(secrets.revocation),
    paymentBasepoint: secp.publicKeyOf(secrets.payment),
    delayedPaymentBasepoint: secp.publicKeyOf(secrets.delayed),
    htlcBasepoint: secp.publicKeyOf(secrets.htlc),
    ...limits,
  };
}

export const limits = fc.record({
  dustLimitSat: fc.bigInt({ min: 354n, max: 2000n }),
  toSelfDelayBlocks: fc.integer({ min: 1, max: 2016 }),
});
export const htlcSeed = fc.record({
  outbound: fc.boolean(),
  // Often near the trimming threshold, often equal.
  amountMsat: fc.oneof(
    fc.bigInt({ min: 1n, max: 5_000_000n }),
    fc.constantFrom(2_000_000n, 2_000_999n, 100_000_000n),
  ),
  preimage: fc.integer({ min: 0, max: 3 }),
  cltvExpiryHeight: fc.integer({ min: 1, max: 800_000 }),
});

export interface Case {
  readonly inputs: CommitmentInputs;
  readonly preimages: ReadonlyMap<string, Uint8Array>;
}

export const cases: fc.Arbitrary<Case> = fc
  .record({
    owner: fc.constantFrom<CommitmentOwner>('holder', 'counterparty'),
    funder: fc.constantFrom<CommitmentOwner>('holder', 'counterparty'),
    commitmentFormat: fc.constantFrom('static_remotekey' as const, 'anchors' as const),
    holder: limits,
    counterparty: limits,
    feerateSatPerKw: fc.oneof(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 0, max: 100_000 })),
    commitmentNumber: fc.bigInt({ min: 0n, max: (1n << 48n) - 1n }),
    seeds: fc.array(htlcSeed, { maxLength: 6 }),
    toFunderMsat: fc.oneof(
      fc.bigInt({ min: 700_000n, max: 10_000_000_000n }),
      fc.bigInt({ min: 700_000n, max: 3_000_000n }),
    ),
    toOtherMsat: fc.oneof(
      fc.bigInt({ min: 0n, max: 10_000_000_000n }),
      fc.bigInt({ min: 0n, max: 3_000_000n }),
    ),
  })
  .map((seed): Case => {
    const preimages = new Map<string, Uint8Array>();
    const htlcs = seed.seeds.map((htlc, index): CommitmentHtlc => {
      const preimage = preimageOf(htlc.preimage);
      const paymentHash = sha256(preimage);
      preimages.set(toHex(paymentHash), preimage);
      return {
        direction: htlc.outbound ? 'outbound' : 'inbound',
        id: BigInt(index),
        amountMsat: htlc.amountMsat,
        paymentHash,
        cltvExpiryHeight: htlc.cltvExpiryHeight,
      };
    });
    const htlcsMsat = htlcs.reduce((sum, { amountMsat }) => sum + amountMsat, 0n);
    // The funding is whole satoshis.
    const rest = (1000n - ((seed.toFunderMsat + seed.toOtherMsat + htlcsMsat) % 1000n)) % 1000n;
    const toFunderMsat = seed.toFunderMsat + rest;
    const spec: CommitmentSpec = {
      commitmentNumber: seed.commitmentNumber,
      feerateSatPerKw: seed.feerateSatPerKw,
      toHolderMsat: seed.funder === 'holder' ? toFunderMsat : seed.toOtherMsat,
      toCounterpartyMsat: seed.funder === 'holder' ? seed.toOtherMsat : toFunderMsat,
      htlcs,
    };
    const inputs: CommitmentInputs = {
      parameters: {
        funder: seed.funder,
        commitmentFormat: seed.commitmentFormat,
        holder: partyOf('holder', seed.holder),
        counterparty: partyOf('counterparty', seed.counterparty),
      },
      funding: {
        fundingTxid: secret('funding txid'),
        fundingOutputIndex: 1,
        fundingValueSat: (toFunderMsat + seed.toOtherMsat + htlcsMsat) / 1000n,
        holderFundingPubkey: secp.publicKeyOf(SECRETS.holder.funding),
        counterpartyFundingPubkey: secp.publicKeyOf(SECRETS.counterparty.funding),
      },
      owner: seed.owner,
      spec,
      perCommitmentPoint: secp.publicKeyOf(SECRETS[seed.owner].commitment),
    };
    return { inputs, preimages };
  });

/** The same commitment as the other party describes it. */
export function mirrored(inputs: CommitmentInputs): CommitmentInputs {
  const { parameters, funding, spec } = inputs;
  return {
    parameters: {
      ...parameters,
      funder: otherParty(parameters.funder),
      holder: parameters.counterparty,
      counterparty: parameters.holder,
    },
    funding: {
      ...funding,
      holderFundingPubkey: funding.counterpartyFundingPubkey,
      counterpartyFundingPubkey: funding.holderFundingPubkey,
    },
    owner: otherParty(inputs.owner),
    spec: {
      ...spec,
      toHolderMsat: spec.toCounterpartyMsat,
      toCounterpartyMsat: spec.toHolderMsat,
      htlcs: spec.htlcs.map((htlc) => ({
        ...htlc,
        direction: htlc.direction === 'inbound' ? 'outbound' : 'inbound',
      })),
    },
    perCommitmentPoint: inputs.perCommitmentPoint,
  };
}

/** A transaction that spends one output of another; its input still lacks the witness. */
export function spend(
  txid: Uint8Array,
  vout: number,
  options: { readonly valueSat: bigint; readonly sequence: number; readonly locktime?: number },
): Tx {
  return {
    version: 2,
    locktime: options.locktime ?? 0,
    inputs: [{ txid, vout, scriptSig: new Uint8Array(0), sequence: options.sequence, witness: [] }],
    outputs: [{ valueSat: options.valueSat, script: Uint8Array.of(0x6a) }],
  };
}

export interface Way {
  readonly name: string;
  readonly sequence: number;
  readonly locktime?: number;
  readonly secret: Uint8Array;
  readonly witness: (signature: Uint8Array) => Uint8Array[];
}

/** Every way to spend an output of the commitment directly. */
export function waysOf(
  inputs: CommitmentInputs,
  built: BuiltCommitment,
  output: CommitmentOutput,
  preimages: ReadonlyMap<string, Uint8Array>,
): Way[] {
  const own = SECRETS[inputs.owner];
  const other = SECRETS[otherParty(inputs.owner)];
  const revocation = deriveRevocationPrivateKey(secp, other.revocation, own.commitment);
  const delayed = derivePrivateKey(secp, own.delayed, inputs.perCommitmentPoint);
  const otherHtlc = derivePrivateKey(secp, other.htlc, inputs.perCommitmentPoint);
  const csv = inputs.parameters.commitmentFormat === 'anchors' ? 1 : 0;
  switch (output.type) {
    case 'to_local':
      return [
        {
          name: 'delayed',
          sequence: output.delayBlocks,
          secret: delayed,
          witness: (signature) => toLocalDelayedWitness(signature, output.witnessScript),
        },
        {
          name: 'revoked',
          sequence: 0xffff_fffd,
          secret: revocation,
          witness: (signature) => toLocalRevocationWitness(signature, output.witnessScript),
        },
      ];
    case 'to_remote':
      return [
        {
          name: 'to_remote',
          sequence: csv === 1 ? 1 : 0xffff_fffd,
          secret: other.payment,
          witness: (signature) => toRemoteWitness(signature, output),
        },
      ];
    case 'anchor_holder':
    case 'anchor_counterparty': {
      const key = output.type === 'anchor_holder' ? SECRETS.holder.funding : SECRETS.counterparty.funding;
      return [
        {
          name: 'anchor',
          sequence: 0xffff_fffd,
          secret: key,
          witness: (signature) => anchorWitness(signature, output.witnessScript),
        },
        {
          name: 'anchor by anyone',
          sequence: 16,
          secret: key,
          witness: () => anchorAnyoneWitness(output.witnessScript),
        },
      ];
    }
    case 'htlc': {
      const preimage = preimages.get(toHex(output.htlc.paymentHash)) ?? new Uint8Array(0);
      const revoked: Way = {
        name: 'HTLC revoked',
        sequence: 0,
        secret: revocation,
        witness: (signature) =>
          htlcRevocationWitness(signature, built.keys.revocationPubkey, output.witnessScript),
      };
      return output.side === 'offered'
        ? [
            revoked,
            {
              name: 'HTLC with preimage',
              sequence: csv,
              secret: otherHtlc,
              witness: (signature) => htlcPreimageClaimWitness(signature, preimage, output.witnessScript),
            },
          ]
        : [
            revoked,
            {
              name: 'HTLC after timeout',
              sequence: csv,
              locktime: output.htlc.cltvExpiryHeight,
              secret: otherHtlc,
              witness: (signature) => htlcTimeoutClaimWitness(signature, output.witnessScript),
            },
          ];
    }
  }
}

/** BIP 143's script code: the witness script, or for P2WPKH the P2PKH script of the hash. */
export function scriptCodeOf(output: CommitmentOutput): Uint8Array {
  if (output.type === 'to_remote' && output.witnessScript === undefined) {
    return Uint8Array.from([0x76, 0xa9, 20, ...output.scriptPubKey.slice(2), 0x88, 0xac]);
  }
  return output.witnessScript ?? new Uint8Array(0);
}

export function runWay(txid: Uint8Array, output: CommitmentOutput, way: Way): string {
  const transaction = spend(txid, output.outputIndex, {
    valueSat: output.valueSat,
    sequence: way.sequence,
    locktime: way.locktime ?? 0,
  });
  const signature = secp.sign(
    segwitV0Sighash(transaction, 0, scriptCodeOf(output), output.valueSat, SIGHASH.ALL),
    way.secret,
  );
  return runInput(withWitness(transaction, 0, way.witness(signature)), 0, output);
}
