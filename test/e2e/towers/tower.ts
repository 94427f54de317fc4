// A tower as an operator would run it: in another zone, with a Postgres cluster, a justice signer and an
// authority of its own.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { makeCertificates, TOWERS } from '../../../deploy/certificates/make-certificates.ts';
import type { Fleet, FleetOptions } from '../support/fleet.ts';
import { openPostgres, type PostgresServer } from '../support/postgres.ts';
import { assignPorts } from '../support/state.ts';
import { type ProcessSpec, Supervisor } from '../support/supervisor.ts';

export const TOWER_ID = 'elsewhere';
/** Where a punishment pays: P2WPKH of a key that does not exist. */
export const DESTINATION = Uint8Array.from([0, 20, ...new Uint8Array(20).fill(0xdd)]);

/** What is known of the tower before the fleet starts: its key is on the signer's list from then on. */
export class TowerSite {
  readonly dir: string;
  readonly publicKey: Uint8Array;
  readonly supervisor: Supervisor;
  readonly #ports: Record<string, number>;
  readonly #keyFile: string;
  readonly #certificates: ReturnType<typeof makeCertificates>;
  #postgres: PostgresServer | undefined;

  private constructor(dir: string, ports: Record<string, number>) {
    this.dir = dir;
    this.#ports = ports;
    this.supervisor = new Supervisor({ logsDir: path.join(dir, 'logs') });
    this.#certificates = makeCertificates(path.join(dir, 'certificates'), TOWERS);
    this.#keyFile = path.join(dir, 'justice.key');
    const secret = Uint8Array.from(randomBytes(32));
    fs.writeFileSync(this.#keyFile, `${toHex(secret)}\n`, { mode: 0o600 });
    this.publicKey = secp256k1.publicKeyOf(secret);
  }

  static async prepare(dir: string): Promise<TowerSite> {
    const names = ['feed', 'postgres', 'tower', 'justice-signer', 'tower-metrics', 'justice-metrics'];
    fs.mkdirSync(dir, { recursive: true, mode: 0o755 });
    return new TowerSite(dir, await assignPorts(dir, names));
  }

  #at(name: string): string {
    return `127.0.0.1:${this.#ports[name]}`;
  }

  #tls(name: string, prefix: string): Record<string, string> {
    const files = this.#certificates.get(name);
    return files === undefined
      ? {}
      : {
          [`${prefix}_CA_FILE`]: files.ca,
          [`${prefix}_CERTIFICATE_FILE`]: files.certificate,
          [`${prefix}_KEY_FILE`]: files.key,
        };
  }

  /** What the node's services must be told. */
  fleetEnvironment(managers: readonly string[]): NonNullable<FleetOptions['env']> {
    return {
      signer: { FULMEN_SIGNER_TOWER_KEYS: toHex(this.publicKey) },
      'chain-monitor': {
        FULMEN_TOWER_LISTEN_ADDRESS: this.#at('feed'),
        ...this.#tls('tower-feed', 'FULMEN_TOWER_TLS'),
        FULMEN_TOWERS_REQUIRED: '1',
      },
      ...Object.fromEntries(managers.map((name) => [name, { FULMEN_TOWERS_REQUIRED: '1' }])),
    };
  }

  async start(fleet: Pick<Fleet, 'chainUrl'>): Promise<void> {
    this.#postgres = await openPostgres({
      dataDir: path.join(this.dir, 'postgres'),
      port: this.#ports['postgres'] ?? 0,
      logFile: path.join(this.dir, 'logs', 'postgres.log'),
    });
    const databaseUrl = await this.#postgres.ensureDatabase('fulmen_tower');
    const chain = new URL(fleet.chainUrl);
    await this.supervisor.start(
      this.#spec('justice-signer', 'signer', {
        ...this.#tls('justice-signer', 'FULMEN_TLS'),
        FULMEN_LISTEN_ADDRESS: this.#at('justice-signer'),
        FULMEN_METRICS_PORT: String(this.#ports['justice-metrics']),
        FULMEN_SIGNER_MODE: 'justice',
        FULMEN_JUSTICE_KEY_FILE: this.#keyFile,
        FULMEN_JUSTICE_DESTINATION_SCRIPT: toHex(DESTINATION),
      }),
    );
    await this.supervisor.start(
      this.#spec('tower', 'chain-monitor', {
        ...this.#tls('tower', 'FULMEN_TLS'),
        FULMEN_LISTEN_ADDRESS: this.#at('tower'),
        FULMEN_METRICS_PORT: String(this.#ports['tower-metrics']),
        FULMEN_NETWORK: 'regtest',
        FULMEN_DATABASE_URL: databaseUrl,
        FULMEN_TOWER_ID: TOWER_ID,
        FULMEN_TOWER_FEED_ADDRESSES: this.#at('feed'),
        FULMEN_SIGNER_ADDRESS: this.#at('justice-signer'),
        FULMEN_BITCOIND_ADDRESS: chain.host,
        FULMEN_BITCOIND_RPC_USER: chain.username,
        FULMEN_BITCOIND_RPC_PASSWORD: chain.password,
        FULMEN_CHAIN_POLL_MS: '250',
        FULMEN_LEASE_MS: '2000',
      }),
    );
  }

  #spec(name: string, service: string, env: Readonly<Record<string, string>>): ProcessSpec {
    return {
      name,
      program: { file: `services/${service}/src/main.ts` },
      readiness: { kind: 'line' },
      env: { FULMEN_LOG_LEVEL: 'info', ...env },
    };
  }

  async stop(): Promise<void> {
    await this.supervisor.stopAll();
    await this.#postgres?.stop();
  }
}
