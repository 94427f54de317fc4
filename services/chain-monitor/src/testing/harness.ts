/** A chain-monitor on a development chain in memory, turned by hand: no timers run. */
import { NETWORKS, type Tx, encodeTx, txid as txidOf } from '@fulmen/bitcoin';
import { MemoryBusHub } from '@fulmen/bus';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import type { ChainSource } from '@fulmen/chain';
import { toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { ChainServiceService, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { type Client, MemoryNetwork } from '@fulmen/rpc';
import { AbortedError, Metrics, type Runtime, silentLogger, spawnTask } from '@fulmen/service';
import type { FundingStatus, FundingWatch } from '@fulmen/store';
import type { ChainStore } from '@fulmen/store/chain/chain-store';
import { MemoryChainState, MemoryChainStore, emptyManagerTables } from '@fulmen/store/chain/memory';
import { DevChain, MemoryChainSource } from '@fulmen/testing/devchain';
import type { ChainMonitorConfig, SignerClient } from '../ports.ts';
import { type RunningChainMonitor, start } from '../start.ts';
import { type FakeSigner, fakeSigner } from './fake-signer.ts';

export const TEST_CONFIG: ChainMonitorConfig = {
  network: NETWORKS.regtest,
  replicaId: 'test',
  leaseMs: 9_000,
  pollMs: 1_000,
  mempoolPollMs: 0,
  mempoolScanLimit: 1_000,
  rebroadcastMs: 30_000,
  behindGraceMs: 10_000,
  maximumBlockAgeMs: undefined,
  rescanHeight: undefined,
  fallbackFeerateSatPerKw: 1_000,
  maximumFeerateSatPerKw: 100_000,
  feeCacheMs: 60_000,
  reservationExpiryBlocks: 10,
  anchorReserve: { perChannelSat: 10_000n, maximumChannels: 10 },
  maximumSweepFeeSat: 5_000_000n,
};

/** Time that stands still until `advance`; sleepers wake in order of their deadlines. */
export class ManualClock {
  nowMs = 1_000_000;
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];
  failures: unknown[] = [];

  runtime(): Runtime {
    return {
      wallClockMs: () => this.nowMs,
      monotonicMs: () => this.nowMs,
      sleep: (ms, signal) =>
        new Promise((resolve, reject) => {
          if (signal?.aborted === true) return reject(new AbortedError('aborted'));
          this.#sleepers.push({ atMs: this.nowMs + ms, wake: resolve });
          signal?.addEventListener('abort', () => reject(new AbortedError('aborted')), { once: true });
        }),
      randomBytes: (length) => new Uint8Array(length).fill(7),
      spawn: (name, work) => spawnTask(name, work, (_, error) => this.failures.push(error)),
    };
  }

  /** Moves time and lets everything that is due run. */
  async advance(ms: number): Promise<void> {
    this.nowMs += ms;
    const due = this.#sleepers.filter(({ atMs }) => atMs <= this.nowMs).sort((a, b) => a.atMs - b.atMs);
    this.#sleepers = this.#sleepers.filter(({ atMs }) => atMs > this.nowMs);
    for (const { wake } of due) wake();
    await settle();
  }
}

/** Everything in memory answers without I/O, so a few turns of the event loop are enough for any chain of promises. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) await new Promise((resolve) => setImmediate(resolve));
}

export interface Harness {
  readonly devChain: DevChain;
  readonly state: MemoryChainState;
  readonly manager: ReturnType<typeof emptyManagerTables>;
  readonly signer: FakeSigner;
  readonly clock: ManualClock;
  readonly service: RunningChainMonitor;
  readonly chain: Client<ChainServiceService>;
  readonly wallet: Client<WalletServiceService>;
  /** The wallet, for a caller with a certificate of these units. */
  walletAs(...units: string[]): Client<WalletServiceService>;
  readonly metrics: Metrics;
  readonly hints: string[];
  /** Blocks for nobody; then a turn. */
  mine(count: number, script?: Uint8Array): Promise<void>;
  turn(): Promise<void>;
  status(watch: FundingWatch): FundingStatus | undefined;
  watch(watch: FundingWatch): void;
  stop(): Promise<void>;
  /** The same state and chain, another process; `wrapSource` in place of the first one's. */
  restart(changes?: Partial<ChainMonitorConfig>, wrapSource?: HarnessOptions['wrapSource']): Promise<Harness>;
}

export interface HarnessOptions {
  readonly devChain?: DevChain;
  readonly state?: MemoryChainState;
  readonly manager?: ReturnType<typeof emptyManagerTables>;
  readonly clock?: ManualClock;
  readonly signer?: FakeSigner;
  /** In place of the fake: the real service's client, say. */
  readonly signerClient?: SignerClient;
  readonly config?: Partial<ChainMonitorConfig>;
  readonly wrapSource?: (source: MemoryChainSource) => ChainSource;
  readonly wrapStore?: (store: ChainStore) => ChainStore;
}

export const SEED = new Uint8Array(64).fill(3);

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const devChain = options.devChain ?? newDevChain();
  const clock = options.clock ?? new ManualClock();
  const manager = options.manager ?? emptyManagerTables();
  const state = options.state ?? new MemoryChainState(manager, () => clock.nowMs);
  const signer = options.signer ?? fakeSigner(secp256k1, SEED, NETWORKS.regtest);
  const network = new MemoryNetwork();
  const hub = new MemoryBusHub();
  const hints: string[] = [];
  hub.connect('test').subscribe('fulmen.block', (subject) => void hints.push(subject));
  const metrics = new Metrics('chain-monitor');
  const source = new MemoryChainSource(devChain);
  const store = new MemoryChainStore(state);
  const service = await start(
    { ...TEST_CONFIG, ...options.config },
    {
      runtime: clock.runtime(),
      logger: silentLogger,
      metrics,
      signer: options.signerClient ?? signer,
      bus: hub.connect('chain-monitor'),
      store: options.wrapStore?.(store) ?? store,
      source: options.wrapSource?.(source) ?? source,
      secp: secp256k1,
      server: network.server('chain'),
    },
  );
  const connector = network.connector('test', ['plaintext']);
  await settle();
  const turn = async (): Promise<void> => {
    service.wake();
    await settle();
  };
  const harness: Harness = {
    devChain,
    state,
    manager,
    signer,
    clock,
    service,
    metrics,
    hints,
    turn,
    chain: connector.client(ChainServiceService, 'chain'),
    wallet: connector.client(WalletServiceService, 'chain'),
    walletAs: (...units) => network.connector('test', units).client(WalletServiceService, 'chain'),
    mine: async (count, script = ANYONE_SCRIPT) => {
      devChain.mine(count, script);
      await turn();
    },
    status: (watch) => manager.watches.get(toHex(watch.channelId))?.status,
    watch: (watch) =>
      void manager.watches.set(toHex(watch.channelId), { watch, status: { type: 'unconfirmed' } }),
    stop: async () => {
      const stopped = service.stop();
      await settle();
      await stopped;
    },
    restart: async (changes = {}, wrapSource = options.wrapSource) => {
      await harness.stop();
      return startHarness({
        ...options,
        ...(wrapSource !== undefined && { wrapSource }),
        devChain,
        clock,
        manager,
        state,
        signer,
        config: { ...options.config, ...changes },
      });
    },
  };
  return harness;
}

/** Whose blocks are a second apart, from 2023 on. */
export function newDevChain(): DevChain {
  let seconds = 1_700_000_000;
  return new DevChain({ now: () => seconds++ });
}

/** A coin of the development chain that anyone can spend: of the block at this height, mature 100 blocks later. */
export function coinAt(
  devChain: DevChain,
  height: number,
): { readonly txid: string; readonly vout: number; readonly valueSat: bigint } {
  const coinbase = devChain.chain.at(height)?.transactions[0];
  const output = coinbase?.tx.outputs[0];
  if (coinbase === undefined || output === undefined) throw new TypeError(`no block at ${height}`);
  return { txid: coinbase.txid, vout: 0, valueSat: output.valueSat };
}

/** Spends a coin to these outputs and change. */
export function payFrom(
  devChain: DevChain,
  height: number,
  outputs: readonly { readonly script: Uint8Array; readonly valueSat: bigint }[],
): { readonly tx: Tx; readonly raw: Uint8Array; readonly txid: Uint8Array } {
  const coin = coinAt(devChain, height);
  const spentSat = outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
  const base = spendAnyone([coin], [coin.valueSat - spentSat - 10_000n]);
  const tx: Tx = { ...base, outputs: [...outputs, ...base.outputs] };
  return { tx, raw: encodeTx(tx), txid: txidOf(tx) };
}
