/** Addresses: base58check for P2PKH and P2SH, bech32 and bech32m for witness programs (BIP 173, BIP 350). */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { bech32, bech32m, createBase58check } from '@scure/base';
import { concatBytes } from './bytes.ts';
import { BitcoinError } from './errors.ts';
import type { Network } from './networks.ts';
import { NETWORKS } from './networks.ts';
import { compileScript, p2pkhScript, p2shScriptOfHash, scriptKind, witnessProgram } from './script.ts';
import { OP } from './opcodes.ts';

const base58check = createBase58check(sha256);

/** Longest address: BIP 173 allows 90 characters. */
const MAX_ADDRESS_LENGTH = 90;

/** The address of an output script, or undefined when its form has none. */
export function encodeAddress(script: Uint8Array, network: Network): string | undefined {
  const witness = witnessProgram(script);
  if (witness !== undefined) {
    const codec = witness.version === 0 ? bech32 : bech32m;
    return codec.encode(network.bech32Hrp, [witness.version, ...codec.toWords(witness.program)]);
  }
  const kind = scriptKind(script);
  if (kind === 'p2pkh')
    return base58check.encode(
      concatBytes(Uint8Array.from([network.pubkeyHashVersion]), script.subarray(3, 23)),
    );
  if (kind === 'p2sh')
    return base58check.encode(
      concatBytes(Uint8Array.from([network.scriptHashVersion]), script.subarray(2, 22)),
    );
  return undefined;
}

function bad(message: string): Result<never, BitcoinError> {
  return err(new BitcoinError('bad-address', message));
}

function decodeSegwit(address: string, network: Network): Result<Uint8Array, BitcoinError> | undefined {
  for (const codec of [bech32, bech32m]) {
    const decoded = codec.decodeUnsafe(address, MAX_ADDRESS_LENGTH);
    if (decoded === undefined) continue;
    if (decoded.prefix !== network.bech32Hrp)
      return err(
        new BitcoinError('wrong-network', `address is of ${decoded.prefix}, not of ${network.bech32Hrp}`),
      );
    const [version, ...words] = decoded.words;
    const program = codec.fromWordsUnsafe(words);
    if (version === undefined || program === undefined) return bad('no witness program');
    // BIP 350: version 0 with bech32, all others with bech32m.
    if ((version === 0) !== (codec === bech32)) return bad('wrong checksum for the witness version');
    if (version > 16 || program.length < 2 || program.length > 40) return bad('no witness program');
    if (version === 0 && program.length !== 20 && program.length !== 32)
      return bad('version 0 programs have 20 or 32 bytes');
    // A program of one byte could compile to a small-integer opcode; the bounds above exclude it.
    return ok(compileScript([version === 0 ? OP.FALSE : OP.N1 + version - 1, program]));
  }
  return undefined;
}

/** The output script of an address of this network. */
export function decodeAddress(address: string, network: Network): Result<Uint8Array, BitcoinError> {
  if (address.length > MAX_ADDRESS_LENGTH) return bad('too long');
  const segwit = decodeSegwit(address, network);
  if (segwit !== undefined) return segwit;
  let payload: Uint8Array;
  try {
    payload = base58check.decode(address);
  } catch {
    return bad('neither bech32 nor base58check');
  }
  const version = payload[0];
  if (payload.length !== 21 || version === undefined) return bad('wrong payload length');
  const hash = payload.slice(1);
  if (version === network.pubkeyHashVersion) return ok(p2pkhScript(hash));
  if (version === network.scriptHashVersion) return ok(p2shScriptOfHash(hash));
  const known = Object.values(NETWORKS).some(
    (other) => version === other.pubkeyHashVersion || version === other.scriptHashVersion,
  );
  return known
    ? err(new BitcoinError('wrong-network', 'address of another network'))
    : bad('unknown version');
}
