// Address descriptors (BOLT 7, node_announcement; BOLT 1, init's remote_addr). The message keeps the raw
// bytes, since they are signed; these functions give them meaning.
import { EncodeError, Writer, decodeWith } from '@fulmen/codec';
import type { DecodeError, Reader, Result } from '@fulmen/codec';

/** A place where a node can be reached. Ports are 0 to 65535; 0 is never usable. */
export type NodeAddress =
  | { readonly kind: 'ipv4'; readonly address: Uint8Array; readonly port: number }
  | { readonly kind: 'ipv6'; readonly address: Uint8Array; readonly port: number }
  | { readonly kind: 'torv3'; readonly address: Uint8Array; readonly port: number }
  | { readonly kind: 'dns'; readonly hostname: string; readonly port: number };

const TYPE_IPV4 = 1;
const TYPE_IPV6 = 2;
const TYPE_TOR_V2 = 3;
const TYPE_TOR_V3 = 4;
const TYPE_DNS = 5;
const TOR_V2_LENGTH = 12;
const HOSTNAME = /^[A-Za-z0-9._-]{1,255}$/;

/** What node_announcement's `addresses` holds. */
export interface AnnouncedAddresses {
  readonly addresses: readonly NodeAddress[];
  /** BOLT 7: "if more than one type 5 address is announced: … MUST not forward the node_announcement". */
  readonly mayForward: boolean;
}

/**
 * The usable addresses of node_announcement's `addresses`. Skips deprecated Tor v2, port 0, hostnames with
 * characters no hostname has, and every hostname after the first. BOLT 7: "SHOULD ignore the first address
 * descriptor that does NOT match the types defined above" (and what follows, whose length is unknown). An
 * error if a known descriptor is cut short ("if addrlen is insufficient to hold the address descriptors of
 * the known types", the peer gets a warning).
 */
export function parseAddresses(bytes: Uint8Array): Result<AnnouncedAddresses, DecodeError> {
  return decodeWith(bytes, (reader) => {
    const addresses: NodeAddress[] = [];
    let hostnames = 0;
    while (reader.remaining > 0) {
      const type = reader.u8();
      if (type === TYPE_TOR_V2) {
        reader.view(TOR_V2_LENGTH);
        continue;
      }
      const address = readAddress(reader, type);
      if (address === undefined) {
        reader.rest();
        break;
      }
      if (address.kind === 'dns' && ++hostnames > 1) continue;
      if (address.port !== 0 && (address.kind !== 'dns' || HOSTNAME.test(address.hostname)))
        addresses.push(address);
    }
    return { addresses, mayForward: hostnames <= 1 };
  });
}

/** The single address of init's remote_addr; undefined if its type is unknown. */
export function parseAddress(bytes: Uint8Array): Result<NodeAddress | undefined, DecodeError> {
  return decodeWith(bytes, (reader) => {
    const address = readAddress(reader, reader.u8());
    if (address === undefined) reader.rest();
    return address;
  });
}

/** Address descriptors in ascending order of type, as BOLT 7 wants them; EncodeError for port 0, a bad hostname or two of them. */
export function encodeAddresses(addresses: readonly NodeAddress[]): Uint8Array {
  const writer = new Writer(64);
  const ordered = [...addresses].sort((a, b) => typeOf(a) - typeOf(b));
  if (ordered.filter((address) => address.kind === 'dns').length > 1) {
    throw new EncodeError('out_of_range', 'more than one DNS hostname');
  }
  for (const address of ordered) writeAddress(writer, address);
  return writer.finish();
}

/** One address descriptor, as init's remote_addr carries it. */
export function encodeAddress(address: NodeAddress): Uint8Array {
  const writer = new Writer(64);
  writeAddress(writer, address);
  return writer.finish();
}

/** "1.2.3.4:9735", "[2001:db8:0:0:0:0:0:1]:9735", "<56 characters>.onion:9735" or "host.example:9735". */
export function formatAddress(address: NodeAddress): string {
  if (address.kind === 'ipv4') return `${address.address.join('.')}:${address.port}`;
  if (address.kind === 'dns') return `${address.hostname}:${address.port}`;
  if (address.kind === 'torv3') return `${base32(address.address)}.onion:${address.port}`;
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) {
    groups.push((((address.address[i] ?? 0) << 8) | (address.address[i + 1] ?? 0)).toString(16));
  }
  return `[${groups.join(':')}]:${address.port}`;
}

/** An address literal with a usable port; undefined for names and for what is no address. */
export function ipAddress(host: string, port: number): NodeAddress | undefined {
  if (port === 0) return undefined;
  const parts = host.split('.');
  if (parts.length === 4 && parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) {
    return { kind: 'ipv4', address: Uint8Array.from(parts.map(Number)), port };
  }
  const address = ipv6Bytes(host);
  return address === undefined ? undefined : { kind: 'ipv6', address, port };
}

function ipv6Bytes(host: string): Uint8Array | undefined {
  const halves = host.split('::');
  if (!host.includes(':') || halves.length > 2) return undefined;
  const groupsOf = (text: string | undefined): string[] =>
    text === undefined || text === '' ? [] : text.split(':');
  const head = groupsOf(halves[0]);
  const tail = groupsOf(halves[1]);
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array.from({ length: missing }, () => '0'), ...tail];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return undefined;
  return Uint8Array.from(groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff]));
}

function readAddress(reader: Reader, type: number): NodeAddress | undefined {
  if (type === TYPE_IPV4) return { kind: 'ipv4', address: reader.bytes(4), port: reader.u16() };
  if (type === TYPE_IPV6) return { kind: 'ipv6', address: reader.bytes(16), port: reader.u16() };
  if (type === TYPE_TOR_V3) return { kind: 'torv3', address: reader.bytes(35), port: reader.u16() };
  if (type !== TYPE_DNS) return undefined;
  const hostname = String.fromCharCode(...reader.view(reader.u8()));
  return { kind: 'dns', hostname, port: reader.u16() };
}

function writeAddress(writer: Writer, address: NodeAddress): void {
  // BOLT 7: "MUST NOT create a type 1, type 2 or type 5 address descriptor with port equal to 0"
  if (address.port === 0) throw new EncodeError('out_of_range', 'port 0');
  writer.u8(typeOf(address));
  if (address.kind === 'dns') {
    if (!HOSTNAME.test(address.hostname)) throw new EncodeError('out_of_range', 'not a hostname');
    writer.u8(address.hostname.length);
    for (let i = 0; i < address.hostname.length; i++) writer.u8(address.hostname.charCodeAt(i));
  } else {
    const length = ADDRESS_LENGTH[address.kind];
    if (address.address.length !== length) throw new EncodeError('wrong_length', `${address.kind} address`);
    writer.bytes(address.address);
  }
  writer.u16(address.port);
}

const ADDRESS_LENGTH = { ipv4: 4, ipv6: 16, torv3: 35 } as const;
const TYPES = { ipv4: TYPE_IPV4, ipv6: TYPE_IPV6, torv3: TYPE_TOR_V3, dns: TYPE_DNS } as const;

function typeOf(address: NodeAddress): number {
  return TYPES[address.kind];
}

function base32(bytes: Uint8Array): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
  let out = '';
  let bits = 0;
  let accumulator = 0;
  for (const byte of bytes) {
    accumulator = ((accumulator << 8) | byte) & 0xfff;
    bits += 8;
    for (; bits >= 5; bits -= 5) out += alphabet[(accumulator >> (bits - 5)) & 31] ?? '';
  }
  return out;
}
