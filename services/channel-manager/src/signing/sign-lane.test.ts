/** What goes to the signer in one message, over a transport with its default bounds. */
import type { SignItem } from '@fulmen/proto/signer/v1/signer';
import {
  type CommitmentSignatures,
  type CommitmentSpec,
  SignBatchRequest,
  SignBatchResponse,
  SignerServiceService,
  type SignResult,
} from '@fulmen/proto/signer/v1/signer';
import { grpcConnector, grpcServer, type Handlers } from '@fulmen/rpc';
import { nodeRuntime, silentLogger } from '@fulmen/service';
import { afterEach, expect, test } from 'vitest';
import { bytesBound } from './batches.ts';
import { SignLane } from './sign-lane.ts';

const MOST_HTLCS = 483;
const U64_MAX = (1n << 64n) - 1n;
const U32_MAX = 0xffff_ffff;

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

const specOf = (htlcs: number): CommitmentSpec => ({
  commitmentNumber: U64_MAX,
  feerateSatPerKw: U32_MAX,
  toHolderMsat: U64_MAX,
  toCounterpartyMsat: U64_MAX,
  htlcs: times(htlcs, () => ({
    outbound: true,
    id: U64_MAX,
    amountMsat: U64_MAX,
    paymentHash: new Uint8Array(32).fill(1),
    cltvExpiryHeight: U32_MAX,
  })),
});

const signaturesOf = (htlcs: number): CommitmentSignatures => ({
  fundingTxid: new Uint8Array(32).fill(2),
  signature: new Uint8Array(64).fill(3),
  htlcSignatures: times(htlcs, () => new Uint8Array(64).fill(4)),
});

/** A step as long as its numbers allow, with so many HTLCs on either commitment and so many new onions. */
const itemOf = (index: number, htlcs: number, ecdhs: number): SignItem => ({
  channelKeysId: new Uint8Array(32).fill(index),
  shard: U32_MAX,
  epoch: U64_MAX,
  revocations: times(4, () => ({ commitmentNumber: U64_MAX, secret: new Uint8Array(32).fill(5) })),
  holderCommitment: { spec: specOf(htlcs), signatures: [signaturesOf(htlcs)] },
  releaseSecretNumber: U64_MAX,
  counterpartyCommitment: { spec: specOf(htlcs), perCommitmentPoint: new Uint8Array(33).fill(6) },
  ecdhs: times(ecdhs, () => ({
    publicKey: new Uint8Array(33).fill(7),
    tweak: new Uint8Array(32).fill(8),
  })),
});

/** As long as the signer's answer to such an item is. */
const answerTo = (item: SignItem): SignResult => ({
  outcome: {
    $case: 'success',
    value: {
      releasedSecret: item.channelKeysId,
      firstPointNumber: U64_MAX,
      perCommitmentPoints: times(3, () => new Uint8Array(33).fill(9)),
      signatures: [signaturesOf(item.counterpartyCommitment?.spec?.htlcs.length ?? 0)],
      sharedSecrets: item.ecdhs.map(() => new Uint8Array(32).fill(10)),
    },
  },
});

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

/** A lane to a signer that answers everything; `order` is what it was asked, one entry for each item. */
async function laneToSigner() {
  const order: number[] = [];
  const batches: SignBatchRequest[] = [];
  const server = grpcServer({ listenAddress: '127.0.0.1:0' });
  const handlers: Partial<Handlers<SignerServiceService>> = {
    signBatch: async (stream) => {
      for await (const batch of stream) {
        batches.push(batch);
        order.push(...batch.items.map((item) => item.channelKeysId[0] ?? -1));
        await stream.send({ batchId: batch.batchId, results: batch.items.map(answerTo) });
      }
    },
  };
  // The real one answers certificates only.
  server.add(SignerServiceService, handlers as Handlers<SignerServiceService>, {
    callers: { 'fulmen.signer.v1.SignerService': 'anyone' },
  });
  const address = await server.listen();
  closers.push(() => server.stop(0));
  const connector = grpcConnector();
  closers.push(async () => connector.close());
  const runtime = nodeRuntime({ onFailure: () => undefined });
  const lane = new SignLane(connector.client(SignerServiceService, address), runtime, silentLogger);
  closers.push(() => lane.close());
  return { lane, order, batches };
}

const idsOf = (results: readonly SignResult[]): (number | undefined)[] =>
  results.map(({ outcome }) =>
    outcome?.$case === 'success' ? outcome.value.releasedSecret?.[0] : undefined,
  );

test('64 channels that are full of HTLCs are signed for, and so is a small one after them', async () => {
  const { lane, order } = await laneToSigner();
  const full = times(64, (index) => itemOf(index, MOST_HTLCS, MOST_HTLCS));
  const [answered, small] = await Promise.all([lane.sign(full), lane.sign([itemOf(64, 1, 1)])]);
  expect(idsOf(answered)).toEqual(times(64, (index) => index));
  expect(idsOf(small)).toEqual([64]);
  expect(order).toEqual(times(65, (index) => index));
});

test('small items share one message, and more messages than may be in flight keep their order', async () => {
  const { lane, order, batches } = await laneToSigner();
  await lane.sign(times(64, (index) => itemOf(index, 2, 1)));
  expect(batches.length).toBe(1);
  order.length = 0;
  const answers = await Promise.all(times(200, (index) => lane.sign([itemOf(index, 1, 1)])));
  expect(answers.map((results) => idsOf(results)[0])).toEqual(times(200, (index) => index));
  expect(order).toEqual(times(200, (index) => index));
});

test.each([
  [0, 0],
  [1, 1],
  [MOST_HTLCS, MOST_HTLCS],
  [2 * MOST_HTLCS, 2 * MOST_HTLCS],
])('neither an item with %i HTLCs and %i onions nor its answer is longer than its bound', (htlcs, ecdhs) => {
  const item = itemOf(255, htlcs, ecdhs);
  const bound = bytesBound(item);
  expect(SignBatchRequest.encode({ batchId: U64_MAX, items: [item] }).finish().length).toBeLessThan(bound);
  const results = [answerTo(item)];
  expect(SignBatchResponse.encode({ batchId: U64_MAX, results }).finish().length).toBeLessThan(bound);
  // What any item, however full, takes of a message of 4 MiB.
  expect(bound).toBeLessThan(300_000);
});
