import { expect, test } from 'vitest';
import { MemorySockets } from './socket.ts';
import { socketCompliance } from './socket.compliance.ts';

socketCompliance('memory', () => {
  const network = new MemorySockets();
  return {
    server: network.port('server'),
    client: network.port('client'),
    address: { host: 'server', port: 0 },
  };
});

test('a crash resets every connection of the host', async () => {
  const network = new MemorySockets();
  const listener = await network.port('server').listen({ host: 'server', port: 9735 }, () => undefined);
  const socket = await network.port('client').connect(listener.address);
  network.crash('server');
  await expect(socket.read()).rejects.toThrow('server crashed');
  await expect(network.port('client').connect(listener.address)).rejects.toThrow('nobody listens');
});
