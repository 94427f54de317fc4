/**
 * Which outputs of closed channels the chain is asked about, by outpoint: a
 * block's inputs are looked up here, so that no monitor is decoded unless one
 * of its outputs is spent. Funding outputs have an index of their own.
 */
import type { Tx } from '@fulmen/bitcoin';
import type { Registrations } from '@fulmen/chain';
import type { OutPoint } from '@fulmen/settlement';
import { outPointKey } from '../state/keys.ts';

export class WatchedOutputs {
  readonly #channels = new Map<string, Set<string>>();
  readonly #outPoints = new Map<string, readonly OutPoint[]>();

  /** Replaces what is watched for a channel. `facts` spend some of it already: those are not asked for again. */
  set(channelId: string, watched: readonly OutPoint[], facts: readonly Tx[]): void {
    this.drop(channelId);
    const spent = new Set(
      facts.flatMap((tx) => tx.inputs.map((input) => outPointKey(input.txid, input.vout))),
    );
    this.#outPoints.set(
      channelId,
      watched.filter(({ txid, outputIndex }) => !spent.has(outPointKey(txid, outputIndex))),
    );
    for (const { txid, outputIndex } of watched) {
      const key = outPointKey(txid, outputIndex);
      const channels = this.#channels.get(key);
      if (channels === undefined) this.#channels.set(key, new Set([channelId]));
      else channels.add(channelId);
    }
    this.#keys.set(
      channelId,
      watched.map(({ txid, outputIndex }) => outPointKey(txid, outputIndex)),
    );
  }

  readonly #keys = new Map<string, readonly string[]>();

  drop(channelId: string): void {
    for (const key of this.#keys.get(channelId) ?? []) {
      const channels = this.#channels.get(key);
      channels?.delete(channelId);
      if (channels?.size === 0) this.#channels.delete(key);
    }
    this.#keys.delete(channelId);
    this.#outPoints.delete(channelId);
  }

  clear(): void {
    this.#channels.clear();
    this.#outPoints.clear();
    this.#keys.clear();
  }

  /** Channels that wait for the spend of this outpoint. */
  channelsOf(key: string): ReadonlySet<string> | undefined {
    return this.#channels.get(key);
  }

  /** Outputs that no fact spends. */
  unspent(channelId: string): readonly OutPoint[] {
    return this.#outPoints.get(channelId) ?? [];
  }

  /** Tells a source that shows only what is registered. */
  register(filter: Registrations): void {
    for (const outPoints of this.#outPoints.values())
      for (const { txid, outputIndex } of outPoints) filter.registerOutput(txid, outputIndex);
  }
}
