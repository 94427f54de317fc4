/**
 * Runs scripts in bitcore-lib's interpreter: an implementation that shares no
 * code with ours, so that a wrong signature hash or script of ours fails.
 *
 * Two of its limits are met here: it would refuse every witness version it
 * does not know (pay-to-anchor is standard), and its CLEANSTACK looks at the
 * wrong stack for witness inputs (where BIP 141 makes it consensus anyway).
 */
import { Buffer } from 'node:buffer';
import bitcore from 'bitcore-lib';
import { scriptKind } from '@fulmen/bitcoin';
import type { ScriptVerifier } from './model.ts';

const I = bitcore.Script.Interpreter;

const flag = (name: string): number => I[`SCRIPT_VERIFY_${name}`] ?? 0;
const flags = (...names: readonly string[]): number => names.reduce((all, name) => all | flag(name), 0);

const CONSENSUS_FLAGS = flags(
  'P2SH',
  'DERSIG',
  'NULLDUMMY',
  'CHECKLOCKTIMEVERIFY',
  'CHECKSEQUENCEVERIFY',
  'WITNESS',
  'TAPROOT',
);
const POLICY_FLAGS =
  CONSENSUS_FLAGS |
  flags(
    'STRICTENC',
    'LOW_S',
    'MINIMALDATA',
    'DISCOURAGE_UPGRADABLE_NOPS',
    'MINIMALIF',
    'NULLFAIL',
    'WITNESS_PUBKEYTYPE',
    'DISCOURAGE_UPGRADABLE_TAPROOT_VERSION',
    'DISCOURAGE_OP_SUCCESS',
    'DISCOURAGE_UPGRADABLE_PUBKEYTYPE',
  );

/** The interpreter's names of failures, in Bitcoin Core's words where clients see them. */
const MESSAGES: Readonly<Record<string, string>> = {
  SCRIPT_ERR_EVAL_FALSE: 'Script evaluated without error but finished with a false/empty top stack element',
  SCRIPT_ERR_EVAL_FALSE_IN_STACK:
    'Script evaluated without error but finished with a false/empty top stack element',
  SCRIPT_ERR_EVAL_FALSE_NO_RESULT:
    'Script evaluated without error but finished with a false/empty top stack element',
  SCRIPT_ERR_UNSATISFIED_LOCKTIME: 'Locktime requirement not satisfied',
  SCRIPT_ERR_NEGATIVE_LOCKTIME: 'Negative locktime',
  SCRIPT_ERR_EQUALVERIFY: 'Script failed an OP_EQUALVERIFY operation',
  SCRIPT_ERR_CHECKSIGVERIFY: 'Script failed an OP_CHECKSIGVERIFY operation',
  SCRIPT_ERR_CHECKMULTISIGVERIFY: 'Script failed an OP_CHECKMULTISIGVERIFY operation',
  SCRIPT_ERR_SIG_NULLFAIL: 'Signature must be zero for failed CHECK(MULTI)SIG operation',
  SCRIPT_ERR_NULLFAIL: 'Signature must be zero for failed CHECK(MULTI)SIG operation',
  SCRIPT_ERR_WITNESS_PROGRAM_MISMATCH: 'Witness program hash mismatch',
  SCRIPT_ERR_WITNESS_PROGRAM_WITNESS_EMPTY: 'Witness program was passed an empty witness',
  SCRIPT_ERR_WITNESS_MALLEATED: 'Witness requires empty scriptSig',
  SCRIPT_ERR_WITNESS_UNEXPECTED: 'Witness provided for non-witness script',
  SCRIPT_ERR_INVALID_STACK_OPERATION: 'Operation not valid with the current stack size',
  SCRIPT_ERR_SIG_DER_INVALID_FORMAT: 'Non-canonical DER signature',
  SCRIPT_ERR_SIG_DER_HIGH_S: 'Non-canonical signature: S value is unnecessarily high',
  SCRIPT_ERR_SCHNORR_SIG_SIZE: 'Invalid Schnorr signature size',
  SCRIPT_ERR_OP_RETURN: 'OP_RETURN was encountered',
  SCRIPT_ERR_MINIMALIF: 'OP_IF/NOTIF argument must be minimal',
};

/** Checks every input of a transaction. */
export const verifyScripts: ScriptVerifier = (stored, spent, mode) => {
  const transaction = new bitcore.Transaction(Buffer.from(stored.raw));
  for (const [index, output] of spent.entries()) {
    const input = transaction.inputs[index];
    if (input !== undefined)
      input.output = new bitcore.Transaction.Output({
        satoshis: Number(output.valueSat),
        script: Buffer.from(output.script),
      });
  }
  for (const [index, output] of spent.entries()) {
    const kind = scriptKind(output.script);
    const input = transaction.inputs[index];
    const ours = stored.tx.inputs[index];
    if (input === undefined || ours === undefined) return { input: index, error: 'no such input' };
    if (kind === 'p2a' || kind === 'witness-unknown') {
      if (ours.scriptSig.length > 0)
        return { input: index, error: MESSAGES['SCRIPT_ERR_WITNESS_MALLEATED'] ?? '' };
      if (mode === 'policy' && kind === 'witness-unknown')
        return { input: index, error: 'Witness version reserved for soft-fork upgrades' };
      continue;
    }
    const interpreter = new I();
    let valid: boolean;
    let error: string;
    try {
      valid = interpreter.verify(
        bitcore.Script.fromBuffer(Buffer.from(ours.scriptSig)),
        bitcore.Script.fromBuffer(Buffer.from(output.script)),
        transaction,
        index,
        mode === 'policy' ? POLICY_FLAGS : CONSENSUS_FLAGS,
        input.witnesses ?? [],
        Number(output.valueSat),
      );
      error = interpreter.errstr;
    } catch (thrown) {
      valid = false;
      error = thrown instanceof Error ? thrown.message : String(thrown);
    }
    if (!valid)
      return { input: index, error: MESSAGES[error] ?? (error === '' ? 'Invalid Schnorr signature' : error) };
  }
  return undefined;
};

/** Accepts every script: for simulations, whose signatures are fakes. */
export const trustScripts: ScriptVerifier = () => undefined;
