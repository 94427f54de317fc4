/**
 * The counterparty on the chain: it can broadcast every commitment that was
 * ever signed for it, its second-stage transactions, and its claims on the
 * fleet's commitment. It shares only the builders of scripts with the fleet's
 * side, and signs with keys of its own.
 */
import { holderSpec, counterpartySpec } from '@fulmen/channel';
import type { CommitmentSpec } from '@fulmen/channel';
import { buildCommitment } from '@fulmen/channel/commitment/build';
import { assembleCommitment, htlcTransactionWitness } from '@fulmen/channel/commitment/sign';
import { htlcPreimageClaimWitness, htlcTimeoutClaimWitness } from '@fulmen/channel/commitment/scripts/htlc';
import type { BuiltCommitment, CommitmentOutput } from '@fulmen/channel/commitment/types';
import { primaryFunding } from '@fulmen/channel/state';
import type { TestNode } from '@fulmen/channel/testing/node';
import { SIGHASH, type Tx, segwitV0Sighash } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT, ANYONE_WITNESS_SCRIPT } from '@fulmen/chain/compliance';
import { InternalError, concatBytes, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { commitmentPoint, derivePrivateKey } from '@fulmen/keys';
import { PEER_SCRIPT } from './off-chain.ts';

/** A commitment of the counterparty's, as it kept it; built from its side: `holder` is the counterparty. */
export interface KeptCommitment {
  readonly commitmentNumber: bigint;
  readonly spec: CommitmentSpec;
  readonly built: BuiltCommitment;
  /** Signed by both. */
  readonly tx: Tx;
  /** The fleet's, in the order of the HTLC outputs. */
  readonly htlcSignatures: readonly Uint8Array[];
}

/** A coin that anyone can spend, to pay a fee with. */
export interface FeeCoin {
  readonly txid: Uint8Array;
  readonly vout: number;
  readonly valueSat: bigint;
}

export type HtlcOutput = CommitmentOutput & { readonly type: 'htlc' };

export class Counterparty {
  readonly #node: TestNode;
  readonly #secret: (label: 'funding' | 'htlc' | 'seed' | 'delayed' | 'payment') => Uint8Array;

  constructor(node: TestNode) {
    this.#node = node;
    // As the signer for tests derives them.
    this.#secret = (label) => sha256(concatBytes(utf8Encode(node.name), utf8Encode(label)));
  }

  /** Its latest commitment, to broadcast whenever it likes. */
  keep(): KeptCommitment {
    const { secp, channel } = this.#node;
    const spec = holderSpec(channel);
    const funding = primaryFunding(channel);
    const built = buildCommitment(secp, {
      parameters: channel.parameters,
      funding,
      owner: 'holder',
      spec,
      perCommitmentPoint: this.#point(spec.commitmentNumber),
    });
    const tx = assembleCommitment(built, funding, {
      holderSignature: secp.sign(built.sighash, this.#secret('funding')),
      counterpartySignature: funding.signature,
    });
    return {
      commitmentNumber: spec.commitmentNumber,
      spec,
      built,
      tx,
      htlcSignatures: funding.htlcSignatures,
    };
  }

  /** The fleet's commitment as the counterparty knows it. */
  fleetCommitment(): BuiltCommitment {
    const { secp, channel } = this.#node;
    return buildCommitment(secp, {
      parameters: channel.parameters,
      funding: primaryFunding(channel),
      owner: 'counterparty',
      spec: counterpartySpec(channel),
      perCommitmentPoint: channel.changes.counterpartyPoints.current,
    });
  }

  #point(number: bigint): Uint8Array {
    return commitmentPoint(this.#node.secp, this.#secret('seed'), number);
  }

  #htlcSecret(built: BuiltCommitment, perCommitmentPoint: Uint8Array): Uint8Array {
    const secret = derivePrivateKey(this.#node.secp, this.#secret('htlc'), perCommitmentPoint);
    const key = Buffer.from(this.#node.secp.publicKeyOf(secret));
    if (!key.equals(built.keys.broadcasterHtlcPubkey) && !key.equals(built.keys.countersignatoryHtlcPubkey))
      throw new InternalError('not a key of this commitment');
    return secret;
  }

  /** HTLC-timeout (no preimage) or HTLC-success of a commitment of its own; `coin` pays the fee, where the format lets it. */
  secondStage(
    kept: KeptCommitment,
    output: HtlcOutput,
    preimage: Uint8Array | undefined,
    fee: { readonly coin: FeeCoin; readonly feeSat: bigint },
  ): Tx {
    const { secp, channel } = this.#node;
    const index = kept.built.htlcTransactions.findIndex(
      ({ outputIndex }) => outputIndex === output.outputIndex,
    );
    const stage = kept.built.htlcTransactions[index];
    const counterpartySignature = kept.htlcSignatures[index];
    if (stage === undefined || counterpartySignature === undefined) throw new InternalError('no such HTLC');
    const secret = this.#htlcSecret(kept.built, this.#point(kept.commitmentNumber));
    const canAttach = channel.parameters.commitmentFormat === 'anchors';
    const unsigned: Tx = canAttach ? withFee(stage.transaction, fee) : stage.transaction;
    const sighash = segwitV0Sighash(unsigned, 0, stage.witnessScript, stage.amountSat, SIGHASH.ALL);
    const witness = htlcTransactionWitness(
      stage,
      { counterpartySignature, ownSignature: secp.sign(sighash, secret) },
      preimage,
    );
    return {
      ...unsigned,
      inputs: unsigned.inputs.map((input, i) => (i === 0 ? { ...input, witness } : input)),
    };
  }

  /** Takes an HTLC of the fleet's commitment: with a preimage what the fleet offered, without what it offered itself and took back. */
  claim(
    built: BuiltCommitment,
    output: HtlcOutput,
    preimage: Uint8Array | undefined,
    fee: { readonly coin?: FeeCoin; readonly feeSat: bigint },
  ): Tx {
    const { secp, channel } = this.#node;
    const { outputIndex, valueSat, witnessScript, htlc } = output;
    const { coin, feeSat } = fee;
    const alone: Tx = {
      version: 2,
      locktime: preimage === undefined ? htlc.cltvExpiryHeight : 0,
      inputs: [
        {
          txid: built.txid,
          vout: outputIndex,
          scriptSig: new Uint8Array(0),
          sequence: channel.parameters.commitmentFormat === 'anchors' ? 1 : 0xffff_fffd,
          witness: [],
        },
      ],
      outputs: [{ script: PEER_SCRIPT, valueSat: coin === undefined ? valueSat - feeSat : valueSat }],
    };
    const unsigned = coin === undefined ? alone : withFee(alone, { coin, feeSat });
    const secret = this.#htlcSecret(built, channel.changes.counterpartyPoints.current);
    const sighash = segwitV0Sighash(unsigned, 0, witnessScript, valueSat, SIGHASH.ALL);
    const signature = secp.sign(sighash, secret);
    const witness =
      preimage === undefined
        ? htlcTimeoutClaimWitness(signature, witnessScript)
        : htlcPreimageClaimWitness(signature, preimage, witnessScript);
    return {
      ...unsigned,
      inputs: unsigned.inputs.map((input, i) => (i === 0 ? { ...input, witness } : input)),
    };
  }
}

/** Pays for a transaction with a coin, whose change anyone can spend again. */
function withFee(tx: Tx, { coin, feeSat }: { readonly coin: FeeCoin; readonly feeSat: bigint }): Tx {
  return {
    ...tx,
    inputs: [
      ...tx.inputs,
      {
        txid: coin.txid,
        vout: coin.vout,
        scriptSig: new Uint8Array(0),
        sequence: 0xffff_fffd,
        witness: [ANYONE_WITNESS_SCRIPT],
      },
    ],
    outputs: [...tx.outputs, { script: ANYONE_SCRIPT, valueSat: coin.valueSat - feeSat }],
  };
}

/** The HTLC outputs of a commitment. */
export function htlcOutputs(built: BuiltCommitment): readonly HtlcOutput[] {
  return built.outputs.filter((output): output is HtlcOutput => output.type === 'htlc');
}
