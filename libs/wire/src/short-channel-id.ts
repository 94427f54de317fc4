// Short channel ids (BOLT 7, "Definition of short_channel_id"): 3 bytes of block height, 3 of transaction
// index, 2 of output index, as one 64-bit number.
import { DecodeError, EncodeError, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';

/** The three parts of a short channel id. */
export interface ShortChannelIdParts {
  readonly blockHeight: number;
  readonly transactionIndex: number;
  readonly outputIndex: number;
}

const MAX_BLOCK = 0xff_ffff;
const MAX_TRANSACTION = 0xff_ffff;
const MAX_OUTPUT = 0xffff;
const PATTERN = /^(0|[1-9][0-9]{0,7})x(0|[1-9][0-9]{0,7})x(0|[1-9][0-9]{0,4})$/;

/** Packs, unpacks, prints and parses short channel ids; the value itself is a bigint below 2^64. */
export const shortChannelId = {
  /** From block height (< 2^24), transaction index (< 2^24) and output index (< 2^16); EncodeError beyond. */
  from(blockHeight: number, transactionIndex: number, outputIndex: number): bigint {
    check(blockHeight, MAX_BLOCK);
    check(transactionIndex, MAX_TRANSACTION);
    check(outputIndex, MAX_OUTPUT);
    return (BigInt(blockHeight) << 40n) | (BigInt(transactionIndex) << 16n) | BigInt(outputIndex);
  },

  parts(scid: bigint): ShortChannelIdParts {
    return {
      blockHeight: Number((scid >> 40n) & 0xffffffn),
      transactionIndex: Number((scid >> 16n) & 0xffffffn),
      outputIndex: Number(scid & 0xffffn),
    };
  },

  /** BOLT 7: "The standard human readable format": block x transaction x output. */
  toString(scid: bigint): string {
    const { blockHeight, transactionIndex, outputIndex } = shortChannelId.parts(scid);
    return `${blockHeight}x${transactionIndex}x${outputIndex}`;
  },

  /** Parses the human readable format. */
  parse(text: string): Result<bigint, DecodeError> {
    const match = PATTERN.exec(text);
    const block = Number(match?.[1]);
    const transaction = Number(match?.[2]);
    const output = Number(match?.[3]);
    if (match === null || block > MAX_BLOCK || transaction > MAX_TRANSACTION || output > MAX_OUTPUT) {
      return err(new DecodeError('invalid_value', 'not a short channel id'));
    }
    return ok(shortChannelId.from(block, transaction, output));
  },
} as const;

function check(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new EncodeError('out_of_range', `integer ${value}`);
}
