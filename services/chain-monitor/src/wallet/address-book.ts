/**
 * The wallet's addresses from the accounts' public keys (BIP 84, BIP 86). All
 * addresses up to the gap limit behind the last used one are watched, and none
 * beyond it is given away: a wallet restored from the seed finds everything.
 */
import { type Network, type Tx, p2trScript, p2wpkhScript, withChecksum } from '@fulmen/bitcoin';
import type { Secp256k1 } from '@fulmen/crypto';
import { type ExtendedPublic, decodeExtendedPublic, taprootOutputKey, walletPublicKey } from '@fulmen/keys';
import type { AddressChain, AddressKind, AddressRecord } from '@fulmen/store/chain/chain-store';
import type { Draft } from '../state/draft.ts';
import { type Sighting, observeTransaction } from './observe.ts';

/** BIP 44: "Address gap limit is currently set to 20." */
export const GAP_LIMIT = 20;

const KINDS: readonly AddressKind[] = ['p2wpkh', 'p2tr'];
const CHAINS: readonly AddressChain[] = ['receive', 'change'];

/** What the signer told about the wallet is not usable. */
export class DescriptorError extends Error {
  override readonly name = 'DescriptorError';
}

export interface WalletDescriptors {
  readonly bip84AccountXpub: string;
  readonly bip86AccountXpub: string;
  /** Of the master key, 8 hexadecimal digits. */
  readonly fingerprint: string;
}

/** How a key is found from the seed (BIP 174's origin), with the key. */
export interface KeyOrigin {
  readonly fingerprint: Uint8Array;
  readonly path: string;
  /** 33 bytes; of p2tr the internal key. */
  readonly publicKey: Uint8Array;
}

/** One branch of the wallet for another wallet to watch. */
export interface ExportedDescriptor {
  /** With its checksum. */
  readonly descriptor: string;
  readonly kind: AddressKind;
  readonly chain: AddressChain;
  /** The first that was not given away. */
  readonly nextIndex: number;
  /** The last that is watched. */
  readonly lastIndex: number;
}

export class AddressBook {
  readonly #secp: Secp256k1;
  readonly #network: Network;
  readonly #fingerprint: Uint8Array;
  readonly #accounts: Readonly<Record<AddressKind, ExtendedPublic>>;
  readonly #accountKeys: Readonly<Record<AddressKind, string>>;

  constructor(secp: Secp256k1, network: Network, descriptors: WalletDescriptors) {
    const account = (text: string): ExtendedPublic => {
      const decoded = decodeExtendedPublic(text);
      if (!decoded.ok) throw new DescriptorError('the signer gave an account key that is none');
      if ((decoded.value.network === 'main') !== (network.name === 'mainnet'))
        throw new DescriptorError('the account key is of another network');
      return decoded.value;
    };
    if (!/^[0-9a-fA-F]{8}$/.test(descriptors.fingerprint))
      throw new DescriptorError('the fingerprint has not 8 hexadecimal digits');
    this.#secp = secp;
    this.#network = network;
    this.#fingerprint = Uint8Array.from(Buffer.from(descriptors.fingerprint, 'hex'));
    this.#accountKeys = { p2wpkh: descriptors.bip84AccountXpub, p2tr: descriptors.bip86AccountXpub };
    this.#accounts = {
      p2wpkh: account(descriptors.bip84AccountXpub),
      p2tr: account(descriptors.bip86AccountXpub),
    };
  }

  origin({ kind, chain, index }: Pick<AddressRecord, 'kind' | 'chain' | 'index'>): KeyOrigin {
    const purpose = kind === 'p2wpkh' ? 84 : 86;
    return {
      fingerprint: this.#fingerprint,
      path: `m/${purpose}'/${this.#network.coinType}'/0'/${chain === 'receive' ? 0 : 1}/${index}`,
      publicKey: walletPublicKey(this.#secp, this.#accounts[kind], chain, index),
    };
  }

  /** The descriptors of all addresses (BIP 380), with where each stands. */
  export(draft: Draft): readonly ExportedDescriptor[] {
    const fingerprint = Buffer.from(this.#fingerprint).toString('hex');
    return KINDS.flatMap((kind) =>
      CHAINS.map((chain): ExportedDescriptor => {
        const { known, lastTouched } = branch(draft, kind, chain);
        const [purpose, wrapper] = kind === 'p2wpkh' ? [84, 'wpkh'] : [86, 'tr'];
        const origin = `[${fingerprint}/${purpose}h/${this.#network.coinType}h/0h]`;
        const path = chain === 'receive' ? '0/*' : '1/*';
        const descriptor = withChecksum(`${wrapper}(${origin}${this.#accountKeys[kind]}/${path})`);
        return { descriptor, kind, chain, nextIndex: lastTouched + 1, lastIndex: known - 1 };
      }),
    );
  }

  #derive(kind: AddressKind, chain: AddressChain, index: number): AddressRecord {
    const publicKey = walletPublicKey(this.#secp, this.#accounts[kind], chain, index);
    const script =
      kind === 'p2wpkh' ? p2wpkhScript(publicKey) : p2trScript(taprootOutputKey(this.#secp, publicKey));
    return { script, kind, chain, index, state: 'unused' };
  }

  /**
   * For a book that was just made. Where no address was known before, blocks that came already are read again: the seed
   * may have been used in an earlier life.
   */
  introduce(draft: Draft): void {
    const { addresses, scannedFrom, rescanFrom } = draft.view;
    if (addresses.size === 0 && scannedFrom !== undefined)
      draft.rescanFrom = Math.min(rescanFrom ?? scannedFrom, scannedFrom);
    this.extend(draft);
  }

  /** Derives what the gap limit asks for. */
  extend(draft: Draft): 'extended' | 'complete' {
    let outcome: 'extended' | 'complete' = 'complete';
    for (const kind of KINDS) {
      for (const chain of CHAINS) {
        const { known, lastUsed, lastTouched } = branch(draft, kind, chain);
        for (let index = known; index <= Math.max(lastUsed, lastTouched) + GAP_LIMIT; index++) {
          draft.putAddress(this.#derive(kind, chain, index));
          outcome = 'extended';
        }
      }
    }
    return outcome;
  }

  /**
   * The next address to give away. When all within the gap limit are given away and none was used, the oldest of them
   * is given again, for one beyond it would not be found again from the seed.
   */
  handOut(draft: Draft, kind: AddressKind, chain: AddressChain): AddressRecord {
    const { records, lastUsed } = branch(draft, kind, chain);
    const within = records.filter(({ index }) => index > lastUsed && index <= lastUsed + GAP_LIMIT);
    const chosen = within.find(({ state }) => state === 'unused') ?? within[0];
    if (chosen === undefined) throw new DescriptorError('no address was derived yet');
    const handedOut: AddressRecord = { ...chosen, state: 'handed_out' };
    draft.putAddress(handedOut);
    this.extend(draft);
    return handedOut;
  }
}

/**
 * Notes what transactions do to the wallet, again if one of them used an address so that later ones came into sight.
 * While the signer has not told who the wallet is there is no book, and what is stored is enough: whoever gave an address
 * away stored those behind it.
 */
export function observeTransactions(
  draft: Draft,
  transactions: readonly { readonly tx: Tx; readonly txid: Uint8Array; readonly sighting: Sighting }[],
  book: AddressBook | undefined,
): void {
  do {
    for (const { tx, txid, sighting } of transactions) observeTransaction(draft, tx, txid, sighting);
  } while (book?.extend(draft) === 'extended');
}

interface Branch {
  readonly records: readonly AddressRecord[];
  readonly known: number;
  /** -1: none. */
  readonly lastUsed: number;
  readonly lastTouched: number;
}

function branch(draft: Draft, kind: AddressKind, chain: AddressChain): Branch {
  const records = [...draft.addresses()]
    .filter((record) => record.kind === kind && record.chain === chain)
    .sort((a, b) => a.index - b.index);
  const last = (matches: (record: AddressRecord) => boolean): number =>
    records.findLast(matches)?.index ?? -1;
  return {
    records,
    known: records.length,
    lastUsed: last(({ state }) => state === 'used'),
    lastTouched: last(({ state }) => state !== 'unused'),
  };
}
