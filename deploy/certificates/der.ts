/** Just enough DER (ITU-T X.690) to write certificates. */

/** Tag, length, content. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const lengthBytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) lengthBytes.unshift(rest % 256);
  const header = length < 0x80 ? [tag, length] : [tag, 0x80 | lengthBytes.length, ...lengthBytes];
  return new Uint8Array(Buffer.concat([Uint8Array.from(header), ...parts]));
}

export const sequence = (...parts: readonly Uint8Array[]): Uint8Array => der(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Uint8Array => der(0x31, ...parts);
export const octetString = (...parts: readonly Uint8Array[]): Uint8Array => der(0x04, ...parts);
export const utf8String = (text: string): Uint8Array => der(0x0c, Buffer.from(text, 'utf8'));
export const truth = (): Uint8Array => der(0x01, Uint8Array.of(0xff));
/** A context-specific tag; `constructed` contents are DER themselves. */
export const explicit = (number: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  der(0xa0 | number, ...parts);
export const implicit = (number: number, bytes: Uint8Array): Uint8Array => der(0x80 | number, bytes);

/** A positive integer from big-endian bytes. */
export function integer(bytes: Uint8Array): Uint8Array {
  const start = bytes.findIndex((byte) => byte !== 0);
  const body = start < 0 ? Uint8Array.of(0) : bytes.subarray(start);
  return der(0x02, ((body[0] ?? 0) & 0x80) === 0 ? body : Buffer.concat([Uint8Array.of(0), body]));
}

/** `unused`: bits at the end of the last byte that do not count. */
export const bitString = (bytes: Uint8Array, unused = 0): Uint8Array =>
  der(0x03, Uint8Array.of(unused), bytes);

/** An object identifier in dotted form. */
export function objectId(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const number of rest) {
    const digits = [number % 128];
    for (let high = Math.floor(number / 128); high > 0; high = Math.floor(high / 128))
      digits.unshift(0x80 | (high % 128));
    bytes.push(...digits);
  }
  return der(0x06, Uint8Array.from(bytes));
}

/** A time; RFC 5280: UTCTime until 2049, GeneralizedTime from then on. */
export function time(at: Date): Uint8Array {
  const digits = at.toISOString().replaceAll(/[-:T]|\.\d+/g, '');
  return at.getUTCFullYear() < 2050
    ? der(0x17, Buffer.from(digits.slice(2), 'ascii'))
    : der(0x18, Buffer.from(digits, 'ascii'));
}
