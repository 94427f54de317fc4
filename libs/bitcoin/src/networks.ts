/** Parameters of the Bitcoin networks that a node may run on. */
import { parseDisplayHash } from './transaction.ts';

/** Name of a network, as configuration spells it. */
export type NetworkName = 'mainnet' | 'testnet' | 'signet' | 'regtest';

/** Constants of one network. */
export interface Network {
  readonly name: NetworkName;
  /** Human-readable part of segwit addresses (BIP 173). */
  readonly bech32Hrp: string;
  /** Prefix of BOLT 11 invoices after `ln`. */
  readonly invoiceHrp: string;
  /** Base58 version byte of P2PKH addresses. */
  readonly pubkeyHashVersion: number;
  /** Base58 version byte of P2SH addresses. */
  readonly scriptHashVersion: number;
  /** BIP 44 coin type. */
  readonly coinType: number;
  /** `chain_hash` of BOLT 1 and 7: the genesis block's hash, internal order, 32 bytes. */
  readonly chainHash: Uint8Array;
  /** Name that Bitcoin Core's `getblockchaininfo` reports as `chain`. */
  readonly coreName: 'main' | 'test' | 'signet' | 'regtest';
}

const TEST_VERSIONS = { pubkeyHashVersion: 0x6f, scriptHashVersion: 0xc4, coinType: 1 } as const;

export const NETWORKS: Readonly<Record<NetworkName, Network>> = {
  mainnet: {
    name: 'mainnet',
    bech32Hrp: 'bc',
    invoiceHrp: 'bc',
    pubkeyHashVersion: 0x00,
    scriptHashVersion: 0x05,
    coinType: 0,
    chainHash: parseDisplayHash('000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f'),
    coreName: 'main',
  },
  testnet: {
    ...TEST_VERSIONS,
    name: 'testnet',
    bech32Hrp: 'tb',
    invoiceHrp: 'tb',
    chainHash: parseDisplayHash('000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943'),
    coreName: 'test',
  },
  signet: {
    ...TEST_VERSIONS,
    name: 'signet',
    bech32Hrp: 'tb',
    invoiceHrp: 'tbs',
    chainHash: parseDisplayHash('00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6'),
    coreName: 'signet',
  },
  regtest: {
    ...TEST_VERSIONS,
    name: 'regtest',
    bech32Hrp: 'bcrt',
    invoiceHrp: 'bcrt',
    chainHash: parseDisplayHash('0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206'),
    coreName: 'regtest',
  },
};

/** The network of this name, or undefined. */
export function networkByName(name: string): Network | undefined {
  return Object.hasOwn(NETWORKS, name) ? NETWORKS[name as NetworkName] : undefined;
}
