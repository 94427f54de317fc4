// From the seed and a static backup: every database of the fleet is lost, the peers close the channels, and the money is back.
import fs from 'node:fs';
import { toHex } from '@fulmen/codec';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LdkWallet } from '../../ldk-wallet/client.ts';
import { until } from '../main-job/waiting.ts';
import { DisasterWorld } from './disaster.ts';

const CHANNEL_SAT = 2_000_000;
/** What closing and sweeping three channels may cost the fleet: commitment fees of those it opened, anchors, sweeps. */
const MOST_FEES_SAT = 30_000n;

let world: DisasterWorld;
let carol: LdkWallet;
let dave: LdkWallet;

beforeAll(async () => {
  world = await DisasterWorld.start();
  await world.startFleet({ managers: 2 });
  [carol, dave] = await Promise.all([world.wallet('carol', true), world.wallet('dave', false)]);
}, 300_000);

afterAll(() => world.stop(), 60_000);

/** Everything on the chain, set apart or not, and what is not home yet. */
const onChain = async () => {
  const found = await world.node.onchain.getBalance({}, world.node.auth());
  return {
    homeSat: found.confirmedSat + found.unconfirmedSat + found.reservedSat,
    limboSat: found.limboSat,
  };
};
const channels = async () =>
  (await world.node.channels.listChannels({ includeClosed: false }, world.node.auth())).channels;

async function openChannels(): Promise<void> {
  const { node, fleet } = world;
  const { nodeId } = await node.node.getInfo({}, node.auth());
  const [{ address: carols }, { address: fleets }] = await Promise.all([
    carol.call('newAddress'),
    node.onchain.newAddress({ addressType: 'p2wpkh' }, node.auth()),
  ]);
  // Anchors: both need a coin besides, to pay for a close.
  await world.mine(2, carols);
  await world.mine(2, fleets);
  await world.mine(100);
  const [port = 0] = fleet.lightningPorts.values();
  // Carol comes to the fleet, which never learns where she listens; the fleet dials Dave.
  await carol.call('connect', { nodeId: toHex(nodeId), host: '127.0.0.1', port });
  await carol.event('peer_connected');
  await carol.call('openChannel', { nodeId: toHex(nodeId), sat: CHANNEL_SAT });
  await carol.event('channel_pending');
  const daves = Buffer.from(dave.nodeId, 'hex');
  await node.peers.connectPeer({ nodeId: daves, host: '127.0.0.1', port: dave.port }, node.auth());
  const request = { nodeId: daves, fundingSat: BigInt(CHANNEL_SAT), pushMsat: 0n, announce: false };
  for (const _ of ['one that lives', 'one that the fleet closes'])
    await node.channels.openChannel({ ...request, idempotencyKey: '' }, node.auth());
  await until('the fundings', async () => ((await world.mempool()).length >= 3 ? true : undefined));
  await world.mine(6);
  await until('three open channels', async () =>
    (await channels()).filter(({ phase }) => phase === 'open').length === 3 ? true : undefined,
  );
  for (const wallet of [carol, dave])
    await until('a usable channel', async () =>
      (await wallet.call('listChannels')).some(({ usable }) => usable) ? true : undefined,
    );
}

async function pay(): Promise<void> {
  const { node } = world;
  const { bolt11 } = await node.invoices.createInvoice(
    { amountMsat: 700_000_000n, description: '', idempotencyKey: '' },
    node.auth(),
  );
  expect((await carol.payAndWait({ bolt11 })).event).toBe('payment_sent');
  // A payment from Carol to Dave goes through the fleet as well.
  for (const payer of ['fleet', 'carol'] as const) {
    const toDave = await dave.call('createInvoice', { amountMsat: 150_000_000n });
    if (payer === 'carol')
      expect((await carol.payAndWait({ bolt11: toDave.bolt11 })).event).toBe('payment_sent');
    else {
      const payment = await node.payments.sendPayment({ bolt11: toDave.bolt11, wait: true }, node.auth());
      expect(payment.status).toBe('succeeded');
    }
  }
}

test('all databases are lost; the peers close, and every balance comes home', async () => {
  await openChannels();
  await until('a backup with every channel', async () => {
    const found = await world.node.backups.getBackup({}, world.node.auth());
    return found.channels === 3 ? true : undefined;
  });
  await until('the backup file', async () => (fs.existsSync(world.backupFile) ? true : undefined));
  // Payments come after the backup: it is static.
  await pay();
  const current = await world.cli('backup', 'verify', world.backupFile);
  expect(current).toMatchObject({ code: 0 });
  const before = await onChain();
  const open = await channels();
  const inChannelsMsat = open.reduce((sum, { holderBalanceMsat }) => sum + holderBalanceMsat, 0n);
  expect(inChannelsMsat).toBeGreaterThan(4_000_000_000n);
  // The fleet closes a channel by force, and is gone before its balance is mature.
  const closing = open.find(({ counterpartyNodeId }) => toHex(counterpartyNodeId) === dave.nodeId);
  if (closing === undefined) throw new TypeError('no channel with Dave');
  await world.node.channels.closeChannel({ channelId: closing.channelId, force: true }, world.node.auth());
  await until('its commitment', async () => ((await world.mempool()).length > 0 ? true : undefined));
  await world.mine(1);
  await dave.event('channel_closed');

  await world.disaster();
  const kept = fs.readFileSync(world.backupFile);
  await world.startFleet({ managers: 2 });
  const { node } = world;
  expect((await world.cli('backup', 'verify', world.backupFile)).stderr).toContain('recover --backup');
  expect((await world.cli('backup', 'export', `${world.backupFile}.new`)).code).toBe(1);
  expect(fs.readFileSync(world.backupFile).equals(kept)).toBe(true);

  // Carol comes back by herself, hears that nobody here knows her channel, and closes it: long before the recovery.
  await carol.event('channel_closed');
  await until('her commitment', async () => ((await world.mempool()).length > 0 ? true : undefined));
  await world.mine(10);

  const recovered = await world.cli('-o', 'table', 'recover', '--backup', world.backupFile);
  expect(recovered).toMatchObject({ code: 0, stderr: expect.stringContaining('Registering') });
  expect(recovered.stdout.match(/recovered/g)).toHaveLength(3);
  // Once more changes nothing.
  const again = await world.cli('recover', '--backup', world.backupFile);
  expect(again.code).toBe(0);
  expect(again.stdout).not.toContain('"recovered"');
  expect((await channels()).map(({ phase }) => phase)).toEqual(['passive', 'passive', 'passive']);

  // Dave is dialled, and asked.
  await until('his close', async () =>
    dave.events.filter(({ event }) => event === 'channel_closed').length === 2 ? true : undefined,
  );

  await until(
    'every satoshi of the channels in the wallet',
    async () => {
      await world.mine(6);
      const { homeSat, limboSat } = await onChain();
      return limboSat === 0n && homeSat > before.homeSat + inChannelsMsat / 1000n - MOST_FEES_SAT
        ? true
        : undefined;
    },
    240_000,
  );
  await world.mine(6);
  const after = await onChain();
  const lostSat = before.homeSat + inChannelsMsat / 1000n - after.homeSat;
  process.stderr.write(`recover: ${inChannelsMsat / 1000n} sat in channels, ${lostSat} sat of fees\n`);
  expect(lostSat).toBeGreaterThanOrEqual(0n);
  expect(lostSat).toBeLessThan(MOST_FEES_SAT);

  // Settled for good, the channels leave the backup, whose numbers went on.
  await until(
    'no channel left',
    async () => {
      await world.mine(6);
      return (await channels()).length === 0 ? true : undefined;
    },
    120_000,
  );
  const { sequence } = await node.backups.verifyBackup([{ sealed: kept }], node.auth());
  await until('a backup without channels', async () => {
    const newest = await node.backups.getBackup({}, node.auth());
    return newest.channels === 0 && newest.sequence > sequence && newest.fileState !== 'refused'
      ? true
      : undefined;
  });
  const verified = await until('the file replaced', async () => {
    const { stdout, code } = await world.cli('backup', 'verify', world.backupFile);
    return code === 0 && !stdout.includes('"channel_id"') ? stdout : undefined;
  });
  expect(verified).toContain('"verdict": "current"');
}, 600_000);
