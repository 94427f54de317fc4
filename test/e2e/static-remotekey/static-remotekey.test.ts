// A peer without anchors: channels of type static_remotekey, both ways, paid over and closed.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LdkWallet } from '../../ldk-wallet/client.ts';
import { until } from '../main-job/waiting.ts';
import { Fleet } from '../support/fleet.ts';
import { connectNode, type NodeClient } from '../support/node-client.ts';

const CHANNEL_SAT = 2_000_000;

let stateDir: string;
let fleet: Fleet;
let carol: LdkWallet;
let node: NodeClient;

beforeAll(async () => {
  stateDir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-static-'));
  fs.chmodSync(stateDir, 0o755);
  fleet = await Fleet.start({ stateDir, managers: 1, gateways: 1 });
  node = connectNode(fleet.consoleAddress, fleet.token());
  carol = await LdkWallet.start({
    dataDir: path.join(stateDir, 'carol'),
    chainUrl: fleet.chainUrl,
    anchors: false,
  });
}, 180_000);

afterAll(async () => {
  node.close();
  await carol.stop();
  await fleet.stop();
  fs.rmSync(stateDir, { recursive: true, force: true });
}, 60_000);

async function mine(blocks: number, address: string): Promise<void> {
  await fleet.chain.call('generatetoaddress', blocks, address);
  const height = Number(await fleet.chain.call('getblockcount'));
  await carol.call('sync');
  await until(`the fleet at block ${height}`, async () =>
    (await node.node.getInfo({}, node.auth())).blockHeight >= height ? true : undefined,
  );
}

const openChannels = async () =>
  (await node.channels.listChannels({ includeClosed: false }, node.auth())).channels.filter(
    (channel) => channel.phase === 'open' && channel.peerConnected,
  );
const mempool = async () => (await fleet.chain.call('getrawmempool')) as readonly string[];

test('channels of type static_remotekey open, carry payments and close, both ways', async () => {
  const { nodeId } = await node.node.getInfo({}, node.auth());
  const [{ address: carols }, { address: fleets }] = await Promise.all([
    carol.call('newAddress'),
    node.onchain.newAddress({ addressType: 'p2wpkh' }, node.auth()),
  ]);
  await mine(1, carols);
  await mine(1, fleets);
  await mine(100, carols);

  const [port] = fleet.lightningPorts.values();
  await carol.call('connect', { nodeId: toHex(nodeId), host: '127.0.0.1', port: port ?? 0 });
  await carol.event('peer_connected');
  await carol.call('openChannel', { nodeId: toHex(nodeId), sat: CHANNEL_SAT });
  await carol.event('channel_pending');
  await node.channels.openChannel(
    {
      nodeId: Buffer.from(carol.nodeId, 'hex'),
      fundingSat: BigInt(CHANNEL_SAT),
      pushMsat: 0n,
      announce: false,
      idempotencyKey: '',
    },
    node.auth(),
  );
  await until('both funding transactions', async () => ((await mempool()).length >= 2 ? true : undefined));
  await mine(6, carols);
  const channels = await until('two open channels', async () => {
    const open = await openChannels();
    return open.length === 2 ? open : undefined;
  });
  expect(channels.map((channel) => channel.channelType)).toEqual(['static_remotekey', 'static_remotekey']);
  await until('two usable channels at Carol', async () =>
    (await carol.call('listChannels')).filter((channel) => channel.usable).length === 2 ? true : undefined,
  );

  const toFleet = await node.invoices.createInvoice(
    { amountMsat: 50_000_000n, description: '', idempotencyKey: '' },
    node.auth(),
  );
  expect((await carol.payAndWait({ bolt11: toFleet.bolt11 })).event).toBe('payment_sent');
  const toCarol = await carol.call('createInvoice', { amountMsat: 30_000_000n });
  const payment = await node.payments.sendPayment({ bolt11: toCarol.bolt11, wait: true }, node.auth());
  expect(payment).toMatchObject({ status: 'succeeded', amountMsat: 30_000_000n });

  for (const channel of channels) {
    await node.channels.closeChannel({ channelId: channel.channelId, force: false }, node.auth());
  }
  await until('both closing transactions', async () => ((await mempool()).length >= 2 ? true : undefined));
  await mine(7, carols);
  await until('no channel left', async () => ((await openChannels()).length === 0 ? true : undefined));
}, 240_000);
