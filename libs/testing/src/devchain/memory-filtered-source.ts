/**
 * A development chain in the same process as a source that shows of each
 * block only what was registered, as an index server does: what simulations
 * and tests of such sources use. It can be told to keep silent about
 * transactions, as a server does that is behind itself.
 */
import { displayHash, encodeBlockHeader, encodeTx, parseDisplayHash } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import type { NetworkName } from '@fulmen/bitcoin';
import type {
  BroadcastOutcome,
  ChainFilter,
  ChainHeader,
  ChainOutPoint,
  ChainTip,
  ChainTransaction,
  ChainUtxo,
  FeeEstimateMode,
  FilteredBlock,
  FilteredBlockSource,
  MempoolSpend,
  ProvenTransaction,
} from '@fulmen/chain';
import { sha256d } from '@fulmen/crypto';
import type { DevChain } from './devchain.ts';
import { merkleBranch } from './esplora-index.ts';
import { MemoryChainSource } from './memory-chain-source.ts';
import type { BlockNode, StoredTx } from './model.ts';
import { coinKey } from './model.ts';

export class MemoryFilteredSource implements FilteredBlockSource {
  readonly devChain: DevChain;
  readonly #whole: MemoryChainSource;
  /** Txids that it says nothing of. */
  readonly hidden = new Set<string>();

  constructor(devChain: DevChain) {
    this.devChain = devChain;
    this.#whole = new MemoryChainSource(devChain);
  }

  networkName(): Promise<NetworkName> {
    return this.#whole.networkName();
  }

  getBestBlock(): Promise<ChainTip> {
    return this.#whole.getBestBlock();
  }

  getBlockHash(height: number): Promise<string | undefined> {
    return this.#whole.getBlockHash(height);
  }

  getBlockHeader(hash: string): Promise<ChainHeader | undefined> {
    return this.#whole.getBlockHeader(hash);
  }

  async getFilteredBlock(hash: string, filter: ChainFilter): Promise<FilteredBlock | undefined> {
    const { chain } = this.devChain;
    const node = chain.node(hash);
    if (node === undefined || !chain.isActive(node)) return undefined;
    const earlier: { hash: string; height: number }[] = [];
    for (let below = node.prev; below !== undefined; below = below.prev) {
      if (below.transactions.some((stored) => this.#isAwaited(stored, filter)))
        earlier.push({ hash: below.hash, height: below.height });
    }
    return {
      header: encodeBlockHeader(node.header),
      ...(node.prev !== undefined && { previousHeader: encodeBlockHeader(node.prev.header) }),
      transactions: node.transactions.flatMap((stored, index) =>
        this.#isAwaited(stored, filter) || this.#concerns(stored, filter, node)
          ? [proven(node, stored, index)]
          : [],
      ),
      earlier: earlier.toReversed(),
    };
  }

  #isAwaited({ txid, tx }: StoredTx, filter: ChainFilter): boolean {
    if (this.hidden.has(txid)) return false;
    return (
      filter.txids.has(txid) ||
      tx.inputs.some((input) => filter.outPoints.has(`${displayHash(input.txid)}:${input.vout}`))
    );
  }

  #concerns({ txid, tx }: StoredTx, filter: ChainFilter, node?: BlockNode): boolean {
    if (this.hidden.has(txid)) return false;
    const spent = node === undefined ? undefined : this.devChain.chain.spentBy(node);
    return (
      tx.outputs.some(({ script }) => filter.scripts.has(toHex(script))) ||
      tx.inputs.some((input) => {
        const key = coinKey(displayHash(input.txid), input.vout);
        const waiting = this.devChain.mempool.get(displayHash(input.txid))?.stored.tx.outputs[input.vout];
        const script = (spent?.get(key) ?? this.devChain.chain.coin(key) ?? waiting)?.script;
        return script !== undefined && filter.scripts.has(toHex(script));
      })
    );
  }

  async getFilteredMempool(filter: ChainFilter): Promise<readonly Uint8Array[]> {
    return this.devChain.mempool
      .entries()
      .filter(({ stored }) => this.#concerns(stored, filter))
      .map(({ stored }) => encodeTx(stored.tx));
  }

  getTxByBlockAndIndex(height: number, index: number): Promise<ChainTransaction | undefined> {
    return this.#whole.getTxByBlockAndIndex(height, index);
  }

  getUtxo(txid: string, vout: number): Promise<ChainUtxo | undefined> {
    return this.#whole.getUtxo(txid, vout);
  }

  getRawMempool(): Promise<readonly string[]> {
    return this.#whole.getRawMempool();
  }

  getMempoolTransaction(txid: string): Promise<Uint8Array | undefined> {
    return this.#whole.getMempoolTransaction(txid);
  }

  getMempoolSpends(outPoints: readonly ChainOutPoint[]): Promise<readonly MempoolSpend[]> {
    return this.#whole.getMempoolSpends(outPoints);
  }

  broadcastPackage(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    return this.#whole.broadcastPackage(transactions);
  }

  estimateFeerateSatPerKw(confirmationTarget: number, mode: FeeEstimateMode): Promise<number | undefined> {
    return this.#whole.estimateFeerateSatPerKw(confirmationTarget, mode);
  }

  mempoolMinFeerateSatPerKw(): Promise<number> {
    return this.#whole.mempoolMinFeerateSatPerKw();
  }
}

function proven(node: BlockNode, stored: StoredTx, index: number): ProvenTransaction {
  const txids = node.transactions.map(({ txid }) => parseDisplayHash(txid));
  return { tx: stored.raw, index, merkleBranch: merkleBranch(txids, index, sha256d) };
}
