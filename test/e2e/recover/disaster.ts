// A fleet that loses everything but its seed, on a chain and among wallets that live on.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { encodeAddress, NETWORKS } from '@fulmen/bitcoin';
import { BitcoindRpc } from '@fulmen/chain';
import { LdkWallet } from '../../ldk-wallet/client.ts';
import { until } from '../main-job/waiting.ts';
import { Fleet } from '../support/fleet.ts';
import { connectNode, type NodeClient } from '../support/node-client.ts';
import { freePort, repositoryRoot } from '../support/state.ts';
import { Supervisor } from '../support/supervisor.ts';

/** Nobody's address: a P2WPKH of a key that does not exist. */
const MINER_ADDRESS = encodeAddress(Uint8Array.from([0, 20, ...new Uint8Array(20)]), NETWORKS.regtest);
const RPC_PASSWORD = 'of-a-test';

export type CliRun = { readonly code: number; readonly stdout: string; readonly stderr: string };

export class DisasterWorld {
  readonly dir: string;
  readonly chainUrl: string;
  readonly chain: BitcoindRpc;
  readonly #chainProcess: Supervisor;
  readonly wallets: LdkWallet[] = [];
  #fleet: Fleet | undefined;
  #node: NodeClient | undefined;

  private constructor(dir: string, port: number, supervisor: Supervisor) {
    this.dir = dir;
    this.#chainProcess = supervisor;
    this.chainUrl = `http://fulmen:${RPC_PASSWORD}@127.0.0.1:${port}`;
    this.chain = new BitcoindRpc({
      host: '127.0.0.1',
      port,
      auth: { kind: 'password', user: 'fulmen', password: RPC_PASSWORD },
    });
  }

  static async start(): Promise<DisasterWorld> {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-recover-'));
    fs.chmodSync(dir, 0o755);
    const port = await freePort();
    const supervisor = new Supervisor({ logsDir: path.join(dir, 'chain-logs') });
    await supervisor.start({
      name: 'devchain',
      program: { file: 'test/devchain/main.ts' },
      readiness: { kind: 'line' },
      env: {
        FULMEN_DEVCHAIN_PORT: String(port),
        FULMEN_DEVCHAIN_DATA_DIR: path.join(dir, 'devchain'),
        FULMEN_DEVCHAIN_RPC_USER: 'fulmen',
        FULMEN_DEVCHAIN_RPC_PASSWORD: RPC_PASSWORD,
        FULMEN_DEVCHAIN_DUST_RELAY_FEERATE: '0',
      },
    });
    return new DisasterWorld(dir, port, supervisor);
  }

  get fleet(): Fleet {
    if (this.#fleet === undefined) throw new TypeError('no fleet runs');
    return this.#fleet;
  }

  get node(): NodeClient {
    if (this.#node === undefined) throw new TypeError('no fleet runs');
    return this.#node;
  }

  /** Where every fleet keeps its backup. */
  get backupFile(): string {
    return path.join(this.dir, 'channels.backup');
  }

  /** A fleet on whatever the state folder holds. */
  async startFleet(options: { readonly managers: number }): Promise<void> {
    this.#fleet = await Fleet.start({
      stateDir: path.join(this.dir, 'fleet'),
      managers: options.managers,
      gateways: 1,
      chainUrl: this.chainUrl,
      env: {
        'channel-manager-1': { FULMEN_BACKUP_FILE: this.backupFile },
        // Coins from before a disaster are the seed's, too.
        'chain-monitor': { FULMEN_WALLET_RESCAN_HEIGHT: '1' },
      },
    });
    this.#node = connectNode(this.#fleet.consoleAddress, this.#fleet.token());
  }

  /** Another node of this release, as a peer; the caller stops it. */
  neighbour(): Promise<Fleet> {
    return Fleet.start({
      stateDir: path.join(this.dir, 'neighbour'),
      managers: 1,
      gateways: 1,
      chainUrl: this.chainUrl,
    });
  }

  async wallet(name: string, anchors: boolean): Promise<LdkWallet> {
    const wallet = await LdkWallet.start({
      dataDir: path.join(this.dir, name),
      chainUrl: this.chainUrl,
      anchors,
    });
    this.wallets.push(wallet);
    return wallet;
  }

  /** Everything is gone: databases, the signer's marker, the router's graph. The seed was written down, and its key. */
  async disaster(): Promise<void> {
    await this.stopFleet();
    const state = path.join(this.dir, 'fleet');
    for (const folder of ['postgres', 'backups'])
      fs.rmSync(path.join(state, folder), { recursive: true, force: true });
    for (const file of fs.readdirSync(path.join(state, 'signer')))
      if (file !== 'seed.json') fs.rmSync(path.join(state, 'signer', file), { recursive: true, force: true });
  }

  async stopFleet(): Promise<void> {
    this.#node?.close();
    await this.#fleet?.stop();
    this.#fleet = undefined;
    this.#node = undefined;
  }

  async mine(blocks: number, address = MINER_ADDRESS): Promise<void> {
    await this.chain.call('generatetoaddress', blocks, address);
    const height = Number(await this.chain.call('getblockcount'));
    await Promise.all(this.wallets.map((wallet) => wallet.call('sync')));
    if (this.#node === undefined) return;
    const { node } = this;
    await until(`the fleet at block ${height}`, async () =>
      (await node.node.getInfo({}, node.auth())).blockHeight >= height ? true : undefined,
    );
  }

  async mempool(): Promise<readonly string[]> {
    return (await this.chain.call('getrawmempool')) as readonly string[];
  }

  /** The command line, as an operator runs it. */
  async cli(...args: readonly string[]): Promise<CliRun> {
    const { consoleAddress, tokenFile } = this.fleet;
    const main = path.join(repositoryRoot, 'services', 'console', 'src', 'cli', 'main.ts');
    const all = [main, '--address', consoleAddress, '--token-file', tokenFile, ...args];
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, all, { encoding: 'utf8' });
      return { code: 0, stdout, stderr };
    } catch (error) {
      const failed = error as { code?: unknown; stdout?: unknown; stderr?: unknown };
      if (typeof failed.code !== 'number') throw error;
      return { code: failed.code, stdout: String(failed.stdout), stderr: String(failed.stderr) };
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.wallets.map((wallet) => wallet.stop()));
    await this.stopFleet();
    await this.#chainProcess.stopAll();
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}
