/**
 * A `ChainSource` over a `DevChain` in the same process: what simulations
 * use. It answers as the RPC adapter would, without a socket.
 */
import type { NetworkName } from '@fulmen/bitcoin';
import { feerateSatPerKwFromBtcPerKvb } from '@fulmen/bitcoin';
import type {
  BroadcastOutcome,
  ChainHeader,
  ChainOutPoint,
  ChainTip,
  ChainTransaction,
  ChainUtxo,
  FeeEstimateMode,
  MempoolSpend,
  MempoolVerdict,
  WholeBlockSource,
} from '@fulmen/chain';
import { ChainSourceError } from '@fulmen/chain';
import type { DevChain } from './devchain.ts';
import type { Rejection, StoredTx } from './model.ts';
import { coinKey, storeRawTx } from './model.ts';

const KNOWN_REASONS: ReadonlySet<string> = new Set(['txn-already-in-mempool', 'txn-already-known']);

function reasonOf({ reason }: Rejection): string {
  return reason === 'bad-txns-inputs-missingorspent' ? 'missing-inputs' : reason;
}

function storedOf(raw: Uint8Array): StoredTx {
  const stored = storeRawTx(raw);
  if (stored === undefined) throw new ChainSourceError('refused', 'TX decode failed', -22);
  return stored;
}

/** The chain of a test, as services see chains. */
export class MemoryChainSource implements WholeBlockSource {
  readonly devChain: DevChain;

  constructor(devChain: DevChain) {
    this.devChain = devChain;
  }

  async networkName(): Promise<NetworkName> {
    return 'regtest';
  }

  async getBestBlock(): Promise<ChainTip> {
    const { hash, height } = this.devChain.chain.tip;
    return { hash, height };
  }

  async getBlockHash(height: number): Promise<string | undefined> {
    return this.devChain.chain.at(height)?.hash;
  }

  async getBlockHeader(hash: string): Promise<ChainHeader | undefined> {
    const node = this.devChain.chain.node(hash);
    if (node === undefined) return undefined;
    const { height, medianTime, header, prev } = node;
    return {
      hash,
      prevHash: prev?.hash,
      height,
      time: header.time,
      medianTime,
      inBestChain: this.devChain.chain.isActive(node),
    };
  }

  async getBlock(hash: string): Promise<Uint8Array | undefined> {
    return this.devChain.chain.node(hash)?.raw;
  }

  async getTxByBlockAndIndex(height: number, index: number): Promise<ChainTransaction | undefined> {
    const node = this.devChain.chain.at(height);
    const stored = node?.transactions[index];
    return node === undefined || stored === undefined
      ? undefined
      : { txid: stored.txid, blockHash: node.hash, tx: stored.raw };
  }

  async getUtxo(txid: string, vout: number): Promise<ChainUtxo | undefined> {
    const coin = this.devChain.chain.coin(coinKey(txid, vout));
    if (coin?.height === undefined) return undefined;
    const { valueSat, script, coinbase, height } = coin;
    return { valueSat, script, confirmations: this.devChain.chain.tip.height - height + 1, coinbase };
  }

  async getRawMempool(): Promise<readonly string[]> {
    return this.devChain.mempool.entries().map(({ stored }) => stored.txid);
  }

  async getMempoolTransaction(txid: string): Promise<Uint8Array | undefined> {
    return this.devChain.mempool.get(txid)?.stored.raw;
  }

  async getMempoolSpends(outPoints: readonly ChainOutPoint[]): Promise<readonly MempoolSpend[]> {
    const asked = new Map(outPoints.map(({ txid, vout }) => [coinKey(txid, vout), { txid, vout }]));
    return [...asked].flatMap(([key, outPoint]): readonly MempoolSpend[] => {
      const spendingTxid = this.devChain.mempool.spender(key);
      return spendingTxid === undefined ? [] : [{ ...outPoint, spendingTxid }];
    });
  }

  async testMempoolAccept(transactions: readonly Uint8Array[]): Promise<readonly MempoolVerdict[]> {
    const stored = transactions.map(storedOf);
    const verdicts = new Map(
      this.devChain.test(stored).verdicts.map((verdict) => [verdict.stored.txid, verdict]),
    );
    return stored.map(({ txid, vsize }): MempoolVerdict => {
      const verdict = verdicts.get(txid);
      if (verdict === undefined) return { txid, kind: 'rejected', reason: 'package-not-validated' };
      if (verdict.rejection === undefined)
        return { txid, kind: 'accepted', vsize, feeSat: verdict.feeSat ?? 0n };
      const reason = reasonOf(verdict.rejection);
      return KNOWN_REASONS.has(reason) ? { txid, kind: 'known' } : { txid, kind: 'rejected', reason };
    });
  }

  async broadcastPackage(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    const stored = transactions.map(storedOf);
    const txids = stored.map(({ txid }) => txid);
    const [only] = stored;
    if (only === undefined) return { kind: 'accepted', txids };
    if (stored.length === 1) {
      const [verdict] = await this.testMempoolAccept(transactions);
      if (verdict?.kind === 'rejected')
        return {
          kind: 'rejected',
          reason: verdict.reason,
          rejections: [{ txid: only.txid, reason: verdict.reason }],
        };
      if (verdict?.kind === 'accepted') this.devChain.submit(only);
      return { kind: 'accepted', txids };
    }
    const { message, verdicts } = this.devChain.submitPackage(stored);
    const rejections = verdicts
      .filter(({ rejection }) => rejection !== undefined && !KNOWN_REASONS.has(rejection.reason))
      .map(({ stored: { txid }, rejection }) => ({ txid, reason: rejection?.message ?? '' }));
    if (rejections.length === 0) return { kind: 'accepted', txids };
    return {
      kind: 'rejected',
      reason: message === 'transaction failed' ? (rejections[0]?.reason ?? message) : message,
      rejections,
    };
  }

  async estimateFeerateSatPerKw(
    _confirmationTarget: number,
    _mode: FeeEstimateMode,
  ): Promise<number | undefined> {
    const estimate = this.devChain.feerateEstimateSatPerKvb;
    return estimate === undefined ? undefined : feerateSatPerKwFromBtcPerKvb(estimate / 1e8);
  }

  async mempoolMinFeerateSatPerKw(): Promise<number> {
    return feerateSatPerKwFromBtcPerKvb(this.devChain.mempool.policy.minRelayFeerateSatPerKvb / 1e8);
  }
}
