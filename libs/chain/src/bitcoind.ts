/**
 * The chain as Bitcoin Core sees it. Every answer is checked for its shape:
 * a node that was misconfigured or replaced must not put nonsense into a
 * channel's decisions.
 */
import type { NetworkName } from '@fulmen/bitcoin';
import { NETWORKS, decodeTx, feerateSatPerKwFromBtcPerKvb, txidHex } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import {
  KNOWN_REASONS,
  MAX_FEERATE_BTC_PER_KVB,
  bytesOf,
  hashOf,
  heightOf,
  integer,
  malformed,
  packageOutcome,
  record,
  upTo,
} from './answers.ts';
import type { BitcoindRpcConfig, RpcOutcome } from './bitcoind-rpc.ts';
import { BitcoindRpc } from './bitcoind-rpc.ts';
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
} from './source.ts';
import { ChainSourceError } from './source.ts';

/** RPC_INVALID_ADDRESS_OR_KEY: no such block or transaction. */
const RPC_NOT_FOUND = -5;
/** RPC_INVALID_PARAMETER: a height above the tip, among others. */
const RPC_INVALID_PARAMETER = -8;
/** RPC_MISC_ERROR: the block's data is not (or no longer) on the node's disk. */
const RPC_MISC_ERROR = -1;
/** RPC_VERIFY_ALREADY_IN_UTXO_SET. */
const RPC_ALREADY_IN_CHAIN = -27;

/** Outputs asked in one call; a call holds the mempool's lock for its length. */
const MAX_OUTPOINTS_PER_CALL = 1_000;

/** Amounts arrive as decimal bitcoin; a double holds every satoshi amount below 21 million bitcoin exactly enough to round. */
function satoshis(value: unknown, what: string): bigint {
  return BigInt(Math.round(upTo(21_000_000, value, what) * 1e8));
}

/** A `ChainSource` over Bitcoin Core's JSON-RPC. */
export class BitcoindChainSource implements WholeBlockSource {
  readonly rpc: BitcoindRpc;

  constructor(config: BitcoindRpcConfig) {
    this.rpc = new BitcoindRpc(config);
  }

  /** Lets the sockets go. */
  close(): void {
    this.rpc.close();
  }

  /** The value, or undefined when the node answered with one of the given numbers. */
  #unless(outcome: RpcOutcome, method: string, ...absent: readonly number[]): unknown {
    if (outcome.ok) return outcome.value;
    if (absent.includes(outcome.error.code)) return undefined;
    throw new ChainSourceError('refused', `${method}: ${outcome.error.message}`, outcome.error.code);
  }

  async networkName(): Promise<NetworkName> {
    const chain = record(await this.rpc.call('getblockchaininfo'), 'chain info')['chain'];
    const network = Object.values(NETWORKS).find(({ coreName }) => coreName === chain);
    if (network === undefined) throw malformed('network');
    return network.name;
  }

  async getBestBlock(): Promise<ChainTip> {
    // One call, so that hash and height are of the same moment.
    const info = record(await this.rpc.call('getblockchaininfo'), 'chain info');
    return { hash: hashOf(info['bestblockhash'], 'best block'), height: heightOf(info['blocks']) };
  }

  async getBlockHash(height: number): Promise<string | undefined> {
    const hash = this.#unless(
      await this.rpc.try('getblockhash', height),
      'getblockhash',
      RPC_INVALID_PARAMETER,
    );
    return hash === undefined ? undefined : hashOf(hash, 'block hash');
  }

  async getBlockHeader(hash: string): Promise<ChainHeader | undefined> {
    const found = this.#unless(
      await this.rpc.try('getblockheader', hash, true),
      'getblockheader',
      RPC_NOT_FOUND,
    );
    if (found === undefined) return undefined;
    const header = record(found, 'header');
    const prevHash = header['previousblockhash'];
    return {
      hash: hashOf(header['hash'], 'hash'),
      prevHash: prevHash === undefined ? undefined : hashOf(prevHash, 'previous hash'),
      height: heightOf(header['height']),
      time: integer(header['time'], 'time'),
      medianTime: integer(header['mediantime'], 'median time'),
      inBestChain: integer(header['confirmations'], 'confirmations') >= 0,
    };
  }

  async getBlock(hash: string): Promise<Uint8Array | undefined> {
    const found = this.#unless(
      await this.rpc.try('getblock', hash, 0),
      'getblock',
      RPC_NOT_FOUND,
      RPC_MISC_ERROR,
    );
    return found === undefined ? undefined : bytesOf(found, 'block');
  }

  async getTxByBlockAndIndex(height: number, index: number): Promise<ChainTransaction | undefined> {
    const blockHash = await this.getBlockHash(height);
    if (blockHash === undefined) return undefined;
    // Verbosity 1 lists ids only: far less than the block; then one transaction by its block, which needs no index.
    const found = this.#unless(
      await this.rpc.try('getblock', blockHash, 1),
      'getblock',
      RPC_NOT_FOUND,
      RPC_MISC_ERROR,
    );
    if (found === undefined) return undefined;
    const ids = record(found, 'block')['tx'];
    if (!Array.isArray(ids)) throw malformed('list of transactions');
    if (!Number.isSafeInteger(index) || index < 0 || index >= ids.length) return undefined;
    const txid = hashOf(ids[index], 'txid');
    const raw = this.#unless(
      await this.rpc.try('getrawtransaction', txid, false, blockHash),
      'getrawtransaction',
      RPC_NOT_FOUND,
    );
    if (raw === undefined) return undefined;
    const tx = bytesOf(raw, 'transaction');
    const decoded = decodeTx(tx);
    if (!decoded.ok || txidHex(decoded.value) !== txid) throw malformed('transaction');
    return { txid, blockHash, tx };
  }

  async getUtxo(txid: string, vout: number): Promise<ChainUtxo | undefined> {
    const found = await this.rpc.call('gettxout', txid, vout, false);
    if (found === null || found === undefined) return undefined;
    const output = record(found, 'output');
    const confirmations = integer(output['confirmations'], 'confirmations');
    // The mempool was not asked.
    if (confirmations < 1) throw malformed('confirmations');
    return {
      valueSat: satoshis(output['value'], 'value'),
      script: bytesOf(record(output['scriptPubKey'], 'script')['hex'], 'script'),
      confirmations,
      coinbase: output['coinbase'] === true,
    };
  }

  async getRawMempool(): Promise<readonly string[]> {
    const ids = await this.rpc.call('getrawmempool');
    if (!Array.isArray(ids)) throw malformed('mempool');
    return ids.map((id: unknown) => hashOf(id, 'txid'));
  }

  async getMempoolTransaction(txid: string): Promise<Uint8Array | undefined> {
    // With a transaction index, getrawtransaction finds confirmed ones too: ask the mempool first.
    const [entry, raw] = await this.rpc.batch([
      { method: 'getmempoolentry', params: [txid] },
      { method: 'getrawtransaction', params: [txid] },
    ]);
    if (entry === undefined || raw === undefined) throw malformed('batch');
    if (this.#unless(entry, 'getmempoolentry', RPC_NOT_FOUND) === undefined) return undefined;
    const found = this.#unless(raw, 'getrawtransaction', RPC_NOT_FOUND);
    return found === undefined ? undefined : bytesOf(found, 'transaction');
  }

  async getMempoolSpends(outPoints: readonly ChainOutPoint[]): Promise<readonly MempoolSpend[]> {
    const asked = new Map(outPoints.map(({ txid, vout }) => [`${txid}:${vout}`, { txid, vout }]));
    const pending = [...asked.values()];
    const spends: MempoolSpend[] = [];
    for (let from = 0; from < pending.length; from += MAX_OUTPOINTS_PER_CALL) {
      const slice = pending.slice(from, from + MAX_OUTPOINTS_PER_CALL);
      const answer = await this.rpc.call('gettxspendingprevout', slice);
      if (!Array.isArray(answer) || answer.length !== slice.length) throw malformed('list of spends');
      for (const [index, item] of answer.entries()) {
        const outPoint = slice[index] as ChainOutPoint;
        const found = record(item, 'spend');
        if (found['txid'] !== outPoint.txid || found['vout'] !== outPoint.vout) throw malformed('spend');
        const spendingTxid = found['spendingtxid'];
        if (spendingTxid !== undefined)
          spends.push({ ...outPoint, spendingTxid: hashOf(spendingTxid, 'spending txid') });
      }
    }
    return spends;
  }

  async testMempoolAccept(transactions: readonly Uint8Array[]): Promise<readonly MempoolVerdict[]> {
    const answer = await this.rpc.call('testmempoolaccept', transactions.map(toHex), 0);
    if (!Array.isArray(answer) || answer.length !== transactions.length) throw malformed('verdict');
    return answer.map((item: unknown): MempoolVerdict => {
      const verdict = record(item, 'verdict');
      const txid = hashOf(verdict['txid'], 'txid');
      if (verdict['allowed'] === true) {
        const feeSat = satoshis(record(verdict['fees'], 'fees')['base'], 'fee');
        return { txid, kind: 'accepted', vsize: integer(verdict['vsize'], 'size'), feeSat };
      }
      // A transaction of a package that was not reached has neither a verdict nor a reason of its own.
      const reason = String(verdict['reject-reason'] ?? verdict['package-error'] ?? 'package-not-validated');
      return KNOWN_REASONS.has(reason) ? { txid, kind: 'known' } : { txid, kind: 'rejected', reason };
    });
  }

  async broadcastPackage(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    const [only] = transactions;
    if (only === undefined) return { kind: 'accepted', txids: [] };
    return transactions.length === 1
      ? await this.#broadcastOne(only)
      : await this.#submitPackage(transactions);
  }

  async #broadcastOne(tx: Uint8Array): Promise<BroadcastOutcome> {
    const [verdict] = await this.testMempoolAccept([tx]);
    if (verdict === undefined) throw malformed('verdict');
    const { txid } = verdict;
    if (verdict.kind === 'rejected')
      return { kind: 'rejected', reason: verdict.reason, rejections: [{ txid, reason: verdict.reason }] };
    if (verdict.kind === 'accepted') {
      // Fee and burn limits guard a person's mistake; here the caller has decided.
      const sent = await this.rpc.try('sendrawtransaction', toHex(tx), 0, 21_000_000);
      if (!sent.ok && sent.error.code !== RPC_ALREADY_IN_CHAIN) {
        return {
          kind: 'rejected',
          reason: sent.error.message,
          rejections: [{ txid, reason: sent.error.message }],
        };
      }
    }
    return { kind: 'accepted', txids: [txid] };
  }

  async #submitPackage(transactions: readonly Uint8Array[]): Promise<BroadcastOutcome> {
    const txids = transactions.map((tx) => {
      const decoded = decodeTx(tx);
      if (!decoded.ok) throw decoded.error;
      return txidHex(decoded.value);
    });
    const outcome = await this.rpc.try('submitpackage', transactions.map(toHex), 0, 21_000_000);
    if (!outcome.ok) {
      return {
        kind: 'rejected',
        reason: outcome.error.message,
        rejections: txids.map((txid) => ({ txid, reason: outcome.error.message })),
      };
    }
    return packageOutcome(outcome.value, txids);
  }

  async estimateFeerateSatPerKw(
    confirmationTarget: number,
    mode: FeeEstimateMode,
  ): Promise<number | undefined> {
    const answer = record(await this.rpc.call('estimatesmartfee', confirmationTarget, mode), 'estimate');
    const feerate = answer['feerate'];
    // Without enough data there is none; old releases say -1.
    if (feerate === undefined || (typeof feerate === 'number' && feerate <= 0)) return undefined;
    return feerateSatPerKwFromBtcPerKvb(upTo(MAX_FEERATE_BTC_PER_KVB, feerate, 'estimate'));
  }

  async mempoolMinFeerateSatPerKw(): Promise<number> {
    const feerate = record(await this.rpc.call('getmempoolinfo'), 'mempool info')['mempoolminfee'];
    return feerateSatPerKwFromBtcPerKvb(upTo(MAX_FEERATE_BTC_PER_KVB, feerate, 'minimum feerate'));
  }
}
