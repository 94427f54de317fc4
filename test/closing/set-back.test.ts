/**
 * The node's database is set back to a moment before payments, beside a signer
 * that has signed and revoked since. The channels that moved are passive, for
 * every replica and for chain-monitor, whatever crashes: what would be broadcast
 * is revoked. One that did not move goes on.
 */
import { NETWORKS } from '@fulmen/bitcoin';
import { chainMetrics } from '@fulmen/chain-monitor/metrics';
import { MonitorDrain } from '@fulmen/chain-monitor/monitors/drain';
import { Writer } from '@fulmen/chain-monitor/state/writer';
import { InternalError, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shardOfPeer } from '@fulmen/keys/shard';
import { decodeChannelMonitorUpdate } from '@fulmen/monitor';
import { RpcError } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import { MemoryChainState, MemoryChainStore } from '@fulmen/store/chain/memory';
import { Prng, Scheduler } from '@fulmen/testing/simulation/index';
import { expect, test } from 'vitest';
import { Fleet, MANAGERS } from '../simulation/fleet.ts';
import { SimPeer } from '../simulation/peer.ts';

const MAX_EVENTS = 400_000;
const PATIENCE_MS = 60_000;
const NAMES = ['alice', 'bob', 'carol'] as const;
type Name = (typeof NAMES)[number];

/** Copies every table below `value`; what it returns puts the copies in their places. */
function copyTables(value: object): () => void {
  if (value instanceof Map) {
    const copy = structuredClone(value);
    return () => {
      value.clear();
      for (const [key, row] of structuredClone(copy)) value.set(key, row);
    };
  }
  if (Array.isArray(value)) {
    const copy: unknown[] = structuredClone(value);
    return () => void value.splice(0, value.length, ...structuredClone(copy));
  }
  const restores = Object.values(value).flatMap((table: unknown) =>
    typeof table === 'object' && table !== null ? [copyTables(table)] : [],
  );
  return () => {
    for (const restore of restores) restore();
  };
}

class Life {
  readonly violations: string[] = [];
  readonly peers: Readonly<Record<Name, SimPeer>>;
  readonly fleet: Fleet;
  readonly scheduler: Scheduler;
  readonly #alarms: string[] = [];
  readonly #heard: Record<Name, string[]> = { alice: [], bob: [], carol: [] };
  #isSetBack = false;

  constructor(name: string, towers: 'none' | 'some') {
    const random = new Prng(name);
    this.scheduler = new Scheduler(random.fork('order'), undefined);
    this.fleet = new Fleet({
      scheduler: this.scheduler,
      random: random.fork('fleet'),
      secp: fakeSecp256k1,
      latencyMs: 2,
      towers,
      onViolation: (text) =>
        void (text.includes('ALARM: this channel is passive') ? this.#alarms : this.violations).push(text),
      onLog: () => undefined,
    });
    const peer = (of: Name): SimPeer => {
      const made = new SimPeer(of, {
        scheduler: this.scheduler,
        random: random.fork(of),
        secp: fakeSecp256k1,
        sockets: this.fleet.sockets.port(of),
        gateways: this.fleet.gatewayAddresses,
        chain: this.fleet.chain,
        chainHash: NETWORKS.regtest.chainHash,
        fleetNodeId: this.fleet.nodeId,
        suits: (nodeId) => Fleet.isFree(shardOfPeer(nodeId)),
        // Whoever is asked to close has much to complain about.
        onViolation: (text) => {
          if (!this.#isSetBack || of === 'carol') this.violations.push(text);
        },
      });
      made.wish = { fundingSat: 1_000_000n, pushMsat: 300_000_000n };
      made.onMessage = (message) => {
        const number = message.type === 'channel_reestablish' ? ` ${message.nextCommitmentNumber}` : '';
        this.#heard[of].push(`${message.type}${number}`);
      };
      return made;
    };
    this.peers = { alice: peer('alice'), bob: peer('bob'), carol: peer('carol') };
  }

  /** Lets virtual time pass while the story is told. */
  async tell(story: () => Promise<void>): Promise<void> {
    const outcome: { ended?: true; error?: Error } = {};
    story().then(
      () => (outcome.ended = true),
      (error: unknown) => {
        outcome.error = error instanceof Error ? error : new InternalError(String(error));
        outcome.ended = true;
      },
    );
    await this.scheduler.runUntil(() => outcome.ended === true, MAX_EVENTS);
    if (outcome.error !== undefined) throw outcome.error;
    expect(this.violations).toEqual([]);
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const deadline = this.scheduler.nowMs + PATIENCE_MS;
    while (!holds()) {
      if (this.scheduler.nowMs > deadline)
        throw new InternalError(
          `not so: ${what} (${JSON.stringify([this.phases(), this.#heard, this.violations])})`,
        );
      await this.scheduler.delay(20, 'look');
    }
  }

  async start(): Promise<void> {
    this.fleet.parkShards(new Set(NAMES.map((name) => shardOfPeer(this.peers[name].nodeId))));
    await this.fleet.start();
    await this.until('three channels are open', () => this.phases().join() === 'open,open,open');
    await this.pay(50_000_000n);
  }

  /** Alice pays Bob through the fleet. */
  async pay(amountMsat: bigint): Promise<void> {
    const { alice, bob } = this.peers;
    await this.#quiet();
    const preimage = sha256(utf8Encode(`preimage ${amountMsat}`));
    bob.preimages.set(toHex(sha256(preimage)), preimage);
    const payment = {
      paymentHash: sha256(preimage),
      amountMsat,
      feeMsat: 1_000n + amountMsat / 1_000n,
      payee: bob.nodeId,
      shortChannelId: this.#row('bob')?.shortChannelId ?? 0n,
      state: 'waiting',
      expected: 'fulfilled',
    } as const;
    const made = { ...payment, state: 'waiting' as 'waiting' | 'offered' | 'fulfilled' | 'failed' };
    alice.pay(made);
    await this.until('the payment is made', () => made.state === 'fulfilled');
    await this.#quiet();
  }

  async #quiet(): Promise<void> {
    await this.until('all is quiet', () => NAMES.every((name) => this.peers[name].isQuiet));
  }

  /** The node's database becomes what it was before the story. */
  async setBack(story: () => Promise<void>): Promise<void> {
    const restore = copyTables(this.fleet.database.state);
    await story();
    for (const manager of MANAGERS) this.fleet.crash(manager);
    restore();
    this.#isSetBack = true;
    this.forget();
    for (const manager of MANAGERS) this.fleet.startManager(manager);
  }

  /** What was heard and alarmed so far. */
  forget(): void {
    this.#alarms.length = 0;
    for (const name of NAMES) this.#heard[name].length = 0;
  }

  get alarms(): number {
    return this.#alarms.length;
  }

  heard(name: Name): readonly string[] {
    return this.#heard[name];
  }

  #row(name: Name) {
    const nodeId = toHex(this.peers[name].nodeId);
    return [...this.fleet.database.state.channels.values()].find(
      ({ row }) => toHex(row.counterpartyNodeId) === nodeId,
    )?.row;
  }

  channelId(name: Name): Uint8Array {
    return this.#row(name)?.channelId ?? new Uint8Array(32);
  }

  /** Of the three channels, as they are stored. */
  phases(): readonly (string | undefined)[] {
    return NAMES.map((name) => this.#row(name)?.phase);
  }

  /** As a replica lists them. */
  async listed(manager: string): Promise<readonly (string | undefined)[]> {
    const { channels } = await this.fleet.operator(manager).listChannels({ includeClosed: true });
    return NAMES.map(
      (name) => channels.find(({ channelId }) => toHex(channelId) === toHex(this.channelId(name)))?.phase,
    );
  }

  /** The operator's close, of whichever replica owns the channel; resolves with the refusal's code and words. */
  async refusalOfClose(name: Name): Promise<string | undefined> {
    let manager: string = MANAGERS[0];
    for (;;) {
      try {
        await this.fleet.operator(manager).closeChannel({ channelId: this.channelId(name), force: true });
        return undefined;
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        const owner = error.metadata['fulmen-owner-address'];
        if (owner === undefined && error.code !== 'unavailable') return `${error.code}: ${error.message}`;
        manager = owner ?? manager;
        await this.scheduler.delay(50, 'operator tries again');
      }
    }
  }

  /** Steps of the monitor log by which a channel leaves. */
  leaves(name: Name): readonly string[] {
    const log = this.fleet.database.state.monitorLog.get(toHex(this.channelId(name))) ?? [];
    return log.flatMap(({ payload }) => {
      const update = decodeChannelMonitorUpdate(payload);
      if (!update.ok) throw update.error;
      return update.value.steps.flatMap((step) =>
        step.type === 'channel_force_closed' ? [step.shouldBroadcast] : [],
      );
    });
  }

  /** What chain-monitor makes of the monitors' logs. */
  async closeStates(): Promise<readonly (string | undefined)[]> {
    const chain = new MemoryChainState(this.fleet.database.state, () => 0);
    const store = new MemoryChainStore(chain);
    const writer = new Writer(store, () => undefined);
    const lease = await store.acquireLease({
      holder: 'chain',
      address: 'chain:1',
      leaseMs: 1_000_000,
      doubt: undefined,
    });
    if (lease.type === 'acquired') writer.setLease(lease.lease);
    const metrics = chainMetrics(new Metrics('chain-monitor'));
    await new MonitorDrain({ writer, logger: silentLogger, metrics, onMoved: () => undefined }).run();
    return NAMES.map((name) => chain.monitors.get(toHex(this.channelId(name)))?.closeState);
  }
}

const PASSIVE = ['passive', 'passive', 'open'];

test.each(['none', 'some'] as const)(
  'a node database set back: its channels are passive everywhere, and stay so (towers: %s)',
  async (towers) => {
    const life = new Life(`set back, towers ${towers}`, towers);
    await life.tell(async () => {
      await life.start();
      await life.setBack(async () => {
        await life.pay(60_000_000n);
        await life.pay(70_000_000n);
      });
      await life.until('they are passive', () => life.phases().join() === PASSIVE.join());
      expect(life.alarms).toBe(2);
      for (const manager of MANAGERS) expect(await life.listed(manager)).toEqual(PASSIVE);
      for (const name of ['alice', 'bob'] as const) {
        expect(await life.refusalOfClose(name)).toMatch(/^failed_precondition: the channel is passive/);
        await life.until(`${name} was asked to close`, () => {
          const heard = life.heard(name);
          return heard.includes('channel_reestablish 0') && heard.includes('error');
        });
      }
      // The next owner finds what the first has committed, and has nothing to alarm about.
      life.forget();
      for (const manager of MANAGERS) life.fleet.crash(manager);
      for (const manager of MANAGERS) life.fleet.startManager(manager);
      for (const name of ['alice', 'bob'] as const)
        await life.until(`${name} was asked again`, () => {
          const heard = life.heard(name);
          return heard.includes('channel_reestablish 0') && heard.includes('error');
        });
      await life.until('Carol’s channel goes on', () => life.peers.carol.isQuiet);
      expect(life.alarms).toBe(0);
      expect(life.phases()).toEqual(PASSIVE);
      expect(await life.refusalOfClose('alice')).toMatch(/^failed_precondition: the channel is passive/);
      expect((['alice', 'bob', 'carol'] as const).map((name) => life.leaves(name))).toEqual([
        ['passive'],
        ['passive'],
        [],
      ]);
      expect(life.fleet.database.state.broadcasts.filter(({ kind }) => kind !== 'funding')).toEqual([]);
    });
    await expect(life.closeStates()).resolves.toEqual(PASSIVE);
  },
);

test('whatever fails while they become passive, they leave once', async () => {
  const life = new Life('set back, and crashes', 'none');
  await life.tell(async () => {
    await life.start();
    let crashes = 0;
    await life.setBack(async () => {
      await life.pay(60_000_000n);
      life.fleet.storeFaults = { unavailable: 0, unknown: 0.02 };
      // The commit is on its way when its process dies: it may arrive or not.
      life.fleet.onCommit = (manager) => {
        if (crashes >= 6 || !life.fleet.isRunning(manager)) return;
        crashes += 1;
        life.fleet.crash(manager);
        life.scheduler.schedule(300, `restart ${manager}`, () => life.fleet.startAgain(manager));
      };
    });
    await life.until('they are passive', () => life.phases().join() === PASSIVE.join());
    life.fleet.onCommit = () => undefined;
    life.fleet.storeFaults = { unavailable: 0, unknown: 0 };
    await life.until('everybody is served', () => life.peers.carol.isQuiet);
    expect(crashes).toBeGreaterThan(0);
    expect([life.leaves('alice'), life.leaves('bob')]).toEqual([['passive'], ['passive']]);
  });
});
