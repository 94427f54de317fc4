/**
 * The node's side of towers: hands each what it has not acknowledged, with the
 * sealed key that lets its signer punish, and takes its acknowledgements. Any
 * replica serves it, standbys too: everything is in rows.
 */
import { toHex } from '@fulmen/codec';
import type { Bus } from '@fulmen/bus';
import { decodeMonitorParameters } from '@fulmen/monitor';
import type { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type {
  AcknowledgeRequest,
  GetMonitorRequest,
  MonitorPiece,
  PullRequest,
  PullResponse,
  ReportSetBackRequest,
  ReportSetBackResponse,
} from '@fulmen/proto/tower/v1/tower';
import type { TowerFeedServiceService } from '@fulmen/proto/tower/v1/tower';
import { type CallContext, type Client, type Handlers, RpcError } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import { StatementError, StoreError } from '@fulmen/store/error';
import type {
  RegisteredTower,
  TowerFeedStore,
  TowerOrigin,
  TowerPage,
  TowerReport,
  TowerUpdate,
} from '@fulmen/store/tower/tower-store';
import { Doorbell } from './doorbell.ts';
import { inPieces, wholeMonitor } from './whole-monitor.ts';

/** Rows of a kind in one answer, and bytes of updates. */
const PAGE = 512;
const PAGE_BYTES = 1024 * 1024;
/** Of a monitor. */
const PIECE_BYTES = 1024 * 1024;
/** A hint may be lost: the rows are looked at this often all the same. */
const POLL_MS = 250;
const MAX_WAIT_MS = 30_000;
const MAX_REPORT = 10_000;
/** Channels that one question leaves out. */
const MAX_DEFERRED = 10_000;
const MAX_REASON = 500;
/** What a tower's database counts is below: it fits the rows. */
const MARK_LIMIT = 1n << 62n;
const TIDY_MS = 5_000;

export interface TowerFeedPorts {
  readonly store: TowerFeedStore;
  readonly signer: Pick<Client<SignerServiceService>, 'sealJusticeKey'>;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Updates of one channel that are kept for a tower; behind that it gets the monitor whole. */
  readonly maximumUpdates: number;
}

export class TowerFeed {
  readonly #ports: TowerFeedPorts;
  readonly #doorbell: Doorbell;
  readonly #refused = new Set<string>();
  readonly #faults;
  readonly #cut;
  readonly #setBacks;
  readonly #waiting;
  readonly #behind;

  constructor(ports: TowerFeedPorts) {
    this.#ports = ports;
    this.#doorbell = new Doorbell(ports.runtime);
    const { metrics } = ports;
    this.#faults = metrics.gauge('tower_faults', 'Channels of which a tower contradicts the node', ['tower']);
    this.#cut = metrics.counter('tower_updates_cut_total', 'Updates that a tower was too slow to fetch');
    this.#setBacks = metrics.counter('tower_set_backs_total', 'Databases of towers that lost something', [
      'tower',
    ]);
    this.#waiting = metrics.gauge('tower_updates_waiting', 'Updates that a tower has not acknowledged', [
      'tower',
    ]);
    this.#behind = metrics.gauge('tower_channels_behind', 'Channels of which a tower has not everything', [
      'tower',
    ]);
  }

  handlers(): Handlers<typeof TowerFeedServiceService> {
    return {
      pull: (request, context) => this.#pull(request, context),
      getMonitor: (request) => this.#monitor(request),
      acknowledge: async (request) => {
        await this.#acknowledge(request);
        return {};
      },
      reportSetBack: (request) => this.#setBack(request),
    };
  }

  /** Hints and upkeep; the result ends both. */
  start(): () => Promise<void> {
    const unsubscribe = this.#ports.bus.subscribe('fulmen.tower.update', () => this.#doorbell.ring());
    const task = this.#ports.runtime.spawn('towers', async (signal) => {
      while (!signal.aborted) {
        await this.#tidy();
        await this.#ports.runtime.sleep(TIDY_MS, signal);
      }
    });
    return async () => {
      unsubscribe();
      this.#doorbell.ring();
      await task.stop();
    };
  }

  async #tidy(): Promise<void> {
    const { store, logger, maximumUpdates } = this.#ports;
    try {
      const { cut, due } = await store.tidy(maximumUpdates);
      if (cut > 0) {
        this.#cut.inc(cut);
        logger.error({ updates: cut }, 'ALARM: a tower is so far behind that its updates were cut');
      }
      if (due > 0) this.#doorbell.ring();
      for (const { towerId, channelsBehind, updatesWaiting, faults } of await store.listTowers()) {
        this.#waiting.set({ tower: towerId }, updatesWaiting);
        this.#behind.set({ tower: towerId }, channelsBehind);
        this.#faults.set({ tower: towerId }, faults.length);
      }
    } catch (error) {
      // The manager's tables may not be there before its first start.
      if (!(error instanceof StoreError) && !(error instanceof StatementError)) throw error;
      logger.warn({ reason: error.message }, 'the towers’ queues could not be looked after');
    }
  }

  async #tower(towerId: string): Promise<RegisteredTower> {
    if (towerId.length === 0 || towerId.length > 64)
      throw new RpcError('invalid_argument', 'tower_id has 1 to 64 characters');
    const tower = await this.#ports.store.tower(towerId);
    if (tower === undefined) throw new RpcError('permission_denied', 'this tower is not registered');
    return tower;
  }

  async #pull(request: PullRequest, context: CallContext): Promise<PullResponse> {
    const { runtime, store } = this.#ports;
    const tower = await this.#tower(request.towerId);
    const stated = markOf(request.mark);
    const mark = await store.seen(tower.towerId, stated);
    // What its database lost comes first: it would be sent what follows on that.
    if (stated > 0n && stated < mark) return { updates: [], preimages: [], monitors: [], mark };
    const until = runtime.monotonicMs() + Math.min(request.waitMs, MAX_WAIT_MS);
    if (request.deferredMonitors.length > MAX_DEFERRED)
      throw new RpcError('invalid_argument', `at most ${MAX_DEFERRED} deferred monitors`);
    const deferred = request.deferredMonitors.map(fixed32);
    for (;;) {
      const page = await store.pull(tower.towerId, PAGE, deferred);
      const answer = { ...(await this.#answer(tower, page)), mark };
      const isNews = answer.updates.length + answer.preimages.length + answer.monitors.length > 0;
      const leftMs = until - runtime.monotonicMs();
      if (isNews || leftMs <= 0 || context.signal.aborted) return answer;
      await this.#doorbell.wait(Math.min(POLL_MS, leftMs), context.signal);
    }
  }

  async #answer(tower: RegisteredTower, page: TowerPage): Promise<Omit<PullResponse, 'mark'>> {
    const newborn = page.updates.filter(({ updateId }) => updateId === 1n).map(({ channelId }) => channelId);
    const origins = await this.#sealed(tower, newborn);
    const withheld = new Set(newborn.map(toHex).filter((id) => !origins.has(id)));
    const updates: PullResponse['updates'] = [];
    let bytes = 0;
    for (const update of page.updates) {
      const key = toHex(update.channelId);
      // Without the key that punishes, an acknowledgement would be a promise that the tower cannot keep.
      if (withheld.has(key)) continue;
      bytes += update.payload.length;
      if (updates.length > 0 && bytes > PAGE_BYTES) break;
      updates.push({ ...update, origin: originOf(update, origins.get(key)) });
    }
    return { updates, preimages: [...page.preimages], monitors: [...page.monitorsDue] };
  }

  /** Origins with their sealed keys, by channel; those that cannot be sealed now are left out. */
  async #sealed(
    tower: RegisteredTower,
    channelIds: readonly Uint8Array[],
  ): Promise<ReadonlyMap<string, TowerOrigin & { readonly sealedKey: Uint8Array }>> {
    const sealed = new Map<string, TowerOrigin & { readonly sealedKey: Uint8Array }>();
    for (const origin of await this.#ports.store.origins(tower.towerId, channelIds)) {
      const sealedKey = origin.sealedKey ?? (await this.#seal(tower, origin));
      if (sealedKey !== undefined) sealed.set(toHex(origin.channelId), { ...origin, sealedKey });
    }
    return sealed;
  }

  async #seal(tower: RegisteredTower, origin: TowerOrigin): Promise<Uint8Array | undefined> {
    const { signer, store, logger } = this.#ports;
    const parameters = decodeMonitorParameters(origin.parameters);
    if (!parameters.ok) {
      logger.error({ channelId: origin.channelId }, 'ALARM: the parameters of a monitor do not decode');
      return undefined;
    }
    try {
      const { sealedKey } = await signer.sealJusticeKey({
        channelKeysId: parameters.value.channelKeysId,
        towerPublicKey: tower.publicKey,
      });
      const bytes = Uint8Array.from(sealedKey);
      await store.putSealedKey(tower.towerId, origin.channelId, bytes);
      this.#refused.delete(tower.towerId);
      return bytes;
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (error.code === 'permission_denied' && !this.#refused.has(tower.towerId)) {
        this.#refused.add(tower.towerId);
        logger.error(
          { tower: tower.towerId, reason: error.message },
          'ALARM: the signer trusts no such tower',
        );
      }
      return undefined;
    }
  }

  async *#monitor(request: GetMonitorRequest): AsyncGenerator<MonitorPiece> {
    const tower = await this.#tower(request.towerId);
    const channelId = fixed32(request.channelId);
    const [origin] = (await this.#sealed(tower, [channelId])).values();
    const monitor = await wholeMonitor(this.#ports.store, channelId);
    if (origin === undefined || monitor === undefined)
      throw new RpcError('not_found', 'there is no monitor of this channel to send yet');
    const { updateId, totalBytes, parts } = monitor;
    let first: MonitorPiece['origin'] = { parameters: origin.parameters, sealedKey: origin.sealedKey };
    for await (const snapshot of inPieces(parts, PIECE_BYTES)) {
      yield { updateId, totalBytes, snapshot, origin: first };
      first = undefined;
    }
  }

  async #acknowledge(request: AcknowledgeRequest): Promise<void> {
    const tower = await this.#tower(request.towerId);
    const fresh = await this.#ports.store.acknowledge(tower.towerId, reportOf(request));
    for (const { channelId, reason } of fresh)
      this.#ports.logger.error(
        { tower: tower.towerId, channelId, reason },
        'ALARM: a tower contradicts the node: the channel stays frozen as far as it needs this tower',
      );
    this.#ports.bus.publish('fulmen.tower.ack');
  }

  async #setBack({ towerId, lostMark }: ReportSetBackRequest): Promise<ReportSetBackResponse> {
    const tower = await this.#tower(towerId);
    const lost = markOf(lostMark);
    const done = await this.#ports.store.setBack(tower.towerId, lost);
    if (done === undefined) return { mark: 0n };
    const { mark, channels } = done;
    this.#setBacks.inc({ tower: tower.towerId });
    this.#ports.logger.error(
      { tower: tower.towerId, channels },
      'ALARM: a tower’s database was set back, or is another one: it is sent everything again',
    );
    this.#doorbell.ring();
    return { mark };
  }
}

function originOf(
  { updateId }: TowerUpdate,
  origin: (TowerOrigin & { readonly sealedKey: Uint8Array }) | undefined,
): PullResponse['updates'][number]['origin'] {
  return updateId === 1n && origin !== undefined
    ? { parameters: origin.parameters, sealedKey: origin.sealedKey }
    : undefined;
}

function fixed32(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 32) throw new RpcError('invalid_argument', 'a channel id has 32 bytes');
  return Uint8Array.from(bytes);
}

function markOf(mark: bigint): bigint {
  if (mark < 0n || mark >= MARK_LIMIT) throw new RpcError('invalid_argument', 'a mark is below 2^62');
  return mark;
}

function reportOf({ progress, preimages, missing, faults, mark }: AcknowledgeRequest): TowerReport {
  if (progress.length + preimages.length + missing.length + faults.length > MAX_REPORT)
    throw new RpcError('invalid_argument', `at most ${MAX_REPORT} entries at once`);
  return {
    mark: markOf(mark),
    progress: progress.map(({ channelId, updateId }) => ({
      channelId: fixed32(channelId),
      updateId: BigInt.asIntN(64, updateId) < 0n ? 0n : updateId,
    })),
    preimages: preimages.map(({ channelId, htlcId }) => ({ channelId: fixed32(channelId), htlcId })),
    missing: missing.map(fixed32),
    faults: faults.map(({ channelId, reason }) => ({
      channelId: fixed32(channelId),
      reason: `the tower says: ${printable(reason).slice(0, MAX_REASON)}`,
    })),
  };
}

/** A tower is a process of ours, but in another zone: its words are printed as text only. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}
