// The codec's public face: bytes, integers, TLV streams, feature bits and declared messages.
export * from './result.ts';
export * from './errors.ts';
export * from './bytes.ts';
export * from './reader.ts';
export * from './writer.ts';
export * from './bigsize.ts';
export * from './tu.ts';
export * from './signed.ts';
export * from './coder.ts';
export * from './tlv.ts';
export * from './message.ts';
export * from './features.ts';
export * from './crc32c.ts';
