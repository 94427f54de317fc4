/** A payment of one wallet coin by somebody who has the same seed. */
import { SIGHASH, type Tx, derFromCompact, p2pkhScript, segwitV0Sighash } from '@fulmen/bitcoin';
import { ANYONE_SCRIPT } from '@fulmen/chain/compliance';
import { hash160 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { type KeyTree, walletSecretKey } from '@fulmen/keys';
import type { AddressRecord, UtxoRecord } from '@fulmen/store/chain/chain-store';

const FEE_SAT = 5_000n;

/** Of a P2WPKH coin. */
export function walletSpend(
  secp: Secp256k1,
  keys: KeyTree,
  { txid, outputIndex, valueSat }: UtxoRecord,
  { chain, index }: AddressRecord,
): { readonly tx: Tx; readonly witness: readonly Uint8Array[] } {
  const secret = walletSecretKey(secp, keys.segwitAccount, chain, index);
  const publicKey = secp.publicKeyOf(secret);
  const tx: Tx = {
    version: 2,
    locktime: 0,
    inputs: [{ txid, vout: outputIndex, scriptSig: new Uint8Array(0), sequence: 0xffff_fffd, witness: [] }],
    outputs: [{ valueSat: valueSat - FEE_SAT, script: ANYONE_SCRIPT }],
  };
  const sighash = segwitV0Sighash(tx, 0, p2pkhScript(hash160(publicKey)), valueSat, SIGHASH.ALL);
  return { tx, witness: [derFromCompact(secp.sign(sighash, secret), SIGHASH.ALL), publicKey] };
}
