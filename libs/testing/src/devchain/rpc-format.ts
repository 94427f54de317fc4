/** Bitcoin Core's JSON forms of blocks, transactions and scripts. */
import type { TxOutput } from '@fulmen/bitcoin';
import {
  NETWORKS,
  OP,
  decompileScript,
  displayHash,
  encodeAddress,
  encodeBlockHeader,
  isCoinbase,
  scriptKind,
} from '@fulmen/bitcoin';
import { toHex } from '@fulmen/bitcoin/bytes';
import type { DevChain } from './devchain.ts';
import { blockWeight } from './consensus.ts';
import type { MempoolEntry } from './mempool.ts';
import type { BlockNode, Coin, StoredTx } from './model.ts';
import { coinKey } from './model.ts';

export type Json = Record<string, unknown>;

/** Satoshis as Bitcoin Core prints them: decimal bitcoin. */
export function bitcoinOf(valueSat: bigint): number {
  return Number(valueSat) / 1e8;
}

const KIND_NAMES = {
  p2pkh: 'pubkeyhash',
  p2sh: 'scripthash',
  p2wpkh: 'witness_v0_keyhash',
  p2wsh: 'witness_v0_scripthash',
  p2tr: 'witness_v1_taproot',
  p2a: 'anchor',
  'witness-unknown': 'witness_unknown',
  'op-return': 'nulldata',
  nonstandard: 'nonstandard',
} as const;

const OPCODE_NAMES = new Map<number, string>(Object.entries(OP).map(([name, code]) => [code, `OP_${name}`]));

function asm(script: Uint8Array): string {
  const parts = decompileScript(script);
  if (!parts.ok) return '[error]';
  return parts.value
    .map((part) => {
      if (typeof part !== 'number') return toHex(part);
      if (part === 0) return '0';
      if (part === OP.NEGATE1) return '-1';
      return part >= OP.N1 && part <= OP.N16
        ? String(part - OP.N1 + 1)
        : (OPCODE_NAMES.get(part) ?? 'OP_UNKNOWN');
    })
    .join(' ');
}

/** `scriptPubKey` of an output. */
export function scriptJson(script: Uint8Array): Json {
  const address = encodeAddress(script, NETWORKS.regtest);
  return {
    asm: asm(script),
    ...(address === undefined ? {} : { address }),
    hex: toHex(script),
    type: KIND_NAMES[scriptKind(script)],
  };
}

function outputJson(output: TxOutput, n: number): Json {
  return { value: bitcoinOf(output.valueSat), n, scriptPubKey: scriptJson(output.script) };
}

/** A transaction; `spent` adds what its inputs spend. */
export function txJson(stored: StoredTx, spent?: (key: string) => Coin | undefined): Json {
  const { tx } = stored;
  const coinbase = isCoinbase(tx);
  let feeSat: bigint | undefined = coinbase
    ? undefined
    : -tx.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  const vin = tx.inputs.map((input): Json => {
    const witness = input.witness.length === 0 ? {} : { txinwitness: input.witness.map(toHex) };
    if (coinbase) return { coinbase: toHex(input.scriptSig), ...witness, sequence: input.sequence };
    const txid = displayHash(input.txid);
    const coin = spent?.(coinKey(txid, input.vout));
    feeSat = coin === undefined || feeSat === undefined ? undefined : feeSat + coin.valueSat;
    const prevout =
      coin === undefined
        ? {}
        : {
            prevout: {
              generated: coin.coinbase,
              height: coin.height,
              value: bitcoinOf(coin.valueSat),
              scriptPubKey: scriptJson(coin.script),
            },
          };
    const scriptSig = { asm: asm(input.scriptSig), hex: toHex(input.scriptSig) };
    return { txid, vout: input.vout, scriptSig, ...witness, ...prevout, sequence: input.sequence };
  });
  return {
    txid: stored.txid,
    hash: stored.wtxid,
    version: tx.version,
    size: stored.raw.length,
    vsize: stored.vsize,
    weight: stored.weight,
    locktime: tx.locktime,
    vin,
    vout: tx.outputs.map(outputJson),
    ...(spent === undefined || feeSat === undefined ? {} : { fee: bitcoinOf(feeSat) }),
    hex: toHex(stored.raw),
  };
}

/** A header with its place in the chain. */
export function headerJson(dev: DevChain, node: BlockNode): Json {
  const { chain } = dev;
  const active = chain.isActive(node);
  const next = active ? chain.at(node.height + 1)?.hash : undefined;
  const { header } = node;
  return {
    hash: node.hash,
    confirmations: active ? chain.tip.height - node.height + 1 : -1,
    height: node.height,
    version: header.version,
    versionHex: header.version.toString(16).padStart(8, '0'),
    merkleroot: displayHash(header.merkleRoot),
    time: header.time,
    mediantime: node.medianTime,
    nonce: header.nonce,
    bits: header.bits.toString(16).padStart(8, '0'),
    target: '7fffff'.padEnd(64, '0'),
    // Regtest's target is the easiest there is.
    difficulty: 4.6565423739069247e-10,
    chainwork: (2n * BigInt(node.height + 1)).toString(16).padStart(64, '0'),
    nTx: node.transactions.length,
    ...(node.prev === undefined ? {} : { previousblockhash: node.prev.hash }),
    ...(next === undefined ? {} : { nextblockhash: next }),
  };
}

/** Hex of a header. */
export function headerHex(node: BlockNode): string {
  return toHex(encodeBlockHeader(node.header));
}

/** A block at verbosity 1 (ids), 2 (transactions, with fees) or 3 (with what they spend). */
export function blockJson(dev: DevChain, node: BlockNode, verbosity: number): Json {
  const spent = dev.chain.spentBy(node);
  const tx = node.transactions.map((stored) => {
    if (verbosity < 2) return stored.txid;
    const json = txJson(stored, (key) => spent.get(key));
    if (verbosity === 2) json['vin'] = (json['vin'] as Json[]).map(({ prevout: _, ...rest }) => rest);
    return json;
  });
  const stripped = node.transactions.reduce(
    (sum, stored) => sum + (stored.weight - stored.raw.length) / 3,
    0,
  );
  return {
    ...headerJson(dev, node),
    strippedsize: 81 + stripped,
    size: node.raw.length,
    weight: blockWeight(node.transactions),
    tx,
  };
}

/** `getmempoolentry`. */
export function mempoolEntryJson(dev: DevChain, entry: MempoolEntry): Json {
  const { mempool } = dev;
  const ancestors = mempool.withAncestors([entry.stored.txid]);
  const descendants = mempool.withDescendants([entry.stored.txid]);
  const fee = bitcoinOf(entry.feeSat);
  return {
    vsize: entry.stored.vsize,
    weight: entry.stored.weight,
    time: entry.time,
    height: entry.height,
    descendantcount: descendants.size,
    descendantsize: mempool.vsizeOf(descendants),
    ancestorcount: ancestors.size,
    ancestorsize: mempool.vsizeOf(ancestors),
    wtxid: entry.stored.wtxid,
    fees: {
      base: fee,
      modified: fee,
      ancestor: bitcoinOf(mempool.feesOf(ancestors)),
      descendant: bitcoinOf(mempool.feesOf(descendants)),
    },
    depends: [...entry.parents],
    spentby: [...entry.children],
    'bip125-replaceable': entry.stored.tx.inputs.some(({ sequence }) => sequence < 0xffff_fffe),
    unbroadcast: false,
  };
}
