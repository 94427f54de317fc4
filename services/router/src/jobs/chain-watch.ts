/**
 * Looks whether known channels are still funded: a bounded number with every
 * block, in turn, so that each is asked every day or two; those that seemed
 * spent are asked every time until they are forgotten, 72 blocks later.
 */
import { forgetSpent, markSpent, markUnspent, utxoLookupOf } from '@fulmen/graph';
import { decodeMessage } from '@fulmen/wire';
import type { Journal } from '../gossip/journal.ts';
import type { UtxoLookups } from '../gossip/utxo-lookups.ts';
import type { RouterContext } from '../ports.ts';

const CHECKS_PER_BLOCK = 300;
const CHECKS_AT_ONCE = 4;
const POLL_MS = 5_000;

export class ChainWatch {
  readonly #context: RouterContext;
  readonly #journal: Journal;
  readonly #lookups: UtxoLookups;
  #nextScid = 0n;
  #checkedHeight = 0;

  constructor(context: RouterContext, journal: Journal, lookups: UtxoLookups) {
    this.#context = context;
    this.#journal = journal;
    this.#lookups = lookups;
  }

  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#context.runtime.sleep(POLL_MS, signal);
      const height = this.#context.state.bestHeight;
      if (height === undefined || height === this.#checkedHeight) continue;
      this.#checkedHeight = height;
      await this.check(height, signal);
    }
  }

  /** One block's share of checks. */
  async check(height: number, signal: AbortSignal): Promise<void> {
    const { graph } = this.#context.state;
    const scids = this.#share();
    for (let i = 0; i < scids.length && !signal.aborted; i += CHECKS_AT_ONCE) {
      await Promise.all(scids.slice(i, i + CHECKS_AT_ONCE).map((scid) => this.#check(scid, height)));
    }
    this.#journal.removed(forgetSpent(graph, height));
  }

  /** The channels whose turn it is, and those thought spent. */
  #share(): bigint[] {
    const { graph } = this.#context.state;
    const all = graph.sortedScids();
    const spent: bigint[] = [];
    for (const channel of graph.channels()) {
      if (graph.channelSpentHeight[channel] !== 0) spent.push(graph.channelScid[channel] ?? 0n);
      if (spent.length >= CHECKS_PER_BLOCK) break;
    }
    let start = all.findIndex((scid) => scid >= this.#nextScid);
    if (start < 0) start = 0;
    const turn = [...all.subarray(start, start + CHECKS_PER_BLOCK)];
    const last = turn.at(-1);
    this.#nextScid = last === undefined || start + turn.length >= all.length ? 0n : last + 1n;
    return [...new Set([...spent, ...turn])];
  }

  async #check(scid: bigint, height: number): Promise<void> {
    const { graph } = this.#context.state;
    const before = graph.channelIndex(scid);
    const raw = before === undefined ? undefined : graph.channelAnnouncementRaw[before];
    const message = raw === undefined ? undefined : decodeMessage(raw);
    if (message?.ok !== true || message.value.type !== 'channel_announcement') return;
    const outcome = await this.#lookups.ask(utxoLookupOf(message.value));
    const channel = graph.channelIndex(scid);
    if (channel === undefined || outcome.kind === 'unavailable') return;
    const spentHeight = graph.channelSpentHeight[channel] ?? 0;
    if (outcome.kind !== 'found') {
      if (spentHeight !== 0) return;
      markSpent(graph, scid, height);
      this.#journal.channel(scid);
      return;
    }
    if (spentHeight !== 0) {
      markUnspent(graph, scid);
      this.#journal.channel(scid);
    }
    // A channel of our own may have been taken in before the chain was asked.
    if (graph.channelCapacitySat[channel] === 0) {
      graph.channelCapacitySat[channel] = Number(outcome.capacitySat);
      this.#journal.channel(scid);
    }
  }
}
