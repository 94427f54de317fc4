/**
 * What every manager's store must do, concurrent histories included: the one
 * suite of the Postgres store and of its in-memory model. Called from a test file.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commitCompliance } from './compliance/commits.ts';
import { eventCompliance } from './compliance/events.ts';
import type { ManagerDatabaseUnderTest } from './compliance/fixtures.ts';
import { forwardingCompliance } from './compliance/forwarding.ts';
import { ownershipCompliance } from './compliance/ownership.ts';
import { scidCompliance } from './compliance/scids.ts';
import { upkeepCompliance } from './compliance/upkeep.ts';
import type { ManagerStore } from './manager-store.ts';

export type { ManagerDatabaseUnderTest } from './compliance/fixtures.ts';

/** Declares the suite; `makeDatabase` gives an empty database, which two handles then share. */
export function managerStoreCompliance(
  name: string,
  makeDatabase: () => Promise<ManagerDatabaseUnderTest>,
): void {
  describe(`manager store: ${name}`, () => {
    let database: ManagerDatabaseUnderTest;
    let a: ManagerStore;
    let b: ManagerStore;
    beforeAll(async () => {
      database = await makeDatabase();
      a = database.connect('a');
      b = database.connect('b');
    });
    afterAll(async () => {
      await Promise.all([a.close(), b.close()]);
      await database.drop();
    });
    ownershipCompliance(
      () => database,
      () => a,
      () => b,
    );
    commitCompliance(
      () => database,
      () => a,
      () => b,
    );
    scidCompliance(
      () => database,
      () => a,
      () => b,
    );
    forwardingCompliance(
      () => a,
      () => b,
    );
    upkeepCompliance(
      () => a,
      () => b,
    );
    eventCompliance(
      () => a,
      () => b,
    );

    test('a closed handle does nothing, and the state lives on', async () => {
      const dead = database.connect('dead');
      await dead.heartbeat('dead', 1n, 'd', 1_000);
      await dead.close();
      await expect(dead.heartbeat('dead', 2n, 'd', 1_000)).rejects.toMatchObject({
        name: 'StoreError',
        code: 'unavailable',
      });
      expect(await a.heartbeat('dead', 1n, 'd', 1_000)).toBe(true);
    });
  });
}
