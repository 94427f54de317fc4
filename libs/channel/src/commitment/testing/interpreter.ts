/** Runs a transaction's input through an independent script interpreter (bitcore-lib), under the standardness flags that matter. Tests only. */
import { createRequire } from 'node:module';
import { encodeTx } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type { Tx } from '@fulmen/bitcoin';

interface BitcoreScript {
  readonly toHex: () => string;
}

interface Bitcore {
  readonly Transaction: new (hex: string) => unknown;
  readonly Script: { new (bytes?: Buffer): BitcoreScript; readonly Interpreter: BitcoreInterpreterClass };
}

interface BitcoreInterpreterClass {
  new (): {
    verify(
      scriptSig: BitcoreScript,
      scriptPubKey: BitcoreScript,
      tx: unknown,
      input: number,
      flags: number,
      witness: readonly Buffer[],
      satoshis: number,
    ): boolean;
    readonly errstr: string;
  };
  readonly [flag: `SCRIPT_VERIFY_${string}`]: number;
}

// The package ships no types; this is the part of it that is used.
const bitcore = createRequire(import.meta.url)('bitcore-lib') as Bitcore;
const { Interpreter } = bitcore.Script;

const FLAGS = [
  'P2SH',
  'STRICTENC',
  'DERSIG',
  'LOW_S',
  'NULLDUMMY',
  'MINIMALDATA',
  'CHECKLOCKTIMEVERIFY',
  'CHECKSEQUENCEVERIFY',
  'WITNESS',
  'MINIMALIF',
  'NULLFAIL',
  'WITNESS_PUBKEYTYPE',
].reduce((flags, name) => flags | (Interpreter[`SCRIPT_VERIFY_${name}`] ?? 0), 0);

/** 'ok', or the interpreter's error for one input that spends `spent`. */
export function runInput(
  transaction: Tx,
  inputIndex: number,
  spent: { readonly valueSat: bigint; readonly scriptPubKey: Uint8Array },
): string {
  const input = transaction.inputs[inputIndex];
  if (input === undefined) return 'no such input';
  const interpreter = new Interpreter();
  const passed = interpreter.verify(
    new bitcore.Script(Buffer.from(input.scriptSig)),
    new bitcore.Script(Buffer.from(spent.scriptPubKey)),
    new bitcore.Transaction(toHex(encodeTx(transaction))),
    inputIndex,
    FLAGS,
    input.witness.map((item) => Buffer.from(item)),
    Number(spent.valueSat),
  );
  return passed ? 'ok' : interpreter.errstr || 'failed';
}
