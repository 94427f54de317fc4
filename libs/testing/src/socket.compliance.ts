/** What every socket port must do; run on TCP and on memory. */
import { describe, expect, test } from 'vitest';
import type { Socket, SocketAddress, SocketPort } from './socket.ts';

export interface SocketWiring {
  readonly server: SocketPort;
  readonly client: SocketPort;
  readonly address: SocketAddress;
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

async function readExactly(socket: Socket, length: number): Promise<Uint8Array> {
  const out = new Uint8Array(length);
  let have = 0;
  while (have < length) {
    const piece = await socket.read();
    if (piece === undefined) break;
    out.set(piece.subarray(0, length - have), have);
    have += piece.length;
  }
  return out.subarray(0, have);
}

export function socketCompliance(name: string, makeWiring: () => SocketWiring): void {
  const pair = async () => {
    const { server, client, address } = makeWiring();
    const accepted = Promise.withResolvers<Socket>();
    const listener = await server.listen(address, accepted.resolve);
    const dialled = await client.connect(listener.address);
    const inbound = await accepted.promise;
    const stop = async (): Promise<void> => {
      dialled.reset();
      inbound.reset();
      await Promise.all([dialled.closed, inbound.closed, listener.close()]);
    };
    return { client, listener, dialled, inbound, stop };
  };

  describe(`sockets: ${name}`, () => {
    test('bytes arrive in order both ways', async () => {
      const { dialled, inbound, stop } = await pair();
      await dialled.write(bytes(1, 2));
      await dialled.write(bytes(3));
      expect(await readExactly(inbound, 3)).toEqual(bytes(1, 2, 3));
      await inbound.write(bytes(9));
      expect(await readExactly(dialled, 1)).toEqual(bytes(9));
      expect(inbound.counterpartyAddress.host.length).toBeGreaterThan(0);
      await stop();
    });

    test('an end comes after everything written, and closes both', async () => {
      const { dialled, inbound, stop } = await pair();
      await dialled.write(new Uint8Array(10_000).fill(7));
      dialled.end();
      expect((await readExactly(inbound, 10_000)).length).toBe(10_000);
      expect(await inbound.read()).toBeUndefined();
      expect(await dialled.read()).toBeUndefined();
      await Promise.all([dialled.closed, inbound.closed]);
      await expect(dialled.write(bytes(1))).rejects.toThrow(/./);
      await stop();
    });

    test('a reset breaks both sides', async () => {
      const { dialled, inbound, stop } = await pair();
      const reading = inbound.read();
      dialled.reset();
      await expect(reading).rejects.toThrow(/./);
      await expect(dialled.read()).rejects.toThrow(/./);
      await Promise.all([dialled.closed, inbound.closed]);
      await stop();
    });

    test('a writer waits for its reader', async () => {
      const { dialled, inbound, stop } = await pair();
      const piece = new Uint8Array(64 * 1024).fill(5);
      const total = 400;
      let written = 0;
      const writing = (async () => {
        for (let i = 0; i < total; i += 1) {
          await dialled.write(piece);
          written += 1;
        }
      })();
      await readExactly(inbound, 1);
      expect(written).toBeLessThan(total);
      expect((await readExactly(inbound, total * piece.length - piece.length)).length).toBeGreaterThan(0);
      inbound.reset();
      await Promise.allSettled([writing]);
      await stop();
    });

    test('a reset frees a waiting writer', async () => {
      const { dialled, inbound, stop } = await pair();
      const piece = new Uint8Array(1024 * 1024);
      const writing = (async () => {
        for (;;) await dialled.write(piece);
      })();
      inbound.reset();
      await expect(writing).rejects.toThrow(/./);
      await stop();
    });

    test('dialling nobody fails, and so does an aborted dial', async () => {
      const { client, listener, stop } = await pair();
      await expect(client.connect(listener.address, AbortSignal.abort())).rejects.toThrow(/./);
      await listener.close();
      await expect(client.connect(listener.address)).rejects.toThrow(/./);
      await stop();
    });
  });
}
