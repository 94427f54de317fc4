/** A channel that the node closed itself before it lost everything but its seed and a static backup. */
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { newMonitor } from '@fulmen/monitor';
import { expect, test } from 'vitest';
import { IRREVOCABLE_DEPTH } from '../constants.ts';
import { lostHolderNumber } from '../identify.ts';
import { settle } from '../settle.ts';
import { claimTransactions } from '../testing/claims.ts';
import { TestChain } from '../testing/test-chain.ts';
import { TestChannel } from '../testing/test-channel.ts';
import { words } from '../testing/words.ts';
import type { Settlement } from '../types.ts';

const FORMATS = ['anchors', 'static_remotekey'] as const;

/** Alice's newest commitment is mined; her monitor knows only the parameters. */
function lost(format: (typeof FORMATS)[number]) {
  const channel = new TestChannel({ format });
  for (const seed of [1, 2, 3]) {
    const id = channel.add('alice', { seed, amountMsat: 50_000_000n, cltvExpiryHeight: 500 });
    channel.settle();
    channel.fulfill('bob', id, seed);
    channel.settle();
  }
  channel.add('alice', { seed: 4, amountMsat: 60_000_000n, cltvExpiryHeight: 500 });
  channel.settle();
  const chain = new TestChain();
  chain.fund(channel);
  const { tx } = channel.commitment('alice');
  chain.mine([tx]);
  const monitor = newMonitor(channel.parameters('alice'));
  const settled = (holderPoint?: (number: bigint) => Uint8Array | undefined): Settlement =>
    settle({ secp, ...(holderPoint === undefined ? {} : { holderPoint }) }, monitor, {
      confirmed: chain.confirmed(),
      unconfirmed: [],
      bestHeight: chain.height,
      preimages: new Map(),
    });
  return { channel, chain, monitor, settled };
}

test.each(FORMATS)(
  '%s: the balance is claimed after its delay, from the number in the transaction',
  (format) => {
    const { channel, chain, monitor, settled } = lost(format);
    const number = lostHolderNumber(monitor, chain.confirmed());
    expect(number).toBe(channel.newestNumber('alice'));
    const point = (asked: bigint): Uint8Array => channel.perCommitmentPoint('alice', asked);

    // Without the point nobody can tell whose it is.
    expect(settled().close?.type).toBe('unknown');
    expect(settled(() => undefined).close?.type).toBe('unknown');

    const closed = settled(point);
    expect(closed.close).toMatchObject({ type: 'holder', commitmentNumber: number });
    expect(closed.outputs[0]).toMatchObject({ kind: 'to_local', status: { type: 'maturing' } });
    const { selfDelayBlocks } = monitor.parameters.holder;
    chain.mineTo(chain.height + selfDelayBlocks);
    const mature = settled(point);
    expect(words(mature)[0]).toBe('to_local: holder_delayed');
    // The interpreter takes the claim.
    chain.mine(claimTransactions(channel, 'alice', mature));
    expect(words(settled(point))[0]).toBe('to_local: claim by holder, young');
    chain.mineTo(chain.height + IRREVOCABLE_DEPTH);
    expect(settled(point).stage).toBe('resolved');
  },
);

test('the counterparty’s commitment is none of the holder’s, whatever its number', () => {
  const channel = new TestChannel();
  const chain = new TestChain();
  chain.fund(channel);
  chain.mine([channel.commitment('bob').tx]);
  const monitor = newMonitor(channel.parameters('alice'));
  const facts = {
    confirmed: chain.confirmed(),
    unconfirmed: [],
    bestHeight: chain.height,
    preimages: new Map<string, Uint8Array>(),
  };
  const holderPoint = (number: bigint): Uint8Array => channel.perCommitmentPoint('alice', number);
  expect(settle({ secp, holderPoint }, monitor, facts).close?.type).toBe('data_loss');
});

test('a commitment that the monitor knows needs no point', () => {
  const channel = new TestChannel();
  channel.add('bob', { seed: 1, amountMsat: 50_000_000n, cltvExpiryHeight: 500 });
  channel.settle();
  const chain = new TestChain();
  chain.fund(channel);
  chain.mine([channel.commitment('alice').tx]);
  expect(lostHolderNumber(channel.monitor('alice'), chain.confirmed())).toBeUndefined();
});
