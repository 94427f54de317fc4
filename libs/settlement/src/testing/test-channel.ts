/**
 * A real channel between two nodes with real keys, as material for tests of how
 * it ends: monitors as chain-monitor would have them, every commitment of both
 * sides fully signed (revoked ones and those still on their way included), and
 * the spends that either side, honest or not, can make of them.
 *
 *   const channel = new TestChannel({ format: 'anchors' });
 *   const id = channel.add('alice', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: 500 });
 *   channel.settle();                                  // both sides commit until nothing moves
 *   const revoked = channel.commitment('bob', 0n);     // signed transaction: revoked.tx
 *   const monitor = channel.monitor('alice');
 *
 *   const chain = new TestChain();                     // ./test-chain.ts: heights, scripts, reorganisations
 *   chain.fund(channel);
 *   chain.mine([revoked.tx]);
 *   const { settlement } = chain.settlement(channel, 'alice');
 *   chain.mine(claimTransactions(channel, 'alice', settlement));   // ./claims.ts: signs as the signer does
 *
 * "Preimage of seed n" is `preimageOf(n)` of the channel library's pair.
 */
import { SIGHASH, segwitV0Sighash, withWitness } from '@fulmen/bitcoin';
import type { Tx, TxOutput } from '@fulmen/bitcoin';
import { buildCommitment } from '@fulmen/channel/commitment/build';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { htlcTimeoutClaimWitness, htlcPreimageClaimWitness } from '@fulmen/channel/commitment/scripts/htlc';
import { toLocalDelayedWitness } from '@fulmen/channel/commitment/scripts/to-local';
import { assembleCommitment, htlcTransactionWitness, signCommitment } from '@fulmen/channel/commitment/sign';
import type {
  BuiltCommitment,
  CommitmentOutput,
  CommitmentSignatures,
} from '@fulmen/channel/commitment/types';
import type { CommitmentHtlc } from '@fulmen/channel/commitment-spec';
import { Pair, addCommand, preimageOf } from '@fulmen/channel/testing/pair';
import type { PairOptions, Side } from '@fulmen/channel/testing/pair';
import { testSecrets } from '@fulmen/channel/testing/signer';
import type { TestSecrets } from '@fulmen/channel/testing/signer';
import { InternalError } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { commitmentPoint, derivePrivateKey } from '@fulmen/keys';
import { applyUpdate, newMonitor } from '@fulmen/monitor';
import type {
  ChannelMonitor,
  CommitmentContent,
  MonitorFunding,
  MonitorHtlc,
  MonitorParameters,
} from '@fulmen/monitor';

export type { Side } from '@fulmen/channel/testing/pair';

/** A commitment with both signatures, seen from its owner. */
export interface SignedCommitment {
  readonly owner: Side;
  readonly number: bigint;
  /** The owner is its `holder`; HTLC directions are the owner's. */
  readonly built: BuiltCommitment;
  readonly tx: Tx;
  readonly txid: Uint8Array;
  /** The other side's, in the order of the HTLC outputs. */
  readonly signatures: CommitmentSignatures;
}

/** Where an honest spend goes: P2WPKH of no key that matters. */
export function homeScript(side: Side): Uint8Array {
  return Uint8Array.from([0, 20, ...new Uint8Array(20).fill(side === 'alice' ? 0xa1 : 0xb0)]);
}

export class TestChannel {
  readonly pair: Pair;
  readonly #monitors = new Map<Side, { monitor: ChannelMonitor; effects: number }>();
  /** Commitments of a side, as the other side's monitor was told. */
  readonly #contents: Readonly<Record<Side, Map<bigint, CommitmentContent>>> = {
    alice: new Map(),
    bob: new Map(),
  };
  /** HTLCs by direction and id, seen from a side. */
  readonly #htlcs: Readonly<Record<Side, Map<string, MonitorHtlc>>> = { alice: new Map(), bob: new Map() };

  constructor(options: PairOptions = {}) {
    this.pair = new Pair(secp, {
      ...options,
      alice: { restores: 'unchecked', ...options.alice },
      bob: { restores: 'unchecked', ...options.bob },
    });
  }

  other(side: Side): Side {
    return this.pair.other(side);
  }

  /** Offers an HTLC; it is on no commitment until something is committed. Returns its id. */
  add(
    from: Side,
    htlc: { readonly seed: number; readonly amountMsat: bigint; readonly cltvExpiryHeight: number },
  ): bigint {
    const node = this.pair.node(from);
    const id = node.channel.changes.nextOutboundHtlcId;
    node.must(addCommand(htlc.seed, htlc.amountMsat, htlc.cltvExpiryHeight));
    return id;
  }

  /** The receiver of an HTLC releases its preimage off-chain. */
  fulfill(by: Side, id: bigint, seed: number): void {
    this.pair.node(by).must({ type: 'fulfil_htlc', id, preimage: preimageOf(seed) });
  }

  /** The receiver of an HTLC fails it off-chain. */
  fail(by: Side, id: bigint): void {
    this.pair.node(by).must({ type: 'fail_htlc', id, reason: new Uint8Array(292) });
  }

  /** Delivers and commits until nothing moves. */
  settle(): void {
    this.pair.settle();
  }

  /** Signs what is pending for the other side, which does not hear of it: its monitor has a `next`. */
  signUnheard(by: Side): void {
    const node = this.pair.node(by);
    node.must({ type: 'commit' });
    node.outbox = [];
  }

  /** What chain-monitor holds of a side's channel by now. */
  monitor(side: Side): ChannelMonitor {
    const { effects } = this.pair.node(side);
    let { monitor, effects: done } = this.#monitors.get(side) ?? {
      monitor: newMonitor(this.parameters(side)),
      effects: 0,
    };
    const { channelId } = monitor.parameters;
    for (; done < effects.length; done += 1) {
      const effect = effects[done];
      if (effect?.type !== 'monitor_update') continue;
      const { updateId, steps } = effect;
      const applied = applyUpdate(monitor, { channelId, updateId, steps });
      if (!applied.ok) throw new InternalError(`monitor: ${applied.error.type}`);
      monitor = applied.value.monitor;
      for (const step of steps) {
        if (step.type !== 'latest_counterparty_commitment' && step.type !== 'latest_holder_commitment')
          continue;
        for (const htlc of step.newHtlcs) this.#htlcs[side].set(`${htlc.direction} ${htlc.id}`, htlc);
        if (step.type === 'latest_counterparty_commitment')
          this.#contents[this.other(side)].set(step.content.commitmentNumber, step.content);
      }
    }
    this.#monitors.set(side, { monitor, effects: done });
    return monitor;
  }

  parameters(side: Side): MonitorParameters {
    const birth = this.pair.node(side).effects.find((effect) => effect.type === 'watch_channel');
    if (birth?.type !== 'watch_channel') throw new InternalError('no monitor was born');
    return birth.parameters;
  }

  get funding(): MonitorFunding {
    const [funding] = this.parameters('alice').fundings;
    if (funding === undefined) throw new InternalError('no funding');
    return funding;
  }

  secrets(side: Side): TestSecrets {
    return testSecrets(side);
  }

  perCommitmentPoint(owner: Side, number: bigint): Uint8Array {
    return commitmentPoint(secp, this.secrets(owner).seed, number);
  }

  /** Number of a side's newest commitment that the other signed, whether or not it has heard of it. */
  newestNumber(owner: Side): bigint {
    this.monitor(this.other(owner));
    return BigInt(this.#contents[owner].size - 1);
  }

  /** A side's commitment with both signatures; by default its newest. */
  commitment(owner: Side, number: bigint = this.newestNumber(owner)): SignedCommitment {
    const signer = this.other(owner);
    this.monitor(signer);
    const content = this.#contents[owner].get(number);
    if (content === undefined) throw new InternalError(`${owner} has no commitment ${number}`);
    const htlcs = content.htlcs.map(({ direction, id }): CommitmentHtlc => {
      const htlc = this.#htlcs[signer].get(`${direction} ${id}`);
      if (htlc === undefined) throw new InternalError('an HTLC without its body');
      return { ...htlc, direction: direction === 'inbound' ? 'outbound' : 'inbound' };
    });
    const parameters = this.parameters(owner);
    const [funding] = parameters.fundings;
    if (funding === undefined) throw new InternalError('no funding');
    const perCommitmentPoint = this.perCommitmentPoint(owner, number);
    const built = buildCommitment(secp, {
      parameters: commitmentParametersOfMonitor(parameters),
      funding,
      owner: 'holder',
      spec: {
        ...content,
        toHolderMsat: content.toCounterpartyMsat,
        toCounterpartyMsat: content.toHolderMsat,
        htlcs,
      },
      perCommitmentPoint,
    });
    const signatures = signCommitment(secp, built, {
      fundingSecret: this.secrets(signer).funding,
      htlcSecret: derivePrivateKey(secp, this.secrets(signer).htlc, perCommitmentPoint),
    });
    const tx = assembleCommitment(built, funding, {
      holderSignature: secp.sign(built.sighash, this.secrets(owner).funding),
      counterpartySignature: signatures.signature,
    });
    return { owner, number, built, tx, txid: built.txid, signatures };
  }

  /** Output of an HTLC; direction is the commitment owner's. */
  htlcOutput(
    { built }: SignedCommitment,
    direction: 'inbound' | 'outbound',
    id: bigint,
  ): Extract<CommitmentOutput, { type: 'htlc' }> {
    for (const output of built.outputs)
      if (output.type === 'htlc' && output.htlc.direction === direction && output.htlc.id === id)
        return output;
    throw new InternalError(`no output of ${direction} HTLC ${id}`);
  }

  /**
   * The owner's second stage of several HTLCs in one transaction (one, without anchors): success where a preimage is
   * given, else time-out. All have one locktime. With `shuffled` further outputs precede nothing: pairs stay, as SINGLE demands.
   */
  secondStage(
    { owner, number, built, signatures, txid }: SignedCommitment,
    htlcs: readonly { readonly outputIndex: number; readonly preimage?: Uint8Array }[],
    extraOutputs: readonly TxOutput[] = [],
  ): Tx {
    const parts = htlcs.map(({ outputIndex, preimage }) => {
      const index = built.htlcTransactions.findIndex((of) => of.outputIndex === outputIndex);
      const transaction = built.htlcTransactions[index];
      const counterpartySignature = signatures.htlcSignatures[index];
      if (transaction === undefined || counterpartySignature === undefined)
        throw new InternalError('no second stage');
      return { transaction, counterpartySignature, preimage };
    });
    const unsigned: Tx = {
      version: 2,
      locktime: parts[0]?.transaction.transaction.locktime ?? 0,
      inputs: parts.map(({ transaction }) => ({
        txid,
        vout: transaction.outputIndex,
        scriptSig: new Uint8Array(0),
        sequence: transaction.transaction.inputs[0]?.sequence ?? 0,
        witness: [],
      })),
      outputs: [...parts.flatMap(({ transaction }) => transaction.transaction.outputs), ...extraOutputs],
    };
    const htlcSecret = derivePrivateKey(
      secp,
      this.secrets(owner).htlc,
      this.perCommitmentPoint(owner, number),
    );
    return parts.reduce((tx, { transaction, counterpartySignature, preimage }, index) => {
      const { witnessScript, amountSat } = transaction;
      const sighash = segwitV0Sighash(unsigned, index, witnessScript, amountSat, SIGHASH.ALL);
      const ownSignature = secp.sign(sighash, htlcSecret);
      return withWitness(
        tx,
        index,
        htlcTransactionWitness(transaction, { counterpartySignature, ownSignature }, preimage),
      );
    }, unsigned);
  }

  /** The other side takes an HTLC output of a commitment: with a preimage, or after its expiry. */
  directClaim(commitment: SignedCommitment, outputIndex: number, preimage?: Uint8Array): Tx {
    const { owner, number, built, txid } = commitment;
    const claimant = this.other(owner);
    const output = built.outputs[outputIndex];
    if (output?.type !== 'htlc') throw new InternalError('no HTLC output');
    const secret = derivePrivateKey(
      secp,
      this.secrets(claimant).htlc,
      this.perCommitmentPoint(owner, number),
    );
    const { witnessScript, valueSat } = output;
    const unsigned: Tx = {
      version: 2,
      locktime: preimage === undefined ? output.htlc.cltvExpiryHeight : 0,
      inputs: [
        {
          txid,
          vout: outputIndex,
          scriptSig: new Uint8Array(0),
          sequence: this.parameters(owner).commitmentFormat === 'anchors' ? 1 : 0,
          witness: [],
        },
      ],
      outputs: [{ valueSat, script: homeScript(claimant) }],
    };
    const signature = secp.sign(segwitV0Sighash(unsigned, 0, witnessScript, valueSat, SIGHASH.ALL), secret);
    return withWitness(
      unsigned,
      0,
      preimage === undefined
        ? htlcTimeoutClaimWitness(signature, witnessScript)
        : htlcPreimageClaimWitness(signature, preimage, witnessScript),
    );
  }

  /** The owner takes delayed outputs (to_local, second stages) of one of its commitments home. */
  delayedClaim(
    { owner, number, built }: SignedCommitment,
    outputs: readonly {
      readonly txid: Uint8Array;
      readonly outputIndex: number;
      readonly valueSat: bigint;
    }[],
  ): Tx {
    const witnessScript =
      built.htlcTransactions[0]?.outputWitnessScript ??
      built.outputs.find(({ type }) => type === 'to_local')?.witnessScript;
    if (witnessScript === undefined) throw new InternalError('nothing is delayed');
    const point = this.perCommitmentPoint(owner, number);
    const secret = derivePrivateKey(secp, this.secrets(owner).delayed, point);
    const unsigned: Tx = {
      version: 2,
      locktime: 0,
      inputs: outputs.map(({ txid, outputIndex }) => ({
        txid,
        vout: outputIndex,
        scriptSig: new Uint8Array(0),
        sequence: this.parameters(owner).holder.selfDelayBlocks,
        witness: [],
      })),
      outputs: [
        { valueSat: outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n), script: homeScript(owner) },
      ],
    };
    return outputs.reduce((tx, { valueSat }, index) => {
      const sighash = segwitV0Sighash(unsigned, index, witnessScript, valueSat, SIGHASH.ALL);
      return withWitness(tx, index, toLocalDelayedWitness(secp.sign(sighash, secret), witnessScript));
    }, unsigned);
  }
}
