import { displayHash, type Tx } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { secp256k1 } from '@fulmen/crypto/default';
import { storeTx } from '@fulmen/testing/devchain';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { Case } from '../settlement/cases.ts';
import { type HtlcOutput, htlcOutputs, type KeptCommitment } from '../settlement/counterparty.ts';
import { FleetSigner } from '../settlement/fleet-signer.ts';
import { fleetKeys } from '../settlement/policy-signer.ts';
import { type Scenario, scenarioOf } from '../settlement/scenario.ts';
import { Stage } from '../settlement/stage.ts';
import { World } from '../settlement/world.ts';
import { DESTINATION, Scene } from './scene.ts';

const CALM_SAT_PER_KVB = 2_000;
const SECONDS = 50_000;
vi.setConfig({ testTimeout: 150_000 });

const open: Scene[] = [];
afterEach(async () => {
  for (const scene of open.splice(0)) await scene.close();
});

function caseOf(changes: Partial<Case>): Case {
  return {
    format: 'anchors',
    commitment: 'revoked_100',
    htlcs: 'identical',
    knowledge: 'late_block',
    feerate: 'calm',
    fault: 'none',
    ...changes,
  };
}

async function begin(one: Case): Promise<{
  readonly scene: Scene;
  readonly scenario: Scenario;
  readonly kept: KeptCommitment;
  readonly last: bigint;
}> {
  const scenario = scenarioOf(one);
  const { kept } = scenario;
  if (kept === undefined) throw new TypeError('not a commitment of the counterparty');
  const world = new World({ minRelayFeerateSatPerKvb: 1_000 });
  world.chain.feerateEstimateSatPerKvb = CALM_SAT_PER_KVB;
  world.mine([scenario.fundingTx]);
  const scene = await Scene.open(world, scenario);
  open.push(scene);
  return { scene, scenario, kept, last: scene.updates.at(-1)?.updateId ?? 0n };
}

/** Everything that the tower can take of a revoked commitment: what is not the holder's balance nor an anchor. */
function stolenOutputs({
  built,
}: KeptCommitment): readonly { readonly key: string; readonly valueSat: bigint }[] {
  return built.outputs
    .filter(({ type }) => type === 'to_local' || type === 'htlc')
    .map(({ outputIndex, valueSat }) => ({ key: `${displayHash(built.txid)}:${outputIndex}`, valueSat }));
}

/** What the destination got on the best chain. */
function paidSat({ world }: Scene): bigint {
  let sum = 0n;
  for (let height = 1; height <= world.height; height++)
    for (const { tx } of world.chain.chain.at(height)?.transactions ?? [])
      for (const { script, valueSat } of tx.outputs)
        if (Buffer.compare(script, DESTINATION) === 0) sum += valueSat;
  return sum;
}

/** The tower followed the chain to its tip and has nothing left to send. */
async function caughtUp(scene: Scene): Promise<void> {
  scene.wake();
  await expect
    .poll(async () => (await scene.settlement()).height, { timeout: SECONDS })
    .toBe(scene.world.height);
}

async function untilSpent(scene: Scene, keys: readonly string[]): Promise<void> {
  await expect
    .poll(
      () => {
        scene.wake();
        const { mempool } = scene.world.chain;
        return keys.filter(
          (key) => mempool.spender(key) === undefined && scene.world.spenderOf(key) === undefined,
        );
      },
      { timeout: SECONDS },
    )
    .toEqual([]);
}

async function mineUntilResolved(scene: Scene): Promise<void> {
  for (let i = 0; i < 8; i++) {
    scene.world.mine();
    await caughtUp(scene);
  }
}

describe.each(['anchors', 'static_remotekey'] as const)('a revoked commitment of %s', (format) => {
  test('is punished to the last output with the node’s database and signer gone', async () => {
    const { scene, kept, last } = await begin(caseOf({ format }));
    await scene.addTower();
    await scene.startTower();
    await scene.live(1n, last);
    await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
    await scene.loseNode();
    // A tower that restarts needs nobody either.
    await scene.stopTower();
    scene.world.mine([kept.tx]);
    await scene.startTower();
    const stolen = stolenOutputs(kept);
    expect(stolen.length).toBeGreaterThan(4);
    await untilSpent(
      scene,
      stolen.map(({ key }) => key),
    );
    await mineUntilResolved(scene);
    const stolenSat = stolen.reduce((sum, { valueSat }) => sum + valueSat, 0n);
    const got = paidSat(scene);
    expect(got).toBeLessThan(stolenSat);
    expect(got).toBeGreaterThan((stolenSat * 98n) / 100n);
    for (const { key } of stolen) expect(scene.world.spenderOf(key)).toBeDefined();
    await nothingPending(scene);
  });

  test('second stages that the cheater got through are taken back, and a reorganisation changes nothing', async () => {
    const { scene, scenario, kept, last } = await begin(caseOf({ format, commitment: 'revoked_1' }));
    await scene.addTower();
    await scene.startTower();
    await scene.live(1n, last);
    await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
    await scene.loseNode();
    const stages = secondStages(scene, scenario, kept);
    expect(stages.length).toBeGreaterThan(1);
    // In the block after the commitment, before anybody can answer it.
    scene.world.mine([kept.tx]);
    scene.world.mine(stages);
    await caughtUp(scene);
    const taken = new Set(
      stages.flatMap((tx) => tx.inputs.map(({ txid, vout }) => `${displayHash(txid)}:${vout}`)),
    );
    const keys = [
      ...stages.map((tx) => `${storeTx(tx).txid}:0`),
      ...stolenOutputs(kept)
        .map(({ key }) => key)
        .filter((key) => !taken.has(key)),
    ];
    await untilSpent(scene, keys);
    scene.world.mine();
    await caughtUp(scene);
    scene.world.reorg(1);
    await caughtUp(scene);
    await untilSpent(scene, keys);
    await mineUntilResolved(scene);
    const stolenSat = stolenOutputs(kept).reduce((sum, { valueSat }) => sum + valueSat, 0n);
    expect(paidSat(scene)).toBeGreaterThan((stolenSat * 95n) / 100n);
    for (const key of keys) expect(scene.world.spenderOf(key)).toBeDefined();
    await nothingPending(scene);
  });
});

test('a node and its tower that are both alive do not bid against each other', async () => {
  const scenario = scenarioOf(caseOf({}));
  const { kept } = scenario;
  if (kept === undefined) throw new TypeError('not a commitment of the counterparty');
  const signer = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
  await signer.learn(scenario.signer);
  const node = new Stage(scenario, signer, { minRelayFeerateSatPerKvb: 1_000 });
  await node.open();
  const scene = await Scene.open(node.world, scenario);
  open.push(scene);
  await scene.addTower();
  await scene.startTower({ rebroadcastMs: 100 });
  const last = scene.updates.at(-1)?.updateId ?? 0n;
  await scene.live(1n, last);
  await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
  const bids = async (): Promise<readonly number[]> => {
    const { claims } = await scene.settlement();
    const all = [...claims, ...node.machine.state.settlement.claims.values()];
    return all.filter(({ kind }) => kind.startsWith('revoked')).map((one) => one.feerateSatPerKw);
  };
  node.world.mine([kept.tx]);
  await node.process.turn();
  const opening = Math.max(...(await bids()));
  for (let exchange = 0; exchange < 3; exchange++) {
    const before = scene.broadcasts;
    node.machine.clock.advance(30_000);
    await node.process.turn();
    // Whatever the tower has it offers again, and more than once.
    await expect
      .poll(
        () => {
          scene.wake();
          return scene.broadcasts - before;
        },
        { timeout: SECONDS },
      )
      .toBeGreaterThan(6);
  }
  const all = await bids();
  expect(all).toHaveLength(2 * stolenOutputs(kept).length);
  // The two weigh differently, and fees are whole satoshis.
  expect(Math.max(...all)).toBeLessThanOrEqual(opening + 1);
  node.world.mine();
  for (const { key } of stolenOutputs(kept)) expect(node.world.spenderOf(key)).toBeDefined();
  node.process.kill();
  await signer.stop();
});

test('a tower that joins late gets the monitor whole, and punishes states from before it came', async () => {
  const { scene, kept, last } = await begin(caseOf({ commitment: 'revoked_100', htlcs: 'received' }));
  const half = last / 2n;
  await scene.live(1n, half);
  await scene.drain(half);
  await scene.addTower();
  await scene.feed.tidy(1_000);
  await scene.startTower();
  await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(half);
  await scene.live(half + 1n, last);
  await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
  await scene.loseNode();
  scene.world.mine([kept.tx]);
  await untilSpent(
    scene,
    stolenOutputs(kept).map(({ key }) => key),
  );
});

test.each(['data_loss', 'counterparty'] as const)(
  'a tower that took a breach for %s, because it was cut off, punishes once it gets the monitor whole',
  async (mistaken) => {
    const { scene, kept, last } = await begin(caseOf({ commitment: 'revoked_100' }));
    const known = lastThatKnows(
      scene,
      mistaken === 'data_loss' ? kept.commitmentNumber - 1n : kept.commitmentNumber,
    );
    await scene.addTower();
    await scene.startTower();
    await scene.live(1n, known);
    await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(known);
    scene.cutFeed();
    // Meanwhile more is committed than is kept for a tower.
    await scene.live(known + 1n, last);
    await scene.drain(last);
    expect((await scene.feed.tidy(1)).due).toBe(1);
    scene.world.mine([kept.tx]);
    scene.wake();
    await expect
      .poll(async () => (await scene.settlement()).found?.closeType, { timeout: SECONDS })
      .toBe(mistaken);
    await scene.restoreFeed();
    await untilSpent(
      scene,
      stolenOutputs(kept).map(({ key }) => key),
    );
    expect(scene.alarms).toEqual([expect.stringContaining('a revoked commitment confirmed')]);
  },
);

test.each([
  { name: 'whatever a reorganisation does to it', leavesScan: 'no' },
  { name: 'whatever scan another release left', leavesScan: 'from_above' },
] as const)('a tower that joins after the breach punishes it, $name', async ({ leavesScan }) => {
  const { scene, kept, last } = await begin(caseOf({ commitment: 'revoked_100', htlcs: 'received' }));
  const { world } = scene;
  const keys = stolenOutputs(kept).map(({ key }) => key);
  world.mine();
  world.mine([kept.tx]);
  world.mine();
  const closeHeight = world.height - 1;
  if (leavesScan === 'from_above') await scene.leaveScan(world.height);
  await scene.addTower();
  await scene.startTower();
  await caughtUp(scene);
  await scene.live(1n, last);
  await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
  await scene.loseNode();
  await untilSpent(scene, keys);
  expect((await scene.settlement()).found).toMatchObject({ closeHeight, closeType: 'revoked' });
  const replaced = world.chain.chain.at(closeHeight - 1);
  if (replaced === undefined) throw new TypeError('no block');
  world.chain.invalidate(replaced);
  world.forget(kept.tx);
  world.mine([kept.tx]);
  for (let blocks = 0; blocks < 3; blocks += 1) world.mine();
  await caughtUp(scene);
  await untilSpent(scene, keys);
  await mineUntilResolved(scene);
  expect((await scene.settlement()).found).toMatchObject({
    closeHeight: closeHeight - 1,
    closeType: 'revoked',
  });
  await nothingPending(scene);
});

test('a node whose database was set back is told so, and gets no acknowledgement for what contradicts', async () => {
  const { scene, last } = await begin(caseOf({ commitment: 'revoked_1' }));
  await scene.addTower();
  await scene.startTower();
  await scene.live(1n, last);
  await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
  await scene.setBack(3n);
  await scene.repeatUpdate(4n);
  await expect
    .poll(async () => (await scene.feed.listTowers())[0]?.faults.map(({ reason }) => reason), {
      timeout: SECONDS,
    })
    .toEqual([expect.stringContaining('set back')]);
  expect(await scene.acknowledged()).toBe(0n);
});

test.each(['an earlier copy of it', 'a new one'] as const)(
  'a tower that lost its database to %s has everything again, and punishes, though the channel does not move',
  async (replacement) => {
    const { scene, kept, last } = await begin(caseOf({ commitment: 'revoked_1', htlcs: 'received' }));
    const early = last / 2n;
    await scene.addTower();
    await scene.startTower();
    await scene.live(1n, early);
    await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(early);
    await scene.stopTower();
    const copy = replacement === 'a new one' ? undefined : await scene.copyTower();
    await scene.startTower();
    await scene.live(early + 1n, last);
    await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
    await scene.stopTower();
    await scene.replaceTower(copy);
    // The node's own monitor comes later: until then there is nothing to send, and nothing counts.
    await scene.startTower();
    await expect.poll(() => scene.acknowledged(), { timeout: 10_000 }).toBe(0n);
    await scene.drain(last);
    await expect.poll(() => scene.acknowledged(), { timeout: SECONDS }).toBe(last);
    expect(await scene.held()).toBe(last);
    expect(scene.alarms).toEqual([expect.stringContaining('was set back, or is another one')]);
    expect(await scene.feed.listTowers()).toMatchObject([{ channelsBehind: 0, updatesWaiting: 0 }]);
    await scene.loseNode();
    scene.world.mine([kept.tx]);
    await untilSpent(
      scene,
      stolenOutputs(kept).map(({ key }) => key),
    );
  },
);

/** The last update after which the monitor's newest commitment of the counterparty still has this number. */
function lastThatKnows(scene: Scene, commitmentNumber: bigint): bigint {
  const found = scene.updates.findLast(({ updateId }) => {
    const { counterpartyCommitment, nextCounterpartyCommitment } = scene.monitorAt(updateId);
    const newest = nextCounterpartyCommitment ?? counterpartyCommitment;
    return newest?.content.commitmentNumber === commitmentNumber;
  });
  if (found === undefined) throw new TypeError(`no monitor knows ${commitmentNumber} as the newest`);
  return found.updateId;
}

/** No transaction of the tower's waits for a block, and its log is quiet but for the breach itself. */
async function nothingPending(scene: Scene): Promise<void> {
  const { sweeps } = await scene.settlement();
  expect(sweeps.filter(({ confirmedHeight }) => confirmedHeight === undefined)).toEqual([]);
  expect(scene.alarms.filter((text) => !text.includes('a revoked commitment confirmed'))).toEqual([]);
}

/** The cheater's HTLC transactions: with the preimage what the node offered, and what it offered itself once it expired. */
function secondStages(scene: Scene, scenario: Scenario, kept: KeptCommitment): Tx[] {
  const coin = () => scene.world.freshCoin();
  return htlcOutputs(kept.built).flatMap((output: HtlcOutput) => {
    const direction = output.htlc.direction === 'inbound' ? 'outbound' : 'inbound';
    const planned = scenario.htlcs.find((one) => one.direction === direction && one.id === output.htlc.id);
    if (planned === undefined || direction === 'inbound') return [];
    return [
      scenario.counterparty.secondStage(kept, output, preimageOf(planned.seed), {
        coin: coin(),
        feeSat: 1_000n,
      }),
    ];
  });
}
