/** LND's channel acceptor: a stream of gRPC on which it asks about each open_channel, spoken without a library. */
import fs from 'node:fs';
import http2 from 'node:http2';
import { once } from 'node:events';
import { type OpenAnswer, PeerError } from './peer.ts';

const METHOD = '/lnrpc.Lightning/ChannelAcceptor';
/** gRPC: a byte for compression, four for the length. */
const PREFIX_BYTES = 5;
/** lnrpc.ChannelAcceptRequest.pending_chan_id, as a key of protobuf: field 3, bytes. */
const PENDING_CHANNEL_ID = (3 << 3) | 2;
const WIRE_VARINT = 0;
const WIRE_BYTES = 2;

export class LndAcceptor {
  readonly #session: http2.ClientHttp2Session;
  readonly #stream: http2.ClientHttp2Stream;
  /** What the next open_channel gets. */
  answer: OpenAnswer;
  #received = Buffer.alloc(0);

  private constructor(
    session: http2.ClientHttp2Session,
    stream: http2.ClientHttp2Stream,
    answer: OpenAnswer,
  ) {
    this.#session = session;
    this.#stream = stream;
    this.answer = answer;
    stream.on('data', (part: Buffer) => this.#take(part));
    // An LND that ends takes its acceptor along.
    stream.on('error', () => undefined);
    session.on('error', () => undefined);
  }

  /** Resolves once LND has heard that it shall ask here. */
  static async open(options: {
    readonly port: number;
    readonly certificateFile: string;
    readonly macaroonFile: string;
    readonly answer: OpenAnswer;
  }): Promise<LndAcceptor> {
    const session = http2.connect(`https://127.0.0.1:${options.port}`, {
      ca: fs.readFileSync(options.certificateFile),
    });
    await once(session, 'connect');
    const stream = session.request({
      ':method': 'POST',
      ':path': METHOD,
      'content-type': 'application/grpc',
      te: 'trailers',
      macaroon: fs.readFileSync(options.macaroonFile).toString('hex'),
    });
    const acceptor = new LndAcceptor(session, stream, options.answer);
    await new Promise<void>((resolve, reject) => {
      session.ping((error) => (error === null ? resolve() : reject(error)));
    });
    return acceptor;
  }

  #take(part: Buffer): void {
    this.#received = Buffer.concat([this.#received, part]);
    while (this.#received.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + this.#received.readUInt32BE(1);
      if (this.#received.length < end) return;
      const request = this.#received.subarray(PREFIX_BYTES, end);
      this.#received = this.#received.subarray(end);
      this.#reply(bytesField(request, PENDING_CHANNEL_ID));
    }
  }

  #reply(pendingChannelId: Buffer): void {
    const body = encodeAnswer(pendingChannelId, this.answer);
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(body.length, 1);
    this.#stream.write(Buffer.concat([prefix, body]));
  }

  close(): void {
    this.#stream.destroy();
    this.#session.destroy();
  }
}

/** lnrpc.ChannelAcceptResponse. */
function encodeAnswer(pendingChannelId: Buffer, answer: OpenAnswer): Buffer {
  const parts = [bytesPart(2, pendingChannelId)];
  if (answer.how === 'refuse') return Buffer.concat([...parts, bytesPart(3, Buffer.from(answer.text))]);
  parts.push(varintPart(1, 1));
  if (answer.how === 'trust') return Buffer.concat([...parts, varintPart(11, 1)]);
  const { toSelfDelayBlocks, reserveSat, maxAcceptedHtlcs, htlcMinimumMsat, minimumDepth } =
    answer.terms ?? {};
  if (toSelfDelayBlocks !== undefined) parts.push(varintPart(5, toSelfDelayBlocks));
  if (reserveSat !== undefined) parts.push(varintPart(6, Number(reserveSat)));
  if (maxAcceptedHtlcs !== undefined) parts.push(varintPart(8, maxAcceptedHtlcs));
  if (htlcMinimumMsat !== undefined) parts.push(varintPart(9, Number(htlcMinimumMsat)));
  if (minimumDepth !== undefined) parts.push(varintPart(10, minimumDepth));
  return Buffer.concat(parts);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

function varintPart(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8 + WIRE_VARINT), varint(value)]);
}

function bytesPart(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + WIRE_BYTES), varint(value.length), value]);
}

/** The bytes under a key; only varints and bytes come before it. */
function bytesField(message: Buffer, key: number): Buffer {
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new PeerError('LND’s channel acceptor sent half a message');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  for (;;) {
    const found = next();
    const value = next();
    if (found % 8 === WIRE_VARINT) continue;
    if (found === key) return message.subarray(at, at + value);
    at += value;
  }
}
