/**
 * Which node to talk to, and with which token: flags first, then the
 * environment, then what `npm start` left in the checkout.
 */
import path from 'node:path';
import type { CallOptions, Client } from '@fulmen/rpc';
import { RpcError } from '@fulmen/rpc/transport';
import { ANSWERED_BY } from '../metadata.ts';
import { type CliIo, CliError, EXIT } from './io.ts';

/** Written by the start script: {"address":"127.0.0.1:PORT","tokenFile":"…"}. */
const STATE_FILE = path.join('.fulmen', 'cli.json');
/** A little longer than the console gives a command. */
const DEFAULT_DEADLINE_MS = 35_000;

export interface ConnectionFlags {
  readonly address?: string;
  readonly tokenFile?: string;
}

type Definitions = typeof import('@fulmen/proto/node/v1/node');

/** One node, ready to be called. */
export interface Session {
  readonly address: string;
  /** Calls a service; errors come out as CliError. */
  call<S, R>(
    pick: (definitions: Definitions) => S,
    run: (client: Client<S>, options: CallOptions) => Promise<R>,
    deadlineMs?: number,
  ): Promise<R>;
  /** A stream without a deadline; `metadata` is added to the token. */
  stream<S, R>(
    pick: (definitions: Definitions) => S,
    run: (client: Client<S>, options: CallOptions) => AsyncIterable<R>,
    metadata: Readonly<Record<string, string>>,
  ): AsyncIterable<R>;
}

export async function openSession(io: CliIo, flags: ConnectionFlags): Promise<Session> {
  const { address, tokenFile } = await findNode(io, flags);
  const token = await readToken(io, tokenFile);
  const metadata = { authorization: `Bearer ${token}` };
  const clientOf = async <S>(pick: (definitions: Definitions) => S): Promise<Client<S>> => {
    const [connector, definitions] = await Promise.all([
      io.connector(),
      import('@fulmen/proto/node/v1/node'),
    ]);
    return connector.client(pick(definitions), address);
  };
  return {
    address,
    call: async (pick, run, deadlineMs = DEFAULT_DEADLINE_MS) => {
      const client = await clientOf(pick);
      try {
        return await run(client, { metadata, deadlineMs, signal: io.interrupted });
      } catch (error) {
        throw sentenceOf(error, address, deadlineMs);
      }
    },
    stream: async function* (pick, run, more) {
      const client = await clientOf(pick);
      try {
        yield* run(client, { metadata: { ...metadata, ...more }, signal: io.interrupted });
      } catch (error) {
        throw sentenceOf(error, address, DEFAULT_DEADLINE_MS);
      }
    },
  };
}

async function findNode(io: CliIo, flags: ConnectionFlags): Promise<{ address: string; tokenFile: string }> {
  const address = flags.address ?? nonEmpty(io.environment['FULMEN_ADDRESS']);
  const tokenFile = flags.tokenFile ?? nonEmpty(io.environment['FULMEN_TOKEN_FILE']);
  if (address !== undefined && tokenFile !== undefined) return { address: checked(address), tokenFile };
  const state = await readState(io);
  const found = { address: address ?? state?.address, tokenFile: tokenFile ?? state?.tokenFile };
  if (found.address === undefined) {
    throw new CliError(
      'No node to talk to. Start one with npm start, or name it with --address host:port and --token-file ' +
        '(or FULMEN_ADDRESS and FULMEN_TOKEN_FILE).',
      EXIT.unreachable,
    );
  }
  if (found.tokenFile === undefined) {
    throw new CliError(
      'No token. Name its file with --token-file or FULMEN_TOKEN_FILE; the node wrote its first token to the file ' +
        'in its setting FULMEN_ADMIN_TOKEN_FILE.',
    );
  }
  return { address: checked(found.address), tokenFile: found.tokenFile };
}

const nonEmpty = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

function checked(address: string): string {
  if (/^[^\s:/]+:\d{1,5}$|^\[[0-9a-f:]+\]:\d{1,5}$/i.test(address)) return address;
  throw new CliError(
    `"${address}" is no address: it must be host:port, for example 127.0.0.1:9740.`,
    EXIT.usage,
  );
}

async function readState(io: CliIo): Promise<{ address: string; tokenFile: string } | undefined> {
  const file = path.join(io.checkout, STATE_FILE);
  const text = await io.readFile(file).catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const { address, tokenFile } = JSON.parse(text) as Record<string, unknown>;
    if (typeof address === 'string' && typeof tokenFile === 'string')
      return { address, tokenFile: path.resolve(io.checkout, tokenFile) };
  } catch {
    // Said below.
  }
  throw new CliError(`${file} is damaged. Start the node again with npm start, or name it with --address.`);
}

async function readToken(io: CliIo, file: string): Promise<string> {
  let text: string;
  try {
    text = await io.readFile(file);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    throw new CliError(
      code === 'EACCES'
        ? `The token file ${file} may not be read by this user. Run as its owner.`
        : `The token file ${file} does not exist. Is the node set up? Start it with npm start, or pass --token-file.`,
    );
  }
  const token = text.trim();
  if (!/^[0-9a-f]{64}$/i.test(token))
    throw new CliError(`The file ${file} holds no token: it must be 64 hex digits.`);
  return token;
}

/** What an error means for the person at the terminal. */
export function sentenceOf(error: unknown, address: string, deadlineMs: number): unknown {
  if (!(error instanceof RpcError)) return error;
  if (error.metadata[ANSWERED_BY] !== undefined) return new CliError(error.message);
  switch (error.code) {
    case 'unavailable':
      return new CliError(
        `The node at ${address} does not answer. Is it running? Start it with npm start.`,
        EXIT.unreachable,
      );
    case 'deadline_exceeded':
      return new CliError(
        `The node at ${address} did not answer within ${Math.round(deadlineMs / 1000)} seconds. ` +
          'What was asked may still happen: look before you ask again.',
        EXIT.unreachable,
      );
    case 'unimplemented':
      return new CliError(`The server at ${address} is no Fulmen node, or an older one: ${error.message}`);
    case 'cancelled':
      return new CliError('Interrupted.');
    case 'unknown':
    case 'invalid_argument':
    case 'not_found':
    case 'already_exists':
    case 'permission_denied':
    case 'resource_exhausted':
    case 'failed_precondition':
    case 'aborted':
    case 'out_of_range':
    case 'internal':
    case 'data_loss':
    case 'unauthenticated':
      return new CliError(`The node at ${address}: ${error.message}`);
  }
}
