/**
 * A server as it would answer elsewhere: stands between a client and a real
 * Postgres, and gives out its errors and notices as a test wants them.
 * PostgreSQL, "Message Formats": ErrorResponse and NoticeResponse.
 */
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

/** An ErrorResponse or NoticeResponse: its fields by their letter ("Error and Notice Message Fields"). */
export type AnswerFields = ReadonlyMap<string, string>;

export interface AnswerProxy {
  /** As the one that it was given, with the proxy in the server's place. */
  readonly connectionString: string;
  /** Cuts every connection and listens no more. */
  close(): Promise<void>;
}

const ERROR_RESPONSE = 0x45;
const NOTICE_RESPONSE = 0x4e;

/**
 * @param rewrite gives the fields that the client gets instead; with `ends` the connection is cut behind them
 */
export async function startAnswerProxy(
  connectionString: string,
  rewrite: (fields: AnswerFields) => {
    readonly fields: AnswerFields;
    readonly connection: 'goes_on' | 'ends';
  },
): Promise<AnswerProxy> {
  const { hostname, port } = new URL(connectionString);
  const sockets = new Set<Socket>();
  const proxy = createServer((client) => {
    const server = connect(Number(port), hostname);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(server);
    let rest = Buffer.alloc(0);
    server.on('data', (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes]);
      while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
        const length = 1 + rest.readUInt32BE(1);
        const message = rest.subarray(0, length);
        rest = rest.subarray(length);
        if (message[0] !== ERROR_RESPONSE && message[0] !== NOTICE_RESPONSE) {
          client.write(message);
          continue;
        }
        const answer = rewrite(fieldsOf(message.subarray(5)));
        const rewritten = messageOf(message.subarray(0, 1), answer.fields);
        if (answer.connection === 'goes_on') client.write(rewritten);
        else {
          client.end(rewritten);
          server.destroy();
          return;
        }
      }
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const url = new URL(connectionString);
  url.port = String((proxy.address() as AddressInfo).port);
  return {
    connectionString: url.href,
    close: () =>
      new Promise<void>((resolve) => {
        proxy.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function fieldsOf(body: Buffer): AnswerFields {
  const texts = body
    .toString('utf8')
    .split('\0')
    .filter((text) => text !== '');
  return new Map(texts.map((text) => [text.slice(0, 1), text.slice(1)]));
}

function messageOf(type: Uint8Array, fields: AnswerFields): Buffer {
  const body = Buffer.from([...fields].map(([letter, text]) => `${letter}${text}\0`).join('') + '\0', 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(4 + body.length);
  return Buffer.concat([type, length, body]);
}
