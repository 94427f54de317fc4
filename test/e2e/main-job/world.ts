// The main job's cast: a fleet, and two LDK wallets that know nothing of it but the protocol.
import path from 'node:path';
import { encodeAddress, NETWORKS } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import { LdkWallet } from '../../ldk-wallet/client.ts';
import { Fleet } from '../support/fleet.ts';
import { connectNode, type NodeClient } from '../support/node-client.ts';
import type { Report } from './report.ts';
import { until } from './waiting.ts';

/** Nobody's address: a P2WPKH of a key that does not exist. */
export const MINER_ADDRESS = encodeAddress(Uint8Array.from([0, 20, ...new Uint8Array(20)]), NETWORKS.regtest);

export type WorldOptions = {
  /** Where the command line finds the console. */
  readonly cliFile?: string;
  /** Default: in the state folder. */
  readonly walletsDir?: string;
  /** How often the wallets look for blocks. */
  readonly walletPollMs?: number;
};

export type Party = 'alice' | 'bob' | 'fleet';
export const PARTIES: readonly Party[] = ['alice', 'bob', 'fleet'];

export class World {
  readonly fleet: Fleet;
  alice: LdkWallet;
  readonly bob: LdkWallet;
  /** Wallets that Alice was before she became another. */
  readonly #formerAlices: LdkWallet[] = [];
  readonly node: NodeClient;
  readonly nodeId: Uint8Array;
  readonly report: Report;

  private constructor(parts: {
    fleet: Fleet;
    alice: LdkWallet;
    bob: LdkWallet;
    node: NodeClient;
    nodeId: Uint8Array;
    report: Report;
  }) {
    this.fleet = parts.fleet;
    this.alice = parts.alice;
    this.bob = parts.bob;
    this.node = parts.node;
    this.nodeId = parts.nodeId;
    this.report = parts.report;
  }

  static async start(stateDir: string, report: Report, options: WorldOptions = {}): Promise<World> {
    const { cliFile, walletsDir = path.join(stateDir, 'wallets'), walletPollMs } = options;
    const fleet = await Fleet.start({
      stateDir,
      ...(cliFile === undefined ? {} : { cliFile }),
      onProgress: (what) => report.say(`starting ${what}`),
    });
    report.say('starting the wallets Alice and Bob (LDK)');
    const wallet = (name: string): Promise<LdkWallet> =>
      LdkWallet.start({
        dataDir: path.join(walletsDir, name),
        chainUrl: fleet.chainUrl,
        ...(walletPollMs === undefined ? {} : { pollMs: walletPollMs }),
      });
    const [alice, bob] = await Promise.all([wallet('alice'), wallet('bob')]);
    const node = connectNode(fleet.consoleAddress, fleet.token());
    const info = await until('an answer of the console', () => node.node.getInfo({}, node.auth()));
    return new World({ fleet, alice, bob, node, nodeId: info.nodeId, report });
  }

  async mine(blocks: number, address?: string): Promise<void> {
    const height = await this.#generate(blocks, address);
    await until(`the fleet at block ${height}`, async () => {
      const info = await this.node.node.getInfo({}, this.node.auth());
      return info.blockHeight >= height ? true : undefined;
    });
  }

  /** Mines while no manager lives: chain-monitor alone must follow. */
  async mineForChainMonitor(blocks: number): Promise<void> {
    const height = await this.#generate(blocks, undefined);
    await until(`chain-monitor at block ${height}`, async () => {
      const { members } = await this.node.node.getFleet({}, this.node.auth());
      const told = members.find(({ service }) => service === 'chain-monitor')?.detail ?? '';
      return Number(/block (\d+)/.exec(told)?.[1] ?? 0) >= height ? true : undefined;
    });
  }

  /** @returns the new height */
  async #generate(blocks: number, address: string | undefined): Promise<number> {
    const height = Number(await this.fleet.chain.call('getblockcount')) + blocks;
    await this.fleet.chain.call('generatetoaddress', blocks, address ?? MINER_ADDRESS);
    const running = [this.alice, this.bob].filter((wallet) => wallet.pid() !== undefined);
    await Promise.all(running.map((wallet) => wallet.call('sync')));
    return height;
  }

  /** Alice is set back: she goes on from an old snapshot of herself, offline, and believes in that time. */
  async setAliceBack(snapshotDir: string): Promise<void> {
    await this.alice.stop();
    this.#formerAlices.push(this.alice);
    this.alice = await LdkWallet.start({
      dataDir: snapshotDir,
      chainUrl: this.fleet.chainUrl,
      offline: true,
      ...(this.alice.options.pollMs === undefined ? {} : { pollMs: this.alice.options.pollMs }),
    });
  }

  /** Ids of the transactions that a wallet made or broadcast, in all its lives. */
  broadcastBy(party: 'alice' | 'bob'): ReadonlySet<string> {
    const wallets = party === 'alice' ? [...this.#formerAlices, this.alice] : [this.bob];
    const txids = wallets.flatMap(({ events }) =>
      events.flatMap((event) => (event.event === 'broadcast' ? [event.txid] : [])),
    );
    return new Set(txids);
  }

  /** Ids in the mempool. */
  async mempool(): Promise<readonly string[]> {
    return (await this.fleet.chain.call('getrawmempool')) as readonly string[];
  }

  /** The fleet's channel with a wallet, if there is one that is not closed. */
  async fleetChannel(wallet: LdkWallet): Promise<Channel | undefined> {
    const { channels } = await this.node.channels.listChannels({ includeClosed: false }, this.node.auth());
    return channels.find(
      (channel) => toHex(channel.counterpartyNodeId) === wallet.nodeId && channel.phase !== 'closed',
    );
  }

  /** Waits until both sides of a channel say that it can be used. */
  async usable(wallet: LdkWallet, name: string, timeoutMs = 60_000): Promise<void> {
    await until(
      `a usable channel of ${name}`,
      async () => {
        const [theirs, ours] = await Promise.all([wallet.call('listChannels'), this.fleetChannel(wallet)]);
        return theirs.some((channel) => channel.usable) && ours?.phase === 'open' && ours.peerConnected
          ? true
          : undefined;
      },
      timeoutMs,
    );
  }

  /** Both sides agree to the millisatoshi, with nothing in flight. */
  async balancesAgree(wallet: LdkWallet, name: string): Promise<void> {
    await until(`agreement of ${name} and the fleet on their balance`, async () => {
      const [theirs, ours] = await Promise.all([wallet.call('listChannels'), this.fleetChannel(wallet)]);
      const channel = theirs.find((candidate) => candidate.usable);
      if (channel === undefined || ours === undefined || ours.htlcsInFlight > 0) return undefined;
      if (channel.pendingInboundHtlcs + channel.pendingOutboundHtlcs > 0) return undefined;
      const theirMsat = channel.outboundMsat + BigInt(channel.reserveSat ?? 0) * 1000n;
      return theirMsat === ours.counterpartyBalanceMsat ? true : undefined;
    });
  }

  /** Total of the fleet's on-chain wallet in satoshis. */
  async fleetOnchainSat(): Promise<bigint> {
    const balance = await this.node.onchain.getBalance({}, this.node.auth());
    return balance.confirmedSat + balance.unconfirmedSat + balance.reservedSat;
  }

  async stop(): Promise<void> {
    this.node.close();
    await Promise.all([this.alice.stop(), this.bob.stop()]);
    await this.fleet.stop();
  }
}

/** Satoshis with thousands separators. */
export function sat(value: bigint | number): string {
  return `${value.toLocaleString('en-US')} sat`;
}
