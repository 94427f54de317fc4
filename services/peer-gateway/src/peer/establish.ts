/**
 * From a byte stream to a peer: Noise handshake and init, each within its
 * deadline. Everything that is read before the peer has proven its key is
 * bounded by one piece of the stream.
 */
import { concatBytes, type FeatureBits } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  ACT_ONE_LENGTH,
  ACT_THREE_LENGTH,
  ACT_TWO_LENGTH,
  initiatorMakeActOne,
  initiatorMakeActThree,
  initiatorReadActTwo,
  responderMakeActTwo,
  responderReadActOne,
  responderReadActThree,
  type SessionKeys,
  Transport,
} from '@fulmen/noise';
import type { Runtime } from '@fulmen/service';
import { decodeMessage, encodeMessage, make } from '@fulmen/wire';
import { HANDSHAKE_DEADLINE_MS, INIT_DEADLINE_MS } from '../limits.ts';
import type { Socket } from '../socket/port.ts';
import type { WireLog } from '../wire-log.ts';
import { routeOf, typeOf } from './classify.ts';
import type { EcdhLane } from './ecdh-lane.ts';
import { checkInit, holderInit } from './init.ts';

/** Why a connection did not become a peer. */
export type EstablishFailure = 'ended' | 'handshake' | 'handshake_deadline' | 'init' | 'init_deadline';

export class EstablishError extends Error {
  override readonly name = 'EstablishError';
  readonly failure: EstablishFailure;
  constructor(failure: EstablishFailure, message: string) {
    super(message);
    this.failure = failure;
  }
}

export interface EstablishPorts {
  readonly runtime: Runtime;
  readonly secp: Secp256k1;
  readonly lane: EcdhLane;
  readonly holderNodeId: Uint8Array;
  readonly features: FeatureBits;
  readonly chainHash: Uint8Array;
  readonly wireLog?: WireLog;
}

/** A peer that proved its key and said an acceptable init. */
export interface EstablishedPeer {
  readonly nodeId: Uint8Array;
  readonly features: FeatureBits;
  readonly socket: Socket;
  readonly transport: Transport;
  /** Messages that came with init. */
  readonly early: readonly Uint8Array[];
}

const NO_CHANNEL = new Uint8Array(32);

/** A warning about the connection as a whole, as bytes. */
export function warningMessage(text: string): Uint8Array {
  return encodeMessage(make('warning', { channelId: NO_CHANNEL, data: new TextEncoder().encode(text) }));
}

/** Answers a connection that somebody made to us. Throws EstablishError. */
export async function establishInbound(socket: Socket, ports: EstablishPorts): Promise<EstablishedPeer> {
  const session = await within(
    socket,
    ports.runtime,
    HANDSHAKE_DEADLINE_MS,
    'handshake_deadline',
    async () => {
      const reader = new ActReader(socket);
      const actOne = accepted(
        responderReadActOne(ports.secp, ports.holderNodeId, await reader.read(ACT_ONE_LENGTH)),
      );
      const made = accepted(
        responderMakeActTwo(ports.secp, actOne, {
          ephemeralSecret: ephemeralSecret(ports),
          ecdhWithStatic: await ports.lane.ecdh(actOne.ecdhPoint),
        }),
      );
      await socket.write(made.act);
      const actThree = await reader.read(ACT_THREE_LENGTH);
      const done = accepted(responderReadActThree(ports.secp, made.state, actThree));
      return { nodeId: done.counterpartyStaticKey, keys: done.keys, rest: reader.rest() };
    },
  );
  return exchangeInit(socket, ports, { ...session, inbound: true });
}

/** Opens a connection that we dialled. Throws EstablishError. */
export async function establishOutbound(
  socket: Socket,
  nodeId: Uint8Array,
  ports: EstablishPorts,
): Promise<EstablishedPeer> {
  const session = await within(
    socket,
    ports.runtime,
    HANDSHAKE_DEADLINE_MS,
    'handshake_deadline',
    async () => {
      const reader = new ActReader(socket);
      const begun = accepted(
        initiatorMakeActOne(ports.secp, {
          ephemeralSecret: ephemeralSecret(ports),
          counterpartyStaticKey: nodeId,
        }),
      );
      await socket.write(begun.act);
      const read = accepted(initiatorReadActTwo(ports.secp, begun.state, await reader.read(ACT_TWO_LENGTH)));
      const ecdhWithStatic = await ports.lane.ecdh(read.ecdhPoint);
      const done = initiatorMakeActThree(read, { holderStaticKey: ports.holderNodeId, ecdhWithStatic });
      await socket.write(done.act);
      return { nodeId, keys: done.keys, rest: reader.rest() };
    },
  );
  return exchangeInit(socket, ports, { ...session, inbound: false });
}

interface Session {
  readonly nodeId: Uint8Array;
  readonly keys: SessionKeys;
  readonly rest: Uint8Array;
  readonly inbound: boolean;
}

/** Whoever gets the peer logs its end; one that becomes none ends here. */
async function exchangeInit(
  socket: Socket,
  ports: EstablishPorts,
  session: Session,
): Promise<EstablishedPeer> {
  try {
    return await sayInit(socket, ports, session);
  } catch (error) {
    ports.wireLog?.ended(session.nodeId, error instanceof EstablishError ? error.failure : 'broken');
    throw error;
  }
}

async function sayInit(socket: Socket, ports: EstablishPorts, session: Session): Promise<EstablishedPeer> {
  const transport = new Transport(session.keys);
  return within(socket, ports.runtime, INIT_DEADLINE_MS, 'init_deadline', async () => {
    const ours = holderInit({
      features: ports.features,
      chainHash: ports.chainHash,
      inboundFrom: session.inbound ? socket.counterpartyAddress : undefined,
    });
    ports.wireLog?.message('out', session.nodeId, ours);
    await socket.write(transport.encrypt(ours));
    let piece: Uint8Array | undefined = session.rest;
    for (;;) {
      const fed = transport.feed(piece);
      if (!fed.ok) throw new EstablishError('init', fed.error.kind);
      const [first, ...early] = fed.value;
      if (first !== undefined) {
        ports.wireLog?.message('in', session.nodeId, first);
        const checked = readInit(first, ports);
        if (typeof checked === 'string') {
          const warning = warningMessage(checked);
          ports.wireLog?.message('out', session.nodeId, warning);
          await socket.write(transport.encrypt(warning));
          throw new EstablishError('init', checked);
        }
        return { nodeId: session.nodeId, features: checked, socket, transport, early };
      }
      piece = await socket.read();
      if (piece === undefined) throw new EstablishError('ended', 'closed before init');
    }
  });
}

/** The counterparty's features, or the sentence that ends the connection. */
function readInit(message: Uint8Array, ports: EstablishPorts): FeatureBits | string {
  // BOLT 1: "MUST send init as the first Lightning message for any connection."
  if (routeOf(typeOf(message) ?? 0) !== 'init') return 'the first message must be init';
  const decoded = decodeMessage(message);
  if (!decoded.ok || decoded.value.type !== 'init') return 'init cannot be read';
  const checked = checkInit(decoded.value, ports);
  return checked.ok ? checked.value : checked.error;
}

/** Reads acts of a fixed length, and keeps what came after the last. */
class ActReader {
  readonly #socket: Socket;
  #pending: Uint8Array = new Uint8Array(0);

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  async read(length: number): Promise<Uint8Array> {
    while (this.#pending.length < length) {
      const piece = await this.#socket.read();
      if (piece === undefined) throw new EstablishError('ended', 'closed during the handshake');
      this.#pending = concatBytes(this.#pending, piece);
    }
    const act = this.#pending.slice(0, length);
    this.#pending = this.#pending.subarray(length);
    return act;
  }

  rest(): Uint8Array {
    return this.#pending;
  }
}

/** Runs a phase; after its deadline the socket is reset and the phase has failed, whatever still hangs in it. */
async function within<T>(
  socket: Socket,
  runtime: Runtime,
  deadlineMs: number,
  failure: EstablishFailure,
  phase: () => Promise<T>,
): Promise<T> {
  const timer = new AbortController();
  const expired = runtime.sleep(deadlineMs, timer.signal).then((): never => {
    socket.reset();
    throw new EstablishError(failure, `not done within ${deadlineMs} ms`);
  });
  try {
    return await Promise.race([phase(), expired]);
  } finally {
    timer.abort();
    expired.catch(() => undefined);
  }
}

function accepted<T>(
  result: { ok: true; value: T } | { ok: false; error: { kind: string; act: number } },
): T {
  if (result.ok) return result.value;
  throw new EstablishError('handshake', `act ${result.error.act}: ${result.error.kind}`);
}

function ephemeralSecret({ runtime, secp }: EstablishPorts): Uint8Array {
  for (;;) {
    const secret = runtime.randomBytes(32);
    if (secp.isSecretKey(secret)) return secret;
  }
}
