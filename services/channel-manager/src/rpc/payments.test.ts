/** Payments of this node: when none is begun, and what a list of them holds. */
import { FeatureBits } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { ListPaymentsResponse } from '@fulmen/proto/manager/v1/manager';
import { expect, test } from 'vitest';
import { Bench, direct, foreignInvoice, overPeer, PAYEE, PEER, SCID } from '../payments/testing/bench.ts';
import type { ManagerDeps } from './deps.ts';
import { listPayments } from './list-payments.ts';
import { lookupPayment } from './lookup-payment.ts';
import { sendKeysend, sendPayment } from './send-payment.ts';

const FEATURES = FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' });
const CALL = { signal: new AbortController().signal };

async function startNode() {
  const bench = await new Bench().begin();
  const replica = await bench.replica();
  const { hub: payments, store, node } = replica;
  const deps = {
    engine: { requireShard: () => undefined },
    payments,
    store,
    node,
    secp: secp256k1,
    runtime: bench.runtime,
  } as unknown as ManagerDeps;
  return { bench, replica, deps };
}

test('while the chain is not followed no payment is begun, with an invoice or without', async () => {
  const { bench, replica, deps } = await startNode();
  await replica.openChannel(PAYEE.nodeId, SCID);
  bench.route = direct(PAYEE.nodeId);
  const { bolt11, paymentHash } = foreignInvoice(FEATURES, 50_000n);
  const keysend = { payeeNodeId: PAYEE.nodeId, amountMsat: 1_000n, wait: false, idempotencyKey: 'one' };
  bench.chainDoubt = 'the source is silent';
  const refusal = { code: 'unavailable', message: expect.stringContaining('the source is silent') as string };
  await expect(sendPayment(deps, { bolt11, wait: false }, CALL)).rejects.toMatchObject(refusal);
  await expect(sendKeysend(deps, keysend, CALL)).rejects.toMatchObject(refusal);
  expect(await replica.store.listPayments('outbound', 10)).toEqual([]);
  expect(await replica.store.pendingIntents([7], 10)).toEqual([]);
  bench.chainDoubt = undefined;
  await sendPayment(deps, { bolt11, wait: false }, CALL);
  expect(await replica.attempt()).toMatchObject({ paymentHash });
});

test('a list holds nothing of its payments’ HTLCs, however many they were: a thousand payments fit into an answer', async () => {
  const { bench, replica, deps } = await startNode();
  await replica.openChannel(PEER.nodeId, SCID);
  bench.route = overPeer(PAYEE.nodeId, 77n);
  const { bolt11, paymentHash } = foreignInvoice(FEATURES, 50_000n);
  const sizeOfList = async () =>
    ListPaymentsResponse.encode(await listPayments(deps, { limit: 0 })).finish().length;
  await sendPayment(deps, { bolt11, wait: false }, CALL);
  const withOne = await sizeOfList();
  for (let attempt = 0; attempt < 3; attempt++) {
    const intent = await replica.attempt();
    await replica.take(intent);
    await replica.end(intent, { type: 'failed', reason: new Uint8Array(292) });
    await replica.poll(paymentHash);
  }
  expect((await lookupPayment(deps, { paymentHash })).attemptRecords).toHaveLength(4);
  expect((await listPayments(deps, { limit: 0 })).payments).toMatchObject([
    { attempts: 4, attemptRecords: [] },
  ]);
  expect(await sizeOfList()).toBe(withOne);
});
