/** A database that is not the last state of its signer: restored from a backup, or a standby that was behind. */
import { RefusalKind } from '@fulmen/proto/signer/v1/signer';
import { toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { afterEach, describe, expect, test } from 'vitest';
import { memoryMarker } from './marker.ts';
import { MemorySignerDatabase, MemorySignerStore } from './store/memory.ts';
import { EMPTY_ITEM } from './testing/channel.ts';
import { BatchClient, startSigner } from './testing/harness.ts';
import { CALLER, SignerPairs } from './testing/pair.ts';
import { wireHolderCommitment, wireItem } from './testing/wire.ts';

const pairs = new SignerPairs(secp);
const { parties } = pairs;
afterEach(() => pairs.stopAll());

describe('a database that was set back', () => {
  async function setBack() {
    const marker = memoryMarker();
    const database = new MemorySignerDatabase();
    const { harness, channel } = await pairs.two({
      alice: { marker, store: new MemorySignerStore({ database }) },
    });
    await channel.open();
    const backup = database.clone();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 5_000_000n });
    await pairs.stop(harness.alice);
    backup.lease = undefined;
    return { marker, backup, channel };
  }

  /** A live signer whose next commit ends `unknown_lost`, and finds itself on what `failOver` gives. */
  async function liveSigner() {
    const marker = memoryMarker();
    let replacement: MemorySignerDatabase | undefined;
    const store: MemorySignerStore = new MemorySignerStore({
      fault: () => {
        if (replacement === undefined) return 'none';
        store.database = replacement;
        replacement = undefined;
        return 'unknown_lost';
      },
    });
    const signers = await pairs.two({ alice: { marker, store } });
    await signers.channel.open();
    return {
      ...signers,
      failOver: async (to: MemorySignerDatabase) => {
        to.lease = store.database.lease;
        replacement = to;
        const { alice } = signers.streams;
        const item = wireItem(parties.alice.channelKeysId, CALLER, {
          ...EMPTY_ITEM,
          ...signers.channel.counterpartyCommitment('alice', signers.channel.content, signers.channel.number),
        });
        const unavailable = { policy: 'policy-unavailable' };
        expect([await alice.one(item), await alice.one(item)]).toMatchObject([unavailable, unavailable]);
        expect((await signers.harness.alice.service.failed).message).toContain('set back');
        await pairs.stop(signers.harness.alice);
      },
      health: async () => {
        const again = await pairs.start('alice', { marker, store });
        return (await again.client.getNode({})).health;
      },
      database: store.database,
    };
  }

  test('while the signer runs: it ends, and comes back unreconciled', async () => {
    const { channel, database, failOver, health } = await liveSigner();
    const backup = database.clone();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 5_000_000n });
    await failOver(backup);
    expect(await health()).toBe('unreconciled');
  });

  test('while the signer runs, and as many commits of another history: the same', async () => {
    const { harness, database, failOver, health } = await liveSigner();
    const backup = database.clone();
    backup.lease = undefined;
    const other = await pairs.start('alice', {
      store: new MemorySignerStore({ database: backup }),
      options: { reconcile: 'accept' },
    });
    await other.client.fenceShard({ shard: 1, epoch: 1n });
    await pairs.stop(other);
    await harness.alice.client.fenceShard({ shard: 2, epoch: 1n });
    expect(backup.generation).toBe(database.generation);
    await failOver(backup);
    expect(await health()).toBe('unreconciled');
  });

  test('cannot be told from the last one without a marker: nothing is signed until an operator decides', async () => {
    const { backup } = await setBack();
    const store = new MemorySignerStore({ database: backup });
    const lost = await pairs.start('alice', { store });
    expect(await lost.client.getNode({})).toMatchObject({ health: 'unreconciled' });
    await pairs.stop(lost);
    const marker = memoryMarker();
    const accepted = await pairs.start('alice', { store, marker, options: { reconcile: 'accept' } });
    expect(await accepted.client.getNode({})).toMatchObject({ health: 'ready' });
    expect(await marker.read()).toBe(backup.generation);
    await pairs.stop(accepted);
    const again = await pairs.start('alice', { store, marker });
    expect(await again.client.getNode({})).toMatchObject({ health: 'ready' });
  });

  test('does not grow while it waits for an operator', async () => {
    const { marker, backup } = await setBack();
    const { generation } = backup;
    const restored = await pairs.start('alice', {
      marker,
      store: new MemorySignerStore({ database: backup }),
    });
    const nonsense = restored.client.getDerivedSecret({ purpose: 'nothing' });
    await expect(nonsense).rejects.toThrow('policy-derived-secret');
    await restored.client.getChannelStates({ channelKeysIds: [parties.alice.channelKeysId] });
    expect(backup.generation).toBe(generation);
  });

  test('signs nothing, says so, and keeps the evidence', async () => {
    const { marker, backup } = await setBack();
    const before = await marker.read();
    const restored = await pairs.start('alice', {
      marker,
      store: new MemorySignerStore({ database: backup }),
    });
    const node = await restored.client.getNode({});
    expect([node.health, toHex(node.nodeId)]).toEqual(['unreconciled', toHex(parties.alice.keys.nodeId)]);
    const item = wireItem(parties.alice.channelKeysId, CALLER, EMPTY_ITEM);
    expect(await new BatchClient(restored.client).one(item)).toMatchObject({
      policy: 'policy-unreconciled',
      kind: RefusalKind.REFUSAL_KIND_UNAVAILABLE,
    });
    await expect(restored.client.fenceShard({ shard: 1, epoch: 1n })).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect(await marker.read()).toBe(before);
    expect(await restored.metrics.registry.metrics()).toContain(
      'fulmen_signer_unreconciled{service="signer"} 1',
    );
  });

  test('reconciled by freezing, it never signs for the old channels and serves new ones', async () => {
    const { marker, backup, channel } = await setBack();
    const restored = await pairs.start('alice', {
      marker,
      store: new MemorySignerStore({ database: backup }),
      options: { reconcile: 'freeze' },
    });
    expect(await restored.client.getNode({})).toMatchObject({ health: 'ready' });
    const held = channel.log.find(
      (entry) => entry.side === 'alice' && entry.request.holderCommitment?.spec.commitmentNumber === 0n,
    )?.request.holderCommitment;
    if (held === undefined) throw new RangeError('no holder commitment');
    const claim = restored.client.signHolderCommitment({
      channelKeysId: parties.alice.channelKeysId,
      holderCommitment: wireHolderCommitment(held),
    });
    await expect(claim).rejects.toMatchObject({ code: 'failed_precondition' });
    await restored.client.fenceShard({ shard: 1, epoch: 1n });
  });

  test('of another seed, or another network, is refused at start', async () => {
    const database = new MemorySignerDatabase();
    const marker = memoryMarker();
    const first = await pairs.start('alice', { marker, store: new MemorySignerStore({ database }) });
    await pairs.stop(first);
    await expect(
      startSigner({ secp, party: parties.bob, store: new MemorySignerStore({ database }) }),
    ).rejects.toThrow('belongs to node');
    await expect(
      startSigner({
        secp,
        party: parties.alice,
        store: new MemorySignerStore({ database }),
        options: { network: 'signet' },
      }),
    ).rejects.toThrow('belongs to node');
  });
});
