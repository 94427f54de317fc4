import { expect, test } from 'vitest';
import { XPublisher } from 'zeromq';
import { ChainSourceError } from './source.ts';
import { subscribeBlockHints } from './zmq-hints.ts';

test('a block announced by the node becomes a hint', async () => {
  const node = new XPublisher();
  await node.bind('tcp://127.0.0.1:*');
  let hinted: () => void = () => undefined;
  const hint = new Promise<void>((resolve) => (hinted = resolve));
  const hints = await subscribeBlockHints(node.lastEndpoint ?? '', () => hinted());
  // The subscription has arrived: what is published from here on is delivered.
  const [subscription] = await node.receive();
  expect(subscription?.subarray(1).toString()).toBe('hashblock');
  await node.send(['hashblock', Buffer.alloc(32), Buffer.alloc(4)]);
  await hint;
  await hints.close();
  node.close();
});

test('an endpoint that is none is refused', async () => {
  await expect(subscribeBlockHints('nonsense', () => undefined)).rejects.toThrow(ChainSourceError);
});
