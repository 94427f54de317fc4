/** Payments and invoices of this node: when none is begun, what a list holds, and what an invoice says. */
import { FeatureBits } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { ListPaymentsResponse } from '@fulmen/proto/manager/v1/manager';
import { decodeInvoice } from '@fulmen/invoice';
import { expect, test } from 'vitest';
import { Bench, direct, foreignInvoice, overPeer, PAYEE, PEER, SCID } from '../payments/testing/bench.ts';
import { createInvoice } from './create-invoice.ts';
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

test('an invoice says what the request asked for: the hash of a description, metadata, and route hints or none', async () => {
  const { replica, deps } = await startNode();
  const unannounced = await replica.openChannel(PEER.nodeId, SCID, { announce: false });
  await replica.tellTerms(unannounced, 77n);
  const paymentMetadata = Uint8Array.of(7, 8);
  const descriptionHash = new Uint8Array(32).fill(6);
  const request = {
    amountMsat: 5_000n,
    description: '',
    descriptionHash,
    paymentMetadata,
    routeHints: 'never',
    idempotencyKey: '',
  };
  const said = async (over: Partial<typeof request>) => {
    const decoded = decodeInvoice(secp256k1, (await createInvoice(deps, { ...request, ...over })).bolt11);
    return decoded.ok ? decoded.value : undefined;
  };
  expect(await said({})).toMatchObject({
    description: { kind: 'hash', hash: descriptionHash },
    paymentMetadata,
    routeHints: [],
  });
  expect((await said({ routeHints: 'always' }))?.routeHints).toHaveLength(1);
  const both = said({ description: 'tea' });
  await expect(both).rejects.toMatchObject({
    code: 'invalid_argument',
    message: 'give description or description_hash, not both',
  });
});
