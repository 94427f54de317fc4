// One fleet with two wallets and open channels, and the instruments to break it and to look inside.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { preferredReplica } from '@fulmen/channel-manager/lease/placement';
import { toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { deriveChild, hardened, masterKey } from '@fulmen/keys/bip32';
import { SHARD_COUNT, shardOfPeer } from '@fulmen/keys/shard';
import pg from 'pg';
import type { Report } from '../main-job/report.ts';
import { fund, openChannels } from '../main-job/scenario.ts';
import { ensure, until } from '../main-job/waiting.ts';
import { World } from '../main-job/world.ts';
import type { Fleet } from '../support/fleet.ts';

export const NODE_DATABASE = 'fulmen_node';
export const SIGNER_DATABASE = 'fulmen_signer';
export const MANAGERS = ['channel-manager-1', 'channel-manager-2'] as const;
export const SHARDS = SHARD_COUNT;

const SILENT: Report = { step: () => undefined, say: () => undefined, summary: () => undefined };

/** Gives a wallet a seed whose node id belongs to a manager, so that forwards between the two wallets cross replicas. */
function placeWallet(stateDir: string, name: string, manager: string): void {
  const dataDir = path.join(stateDir, 'wallets', name);
  fs.mkdirSync(dataDir, { recursive: true });
  for (;;) {
    const seed = Uint8Array.from(randomBytes(32));
    // LDK's KeysManager takes the node's key from m/0'.
    const { secretKey } = deriveChild(secp256k1, masterKey(secp256k1, seed), hardened(0));
    if (preferredReplica(shardOfPeer(secp256k1.publicKeyOf(secretKey)), MANAGERS) !== manager) continue;
    fs.writeFileSync(path.join(dataDir, 'seed'), `${toHex(seed)}\n`, { mode: 0o600 });
    return;
  }
}

/** A line of a service's log. */
export type LogLine = { readonly level: number; readonly msg: string; readonly text: string };

/** A place in every log: what comes after it is new. */
export type LogMark = ReadonlyMap<string, number>;

export class FaultWorld {
  readonly world: World;
  readonly #dir: string;

  private constructor(world: World, dir: string) {
    this.world = world;
    this.#dir = dir;
  }

  /** Starts everything and opens the channels. */
  static async start(report: Report = SILENT): Promise<FaultWorld> {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-faults-'));
    // The database's own user must be able to enter.
    fs.chmodSync(dir, 0o755);
    const stateDir = path.join(dir, 'state');
    placeWallet(stateDir, 'alice', MANAGERS[0]);
    placeWallet(stateDir, 'bob', MANAGERS[1]);
    const world = await World.start(stateDir, report);
    await fund(world);
    await openChannels(world);
    return new FaultWorld(world, dir);
  }

  /** Stops everything; the folder stays when `keep` says so. */
  async stop(keep: 'keep' | 'remove'): Promise<void> {
    await this.world.stop();
    if (keep === 'remove') fs.rmSync(this.#dir, { recursive: true, force: true });
  }

  get fleet(): Fleet {
    return this.world.fleet;
  }

  get logsDir(): string {
    return path.join(this.fleet.stateDir, 'logs');
  }

  /** Rows of a query as the superuser. */
  async rows<R>(database: string, text: string, values: readonly unknown[] = []): Promise<R[]> {
    const client = new pg.Client({ connectionString: this.fleet.postgres.url(database) });
    // A server that dies under the query fails the query, not this process.
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(text, [...values])).rows as R[];
    } finally {
      await client.end();
    }
  }

  /** Replica that owns each shard, as the database says. */
  async owners(): Promise<Map<number, { readonly owner: string | null; readonly epoch: bigint }>> {
    const found = await this.rows<{ shard: number; owner: string | null; epoch: string }>(
      NODE_DATABASE,
      'SELECT shard, owner, epoch FROM manager.shard',
    );
    return new Map(found.map(({ shard, owner, epoch }) => [shard, { owner, epoch: BigInt(epoch) }]));
  }

  /** Waits until one replica owns every shard. */
  async ownsAll(replica: string, timeoutMs: number): Promise<void> {
    await until(
      `${replica} as the owner of every shard`,
      async () => {
        const owners = [...(await this.owners()).values()];
        return owners.length === SHARDS && owners.every(({ owner }) => owner === replica) ? true : undefined;
      },
      timeoutMs,
    );
  }

  /** Waits until both managers own shards again, and nobody else does. */
  async balanced(): Promise<void> {
    await until('a share of the shards for each manager', async () => {
      const owners = [...(await this.owners()).values()].map(({ owner }) => owner);
      const isShared = MANAGERS.every((manager) => owners.includes(manager));
      return owners.length === SHARDS && isShared && owners.every((owner) => owner !== null)
        ? true
        : undefined;
    });
  }

  /** Value of one metric of a process, summed over its labels that contain `label`. */
  async metric(name: string, metric: string, label = ''): Promise<number> {
    const port = this.fleet.supervisor.status().find((process) => process.name === name)?.ready?.[
      'metricsPort'
    ];
    ensure(typeof port === 'number', `${name} publishes no metrics`);
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return text
      .split('\n')
      .filter(
        (line) => line.startsWith(`fulmen_${metric}`) && /^[{ ]/.test(line.slice(`fulmen_${metric}`.length)),
      )
      .filter((line) => line.includes(label))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  mark(): LogMark {
    return new Map(
      fs.readdirSync(this.logsDir).map((file) => [file, fs.statSync(path.join(this.logsDir, file)).size]),
    );
  }

  /** Lines of a process' log since a mark. */
  log(name: string, since: LogMark): LogLine[] {
    const text = fs
      .readFileSync(path.join(this.logsDir, `${name}.log`))
      .subarray(since.get(`${name}.log`) ?? 0);
    return text
      .toString('utf8')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .flatMap((line) => {
        try {
          const parsed = JSON.parse(line) as { level?: number; msg?: string };
          return [{ level: parsed.level ?? 0, msg: parsed.msg ?? '', text: line }];
        } catch {
          // The last line may be half written.
          return [];
        }
      });
  }

  /** Waits for a line in a process' log. */
  async logged(name: string, since: LogMark, fragment: string, timeoutMs = 60_000): Promise<LogLine> {
    return await until(
      `“${fragment}” in the log of ${name}`,
      () => Promise.resolve(this.log(name, since).find((line) => line.text.includes(fragment))),
      timeoutMs,
    );
  }

  /** Errors that the fleet's services logged since a mark, one text each. */
  errors(since: LogMark): string[] {
    return this.fleet.services.flatMap((name) =>
      this.log(name, since)
        .filter((line) => line.level >= 50)
        .map((line) => `${name}: ${line.text.slice(0, 600)}`),
    );
  }

  /** How often each process was restarted by the supervisor. */
  restarts(): Record<string, number> {
    return Object.fromEntries(this.fleet.supervisor.status().map(({ name, restarts }) => [name, restarts]));
  }
}
