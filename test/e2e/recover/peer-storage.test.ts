// From the seed alone: the databases and the backup file are lost, and a peer gives the backup back (BOLT 1, peer storage).
import fs from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../main-job/waiting.ts';
import type { Fleet } from '../support/fleet.ts';
import { connectNode, type NodeClient } from '../support/node-client.ts';
import { DisasterWorld } from './disaster.ts';

const CHANNEL_SAT = 2_000_000n;
/** The commitment's fee, two anchors and a sweep. */
const MOST_FEES_SAT = 20_000n;

let world: DisasterWorld;
let neighbour: Fleet;
let theirs: NodeClient;

beforeAll(async () => {
  world = await DisasterWorld.start();
  await world.startFleet({ managers: 1 });
  neighbour = await world.neighbour();
  theirs = connectNode(neighbour.consoleAddress, neighbour.token());
}, 300_000);

afterAll(async () => {
  theirs.close();
  await neighbour.stop();
  await world.stop();
}, 60_000);

async function mine(blocks: number): Promise<void> {
  await world.mine(blocks);
  const height = Number(await world.chain.call('getblockcount'));
  await until(`the neighbour at block ${height}`, async () =>
    (await theirs.node.getInfo({}, theirs.auth())).blockHeight >= height ? true : undefined,
  );
}

const homeSat = async (): Promise<bigint> => {
  const found = await world.node.onchain.getBalance({}, world.node.auth());
  return found.confirmedSat + found.unconfirmedSat + found.reservedSat;
};
const channels = async () =>
  (await world.node.channels.listChannels({ includeClosed: false }, world.node.auth())).channels;

/** What the neighbour keeps for its peers, in bytes. */
async function keptByNeighbour(): Promise<readonly number[]> {
  const client = new pg.Client({ connectionString: await neighbour.postgres.ensureDatabase('fulmen_node') });
  await client.connect();
  try {
    const { rows } = await client.query('SELECT length(blob) AS bytes FROM manager.peer_storage');
    return rows.map((row: { bytes: number }) => row.bytes);
  } finally {
    await client.end();
  }
}

test('a peer gives the backup back to a node that has nothing but its seed', async () => {
  const { node } = world;
  for (const one of [node, theirs]) {
    const { address } = await one.onchain.newAddress({ addressType: 'p2wpkh' }, one.auth());
    await world.mine(3, address);
  }
  await mine(100);
  const { nodeId: neighbourId } = await theirs.node.getInfo({}, theirs.auth());
  const [port = 0] = neighbour.lightningPorts.values();
  const peer = { nodeId: neighbourId, host: '127.0.0.1', port };
  await node.peers.connectPeer(peer, node.auth());
  const request = { nodeId: neighbourId, fundingSat: CHANNEL_SAT, pushMsat: 0n, announce: false };
  await node.channels.openChannel({ ...request, idempotencyKey: '' }, node.auth());
  await until('the funding', async () => ((await world.mempool()).length > 0 ? true : undefined));
  await mine(6);
  await until('an open channel', async () =>
    (await channels()).some(({ phase, peerConnected }) => phase === 'open' && peerConnected)
      ? true
      : undefined,
  );
  const { bolt11 } = await theirs.invoices.createInvoice(
    { amountMsat: 300_000_000n, description: '', idempotencyKey: '' },
    theirs.auth(),
  );
  expect((await node.payments.sendPayment({ bolt11, wait: true }, node.auth())).status).toBe('succeeded');
  await until('the backup at the neighbour', async () =>
    (await keptByNeighbour()).includes(65_531) ? true : undefined,
  );
  const beforeSat = await homeSat();
  const inChannelSat = ((await channels())[0]?.holderBalanceMsat ?? 0n) / 1000n;
  expect(inChannelSat).toBe(1_700_000n);

  await world.disaster();
  fs.rmSync(world.backupFile);
  await world.startFleet({ managers: 1 });
  expect((await world.cli('recover', '--from-peers')).stderr).toContain('no peer has given a backup back');
  await world.node.peers.connectPeer(peer, world.node.auth());
  await until('the backup given back', async () =>
    (await world.cli('recover', '--from-peers')).code === 0 ? true : undefined,
  );
  const again = await world.cli('-o', 'table', 'recover', '--from-peers');
  expect(again.stdout).toContain('known');

  await until(
    'every satoshi of the channel in the wallet',
    async () => {
      await mine(1);
      return (await homeSat()) > beforeSat + inChannelSat - MOST_FEES_SAT ? true : undefined;
    },
    120_000,
  );
  const lostSat = beforeSat + inChannelSat - (await homeSat());
  process.stderr.write(`recover from a peer: ${inChannelSat} sat in the channel, ${lostSat} sat of fees\n`);
  expect(lostSat).toBeGreaterThanOrEqual(0n);
  expect(lostSat).toBeLessThan(MOST_FEES_SAT);
}, 400_000);
