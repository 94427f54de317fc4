/**
 * Postgres' binary array format, so that a call with thousands of values is one
 * Buffer per column: no hex, no quoting, no text parser on either side.
 * (PostgreSQL source, array_recv: dimensions, flags, element OID, then per
 * dimension length and lower bound, then per element length and bytes.)
 */
const HEADER_BYTES = 20;
const OID_BYTEA = 17;
const OID_INT8 = 20;
const OID_INT4 = 23;
const OID_TEXT = 25;
const OID_BOOL = 16;

function header(count: number, oid: number, elementBytes: number, hasNull: boolean): Buffer {
  const buffer = Buffer.allocUnsafe((count === 0 ? 12 : HEADER_BYTES) + elementBytes);
  buffer.writeInt32BE(count === 0 ? 0 : 1, 0);
  buffer.writeInt32BE(hasNull ? 1 : 0, 4);
  buffer.writeUInt32BE(oid, 8);
  if (count > 0) {
    buffer.writeInt32BE(count, 12);
    buffer.writeInt32BE(1, 16);
  }
  return buffer;
}

function fixedArray<T>(
  oid: number,
  width: number,
  values: readonly (T | null)[],
  put: (buffer: Buffer, value: T, offset: number) => void,
): Buffer {
  const nulls = values.reduce((count: number, value) => (value === null ? count + 1 : count), 0);
  const buffer = header(values.length, oid, values.length * (4 + width) - nulls * width, nulls > 0);
  let offset = HEADER_BYTES;
  for (const value of values) {
    buffer.writeInt32BE(value === null ? -1 : width, offset);
    offset += 4;
    if (value === null) continue;
    put(buffer, value, offset);
    offset += width;
  }
  return buffer;
}

/** int8[]; values must lie in the signed 64-bit range. */
export const int8Array = (values: readonly (bigint | null)[]): Buffer =>
  fixedArray(OID_INT8, 8, values, (buffer, value, offset) => buffer.writeBigInt64BE(value, offset));

/** int4[] */
export const int4Array = (values: readonly (number | null)[]): Buffer =>
  fixedArray(OID_INT4, 4, values, (buffer, value, offset) => buffer.writeInt32BE(value, offset));

/** bool[] */
export const boolArray = (values: readonly (boolean | null)[]): Buffer =>
  fixedArray(OID_BOOL, 1, values, (buffer, value, offset) => buffer.writeUInt8(value ? 1 : 0, offset));

function bytesArray(oid: number, values: readonly (Uint8Array | null)[]): Buffer {
  let size = 0;
  let hasNull = false;
  for (const value of values) {
    size += 4 + (value?.length ?? 0);
    if (value === null) hasNull = true;
  }
  const buffer = header(values.length, oid, size, hasNull);
  let offset = HEADER_BYTES;
  for (const value of values) {
    buffer.writeInt32BE(value === null ? -1 : value.length, offset);
    offset += 4;
    if (value === null) continue;
    buffer.set(value, offset);
    offset += value.length;
  }
  return buffer;
}

/** bytea[] */
export const byteaArray = (values: readonly (Uint8Array | null)[]): Buffer => bytesArray(OID_BYTEA, values);

/** text[] */
export const textArray = (values: readonly (string | null)[]): Buffer =>
  bytesArray(
    OID_TEXT,
    values.map((value) => (value === null ? null : Buffer.from(value, 'utf8'))),
  );
