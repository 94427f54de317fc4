/** The RPC methods about blocks, coins, mining and the node itself. */
import { NETWORKS, encodeAddress } from '@fulmen/bitcoin';
import { fromHex, toHex } from '@fulmen/bitcoin/bytes';
import type { DevChain } from './devchain.ts';
import type { BlockNode, StoredTx } from './model.ts';
import { Rejection, coinKey } from './model.ts';
import { bitcoinOf, blockJson, headerHex, headerJson, scriptJson } from './rpc-format.ts';
import type { Params } from './rpc-error.ts';
import { RPC, RpcError, scriptOf, txOf } from './rpc-error.ts';

function nodeOf(dev: DevChain, params: Params): BlockNode {
  const node = dev.chain.node(params.hash(0, 'blockhash'));
  if (node === undefined) throw new RpcError(RPC.NOT_FOUND, 'Block not found');
  return node;
}

export function getBlockchainInfo(dev: DevChain): unknown {
  const { tip } = dev.chain;
  const { difficulty, chainwork, bits, target } = headerJson(dev, tip);
  return {
    chain: 'regtest',
    blocks: tip.height,
    headers: tip.height,
    bestblockhash: tip.hash,
    bits,
    target,
    difficulty,
    time: tip.header.time,
    mediantime: tip.medianTime,
    verificationprogress: 1,
    initialblockdownload: false,
    chainwork,
    size_on_disk: 0,
    pruned: false,
    warnings: [],
  };
}

export function getBlockHash(dev: DevChain, params: Params): unknown {
  const node = dev.chain.at(params.integer(0));
  if (node === undefined) throw new RpcError(RPC.INVALID_PARAMETER, 'Block height out of range');
  return node.hash;
}

export function getBlockHeader(dev: DevChain, params: Params): unknown {
  const node = nodeOf(dev, params);
  return params.booleanOr(1, true) ? headerJson(dev, node) : headerHex(node);
}

export function getBlock(dev: DevChain, params: Params): unknown {
  const node = nodeOf(dev, params);
  const verbosity = params.verbosity(1, 1);
  return verbosity <= 0 ? toHex(node.raw) : blockJson(dev, node, verbosity);
}

export function getTxOut(dev: DevChain, params: Params): unknown {
  const txid = params.hash(0, 'txid');
  const vout = params.integer(1);
  const includeMempool = params.booleanOr(2, true);
  const { tip } = dev.chain;
  let coin = dev.chain.coin(coinKey(txid, vout));
  if (includeMempool) {
    if (dev.mempool.spender(coinKey(txid, vout)) !== undefined) return null;
    const output = dev.mempool.get(txid)?.stored.tx.outputs[vout];
    if (output !== undefined) coin = { ...output, height: undefined, coinbase: false };
  }
  if (coin === undefined) return null;
  return {
    bestblock: tip.hash,
    confirmations: coin.height === undefined ? 0 : tip.height - coin.height + 1,
    value: bitcoinOf(coin.valueSat),
    scriptPubKey: scriptJson(coin.script),
    coinbase: coin.coinbase,
  };
}

export function scanTxOutSet(dev: DevChain, params: Params): unknown {
  const action = params.string(0);
  if (action === 'status') return null;
  if (action === 'abort') return false;
  if (action !== 'start') throw new RpcError(RPC.INVALID_PARAMETER, `Invalid action '${action}'`);
  const scripts = new Map<string, string>();
  for (const item of params.array(1)) {
    const text = typeof item === 'string' ? item : String((item as { desc?: unknown } | null)?.desc);
    scripts.set(toHex(scriptOf(text)), text);
  }
  const { tip } = dev.chain;
  let scanned = 0;
  let totalSat = 0n;
  const unspents: unknown[] = [];
  for (const [key, coin] of dev.chain.coins()) {
    scanned += 1;
    const hex = toHex(coin.script);
    const desc = scripts.get(hex);
    if (desc === undefined) continue;
    totalSat += coin.valueSat;
    const [txid, vout] = key.split(':');
    const height = coin.height ?? tip.height;
    unspents.push({
      txid,
      vout: Number(vout),
      scriptPubKey: hex,
      desc,
      amount: bitcoinOf(coin.valueSat),
      coinbase: coin.coinbase,
      height,
      blockhash: dev.chain.at(height)?.hash,
      confirmations: tip.height - height + 1,
    });
  }
  return {
    success: true,
    txouts: scanned,
    height: tip.height,
    bestblock: tip.hash,
    unspents,
    total_amount: bitcoinOf(totalSat),
  };
}

export function generateToAddress(dev: DevChain, params: Params): unknown {
  const count = params.integer(0);
  const script = scriptOf(params.string(1));
  return dev.mine(count, script).map(({ hash }) => hash);
}

export function generateBlock(dev: DevChain, params: Params): unknown {
  const script = scriptOf(params.string(0));
  const transactions = params.array(1).map((item): StoredTx => {
    if (typeof item === 'string' && item.length === 64) {
      const entry = dev.mempool.get(item);
      if (entry === undefined) throw new RpcError(RPC.NOT_FOUND, `Transaction ${item} not in mempool.`);
      return entry.stored;
    }
    return txOf(
      item,
      `Transaction decode failed for ${String(item)}. Make sure the tx has at least one input.`,
    );
  });
  const submit = params.booleanOr(2, true);
  try {
    const raw = dev.assembleBlock(transactions, script);
    if (!submit) return { hash: '', hex: toHex(raw) };
    return { hash: dev.submitBlock(raw).hash };
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    throw new RpcError(RPC.VERIFY_ERROR, `TestBlockValidity failed: ${error.message}`);
  }
}

export function submitBlock(dev: DevChain, params: Params): unknown {
  const hex = params.string(0);
  if (!/^([0-9a-fA-F]{2})+$/.test(hex)) throw new RpcError(RPC.DESERIALIZATION, 'Block decode failed');
  try {
    dev.submitBlock(fromHex(hex));
    return null;
  } catch (error) {
    if (!(error instanceof Rejection)) throw error;
    if (error.reason === 'bad-block-encoding') throw new RpcError(RPC.DESERIALIZATION, 'Block decode failed');
    return error.reason;
  }
}

export function invalidateBlock(dev: DevChain, params: Params): unknown {
  const node = nodeOf(dev, params);
  if (node.height === 0) throw new RpcError(RPC.MISC, 'the genesis block stays');
  dev.invalidate(node);
  return null;
}

export function reconsiderBlock(dev: DevChain, params: Params): unknown {
  dev.reconsider(nodeOf(dev, params));
  return null;
}

export function getChainTips(dev: DevChain): unknown {
  const { chain } = dev;
  return chain.tips().map((node) => {
    let length = 0;
    for (let at: BlockNode | undefined = node; at !== undefined && !chain.isActive(at); at = at.prev)
      length += 1;
    const status = length === 0 ? 'active' : node.invalidated || node.failed ? 'invalid' : 'valid-fork';
    return { height: node.height, hash: node.hash, branchlen: length, status };
  });
}

export function getNetworkInfo(dev: DevChain): unknown {
  const { policy } = dev.mempool;
  return {
    version: 290_000,
    subversion: '/Fulmen-devchain:0.1.0/',
    protocolversion: 70_016,
    localservices: '0000000000000409',
    localservicesnames: ['NETWORK', 'WITNESS', 'NETWORK_LIMITED'],
    localrelay: true,
    timeoffset: 0,
    networkactive: true,
    connections: 0,
    connections_in: 0,
    connections_out: 0,
    networks: [],
    relayfee: policy.minRelayFeerateSatPerKvb / 1e8,
    incrementalfee: policy.incrementalRelayFeerateSatPerKvb / 1e8,
    localaddresses: [],
    warnings: [],
  };
}

export function estimateSmartFee(dev: DevChain, params: Params): unknown {
  const target = params.integer(0);
  if (target < 1 || target > 1008)
    throw new RpcError(RPC.INVALID_PARAMETER, 'Invalid conf_target, must be between 1 and 1008');
  const mode = params.raw(1) === undefined ? 'economical' : params.string(1).toLowerCase();
  if (!['unset', 'economical', 'conservative'].includes(mode)) {
    throw new RpcError(
      RPC.INVALID_PARAMETER,
      'Invalid estimate_mode parameter, must be one of: "unset", "economical", "conservative"',
    );
  }
  const estimate = dev.feerateEstimateSatPerKvb;
  const blocks = Math.max(2, target);
  if (estimate === undefined) return { errors: ['Insufficient data or no feerate found'], blocks };
  return { feerate: Math.max(estimate, dev.mempool.policy.minRelayFeerateSatPerKvb) / 1e8, blocks };
}

/** Ours alone: what `estimatesmartfee` answers, in BTC per 1000 vbytes; null for no data. */
export function setFeeEstimate(dev: DevChain, params: Params): unknown {
  dev.feerateEstimateSatPerKvb =
    params.raw(0) === undefined ? undefined : Math.round(params.amountOr(0, 0) * 1e8);
  return null;
}

export function validateAddress(params: Params): unknown {
  const address = params.string(0);
  try {
    const script = scriptOf(address);
    return { isvalid: true, address: encodeAddress(script, NETWORKS.regtest), scriptPubKey: toHex(script) };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    return { isvalid: false, error: 'Invalid or unsupported Segwit (Bech32) or Base58 encoding.' };
  }
}
