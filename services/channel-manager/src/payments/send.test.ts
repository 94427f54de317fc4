import { FeatureBits } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import {
  decodeHopPayload,
  encodeFailureMessage,
  onionSharedSecrets,
  peelOnion,
  wrapAgain,
  wrapFailure,
} from '@fulmen/onion';
import { type Intent, StoreError } from '@fulmen/store';
import { beforeEach, describe, expect, test } from 'vitest';
import { decodePaymentRecord } from './codec.ts';
import { outboundRow, type OutboundRow } from './record.ts';
import {
  Bench,
  direct,
  foreignInvoice,
  HEIGHT,
  NO_ROUTE,
  NODE,
  overPeer,
  PAYEE,
  PEER,
  type Replica,
  SCID,
} from './testing/bench.ts';
import { shardOfPaymentHash } from '../lease/placement.ts';
import { storedPaymentMessage } from '../rpc/payment-message.ts';

const FEATURES = FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' });
const { bolt11, preimage, paymentHash } = foreignInvoice(FEATURES, 50_000n);
const SEND = { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: undefined };
const SECOND_SCID = 77n;
const OWN_NODE_ID = new Uint8Array(33).fill(3);

let bench: Bench;
let replica: Replica;
beforeEach(async () => {
  bench = await new Bench().begin();
  replica = await bench.replica();
});

/** The secrets that the hops of an attempt share with us. */
async function secretsOf(nodeIds: readonly Uint8Array[], hash = paymentHash): Promise<Uint8Array[]> {
  const fence = replica.fences.get(shardOfPaymentHash(hash));
  const loaded = fence === undefined ? undefined : await replica.store.loadPayment(fence, hash);
  const record = loaded === undefined ? undefined : decodePaymentRecord(loaded.state);
  if (record?.ok !== true || record.value.kind !== 'outbound' || record.value.state.type !== 'in_flight')
    throw new TypeError('nothing is in flight');
  const [attempt] = record.value.state.parts;
  if (attempt === undefined) throw new TypeError('no part is in flight');
  return onionSharedSecrets(secp256k1, attempt.sessionKey, nodeIds);
}

async function inFlight(): Promise<Intent> {
  const intent = await replica.attempt();
  await replica.take(intent);
  return intent;
}

async function sendRow(sender: Replica): Promise<OutboundRow> {
  return outboundRow((await sender.hub.sendPayment(SEND)).record);
}

describe('sending', () => {
  test('to a direct peer: the attempt is written before anybody can add it', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    const row = await sendRow(replica);
    expect(row).toMatchObject({ status: 'pending', amountMsat: 50_000n, attempts: 1, bolt11 });
    expect(bench.routeRequests[0]).toMatchObject({
      amountMsat: 50_000n,
      maxFeeMsat: 10_000n,
      currentHeight: HEIGHT,
      firstHops: [{ shortChannelId: SCID, outboundCapacityMsat: 590_000_000n }],
    });
    const intent = await inFlight();
    expect(intent).toMatchObject({
      target: { type: 'scid', shortChannelId: SCID },
      targetShard: 7,
      incomingAmountMsat: 50_000n,
      outgoingAmountMsat: 50_000n,
    });
    const peeled = peelOnion(
      secp256k1,
      intent.onion,
      (await secretsOf([PAYEE.nodeId]))[0] ?? new Uint8Array(),
      paymentHash,
    );
    const payload = peeled.ok ? decodeHopPayload(peeled.value.payload) : undefined;
    expect(payload?.ok === true && payload.value.tlvs).toMatchObject({
      amtToForwardMsat: 50_000n,
      paymentData: { totalMsat: 50_000n },
    });

    const waiting = replica.hub.waitFor(paymentHash).then(outboundRow);
    await replica.end(intent, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await waiting).toMatchObject({ status: 'succeeded', preimage, feeMsat: 0n });
    expect(await replica.events()).toEqual(['payment_sent']);
    expect(replica.hub.size).toBe(0);
    expect(bench.reports).toMatchObject([{ outcome: { $case: 'success' } }]);
  });

  test('without an invoice: the onion brings the preimage, and one key is one payment', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    const request = {
      payee: PAYEE.nodeId,
      amountMsat: 50_000n,
      maxFeeMsat: undefined,
      timeoutSeconds: undefined,
      idempotencyKey: 'tip 1',
    };
    const { record, paymentHash: hash } = await replica.hub.sendKeysend(request);
    expect(outboundRow(record)).toMatchObject({ status: 'pending', amountMsat: 50_000n, bolt11: '' });
    expect((await replica.hub.sendKeysend(request)).paymentHash).toEqual(hash);
    const intent = await inFlight();
    expect(intent.outgoingCltvExpiryHeight).toBe(HEIGHT + 80);
    const [secret = new Uint8Array()] = await secretsOf([PAYEE.nodeId], hash);
    const peeled = peelOnion(secp256k1, intent.onion, secret, hash);
    const payload = peeled.ok ? decodeHopPayload(peeled.value.payload) : undefined;
    const tlvs = payload?.ok === true ? payload.value.tlvs : {};
    expect(tlvs.paymentData).toBeUndefined();
    expect(sha256(tlvs.keysendPreimage ?? new Uint8Array())).toEqual(hash);

    await replica.end(intent, { type: 'fulfilled', preimage: tlvs.keysendPreimage ?? new Uint8Array() });
    await replica.poll(hash);
    expect(outboundRow((await replica.hub.sendKeysend(request)).record)).toMatchObject({
      status: 'succeeded',
    });
    for (const other of [{ amountMsat: 1n }, { payee: PEER.nodeId }])
      await expect(replica.hub.sendKeysend({ ...request, ...other })).rejects.toMatchObject({
        code: 'invalid_argument',
      });
    await expect(replica.hub.sendKeysend({ ...request, payee: NODE.nodeId })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
  });

  test('a second request returns the payment that there is', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    const [first, second] = await Promise.all([replica.hub.sendPayment(SEND), replica.hub.sendPayment(SEND)]);
    expect(second.record).toEqual(first.record);
    const intent = await inFlight();
    await replica.end(intent, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await sendRow(replica)).toMatchObject({ status: 'succeeded' });
    expect(outboundRow(await replica.hub.waitFor(paymentHash))).toMatchObject({ status: 'succeeded' });
    // Even when the invoice could not be paid any more.
    bench.runtime.nowMs += 10_000_000;
    expect(await sendRow(replica)).toMatchObject({ status: 'succeeded' });
  });

  test('a failure on the way is learnt from, and another route is tried', async () => {
    await replica.openChannel(PEER.nodeId, SCID);
    bench.route = overPeer(PAYEE.nodeId, SECOND_SCID);
    await replica.hub.sendPayment(SEND);
    const first = await inFlight();
    const [secret] = await secretsOf([PEER.nodeId, PAYEE.nodeId]);
    const failure = { kind: 'temporary_channel_failure', channelUpdate: new Uint8Array(0) } as const;
    bench.route = overPeer(PAYEE.nodeId, SECOND_SCID + 1n);
    await replica.end(first, { type: 'failed', reason: wrapFailure(secret ?? new Uint8Array(), failure) });
    await replica.poll(paymentHash);
    expect(bench.routeRequests[1]?.avoid).toMatchObject([{ shortChannelId: SECOND_SCID }]);
    expect(bench.reports).toMatchObject([
      { outcome: { $case: 'failure', value: { hopIndex: 0, failureCode: 0x1007 } } },
    ]);
    const second = await inFlight();
    expect(second.source).not.toEqual(first.source);
    expect(second.onion).not.toEqual(first.onion);
    await replica.end(second, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'succeeded',
      attempts: 2,
      feeMsat: 1_000n,
    });
    // Whoever asks hears which node said what of which channel.
    const state = await replica.store.getPaymentState(paymentHash);
    const shown = storedPaymentMessage(paymentHash, state ?? new Uint8Array(), OWN_NODE_ID);
    expect(shown?.attemptRecords).toMatchObject([
      {
        attemptNumber: 1,
        status: 'failed',
        feeMsat: 1_000n,
        route: [
          { nodeId: PEER.nodeId, shortChannelId: SCID, amountMsat: 51_000n },
          { nodeId: PAYEE.nodeId, shortChannelId: SECOND_SCID, amountMsat: 50_000n },
        ],
        failure: {
          code: 'temporary_channel_failure',
          failureCode: 0x1007,
          nodeId: PEER.nodeId,
          sourceIndex: 1,
          shortChannelId: SECOND_SCID,
        },
      },
      { attemptNumber: 2, status: 'succeeded', amountMsat: 50_000n, failure: undefined },
    ]);
  });

  test('terms that come with a failure are told to the router before it is asked for the next route', async () => {
    await replica.openChannel(PEER.nodeId, SCID);
    bench.reportTurns = 50;
    const reportsAtRequest: number[] = [];
    bench.route = (request) => {
      reportsAtRequest.push(bench.reports.length);
      return overPeer(PAYEE.nodeId, SECOND_SCID)(request);
    };
    await replica.hub.sendPayment(SEND);
    const first = await inFlight();
    const [secret] = await secretsOf([PEER.nodeId, PAYEE.nodeId]);
    const channelUpdate = new Uint8Array(136).fill(1);
    const failure = { kind: 'fee_insufficient', htlcMsat: 51_000n, channelUpdate } as const;
    await replica.end(first, { type: 'failed', reason: wrapFailure(secret ?? new Uint8Array(), failure) });
    await replica.poll(paymentHash);
    expect(reportsAtRequest).toEqual([0, 1]);
    const [report] = bench.reports;
    expect(report?.outcome).toMatchObject({ value: { hopIndex: 0, failureCode: 0x100c } });
    expect(report?.outcome?.$case === 'failure' && report.outcome.value.channelUpdate).toHaveLength(136);
  });

  test('the payee’s refusal ends the payment, and it may be tried anew', async () => {
    await replica.openChannel(PEER.nodeId, SCID);
    bench.route = overPeer(PAYEE.nodeId, SECOND_SCID);
    await replica.hub.sendPayment(SEND);
    const waiting = replica.hub.waitFor(paymentHash).then(outboundRow);
    const intent = await inFlight();
    const [first, last] = await secretsOf([PEER.nodeId, PAYEE.nodeId]);
    const refused = wrapFailure(last ?? new Uint8Array(), {
      kind: 'incorrect_or_unknown_payment_details',
      htlcMsat: 50_000n,
      height: HEIGHT,
    });
    await replica.end(intent, { type: 'failed', reason: wrapAgain(first ?? new Uint8Array(), refused) });
    await replica.poll(paymentHash);
    expect(await waiting).toMatchObject({ status: 'failed', failureReason: 'recipient_rejected' });
    expect(await replica.events()).toEqual(['payment_failed']);
    expect(await sendRow(replica)).toMatchObject({ status: 'pending', attempts: 1 });
  });

  test('a first channel that cannot take it is avoided', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = (request) =>
      request.avoid.length === 0 ? direct(PAYEE.nodeId)(request) : { ...NO_ROUTE, failure: 'fee_limit' };
    await replica.hub.sendPayment(SEND);
    const intent = await inFlight();
    await replica.end(intent, {
      type: 'failed_here',
      failure: encodeFailureMessage({ kind: 'unknown_next_peer' }),
    });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'failed',
      failureReason: 'fee_limit',
      attempts: 1,
    });
    const state = await replica.store.getPaymentState(paymentHash);
    expect(
      storedPaymentMessage(paymentHash, state ?? new Uint8Array(), OWN_NODE_ID)?.attemptRecords,
    ).toMatchObject([
      {
        status: 'failed',
        failure: { code: 'unknown_next_peer', nodeId: OWN_NODE_ID, sourceIndex: 0, shortChannelId: SCID },
      },
    ]);
  });

  test('a preimage that replaces a failure while that is used wins', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    await replica.hub.sendPayment(SEND);
    const intent = await inFlight();
    const failed = {
      type: 'failed_here',
      failure: encodeFailureMessage({ kind: 'temporary_node_failure' }),
    } as const;
    await replica.end(intent, failed);
    await replica.end(intent, { type: 'fulfilled', preimage });
    // What was read before the preimage came.
    replica.hub.onResolution({ source: intent.source, sourceShard: intent.sourceShard, outcome: failed });
    await replica.settle(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'succeeded', preimage });
  });

  test('an attempt in flight is waited for across a restart', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    await replica.hub.sendPayment(SEND);
    const intent = await inFlight();
    replica.crash();
    replica = await bench.replica();
    bench.runtime.nowMs += 1_000_000;
    await replica.tick(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'pending' });
    await replica.end(intent, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'succeeded', preimage });
  });

  test('the outcome of a commit is unknown: the shard is dropped, and whoever waits hears it', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    await replica.hub.sendPayment(SEND);
    const heard = replica.hub.waitFor(paymentHash).catch((error: unknown) => error);
    const intent = await inFlight();
    await replica.end(intent, { type: 'fulfilled', preimage });
    // Another replica takes over; this one does not know yet.
    const next = await bench.replica();
    await replica.poll(paymentHash);
    expect(await heard).toMatchObject({ code: 'unavailable' });
    expect(replica.dropped).toHaveLength(1);
    await next.poll(paymentHash);
    expect(await next.store.getPayment(paymentHash)).toMatchObject({ status: 'succeeded' });
  });

  test('an attempt that no channel takes is taken back, and one that a channel took is not', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = (request) => (request.avoid.length === 0 ? direct(PAYEE.nodeId)(request) : NO_ROUTE);
    await replica.hub.sendPayment(SEND);
    bench.runtime.nowMs += 30_000;
    await replica.tick(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'failed',
      failureReason: 'no_route',
    });
    expect(await replica.store.pendingIntents([7], 10)).toEqual([]);

    await replica.hub.sendPayment(SEND);
    const intent = await inFlight();
    bench.runtime.nowMs += 30_000;
    await replica.tick(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'pending' });
    await replica.end(intent, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'succeeded' });
  });

  test('an attempt whose taking back was cut short is taken back at the next tick', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    await replica.openChannel(PAYEE.nodeId, SCID + 1n);
    bench.route = (request) => {
      const found = direct(PAYEE.nodeId)(request);
      const shortChannelId = request.avoid.length === 0 ? SCID : SCID + 1n;
      return { ...found, hops: found.hops.map((hop) => ({ ...hop, shortChannelId })) };
    };
    await replica.hub.sendPayment(SEND);
    const first = await replica.attempt();
    bench.runtime.nowMs += 30_000;
    const { shardOfScid } = replica.store;
    replica.store.shardOfScid = () => Promise.reject(new StoreError('unavailable', 'away for a moment'));
    await replica.tick(paymentHash);
    expect(await replica.attempt()).toEqual(first);
    replica.store.shardOfScid = (scid) => shardOfScid.call(replica.store, scid);
    await replica.tick(paymentHash);
    expect(await replica.attempt()).toMatchObject({ target: { shortChannelId: SCID + 1n } });
  });

  test('the answer to a commit that comes after its shard was loaded anew changes nothing there', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    const { commitSteps } = replica.store;
    const answered = Promise.withResolvers<undefined>();
    replica.store.commitSteps = async (units) => {
      const verdicts = await commitSteps.call(replica.store, units);
      await answered.promise;
      return verdicts;
    };
    const begun = replica.hub.sendPayment(SEND).catch(() => undefined);
    while ((await replica.store.pendingIntents([7], 10)).length === 0)
      await new Promise((resolve) => setImmediate(resolve));
    replica.store.commitSteps = (units) => commitSteps.call(replica.store, units);
    await replica.load();
    answered.resolve(undefined);
    await begun;
    const intent = await replica.attempt();
    await replica.take(intent);
    await replica.end(intent, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'succeeded' });
  });

  test('while the router is away a payment waits, and fails at its deadline', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.routerIsAway = true;
    const row = await sendRow(replica);
    expect(row).toMatchObject({ status: 'pending', attempts: 0 });
    replica.crash();
    replica = await bench.replica();
    bench.routerIsAway = false;
    bench.route = direct(PAYEE.nodeId);
    await replica.tick(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'pending', attempts: 1 });

    const other = foreignInvoice(FEATURES, 1_000n, 2);
    bench.routerIsAway = true;
    await replica.hub.sendPayment({ ...SEND, bolt11: other.bolt11 });
    bench.runtime.nowMs += 60_000;
    await replica.tick(other.paymentHash);
    expect(await replica.store.getPayment(other.paymentHash)).toMatchObject({
      status: 'failed',
      failureReason: 'timeout',
    });
  });

  test('what cannot be paid is refused with a reason', async () => {
    expect(await sendRow(replica)).toMatchObject({
      status: 'failed',
      failureReason: 'insufficient_outbound',
    });
    const open = foreignInvoice(FEATURES, undefined, 3);
    await expect(replica.hub.sendPayment({ ...SEND, bolt11: open.bolt11 })).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('amount_msat'),
    });
    await expect(replica.hub.sendPayment({ ...SEND, bolt11: 'lnbcrt1nonsense' })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    const own = await replica.hub.createInvoice({
      amountMsat: 1n,
      description: '',
      expirySeconds: undefined,
      preimage: undefined,
      idempotencyKey: '',
    });
    await expect(replica.hub.sendPayment({ ...SEND, bolt11: own.bolt11 })).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('own'),
    });
    await expect(replica.hub.waitFor(new Uint8Array(32))).rejects.toMatchObject({ code: 'not_found' });
    bench.runtime.nowMs += 10_000_000;
    await expect(
      replica.hub.sendPayment({ ...SEND, bolt11: foreignInvoice(FEATURES, 5n, 4).bolt11 }),
    ).rejects.toMatchObject({ message: expect.stringContaining('expired') });
  });

  test('a caller that stops waiting leaves the payment alone', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID);
    bench.route = direct(PAYEE.nodeId);
    await replica.hub.sendPayment(SEND);
    const caller = new AbortController();
    const heard = replica.hub.waitFor(paymentHash, caller.signal).catch((error: unknown) => error);
    await replica.settle(paymentHash);
    caller.abort();
    expect(await heard).toMatchObject({ code: 'cancelled' });
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'pending' });
  });
});
