/**
 * The port to the Bitcoin chain. Services see the chain only through it; the
 * adapters are Bitcoin Core's RPC (`@fulmen/chain/bitcoind`), an Esplora
 * server (`@fulmen/chain/esplora`) and, for tests, the development chain.
 *
 * A source gives either whole blocks or, of each block, what was registered
 * for (`ChainFilter`). `readBlock` reads both the same way and checks what
 * they say; everything else is alike.
 *
 * Hashes and txids are display-order hex strings here (as people and RPCs
 * write them); transactions and blocks are their raw bytes, to be decoded
 * with `@fulmen/bitcoin`. What does not exist is `undefined`; a source that
 * cannot answer throws `ChainSourceError`.
 */
import type { NetworkName } from '@fulmen/bitcoin';
import type { ChainFilter } from './filter.ts';

/** The best block. */
export interface ChainTip {
  readonly hash: string;
  readonly height: number;
}

/** A block's header with its place in the chain; `time` and `medianTime` in seconds since 1970. */
export interface ChainHeader {
  readonly hash: string;
  /** Undefined for the genesis block. */
  readonly prevHash: string | undefined;
  readonly height: number;
  readonly time: number;
  /** Median time past (BIP 113). */
  readonly medianTime: number;
  /** True while the block is part of the best chain. */
  readonly inBestChain: boolean;
}

/** An unspent output of the best chain; spends that wait in the mempool are not considered. */
export interface ChainUtxo {
  readonly valueSat: bigint;
  readonly script: Uint8Array;
  /** Blocks from the one that contains it to the best one, at least 1. */
  readonly confirmations: number;
  readonly coinbase: boolean;
}

/** An output of a transaction; `txid` in display order. */
export interface ChainOutPoint {
  readonly txid: string;
  readonly vout: number;
}

/** A transaction of the mempool spends this output. */
export interface MempoolSpend extends ChainOutPoint {
  readonly spendingTxid: string;
}

/** What a node's mempool says about one transaction. */
export type MempoolVerdict =
  | { readonly txid: string; readonly kind: 'accepted'; readonly vsize: number; readonly feeSat: bigint }
  /** It is in the mempool or the chain already. */
  | { readonly txid: string; readonly kind: 'known' }
  | { readonly txid: string; readonly kind: 'rejected'; readonly reason: string };

/** Outcome of a broadcast. Transactions known already count as accepted, so a broadcast may be repeated. */
export type BroadcastOutcome =
  | { readonly kind: 'accepted'; readonly txids: readonly string[] }
  | {
      readonly kind: 'rejected';
      readonly reason: string;
      readonly rejections: readonly { readonly txid: string; readonly reason: string }[];
    };

/** How an estimate weighs recent falls of the feerate (Bitcoin Core's `estimate_mode`). */
export type FeeEstimateMode = 'economical' | 'conservative';

/** A transaction of a block, found by its position. */
export interface ChainTransaction {
  readonly txid: string;
  readonly blockHash: string;
  readonly tx: Uint8Array;
}

/** A transaction of a block with the proof that it is in it. */
export interface ProvenTransaction {
  readonly tx: Uint8Array;
  /** Position in the block. */
  readonly index: number;
  /** The hashes beside its way to the header's merkle root, lowest first, in display order. */
  readonly merkleBranch: readonly string[];
}

/** Of one block, what a filter asked for. */
export interface FilteredBlock {
  /** 80 bytes. */
  readonly header: Uint8Array;
  /** Of the block before; absent for the genesis block. */
  readonly previousHeader?: Uint8Array;
  /** In the order of the block. */
  readonly transactions: readonly ProvenTransaction[];
  /**
   * Earlier blocks of the same chain in which a registered transaction or spend is. Nothing is registered that is
   * known to be confirmed, so the source did not tell of it when its block came.
   */
  readonly earlier: readonly { readonly hash: string; readonly height: number }[];
}

/** What every view of a Bitcoin node gives. Methods throw `ChainSourceError` when it cannot answer. */
export interface ChainSourceBase {
  /** Network that the node runs on. */
  networkName(): Promise<NetworkName>;
  getBestBlock(): Promise<ChainTip>;
  /** Hash of the best chain's block at a height, or undefined above the tip. */
  getBlockHash(height: number): Promise<string | undefined>;
  /** Header of any block that the node knows, stale ones included. */
  getBlockHeader(hash: string): Promise<ChainHeader | undefined>;
  /** Transaction at a position of the best chain (a short channel id's block and index), or undefined. */
  getTxByBlockAndIndex(height: number, index: number): Promise<ChainTransaction | undefined>;
  /** Unspent output of the best chain, or undefined when it never existed or is spent. */
  getUtxo(txid: string, vout: number): Promise<ChainUtxo | undefined>;
  /** Txids in the mempool, in no particular order. */
  getRawMempool(): Promise<readonly string[]>;
  /** Raw bytes of a transaction that waits in the mempool. */
  getMempoolTransaction(txid: string): Promise<Uint8Array | undefined>;
  /**
   * Which of these outputs a transaction in the mempool spends, each once, in
   * the order of the question; outputs that nothing spends, or that do not
   * exist, are left out. Any number may be asked.
   */
  getMempoolSpends(outPoints: readonly ChainOutPoint[]): Promise<readonly MempoolSpend[]>;
  /**
   * Submits one transaction, or a package of unconfirmed parents followed by
   * their child (the child pays for all).
   */
  broadcastPackage(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome>;
  /** Feerate to confirm within `confirmationTarget` blocks, in sat per 1000 weight; undefined without data. */
  estimateFeerateSatPerKw(confirmationTarget: number, mode: FeeEstimateMode): Promise<number | undefined>;
  /** The mempool's present minimum feerate in sat per 1000 weight. */
  mempoolMinFeerateSatPerKw(): Promise<number>;
}

/** A full node: it gives every block whole. */
export interface WholeBlockSource extends ChainSourceBase {
  /** Raw bytes of a block; undefined for one that it does not know, or whose bytes it does not have yet. */
  getBlock(hash: string): Promise<Uint8Array | undefined>;
  /** Asks without submitting; several transactions are judged as one package, parents first. */
  testMempoolAccept(transactions: readonly Uint8Array[]): Promise<readonly MempoolVerdict[]>;
}

/** A server of an index: it sees, of each block, what was registered. */
export interface FilteredBlockSource extends ChainSourceBase {
  /** Undefined for a block that is not in its best chain, or while its chain changes under the question. */
  getFilteredBlock(hash: string, filter: ChainFilter): Promise<FilteredBlock | undefined>;
  /** Raw transactions of the mempool that concern a registered script. */
  getFilteredMempool(filter: ChainFilter): Promise<readonly Uint8Array[]>;
}

/** A view of one Bitcoin node. */
export type ChainSource = WholeBlockSource | FilteredBlockSource;

/** Why a source could not answer. */
export type ChainSourceErrorCode =
  | 'unreachable'
  | 'timeout'
  | 'unauthorized'
  | 'too-large'
  | 'malformed'
  | 'refused'
  | 'warming-up';

/** The source cannot answer. `unreachable`, `timeout` and `warming-up` are worth a retry. */
export class ChainSourceError extends Error {
  override readonly name = 'ChainSourceError';
  readonly code: ChainSourceErrorCode;
  /** The node's own error number, when it gave one. */
  readonly rpcCode: number | undefined;

  constructor(code: ChainSourceErrorCode, message: string, rpcCode?: number) {
    super(message);
    this.code = code;
    this.rpcCode = rpcCode;
  }

  /** True when the same call may succeed later. */
  get isTransient(): boolean {
    return this.code === 'unreachable' || this.code === 'timeout' || this.code === 'warming-up';
  }
}
