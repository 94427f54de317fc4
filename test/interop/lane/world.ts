/** What a case has: the fleet on a real bitcoind, and peers of its own that end with it. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Channel, OpenChannelResponse } from '@fulmen/proto/manager/v1/manager';
import { Fleet } from '../../e2e/support/fleet.ts';
import { connectNode, type NodeClient } from '../../e2e/support/node-client.ts';
import { until } from '../../e2e/main-job/waiting.ts';
import { Chain } from './chain.ts';
import type { Handshake } from '../../ldk-wallet/protocol.ts';
import { Ldk } from './ldk.ts';
import { findLdkNode, LdkNode } from './ldk-node.ts';
import { Lnd, findLnd } from './lnd.ts';
import {
  type InteropPeer,
  NotApplicable,
  type OpenOptions,
  type PeerChannel,
  type PeerKind,
} from './peer.ts';
import { Recording, recordingDir, wireLogEnvironment } from './recording.ts';

const FLEET_FUNDING_SAT = 500_000_000n;
/** Above what LND and LDK open at least, so that they hear of it. */
export const FLEET_MINIMUM_CHANNEL_SAT = 25_000n;
/**
 * What the network is told. No address: LND comes back to what a node announces, and else to where it was connected,
 * which may be a proxy that cuts it.
 */
const IDENTITY = { FULMEN_ALIAS: 'fulmen of the lane', FULMEN_PUBLIC_ADDRESSES: '' };
const MANAGER = {
  FULMEN_MINIMUM_CHANNEL_SAT: String(FLEET_MINIMUM_CHANNEL_SAT),
  ...IDENTITY,
  // A public channel whose peer is away is disabled sooner than after the ten minutes of LDK.
  FULMEN_DISABLE_AFTER_MS: '10000',
};
const SHARDS = 256;
const PEER_FUNDING_SAT = 100_000_000n;
/** BOLT 7 announces a channel at six confirmations; one more for who counts from the block after. */
const BURYING_BLOCKS = 7;

/** A peer that is not as the others. */
interface SpecialPeer {
  /** LND: whether it knows option_support_large_channel. */
  readonly largeChannels?: 'known' | 'unknown';
  /** LDK: what it asks of a counterparty, and takes from one. */
  readonly handshake?: Handshake;
}

/** A channel from either side; what is absent is as most cases want it. */
export interface Opening extends Omit<OpenOptions, 'nodeId' | 'fundingSat'> {
  readonly fundingSat?: bigint;
  /** The fleet's promise where a mutual close pays it, in hex. */
  readonly shutdownScript?: string;
}

type Vault = Awaited<ReturnType<Chain['taproot']>>;

export class World {
  readonly chain: Chain;
  readonly fleet: Fleet;
  readonly node: NodeClient;
  readonly nodeId: string;
  readonly dir: string;
  readonly recording: Recording;
  /** A taproot address outside of every node's wallet to which the fleet's signer lets a close pay. */
  readonly vault: Vault;
  #peers: InteropPeer[] = [];
  #hub: InteropPeer | undefined;
  #born = 0;
  #openings = 0;

  private constructor(parts: {
    chain: Chain;
    fleet: Fleet;
    node: NodeClient;
    nodeId: string;
    dir: string;
    recording: Recording;
    vault: Vault;
  }) {
    this.chain = parts.chain;
    this.fleet = parts.fleet;
    this.node = parts.node;
    this.nodeId = parts.nodeId;
    this.dir = parts.dir;
    this.recording = parts.recording;
    this.vault = parts.vault;
  }

  static async start(bitcoind: string, say: (text: string) => void): Promise<World> {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-interop-'));
    say('starting bitcoind');
    const chain = await Chain.start(bitcoind);
    const vault = await chain.taproot();
    const stateDir = path.join(dir, 'fleet');
    const fleet = await Fleet.start({
      stateDir,
      env: {
        ...wireLogEnvironment(stateDir),
        // Gossip is passed on sooner than after the minute that BOLT 7 recommends.
        router: { FULMEN_GOSSIP_RELAY_MS: '500' },
        console: IDENTITY,
        'channel-manager-1': MANAGER,
        'channel-manager-2': MANAGER,
        // Cases that change the feerate wait for the fleet to see it.
        'chain-monitor': { FULMEN_FEE_CACHE_MS: '1000' },
        signer: { FULMEN_SIGNER_ALLOWED_SCRIPTS: Buffer.from(vault.scriptPubkey).toString('hex') },
      },
      chainUrl: chain.url,
      onProgress: (what) => say(`starting ${what}`),
    });
    const node = connectNode(fleet.consoleAddress, fleet.token());
    const info = await until('an answer of the console', () => node.node.getInfo({}, node.auth()));
    const nodeId = Buffer.from(info.nodeId).toString('hex');
    const recording = new Recording(fleet, say);
    const world = new World({ chain, fleet, node, nodeId, dir, recording, vault });
    const { address } = await node.onchain.newAddress({ addressType: 'p2wpkh' }, node.auth());
    for (let i = 0; i < 5; i++) await chain.fund(address, FLEET_FUNDING_SAT / 5n);
    await world.mine(1);
    say('opening a public channel of the fleet');
    await world.#becomePublic();
    return world;
  }

  /**
   * A public channel with a node that stays: a service provider has some, and LND gives route hints only for
   * channels with a node of the public network.
   */
  async #becomePublic(): Promise<void> {
    const hub = await this.peer('ldk');
    await this.connect(hub);
    await this.open(hub, 'fleet', { announce: 'announced' });
    await this.mine(1);
    this.#peers = [];
    this.#hub = hub;
    await this.recording.endCase();
  }

  /** A fresh peer with money, connected to nobody. */
  async peer(kind: PeerKind, extra: readonly string[] = [], special: SpecialPeer = {}): Promise<InteropPeer> {
    this.#born += 1;
    const name = `${kind}-${this.#born}`;
    const common = { name, dataDir: path.join(this.dir, name), chain: this.chain };
    const peer = await startPeer(kind, common, { extra, ...special });
    this.#peers.push(peer);
    this.recording.peer(peer);
    const address = await peer.newAddress();
    await this.chain.fund(address, PEER_FUNDING_SAT);
    await this.mine(1);
    await until(`${name} sees its money`, async () => ((await peer.onchainSat()) > 0n ? true : undefined));
    return peer;
  }

  /** Every process serves and every shard has an owner, whatever the case before did to them. */
  async ready(): Promise<void> {
    for (const name of this.fleet.services) await this.fleet.supervisor.whenReady(name);
    await until('every shard has an owner', async () => {
      const { members } = await this.node.node.getFleet({}, this.node.auth());
      const owned = members.map(({ detail }) => Number(/^owns (\d+) shards$/.exec(detail)?.[1] ?? 0));
      return owned.reduce((sum, shards) => sum + shards, 0) === SHARDS ? true : undefined;
    });
  }

  /** Ends the peers of a case. */
  async forgetPeers(): Promise<void> {
    const peers = this.#peers;
    this.#peers = [];
    for (const peer of peers) {
      await this.node.peers
        .disconnectPeer({ nodeId: Buffer.from(peer.nodeId, 'hex') }, this.node.auth())
        .catch(() => undefined);
      await peer.stop();
    }
    await this.recording.endCase();
  }

  /** A node of the public network with a channel of the fleet's. */
  get hub(): InteropPeer {
    if (this.#hub === undefined) throw new TypeError('the world has not started');
    return this.#hub;
  }

  get gatewayPort(): number {
    const [port] = this.fleet.lightningPorts.values();
    if (port === undefined) throw new NotApplicable('the fleet has no gateway');
    return port;
  }

  /** Mines, and waits until the fleet and every peer followed. */
  async mine(blocks: number): Promise<void> {
    await this.chain.mine(blocks);
    await this.caughtUp();
  }

  /**
   * Buries whatever is published until something is so. For what is mined without being known: of several transactions
   * the awaited one need not be the first, as an earlier case's sweeps come when they may.
   */
  async minedUntil<T>(what: string, probe: () => Promise<T | undefined>): Promise<T> {
    return until(what, async () => {
      if ((await this.chain.mempool()).length > 0) await this.mine(BURYING_BLOCKS);
      return probe();
    });
  }

  /** The fleet and every peer are at the chain's tip. */
  async caughtUp(): Promise<void> {
    const height = await this.chain.height();
    await until(`the fleet at block ${height}`, async () => {
      const info = await this.node.node.getInfo({}, this.node.auth());
      return info.blockHeight >= height ? true : undefined;
    });
    for (const peer of [...this.#peers, ...(this.#hub === undefined ? [] : [this.#hub])]) await peer.sync();
  }

  /** Connects a peer to the fleet, by the peer's dialling. */
  async connect(peer: InteropPeer): Promise<void> {
    await until(`${peer.name} is connected`, async () => {
      if (!(await peer.isConnected(this.nodeId))) await peer.connect(this.nodeId, this.gatewayPort);
      return (await this.isConnected(peer)) ? true : undefined;
    });
  }

  async untilConnected(peer: InteropPeer): Promise<void> {
    await until(`${peer.name} is connected`, async () =>
      (await peer.isConnected(this.nodeId)) && (await this.isConnected(peer)) ? true : undefined,
    );
  }

  async isConnected(peer: InteropPeer): Promise<boolean> {
    const { peers } = await this.node.peers.listPeers({}, this.node.auth());
    return peers.some(
      ({ nodeId, connected }) => connected && Buffer.from(nodeId).toString('hex') === peer.nodeId,
    );
  }

  /** The fleet's channels with a peer that are not closed. */
  async fleetChannels(peer: InteropPeer): Promise<readonly Channel[]> {
    const { channels } = await this.node.channels.listChannels({ includeClosed: false }, this.node.auth());
    return channels.filter(
      (channel) =>
        Buffer.from(channel.counterpartyNodeId).toString('hex') === peer.nodeId && channel.phase !== 'closed',
    );
  }

  /** Opens a channel from either side and waits until both can use it. */
  async open(
    peer: InteropPeer,
    by: 'peer' | 'fleet',
    options: Opening = {},
  ): Promise<{ readonly ours: Channel; readonly theirs: PeerChannel }> {
    await this.startOpening(peer, by, options);
    await this.mine(6);
    return this.usable(peer);
  }

  /** Whether an output is spent in a block or in the mempool. */
  async isSpent(txid: string, outputIndex: number): Promise<boolean> {
    return (await this.chain.rpc.call('gettxout', txid, outputIndex, true)) === null;
  }

  /** Opens a channel and waits for its funding in the mempool; resolves with the funding's txid. */
  async startOpening(peer: InteropPeer, by: 'peer' | 'fleet', options: Opening = {}): Promise<string> {
    const { fundingSat = 5_000_000n, pushMsat = 2_000_000_000n, announce = 'private' } = options;
    const before = new Set(await this.chain.mempool());
    if (by === 'peer') {
      const { shutdownScript: _, ...asked } = options;
      await peer.open({ ...asked, nodeId: this.nodeId, fundingSat, pushMsat, announce });
    } else {
      await this.openByFleet(peer, { ...options, fundingSat, pushMsat, announce });
    }
    // What else is published meanwhile, a sweep of an earlier case's, is none.
    return until('the funding is in the mempool', async () => {
      const fundings = (await this.fleetChannels(peer)).map(({ fundingTxid }) =>
        Buffer.from(fundingTxid).reverse().toString('hex'),
      );
      return (await this.chain.mempool()).find((txid) => !before.has(txid) && fundings.includes(txid));
    });
  }

  /** OpenChannel of the public API; resolves once the peer has signed. */
  openByFleet(
    peer: InteropPeer,
    options: Opening & { readonly fundingSat: bigint },
  ): Promise<OpenChannelResponse> {
    const { fundingSat, pushMsat = 0n, announce, format, shutdownScript, scidAlias, confirmations } = options;
    this.#openings += 1;
    return this.node.channels.openChannel(
      {
        nodeId: Buffer.from(peer.nodeId, 'hex'),
        fundingSat,
        pushMsat,
        announce: announce === 'announced',
        fundingFeerateSatPerKw: undefined,
        idempotencyKey: `opening ${this.#openings}`,
        commitmentFormat: format,
        shutdownScript: shutdownScript === undefined ? undefined : Buffer.from(shutdownScript, 'hex'),
        scidAlias: scidAlias === 'scid_alias',
        zeroConf: confirmations === 'zero_conf',
      },
      this.node.auth(),
    );
  }

  /** Both sides say that the channel can be used. */
  async usable(peer: InteropPeer): Promise<{ readonly ours: Channel; readonly theirs: PeerChannel }> {
    return until(`a usable channel of ${peer.name}`, async () => {
      const theirs = (await peer.channels()).find(({ isUsable }) => isUsable);
      const ours = (await this.fleetChannels(peer)).find(
        ({ phase, peerConnected }) => phase === 'open' && peerConnected,
      );
      return theirs === undefined || ours === undefined ? undefined : { ours, theirs };
    });
  }

  /** Both sides agree on the balance to the millisatoshi, with nothing in flight. */
  async agree(peer: InteropPeer): Promise<void> {
    await until(`agreement with ${peer.name}`, async () => {
      const theirs = (await peer.channels()).find(({ isUsable }) => isUsable);
      const ours = (await this.fleetChannels(peer)).find(({ phase }) => phase === 'open');
      if (theirs === undefined || ours === undefined) return undefined;
      if (theirs.htlcsInFlight > 0 || ours.htlcsInFlight > 0) return undefined;
      // LND shows whole satoshis.
      const difference = theirs.balanceMsat - ours.counterpartyBalanceMsat;
      const tolerance = peer.kind === 'lnd' ? 1_000n : 0n;
      return difference <= tolerance && -difference <= tolerance ? true : undefined;
    });
  }

  async waitUntilHeld(peer: InteropPeer, paymentHash: string): Promise<void> {
    await until(`${peer.name} holds the payment`, async () =>
      (await peer.isHeld(paymentHash)) ? true : undefined,
    );
  }

  /** Copies what the fleet's processes and the peers of the case logged beside the recordings. @returns the folder */
  keepLogs(): string {
    const kept = path.join(recordingDir(), `logs-${path.basename(this.dir)}`);
    fs.cpSync(path.join(this.fleet.stateDir, 'logs'), kept, { recursive: true });
    for (const { name } of this.#peers)
      for (const file of fs.readdirSync(path.join(this.dir, name), { recursive: true, encoding: 'utf8' }))
        if (file.endsWith('.log'))
          fs.copyFileSync(path.join(this.dir, name, file), path.join(kept, `${name}-${path.basename(file)}`));
    return kept;
  }

  async stop(): Promise<void> {
    await this.forgetPeers();
    await this.#hub?.stop();
    this.node.close();
    await this.fleet.stop();
    await this.chain.stop();
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

function startPeer(
  kind: PeerKind,
  common: Parameters<typeof Ldk.start>[0],
  special: SpecialPeer & { readonly extra: readonly string[] },
): Promise<InteropPeer> {
  switch (kind) {
    case 'ldk':
      return Ldk.start({ ...common, ...special });
    case 'ldk-node':
      return startLdkNode(common);
    case 'lnd':
      return startLnd({ ...common, ...special });
  }
}

async function startLdkNode(options: Omit<Parameters<typeof LdkNode.start>[0], 'binary'>): Promise<LdkNode> {
  const binary = findLdkNode();
  if (binary === undefined) throw new NotApplicable('ldk-node was not built: there is no cargo');
  return LdkNode.start({ ...options, binary });
}

async function startLnd(options: Omit<Parameters<typeof Lnd.start>[0], 'binary'>): Promise<Lnd> {
  const binary = findLnd();
  if (binary === undefined) throw new NotApplicable('there is no lnd');
  return Lnd.start({ ...options, binary });
}
