/** The fleet of a simulation: real services on simulated ports, each process a life that can end at any await. */
import { MemoryBusHub } from '@fulmen/bus';
import { NETWORKS } from '@fulmen/bitcoin';
import type { Secp256k1 } from '@fulmen/crypto';
import { channelSecrets, commitmentSecret, keyTree } from '@fulmen/keys';
import { SHARD_COUNT } from '@fulmen/keys/shard';
import { preferredReplica } from '@fulmen/channel-manager/lease/placement';
import { start as startManager } from '@fulmen/channel-manager/start';
import { DEFAULT_LIMITS, start as startGateway } from '@fulmen/peer-gateway';
import { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import { type Client, MemoryNetwork } from '@fulmen/rpc';
import { type Logger, Metrics } from '@fulmen/service';
import { memoryMarker, MemorySignerDatabase, MemorySignerStore, start as startSigner } from '@fulmen/signer';
import { StoreError } from '@fulmen/store';
import { MemoryBackupStore } from '@fulmen/store/manager/backup/memory';
import { MemoryManagerDatabase } from '@fulmen/store/manager/memory';
import {
  type CallFault,
  Incarnation,
  type Prng,
  type Scheduler,
  simulatedCalls,
} from '@fulmen/testing/simulation/index';
import { MemorySockets, type SocketAddress } from '@fulmen/testing/socket';
import { SimChain } from './chain.ts';
import { SimTowers } from './towers.ts';
import { busFor, connectorFor, serverFor, socketsFor } from './process-ports.ts';

export const LEASE_MS = 2_000;
const SIGNER_LEASE_MS = 1_000;
export const MANAGERS = ['manager-0', 'manager-1'] as const;
export const GATEWAYS = ['gateway-0', 'gateway-1'] as const;
const PEER_PORT = 9735;
const RESTART_MS = 300;
const MAX_RESTARTS = 10;
const PARKED = 'elsewhere';

export interface FleetOptions {
  readonly scheduler: Scheduler;
  readonly random: Prng;
  readonly secp: Secp256k1;
  /** Slowest message, in milliseconds; each takes its own part of it. */
  readonly latencyMs: number;
  /** Whether a monitor update is complete only once towers have it. */
  readonly towers: 'none' | 'some';
  readonly onViolation: (text: string) => void;
  readonly onLog: (line: string) => void;
}

interface Life {
  readonly process: Incarnation;
  /** Cuts what others see of the process. */
  readonly cut: () => void;
  /** Breaks the calls that the process has under way, without ending it. */
  readonly breakCalls: () => void;
}

/** A process that serves; every other thing that can be known of it is in its rows. */
export class Fleet {
  readonly database: MemoryManagerDatabase;
  readonly signerDatabase = new MemorySignerDatabase();
  readonly network: MemoryNetwork;
  readonly sockets: MemorySockets;
  readonly chain: SimChain;
  readonly towers: SimTowers | undefined;
  /** Probability that a call to the managers' store fails, by how. */
  storeFaults = { unavailable: 0, unknown: 0 };
  /** A process whose messages take longer. */
  slow: { readonly name: string; readonly latencyMs: number } | undefined;
  /** Called with each commit of a manager that is on its way. */
  onCommit: (manager: string) => void = () => undefined;
  readonly #options: FleetOptions;
  readonly #bus: MemoryBusHub;
  readonly #marker = memoryMarker();
  readonly #lives = new Map<string, Life>();
  #births = 0;
  #restarts = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
    const { scheduler } = options;
    this.database = new MemoryManagerDatabase(() => scheduler.nowMs);
    this.network = new MemoryNetwork((from, to, what) =>
      scheduler.delay(this.#latency(from, to), `${from} > ${to} ${what}`),
    );
    this.sockets = new MemorySockets((from, to, bytes) =>
      scheduler.delay(this.#latency(from, to), `${from} > ${to} ${bytes} bytes`),
    );
    this.#bus = new MemoryBusHub((from, to, run) => {
      // Hints may be lost (law 6).
      if (options.random.chance(0.9)) scheduler.schedule(this.#latency(), `hint ${from} > ${to}`, run);
    });
    this.towers =
      options.towers === 'none'
        ? undefined
        : new SimTowers(scheduler, this.database, options.random.fork('towers'));
    const chainBus = this.#bus.connect('chain');
    this.chain = new SimChain(scheduler, this.database, () => chainBus.publish('fulmen.block'));
  }

  get nodeId(): Uint8Array {
    return this.#keys().nodeId;
  }

  /** A commitment's secret, which nobody but its signer should know. */
  commitmentSecret(channelKeysId: Uint8Array, commitmentNumber: bigint): Uint8Array {
    const { perCommitmentSeed } = channelSecrets(this.#options.secp, this.#keys(), channelKeysId);
    return commitmentSecret(perCommitmentSeed, commitmentNumber);
  }

  get gatewayAddresses(): readonly [SocketAddress, ...SocketAddress[]] {
    return [
      { host: GATEWAYS[0], port: PEER_PORT },
      { host: GATEWAYS[1], port: PEER_PORT },
    ];
  }

  /**
   * A third replica, elsewhere and always alive, holds all shards but these: taking 256 of them again and again would be
   * most of a run. Its name must not be the preferred one of what it does not hold.
   */
  parkShards(except: ReadonlySet<number>): void {
    const { replicas, shards } = this.database.state;
    const forever = Number.POSITIVE_INFINITY;
    replicas.set(PARKED, { incarnation: 1n, address: PARKED, heartbeatMs: forever, leaseUntilMs: forever });
    for (let shard = 0; shard < SHARD_COUNT; shard += 1)
      if (!except.has(shard)) shards.set(shard, { epoch: 1n, owner: PARKED });
  }

  /** Whether a shard can be one of those that are not parked. */
  static isFree(shard: number): boolean {
    return preferredReplica(shard, [...MANAGERS, PARKED]) !== PARKED;
  }

  async start(): Promise<void> {
    await this.chain.listen(this.network);
    this.startSigner();
    for (const name of MANAGERS) this.startManager(name);
    for (const name of GATEWAYS) this.startGateway(name);
  }

  /** The operator's client of a replica. */
  operator(manager: string): Client<typeof ManagerServiceService> {
    return this.network.connector('operator', ['console']).client(ManagerServiceService, manager);
  }

  // ---------------------------------------------------------------- faults

  crash(name: string): void {
    const life = this.#lives.get(name);
    if (life === undefined) return;
    this.#options.scheduler.note(`crash ${name}`);
    life.process.crash();
    life.cut();
    this.#lives.delete(name);
  }

  freeze(name: string): void {
    this.#options.scheduler.note(`freeze ${name}`);
    this.#lives.get(name)?.process.freeze();
  }

  resume(name: string): void {
    this.#options.scheduler.note(`resume ${name}`);
    this.#lives.get(name)?.process.resume();
  }

  /** Calls and streams that the process has under way break; it may make new ones. */
  breakCalls(name: string): void {
    this.#options.scheduler.note(`break calls of ${name}`);
    this.#lives.get(name)?.breakCalls();
  }

  isRunning(name: string): boolean {
    const process = this.#lives.get(name)?.process;
    return process !== undefined && !process.isFrozen;
  }

  // ---------------------------------------------------------------- processes

  startSigner(): void {
    const process = this.#birth('signer');
    const store = new MemorySignerStore({
      database: this.signerDatabase,
      nowMs: () => this.#options.scheduler.nowMs,
    });
    this.#lives.set('signer', {
      process,
      cut: () => this.network.crash('signer'),
      breakCalls: () => undefined,
    });
    this.#serve(
      'signer',
      process,
      startSigner(
        { network: 'regtest', leaseMs: SIGNER_LEASE_MS },
        {
          rpcServer: serverFor(process, this.network.server('signer')),
          store: this.#calls(process, 'signer store', store, 'never'),
          runtime: process.runtime,
          logger: this.#logger(process),
          metrics: new Metrics('signer'),
          secp: this.#options.secp,
          keys: this.#keys(),
          marker: this.#calls(process, 'marker', this.#marker, 'never'),
        },
      ),
    );
  }

  startManager(name: string): void {
    const process = this.#birth(name);
    const { scheduler } = this.#options;
    const signer = this.network.connector(name, ['channel', 'node']);
    const others = this.network.connector(name, ['channel', 'node']);
    const bus = this.#bus.connect(process.name);
    this.#lives.set(name, {
      process,
      cut: () => {
        this.network.crash(name);
        signer.crash();
        others.crash();
        void bus.close();
      },
      breakCalls: () => {
        signer.crash();
        others.crash();
      },
    });
    this.#serve(
      name,
      process,
      startManager(
        {
          replicaId: name,
          network: 'regtest',
          leaseMs: LEASE_MS,
          chainStaleMs: 120_000,
          minimumDepth: 2,
          minimumFundingSat: 1_000n,
          maxAcceptedHtlcs: 30,
          keysend: 'refused',
          maxPendingPerPeer: 4,
          maxPendingTotal: 100,
          policy: { feeBaseMsat: 1_000, feeProportionalMillionths: 1_000, cltvExpiryDelta: 72 },
          identity: { alias: 'simulated', rgbColor: new Uint8Array(3), addresses: [] },
          disableAfterMs: 600_000,
          signerAddress: 'signer',
          chainMonitorAddress: 'chain',
          routerAddress: 'router',
        },
        {
          server: serverFor(process, this.network.server(name)),
          signerConnector: connectorFor(process, scheduler, signer),
          connector: connectorFor(process, scheduler, others),
          store: this.#calls(process, 'store', this.database.connect(process.name), 'sometimes'),
          backupStore: this.#calls(process, 'backups', new MemoryBackupStore(this.database), 'sometimes'),
          ...(this.towers !== undefined && {
            towers: {
              required: this.towers.required,
              acknowledgements: this.#calls(process, 'towers', this.towers, 'sometimes'),
            },
          }),
          bus: busFor(process, bus),
          runtime: process.runtime,
          logger: this.#logger(process),
          metrics: new Metrics('channel-manager'),
          secp: this.#options.secp,
        },
      ),
    );
  }

  startGateway(name: string): void {
    const process = this.#birth(name);
    const { scheduler } = this.#options;
    const signer = this.network.connector(name, ['ecdh']);
    const others = this.network.connector(name, ['ecdh']);
    this.#lives.set(name, {
      process,
      cut: () => {
        this.sockets.crash(name);
        this.network.crash(name);
        signer.crash();
        others.crash();
      },
      breakCalls: () => {
        signer.crash();
        others.crash();
      },
    });
    this.#serve(
      name,
      process,
      startGateway(
        {
          gatewayId: name,
          network: 'regtest',
          listen: { host: name, port: PEER_PORT },
          healthAddress: name,
          managerAddresses: [...MANAGERS],
          signerAddress: 'signer',
          routerAddress: 'router',
          limits: DEFAULT_LIMITS,
          wireLog: undefined,
        },
        {
          server: serverFor(process, this.network.server(name)),
          runtime: process.runtime,
          logger: this.#logger(process),
          metrics: new Metrics('peer-gateway'),
          sockets: socketsFor(process, this.sockets.port(name)),
          connector: connectorFor(process, scheduler, others),
          signerConnector: connectorFor(process, scheduler, signer),
          secp: this.#options.secp,
        },
      ),
    );
  }

  // ---------------------------------------------------------------- ports

  #keys(): ReturnType<typeof keyTree> {
    return keyTree(this.#options.secp, new Uint8Array(64).fill(7), NETWORKS.regtest);
  }

  #latency(...between: readonly string[]): number {
    const { slow } = this;
    const slowest =
      slow !== undefined && between.includes(slow.name) ? slow.latencyMs : this.#options.latencyMs;
    return this.#options.random.fraction() * slowest;
  }

  #birth(name: string): Incarnation {
    this.#births += 1;
    const { scheduler, random, onViolation } = this.#options;
    const life = `${name}#${this.#births}`;
    scheduler.note(`start ${life}`);
    return new Incarnation(life, scheduler, random.fork(life), (task, error) =>
      onViolation(`the task ${task} failed: ${textOf(error)}`),
    );
  }

  /** A process that ends by itself is started again by whoever watches over it. */
  #serve(name: string, process: Incarnation, starting: Promise<{ readonly failed: Promise<Error> }>): void {
    const { scheduler, onViolation } = this.#options;
    const ended = (error: unknown): void => {
      if (process.isDead) return;
      scheduler.note(`${process.name} ended: ${textOf(error)}`);
      this.#restarts += 1;
      if (this.#restarts > MAX_RESTARTS)
        onViolation(`${process.name} ends again and again: ${textOf(error)}`);
      this.crash(name);
      scheduler.schedule(RESTART_MS, `restart ${name}`, () => this.startAgain(name));
    };
    starting.then(({ failed }) => void failed.then(ended), ended);
  }

  startAgain(name: string): void {
    if (this.#lives.has(name)) return;
    if (name === 'signer') this.startSigner();
    else if (name.startsWith('manager')) this.startManager(name);
    else this.startGateway(name);
  }

  #calls<P extends object>(process: Incarnation, name: string, port: P, fails: 'never' | 'sometimes'): P {
    const { random, scheduler } = this.#options;
    const faultOf = (operation: string): CallFault | undefined => {
      if (operation === 'commitSteps') this.onCommit(process.name.replace(/#.*/, ''));
      if (fails === 'never') return undefined;
      const { unavailable, unknown } = this.storeFaults;
      if (random.chance(unavailable))
        return { at: 'before', error: new StoreError('unavailable', 'injected') };
      if (random.chance(unknown))
        return { at: random.pick(['before', 'after']), error: new StoreError('unknown', 'injected') };
      return undefined;
    };
    return simulatedCalls(port, name, process, scheduler, { latencyMs: () => this.#latency() / 4, faultOf });
  }

  #logger(process: Incarnation): Logger {
    const { scheduler, onLog, onViolation } = this.#options;
    const line = (level: string, fields: object, message: string): void => {
      if (process.isDead) return;
      const error: unknown = 'err' in fields ? fields.err : undefined;
      const { err: _err, ...rest } = fields as { err?: unknown };
      const details = JSON.stringify(rest, (_, value: unknown) => printable(value));
      onLog(
        `${scheduler.nowMs.toFixed(1)} ${process.name} ${level} ${message} ${details}${error === undefined ? '' : ` ${textOf(error)}`}`,
      );
      if (level === 'error' && /ALARM|out of service|by a defect/.test(message))
        onViolation(`${process.name}: ${message} ${details} ${textOf(error)}`);
    };
    const logger: Logger = {
      debug: () => undefined,
      info: (fields, message) => line('info', fields, message),
      warn: (fields, message) => line('warn', fields, message),
      error: (fields, message) => line('error', fields, message),
      child: () => logger,
    };
    return logger;
  }
}

function printable(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value;
}

function textOf(error: unknown): string {
  return error instanceof Error
    ? `${error.name}: ${error.message}${error.cause === undefined ? '' : ` (${textOf(error.cause)})`}`
    : String(error ?? '');
}
