/** The RPC methods about transactions that wait. */
import { toHex } from '@fulmen/bitcoin/bytes';
import type { DevChain } from './devchain.ts';
import type { TransactionVerdict } from './packages.ts';
import { isChildWithParents } from './packages.ts';
import type { StoredTx } from './model.ts';
import { Rejection, coinKey } from './model.ts';
import type { Json } from './rpc-format.ts';
import { bitcoinOf, mempoolEntryJson, txJson } from './rpc-format.ts';
import type { Params } from './rpc-error.ts';
import { RPC, RpcError, txOf } from './rpc-error.ts';
import type { MempoolEntry } from './mempool.ts';

const DEFAULT_MAX_FEERATE = 0.1;
const DECODE_FAILED = 'TX decode failed. Make sure the tx has at least one input.';

function entryOf(dev: DevChain, params: Params): MempoolEntry {
  const entry = dev.mempool.get(params.hash(0, 'txid'));
  if (entry === undefined) throw new RpcError(RPC.NOT_FOUND, 'Transaction not in mempool');
  return entry;
}

export function getRawMempool(dev: DevChain, params: Params): unknown {
  const entries = dev.mempool.entries();
  if (!params.booleanOr(0, false)) return entries.map(({ stored }) => stored.txid);
  return Object.fromEntries(entries.map((entry) => [entry.stored.txid, mempoolEntryJson(dev, entry)]));
}

export function getMempoolEntry(dev: DevChain, params: Params): unknown {
  return mempoolEntryJson(dev, entryOf(dev, params));
}

function relatives(dev: DevChain, params: Params, all: Set<string>, self: string): unknown {
  all.delete(self);
  if (!params.booleanOr(1, false)) return [...all];
  return Object.fromEntries(
    [...all].map((txid) => [txid, mempoolEntryJson(dev, dev.mempool.get(txid) as MempoolEntry)]),
  );
}

export function getMempoolAncestors(dev: DevChain, params: Params): unknown {
  const { stored } = entryOf(dev, params);
  return relatives(dev, params, dev.mempool.withAncestors([stored.txid]), stored.txid);
}

export function getMempoolDescendants(dev: DevChain, params: Params): unknown {
  const { stored } = entryOf(dev, params);
  return relatives(dev, params, dev.mempool.withDescendants([stored.txid]), stored.txid);
}

export function getMempoolInfo(dev: DevChain): unknown {
  const entries = dev.mempool.entries();
  const { policy } = dev.mempool;
  return {
    loaded: true,
    size: entries.length,
    bytes: entries.reduce((sum, { stored }) => sum + stored.vsize, 0),
    usage: entries.reduce((sum, { stored }) => sum + stored.raw.length, 0),
    total_fee: bitcoinOf(entries.reduce((sum, { feeSat }) => sum + feeSat, 0n)),
    maxmempool: 300_000_000,
    mempoolminfee: policy.minRelayFeerateSatPerKvb / 1e8,
    minrelaytxfee: policy.minRelayFeerateSatPerKvb / 1e8,
    incrementalrelayfee: policy.incrementalRelayFeerateSatPerKvb / 1e8,
    unbroadcastcount: 0,
    fullrbf: true,
  };
}

export function getTxSpendingPrevout(dev: DevChain, params: Params): unknown {
  return params.array(0).map((item) => {
    const { txid, vout } = item as { txid?: unknown; vout?: unknown };
    if (typeof txid !== 'string' || typeof vout !== 'number')
      throw new RpcError(RPC.TYPE, 'Missing txid or vout');
    if (vout < 0) throw new RpcError(RPC.INVALID_PARAMETER, 'Invalid parameter, vout cannot be negative');
    const spender = dev.mempool.spender(coinKey(txid, vout));
    return { txid, vout, ...(spender === undefined ? {} : { spendingtxid: spender }) };
  });
}

/** The mempool's reason in the words that RPC clients get. */
function reasonOf(rejection: Rejection): string {
  return rejection.reason === 'bad-txns-inputs-missingorspent' ? 'missing-inputs' : rejection.reason;
}

function exceeds(maxFeerate: number, feeSat: bigint, vsize: number): boolean {
  return maxFeerate > 0 && Number(feeSat) > Math.floor((maxFeerate * 1e8 * vsize) / 1000 + 1e-6);
}

function assertBurn(stored: StoredTx, maxBurn: number): void {
  for (const { script, valueSat } of stored.tx.outputs) {
    if ((script[0] === 0x6a || script.length > 10_000) && bitcoinOf(valueSat) > maxBurn) {
      throw new RpcError(
        RPC.VERIFY_ERROR,
        'Unspendable output exceeds maximum configured by user (maxburnamount)',
      );
    }
  }
}

export function sendRawTransaction(dev: DevChain, params: Params): unknown {
  const stored = txOf(params.raw(0), DECODE_FAILED);
  const maxFeerate = params.amountOr(1, DEFAULT_MAX_FEERATE);
  assertBurn(stored, params.amountOr(2, 0));
  if (stored.tx.outputs.some((_, vout) => dev.chain.coin(coinKey(stored.txid, vout)) !== undefined)) {
    throw new RpcError(RPC.ALREADY_IN_UTXO_SET, 'Transaction outputs already in utxo set');
  }
  if (dev.mempool.get(stored.txid) !== undefined) return stored.txid;
  try {
    const { feeSat } = dev.mempool.judge(stored);
    if (exceeds(maxFeerate, feeSat, stored.vsize)) {
      throw new RpcError(
        RPC.VERIFY_ERROR,
        'Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)',
      );
    }
    dev.submit(stored);
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    const missing = error.reason === 'bad-txns-inputs-missingorspent';
    throw new RpcError(missing ? RPC.VERIFY_ERROR : RPC.VERIFY_REJECTED, error.message);
  }
  return stored.txid;
}

function packageOf(params: Params, minimum: number): readonly StoredTx[] {
  const raws = params.array(0);
  if (raws.length < minimum || raws.length > 25) {
    throw new RpcError(RPC.INVALID_PARAMETER, `Array must contain between ${minimum} and 25 transactions.`);
  }
  return raws.map((raw) =>
    txOf(raw, `TX decode failed: ${String(raw)} Make sure the tx has at least one input.`),
  );
}

function effective(verdict: TransactionVerdict): Json {
  return { 'effective-feerate': verdict.effectiveFeerate / 1e8, 'effective-includes': verdict.paidWith };
}

export function testMempoolAccept(dev: DevChain, params: Params): unknown {
  const transactions = packageOf(params, 1);
  const maxFeerate = params.amountOr(1, DEFAULT_MAX_FEERATE);
  const { message, verdicts } = dev.test(transactions);
  const packageError =
    message.startsWith('package') || message === 'conflict-in-package'
      ? { 'package-error': message }
      : undefined;
  const byId = new Map(verdicts.map((verdict) => [verdict.stored.txid, verdict]));
  let stop = false;
  return transactions.map((stored): Json => {
    const ids = { txid: stored.txid, wtxid: stored.wtxid };
    const verdict = byId.get(stored.txid);
    if (packageError !== undefined) return { ...ids, ...packageError };
    // After the first failure the rest of a package has no verdict.
    if (verdict === undefined || stop) return ids;
    if (verdict.rejection !== undefined) {
      stop = true;
      const { rejection } = verdict;
      return {
        ...ids,
        allowed: false,
        'reject-reason': reasonOf(rejection),
        'reject-details': reasonOf(rejection) === 'missing-inputs' ? 'missing-inputs' : rejection.message,
      };
    }
    const feeSat = verdict.feeSat ?? 0n;
    if (exceeds(maxFeerate, feeSat, stored.vsize)) {
      stop = true;
      return { ...ids, allowed: false, 'reject-reason': 'max-fee-exceeded' };
    }
    return {
      ...ids,
      allowed: true,
      vsize: stored.vsize,
      fees: { base: bitcoinOf(feeSat), ...effective(verdict) },
    };
  });
}

export function submitPackage(dev: DevChain, params: Params): unknown {
  const transactions = packageOf(params, 1);
  const maxFeerate = params.amountOr(1, DEFAULT_MAX_FEERATE);
  const maxBurn = params.amountOr(2, 0);
  for (const stored of transactions) assertBurn(stored, maxBurn);
  if (!isChildWithParents(transactions)) {
    const message = 'package topology disallowed. not child-with-parents or parents depend on each other.';
    throw new RpcError(RPC.VERIFY_ERROR, message);
  }
  const tested = dev.test(transactions);
  if (
    tested.verdicts.some(
      ({ feeSat, stored }) => feeSat !== undefined && exceeds(maxFeerate, feeSat, stored.vsize),
    )
  ) {
    throw new RpcError(RPC.VERIFY_ERROR, 'max feerate exceeded');
  }
  const { message, verdicts, replaced } = dev.submitPackage(transactions);
  const results = verdicts.map((verdict): [string, Json] => {
    const { stored, rejection } = verdict;
    if (rejection !== undefined) return [stored.wtxid, { txid: stored.txid, error: rejection.message }];
    const fees = { base: bitcoinOf(verdict.feeSat ?? 0n), ...(verdict.known ? {} : effective(verdict)) };
    return [stored.wtxid, { txid: stored.txid, vsize: stored.vsize, fees }];
  });
  return {
    package_msg: message,
    'tx-results': Object.fromEntries(results),
    'replaced-transactions': replaced,
  };
}

export function getRawTransaction(dev: DevChain, params: Params): unknown {
  const txid = params.hash(0, 'parameter 1');
  const verbosity = params.verbosity(1, 0);
  const blockHash = params.raw(2) === undefined ? undefined : params.hash(2, 'parameter 3');
  const waiting = blockHash === undefined ? dev.mempool.get(txid)?.stored : undefined;
  let node = blockHash === undefined ? dev.chain.transaction(txid)?.node : dev.chain.node(blockHash);
  if (blockHash !== undefined && node === undefined)
    throw new RpcError(RPC.NOT_FOUND, 'Block hash not found');
  // The genesis coinbase is in no index.
  if (blockHash === undefined && node?.height === 0) node = undefined;
  const stored = waiting ?? node?.transactions.find((candidate) => candidate.txid === txid);
  if (stored === undefined) {
    const message =
      blockHash === undefined
        ? 'No such mempool or blockchain transaction. Use gettransaction for wallet transactions.'
        : 'No such transaction found in the provided block. Use gettransaction for wallet transactions.';
    throw new RpcError(RPC.NOT_FOUND, message);
  }
  if (verbosity === 0) return toHex(stored.raw);
  const spentByBlock = node === undefined ? undefined : dev.chain.spentBy(node);
  const spent = verbosity < 2 ? undefined : (key: string) => spentByBlock?.get(key) ?? dev.chain.coin(key);
  const json = txJson(stored, spent);
  if (node === undefined || waiting !== undefined) return json;
  const active = dev.chain.isActive(node);
  return {
    ...(blockHash === undefined ? {} : { in_active_chain: active }),
    ...json,
    blockhash: node.hash,
    confirmations: active ? dev.chain.tip.height - node.height + 1 : 0,
    ...(active ? { time: node.header.time, blocktime: node.header.time } : {}),
  };
}
