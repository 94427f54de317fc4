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
const MINER_ADDRESS = encodeAddress(Uint8Array.from([0, 20, ...new Uint8Array(20)]), NETWORKS.regtest);

export type WorldOptions = {
  /** Where the command line finds the console. */
  readonly cliFile?: string;
  /** Default: in the state folder. */
  readonly walletsDir?: string;
  /** How often the wallets look for blocks. */
  readonly walletPollMs?: number;
};

export class World {
  readonly fleet: Fleet;
  readonly alice: LdkWallet;
  readonly bob: LdkWallet;
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

  async mine(blocks: number, address = MINER_ADDRESS): Promise<void> {
    const height = Number(await this.fleet.chain.call('getblockcount')) + blocks;
    await this.fleet.chain.call('generatetoaddress', blocks, address);
    await Promise.all([this.alice.call('sync'), this.bob.call('sync')]);
    await until(`the fleet at block ${height}`, async () => {
      const info = await this.node.node.getInfo({}, this.node.auth());
      return info.blockHeight >= height ? true : undefined;
    });
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
    return balance.confirmedSat + balance.unconfirmedSat;
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
