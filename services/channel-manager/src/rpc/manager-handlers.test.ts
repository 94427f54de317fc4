import { FeatureBits } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import { type Client, RpcError } from '@fulmen/rpc';
import { beforeEach, describe, expect, test } from 'vitest';
import type { EngineApi, OpenChannelCommand } from '../engine/api.ts';
import { shardOfPaymentHash } from '../lease/placement.ts';
import {
  Bench,
  direct,
  foreignInvoice,
  HEIGHT,
  NODE,
  PAYEE,
  PEER,
  type Replica,
  SCID,
  START_MS,
} from '../payments/testing/bench.ts';
import type { Backups } from '../backup/backups.ts';
import { managerHandlers } from './manager-handlers.ts';

const FEATURES = FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' });

let bench: Bench;
let replica: Replica;
let manager: Client<ManagerServiceService>;
let calls: unknown[];
let opened: OpenChannelCommand[];
let openFails: RpcError | undefined;

beforeEach(async () => {
  bench = await new Bench().begin();
  replica = await bench.replica();
  calls = [];
  opened = [];
  openFails = undefined;
  const engine: EngineApi = {
    connectPeer: (nodeId, host, port) => Promise.resolve(void calls.push(['connect', nodeId, host, port])),
    disconnectPeer: (nodeId) => Promise.resolve(void calls.push(['disconnect', nodeId])),
    trustPeer: (nodeId, zeroConf) => Promise.resolve(void calls.push(['trust', nodeId, zeroConf])),
    openChannel: (command) => {
      opened.push(command);
      if (openFails !== undefined) return Promise.reject(openFails);
      return Promise.resolve({
        channelId: new Uint8Array(32).fill(1),
        fundingTxid: new Uint8Array(32).fill(2),
        fundingOutputIndex: 1,
      });
    },
    closeChannel: (channelId, how) => Promise.resolve(void calls.push(['close', channelId, how])),
    updatePolicy: (channelId, change) => {
      calls.push(['policy', channelId, change]);
      return Promise.resolve();
    },
    isConnected: () => false,
    requireShard: (shard) => {
      if (!replica.fences.has(shard))
        throw new RpcError('failed_precondition', 'another replica owns this shard', {
          'fulmen-owner-address': 'other:1',
        });
    },
    ownerOf: () => 'replica-1',
  };
  const server = bench.network.server('manager');
  const { hub: payments, store, node } = replica;
  server.add(
    ManagerServiceService,
    managerHandlers({
      engine,
      payments,
      // Backups have tests of their own.
      backups: {} as unknown as Backups,
      store,
      node,
      secp: secp256k1,
      runtime: bench.runtime,
      network: 'regtest',
    }),
  );
  await server.listen();
  manager = bench.network.connector('console', ['console']).client(ManagerServiceService, 'manager');
});

/** Buffers of the transport as the bytes they are. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Uint8Array.from(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

const OPEN = { nodeId: PEER.nodeId, fundingSat: 100_000n, pushMsat: 0n, announce: false, idempotencyKey: '' };
const INVOICE = { amountMsat: 5_000n, description: 'tea', idempotencyKey: '' };

describe('channels and peers', () => {
  test('commands reach the engine', async () => {
    await manager.connectPeer({ nodeId: PEER.nodeId, host: '10.0.0.1', port: 9735 });
    await manager.disconnectPeer({ nodeId: PEER.nodeId });
    await manager.trustPeer({ nodeId: PEER.nodeId, zeroConf: true });
    await manager.trustPeer({ nodeId: PEER.nodeId, zeroConf: false });
    await manager.closeChannel({ channelId: new Uint8Array(32), force: true });
    await manager.closeChannel({
      channelId: new Uint8Array(32),
      force: false,
      scriptPubkey: new Uint8Array(22),
    });
    await manager.closeChannel({ channelId: new Uint8Array(32), force: false, feerateSatPerKw: 500 });
    expect(await manager.updateChannelPolicy({ channelId: new Uint8Array(32), feeBaseMsat: 7 })).toEqual({
      channels: 1,
      notSet: [],
    });
    expect(plain(calls)).toMatchObject([
      ['connect', PEER.nodeId, '10.0.0.1', 9735],
      ['disconnect', PEER.nodeId],
      ['trust', PEER.nodeId, 'trusted'],
      ['trust', PEER.nodeId, 'refused'],
      ['close', new Uint8Array(32), { kind: 'force' }],
      ['close', new Uint8Array(32), { kind: 'cooperative', script: new Uint8Array(22) }],
      ['close', new Uint8Array(32), { kind: 'cooperative', feerates: { targetSatPerKw: 500 } }],
      ['policy', new Uint8Array(32), { feeBaseMsat: 7 }],
    ]);
  });

  test('what a channel shall be reaches the engine, and is part of what a key stands for', async () => {
    const shutdownScript = new Uint8Array(34).fill(7);
    const asked = { ...OPEN, idempotencyKey: 'as asked' };
    await manager.openChannel(asked);
    const options = {
      commitmentFormat: 'static_remotekey',
      scidAlias: true,
      zeroConf: true,
      shutdownScript,
      fundingFeerateSatPerKw: 5_000,
    };
    await manager.openChannel({ ...OPEN, ...options });
    expect(opened).toMatchObject([
      {
        scidAlias: 'real_scid',
        confirmations: 'confirmed',
        shutdownScript: undefined,
        fundingFeerateSatPerKw: undefined,
      },
      {
        commitmentFormat: 'static_remotekey',
        scidAlias: 'scid_alias',
        confirmations: 'zero_conf',
        fundingFeerateSatPerKw: 5_000,
      },
    ]);
    expect(plain(opened[1])).toMatchObject({ shutdownScript });
    for (const [name, value] of Object.entries(options))
      await expect(manager.openChannel({ ...asked, [name]: value })).rejects.toMatchObject({
        code: 'invalid_argument',
      });
  });

  test('one key opens one channel, and a failed opening stays failed', async () => {
    const first = await manager.openChannel({ ...OPEN, idempotencyKey: 'a' });
    expect(await manager.openChannel({ ...OPEN, idempotencyKey: 'a' })).toEqual(first);
    expect(opened).toMatchObject([{ fundingSat: 100_000n, announce: false }]);
    await expect(manager.openChannel({ ...OPEN, fundingSat: 5n, idempotencyKey: 'a' })).rejects.toMatchObject(
      { code: 'invalid_argument' },
    );
    openFails = new RpcError('resource_exhausted', 'the wallet has too little; deposit more');
    await expect(manager.openChannel({ ...OPEN, idempotencyKey: 'b' })).rejects.toMatchObject({
      code: 'resource_exhausted',
    });
    openFails = undefined;
    await expect(manager.openChannel({ ...OPEN, idempotencyKey: 'b' })).rejects.toMatchObject({
      code: 'resource_exhausted',
    });
    expect(opened).toHaveLength(2);
    await manager.openChannel(OPEN);
    await manager.openChannel(OPEN);
    expect(opened).toHaveLength(4);
  });

  test.each(['unavailable', 'deadline_exceeded'] as const)(
    'an opening that failed as %s is over under its key: no repetition is asked for',
    async (code) => {
      const refused = { ...OPEN, idempotencyKey: code };
      openFails = new RpcError(code, 'the signer does not answer');
      await expect(manager.openChannel(refused)).rejects.toMatchObject({ code });
      openFails = undefined;
      await expect(manager.openChannel(refused)).rejects.toMatchObject({ code: 'failed_precondition' });
      expect(opened).toHaveLength(1);
    },
  );

  test('a repetition while the first opening is under way joins it', async () => {
    const [first, repetition] = await Promise.all([
      manager.openChannel({ ...OPEN, idempotencyKey: 'c' }),
      manager.openChannel({ ...OPEN, idempotencyKey: 'c' }),
    ]);
    expect(repetition).toEqual(first);
    expect(opened).toHaveLength(1);
  });

  test('an opening that was cut off is not tried again under its key', async () => {
    openFails = new Error('the process died') as RpcError;
    await expect(manager.openChannel({ ...OPEN, idempotencyKey: 'd' })).rejects.toMatchObject({
      code: 'internal',
    });
    await expect(manager.openChannel({ ...OPEN, idempotencyKey: 'd' })).rejects.toMatchObject({
      code: 'failed_precondition',
      message: expect.stringContaining('list the channels'),
    });
    expect(opened).toHaveLength(1);
  });

  test('lists come from the store', async () => {
    await replica.openChannel(PEER.nodeId, SCID);
    const { channels } = await manager.listChannels({ includeClosed: false });
    expect(plain(channels)).toMatchObject([
      {
        counterpartyNodeId: PEER.nodeId,
        phase: 'open',
        shortChannelId: SCID,
        shard: 7,
        ownerReplicaId: 'replica-1',
        peerConnected: false,
      },
    ]);
    expect(plain(await manager.getInfo({}))).toMatchObject({
      nodeId: NODE.nodeId,
      network: 'regtest',
      blockHeight: HEIGHT,
      channelsOpen: 1,
      channelsPending: 0,
      replicas: [{ replicaId: 'replica-1', shards: 256 }],
    });
    await replica.store.upsertPeerAddress(PEER.nodeId, '::1', 9735, 'wanted');
    expect(plain(await manager.listPeers({}))).toMatchObject({
      peers: [{ nodeId: PEER.nodeId, address: '[::1]:9735', connected: false }],
    });
    expect(await manager.listForwards({ limit: 0 })).toEqual({ forwards: [] });
  });
});

test.each([
  { units: ['ecdh'] },
  { units: ['router'] },
  { units: ['claim', 'wallet', 'seal'] },
  { units: [] },
])('a certificate of the units $units moves no money', async ({ units }) => {
  const caller = bench.network.connector('caller', units).client(ManagerServiceService, 'manager');
  const keysend = { payeeNodeId: PAYEE.nodeId, amountMsat: 1_000n, wait: false, idempotencyKey: 'one' };
  for (const call of [
    () => caller.sendKeysend(keysend),
    () => caller.openChannel(OPEN),
    () => caller.trustPeer({ nodeId: PEER.nodeId, zeroConf: true }),
    () => caller.closeChannel({ channelId: new Uint8Array(32), force: true }),
  ])
    await expect(call()).rejects.toMatchObject({
      code: 'permission_denied',
      message: expect.stringContaining('needs a certificate with the unit console'),
    });
  expect([opened, calls]).toEqual([[], []]);
});

describe('payments', () => {
  test('an invoice is made, looked up, listed, and expires', async () => {
    const made = await manager.createInvoice(INVOICE);
    const { bolt11 } = made;
    const paymentHash = Uint8Array.from(made.paymentHash);
    expect(await manager.lookupInvoice({ paymentHash })).toMatchObject({
      bolt11,
      status: 'open',
      amountMsat: 5_000n,
      createdUnixMs: BigInt(START_MS + 20),
    });
    expect(plain(await manager.listInvoices({ limit: 10 }))).toMatchObject({
      invoices: [{ paymentHash, description: 'tea' }],
    });
    bench.runtime.nowMs += 4_000_000;
    expect(await manager.lookupInvoice({ paymentHash })).toMatchObject({ status: 'expired' });
    await expect(manager.lookupPayment({ paymentHash })).rejects.toMatchObject({ code: 'not_found' });
  });

  test('a payment is begun, waited for and listed', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    const { bolt11, paymentHash, preimage } = foreignInvoice(FEATURES, 50_000n);
    expect(
      plain(await manager.sendPayment({ bolt11: `lightning:${bolt11.toUpperCase()}`, wait: false })),
    ).toMatchObject({ status: 'pending', paymentHash, attempts: 1 });
    const waiting = manager.sendPayment({ bolt11, wait: true });
    const intent = await replica.attempt();
    await replica.take(intent);
    await replica.end(intent, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(plain(await waiting)).toMatchObject({ status: 'succeeded', preimage, amountMsat: 50_000n });
    expect(await manager.lookupPayment({ paymentHash })).toMatchObject({ status: 'succeeded' });
    expect(plain(await manager.listPayments({ limit: 0 }))).toMatchObject({
      // A thousand of them must fit into an answer.
      payments: [{ paymentHash, failureReason: '', attempts: 1, attemptRecords: [] }],
    });
    expect((await manager.lookupPayment({ paymentHash })).attemptRecords).toHaveLength(1);
    await expect(manager.lookupInvoice({ paymentHash })).rejects.toMatchObject({ code: 'not_found' });
  });

  test('what belongs to another replica is redirected to it', async () => {
    const { bolt11, paymentHash } = foreignInvoice(FEATURES, 50_000n);
    replica.fences.delete(shardOfPaymentHash(paymentHash));
    const elsewhere = { code: 'failed_precondition', metadata: { 'fulmen-owner-address': 'other:1' } };
    await expect(manager.sendPayment({ bolt11, wait: false })).rejects.toMatchObject(elsewhere);
    const preimage = new Uint8Array(32).fill(8);
    replica.fences.delete(shardOfPaymentHash(sha256(preimage)));
    await expect(manager.createInvoice({ ...INVOICE, preimage })).rejects.toMatchObject(elsewhere);
    await manager.createInvoice(INVOICE);
  });
});

test('bad requests are refused with what to send instead', async () => {
  const refusals: readonly (readonly [Promise<unknown>, string])[] = [
    [manager.connectPeer({ nodeId: new Uint8Array(33), host: 'a', port: 1 }), 'node_id'],
    [manager.connectPeer({ nodeId: NODE.nodeId, host: 'a', port: 1 }), 'own'],
    [manager.connectPeer({ nodeId: PEER.nodeId, host: 'a b', port: 1 }), 'host'],
    [manager.connectPeer({ nodeId: PEER.nodeId, host: 'a', port: 65_536 }), 'port'],
    [manager.disconnectPeer({ nodeId: new Uint8Array(3) }), 'node_id'],
    [manager.openChannel({ ...OPEN, fundingSat: 0n }), 'funding_sat'],
    [manager.openChannel({ ...OPEN, pushMsat: 100_000_001n }), 'push_msat'],
    [manager.openChannel({ ...OPEN, fundingFeerateSatPerKw: 1 }), 'funding_feerate_sat_per_kw'],
    [manager.openChannel({ ...OPEN, idempotencyKey: 'x'.repeat(129) }), 'idempotency_key'],
    [manager.openChannel({ ...OPEN, shutdownScript: new Uint8Array(3) }), 'shutdown_script'],
    [manager.openChannel({ ...OPEN, commitmentFormat: 'taproot' }), 'commitment_format'],
    [manager.openChannel({ ...OPEN, announce: true, scidAlias: true }), 'scid_alias'],
    [manager.trustPeer({ nodeId: new Uint8Array(3), zeroConf: true }), 'node_id'],
    [manager.closeChannel({ channelId: new Uint8Array(31), force: false }), 'channel_id'],
    [
      manager.closeChannel({ channelId: new Uint8Array(32), force: true, scriptPubkey: new Uint8Array(22) }),
      'script_pubkey',
    ],
    [
      manager.closeChannel({ channelId: new Uint8Array(32), force: false, scriptPubkey: new Uint8Array(1) }),
      'script_pubkey',
    ],
    [
      manager.closeChannel({ channelId: new Uint8Array(32), force: true, feerateSatPerKw: 500 }),
      'feerate_sat_per_kw',
    ],
    [
      manager.closeChannel({ channelId: new Uint8Array(32), force: false, maxFeerateSatPerKw: 252 }),
      'max_feerate_sat_per_kw',
    ],
    // "Every channel" is the console's to say: a replica has only some.
    [manager.updateChannelPolicy({ channelId: new Uint8Array(0), feeBaseMsat: 7 }), 'channel_id'],
    [manager.updateChannelPolicy({ channelId: new Uint8Array(32) }), 'nothing to change'],
    // LDK's MIN_CLTV_EXPIRY_DELTA is 48.
    [
      manager.updateChannelPolicy({ channelId: new Uint8Array(32), cltvExpiryDelta: 47 }),
      'cltv_expiry_delta',
    ],
    [
      manager.updateChannelPolicy({
        channelId: new Uint8Array(32),
        htlcMinimumMsat: 5n,
        htlcMaximumMsat: 4n,
      }),
      'htlc_minimum_msat',
    ],
    [manager.createInvoice({ ...INVOICE, amountMsat: 2n ** 64n - 1n }), 'amount_msat'],
    [manager.createInvoice({ ...INVOICE, description: 'é'.repeat(320) }), 'description'],
    [manager.createInvoice({ ...INVOICE, expirySeconds: 0 }), 'expiry_seconds'],
    [manager.createInvoice({ ...INVOICE, preimage: new Uint8Array(31) }), 'preimage'],
    [manager.lookupInvoice({ paymentHash: new Uint8Array(0) }), 'payment_hash'],
    [manager.listInvoices({ limit: 1_001 }), 'limit'],
    [manager.sendPayment({ bolt11: '', wait: false }), 'bolt11'],
    [manager.sendPayment({ bolt11: 'x'.repeat(8_000), wait: false }), 'bolt11'],
    [manager.sendPayment({ bolt11: 'lnbcrt1', timeoutSeconds: 0, wait: false }), 'timeout_seconds'],
    [manager.sendPayment({ bolt11: 'lnbcrt1', amountMsat: 0n, wait: false }), 'amount_msat'],
  ];
  for (const [refusal, word] of refusals)
    await expect(refusal).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining(word),
    });
  expect(calls).toEqual([]);
  expect(opened).toEqual([]);
});

test('a database that is away is said to be away', async () => {
  replica.crash();
  await expect(manager.listPayments({ limit: 1 })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('database'),
  });
});
