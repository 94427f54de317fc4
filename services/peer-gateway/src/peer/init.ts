/** What this node says in init, and what it accepts in the counterparty's. */
import { equalBytes, err, FeatureBits, ok, type Result } from '@fulmen/codec';
import { encodeAddress, encodeMessage, ipAddress, make, type MessageOf } from '@fulmen/wire';
import type { SocketAddress } from '../socket/port.ts';

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
  const address =
    options.inboundFrom === undefined
      ? undefined
      : ipAddress(options.inboundFrom.host, options.inboundFrom.port);
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
