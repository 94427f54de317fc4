/** What every signer store must do; run on memory and on Postgres. */
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { describe, expect, test } from 'vitest';
import { nextAuditRow } from '../audit.ts';
import { registrationOf, testParties, HonestChannel } from '../testing/channel.ts';
import { PureSigner } from '../testing/pure-signer.ts';
import type { SignerChannelState } from '../enforcement/types.ts';
import type { CommitBatch, Retention, SignerStore } from './port.ts';

const parties = testParties(secp);
const ME = new Uint8Array(16).fill(1);
const YOU = new Uint8Array(16).fill(2);

const EMPTY: CommitBatch = {
  generation: 1n,
  registered: [],
  channels: [],
  fences: new Map(),
  velocity: undefined,
  audit: undefined,
  refusals: [],
};
const LEASE_MS = 60_000;

export function storeCompliance(name: string, make: (retention?: Retention) => Promise<SignerStore>): void {
  const owned = async (retention?: Retention): Promise<SignerStore> => {
    const store = await make(retention);
    expect(await store.acquireLease(ME, LEASE_MS)).toBe('acquired');
    return store;
  };
  const channels = async (): Promise<SignerChannelState[]> => {
    const signer = new PureSigner(secp, parties);
    const channel = new HonestChannel(secp, parties, (side, request) =>
      Promise.resolve(signer.execute(side, request)),
    );
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 9_000_000n });
    await channel.step('bob', { type: 'fulfill', index: 0 });
    return [signer.states.alice, signer.states.bob];
  };

  describe(`signer store: ${name}`, () => {
    test('a fresh store is empty', async () => {
      const store = await owned();
      expect(await store.loadHead()).toEqual({
        generation: 0n,
        velocity: { windowStartMs: 0, spentSat: 0n },
        audit: { sequence: 0n, hash: new Uint8Array(32) },
        fences: new Map(),
      });
      expect(await store.readSeedMetadata()).toBeUndefined();
      expect(await store.loadChannels([parties.alice.channelKeysId])).toEqual([]);
      expect(await store.readRefusals(5)).toEqual([]);
    });

    test('what is committed is read back, channels in pages too', async () => {
      const store = await owned();
      const states = await channels();
      const audit = nextAuditRow({ sequence: 0n, hash: new Uint8Array(32) }, 1n, Uint8Array.from([1, 2, 3]));
      const batch: CommitBatch = {
        ...EMPTY,
        registered: states.map(({ registration }) => registration),
        channels: states,
        fences: new Map([[3, 7n]]),
        velocity: { windowStartMs: 5, spentSat: 6n },
        audit,
      };
      expect(await store.commitBatch(ME, batch)).toBe('ok');
      expect(await store.loadHead()).toEqual({
        generation: 1n,
        velocity: { windowStartMs: 5, spentSat: 6n },
        audit: { sequence: 1n, hash: audit.hash },
        fences: new Map([[3, 7n]]),
      });
      const [alice] = await store.loadChannels([parties.alice.channelKeysId]);
      expect(alice).toEqual(states[0]);
      const first = await store.loadAll(undefined, 1);
      const second = await store.loadAll(first[0]?.registration.channelKeysId, 5);
      expect([...first, ...second]).toHaveLength(2);
      const closed: SignerChannelState = {
        ...(states[0] as SignerChannelState),
        lock: { type: 'closing', commitmentNumber: 2n },
      };
      expect(await store.commitBatch(ME, { ...EMPTY, generation: 2n, channels: [closed] })).toBe('ok');
      expect(await store.loadChannels([parties.alice.channelKeysId])).toEqual([closed]);
      expect(await store.readAudit(0n, 10)).toEqual([audit]);
    });

    test('a wrong generation or owner writes nothing', async () => {
      const store = await owned();
      const batch = {
        ...EMPTY,
        fences: new Map([[1, 1n]]),
        registered: [registrationOf(secp, parties, 'alice')],
      };
      for (const generation of [0n, 2n])
        expect(await store.commitBatch(ME, { ...batch, generation })).toBe('not_owner');
      expect(await store.commitBatch(YOU, batch)).toBe('not_owner');
      expect((await store.loadHead()).fences.size).toBe(0);
      expect((await store.loadHead()).generation).toBe(0n);
    });

    test('one owner at a time; a release lets the next one in, and the last one out for good', async () => {
      const store = await owned();
      expect(await store.acquireLease(YOU, LEASE_MS)).toBe('held');
      expect(await store.renewLease(YOU, LEASE_MS)).toBe('lost');
      expect(await store.renewLease(ME, LEASE_MS)).toBe('renewed');
      await store.releaseLease(YOU);
      expect(await store.acquireLease(YOU, LEASE_MS)).toBe('held');
      await store.releaseLease(ME);
      expect(await store.acquireLease(YOU, LEASE_MS)).toBe('acquired');
      expect(await store.commitBatch(ME, EMPTY)).toBe('not_owner');
      expect(await store.renewLease(ME, LEASE_MS)).toBe('lost');
    });

    test('fences only rise', async () => {
      const store = await owned();
      await store.commitBatch(ME, {
        ...EMPTY,
        fences: new Map([
          [1, 9n],
          [2, 1n],
        ]),
      });
      await store.commitBatch(ME, {
        ...EMPTY,
        generation: 2n,
        fences: new Map([
          [1, 4n],
          [2, 2n],
        ]),
      });
      expect((await store.loadHead()).fences).toEqual(
        new Map([
          [1, 9n],
          [2, 2n],
        ]),
      );
    });

    test('the seed’s identity is written once', async () => {
      const store = await owned();
      const metadata = { nodeId: parties.alice.keys.nodeId, keyScheme: 'native-v1', network: 'regtest' };
      await store.writeSeedMetadata(metadata);
      await store.writeSeedMetadata({ ...metadata, network: 'mainnet' });
      expect(await store.readSeedMetadata()).toEqual(metadata);
    });

    test('refusals and audit rows are bounded, the newest stay', async () => {
      const store = await owned({ auditRows: 3, refusalRows: 4 });
      let head = (await store.loadHead()).audit;
      for (let n = 1n; n <= 6n; n++) {
        const audit = nextAuditRow(head, n, Uint8Array.from([Number(n)]));
        const refusals = [0n, 1n].map((i) => ({
          number: 2n * n + i,
          atMs: 10,
          operation: 'x',
          policy: 'policy-gossip' as const,
          kind: 'policy' as const,
          reason: 'r',
          channelKeysId: i === 0n ? ME : undefined,
        }));
        expect(await store.commitBatch(ME, { ...EMPTY, generation: n, audit, refusals })).toBe('ok');
        head = audit;
      }
      expect((await store.readAudit(0n, 10)).map(({ sequence }) => sequence)).toEqual([4n, 5n, 6n]);
      expect((await store.readRefusals(10)).map(({ number }) => number)).toEqual([13n, 12n, 11n, 10n]);
      expect((await store.readRefusals(2)).map(({ channelKeysId }) => channelKeysId)).toEqual([
        undefined,
        ME,
      ]);
    });

    test('reconciling raises the generation, and freezes when asked to', async () => {
      const store = await owned();
      const states = await channels();
      await store.commitBatch(ME, {
        ...EMPTY,
        registered: states.map(({ registration }) => registration),
        channels: states,
      });
      expect(await store.reconcile(YOU, 9n, 'freeze')).toBe('not_owner');
      expect(await store.reconcile(ME, 9n, 'accept')).toBe('ok');
      expect((await store.loadAll(undefined, 9)).map(({ lock }) => lock.type)).toEqual(['none', 'none']);
      expect(await store.reconcile(ME, 12n, 'freeze')).toBe('ok');
      expect((await store.loadAll(undefined, 9)).map(({ lock }) => lock.type)).toEqual(['frozen', 'frozen']);
      expect((await store.loadHead()).generation).toBe(12n);
    });
  });
}
