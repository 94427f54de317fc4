import { decodeFailureMessage } from '@fulmen/onion';
import { decodeInvoice } from '@fulmen/invoice';
import { secp256k1 } from '@fulmen/crypto/default';
import { sha256 } from '@fulmen/crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import type { InvoiceRequest } from './create-invoice.ts';
import { refuseUnknown } from './receive.ts';
import { Bench, HEIGHT, NODE, part, PAYEE, PEER, type Replica } from './testing/bench.ts';

const REQUEST: InvoiceRequest = {
  amountMsat: 10_000n,
  description: 'tea',
  expirySeconds: undefined,
  preimage: undefined,
  idempotencyKey: '',
};

/** The end of an onion without a secret or a preimage. */
const RECEIVE = {
  kind: 'receive',
  amountMsat: 7n,
  cltvExpiryHeight: HEIGHT + 30,
  totalMsat: 7n,
  paymentSecret: undefined,
  paymentMetadata: undefined,
  keysendPreimage: undefined,
  customTlvs: [],
} as const;

let bench: Bench;
let replica: Replica;
beforeEach(async () => {
  bench = await new Bench().begin();
  replica = await bench.replica();
});

async function invoice(
  over: Partial<InvoiceRequest> = {},
): Promise<{ paymentHash: Uint8Array; paymentSecret: Uint8Array; bolt11: string }> {
  const { bolt11, paymentHash } = await replica.hub.createInvoice({ ...REQUEST, ...over });
  const decoded = decodeInvoice(secp256k1, bolt11);
  if (!decoded.ok) throw new TypeError(`an invoice that nobody can read: ${decoded.error.kind}`);
  return { paymentHash, paymentSecret: decoded.value.paymentSecret, bolt11 };
}

async function failureOf(htlcId: bigint): Promise<string | undefined> {
  const outcome = await replica.resolutionOf({ type: 'htlc', channelId: new Uint8Array(32), htlcId });
  return outcome?.type === 'failed_here' ? decodeFailureMessage(outcome.failure)?.kind : outcome?.type;
}

describe('invoices', () => {
  test('say what was asked for, and are signed by the node', async () => {
    const { bolt11, paymentHash } = await invoice();
    const decoded = decodeInvoice(secp256k1, bolt11);
    if (!decoded.ok) throw new TypeError(decoded.error.kind);
    expect(decoded.value.payeeNodeId).toEqual(NODE.nodeId);
    expect(decoded.value.paymentHash).toEqual(paymentHash);
    expect(decoded.value).toMatchObject({
      amountMsat: 10_000n,
      minFinalCltvExpiryDelta: 42,
      currency: 'bcrt',
      description: { kind: 'text', text: 'tea' },
    });
    expect(decoded.value.routeHints).toEqual([]);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      type: 'inbound',
      status: 'open',
      bolt11,
      amountMsat: 10_000n,
    });
  });

  test('tell of unannounced channels where no announced one can receive as much, or as asked', async () => {
    const hintsOf = async (over: Partial<InvoiceRequest>): Promise<readonly unknown[]> => {
      const decoded = decodeInvoice(secp256k1, (await invoice(over)).bolt11);
      return decoded.ok ? decoded.value.routeHints : [];
    };
    await replica.openChannel(PAYEE.nodeId, 4n, { inboundCapacityMsat: 5_000n });
    const privately = await replica.openChannel(PEER.nodeId, 5n, { announce: false });
    expect(await hintsOf({ routeHints: 'always' })).toEqual([]);
    await replica.tellTerms(privately, 77n);
    const hint = {
      nodeId: PEER.nodeId,
      shortChannelId: 77n,
      feeBaseMsat: 1,
      feeProportionalMillionths: 2,
      cltvExpiryDelta: 40,
    };
    expect(await hintsOf({})).toEqual([[hint]]);
    expect(await hintsOf({ amountMsat: 5_000n })).toEqual([]);
    expect(await hintsOf({ amountMsat: undefined })).toEqual([]);
    expect(await hintsOf({ amountMsat: 5_000n, routeHints: 'always' })).toEqual([[hint]]);
    expect(await hintsOf({ routeHints: 'never' })).toEqual([]);
    expect(await hintsOf({ amountMsat: 400_000_000n, routeHints: 'always' })).toEqual([]);
  });

  test('one idempotency key is one invoice, before and after a restart', async () => {
    const first = await invoice({ idempotencyKey: 'order 1' });
    expect(await replica.hub.createInvoice({ ...REQUEST, idempotencyKey: 'order 1' })).toMatchObject({
      bolt11: first.bolt11,
    });
    replica.crash();
    replica = await bench.replica();
    expect(await replica.hub.createInvoice({ ...REQUEST, idempotencyKey: 'order 1' })).toMatchObject({
      bolt11: first.bolt11,
    });
    await expect(
      replica.hub.createInvoice({ ...REQUEST, amountMsat: 5n, idempotencyKey: 'order 1' }),
    ).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  test('a preimage is used once', async () => {
    const preimage = new Uint8Array(32).fill(5);
    expect((await invoice({ preimage })).paymentHash).toEqual(sha256(preimage));
    await expect(replica.hub.createInvoice({ ...REQUEST, preimage })).rejects.toMatchObject({
      code: 'already_exists',
    });
  });

  test('a drawn preimage lies in an owned shard; a given one elsewhere is redirected', async () => {
    for (const shard of replica.fences.keys()) if (shard !== 42) replica.fences.delete(shard);
    await invoice();
    await expect(
      replica.hub.createInvoice({ ...REQUEST, preimage: new Uint8Array(32).fill(5) }),
    ).rejects.toMatchObject({ name: 'ShardElsewhereError' });
    replica.fences.clear();
    await expect(replica.hub.createInvoice(REQUEST)).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('an unpaid invoice expires, and is refused from then on', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    bench.runtime.nowMs += 3_600_000;
    await replica.tick(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'expired' });
    expect(replica.hub.size).toBe(0);
    await replica.write({
      intents: [part(paymentHash, { htlcId: 1n, amountMsat: 10_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('incorrect_or_unknown_payment_details');
  });

  test('only invoices are known to a final HTLC', async () => {
    const { paymentHash } = await invoice();
    const htlc = { paymentHash, amountMsat: 7n, cltvExpiryHeight: HEIGHT + 80 };
    const circumstances = { keysend: 'accepted', blockHeight: HEIGHT } as const;
    expect(await refuseUnknown(replica.store, htlc, RECEIVE, circumstances)).toBeUndefined();
    const unknown = { ...htlc, paymentHash: new Uint8Array(32) };
    expect(await refuseUnknown(replica.store, unknown, RECEIVE, circumstances)).toEqual({
      kind: 'incorrect_or_unknown_payment_details',
      htlcMsat: 7n,
      height: HEIGHT,
    });
  });

  test('a description may be given by its hash, and payers must give metadata back', async () => {
    const descriptionHash = sha256(Uint8Array.of(1));
    const paymentMetadata = Uint8Array.of(7, 8, 9);
    const { bolt11, paymentHash, paymentSecret } = await invoice({
      description: '',
      descriptionHash,
      paymentMetadata,
    });
    const decoded = decodeInvoice(secp256k1, bolt11);
    if (!decoded.ok) throw new TypeError(decoded.error.kind);
    expect(decoded.value).toMatchObject({
      description: { kind: 'hash', hash: descriptionHash },
      paymentMetadata,
    });
    expect(decoded.value.features.has('payment_metadata')).toBe(true);
    const options = { amountMsat: 10_000n, totalMsat: 10_000n, paymentSecret };
    // After a restart, from the store.
    replica.crash();
    replica = await bench.replica();
    await replica.write({
      intents: [
        part(paymentHash, { ...options, htlcId: 1n }),
        part(paymentHash, { ...options, htlcId: 2n, paymentMetadata: Uint8Array.of(7, 8) }),
        part(paymentHash, { ...options, htlcId: 3n, paymentMetadata }),
      ],
    });
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('incorrect_or_unknown_payment_details');
    expect(await failureOf(2n)).toBe('incorrect_or_unknown_payment_details');
    expect(await failureOf(3n)).toBe('fulfilled');
  });

  test('one idempotency key tells description hashes apart', async () => {
    const request = { ...REQUEST, description: '', idempotencyKey: 'order 2' };
    await replica.hub.createInvoice({ ...request, descriptionHash: new Uint8Array(32) });
    await expect(
      replica.hub.createInvoice({ ...request, descriptionHash: new Uint8Array(32).fill(1) }),
    ).rejects.toMatchObject({ code: 'invalid_argument' });
  });
});

describe('without an invoice', () => {
  const preimage = new Uint8Array(32).fill(77);
  const paymentHash = sha256(preimage);
  const keysend = (htlcId: bigint, over: Partial<Parameters<typeof part>[1]> = {}): ReturnType<typeof part> =>
    part(paymentHash, {
      htlcId,
      amountMsat: 9_000n,
      totalMsat: 9_000n,
      paymentSecret: undefined,
      keysendPreimage: preimage,
      ...over,
    });

  test('a keysend is stored and claimed by one commit, once', async () => {
    const customRecords = [
      { type: 19n, value: Uint8Array.of(1) },
      { type: 65_537n, value: Uint8Array.of(2, 3) },
    ];
    await replica.write({ intents: [keysend(1n, { unknownTlvs: customRecords }), keysend(2n)] });
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('fulfilled');
    expect(await failureOf(2n)).toBe('incorrect_or_unknown_payment_details');
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      type: 'inbound',
      status: 'paid',
      bolt11: '',
      receivedMsat: 9_000n,
    });
    expect(replica.delivered[0]?.preimages[0]?.preimage).toEqual(preimage);
    const [event] = replica.delivered[0]?.events ?? [];
    expect(JSON.parse(event?.body ?? '{}')).toMatchObject({
      amountMsat: '9000',
      origin: 'keysend',
      customRecords: [{ type: '65537', value: '0203' }],
    });
    expect(await replica.events()).toEqual(['payment_claimed']);
    expect(replica.hub.size).toBe(0);
  });

  test('while the chain is in doubt a keysend waits, then fails, and leaves no payment behind', async () => {
    bench.chainDoubt = 'the source is silent';
    await replica.write({ intents: [keysend(1n)] });
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBeUndefined();
    bench.runtime.nowMs += 20_000;
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('temporary_node_failure');
    expect(await replica.store.getPayment(paymentHash)).toBeUndefined();
    bench.chainDoubt = undefined;
    await replica.write({ intents: [keysend(2n)] });
    await replica.poll(paymentHash);
    expect(await failureOf(2n)).toBe('fulfilled');
  });

  test('one with another preimage, one that expires too soon and one without a preimage are not taken', async () => {
    await replica.write({
      intents: [
        keysend(1n, { keysendPreimage: new Uint8Array(32).fill(78) }),
        keysend(2n, { cltvExpiryHeight: HEIGHT + 5 }),
        keysend(3n, { keysendPreimage: undefined }),
      ],
    });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toBeUndefined();
  });

  test('the channel lets in what brings its preimage in time, and nothing when keysend is refused', async () => {
    const htlc = { paymentHash, amountMsat: 7n, cltvExpiryHeight: HEIGHT + 80 };
    const refused = { kind: 'incorrect_or_unknown_payment_details', htlcMsat: 7n, height: HEIGHT };
    const accepts = { keysend: 'accepted', blockHeight: HEIGHT } as const;
    const instruction = { ...RECEIVE, keysendPreimage: preimage };
    const { store } = replica;
    expect(await refuseUnknown(store, htlc, instruction, accepts)).toBeUndefined();
    expect(await refuseUnknown(store, htlc, instruction, { ...accepts, keysend: 'refused' })).toEqual(
      refused,
    );
    expect(await refuseUnknown(store, htlc, RECEIVE, accepts)).toEqual(refused);
    expect(
      await refuseUnknown(store, htlc, { ...RECEIVE, keysendPreimage: new Uint8Array(32) }, accepts),
    ).toEqual(refused);
    expect(
      await refuseUnknown(store, { ...htlc, cltvExpiryHeight: HEIGHT + 39 }, instruction, accepts),
    ).toEqual(refused);
  });
});

describe('receiving', () => {
  test('one part is claimed by one commit, with its preimage', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 1n, amountMsat: 10_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('fulfilled');
    const claim = replica.delivered.at(-1);
    expect(claim).toMatchObject({
      intentClaims: [{ outcome: 'taken' }],
      resolutions: [{ sourceShard: 3, outcome: { type: 'fulfilled' } }],
    });
    const preimage = claim?.preimages[0]?.preimage;
    if (preimage === undefined) throw new TypeError('no preimage row');
    expect(sha256(preimage)).toEqual(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'paid',
      receivedMsat: 10_000n,
    });
    expect(await replica.events()).toEqual(['payment_claimed']);
    expect(replica.hub.size).toBe(0);
  });

  test('two parts are held until they make the total, however often each is offered', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    const first = part(paymentHash, { htlcId: 1n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret });
    await replica.write({ intents: [first] });
    await replica.poll(paymentHash);
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBeUndefined();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 2n, amountMsat: 6_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect([await failureOf(1n), await failureOf(2n)]).toEqual(['fulfilled', 'fulfilled']);
    expect(replica.delivered.at(-1)?.preimages).toHaveLength(2);
    // A repetition that was read before the claim.
    replica.hub.onIntent(first);
    await replica.settle(paymentHash);
    expect(await failureOf(1n)).toBe('fulfilled');
    expect(replica.dropped).toEqual([]);
  });

  test('a crash between two parts loses neither', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 1n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    replica.crash();
    replica = await bench.replica();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 2n, amountMsat: 6_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect([await failureOf(1n), await failureOf(2n)]).toEqual(['fulfilled', 'fulfilled']);
  });

  test('a wrong secret is refused alone, and the right part still counts', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    await replica.write({
      intents: [
        part(paymentHash, { htlcId: 1n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret }),
        part(paymentHash, {
          htlcId: 2n,
          amountMsat: 6_000n,
          totalMsat: 10_000n,
          paymentSecret: new Uint8Array(32),
        }),
      ],
    });
    await replica.poll(paymentHash);
    expect([await failureOf(1n), await failureOf(2n)]).toEqual([
      undefined,
      'incorrect_or_unknown_payment_details',
    ]);
    await replica.write({
      intents: [part(paymentHash, { htlcId: 3n, amountMsat: 6_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect([await failureOf(1n), await failureOf(3n)]).toEqual(['fulfilled', 'fulfilled']);
  });

  test('too little, too late and a second payment are refused', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    const offer = { amountMsat: 10_000n, totalMsat: 10_000n, paymentSecret };
    await replica.write({
      intents: [
        part(paymentHash, { ...offer, htlcId: 1n, amountMsat: 9_999n, totalMsat: 9_999n }),
        part(paymentHash, { ...offer, htlcId: 2n, cltvExpiryHeight: HEIGHT + 41 }),
        part(paymentHash, { ...offer, htlcId: 3n }),
        part(paymentHash, { ...offer, htlcId: 4n }),
      ],
    });
    await replica.poll(paymentHash);
    const unknown = 'incorrect_or_unknown_payment_details';
    expect([await failureOf(1n), await failureOf(2n), await failureOf(3n), await failureOf(4n)]).toEqual([
      unknown,
      unknown,
      'fulfilled',
      unknown,
    ]);
    await replica.write({ intents: [part(paymentHash, { ...offer, htlcId: 5n })] });
    await replica.poll(paymentHash);
    expect(await failureOf(5n)).toBe(unknown);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'paid',
      receivedMsat: 10_000n,
    });
  });

  test('parts that wait for others too long are failed with mpp_timeout', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 1n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    bench.runtime.nowMs += 59_000;
    await replica.tick(paymentHash);
    expect(await failureOf(1n)).toBeUndefined();
    bench.runtime.nowMs += 1_000;
    await replica.tick(paymentHash);
    expect(await failureOf(1n)).toBe('mpp_timeout');
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'open' });
  });

  test('while the chain is in doubt parts wait, and are claimed when it is followed again', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    const offer = { amountMsat: 10_000n, totalMsat: 10_000n, paymentSecret };
    bench.chainDoubt = '15 blocks are to be processed';
    await replica.write({ intents: [part(paymentHash, { ...offer, htlcId: 1n })] });
    await replica.poll(paymentHash);
    bench.runtime.nowMs += 19_000;
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBeUndefined();
    bench.chainDoubt = undefined;
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('fulfilled');
  });

  test('a doubt that lasts fails them, and leaves the parts from before to their time-out', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    const offer = { amountMsat: 5_000n, totalMsat: 10_000n, paymentSecret };
    await replica.write({ intents: [part(paymentHash, { ...offer, htlcId: 1n })] });
    await replica.poll(paymentHash);
    bench.chainDoubt = 'the source is silent';
    await replica.write({ intents: [part(paymentHash, { ...offer, htlcId: 2n })] });
    bench.runtime.nowMs += 20_000;
    await replica.poll(paymentHash);
    expect([await failureOf(1n), await failureOf(2n)]).toEqual([undefined, 'temporary_node_failure']);
    bench.runtime.nowMs += 40_000;
    await replica.tick(paymentHash);
    expect(await failureOf(1n)).toBe('mpp_timeout');
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'open' });
  });

  test('a set is failed when blocks bring its expiry too near', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 1n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    replica.node.blockHeight = HEIGHT + 50;
    await replica.tick(paymentHash);
    expect(await failureOf(1n)).toBe('incorrect_or_unknown_payment_details');
  });

  test('a part that its channel timed out first is left out of the claim', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    const gone = part(paymentHash, { htlcId: 1n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret });
    await replica.write({ intents: [gone] });
    await replica.poll(paymentHash);
    await replica.write({ intentClaims: [{ source: gone.source, outcome: 'cancelled' }] });
    await replica.write({
      intents: [part(paymentHash, { htlcId: 2n, amountMsat: 6_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'open' });
    await replica.write({
      intents: [part(paymentHash, { htlcId: 3n, amountMsat: 4_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await replica.poll(paymentHash);
    expect([await failureOf(1n), await failureOf(2n), await failureOf(3n)]).toEqual([
      undefined,
      'fulfilled',
      'fulfilled',
    ]);
  });

  test('an owner that was replaced claims nothing', async () => {
    const { paymentHash, paymentSecret } = await invoice();
    const old = replica;
    replica = await bench.replica();
    await replica.write({
      intents: [part(paymentHash, { htlcId: 1n, amountMsat: 10_000n, totalMsat: 10_000n, paymentSecret })],
    });
    await old.poll(paymentHash);
    expect(old.dropped).toHaveLength(1);
    expect(await failureOf(1n)).toBeUndefined();
    await replica.poll(paymentHash);
    expect(await failureOf(1n)).toBe('fulfilled');
  });
});
