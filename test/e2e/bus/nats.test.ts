// The hint bus on a real nats-server: the suite that memory passes, and what happens when the server goes.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Bus, natsBus } from '@fulmen/bus';
import { busCompliance } from '@fulmen/bus/bus.compliance';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type NatsServer, openNats } from '../support/nats.ts';
import { freePort } from '../support/state.ts';

let folder: string;
let server: NatsServer;

beforeAll(async () => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-nats-'));
  server = await openNats({ port: await freePort(), logFile: path.join(folder, 'nats.log') });
}, 180_000);
afterAll(async () => {
  await server.stop();
  fs.rmSync(folder, { recursive: true, force: true });
});

function connected(name: string): Promise<Bus> {
  return new Promise((resolve) => {
    const bus = natsBus({
      servers: [server.url],
      name,
      onStatus: (isConnected) => {
        if (isConnected) resolve(bus);
      },
    });
  });
}

busCompliance('NATS', () => {
  const made: Bus[] = [];
  return Promise.resolve({
    connect: async (name) => {
      const bus = await connected(name);
      made.push(bus);
      return bus;
    },
    stop: async () => void (await Promise.all(made.map((bus) => bus.close()))),
  });
});

test('a server that goes and comes back: publishing never throws, hints flow again', async () => {
  const away = Promise.withResolvers<void>();
  const back = Promise.withResolvers<void>();
  let wasConnected = false;
  const bus = natsBus({
    servers: [server.url],
    name: 'survivor',
    onStatus: (isConnected) => {
      if (!isConnected) away.resolve();
      else if (wasConnected) back.resolve();
      wasConnected ||= isConnected;
    },
  });
  const heard = Promise.withResolvers<void>();
  bus.subscribe('fulmen.gossip', () => heard.resolve());
  await connected('witness').then((witness) => witness.close());
  await server.kill();
  await away.promise;
  expect(() => bus.publish('fulmen.gossip')).not.toThrow();
  await server.start();
  await back.promise;
  const again = setInterval(() => bus.publish('fulmen.gossip'), 5);
  await heard.promise;
  clearInterval(again);
  await bus.close();
});
