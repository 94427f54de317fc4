// A whole fleet as separate processes on this machine: Postgres, NATS, a chain, and every service. The
// main job, the chaos lane, the interop lane and the bench compose the same thing.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { BitcoindRpc } from '@fulmen/chain';
import pg from 'pg';
import { FLEET, makeCertificates } from '../../../deploy/certificates/make-certificates.ts';
import { type NatsServer, openNats } from './nats.ts';
import { openPostgres, type PostgresServer } from './postgres.ts';
import { assignPorts, defaultStateDir, writeFileAtomically } from './state.ts';
import { type ProcessSpec, Supervisor } from './supervisor.ts';

export type FleetOptions = {
  readonly stateDir: string;
  readonly managers?: number;
  readonly gateways?: number;
  /** Told in sentences what happens. */
  readonly onProgress?: (text: string) => void;
  /** An external chain instead of the development chain: JSON-RPC URL with user and password. */
  readonly chainUrl?: string;
  /** Added to the environment of a service, by its name. */
  readonly env?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly leaseMs?: number;
  /** Where the command line finds the console; default `cli.json` in the state folder. */
  readonly cliFile?: string;
};

type Secrets = {
  readonly node: string;
  readonly signer: string;
  readonly chain: string;
  readonly seed: string;
};

const NETWORK = 'regtest';

/** A running fleet. */
export class Fleet {
  readonly supervisor: Supervisor;
  readonly stateDir: string;
  readonly consoleAddress: string;
  readonly tokenFile: string;
  readonly chainUrl: string;
  readonly chain: BitcoindRpc;
  /** Ports of the gateways' Lightning listeners, by name. */
  readonly lightningPorts: ReadonlyMap<string, number>;
  readonly postgres: PostgresServer;
  readonly nats: NatsServer;
  readonly services: readonly string[];

  private constructor(parts: {
    supervisor: Supervisor;
    stateDir: string;
    consoleAddress: string;
    tokenFile: string;
    chainUrl: string;
    chain: BitcoindRpc;
    lightningPorts: ReadonlyMap<string, number>;
    postgres: PostgresServer;
    nats: NatsServer;
    services: readonly string[];
  }) {
    this.supervisor = parts.supervisor;
    this.stateDir = parts.stateDir;
    this.consoleAddress = parts.consoleAddress;
    this.tokenFile = parts.tokenFile;
    this.chainUrl = parts.chainUrl;
    this.chain = parts.chain;
    this.lightningPorts = parts.lightningPorts;
    this.postgres = parts.postgres;
    this.nats = parts.nats;
    this.services = parts.services;
  }

  /** Starts everything, in the order of need; resolves when every process serves. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const { stateDir } = options;
    const say = options.onProgress ?? (() => undefined);
    const managers = names('channel-manager', options.managers ?? 2);
    const gateways = names('peer-gateway', options.gateways ?? 2);
    const portNames = [
      'postgres',
      'nats',
      'devchain',
      'signer',
      'chain-monitor',
      'router',
      'console',
      ...managers,
      ...gateways,
      ...gateways.map((name) => `${name}-lightning`),
      ...['signer', 'chain-monitor', 'router', 'console', ...managers, ...gateways].map(
        (name) => `${name}-metrics`,
      ),
    ];
    const ports = await assignPorts(stateDir, portNames);
    const at = (name: string): string => `127.0.0.1:${ports[name]}`;
    const secrets = await readSecrets(stateDir);
    const supervisor = new Supervisor({ logsDir: path.join(stateDir, 'logs') });

    say('Postgres');
    fs.mkdirSync(path.join(stateDir, 'signer'), { recursive: true, mode: 0o700 });
    fs.mkdirSync(path.join(stateDir, 'console'), { recursive: true, mode: 0o700 });
    fs.mkdirSync(path.join(stateDir, 'backups'), { recursive: true, mode: 0o700 });
    const postgres = await openPostgres({
      dataDir: path.join(stateDir, 'postgres'),
      port: ports['postgres'] ?? 0,
      logFile: path.join(stateDir, 'logs', 'postgres.log'),
      settings: { max_connections: '200' },
    });
    const nodeUrl = await makeDatabase(postgres, 'fulmen_node', secrets.node);
    const signerUrl = await makeDatabase(postgres, 'fulmen_signer', secrets.signer);

    say('NATS');
    const nats = await openNats({
      port: ports['nats'] ?? 0,
      logFile: path.join(stateDir, 'logs', 'nats.log'),
      onProgress: say,
    });

    const certificates = makeCertificates(path.join(stateDir, 'certificates'), FLEET);
    const tls = (name: string): Record<string, string> => {
      const files = certificates.get(name);
      return files === undefined
        ? {}
        : {
            FULMEN_TLS_CA_FILE: files.ca,
            FULMEN_TLS_CERTIFICATE_FILE: files.certificate,
            FULMEN_TLS_KEY_FILE: files.key,
          };
    };

    let chainUrl = options.chainUrl;
    if (chainUrl === undefined) {
      say('the development chain');
      await supervisor.start({
        name: 'devchain',
        program: { file: 'test/devchain/main.ts' },
        readiness: { kind: 'line' },
        env: {
          FULMEN_DEVCHAIN_PORT: String(ports['devchain']),
          FULMEN_DEVCHAIN_DATA_DIR: path.join(stateDir, 'devchain'),
          FULMEN_DEVCHAIN_RPC_USER: 'fulmen',
          FULMEN_DEVCHAIN_RPC_PASSWORD: secrets.chain,
          FULMEN_DEVCHAIN_DUST_RELAY_FEERATE: '0',
        },
      });
      chainUrl = `http://fulmen:${secrets.chain}@${at('devchain')}`;
    }
    const rpcUrl = new URL(chainUrl);
    const chain = new BitcoindRpc({
      host: rpcUrl.hostname,
      port: Number(rpcUrl.port),
      auth: { kind: 'password', user: rpcUrl.username, password: rpcUrl.password },
    });

    const common = (name: string): Record<string, string> => ({
      FULMEN_LISTEN_ADDRESS: at(name),
      FULMEN_NETWORK: NETWORK,
      FULMEN_NATS_SERVERS: nats.url,
      FULMEN_LEASE_MS: String(options.leaseMs ?? 6_000),
      FULMEN_METRICS_PORT: String(ports[`${name}-metrics`]),
      FULMEN_LOG_LEVEL: process.env['FULMEN_LOG_LEVEL'] ?? 'info',
      FULMEN_REPLICA_ID: name,
      // Compiled and stripped code is kept, so that a killed process is back in a moment.
      NODE_COMPILE_CACHE: path.join(defaultStateDir, 'compile-cache'),
      ...options.env?.[name],
    });
    const run = (name: string, service: string, env: Readonly<Record<string, string>>): ProcessSpec => ({
      name,
      program: { file: `services/${service}/src/main.ts` },
      readiness: { kind: 'line' },
      env: { ...env, ...common(name) },
      nodeArgs: ['--max-semi-space-size=32'],
    });

    say('the signer');
    await supervisor.start(
      run('signer', 'signer', {
        ...tls('signer'),
        FULMEN_DATABASE_URL: signerUrl,
        FULMEN_SIGNER_SEED_FILE: path.join(stateDir, 'signer', 'seed.json'),
        FULMEN_SIGNER_SEED_KEY: secrets.seed,
      }),
    );
    say('chain-monitor');
    await supervisor.start(
      run('chain-monitor', 'chain-monitor', {
        ...tls('chain-monitor'),
        FULMEN_DATABASE_URL: nodeUrl,
        FULMEN_SIGNER_ADDRESS: at('signer'),
        FULMEN_BITCOIND_ADDRESS: rpcUrl.host,
        FULMEN_BITCOIND_RPC_USER: rpcUrl.username,
        FULMEN_BITCOIND_RPC_PASSWORD: rpcUrl.password,
        FULMEN_CHAIN_POLL_MS: '250',
      }),
    );
    say('the router, the managers, the gateways and the console');
    const managerAddresses = managers.map(at).join(',');
    await Promise.all([
      supervisor.start(
        run('router', 'router', {
          ...tls('router'),
          FULMEN_DATABASE_URL: nodeUrl,
          FULMEN_CHAIN_MONITOR_ADDRESS: at('chain-monitor'),
        }),
      ),
      ...managers.map((name) =>
        supervisor.start(
          run(name, 'channel-manager', {
            ...tls('channel-manager'),
            FULMEN_DATABASE_URL: nodeUrl,
            FULMEN_SIGNER_ADDRESS: at('signer'),
            FULMEN_CHAIN_MONITOR_ADDRESS: at('chain-monitor'),
            FULMEN_ROUTER_ADDRESS: at('router'),
            FULMEN_BACKUP_FILE: path.join(stateDir, 'backups', `${name}.backup`),
            FULMEN_PUBLIC_ADDRESSES: gateways.map((gateway) => at(`${gateway}-lightning`)).join(','),
          }),
        ),
      ),
    ]);
    await Promise.all(
      gateways.map((name) =>
        supervisor.start(
          run(name, 'peer-gateway', {
            ...tls('peer-gateway'),
            FULMEN_GATEWAY_ID: name,
            FULMEN_LIGHTNING_LISTEN_ADDRESS: at(`${name}-lightning`),
            FULMEN_SIGNER_ADDRESS: at('signer'),
            FULMEN_MANAGER_ADDRESSES: managerAddresses,
            FULMEN_ROUTER_ADDRESS: at('router'),
          }),
        ),
      ),
    );
    const tokenFile = path.join(stateDir, 'console', 'admin.token');
    await supervisor.start(
      run('console', 'console', {
        ...tls('console'),
        FULMEN_TLS_SERVICES: 'managers,chain,routers,signers,gateways',
        FULMEN_DATABASE_URL: nodeUrl,
        FULMEN_MANAGER_ADDRESSES: managerAddresses,
        FULMEN_CHAIN_ADDRESSES: at('chain-monitor'),
        FULMEN_ROUTER_ADDRESSES: at('router'),
        FULMEN_SIGNER_ADDRESSES: at('signer'),
        FULMEN_GATEWAY_ADDRESSES: gateways.map(at).join(','),
        FULMEN_TOKENS_FILE: path.join(stateDir, 'console', 'tokens'),
        FULMEN_ADMIN_TOKEN_FILE: tokenFile,
        FULMEN_PUBLIC_ADDRESSES: gateways.map((name) => at(`${name}-lightning`)).join(','),
      }),
    );
    writeFileAtomically(
      options.cliFile ?? path.join(stateDir, 'cli.json'),
      `${JSON.stringify({ address: at('console'), tokenFile })}\n`,
    );
    return new Fleet({
      supervisor,
      stateDir,
      consoleAddress: at('console'),
      tokenFile,
      chainUrl,
      chain,
      lightningPorts: new Map(gateways.map((name) => [name, ports[`${name}-lightning`] ?? 0])),
      postgres,
      nats,
      services: ['signer', 'chain-monitor', 'router', ...managers, ...gateways, 'console'],
    });
  }

  token(): string {
    return fs.readFileSync(this.tokenFile, 'utf8').trim();
  }

  /** kill -9; the supervisor restarts it. Resolves when it serves again. */
  async kill9AndWait(name: string): Promise<void> {
    if (name === 'nats-server') {
      await this.nats.kill();
      await this.nats.start();
      return;
    }
    await this.supervisor.kill9(name);
    await this.supervisor.whenReady(name);
  }

  /** Mines blocks to an address of nobody's. */
  async mine(blocks: number, address: string): Promise<void> {
    await this.chain.call('generatetoaddress', blocks, address);
  }

  /** Stops everything, newest first. */
  async stop(): Promise<void> {
    await this.supervisor.stopAll();
    await this.nats.stop();
    await this.postgres.stop();
  }
}

function names(service: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${service}-${index + 1}`);
}

/** Passwords of this state folder's databases and chain, drawn once. */
async function readSecrets(stateDir: string): Promise<Secrets> {
  const file = path.join(stateDir, 'secrets.json');
  if (!fs.existsSync(file)) {
    const draw = (): string => randomBytes(24).toString('hex');
    fs.mkdirSync(stateDir, { recursive: true });
    fs.writeFileSync(file, JSON.stringify({ node: draw(), signer: draw(), chain: draw(), seed: draw() }), {
      mode: 0o600,
    });
  }
  return JSON.parse(fs.readFileSync(file, 'utf8')) as Secrets;
}

/** A database with a role of its own that owns it; no other role may connect. */
async function makeDatabase(postgres: PostgresServer, name: string, password: string): Promise<string> {
  const url = new URL(await postgres.ensureDatabase(name));
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [name]);
    if (rowCount === 0) await client.query(`CREATE ROLE ${name} LOGIN PASSWORD '${password}'`);
    await client.query(`ALTER DATABASE ${name} OWNER TO ${name}`);
    await client.query(`REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC`);
    // A takeover ends the sessions of the shard's old owner, which are of the same role.
    await client.query(`GRANT pg_signal_backend TO ${name}`);
  } finally {
    await client.end();
  }
  url.username = name;
  url.password = password;
  return url.href;
}
