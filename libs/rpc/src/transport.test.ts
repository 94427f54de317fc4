import { expect, test } from 'vitest';
import { grpcConnector } from './grpc-client.ts';
import { grpcServer } from './grpc-server.ts';
import { MemoryNetwork } from './memory.ts';
import { BoundedQueue } from './queue.ts';
import { transportCompliance } from './transport.compliance.ts';

transportCompliance('memory', () => {
  const network = new MemoryNetwork();
  return { server: network.server('echo'), connector: network.connector('client', ['plaintext']) };
});
transportCompliance('gRPC', () => ({
  server: grpcServer({ listenAddress: '127.0.0.1:0' }),
  connector: grpcConnector(),
}));

test('a bounded queue makes its writer wait for its reader', async () => {
  const queue = new BoundedQueue<number>(2);
  await queue.push(1);
  let second = false;
  const pushing = queue.push(2).then(() => (second = true));
  expect(second).toBe(false);
  expect(queue.offer(3)).toBe(false);
  const reader = queue[Symbol.asyncIterator]();
  expect((await reader.next()).value).toBe(1);
  await pushing;
  expect(second).toBe(true);
});
