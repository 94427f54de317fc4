/** What this node says in init, and what it accepts in the counterparty's. */
import { equalBytes, err, FeatureBits, ok, type Result } from '@fulmen/codec';
import { encodeAddress, encodeMessage, make, type MessageOf, type NodeAddress } from '@fulmen/wire';
import type { SocketAddress } from '../socket/port.ts';

/** Features of init. Only what is built: a feature that is offered and missing costs channels. */
export const HOLDER_FEATURES: FeatureBits = FeatureBits.of({
  data_loss_protect: 'required',
  upfront_shutdown_script: 'optional',
  gossip_queries: 'optional',
  var_onion_optin: 'required',
  static_remotekey: 'required',
  payment_secret: 'required',
  basic_mpp: 'optional',
  support_large_channel: 'optional',
  anchors: 'optional',
  shutdown_anysegwit: 'optional',
  provide_storage: 'optional',
  channel_type: 'optional',
  scid_alias: 'optional',
  zeroconf: 'optional',
});

/** The genesis block's hash of each network, in the byte order of the wire. */
export const CHAIN_HASHES = {
  mainnet: '6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000',
  testnet: '43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000',
  signet: 'f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000',
  regtest: '06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f',
} as const;
export type NetworkName = keyof typeof CHAIN_HASHES;

/** The largest bit that a feature vector may speak of: beyond it only waste is known. */
const MAX_FEATURE_BYTES = 4096;

/** Our init. The counterparty learns its own address, where it came to us over IP. */
export function holderInit(options: {
  readonly features: FeatureBits;
  readonly chainHash: Uint8Array;
  readonly inboundFrom: SocketAddress | undefined;
}): Uint8Array {
  const address = options.inboundFrom === undefined ? undefined : ipAddress(options.inboundFrom);
  return encodeMessage(
    make('init', {
      globalfeatures: new Uint8Array(0),
      features: options.features.encode(),
      tlvs: {
        networks: [options.chainHash],
        ...(address === undefined ? {} : { remoteAddr: encodeAddress(address) }),
      },
    }),
  );
}

/** The features of a counterparty with which a connection makes sense, or the sentence that ends it. */
export function checkInit(
  init: MessageOf<'init'>,
  holder: { readonly features: FeatureBits; readonly chainHash: Uint8Array },
): Result<FeatureBits, string> {
  if (init.globalfeatures.length + init.features.length > MAX_FEATURE_BYTES)
    return err('feature vector too long');
  // BOLT 1: "MUST combine (bitwise OR) the two feature bitmaps into one logical features map."
  const features = FeatureBits.decode(init.globalfeatures).union(FeatureBits.decode(init.features));
  // BOLT 1: "upon receiving unknown even feature bits that are non-zero: MUST close the connection."
  // What we know by name and do not offer is as unknown to this connection.
  const required = features.bits().filter((bit) => bit % 2 === 0);
  const unsupported = required.filter(
    (bit) => !holder.features.hasBit(bit) && !holder.features.hasBit(bit + 1),
  );
  if (unsupported.length > 0)
    return err(`required feature bits not supported: ${unsupported.slice(0, 16).join(', ')}`);
  // BOLT 1: "if the feature vector does not set all known, transitive dependencies: MUST close the connection."
  const [missing] = features.missingDependencies();
  if (missing !== undefined) return err(`feature ${missing.feature} needs ${missing.needs}`);
  // BOLT 1: "upon receiving networks containing no common chains MAY close the connection."
  const networks = init.tlvs.networks;
  if (networks !== undefined && !networks.some((hash) => equalBytes(hash, holder.chainHash))) {
    return err('no common chain');
  }
  return ok(features);
}

/** An address literal with a usable port; undefined for names and for what is no address. */
function ipAddress({ host, port }: SocketAddress): NodeAddress | undefined {
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
