/** Errors as the console's callers see them. */
import { type RpcCode, RpcError } from '@fulmen/rpc';
import { ANSWERED_BY } from './metadata.ts';

const ANSWERED = { [ANSWERED_BY]: 'console' };

/** An error of the console: a code and a sentence that says what to do. */
export function refuse(code: RpcCode, sentence: string): RpcError {
  return new RpcError(code, sentence, ANSWERED);
}

/** Marks any RpcError as answered; metadata of services behind the console stays inside. */
export function answered(error: RpcError): RpcError {
  return new RpcError(error.code, error.message, ANSWERED);
}
