// Steps 2 to 4: payments through the fleet, those that must fail, and kills in the middle of them.
import { randomBytes } from 'node:crypto';
import { toHex } from '@fulmen/codec';
import { encodeLine } from '../../ldk-wallet/protocol.ts';
import { ensure, StepFailed, until } from './waiting.ts';
import type { World } from './world.ts';

/** What moved, in millisatoshis, as the receipts say. */
export type Ledger = {
  aliceMsat: bigint;
  bobMsat: bigint;
  fleetMsat: bigint;
  settled: number;
  retried: number;
  failedAsExpected: number;
  failedUnexpectedly: number;
  kills: number;
};

export function newLedger(): Ledger {
  return {
    aliceMsat: 0n,
    bobMsat: 0n,
    fleetMsat: 0n,
    settled: 0,
    retried: 0,
    failedAsExpected: 0,
    failedUnexpectedly: 0,
    kills: 0,
  };
}

/** Longest time for one payment to end, a killed and restarted service on its way included. */
const OUTCOME_MS = 120_000;
/** A payment that failed cleanly because a process was dead is made again, as a person would. */
const MAX_TRIES = 6;

/** Amounts on both sides of the dust limits, in millisatoshis. */
const AMOUNTS_MSAT = [
  1_000n,
  1_500n,
  20_000n,
  353_000n,
  354_000n,
  1_000_000n,
  2_345_678n,
  10_000_000n,
  25_000_000n,
  50_000_001n,
];

/** Alice pays one invoice of Bob's; resolves when it settled. */
async function payBob(
  world: World,
  ledger: Ledger,
  amountMsat: bigint,
  onUnderWay: () => void,
): Promise<void> {
  const { alice, bob } = world;
  for (let attempt = 1; ; attempt += 1) {
    const invoice = await bob.call('createInvoice', { amountMsat, description: 'the main job' });
    let paymentId: string;
    try {
      ({ paymentId } = await alice.call('pay', { bolt11: invoice.bolt11 }));
    } catch (error) {
      // LDK refuses at once while its channel is not usable.
      if (attempt >= MAX_TRIES)
        throw new StepFailed(`Alice cannot pay: ${error instanceof Error ? error.message : String(error)}`);
      await world.usable(alice, 'Alice');
      continue;
    }
    onUnderWay();
    const outcome = await alice.outcome(paymentId, OUTCOME_MS);
    if (outcome.event === 'payment_sent') {
      ledger.settled += 1;
      ledger.aliceMsat -= amountMsat + (outcome.feePaidMsat ?? 0n);
      ledger.bobMsat += amountMsat;
      ledger.fleetMsat += outcome.feePaidMsat ?? 0n;
      return;
    }
    if (attempt >= MAX_TRIES) {
      ledger.failedUnexpectedly += 1;
      world.report.say(`a payment failed: ${outcome.reason}`, { outcome: encodeLine(outcome) });
      return;
    }
    ledger.retried += 1;
    await Promise.all([world.usable(alice, 'Alice'), world.usable(world.bob, 'Bob')]);
  }
}

/** Alice pays Bob an amount, without a second try. */
export async function payOnce(world: World, ledger: Ledger, amountMsat: bigint): Promise<void> {
  const { bolt11 } = await world.bob.call('createInvoice', { amountMsat });
  const { paymentId } = await world.alice.call('pay', { bolt11 });
  const outcome = await world.alice.outcome(paymentId, OUTCOME_MS);
  ensure(outcome.event === 'payment_sent', 'Alice could not pay Bob');
  ledger.aliceMsat -= amountMsat + (outcome.feePaidMsat ?? 0n);
  ledger.bobMsat += amountMsat;
  ledger.fleetMsat += outcome.feePaidMsat ?? 0n;
  ledger.settled += 1;
}

/** Some payments at once; resolves with the promise of their end as soon as the first is under way. */
export async function startPayments(
  world: World,
  ledger: Ledger,
  count: number,
  offset: number,
): Promise<{ readonly done: Promise<void> }> {
  const underWay = Promise.withResolvers<void>();
  const done = Promise.all(
    Array.from({ length: count }, (_, index) =>
      payBob(world, ledger, AMOUNTS_MSAT[(offset + index) % AMOUNTS_MSAT.length] ?? 1_000n, underWay.resolve),
    ),
  ).then(() => undefined);
  await Promise.race([underWay.promise, done]);
  return { done };
}

/** Payments that must fail, each at its origin with the code that BOLT 4 asks for. */
export async function failingPayments(world: World, ledger: Ledger): Promise<void> {
  const { alice, bob } = world;
  const channel = await world.fleetChannel(bob);
  ensure(channel !== undefined, 'the fleet has no channel with Bob');
  const scid = String(channel.shortChannelId);
  const fleet = toHex(world.nodeId);
  const feeMsat = channel.feeBaseMsat;
  const delta = channel.cltvExpiryDelta;
  const cases = [
    { name: 'unknown hash', code: 0x400f, from: bob.nodeId, feeMsat, keep: delta, final: 50 },
    { name: 'too little fee', code: 0x100c, from: fleet, feeMsat: feeMsat - 1n, keep: delta, final: 50 },
    { name: 'too little time for the fleet', code: 0x100d, from: fleet, feeMsat, keep: delta - 1, final: 50 },
    { name: 'expiry too near', code: 0x100e, from: fleet, feeMsat, keep: delta, final: 1 },
  ];
  for (const expected of cases) {
    const { paymentId } = await alice.call('payRaw', {
      hops: [
        { nodeId: fleet, feeMsat: expected.feeMsat, cltvDelta: expected.keep },
        { nodeId: bob.nodeId, shortChannelId: scid, feeMsat: 100_000n, cltvDelta: expected.final },
      ],
      paymentHash: randomBytes(32).toString('hex'),
    });
    const failure = await alice.event(
      'payment_path_failed',
      (event) => event.paymentId === paymentId,
      OUTCOME_MS,
    );
    ensure(
      failure.failureCode === expected.code && failure.failureFrom === expected.from,
      `"${expected.name}" should fail with code ${expected.code.toString(16)} from ${expected.from.slice(0, 8)}, and failed with ${failure.failureCode?.toString(16)} from ${failure.failureFrom?.slice(0, 8)}`,
    );
    ledger.failedAsExpected += 1;
    world.report.say(
      `${expected.name}: failed at Alice with ${failure.failure} (0x${expected.code.toString(16)}), as it must`,
    );
  }
}

/** Step 3: the fleet as payee and as payer. */
export async function fleetPayments(world: World, ledger: Ledger): Promise<void> {
  const { bob, node } = world;
  const receivedMsat = 7_000_000n;
  const { bolt11 } = await node.invoices.createInvoice(
    { amountMsat: receivedMsat, description: 'from Bob', idempotencyKey: '' },
    node.auth(),
  );
  const outcome = await bob.payAndWait({ bolt11 });
  ensure(
    outcome.event === 'payment_sent',
    `Bob could not pay the fleet's invoice: ${'reason' in outcome ? outcome.reason : ''}`,
  );
  ledger.bobMsat -= receivedMsat;
  ledger.fleetMsat += receivedMsat;
  ledger.settled += 1;
  world.report.say('Bob paid an invoice of the fleet');

  const sentMsat = 3_000_000n;
  const invoice = await bob.call('createInvoice', { amountMsat: sentMsat, description: 'from the fleet' });
  const payment = await node.payments.sendPayment(
    { bolt11: invoice.bolt11, wait: true },
    node.auth(OUTCOME_MS),
  );
  ensure(payment.status === 'succeeded', `the fleet could not pay Bob: ${payment.failureReason}`);
  ledger.bobMsat += sentMsat;
  ledger.fleetMsat -= sentMsat + payment.feeMsat;
  ledger.settled += 1;
  world.report.say('the fleet paid an invoice of Bob');
}

/** Step 4: each kind of process dies by kill -9 while payments are under way. */
export async function killsUnderPayments(world: World, ledger: Ledger, payments: number): Promise<void> {
  const { fleet } = world;
  const alicesManager = await until('the owner of Alice’s channel', async () => {
    const owner = (await world.fleetChannel(world.alice))?.ownerReplicaId;
    return owner === undefined || owner === '' ? undefined : owner;
  });
  const alicesGateway = await gatewayOf(world);
  const victims = [alicesManager, alicesGateway, 'signer', 'chain-monitor', 'router', 'nats-server'];
  let started = 0;
  for (const [index, victim] of victims.entries()) {
    await Promise.all([world.usable(world.alice, 'Alice'), world.usable(world.bob, 'Bob')]);
    const count = Math.floor((payments * (index + 1)) / victims.length) - started;
    const { done } = await startPayments(world, ledger, count, started);
    started += count;
    const killedAt = performance.now();
    await fleet.kill9AndWait(victim);
    ledger.kills += 1;
    const restartedMs = Math.round(performance.now() - killedAt);
    await done;
    world.report.say(
      `${victim} killed with -9 under ${count} payments, serving again after ${restartedMs} ms; every payment ended`,
      {
        victim,
        restartedMs,
        allEndedMs: Math.round(performance.now() - killedAt),
      },
    );
  }
}

async function gatewayOf(world: World): Promise<string> {
  const { peers } = await world.node.peers.listPeers({}, world.node.auth());
  const alice = peers.find((peer) => toHex(peer.nodeId) === world.alice.nodeId);
  ensure(alice?.connected === true, 'Alice is not connected');
  return alice.gatewayId;
}
