/** The parts of bitcore-lib that the script checker uses; the package has no types. */
declare module 'bitcore-lib' {
  import type { Buffer } from 'node:buffer';

  interface BitcoreOutput {
    readonly script: BitcoreScript;
  }
  interface BitcoreScript {
    readonly chunks: readonly { readonly opcodenum: number }[];
  }
  interface BitcoreInput {
    output?: BitcoreOutput;
    readonly witnesses: Buffer[];
    readonly script: BitcoreScript | null;
  }
  interface BitcoreTransaction {
    readonly inputs: BitcoreInput[];
  }
  interface BitcoreInterpreter {
    readonly errstr: string;
    verify(
      scriptSig: BitcoreScript,
      scriptPubkey: BitcoreScript,
      tx: BitcoreTransaction,
      index: number,
      flags: number,
      witness: readonly Buffer[],
      satoshis: number,
    ): boolean;
  }
  const bitcore: {
    readonly Transaction: {
      new (raw: Buffer): BitcoreTransaction;
      readonly Output: new (fields: { satoshis: number; script: Buffer }) => BitcoreOutput;
    };
    readonly Script: {
      fromBuffer(raw: Buffer): BitcoreScript;
      empty(): BitcoreScript;
      Interpreter: Interpreter;
    };
  };
  type Interpreter = (new () => BitcoreInterpreter) & Readonly<Record<`SCRIPT_VERIFY_${string}`, number>>;
  export default bitcore;
}
