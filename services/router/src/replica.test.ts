/** Several routers on one store: who writes, what the others follow, and what ends one. */
import { StatementError, StoreError, UnrecoverableStoreError } from '@fulmen/store/error';
import { describe, expect, test } from 'vitest';
import type { RouterStore } from './store/router-store.ts';
import { until } from './testing/manual-runtime.ts';
import { channelOf, fleetOf, idOf, info, lineOf } from './testing/questions.ts';

describe('replicas', () => {
  test('a reader follows the writer, passes writes on, refuses streams, and takes over', async () => {
    const fleet = await fleetOf();
    const writer = await fleet.startRouter('writer');
    const reader = await fleet.startRouter('reader');
    const gateway = fleet.gateway('g1', 'writer');
    await gateway.peerUp(idOf(fleet, 100));
    const refused = fleet.gateway('g2', 'reader');
    await until(() => refused.ended !== undefined);
    expect(refused.ended).toMatchObject({ code: 'unavailable', metadata: { writer: 'writer' } });
    const channels = lineOf(fleet, 2);
    await gateway.say(idOf(fleet, 100), ...channels.flatMap(({ raw }) => raw));
    await until(async () => (await info(fleet, 'writer')).updates === 4);
    await fleet.runtime.advance(3_000);
    await until(async () => (await info(fleet, 'reader')).updates === 4);
    const own = channelOf(fleet, 710_000, [3, 20]);
    await fleet.client('reader').publishOwn({ messages: [own.announcement.raw] });
    expect(await info(fleet, 'writer')).toMatchObject({ channels: 3 });
    await writer.stop();
    await fleet.runtime.advance(11_000);
    await until(() => fleet.disk.lease.owner === 'reader');
    const moved = fleet.gateway('g1', 'reader');
    await moved.peerUp(idOf(fleet, 100));
    await moved.say(idOf(fleet, 100), ...own.updates.map(({ raw }) => raw));
    await until(async () => (await info(fleet, 'reader')).updates === 6);
    await reader.stop();
    expect(fleet.runtime.failures).toEqual([]);
  });

  const definite = [
    new UnrecoverableStoreError('invalid page in block 7'),
    new StatementError('42501', {}, 'permission denied for table lease'),
  ];

  test.each(definite)(
    'an answer to a renewal that does not get better ends the router: $name',
    async (error) => {
      const fleet = await fleetOf();
      let asked = 0;
      const router = await fleet.startRouter('router', {}, (store) => ({
        ...store,
        acquireLease: (...args) => (++asked === 1 ? store.acquireLease(...args) : Promise.reject(error)),
      }));
      await fleet.runtime.advance(4_000);
      expect(await router.failed).toBe(error);
      await router.stop();
    },
  );

  test('damage that only a call sees ends the router, too', async () => {
    const fleet = await fleetOf();
    const damage = new UnrecoverableStoreError('invalid page in block 7');
    const writer = await fleet.startRouter('router', {}, (store) => ({
      ...store,
      write: () => Promise.reject(damage),
    }));
    const own = channelOf(fleet, 710_000, [3, 20]);
    const published = fleet.client('router').publishOwn({ messages: [own.announcement.raw] });
    await expect(published).rejects.toMatchObject({ code: 'internal' });
    expect(await writer.failed).toBe(damage);
    // It saves nothing more.
    await expect(writer.stop()).rejects.toBe(damage);
  });

  test('a writer whose store is away longer than its lease takes over nothing that is in no store', async () => {
    const fleet = await fleetOf();
    const store = { isAway: false };
    const router = await fleet.startRouter(
      'router',
      {},
      (real) =>
        Object.fromEntries(
          Object.entries(real).map(([name, call]) => [
            name,
            (...args: never[]) =>
              store.isAway
                ? Promise.reject(new StoreError('unavailable', 'away'))
                : (call as (...rest: never[]) => unknown)(...args),
          ]),
        ) as unknown as RouterStore,
    );
    const peer = idOf(fleet, 100);
    const gateway = fleet.gateway('g1', 'router');
    await gateway.peerUp(peer);
    const [before, during] = lineOf(fleet, 2);
    if (before === undefined || during === undefined) throw new TypeError('no channels');
    await gateway.say(peer, ...before.raw);
    await until(async () => (await info(fleet)).updates === 2);
    await fleet.runtime.advance(1_000);
    expect([...fleet.disk.channels.keys()]).toEqual([before.scid]);
    store.isAway = true;
    await gateway.say(peer, ...during.raw);
    await until(async () => (await info(fleet)).updates === 4);
    await fleet.runtime.advance(15_000);
    await until(() => gateway.ended !== undefined);
    store.isAway = false;
    await fleet.runtime.advance(5_000);
    await until(() => fleet.disk.lease.epoch === 2n);
    expect(await info(fleet)).toMatchObject({ channels: 1 });
    const again = fleet.gateway('g1', 'router');
    await again.peerUp(peer);
    await again.say(peer, ...during.raw);
    await until(async () => (await info(fleet)).updates === 4);
    await fleet.runtime.advance(1_000);
    expect([...fleet.disk.channels.keys()]).toEqual([before.scid, during.scid]);
    expect(fleet.disk.updates.size).toBe(4);
    await router.stop();
    expect(fleet.runtime.failures).toEqual([]);
  });

  test('a writer that was fenced reads', async () => {
    const fleet = await fleetOf();
    const first = await fleet.startRouter('first');
    const gateway = fleet.gateway('g1', 'first');
    await gateway.peerUp(idOf(fleet, 100));
    // Another took the lease while this one was paused.
    fleet.disk.lease = {
      owner: 'second',
      address: 'second',
      epoch: 9n,
      expiresAtMs: Number.MAX_SAFE_INTEGER,
    };
    const channels = lineOf(fleet, 1);
    await gateway.say(idOf(fleet, 100), ...channels.flatMap(({ raw }) => raw));
    await fleet.runtime.advance(4_000);
    await until(() => gateway.ended !== undefined);
    await until(async () => (await info(fleet, 'first')).channels === 0);
    expect(fleet.disk.channels.size).toBe(0);
    await first.stop();
  });
});
