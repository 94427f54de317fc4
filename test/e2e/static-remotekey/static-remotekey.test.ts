// A peer without anchors: channels of type static_remotekey, both ways, paid over and closed, with it and without.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LdkWallet } from '../../ldk-wallet/client.ts';
import { StepFailed, until } from '../main-job/waiting.ts';
import { MINER_ADDRESS as MINER } from '../main-job/world.ts';
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

/** Blocks that Carol has to claim a payment. */
const FINAL_CLTV_DELTA = 80;
/** An expiry, a delay of 144 blocks, and burials. */
const MAX_BLOCKS = 400;

async function pending(): Promise<boolean> {
  const [{ channels }, { sweeps }, { limbo }, { claimable }] = await Promise.all([
    node.channels.listClosingChannels({ includeResolved: false, limit: 0 }, node.auth()),
    node.onchain.listSweeps({}, node.auth()),
    node.onchain.getBalance({}, node.auth()),
    carol.call('balances'),
  ]);
  return channels.length + sweeps.length + limbo.length + claimable.length + (await mempool()).length > 0;
}

async function mineUntil(what: string, check: () => Promise<boolean>): Promise<void> {
  for (let mined = 0; mined < MAX_BLOCKS; mined += 2) {
    if (await check()) return;
    await fleet.chain.call('generatetoaddress', 2, MINER);
    await carol.call('sync');
    const height = Number(await fleet.chain.call('getblockcount'));
    await until(`the fleet at block ${height}`, async () =>
      (await node.node.getInfo({}, node.auth())).blockHeight >= height ? true : undefined,
    );
  }
  throw new StepFailed(`${what} did not happen within ${MAX_BLOCKS} blocks`);
}

test('closed by force with payments of the fleet in flight: one is claimed on-chain, one times out', async () => {
  const opened = await node.channels.openChannel(
    {
      nodeId: Buffer.from(carol.nodeId, 'hex'),
      fundingSat: BigInt(CHANNEL_SAT),
      pushMsat: 400_000_000n,
      announce: false,
      idempotencyKey: '',
    },
    node.auth(),
  );
  const closingOf = async (includeResolved: boolean) =>
    (await node.channels.listClosingChannels({ includeResolved, limit: 0 }, node.auth())).channels.find(
      ({ channelId }) => Buffer.compare(channelId, opened.channelId) === 0,
    );
  const inMempool = async (txid: Uint8Array | undefined) =>
    (await mempool()).includes(toHex(Uint8Array.from(txid ?? []).reverse())) ? true : undefined;
  await until('the funding transaction', () => inMempool(opened.fundingTxid));
  await fleet.chain.call('generatetoaddress', 6, MINER);
  await until('a usable channel', async () => {
    await carol.call('sync');
    const [channel] = await openChannels();
    const usable = (await carol.call('listChannels')).some((one) => one.usable);
    return usable && channel?.phase === 'open' ? channel : undefined;
  });
  const invoice = () =>
    carol.call('createInvoice', { amountMsat: 60_000_000n, hold: true, cltvDelta: FINAL_CLTV_DELTA });
  const [claimed, refused] = [await invoice(), await invoice()];
  for (const { bolt11, paymentHash } of [claimed, refused]) {
    await node.payments.sendPayment({ bolt11, wait: false, timeoutSeconds: 3_600 }, node.auth());
    await carol.event('payment_claimable', (event) => event.paymentHash === paymentHash);
  }

  // Away, or she would answer with a commitment of her own.
  await carol.kill9();
  await node.channels.closeChannel({ channelId: opened.channelId, force: true }, node.auth());
  await until('the commitment', async () => inMempool((await closingOf(false))?.closingTxid));
  await fleet.chain.call('generatetoaddress', 1, MINER);
  await carol.start();
  await carol.call('claim', { paymentHash: claimed.paymentHash });
  const statusOf = async (paymentHash: string) =>
    (
      await node.payments.lookupPayment(
        { paymentHash: Uint8Array.from(Buffer.from(paymentHash, 'hex')) },
        node.auth(),
      )
    ).status;
  await mineUntil(
    'the success of the claimed payment',
    async () => (await statusOf(claimed.paymentHash)) === 'succeeded',
  );
  await mineUntil(
    'the failure of the other payment',
    async () => (await statusOf(refused.paymentHash)) === 'failed',
  );
  await mineUntil('an end of everything that was pending', async () => !(await pending()));
  expect(await closingOf(true)).toMatchObject({ closeType: 'holder', stage: 'resolved' });
}, 300_000);
