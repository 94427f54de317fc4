/**
 * The key scheme `native-v1`: every secret of a node from one BIP 39 seed, at
 * published paths. The wallet's are those of any BIP 84 and BIP 86 wallet; a
 * channel's need its channelKeysId as well, which backups must therefore hold.
 * c is the network's BIP 44 coin type (0 on mainnet, else 1).
 *
 * | path                             | what                                                        |
 * |----------------------------------|-------------------------------------------------------------|
 * | m/9735'/c'/0'                    | node id (static key of BOLT 8; signs gossip and invoices)   |
 * | m/9735'/c'/1'/{K}'               | root of the channel whose channelKeysId is K (32 bytes)     |
 * | m/9735'/c'/1'/{K}'/0'/i'         | funding key, i = 0 first funding, i > 0 later ones (splices)|
 * | m/9735'/c'/1'/{K}'/1'            | revocation basepoint                                        |
 * | m/9735'/c'/1'/{K}'/2'            | payment basepoint                                           |
 * | m/9735'/c'/1'/{K}'/3'            | delayed payment basepoint                                   |
 * | m/9735'/c'/1'/{K}'/4'            | HTLC basepoint                                              |
 * | m/9735'/c'/1'/{K}'/5'            | per-commitment seed (BOLT 3 `generate_from_seed`)           |
 * | m/9735'/c'/2'                    | inbound payments' HMAC key                                  |
 * | m/9735'/c'/3'                    | key of our own blobs at peers (peer storage)                |
 * | m/9735'/c'/4'                    | key of offers (BOLT 12 metadata and blinded paths)          |
 * | m/84'/c'/0'/{0,1}/i              | wallet, P2WPKH (BIP 84): receive, change                    |
 * | m/86'/c'/0'/{0,1}/i              | wallet, P2TR (BIP 86): receive, change                      |
 *
 * {K}' is a hardened child named by 32 bytes (`deriveNamedChild`). All of
 * 9735' is hardened: no leaked child secret reveals a sibling.
 */
import type { Network } from '@fulmen/bitcoin/networks';
import type { Secp256k1 } from '@fulmen/crypto';
import { deriveChild, deriveNamedChild, derivePath, hardened, masterKey } from './bip32.ts';
import type { ExtendedSecret } from './bip32.ts';
import { keyFingerprint } from './xpub.ts';

/** How a key id's secrets came to be; recorded with each channel, for others may follow. */
export type KeyScheme = 'native-v1';

const LIGHTNING_PURPOSE = 9735;

/** The secrets of a node that do not belong to one channel. */
export interface KeyTree {
  readonly keyScheme: KeyScheme;
  readonly coinType: number;
  readonly nodeSecret: Uint8Array;
  /** Public key of `nodeSecret`. */
  readonly nodeId: Uint8Array;
  /** 32 bytes each. */
  readonly inboundPaymentKey: Uint8Array;
  readonly peerStorageKey: Uint8Array;
  readonly offersKey: Uint8Array;
  /** m/9735'/c'/1' */
  readonly channelsRoot: ExtendedSecret;
  /** First 4 bytes of the master key's HASH160, as a number: BIP 174's name for this seed. */
  readonly masterFingerprint: number;
  /** Of m/84'/c' and m/86'/c', the accounts' parents. */
  readonly segwitParentFingerprint: number;
  readonly taprootParentFingerprint: number;
  /** m/84'/c'/0' */
  readonly segwitAccount: ExtendedSecret;
  /** m/86'/c'/0' */
  readonly taprootAccount: ExtendedSecret;
}

/** The node's tree. `seed` is a BIP 39 seed (64 bytes); any of 16 to 64 bytes will do. */
export function keyTree(secp: Secp256k1, seed: Uint8Array, network: Pick<Network, 'coinType'>): KeyTree {
  const { coinType } = network;
  const master = masterKey(secp, seed);
  const lightning = derivePath(secp, master, [hardened(LIGHTNING_PURPOSE), hardened(coinType)]);
  const child = (index: number): ExtendedSecret => deriveChild(secp, lightning, hardened(index));
  const account = (purpose: number): ExtendedSecret =>
    derivePath(secp, master, [hardened(purpose), hardened(coinType), hardened(0)]);
  const parentFingerprint = (purpose: number): number =>
    keyFingerprint(
      secp.publicKeyOf(derivePath(secp, master, [hardened(purpose), hardened(coinType)]).secretKey),
    );
  const nodeSecret = child(0).secretKey;
  return {
    keyScheme: 'native-v1',
    coinType,
    nodeSecret,
    nodeId: secp.publicKeyOf(nodeSecret),
    channelsRoot: child(1),
    inboundPaymentKey: child(2).secretKey,
    peerStorageKey: child(3).secretKey,
    offersKey: child(4).secretKey,
    masterFingerprint: keyFingerprint(secp.publicKeyOf(master.secretKey)),
    segwitParentFingerprint: parentFingerprint(84),
    taprootParentFingerprint: parentFingerprint(86),
    segwitAccount: account(84),
    taprootAccount: account(86),
  };
}

/** One channel's secrets, 32 bytes each. They stay in the signer. */
export interface HolderBasepointSecrets {
  /** Of the first funding; see `fundingSecret` for later ones. */
  readonly fundingSecret: Uint8Array;
  readonly revocationBasepointSecret: Uint8Array;
  readonly paymentBasepointSecret: Uint8Array;
  readonly delayedPaymentBasepointSecret: Uint8Array;
  readonly htlcBasepointSecret: Uint8Array;
  readonly perCommitmentSeed: Uint8Array;
}

/** The public keys that `open_channel` and `accept_channel` carry, 33 bytes each. */
export interface HolderBasepoints {
  readonly fundingPubkey: Uint8Array;
  readonly revocationBasepoint: Uint8Array;
  readonly paymentBasepoint: Uint8Array;
  readonly delayedPaymentBasepoint: Uint8Array;
  readonly htlcBasepoint: Uint8Array;
}

/** A channel's secrets. `channelKeysId` is 32 bytes, unique to the channel; it is no secret. */
export function channelSecrets(
  secp: Secp256k1,
  tree: Pick<KeyTree, 'channelsRoot'>,
  channelKeysId: Uint8Array,
): HolderBasepointSecrets {
  const root = deriveNamedChild(secp, tree.channelsRoot, channelKeysId);
  const secret = (index: number): Uint8Array => deriveChild(secp, root, hardened(index)).secretKey;
  return {
    fundingSecret: derivePath(secp, root, [hardened(0), hardened(0)]).secretKey,
    revocationBasepointSecret: secret(1),
    paymentBasepointSecret: secret(2),
    delayedPaymentBasepointSecret: secret(3),
    htlcBasepointSecret: secret(4),
    perCommitmentSeed: secret(5),
  };
}

/** The funding secret of a channel's `fundingIndex`-th funding: 0 the first, a new one for each splice. */
export function fundingSecret(
  secp: Secp256k1,
  tree: Pick<KeyTree, 'channelsRoot'>,
  channelKeysId: Uint8Array,
  fundingIndex: number,
): Uint8Array {
  const root = deriveNamedChild(secp, tree.channelsRoot, channelKeysId);
  return derivePath(secp, root, [hardened(0), hardened(fundingIndex)]).secretKey;
}

/** The public halves of a channel's secrets. */
export function holderBasepoints(secp: Secp256k1, secrets: HolderBasepointSecrets): HolderBasepoints {
  return {
    fundingPubkey: secp.publicKeyOf(secrets.fundingSecret),
    revocationBasepoint: secp.publicKeyOf(secrets.revocationBasepointSecret),
    paymentBasepoint: secp.publicKeyOf(secrets.paymentBasepointSecret),
    delayedPaymentBasepoint: secp.publicKeyOf(secrets.delayedPaymentBasepointSecret),
    htlcBasepoint: secp.publicKeyOf(secrets.htlcBasepointSecret),
  };
}
