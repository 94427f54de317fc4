/** Blocks: header and transactions, with the merkle root checked. */
import type { Result } from '@fulmen/codec';
import { sha256d } from '@fulmen/crypto';
import { ByteReader, ByteWriter, bytesEqual, concatBytes } from './bytes.ts';
import { BitcoinError } from './errors.ts';
import type { Tx } from './transaction.ts';
import { MAX_BLOCK_WEIGHT, attempt, readTx, txid } from './transaction.ts';

export const BLOCK_HEADER_LENGTH = 80;
/** A transaction has at least 60 bytes. */
const MIN_TX_LENGTH = 60;

/** A block's header; hashes in internal order, `time` in seconds since 1970. */
export interface BlockHeader {
  readonly version: number;
  readonly prevHash: Uint8Array;
  readonly merkleRoot: Uint8Array;
  readonly time: number;
  readonly bits: number;
  readonly nonce: number;
}

/** A block with its hash (internal order) and the ids of its transactions. */
export interface Block {
  readonly hash: Uint8Array;
  readonly header: BlockHeader;
  readonly transactions: readonly Tx[];
  readonly txids: readonly Uint8Array[];
}

function readHeader(reader: ByteReader): BlockHeader {
  return {
    version: reader.u32(),
    prevHash: reader.bytes(32),
    merkleRoot: reader.bytes(32),
    time: reader.u32(),
    bits: reader.u32(),
    nonce: reader.u32(),
  };
}

/** Decodes the 80 bytes of a header. */
export function decodeBlockHeader(bytes: Uint8Array): Result<BlockHeader, BitcoinError> {
  return attempt(() => {
    const reader = new ByteReader(bytes);
    const header = readHeader(reader);
    reader.assertEnd();
    return header;
  });
}

/** The 80 bytes of a header. */
export function encodeBlockHeader(header: BlockHeader): Uint8Array {
  const writer = new ByteWriter(BLOCK_HEADER_LENGTH);
  writer
    .u32(header.version)
    .raw(header.prevHash)
    .raw(header.merkleRoot)
    .u32(header.time)
    .u32(header.bits)
    .u32(header.nonce);
  return writer.bytes;
}

/** Hash of a header, internal order. */
export function blockHash(header: BlockHeader): Uint8Array {
  return sha256d(encodeBlockHeader(header));
}

/** Merkle root of hashes (internal order); an odd one at the end of a level is paired with itself. */
export function merkleRoot(hashes: readonly Uint8Array[]): Uint8Array {
  if (hashes.length === 0) return new Uint8Array(32);
  let level = hashes;
  while (level.length > 1) {
    const next: Uint8Array[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const left = level[i] as Uint8Array;
      next.push(sha256d(concatBytes(left, level[i + 1] ?? left)));
    }
    level = next;
  }
  return level[0] as Uint8Array;
}

/**
 * Merkle root that a transaction's branch leads to: the hashes beside its way up, lowest first. Undefined when the
 * index is not one of a tree of that height.
 */
export function merkleRootOfBranch(
  leaf: Uint8Array,
  index: number,
  branch: readonly Uint8Array[],
): Uint8Array | undefined {
  if (!Number.isSafeInteger(index) || index < 0 || branch.length > 32 || index >= 2 ** branch.length)
    return undefined;
  let hash = leaf;
  let position = index;
  for (const sibling of branch) {
    // Only a last one without a neighbour is paired with itself, and that one stands left.
    if (position % 2 === 1 && bytesEqual(hash, sibling)) return undefined;
    hash = sha256d(position % 2 === 1 ? concatBytes(sibling, hash) : concatBytes(hash, sibling));
    position = Math.floor(position / 2);
  }
  return hash;
}

/** The number that a header's hash must not exceed; undefined when `bits` states none. */
export function targetOf(bits: number): bigint | undefined {
  const exponent = bits >>> 24;
  const mantissa = bits & 0x7f_ffff;
  if (mantissa === 0 || (bits & 0x80_0000) !== 0 || exponent > 34) return undefined;
  return exponent <= 3
    ? BigInt(mantissa) >> BigInt(8 * (3 - exponent))
    : BigInt(mantissa) << BigInt(8 * (exponent - 3));
}

/** True if the header's hash meets the target that it states. Says nothing about whether the target is right. */
export function meetsProofOfWork(header: BlockHeader): boolean {
  const target = targetOf(header.bits);
  if (target === undefined) return false;
  let value = 0n;
  for (const byte of blockHash(header).reverse()) value = (value << 8n) | BigInt(byte);
  return value <= target;
}

/**
 * Decodes a whole block and checks that its transactions are the ones that
 * the header commits to (without their witnesses).
 */
export function decodeBlock(bytes: Uint8Array): Result<Block, BitcoinError> {
  return attempt(() => {
    if (bytes.length > MAX_BLOCK_WEIGHT) throw new BitcoinError('too-large', 'larger than a block may be');
    const reader = new ByteReader(bytes);
    const header = readHeader(reader);
    const count = reader.count(MIN_TX_LENGTH);
    const transactions: Tx[] = [];
    for (let i = 0; i < count; i++) transactions.push(readTx(reader));
    reader.assertEnd();
    const txids = transactions.map(txid);
    if (!bytesEqual(merkleRoot(txids), header.merkleRoot))
      throw new BitcoinError('bad-merkle-root', 'transactions are not those of the header');
    return { hash: blockHash(header), header, transactions, txids };
  });
}
