/** Consensus rules that need no chain state: subsidy, locks, the coinbase, proof of work, a transaction by itself. */
import type { BlockHeader, Tx, TxOutput } from '@fulmen/bitcoin';
import {
  MAX_BLOCK_WEIGHT,
  MAX_MONEY_SAT,
  NETWORKS,
  OP,
  SEQUENCE_FINAL,
  compileScript,
  encodeBlockHeader,
  isCoinbase,
  meetsProofOfWork,
  merkleRoot,
  scriptNumber,
  txWeight,
  parseDisplayHash,
} from '@fulmen/bitcoin';
import { concatBytes, fromHex, compactSizeLength, ByteWriter } from '@fulmen/bitcoin/bytes';
import { sha256d } from '@fulmen/crypto';
import { Rejection, storeTx } from './model.ts';
import type { StoredTx } from './model.ts';

export const COINBASE_MATURITY = 100;
/** Regtest halves far sooner than mainnet. */
export const HALVING_INTERVAL = 150;
export const REGTEST_BITS = 0x207f_ffff;
export const LOCKTIME_THRESHOLD = 500_000_000;
const SEQUENCE_DISABLE_FLAG = 0x8000_0000;
const SEQUENCE_TYPE_FLAG = 0x0040_0000;
const SEQUENCE_MASK = 0xffff;
const ZERO_HASH = new Uint8Array(32);
const WITNESS_COMMITMENT_PREFIX = fromHex('6a24aa21a9ed');

/** Block subsidy at a height. */
export function subsidySat(height: number): bigint {
  const halvings = Math.floor(height / HALVING_INTERVAL);
  return halvings >= 64 ? 0n : 5_000_000_000n >> BigInt(halvings);
}

/** The regtest genesis block. */
export function genesisBlock(): Uint8Array {
  const message = new TextEncoder().encode(
    'The Times 03/Jan/2009 Chancellor on brink of second bailout for banks',
  );
  const publicKey = fromHex(
    '04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f',
  );
  const scriptSig = concatBytes(fromHex('04ffff001d0104'), Uint8Array.from([message.length]), message);
  const coinbase: Tx = {
    version: 1,
    locktime: 0,
    inputs: [{ txid: ZERO_HASH, vout: 0xffff_ffff, scriptSig, sequence: SEQUENCE_FINAL, witness: [] }],
    outputs: [{ valueSat: 5_000_000_000n, script: compileScript([publicKey, OP.CHECKSIG]) }],
  };
  const stored = storeTx(coinbase);
  const header: BlockHeader = {
    version: 1,
    prevHash: ZERO_HASH,
    merkleRoot: parseDisplayHash(stored.txid),
    time: 1_296_688_602,
    bits: REGTEST_BITS,
    nonce: 2,
  };
  const raw = encodeBlock(header, [stored]);
  if (!sha256d(raw.subarray(0, 80)).every((byte, i) => byte === NETWORKS.regtest.chainHash[i]))
    throw new Rejection('bad-genesis');
  return raw;
}

/** Raw bytes of a block. */
export function encodeBlock(header: BlockHeader, transactions: readonly StoredTx[]): Uint8Array {
  const count = new ByteWriter(compactSizeLength(transactions.length)).compactSize(transactions.length).bytes;
  return concatBytes(encodeBlockHeader(header), count, ...transactions.map(({ raw }) => raw));
}

/** Scripts begin with the height (BIP 34). */
export function heightScript(height: number): Uint8Array {
  return compileScript([scriptNumber(height)]);
}

/** The commitment to all witnesses (BIP 141), as the coinbase's last output. */
export function witnessCommitment(transactions: readonly StoredTx[]): Uint8Array {
  const root = merkleRoot([ZERO_HASH, ...transactions.slice(1).map(({ wtxid }) => parseDisplayHash(wtxid))]);
  return concatBytes(WITNESS_COMMITMENT_PREFIX, sha256d(concatBytes(root, ZERO_HASH)));
}

/** A coinbase that pays subsidy and fees to a script. */
export function createCoinbase(
  height: number,
  script: Uint8Array,
  feesSat: bigint,
  rest: readonly StoredTx[],
  extraNonce: number,
): StoredTx {
  const coinbaseSlot = { raw: new Uint8Array() } as StoredTx;
  const tx: Tx = {
    version: 2,
    locktime: 0,
    inputs: [
      {
        txid: ZERO_HASH,
        vout: 0xffff_ffff,
        scriptSig: concatBytes(heightScript(height), compileScript([scriptNumber(extraNonce)])),
        sequence: SEQUENCE_FINAL,
        witness: [ZERO_HASH],
      },
    ],
    outputs: [
      { valueSat: subsidySat(height) + feesSat, script },
      { valueSat: 0n, script: witnessCommitment([coinbaseSlot, ...rest]) },
    ],
  };
  return storeTx(tx);
}

/** Finds a nonce; on regtest every second one will do. */
export function mineHeader(header: BlockHeader): BlockHeader {
  for (let nonce = 0; nonce <= 0xffff_ffff; nonce++) {
    const candidate = { ...header, nonce };
    if (meetsProofOfWork(candidate)) return candidate;
  }
  throw new Rejection('high-hash');
}

/** Rules for a transaction by itself (`CheckTransaction`). */
export function checkTransaction(tx: Tx): void {
  if (tx.outputs.length === 0) throw new Rejection('bad-txns-vout-empty');
  if (txWeight({ ...tx, inputs: tx.inputs.map((input) => ({ ...input, witness: [] })) }) > MAX_BLOCK_WEIGHT)
    throw new Rejection('bad-txns-oversize');
  let total = 0n;
  for (const { valueSat } of tx.outputs) {
    total += valueSat;
    if (total > MAX_MONEY_SAT) throw new Rejection('bad-txns-txouttotal-toolarge');
  }
  const seen = new Set(tx.inputs.map(({ txid, vout }) => `${txid.join()}:${vout}`));
  if (seen.size !== tx.inputs.length) throw new Rejection('bad-txns-inputs-duplicate');
  if (isCoinbase(tx)) {
    const length = tx.inputs[0]?.scriptSig.length ?? 0;
    if (length < 2 || length > 100) throw new Rejection('bad-cb-length');
  } else if (tx.inputs.some(({ txid, vout }) => vout === 0xffff_ffff && txid.every((byte) => byte === 0))) {
    throw new Rejection('bad-txns-prevout-null');
  }
}

/** Absolute locktime (BIP 113): may the transaction be in a block of this height after this median time? */
export function isFinalTx(tx: Tx, height: number, medianTime: number): boolean {
  if (tx.locktime === 0) return true;
  if (tx.locktime < (tx.locktime < LOCKTIME_THRESHOLD ? height : medianTime)) return true;
  return tx.inputs.every(({ sequence }) => sequence === SEQUENCE_FINAL);
}

/**
 * Relative locktime (BIP 68).
 *
 * @param coinHeights height of each spent output; for one in the mempool the next block's height.
 * @param medianTimeAt median time past of the block at a height.
 */
export function sequenceLocksMet(
  tx: Tx,
  coinHeights: readonly number[],
  height: number,
  medianTime: number,
  medianTimeAt: (height: number) => number,
): boolean {
  if (tx.version < 2) return true;
  return tx.inputs.every(({ sequence }, index) => {
    if ((sequence & SEQUENCE_DISABLE_FLAG) !== 0) return true;
    const coinHeight = coinHeights[index] ?? height;
    const value = sequence & SEQUENCE_MASK;
    if ((sequence & SEQUENCE_TYPE_FLAG) === 0) return height >= coinHeight + value;
    return medianTime >= medianTimeAt(Math.max(0, coinHeight - 1)) + value * 512;
  });
}

/** Sum of amounts. */
export function sumSat(outputs: readonly TxOutput[]): bigint {
  return outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
}

/** Weight of a whole block. */
export function blockWeight(transactions: readonly StoredTx[]): number {
  return transactions.reduce(
    (sum, { weight }) => sum + weight,
    4 * (80 + compactSizeLength(transactions.length)),
  );
}

/** True if the serialized transaction carries a witness anywhere; such a block must commit to it. */
export function anyWitness(transactions: readonly StoredTx[]): boolean {
  return transactions.some(({ tx }) => tx.inputs.some(({ witness }) => witness.length > 0));
}
