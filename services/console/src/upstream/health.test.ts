import { grpcConnector, grpcServer } from '@fulmen/rpc';
import { expect, onTestFinished, test } from 'vitest';
import { checkHealth, HealthService } from './health.ts';

test("a real server's own health service is understood, and its absence", async () => {
  const server = grpcServer({ listenAddress: '127.0.0.1:0' });
  const connector = grpcConnector();
  onTestFinished(() => connector.close());
  const address = await server.listen();
  expect(await checkHealth(connector, address, 5_000)).toEqual({ status: 'serving', detail: '' });
  await server.stop(10);
  expect(await checkHealth(connector, address, 5_000)).toEqual({
    status: 'unreachable',
    detail: 'nobody answers there',
  });
});

test('an empty answer is an unknown status', () => {
  expect(HealthService.check.responseDeserialize(Buffer.alloc(0))).toEqual({ status: 0 });
  expect(
    HealthService.check.responseDeserialize(HealthService.check.responseSerialize({ status: 2 })),
  ).toEqual({
    status: 2,
  });
});
