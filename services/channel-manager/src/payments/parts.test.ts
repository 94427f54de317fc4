/** Payments in parts: what is sent, learnt and told, and that no crash or order of events pays twice or tells wrongly. */
import { equalBytes, FeatureBits, toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { NetworkGraph } from '@fulmen/graph';
import {
  decodeHopPayload,
  encodeFailureMessage,
  type FailureMessage,
  onionSharedSecrets,
  peelOnion,
  wrapFailure,
} from '@fulmen/onion';
import { directedKey, findRoutes, partsInFlight, type Route } from '@fulmen/payment';
import type { FindRouteRequest, FindRouteResponse } from '@fulmen/proto/router/v1/router';
import type { Intent } from '@fulmen/store';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { shardOfPaymentHash } from '../lease/placement.ts';
import { decodePaymentRecord } from './codec.ts';
import { type OutboundRecord, outboundRow } from './record.ts';
import { Bench, foreignInvoice, NO_ROUTE, NODE, PAYEE, type Replica, SCID } from './testing/bench.ts';

const MPP = FeatureBits.of({
  var_onion_optin: 'required',
  payment_secret: 'required',
  basic_mpp: 'optional',
});
const WHOLE = FeatureBits.of({ var_onion_optin: 'required', payment_secret: 'required' });
/** More than one channel of the bench carries (590,000,000 msat), less than two do. */
const AMOUNT_MSAT = 1_000_000_000n;
const { bolt11, preimage, paymentHash } = foreignInvoice(MPP, AMOUNT_MSAT);
const SEND = { bolt11, amountMsat: undefined, maxFeeMsat: undefined, timeoutSeconds: undefined };
const SECOND = SCID + 1n;
const CHANNEL_SHARD = 7;

let bench: Bench;
let replica: Replica;
beforeEach(async () => {
  bench = await new Bench().begin();
  bench.route = direct;
  replica = await bench.replica();
  await replica.openChannel(PAYEE.nodeId, SCID);
  await replica.openChannel(PAYEE.nodeId, SECOND);
});

/** The router's answer for a payee who is the peer of every channel. */
function direct(request: FindRouteRequest): FindRouteResponse {
  const found = findRoutes(
    new NetworkGraph(new Uint8Array(32)),
    {
      payer: NODE.nodeId,
      payee: request.payeeNodeId,
      amountMsat: request.amountMsat,
      finalCltvDelta: request.finalCltvDelta,
      firstHops: request.firstHops.map((hop) => ({
        shortChannelId: hop.shortChannelId,
        counterparty: hop.counterpartyNodeId,
        minimumMsat: hop.htlcMinimumMsat,
        maximumMsat: hop.htlcMaximumMsat,
      })),
      hints: [],
      maxFeeMsat: request.maxFeeMsat,
      currentHeight: request.currentHeight,
      avoidedChannels: new Set(
        request.avoid.map(({ shortChannelId, direction }) =>
          directedKey(shortChannelId, direction === 0 ? 0 : 1),
        ),
      ),
      uses: new Map(
        request.uses.map(({ shortChannelId, direction, inFlightMsat, maximumMsat }) => [
          directedKey(shortChannelId, direction === 0 ? 0 : 1),
          { inFlightMsat, maximumMsat },
        ]),
      ),
    },
    { maxParts: request.maxParts, minPartMsat: request.minPartMsat },
  );
  if (!found.ok) return { ...NO_ROUTE, failure: 'no_route' };
  const hops = ({ hops: path }: Route) => path.map((hop) => ({ ...hop, feeMsat: 0n }));
  const paths = found.value.map((route) => ({ hops: hops(route) }));
  return {
    ...NO_ROUTE,
    failure: '',
    hops: paths.length === 1 ? (paths[0]?.hops ?? []) : [],
    paths: paths.length === 1 ? [] : paths,
  };
}

async function recordOf(): Promise<OutboundRecord> {
  const state = await replica.store.getPaymentState(paymentHash);
  const record = state === undefined ? undefined : decodePaymentRecord(state);
  if (record?.ok !== true || record.value.kind !== 'outbound')
    throw new TypeError('there is no such payment');
  return record.value;
}

/** Parts that no channel took yet. */
const untaken = (): Promise<readonly Intent[]> => replica.store.pendingIntents([CHANNEL_SHARD], 100);

async function takeAll(): Promise<readonly Intent[]> {
  const intents = await untaken();
  for (const intent of intents) await replica.take(intent);
  return intents;
}

/** The payee's failure of a part, as it comes back. */
async function payeeSays(intent: Intent, failure: FailureMessage): Promise<Uint8Array> {
  const { state, parts } = await recordOf();
  const part = parts.find(
    ({ attemptId }) => intent.source.type === 'payment' && equalBytes(attemptId, intent.source.attemptId),
  );
  const inFlight = state.type === 'in_flight' || state.type === 'sent' ? state.parts : [];
  const attempt = inFlight.find(({ attemptNumber }) => attemptNumber === part?.attemptNumber);
  if (attempt === undefined) throw new TypeError('this part is not in flight');
  const [secret = new Uint8Array()] = onionSharedSecrets(secp256k1, attempt.sessionKey, [PAYEE.nodeId]);
  return wrapFailure(secret, failure);
}

const REFUSAL: FailureMessage = {
  kind: 'incorrect_or_unknown_payment_details',
  htlcMsat: 1n,
  height: 1,
};
const NO_ROOM = encodeFailureMessage({
  kind: 'temporary_channel_failure',
  channelUpdate: new Uint8Array(0),
});

describe('a payment in parts', () => {
  test('goes out over two channels at once, and succeeds with the first preimage', async () => {
    const { record: begun } = await replica.hub.sendPayment(SEND);
    expect(outboundRow(begun)).toMatchObject({ status: 'pending', attempts: 2 });
    const routes = partsInFlight(begun.state).map(({ route }) => route);
    expect(routes.map(({ amountMsat }) => amountMsat)).toEqual([590_000_000n, 410_000_000n]);
    expect(new Set(routes.map(({ hops }) => hops[0]?.shortChannelId))).toEqual(new Set([SCID, SECOND]));
    const [first, second] = await takeAll();
    if (first === undefined || second === undefined) return expect.unreachable();
    // Each part says the whole total, under one secret.
    const record = await recordOf();
    const attempts = record.state.type === 'in_flight' ? record.state.parts : [];
    for (const intent of [first, second]) {
      const payloads = attempts.map(({ sessionKey }) => {
        const [secret = new Uint8Array()] = onionSharedSecrets(secp256k1, sessionKey, [PAYEE.nodeId]);
        const peeled = peelOnion(secp256k1, intent.onion, secret, paymentHash);
        const payload = peeled.ok ? decodeHopPayload(peeled.value.payload) : undefined;
        return payload?.ok === true ? payload.value.tlvs : undefined;
      });
      expect(payloads.find((tlvs) => tlvs !== undefined)).toMatchObject({
        amtToForwardMsat: intent.outgoingAmountMsat,
        paymentData: { totalMsat: AMOUNT_MSAT },
      });
    }
    const waiting = replica.hub.waitFor(paymentHash).then(outboundRow);
    await replica.end(second, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await waiting).toMatchObject({ status: 'succeeded', preimage, finished: false });
    expect(await replica.events()).toEqual(['payment_sent']);
    // The other part is known after a restart, and settles in silence.
    replica.crash();
    replica = await bench.replica();
    await replica.end(first, { type: 'fulfilled', preimage });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'succeeded',
      finished: true,
    });
    expect((await recordOf()).state.ended).toMatchObject([{ failure: undefined }, { failure: undefined }]);
    expect(await replica.events()).toEqual(['payment_sent']);
    expect(await replica.store.pendingResolutions([shardOfPaymentHash(paymentHash)], 10)).toEqual([]);
    expect(replica.hub.size).toBe(0);
  });

  test('is not split for a payee without basic_mpp, nor against max_parts', async () => {
    const whole = foreignInvoice(WHOLE, AMOUNT_MSAT, 2);
    for (const request of [
      { ...SEND, bolt11: whole.bolt11 },
      { ...SEND, maxParts: 1 },
    ]) {
      const { record } = await replica.hub.sendPayment(request);
      expect(record.state).toMatchObject({ type: 'failed' });
    }
    expect(bench.routeRequests.map(({ maxParts }) => maxParts)).toEqual([1, 1]);
  });

  test('one path that carries it asks nothing of the store that a payment of one part did not', async () => {
    const small = foreignInvoice(MPP, 5_000_000n, 3);
    let reads = 0;
    const { pendingIntents } = replica.store;
    replica.store.pendingIntents = (...args) => {
      reads += 1;
      return pendingIntents.apply(replica.store, args);
    };
    const { record } = await replica.hub.sendPayment({ ...SEND, bolt11: small.bolt11 });
    expect(partsInFlight(record.state)).toMatchObject([{ route: { amountMsat: 5_000_000n } }]);
    expect(reads).toBe(0);
  });

  test('a part that fails is sent anew over what is left, while the other is in flight', async () => {
    await replica.openChannel(PAYEE.nodeId, SCID + 2n);
    await replica.hub.sendPayment(SEND);
    const [first, second] = await untaken();
    if (first === undefined || second === undefined) return expect.unreachable();
    await replica.take(first);
    await replica.end(first, { type: 'failed_here', failure: NO_ROOM });
    await replica.poll(paymentHash);
    const request = bench.routeRequests.at(-1);
    expect(request).toMatchObject({ amountMsat: first.outgoingAmountMsat, maxParts: 15 });
    // What no channel added yet is not there; the rows of channels know of the rest.
    expect(request?.uses.map(({ inFlightMsat, maximumMsat }) => ({ inFlightMsat, maximumMsat }))).toEqual(
      expect.arrayContaining([
        { inFlightMsat: second.outgoingAmountMsat, maximumMsat: undefined },
        { inFlightMsat: 0n, maximumMsat: (first.outgoingAmountMsat * 7n) / 8n },
      ]),
    );
    const { state } = await recordOf();
    expect(state.ended).toMatchObject([
      { route: { amountMsat: first.outgoingAmountMsat }, failure: { kind: 'not_added' } },
    ]);
    expect(partsInFlight(state).reduce((sum, { route }) => sum + route.amountMsat, 0n)).toBe(AMOUNT_MSAT);
  });

  test('the payee refuses: failed once, after the last part', async () => {
    await replica.hub.sendPayment(SEND);
    const [first, second] = await takeAll();
    if (first === undefined || second === undefined) return expect.unreachable();
    await replica.end(first, { type: 'failed', reason: await payeeSays(first, REFUSAL) });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'pending' });
    expect(await replica.events()).toEqual([]);
    await replica.end(second, { type: 'failed', reason: await payeeSays(second, REFUSAL) });
    await replica.poll(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({
      status: 'failed',
      failureReason: 'recipient_rejected',
    });
    expect(await replica.events()).toEqual(['payment_failed']);
  });

  test('given up, it takes back at once what no channel took', async () => {
    await replica.hub.sendPayment(SEND);
    const [first] = await untaken();
    if (first === undefined) return expect.unreachable();
    await replica.take(first);
    await replica.end(first, { type: 'failed', reason: await payeeSays(first, REFUSAL) });
    await replica.poll(paymentHash);
    await replica.tick(paymentHash);
    expect(await replica.store.getPayment(paymentHash)).toMatchObject({ status: 'failed' });
    expect(await untaken()).toEqual([]);
  });

  test('what a failure says reaches the router before it is asked for another route', async () => {
    await replica.hub.sendPayment(SEND);
    const [first] = await takeAll();
    if (first === undefined) return expect.unreachable();
    let reportsWhenAsked = -1;
    bench.route = (request) => {
      reportsWhenAsked = bench.reports.length;
      return direct(request);
    };
    await replica.end(first, { type: 'failed', reason: await payeeSays(first, { kind: 'mpp_timeout' }) });
    await replica.poll(paymentHash);
    expect(reportsWhenAsked).toBe(1);
  });
});

// --- crash points ---------------------------------------------------------------------

type Step =
  | {
      readonly do: 'take' | 'fulfil' | 'refuse' | 'timeout' | 'no_room' | 'not_added';
      readonly which: number;
    }
  | { readonly do: 'poll' | 'tick' }
  /** Kill -9 after so many turns of the event loop of a poll or a tick; another replica takes over. */
  | { readonly do: 'crash'; readonly during: 'poll' | 'tick' | 'send'; readonly turns: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'router'; readonly state: 'away' | 'back' };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('take' as const), which: fc.nat(5) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('fulfil', 'refuse', 'timeout', 'no_room', 'no_room', 'not_added'),
      which: fc.nat(5),
    }) as fc.Arbitrary<Step>,
  },
  { weight: 6, arbitrary: fc.constantFrom<Step>({ do: 'poll' }, { do: 'tick' }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      during: fc.constantFrom('poll' as const, 'tick' as const, 'send' as const),
      turns: fc.nat(12),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1_000, 31_000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('router' as const), state: fc.constantFrom('away', 'back') }),
  } as { weight: number; arbitrary: fc.Arbitrary<Step> },
);

/** The channels and the payee: what became of every part. */
class Network {
  readonly parts = new Map<string, { intent: Intent; state: 'offered' | 'held' | 'settled' | 'failed' }>();
  paid = false;

  async see(): Promise<void> {
    for (const intent of await untaken()) {
      const key = nameOf(intent);
      if (!this.parts.has(key)) this.parts.set(key, { intent, state: 'offered' });
    }
    const pending = new Set((await untaken()).map(nameOf));
    // Taken back by the payment.
    for (const [key, part] of this.parts)
      if (part.state === 'offered' && !pending.has(key)) part.state = 'failed';
  }

  in(state: 'offered' | 'held'): { intent: Intent; state: 'offered' | 'held' | 'settled' | 'failed' }[] {
    return [...this.parts.values()].filter((part) => part.state === state);
  }

  async take(which: number): Promise<void> {
    const offered = this.in('offered');
    const part = offered[which % offered.length];
    if (part === undefined) return;
    part.state = 'held';
    await replica.take(part.intent);
  }

  /** BOLT 4: fulfilled only when the set is complete; then all of it must be. */
  mayFulfil(): boolean {
    const held = this.in('held').reduce((sum, { intent }) => sum + intent.outgoingAmountMsat, 0n);
    return this.paid || held >= AMOUNT_MSAT;
  }

  async end(how: 'fulfil' | 'refuse' | 'timeout' | 'no_room' | 'not_added', which: number): Promise<void> {
    const held = this.in('held');
    const part = held[which % held.length];
    if (part === undefined) return;
    const { intent } = part;
    if (how === 'fulfil') {
      if (!this.mayFulfil()) return;
      this.paid = true;
      part.state = 'settled';
      await replica.end(intent, { type: 'fulfilled', preimage });
    } else {
      // A set that is being fulfilled is fulfilled to its last part.
      if (this.paid) return;
      part.state = 'failed';
      if (how === 'no_room') await replica.end(intent, { type: 'failed_here', failure: NO_ROOM });
      else if (how === 'not_added')
        await replica.end(intent, {
          type: 'failed_here',
          failure: encodeFailureMessage({ kind: 'unknown_next_peer' }),
        });
      else
        await replica.end(intent, {
          type: 'failed',
          reason: await payeeSays(intent, how === 'refuse' ? REFUSAL : { kind: 'mpp_timeout' }),
        });
    }
  }

  async check(): Promise<void> {
    await this.see();
    const live = [...this.parts.values()].filter(({ state }) => state !== 'failed');
    const atStakeMsat = live.reduce((sum, { intent }) => sum + intent.outgoingAmountMsat, 0n);
    expect(atStakeMsat).toBeLessThanOrEqual(AMOUNT_MSAT + AMOUNT_MSAT / 100n);
    const row = await replica.store.getPayment(paymentHash);
    if (row?.type !== 'outbound') return;
    if (row.status === 'failed') expect(live).toEqual([]);
    if (row.status === 'succeeded') expect(this.paid).toBe(true);
  }
}

function nameOf({ source }: Intent): string {
  return source.type === 'payment' ? toHex(source.attemptId) : '';
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('in any order of ends, time-outs and crashes: at most the amount at stake, one end told, nothing left over', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 40 }),
      fc.boolean(),
      async (steps, patient) => {
        bench = await new Bench().begin();
        bench.route = direct;
        replica = await bench.replica();
        await replica.openChannel(PAYEE.nodeId, SCID);
        await replica.openChannel(PAYEE.nodeId, SECOND);
        await replica.openChannel(PAYEE.nodeId, SCID + 2n);
        const network = new Network();
        const request = { ...SEND, timeoutSeconds: patient ? 3_600 : 60 };
        await replica.hub.sendPayment(request);
        for (const next of steps) {
          switch (next.do) {
            case 'take':
              await network.take(next.which);
              break;
            case 'poll':
              await replica.poll(paymentHash);
              break;
            case 'tick':
              bench.runtime.nowMs += 1_000;
              await replica.tick(paymentHash);
              break;
            case 'wait':
              bench.runtime.nowMs += next.ms;
              break;
            case 'router':
              bench.routerIsAway = next.state === 'away';
              break;
            case 'crash': {
              const doing =
                next.during === 'poll'
                  ? replica.poll(paymentHash)
                  : next.during === 'tick'
                    ? replica.tick(paymentHash)
                    : replica.hub.sendPayment(request);
              doing.catch(() => undefined);
              for (let i = 0; i < next.turns; i++) await turn();
              replica.crash();
              replica = await bench.replica();
              break;
            }
            default:
              await network.end(next.do, next.which);
          }
          await network.check();
        }
        // Everything comes to an end: the payee pays out if it may, else lets the parts go.
        bench.routerIsAway = false;
        for (let round = 0; round < 80; round++) {
          await replica.poll(paymentHash);
          bench.runtime.nowMs += 5_000;
          await replica.tick(paymentHash);
          await network.check();
          const row = await replica.store.getPayment(paymentHash);
          if (row?.type === 'outbound' && row.finished) break;
          if (network.in('offered').length > 0) await network.take(0);
          else await network.end(network.mayFulfil() ? 'fulfil' : 'timeout', 0);
        }
        const row = await replica.store.getPayment(paymentHash);
        expect(row).toMatchObject({ status: network.paid ? 'succeeded' : 'failed', finished: true });
        const shard = shardOfPaymentHash(paymentHash);
        expect(await replica.store.pendingResolutions([shard], 10)).toEqual([]);
        expect(await untaken()).toEqual([]);
        const ends = await replica.events();
        // A request after a failure begins the payment anew.
        expect(ends.filter((type) => type === 'payment_sent').length).toBe(network.paid ? 1 : 0);
        if (!steps.some((one) => one.do === 'crash' && one.during === 'send')) expect(ends.length).toBe(1);
        expect((await recordOf()).parts).toEqual([]);
      },
    ),
    { numRuns: 60 },
  );
}, 60_000);
