// A node that needs a tower: nothing moves without it, and it punishes when the node is gone altogether.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { TowerServiceService } from '@fulmen/proto/node/v1/node';
import { type Client, grpcConnector, type RpcConnector } from '@fulmen/rpc';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LdkWallet } from '../../ldk-wallet/client.ts';
import { until } from '../main-job/waiting.ts';
import { Fleet } from '../support/fleet.ts';
import { connectNode, type NodeClient } from '../support/node-client.ts';
import { DESTINATION, TOWER_ID, TowerSite } from './tower.ts';

const CHANNEL_SAT = 5_000_000;
const PAYMENT_MSAT = 20_000_000n;
/** Paid after the state that Alice keeps: what she would take back. */
const STOLEN_MSAT = 1_000_000_000n;
const MANAGER = 'channel-manager-1';
/** From when the tower is back, on a machine that is busy. */
const OUTCOME_MS = 60_000;

describe('a fleet with one tower, which every update needs', () => {
  let stateDir: string;
  let site: TowerSite;
  let fleet: Fleet;
  let node: NodeClient;
  let connector: RpcConnector;
  let towers: Client<TowerServiceService>;
  let alice: LdkWallet;
  let bob: LdkWallet;

  beforeAll(async () => {
    stateDir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-towers-'));
    fs.chmodSync(stateDir, 0o755);
    site = await TowerSite.prepare(path.join(stateDir, 'tower'));
    fleet = await Fleet.start({
      stateDir,
      managers: 1,
      gateways: 1,
      env: site.fleetEnvironment([MANAGER]),
    });
    await site.start(fleet);
    node = connectNode(fleet.consoleAddress, fleet.token());
    connector = grpcConnector();
    towers = connector.client(TowerServiceService, fleet.consoleAddress);
    const wallet = (name: string): Promise<LdkWallet> =>
      LdkWallet.start({ dataDir: path.join(stateDir, 'wallets', name), chainUrl: fleet.chainUrl });
    [alice, bob] = await Promise.all([wallet('alice'), wallet('bob')]);
  }, 240_000);

  afterAll(async () => {
    node.close();
    connector.close();
    await Promise.all([alice.stop(), bob.stop()]);
    await site.stop();
    await fleet.stop();
    fs.rmSync(stateDir, { recursive: true, force: true });
  }, 120_000);

  async function mine(blocks: number, address: string): Promise<void> {
    await fleet.chain.call('generatetoaddress', blocks, address);
    const height = Number(await fleet.chain.call('getblockcount'));
    await Promise.all([alice.call('sync'), bob.call('sync')]);
    await until(`the fleet at block ${height}`, async () =>
      (await node.node.getInfo({}, node.auth())).blockHeight >= height ? true : undefined,
    );
  }

  const openChannels = async () =>
    (await node.channels.listChannels({ includeClosed: false }, node.auth())).channels.filter(
      (channel) => channel.phase === 'open' && channel.peerConnected,
    );
  const connectedPeers = async () =>
    (await node.peers.listPeers({}, node.auth())).peers.filter(({ connected }) => connected).length;
  const mempool = async () => (await fleet.chain.call('getrawmempool')) as readonly string[];

  async function pay(amountMsat: bigint): Promise<void> {
    const { bolt11 } = await bob.call('createInvoice', { amountMsat });
    expect((await alice.payAndWait({ bolt11 })).event).toBe('payment_sent');
  }

  async function frozenChannels(): Promise<number> {
    const ports = JSON.parse(fs.readFileSync(path.join(stateDir, 'ports.json'), 'utf8')) as Record<
      string,
      number
    >;
    const answer = await fetch(`http://127.0.0.1:${ports[`${MANAGER}-metrics`]}/metrics`);
    return Number(/^fulmen_manager_channels_frozen\{[^}]*\} (\d+)/m.exec(await answer.text())?.[1] ?? -1);
  }

  async function aliceChannelId(): Promise<Uint8Array> {
    const channel = (await openChannels()).find((one) => toHex(one.counterpartyNodeId) === alice.nodeId);
    if (channel === undefined) throw new TypeError('Alice has no channel');
    return channel.channelId;
  }

  test('a funding waits in the drawer until the tower has the channel; then payments flow', async () => {
    const { nodeId } = await node.node.getInfo({}, node.auth());
    const [{ address: alices }, { address: fleets }] = await Promise.all([
      alice.call('newAddress'),
      node.onchain.newAddress({ addressType: 'p2wpkh' }, node.auth()),
    ]);
    await mine(1, alices);
    await mine(1, fleets);
    await mine(100, alices);
    const [port] = fleet.lightningPorts.values();
    for (const wallet of [alice, bob]) {
      await wallet.call('connect', { nodeId: toHex(nodeId), host: '127.0.0.1', port: port ?? 0 });
      await wallet.event('peer_connected');
    }
    // A wallet has the gateway's init before the manager has accepted the connection.
    await until('two connected peers', async () => ((await connectedPeers()) === 2 ? true : undefined));
    await node.channels.openChannel(
      {
        nodeId: Buffer.from(bob.nodeId, 'hex'),
        fundingSat: BigInt(CHANNEL_SAT),
        pushMsat: 0n,
        announce: false,
        idempotencyKey: '',
      },
      node.auth(),
    );
    await until('a frozen channel', async () => ((await frozenChannels()) > 0 ? true : undefined));
    expect(await mempool()).toEqual([]);
    expect((await towers.listTowers({}, node.auth())).towers).toEqual([]);
    await towers.addTower({ towerId: TOWER_ID, publicKey: Buffer.from(site.publicKey) }, node.auth());
    await until('the funding transaction', async () => ((await mempool()).length > 0 ? true : undefined));
    await alice.call('openChannel', { nodeId: toHex(nodeId), sat: CHANNEL_SAT });
    await alice.event('channel_pending');
    await until('both funding transactions', async () => ((await mempool()).length > 1 ? true : undefined));
    await mine(6, alices);
    await until('two open channels', async () => ((await openChannels()).length === 2 ? true : undefined));
    for (const wallet of [alice, bob])
      await until('a usable channel', async () =>
        (await wallet.call('listChannels')).some(({ usable }) => usable) ? true : undefined,
      );
    for (let i = 0; i < 5; i++) await pay(PAYMENT_MSAT);
    const { towers: listed, required } = await towers.listTowers({}, node.auth());
    expect(required).toBe(1);
    expect(listed).toMatchObject([{ towerId: TOWER_ID, faults: [] }]);
  }, 240_000);

  test('without its tower a channel is frozen; with it, it goes on where it was', async () => {
    await until('channels at rest', async () => ((await frozenChannels()) === 0 ? true : undefined));
    await site.supervisor.kill9ForGood('tower');
    const { bolt11 } = await bob.call('createInvoice', { amountMsat: PAYMENT_MSAT });
    const { paymentId } = await alice.call('pay', { bolt11 });
    await until('a frozen channel', async () => ((await frozenChannels()) > 0 ? true : undefined));
    const waiting = (await alice.call('listPayments')).filter(({ state }) => state === 'pending');
    expect(waiting).toHaveLength(1);
    await site.supervisor.restart('tower');
    expect((await alice.outcome(paymentId, OUTCOME_MS)).event).toBe('payment_sent');
    await pay(PAYMENT_MSAT);
    // A manager that dies while a channel is frozen finds it so, and goes on when the tower does.
    await site.supervisor.kill9ForGood('tower');
    const invoice = await bob.call('createInvoice', { amountMsat: PAYMENT_MSAT });
    const second = await alice.call('pay', { bolt11: invoice.bolt11 });
    await until('a frozen channel', async () => ((await frozenChannels()) > 0 ? true : undefined));
    await fleet.kill9AndWait(MANAGER);
    await until('a frozen channel of the new process', async () =>
      (await frozenChannels()) > 0 ? true : undefined,
    );
    await site.supervisor.restart('tower');
    expect((await alice.outcome(second.paymentId, OUTCOME_MS)).event).toBe('payment_sent');
  }, 240_000);

  test('the tower punishes a breach with the node gone: its database, its signer, everything', async () => {
    const channelId = await aliceChannelId();
    const snapshotDir = path.join(stateDir, 'wallets', 'alice-of-old');
    await alice.call('snapshot', { dir: snapshotDir });
    await pay(STOLEN_MSAT);
    await until('the tower to have everything', async () => {
      const [tower] = (await towers.listTowers({}, node.auth())).towers;
      return tower?.channelsBehind === 0n && (await frozenChannels()) === 0 ? true : undefined;
    });
    for (const service of fleet.services) await fleet.supervisor.kill9ForGood(service);
    await fleet.nats.kill();
    await fleet.postgres.kill();
    await alice.stop();
    alice = await LdkWallet.start({ dataDir: snapshotDir, chainUrl: fleet.chainUrl, offline: true });
    await alice.call('closeChannel', { channelId: toHex(channelId), force: true });
    await until('the revoked commitment in the mempool', async () =>
      (await mempool()).length > 0 ? true : undefined,
    );
    const { address } = await bob.call('newAddress');
    let paidSat = 0;
    // All that Alice had on her old commitment, fees apart; what was in flight in it comes by itself.
    await until('the punishment in blocks', async () => {
      await fleet.chain.call('generatetoaddress', 1, address);
      paidSat += await destinationSat();
      return paidSat > Number(STOLEN_MSAT / 1000n) ? true : undefined;
    });
    expect(paidSat).toBeLessThan(CHANNEL_SAT);
  }, 180_000);

  /** What the tip pays to the tower's operator. */
  async function destinationSat(): Promise<number> {
    const hash = (await fleet.chain.call('getbestblockhash')) as string;
    const block = (await fleet.chain.call('getblock', hash, 2)) as {
      readonly tx: readonly {
        readonly vout: readonly { readonly value: number; readonly scriptPubKey: { readonly hex: string } }[];
      }[];
    };
    const paid = block.tx
      .flatMap(({ vout }) => vout)
      .filter(({ scriptPubKey }) => scriptPubKey.hex === toHex(DESTINATION));
    return Math.round(paid.reduce((sum, { value }) => sum + value, 0) * 100_000_000);
  }
});
