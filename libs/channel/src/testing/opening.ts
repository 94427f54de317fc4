/** Openings of one side alone, for what the other side may answer. */
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import type { MessageOf } from '@fulmen/wire';
import { acceptChannel } from '../open/fundee.ts';
import type { AcceptRequest } from '../open/fundee.ts';
import { openChannel } from '../open/funder.ts';
import type { OpenRequest } from '../open/funder.ts';
import { take } from './expect.ts';
import { FEATURES, TestNode } from './node.ts';
import type { NodeOptions } from './node.ts';
import { testScript } from './pair.ts';

const NODE_ID = fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(1));

/** A node that was told to open a channel, and the open_channel it sent; or why it did not. */
export function opened(
  changes: Partial<OpenRequest> = {},
  options: NodeOptions = {},
): {
  readonly node: TestNode;
  readonly code: string | undefined;
  readonly message: MessageOf<'open_channel'>;
} {
  const node = new TestNode('alice', fakeSecp256k1, options);
  const result = openChannel(node.ctx, {
    temporaryChannelId: new Uint8Array(32).fill(9),
    counterpartyNodeId: NODE_ID,
    keys: node.signer.keys(),
    features: FEATURES,
    fundingSat: 1_000_000n,
    pushMsat: 0n,
    feerateSatPerKw: 1000,
    announce: false,
    channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'confirmed' },
    shutdownScript: testScript(1),
    ...changes,
  });
  if (!result.ok) return { node, code: result.error.code, message: {} as MessageOf<'open_channel'> };
  node.take(result.value, 'durable');
  return { node, code: undefined, message: take(node, 'open_channel') };
}

/** A node that received open_channel; `text`: why it refuses. */
export function accepted(
  message: MessageOf<'open_channel'>,
  changes: Partial<AcceptRequest> = {},
  options: NodeOptions = {},
): { readonly node: TestNode; readonly text: string | undefined } {
  const node = new TestNode('bob', fakeSecp256k1, options);
  const result = acceptChannel(
    node.ctx,
    {
      counterpartyNodeId: NODE_ID,
      keys: node.signer.keys(),
      features: FEATURES,
      shutdownScript: testScript(2),
      zeroConf: 'refused',
      ...changes,
    },
    message,
  );
  if (!result.ok) return { node, text: result.error.message };
  node.take(result.value, 'durable');
  return { node, text: undefined };
}
