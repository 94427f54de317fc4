/** Arguments from the command line. Each throws a usage error that shows what is right. */
import { parseScid, txid } from './format.ts';
import { CliError, usage } from './io.ts';

/** 21 million bitcoin. */
const MAX_SAT = 2_100_000_000_000_000n;

export function bytes(name: string, text: string, length: number): Uint8Array {
  if (!new RegExp(`^[0-9a-f]{${length * 2}}$`, 'i').test(text))
    throw usage(`${name} must be ${length * 2} hex digits, not "${clip(text)}".`);
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** Bytes of any number; the fleet knows how many it takes. */
export function anyBytes(name: string, text: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2})+$/i.test(text)) throw usage(`${name} must be hex digits, not "${clip(text)}".`);
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

export function nodeId(text: string): Uint8Array {
  if (!/^0[23][0-9a-f]{64}$/i.test(text))
    throw usage(`"${clip(text)}" is no node id: it must be 66 hex digits that begin with 02 or 03.`);
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** A scriptPubKey in hex that a shutdown may carry; the node takes none that is longer. */
export function script(name: string, text: string): Uint8Array {
  if (!/^([0-9a-fA-F]{2}){4,42}$/.test(text))
    throw usage(`${name} must be a script of 4 to 42 bytes in hex, not "${clip(text)}".`);
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** nodeid@host:port */
export function nodeUri(text: string): { nodeId: Uint8Array; host: string; port: number } {
  const at = text.indexOf('@');
  const match = /^(?:\[([0-9a-f:]+)\]|([^\s:[\]]+)):(\d{1,5})$/i.exec(at < 0 ? '' : text.slice(at + 1));
  const port = Number(match?.[3] ?? 0);
  if (match === null || port < 1 || port > 65_535)
    throw usage(
      `"${clip(text)}" is no peer: write <node id>@<host>:<port>, for example 03ab…@10.0.0.7:9735.`,
    );
  return { nodeId: nodeId(text.slice(0, at)), host: match[1] ?? match[2] ?? '', port };
}

/** Whole satoshis; separators as in 1_000_000 or 1,000,000 are fine. */
export function amountSat(name: string, text: string): bigint {
  const value = digits(text);
  if (value === undefined || value > MAX_SAT)
    throw usage(`${name} must be a whole number of satoshis, not "${clip(text)}".`);
  return value;
}

export function amountMsat(name: string, text: string): bigint {
  const value = digits(text);
  if (value === undefined || value > MAX_SAT * 1000n)
    throw usage(`${name} must be a whole number of millisatoshis, not "${clip(text)}".`);
  return value;
}

export function whole(name: string, text: string, min: number, max: number): number {
  const value = digits(text);
  if (value === undefined || value < BigInt(min) || value > BigInt(max))
    throw usage(`${name} must be a whole number from ${min} to ${max}, not "${clip(text)}".`);
  return Number(value);
}

export function position(name: string, text: string): bigint {
  const value = digits(text);
  if (value === undefined || value >= 2n ** 63n)
    throw usage(`${name} must be an event's position, not "${clip(text)}".`);
  return value;
}

/** sat per virtual byte → sat per 1000 weight units. A virtual byte is 4 weight units. */
export function feerate(text: string, name = '--feerate'): number {
  const match = /^\d{1,6}(\.\d{1,3})?$/.exec(text);
  const value = Math.round(Number(text) * 250);
  if (match === null || value < 253)
    throw usage(`${name} must be in sat/vB and at least 1.012, not "${clip(text)}".`);
  return value;
}

/** An output, its txid in the order of explorers: whole, or shortened as the tables show it. */
export interface OutpointReference {
  readonly prefix: string;
  readonly suffix: string;
  readonly outputIndex: number;
}

export function outpoint(text: string): OutpointReference {
  const match = /^([0-9a-f]{6,64})(?:…([0-9a-f]*))?:(\d{1,9})$/i.exec(text);
  if (match === null)
    throw usage(`"${clip(text)}" names no output: write <txid>:<index>, as fulmen sweeps list shows it.`);
  const [, prefix = '', suffix = '', index = '0'] = match;
  return { prefix: prefix.toLowerCase(), suffix: suffix.toLowerCase(), outputIndex: Number(index) };
}

/** @throws CliError when none or several of the outputs are named like that */
export function matchOutpoint<T extends { readonly txid: Uint8Array; readonly outputIndex: number }>(
  { prefix, suffix, outputIndex }: OutpointReference,
  outputs: readonly T[],
): T {
  const found = outputs.filter((output) => {
    const id = txid(output.txid);
    return output.outputIndex === outputIndex && id.startsWith(prefix) && id.endsWith(suffix);
  });
  const [output, second] = found;
  if (output === undefined) throw new CliError('No such output is being claimed. See: fulmen sweeps list');
  if (second !== undefined)
    throw new CliError(`${found.length} outputs are named like that. Give more digits.`);
  return output;
}

/** How a channel may be named. */
export type ChannelReference =
  | { readonly type: 'id'; readonly channelId: Uint8Array }
  | { readonly type: 'prefix'; readonly prefix: string }
  | { readonly type: 'outpoint'; readonly txid: string; readonly index: number }
  | { readonly type: 'scid'; readonly scid: bigint };

export function channelReference(text: string): ChannelReference {
  // A shortened id as the tables show it is as good as its beginning.
  const lower = text.toLowerCase().replace(/…[0-9a-f]*$/, '');
  if (/^[0-9a-f]{64}$/.test(lower))
    return { type: 'id', channelId: Uint8Array.from(Buffer.from(lower, 'hex')) };
  if (/^[0-9a-f]{6,63}$/.test(lower)) return { type: 'prefix', prefix: lower };
  const outpoint = /^([0-9a-f]{64}):(\d{1,5})$/.exec(lower);
  if (outpoint !== null) return { type: 'outpoint', txid: outpoint[1] ?? '', index: Number(outpoint[2]) };
  const scid = parseScid(lower);
  if (scid !== undefined) return { type: 'scid', scid };
  throw usage(
    `"${clip(text)}" names no channel: give its channel id (or its first 6 or more digits), its funding output ` +
      '<txid>:<index>, or its short channel id <block>x<tx>x<output>.',
  );
}

/** An invoice as people paste it: with "lightning:" before it, or in capitals. */
export function bolt11(text: string): string {
  const bare = text.trim().replace(/^lightning:/i, '');
  if (!/^ln[a-z0-9]+$/i.test(bare))
    throw usage(`"${clip(text)}" is no BOLT 11 invoice: those begin with lnbc, lntb or lnbcrt.`);
  return bare;
}

function digits(text: string): bigint | undefined {
  const bare = text.replace(/(?<=\d)[_,](?=\d{3}(\D|$))/g, '');
  return /^\d{1,20}$/.test(bare) ? BigInt(bare) : undefined;
}

const clip = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
