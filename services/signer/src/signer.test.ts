import { secp256k1 as secp } from '@fulmen/crypto/default';
import { RefusalKind, type SignSuccess } from '@fulmen/proto/signer/v1/signer';
import { toHex } from '@fulmen/codec';
import { commitmentPoint, channelSecrets } from '@fulmen/keys';
import { StatementError, UnrecoverableStoreError } from '@fulmen/store/error';
import { afterEach, describe, expect, test } from 'vitest';
import { findAuditBreak } from './audit.ts';
import { EMPTY_ITEM, registrationOf, SHARD } from './testing/channel.ts';
import { BatchClient, type Harness, startSigner } from './testing/harness.ts';
import { CALLER, SignerPairs } from './testing/pair.ts';
import { fromSuccess, wireHolderCommitment, wireItem, wireRegistration } from './testing/wire.ts';
import { memoryMarker } from './marker.ts';
import { type CommitFault, MemorySignerDatabase, MemorySignerStore } from './store/memory.ts';

const pairs = new SignerPairs(secp);
const { parties } = pairs;
/** Of a tower's justice signer. */
const TOWER_KEY = secp.publicKeyOf(new Uint8Array(32).fill(0x44));
afterEach(() => pairs.stopAll());

describe('two signers that sign for each other', () => {
  test('dance, validate each other’s signatures, and report their numbers', async () => {
    const { harness, channel } = await pairs.two();
    await channel.open();
    for (let i = 0; i < 6; i++)
      await channel.step(
        i % 2 === 0 ? 'alice' : 'bob',
        i % 3 === 2 ? { type: 'fulfill', index: 0 } : { type: 'add', by: 'alice', amountMsat: 5_000_000n },
      );
    const { states } = await harness.alice.client.getChannelStates({
      channelKeysIds: [parties.alice.channelKeysId, new Uint8Array(32)],
    });
    expect(states[0]).toMatchObject({
      registered: true,
      nextHolderCommitment: 7n,
      nextHolderRevocation: 6n,
      nextCounterpartyCommitment: 7n,
      closing: false,
    });
    expect(states[0]?.perCommitmentPoints).toHaveLength(3);
    expect(states[1]).toMatchObject({ registered: false, nextHolderCommitment: 0n });
  });

  test('the shared secrets of onions, with and without a tweak', async () => {
    const { streams } = await pairs.two();
    const publicKey = parties.bob.keys.nodeId;
    const tweak = new Uint8Array(32).fill(3);
    const item = wireItem(parties.alice.channelKeysId, CALLER, {
      ...EMPTY_ITEM,
      ecdhs: [
        { publicKey, tweak: undefined },
        { publicKey, tweak },
      ],
    });
    const { sharedSecrets } = (await streams.alice.one(item)) as SignSuccess;
    expect(sharedSecrets.map(toHex)).toEqual([
      toHex(secp.ecdh(parties.alice.keys.nodeId, parties.bob.keys.nodeSecret)),
      toHex(secp.ecdh(secp.publicKeyTweakMul(parties.alice.keys.nodeId, tweak), parties.bob.keys.nodeSecret)),
    ]);
  });

  test('an older epoch, another shard and an unknown channel are refused; what was fenced stays fenced after a restart', async () => {
    const [store, marker] = [new MemorySignerStore(), memoryMarker()];
    const { harness, streams } = await pairs.two({ alice: { store, marker } });
    const ask = (to: BatchClient, item: Partial<ReturnType<typeof wireItem>>) =>
      to.one({ ...wireItem(parties.alice.channelKeysId, CALLER, EMPTY_ITEM), ...item });
    await harness.alice.client.fenceShard({ shard: SHARD, epoch: 5n });
    expect(await ask(streams.alice, { epoch: 4n })).toMatchObject({
      policy: 'policy-epoch-fenced',
      kind: RefusalKind.REFUSAL_KIND_FENCED,
    });
    expect(await ask(streams.alice, { epoch: 5n })).toMatchObject({ firstPointNumber: 0n });
    expect(await ask(streams.alice, { epoch: 5n, shard: 8 })).toMatchObject({
      policy: 'policy-channel-shard',
      kind: RefusalKind.REFUSAL_KIND_POLICY,
    });
    expect(await ask(streams.alice, { channelKeysId: new Uint8Array(32) })).toMatchObject({
      policy: 'policy-channel-unregistered',
    });
    expect(await ask(streams.alice, { channelKeysId: new Uint8Array(31) })).toMatchObject({
      policy: 'policy-malformed-request',
    });
    await expect(harness.alice.client.fenceShard({ shard: SHARD, epoch: 4n })).rejects.toMatchObject({
      code: 'aborted',
      metadata: { 'fulmen-refusal-kind': 'fenced' },
    });
    await pairs.stop(harness.alice);
    const again = await pairs.start('alice', { store, marker });
    expect(await ask(new BatchClient(again.client), { epoch: 4n })).toMatchObject({
      policy: 'policy-epoch-fenced',
    });
  });

  test('a claim locks the channel and gets the transaction; the manager’s next step is refused', async () => {
    const { harness, streams, channel } = await pairs.two();
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 5_000_000n });
    const held = channel.log.findLast(
      (entry) => entry.side === 'alice' && entry.request.holderCommitment !== undefined,
    )?.request.holderCommitment;
    if (held === undefined) throw new RangeError('no holder commitment');
    const request = {
      channelKeysId: parties.alice.channelKeysId,
      holderCommitment: wireHolderCommitment(held),
    };
    await expect(harness.alice.clientWith('channel').signHolderCommitment(request)).rejects.toMatchObject({
      code: 'permission_denied',
    });
    const first = await harness.alice.clientWith('claim').signHolderCommitment(request);
    expect(await harness.alice.client.signHolderCommitment(request)).toEqual(first);
    const next = wireItem(parties.alice.channelKeysId, CALLER, {
      ...EMPTY_ITEM,
      ...channel.counterpartyCommitment('alice', channel.content, channel.number),
    });
    expect(await streams.alice.one(next)).toMatchObject({ policy: 'policy-commitment-not-closed' });
    const { states } = await harness.alice.client.getChannelStates({
      channelKeysIds: [parties.alice.channelKeysId],
    });
    expect(states[0]?.closing).toBe(true);
  });

  test('registration: an identical retry at a later epoch succeeds, a difference is refused', async () => {
    const { harness } = await pairs.two();
    const request = wireRegistration(registrationOf(secp, parties, 'alice'), 9n);
    await harness.alice.client.registerChannel(request);
    await expect(harness.alice.client.registerChannel({ ...request, announce: false })).rejects.toMatchObject(
      { code: 'failed_precondition', metadata: { 'fulmen-refusal-policy': 'policy-channel-immutable' } },
    );
  });

  test('a restored channel signs no commitment any more', async () => {
    const { harness, streams, channel } = await pairs.two();
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 5_000_000n });
    const request = { ...wireRegistration(registrationOf(secp, parties, 'alice'), 9n), restored: true };
    await harness.alice.client.registerChannel(request);
    await harness.alice.client.registerChannel(request);
    const next = wireItem(parties.alice.channelKeysId, CALLER, {
      ...EMPTY_ITEM,
      ...channel.counterpartyCommitment('alice', channel.content, channel.number),
    });
    expect(await streams.alice.one(next)).toMatchObject({ policy: 'policy-commitment-not-closed' });
    const held = channel.log.findLast(
      (entry) => entry.side === 'alice' && entry.request.holderCommitment !== undefined,
    )?.request.holderCommitment;
    if (held === undefined) throw new RangeError('no holder commitment');
    await expect(
      harness.alice.client.signHolderCommitment({
        channelKeysId: parties.alice.channelKeysId,
        holderCommitment: wireHolderCommitment(held),
      }),
    ).rejects.toMatchObject({ metadata: { 'fulmen-refusal-policy': 'policy-holder-commitment-revoked' } });
  });
});

describe('commits', () => {
  test('requests that arrive during a commit share the next one, and answers wait for it', async () => {
    const store = new MemorySignerStore();
    const harness = await pairs.start('alice', { store });
    const epochs = Array.from({ length: 30 }, (_, i) => BigInt(i + 1));
    await Promise.all(epochs.map((epoch) => harness.client.fenceShard({ shard: Number(epoch), epoch })));
    expect(store.database.fences.size).toBe(30);
    expect(store.database.commits).toBeLessThan(15);
  });

  for (const fault of ['unavailable', 'unknown_lost', 'unknown_committed'] as const) {
    test(`a commit that ends ${fault} is answered "retry", and the identical retry gives what an undisturbed signer gives`, async () => {
      let next: CommitFault = 'none';
      const faults = () => {
        const now = next;
        next = 'none';
        return now;
      };
      const { channel, streams } = await pairs.two({
        alice: { store: new MemorySignerStore({ fault: faults }) },
      });
      await channel.open();
      const undisturbed = await pairs.two();
      await undisturbed.channel.open();
      const item = wireItem(parties.alice.channelKeysId, CALLER, {
        ...EMPTY_ITEM,
        ...channel.counterpartyCommitment('alice', channel.content, channel.number),
      });
      next = fault;
      expect(await streams.alice.one(item)).toMatchObject({
        policy: 'policy-unavailable',
        kind: RefusalKind.REFUSAL_KIND_UNAVAILABLE,
      });
      expect(await streams.alice.one(item)).toEqual(await undisturbed.streams.alice.one(item));
    });
  }

  test('a killed signer’s successor gives identical answers from the store', async () => {
    const [store, marker] = [new MemorySignerStore(), memoryMarker()];
    const { harness, channel } = await pairs.two({ alice: { store, marker } });
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 5_000_000n });
    const last = channel.log.findLast((entry) => entry.side === 'alice');
    await pairs.stop(harness.alice);
    const successor = await pairs.start('alice', { store, marker });
    if (last === undefined) throw new RangeError('nothing was asked');
    const answer = await new BatchClient(successor.client).one(
      wireItem(parties.alice.channelKeysId, CALLER, last.request),
    );
    expect('policy' in answer ? answer : fromSuccess(answer)).toEqual(last.answer);
  });

  test('a second signer on the same database does not start; a lost lease ends the first', async () => {
    const database = new MemorySignerDatabase();
    const nowMs = () => performance.now();
    const first = await pairs.start('alice', { store: new MemorySignerStore({ database, nowMs }) });
    await expect(
      startSigner({ secp, party: parties.alice, store: new MemorySignerStore({ database, nowMs }) }),
    ).rejects.toThrow('another signer process');
    database.lease = { instance: 'another', untilMs: Infinity };
    await expect(first.client.fenceShard({ shard: 1, epoch: 1n })).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect((await first.service.failed).message).toContain('another signer process');
  });

  test.each([
    new UnrecoverableStoreError('invalid page in block 7'),
    new StatementError('42501', {}, 'permission denied for table lease'),
  ])('a lease that can never be renewed ends the signer: $name', async (error) => {
    const store = Object.assign(new MemorySignerStore(), { renewLease: () => Promise.reject(error) });
    const { service } = await pairs.start('alice', { store });
    expect(await service.failed).toBe(error);
  });

  test('the audit chain holds, and shows an altered row', async () => {
    const store = new MemorySignerStore();
    const { channel } = await pairs.two({ alice: { store } });
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 5_000_000n });
    const rows = await store.readAudit(0n, 100);
    expect(rows.length).toBeGreaterThan(3);
    expect(findAuditBreak(rows)).toBeUndefined();
    const altered = rows.map((row, i) =>
      i === 1 ? { ...row, entries: row.entries.map((byte) => byte ^ 1) } : row,
    );
    expect(findAuditBreak(altered)).toBe(rows[1]?.sequence);
    expect(findAuditBreak(rows.filter((_, i) => i !== 2))).toBe(rows[3]?.sequence);
  });
});

test('a channel may promise to close to a script only if the signer allows it', async () => {
  const allowed = Uint8Array.of(0, 32, ...new Uint8Array(32).fill(9));
  const harness = await pairs.start('alice', { options: { limits: { allowedScripts: [allowed] } } });
  const ask = (shutdownScript: Uint8Array) =>
    harness.client.newChannelKeys({ channelKeysId: parties.alice.channelKeysId, shutdownScript });
  expect(Uint8Array.from((await ask(allowed)).shutdownScript)).toEqual(allowed);
  const { shutdownScript: wallets } = await harness.client.newChannelKeys({
    channelKeysId: parties.alice.channelKeysId,
  });
  expect((await ask(wallets)).shutdownScript).toEqual(wallets);
  await expect(ask(Uint8Array.of(0, 32, ...new Uint8Array(32)))).rejects.toMatchObject({
    code: 'failed_precondition',
    message: expect.stringContaining('policy-channel-shutdown-script'),
  });
});

describe('capabilities', () => {
  const keysId = parties.alice.channelKeysId;
  const calls = {
    ecdh: [['ecdh'], (c: Harness['client']) => c.ecdh({ publicKey: parties.bob.keys.nodeId })],
    newChannelKeys: [['channel'], (c: Harness['client']) => c.newChannelKeys({ channelKeysId: keysId })],
    getPerCommitmentPoints: [
      ['channel', 'claim'],
      (c: Harness['client']) =>
        c.getPerCommitmentPoints({ channelKeysId: keysId, commitmentNumbers: [0n, 9n] }),
    ],
    getDerivedSecret: [
      ['channel'],
      (c: Harness['client']) => c.getDerivedSecret({ purpose: 'inbound-payment' }),
    ],
    fenceShard: [['channel'], (c: Harness['client']) => c.fenceShard({ shard: 1, epoch: 1n })],
    getWalletDescriptors: [['wallet'], (c: Harness['client']) => c.getWalletDescriptors({})],
    sealJusticeKey: [
      ['seal'],
      (c: Harness['client']) => c.sealJusticeKey({ channelKeysId: keysId, towerPublicKey: TOWER_KEY }),
    ],
  } as const;

  test.each(Object.entries(calls))('%s', async (_name, [capabilities, call]) => {
    const store = new MemorySignerStore();
    const harness = await pairs.start('alice', { store, options: { towerKeys: [TOWER_KEY] } });
    const wrong = ['ecdh', 'channel', 'claim', 'wallet', 'node', 'seal', 'plaintext'].filter(
      (one) => !capabilities.some((capability) => capability === one),
    );
    await expect(call(harness.clientWith(...wrong))).rejects.toMatchObject({ code: 'permission_denied' });
    for (const capability of capabilities) await call(harness.clientWith(capability));
    await pairs.stop(harness);
    expect(await store.readRefusals(1)).toMatchObject([{ policy: 'policy-capability', kind: 'policy' }]);
  });

  test('a stream without the capability breaks', async () => {
    const harness = await pairs.start('alice');
    await expect(
      new BatchClient(harness.clientWith('claim')).one(wireItem(keysId, CALLER, EMPTY_ITEM)),
    ).rejects.toMatchObject({ code: 'permission_denied' });
  });

  test('points, secrets and handshakes: what they must be, and their limits', async () => {
    const harness = await pairs.start('alice', { options: { ecdh: { perSecond: 0.001, burst: 2 } } });
    const { client } = harness;
    const seed = channelSecrets(secp, parties.alice.keys, keysId).perCommitmentSeed;
    expect(
      (
        await client.getPerCommitmentPoints({ channelKeysId: keysId, commitmentNumbers: [0n, 900n] })
      ).points.map(toHex),
    ).toEqual([0n, 900n].map((n) => toHex(commitmentPoint(secp, seed, n))));
    const purposes = ['inbound-payment', 'peer-storage', 'lsps2-promise', 'offers'];
    const secrets = await Promise.all(purposes.map((purpose) => client.getDerivedSecret({ purpose })));
    expect(new Set(secrets.map(({ secret }) => toHex(secret))).size).toBe(purposes.length);
    await expect(client.getDerivedSecret({ purpose: 'toString' })).rejects.toMatchObject({
      metadata: { 'fulmen-refusal-policy': 'policy-derived-secret' },
    });
    const ecdh = () => client.ecdh({ publicKey: parties.bob.keys.nodeId });
    expect(toHex((await ecdh()).sharedSecret)).toBe(
      toHex(secp.ecdh(parties.alice.keys.nodeId, parties.bob.keys.nodeSecret)),
    );
    await ecdh();
    await expect(ecdh()).rejects.toMatchObject({ code: 'resource_exhausted' });
  });
});
