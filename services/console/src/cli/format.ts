/** How values look in tables. */

const THOUSANDS = /\B(?=(\d{3})+(?!\d))/g;

export function grouped(value: bigint | number): string {
  return value.toString().replace(THOUSANDS, ',');
}

/** 1234567n → "1,234,567 sat" */
export function sat(value: bigint): string {
  return `${grouped(value)} sat`;
}

/** Whole satoshis, and the millisatoshis where there are any: 1500n → "1.500 sat". */
export function msat(value: bigint): string {
  const negative = value < 0n;
  const absolute = negative ? -value : value;
  const rest = absolute % 1000n;
  const fraction = rest === 0n ? '' : `.${rest.toString().padStart(3, '0')}`;
  return `${negative ? '-' : ''}${grouped(absolute / 1000n)}${fraction} sat`;
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** A transaction id as explorers print it: its bytes reversed. */
export function txid(bytes: Uint8Array): string {
  return hex(Uint8Array.from(bytes).toReversed());
}

/** The first and the last digits of something long. */
export function short(text: string): string {
  return text.length <= 20 ? text : `${text.slice(0, 10)}…${text.slice(-6)}`;
}

/** BOLT 7's form: block x transaction x output; "" for 0. */
export function scid(value: bigint): string {
  if (value === 0n) return '';
  return `${value >> 40n}x${(value >> 16n) & 0xffffffn}x${value & 0xffffn}`;
}

/** The inverse of `scid`, or undefined. */
export function parseScid(text: string): bigint | undefined {
  const match = /^(\d{1,8})[x:](\d{1,8})[x:](\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [block, index, output] = match.slice(1).map(BigInt) as [bigint, bigint, bigint];
  if (block >= 1n << 24n || index >= 1n << 24n || output >= 1n << 16n) return undefined;
  return (block << 40n) | (index << 16n) | output;
}

/** "2026-03-01 12:30:00Z"; "" for 0 and for times beyond the calendar. */
export function time(unixMs: bigint): string {
  if (unixMs === 0n || unixMs > 8_640_000_000_000_000n || unixMs < 0n) return '';
  return new Date(Number(unixMs))
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
}

/** What others wrote (aliases, descriptions, hosts) must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\u{fffd}');
}

/** At most `length` characters, the last of them "…" when some were cut. */
export function clip(text: string, length: number): string {
  const characters = Array.from(text);
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}
