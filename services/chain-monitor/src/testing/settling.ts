/**
 * The settling half of a chain-monitor over a store in memory, driven by blocks
 * of given transactions: what the follower and the worker do in their turns,
 * without a node behind it.
 */
import { FEERATE_FLOOR_SAT_PER_KW, type Tx, displayHash, txid as txidOf } from '@fulmen/bitcoin';
import type { ChainBlock, ChainOutPoint, ChainTip, MempoolSpend } from '@fulmen/chain';
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { type ChannelMonitor, encodeMonitorParameters, splitMonitor, withoutChunks } from '@fulmen/monitor';
import { Metrics, silentLogger } from '@fulmen/service';
import { MemoryChainState, MemoryChainStore, emptyManagerTables } from '@fulmen/store/chain/memory';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { encodeTx } from '@fulmen/bitcoin';
import { reportFundings, scanFundings, unscanFundings } from '../follower/fundings.ts';
import { chainMetrics } from '../metrics.ts';
import { nextDeadlineOf } from '../settlement/deadlines.ts';
import { Settler } from '../settlement/settler.ts';
import { Writer } from '../state/writer.ts';

const NOW_UNIX_MS = 1_700_000_000_000;

/** A mempool of given transactions, of a node that knows the blocks. */
class GivenMempool {
  readonly #state: MemoryChainState;
  transactions: readonly Tx[] = [];

  constructor(state: MemoryChainState) {
    this.#state = state;
  }

  getBestBlock = async (): Promise<ChainTip> => {
    const tip = this.#state.blocks.at(-1);
    return { hash: displayHash(tip?.hash ?? new Uint8Array(32)), height: tip?.height ?? 0 };
  };

  getUtxo = async (): Promise<undefined> => undefined;

  getMempoolSpends = async (outPoints: readonly ChainOutPoint[]): Promise<readonly MempoolSpend[]> =>
    outPoints.flatMap(({ txid, vout }) => {
      const spender = this.transactions.find((tx) =>
        tx.inputs.some((input) => displayHash(input.txid) === txid && input.vout === vout),
      );
      return spender === undefined ? [] : [{ txid, vout, spendingTxid: displayHash(txidOf(spender)) }];
    });

  getMempoolTransaction = async (txid: string): Promise<Uint8Array | undefined> => {
    const found = this.transactions.find((tx) => displayHash(txidOf(tx)) === txid);
    return found === undefined ? undefined : encodeTx(found);
  };
}

export class Settling {
  readonly manager: ReturnType<typeof emptyManagerTables>;
  readonly state: MemoryChainState;
  readonly mempool: GivenMempool;
  readonly writer: Writer;
  readonly settler: Settler;
  readonly metrics = new Metrics('chain-monitor');
  feerateSatPerKw = FEERATE_FLOOR_SAT_PER_KW;
  /** What the settler logged as an error. */
  readonly complaints: object[] = [];
  #serial = 0;

  private constructor(state: MemoryChainState, manager: ReturnType<typeof emptyManagerTables>) {
    this.manager = manager;
    this.state = state;
    this.mempool = new GivenMempool(state);
    this.writer = new Writer(new MemoryChainStore(state), () => undefined);
    this.settler = new Settler({
      source: this.mempool,
      writer: this.writer,
      secp: secp256k1,
      runtime: { wallClockMs: () => NOW_UNIX_MS },
      logger: { ...silentLogger, error: (fields) => void this.complaints.push(fields) },
      metrics: chainMetrics(this.metrics),
      fees: { estimateSatPerKw: async () => this.feerateSatPerKw },
    });
  }

  /** An empty chain whose next block has height `height + 1`. */
  static async start(height: number): Promise<Settling> {
    const manager = emptyManagerTables();
    const settling = new Settling(new MemoryChainState(manager, () => 0), manager);
    await settling.#lead();
    await settling.writer.turn((draft) => {
      draft.block = { type: 'connect', block: settling.#block(height, new Uint8Array(32)) };
    });
    return settling;
  }

  /** Another process on the same state. */
  async restart(): Promise<Settling> {
    const next = new Settling(this.state, this.manager);
    next.mempool.transactions = this.mempool.transactions;
    next.#serial = this.#serial;
    await next.#lead();
    return next;
  }

  async #lead(): Promise<void> {
    const outcome = await this.writer.store.acquireLease({
      holder: 'test',
      address: 'test:1',
      leaseMs: 1_000_000,
      doubt: undefined,
    });
    if (outcome.type === 'acquired') this.writer.setLease(outcome.lease);
  }

  #block(height: number, prevHash: Uint8Array) {
    const hash = sha256(new TextEncoder().encode(`block ${height} ${this.#serial++}`));
    return { height, hash, prevHash, timeUnixSeconds: height };
  }

  /** A channel with its row at the manager, its funding confirmed long ago. */
  async watch(monitor: ChannelMonitor): Promise<void> {
    const { parameters } = monitor;
    const { channelId, channelKeysId, fundings } = parameters;
    const id = toHex(channelId);
    const [funding] = fundings;
    if (funding === undefined) throw new TypeError('a monitor without a funding');
    const record = {
      channelId,
      fundingTxid: funding.fundingTxid,
      fundingOutputIndex: funding.fundingOutputIndex,
      fundingValueSat: funding.fundingValueSat,
      scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
      minimumDepth: 3,
    };
    this.manager.watches.set(id, { watch: record, status: { type: 'unconfirmed' } });
    this.manager.monitorBirths.set(id, encodeMonitorParameters(parameters));
    if (!this.manager.channels.has(id))
      this.manager.channels.set(id, {
        row: { channelKeysId, shard: 1, phase: 'open' },
        outgoing: new Map(),
        monitorUpdateId: monitor.updateId,
      });
    await this.update(monitor);
    await this.writer.turn((draft) => draft.putFunding({ ...record, seen: { height: 1, txIndex: 1 } }));
  }

  /** The log moved the monitor. */
  async update(monitor: ChannelMonitor): Promise<void> {
    const { channelId } = monitor.parameters;
    const nextDeadlineHeight = nextDeadlineOf(monitor);
    const known = this.state.monitors.get(toHex(channelId));
    await this.writer.exclusive((_, lease) =>
      this.writer.store.commitMonitors(lease, [
        {
          channelId,
          expectedUpdateId: known?.updateId ?? 0n,
          updateId: monitor.updateId,
          ...splitMonitor(monitor),
          closeState: known?.closeState ?? 'open',
          ...(nextDeadlineHeight !== undefined && { nextDeadlineHeight }),
        },
      ]),
    );
    this.settler.monitorMoved(channelId, withoutChunks(monitor));
  }

  get height(): number {
    return this.state.blocks.at(-1)?.height ?? 0;
  }

  /** Connects one block, and lets the settler look at it. */
  async mine(transactions: readonly Tx[] = []): Promise<void> {
    await this.connect(transactions);
    await this.settler.run();
  }

  /** Connects one block; nothing is settled yet. */
  async connect(transactions: readonly Tx[] = []): Promise<void> {
    await this.writer.turn(async (draft) => {
      const tip = draft.view.tip;
      const stored = this.#block((tip?.height ?? 0) + 1, tip?.hash ?? new Uint8Array(32));
      draft.block = { type: 'connect', block: stored };
      const block = blockOf(transactions, stored.prevHash, stored.hash);
      scanFundings(draft, block, stored.height);
      await this.settler.scan(draft, block, stored.height);
      reportFundings(draft, stored.height);
    });
  }

  /** Takes the last blocks back, one turn each. */
  async disconnect(count: number): Promise<void> {
    for (let at = 0; at < count; at++)
      await this.writer.turn((draft) => {
        const { tip } = draft.view;
        if (tip === undefined) throw new TypeError('no block');
        draft.block = { type: 'disconnect', hash: tip.hash };
        unscanFundings(draft, tip.height);
        this.settler.unscan(draft, tip.height);
        reportFundings(draft, tip.height - 1);
      });
  }

  async mineTo(height: number): Promise<void> {
    while (this.height < height) await this.mine();
  }

  /** Types of the events so far, each with its body. */
  events(type?: string): readonly Record<string, unknown>[] {
    return this.manager.outbox
      .filter((event) => type === undefined || event.type === type)
      .map(({ body }) => JSON.parse(body) as Record<string, unknown>);
  }
}

function blockOf(transactions: readonly Tx[], prevHash: Uint8Array, hash: Uint8Array): ChainBlock {
  const all: readonly Tx[] = [{ version: 2, locktime: 0, inputs: [], outputs: [] }, ...transactions];
  return {
    header: { version: 1, prevHash, merkleRoot: hash, time: 0, bits: 0, nonce: 0 },
    hash,
    transactions: all,
    txids: all.map((tx, at) => (at === 0 ? hash : txidOf(tx))),
    txIndexes: all.map((_, at) => at),
    coverage: 'whole',
    earlier: [],
  };
}
