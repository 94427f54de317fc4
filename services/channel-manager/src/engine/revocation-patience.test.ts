/** A peer that does not answer a commitment_signed is waited for, but not for long. */
import { describe, expect, test } from 'vitest';
import { INTENT, owingPeer, UPSTREAM } from './testing/owing-peer.ts';

const SECONDS_MS = 1_000;
const REASON = 'no revoke_and_ack within 120 seconds';

/** A forward comes while Alice owes her revoke_and_ack. */
async function scene() {
  const owing = owingPeer();
  const { lone } = owing;
  lone.actor.post({ kind: 'forward', intent: INTENT, alternatives: 'none' });
  await lone.idle();
  expect(lone.sent.map(({ type }) => type)).toEqual(['update_add_htlc']);
  return owing;
}

test('after two minutes the connection ends, and what waited fails upstream', async () => {
  const { lone } = await scene();
  await lone.elapse(119 * SECONDS_MS);
  expect(lone.disconnects).toEqual([]);
  await lone.elapse(1 * SECONDS_MS);
  expect(lone.disconnects).toEqual([REASON]);
  expect(lone.sent.map(({ type }) => type)).toEqual(['update_add_htlc', 'warning']);
  lone.actor.post({ kind: 'disconnected', generation: 1n });
  await lone.idle();
  expect(lone.resolutions).toMatchObject([{ source: UPSTREAM, outcome: { type: 'failed_here' } }]);
  // Nobody is waited for who is not there.
  await lone.elapse(600 * SECONDS_MS);
  await lone.elapse(600 * SECONDS_MS);
  expect(lone.disconnects).toEqual([REASON]);
});

test('whatever else the peer says meanwhile does not prolong it', async () => {
  const { lone } = await scene();
  const { channelId } = lone.actor;
  for (let second = 0; second < 120; second += 1) {
    expect(lone.disconnects).toEqual([]);
    lone.receive({ type: 'warning', channelId, data: new Uint8Array(0), unknownTlvs: [], tlvs: {} });
    await lone.idle();
    await lone.elapse(1 * SECONDS_MS);
  }
  expect(lone.disconnects).toEqual([REASON]);
});

test('a turn that takes long is not the peer’s time: its answer may lie here unread', async () => {
  const { lone } = await scene();
  await lone.elapse(60 * SECONDS_MS);
  let committed = (): void => undefined;
  lone.committing = new Promise((resolve) => (committed = resolve));
  lone.actor.post({
    kind: 'forward',
    intent: { ...INTENT, source: { ...UPSTREAM, htlcId: 10n } },
    alternatives: 'none',
  });
  await lone.elapse(600 * SECONDS_MS);
  committed();
  await lone.idle();
  expect(lone.disconnects).toEqual([]);
  await lone.elapse(59 * SECONDS_MS);
  expect(lone.disconnects).toEqual([]);
  await lone.elapse(1 * SECONDS_MS);
  expect(lone.disconnects).toEqual([REASON]);
});

test('each connection has a time of its own, from its channel_reestablish on', async () => {
  const { lone, pair } = await scene();
  const { alice } = pair;
  await lone.elapse(100 * SECONDS_MS);
  alice.must({ type: 'peer_disconnected' });
  alice.must({ type: 'peer_connected', features: pair.features });
  lone.actor.post({ kind: 'disconnected', generation: 1n });
  lone.actor.post({ kind: 'connected', generation: 2n, features: pair.features });
  await lone.idle();
  await lone.elapse(500 * SECONDS_MS);
  expect(lone.disconnects).toEqual([]);
  const [greeting] = alice.outbox;
  if (greeting?.type !== 'channel_reestablish') throw new TypeError('no channel_reestablish');
  lone.actor.post({
    kind: 'message',
    input: { type: 'message', message: greeting },
    generation: 2n,
    frame: 1n,
  });
  await lone.idle();
  expect(lone.actor.isConnected()).toBe(true);
  await lone.elapse(119 * SECONDS_MS);
  expect(lone.disconnects).toEqual([]);
  await lone.elapse(1 * SECONDS_MS);
  expect(lone.disconnects).toEqual([REASON]);
});

test('a reconnection within one turn begins a time of its own', async () => {
  const { lone, pair } = await scene();
  const { alice } = pair;
  await lone.elapse(100 * SECONDS_MS);
  alice.must({ type: 'peer_disconnected' });
  alice.must({ type: 'peer_connected', features: pair.features });
  const [greeting] = alice.outbox;
  if (greeting?.type !== 'channel_reestablish') throw new TypeError('no channel_reestablish');
  // The first item begins a turn; what comes until that ends is the next.
  lone.actor.post({ kind: 'block', height: 500 });
  lone.actor.post({ kind: 'disconnected', generation: 1n });
  lone.actor.post({ kind: 'connected', generation: 2n, features: pair.features });
  const input = { type: 'message', message: greeting } as const;
  lone.actor.post({ kind: 'message', input, generation: 2n, frame: 1n });
  await lone.idle();
  await lone.elapse(119 * SECONDS_MS);
  expect(lone.disconnects).toEqual([]);
  await lone.elapse(1 * SECONDS_MS);
  expect(lone.disconnects).toEqual([REASON]);
});

describe('what waits meanwhile is given up three blocks before it expires', () => {
  const TOO_LATE = 'HTLC 0, which expires at 600, could not be signed in time';

  test('by each block that is heard of', async () => {
    const { lone } = await scene();
    for (const height of [596, 597]) {
      expect(lone.disconnects).toEqual([]);
      lone.chain.blockHeight = height;
      lone.actor.blockConnected(height);
      await lone.idle();
    }
    expect(lone.disconnects).toEqual([TOO_LATE]);
  });

  test('by the blocks that may have come unseen', async () => {
    const { lone, revocation } = await scene();
    lone.chain.blocksUnseen = 97;
    lone.receive(revocation);
    await lone.idle();
    expect(lone.disconnects).toEqual([TOO_LATE]);
    expect(lone.quarantines).toEqual([]);
    expect(lone.sent.map(({ type }) => type)).not.toContain('commitment_signed');
  });
});
