import { afterAll, beforeAll, describe, test } from 'vitest';
import { BitcoindChainSource, BitcoindRpc, EsploraChainSource } from '@fulmen/chain';
import { chainSourceCompliance } from '@fulmen/chain/compliance';
import { DevChain } from './devchain.ts';
import type { RunningEsploraFront } from './esplora-front.ts';
import { startEsploraFront } from './esplora-front.ts';
import { rpcCompliance } from './rpc-compliance.ts';
import { MemoryChainSource } from './memory-chain-source.ts';
import { MemoryFilteredSource } from './memory-filtered-source.ts';
import type { RunningDevChain } from './start.ts';
import { startDevChain } from './start.ts';

/** One chain for a suite, as the cases are made for. */
let running: RunningDevChain;
let rpc: BitcoindRpc;
let front: RunningEsploraFront;
beforeAll(async () => {
  running = await startDevChain({ port: 0, rpcUser: 'user', rpcPassword: 'password', network: 'regtest' });
  rpc = new BitcoindRpc({
    host: running.host,
    port: running.port,
    auth: { kind: 'password', user: 'user', password: 'password' },
  });
  front = await startEsploraFront({ rpc });
});
afterAll(async () => {
  await front.stop();
  rpc.close();
  await running.stop();
});

function control(devChain: DevChain) {
  return {
    mine: async (count: number, script: Uint8Array) => devChain.mine(count, script).map(({ hash }) => hash),
    invalidate: async (hash: string) => {
      const node = devChain.chain.node(hash);
      if (node !== undefined) devChain.invalidate(node);
    },
  };
}

describe('the port', () => {
  const memory = new DevChain();
  const cases = [
    ...chainSourceCompliance('in process', async () => ({
      source: new MemoryChainSource(memory),
      ...control(memory),
      close: async () => undefined,
    })),
    ...chainSourceCompliance('in process, by registration', async () => ({
      source: new MemoryFilteredSource(memory),
      ...control(memory),
      close: async () => undefined,
    })),
    ...chainSourceCompliance('over RPC', async () => {
      const source = new BitcoindChainSource({
        host: running.host,
        port: running.port,
        auth: { kind: 'password', user: 'user', password: 'password' },
      });
      return { source, ...control(running.devChain), close: async () => source.close() };
    }),
    ...chainSourceCompliance('by Esplora', async () => {
      const source = new EsploraChainSource({ url: front.url });
      return { source, ...control(running.devChain), close: async () => source.close() };
    }),
  ];
  test.each(cases)('$name', ({ run }) => run());
});

describe('the RPC', () => {
  const clients: BitcoindRpc[] = [];
  afterAll(() => {
    for (const client of clients) client.close();
  });
  const cases = rpcCompliance('development chain', async () => {
    const node = await startDevChain({
      port: 0,
      rpcUser: 'user',
      rpcPassword: 'password',
      network: 'regtest',
      policy: { dustRelayFeerateSatPerKvb: 0 },
    });
    const client = new BitcoindRpc({
      host: node.host,
      port: node.port,
      auth: { kind: 'password', user: 'user', password: 'password' },
    });
    clients.push(client);
    return client;
  });
  test.each(cases)('$name', ({ run }) => run());
});
