/**
 * What an actor knows of its channel's inbound HTLCs beside their state in the
 * core: the shared secrets of their onions, what was decided about them, and
 * which of their intents are written or settled by others. All of it can be
 * made again after a restart.
 */
import {
  type ChannelState,
  type EstablishedChannel,
  HTLC_FAIL_BACK_BUFFER_BLOCKS,
  type HtlcBody,
} from '@fulmen/channel';
import { equalBytes } from '@fulmen/codec';
import { FAILURE_CODES } from '@fulmen/onion';
import type { SignSuccess } from '@fulmen/proto/signer/v1/signer';
import type { HtlcSource } from '@fulmen/store';
import { refuseUnknown } from '../payments/receive.ts';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';
import type { ChannelSigner } from './channel-signer.ts';
import { decideHtlc, ephemeralKeyOf, type HtlcDecision } from './htlc-decision.ts';
import type { Item } from './items.ts';
import type { TurnResult } from './turn-result.ts';

/** An onion whose shared secret is wanted, with the key to do ECDH with. */
interface WantedSecret {
  readonly id: bigint;
  readonly key: Uint8Array;
}

export class InboundHtlcs {
  readonly #host: ActorHost;
  readonly #actor: ChannelActor;
  readonly #signer: ChannelSigner;
  readonly #decisions = new Map<bigint, HtlcDecision>();
  readonly #secrets = new Map<bigint, Uint8Array>();
  /** Inbound HTLCs whose intent is written: never written twice. */
  readonly #decided = new Set<bigint>();
  /** Inbound HTLCs whose intent others settled first: not worth another try. */
  readonly #takenByOthers = new Set<bigint>();

  /** What has an intent was decided; the others are taken up again. */
  constructor(
    host: ActorHost,
    actor: ChannelActor,
    signer: ChannelSigner,
    intentsWritten: readonly bigint[],
  ) {
    this.#host = host;
    this.#actor = actor;
    this.#signer = signer;
    for (const htlcId of intentsWritten) this.#decided.add(htlcId);
  }

  get decisions(): ReadonlyMap<bigint, HtlcDecision> {
    return this.#decisions;
  }

  isTakenUp(htlcId: bigint): boolean {
    return this.#decided.has(htlcId);
  }

  isTakenByOthers(htlcId: bigint): boolean {
    return this.#takenByOthers.has(htlcId);
  }

  sharedSecretOf(htlcId: bigint): Uint8Array | undefined {
    return this.#secrets.get(htlcId);
  }

  /** Fetches what the core will ask for in a turn: shared secrets and decisions. */
  async prepare(state: EstablishedChannel, items: readonly Item[]): Promise<void> {
    const undecided = state.changes.htlcs
      .filter(
        ({ body, state: progress }) =>
          body.direction === 'inbound' && (progress === 'add_signed' || progress === 'committed'),
      )
      .map(({ body }) => body)
      .filter((body) => !this.#decisions.has(body.id) && !this.#decided.has(body.id));
    await this.decide(undecided);
    const failing = items.flatMap((item) => {
      if (item.kind === 'cancel') return [item.source.htlcId];
      const isFailure =
        item.kind === 'resolution' &&
        item.resolution.source.type === 'htlc' &&
        item.resolution.outcome.type !== 'fulfilled';
      return isFailure && item.resolution.source.type === 'htlc' ? [item.resolution.source.htlcId] : [];
    });
    await this.#fetchSecrets(
      state.changes.htlcs
        .map(({ body }) => body)
        .filter((body) => body.direction === 'inbound' && failing.includes(body.id)),
    );
  }

  async decide(htlcs: readonly HtlcBody[]): Promise<void> {
    if (htlcs.length === 0) return;
    await this.#fetchSecrets(htlcs);
    for (const htlc of htlcs) {
      const key = ephemeralKeyOf(this.#host.ports.secp, htlc);
      if (!key.ok) {
        this.#decisions.set(htlc.id, key.decision);
        continue;
      }
      const secret = this.#secrets.get(htlc.id);
      if (secret === undefined) continue;
      const { ports } = this.#host;
      const context = {
        secp: ports.secp,
        channelId: this.#actor.channelId,
        shard: this.#actor.fence.shard,
        nowUnixMs: ports.runtime.wallClockMs(),
        shardOfScid: (scid: bigint) => this.#host.shardOfScid(scid),
        refuseUnknown: (
          body: HtlcBody,
          instruction: Parameters<Parameters<typeof decideHtlc>[0]['refuseUnknown']>[1],
        ) => refuseUnknown(ports.store, body, instruction, this.#host.node),
      };
      this.#decisions.set(htlc.id, await decideHtlc(context, htlc, secret));
    }
  }

  /** ECDH with the node key for onions whose secret is not in memory (after a restart). */
  async #fetchSecrets(htlcs: readonly HtlcBody[]): Promise<void> {
    const wanted = htlcs.flatMap((body) => this.#wantedSecret(body));
    if (wanted.length === 0) return;
    const item = this.#signer.itemOf({
      work: { counterpartyRevocations: [] },
      messages: [],
      ecdhKeys: wanted.map(({ key }) => key),
    });
    if (item === undefined) return;
    const signed = await this.#signer.signNow(item);
    if (signed !== undefined) this.learn(signed, wanted);
  }

  #wantedSecret(body: HtlcBody): readonly WantedSecret[] {
    if (this.#secrets.has(body.id)) return [];
    const key = ephemeralKeyOf(this.#host.ports.secp, body);
    return key.ok ? [{ id: body.id, key: key.key }] : [];
  }

  /** Onions that the counterparty committed to and whose secret is not known: their ECDH rides on this step's call. */
  newOnions(state: ChannelState): readonly WantedSecret[] {
    if (state.type !== 'established') return [];
    return state.changes.htlcs.flatMap(({ body, state: progress }) => {
      if (body.direction !== 'inbound' || progress === 'add_pending') return [];
      if (this.#decided.has(body.id) || progress.startsWith('removal')) return [];
      return this.#wantedSecret(body);
    });
  }

  /** The signer's secrets come in the order in which they were asked for. */
  learn(success: SignSuccess, onions: readonly WantedSecret[]): void {
    success.sharedSecrets.forEach((secret, index) => {
      const onion = onions[index];
      if (onion !== undefined) this.#secrets.set(onion.id, secret);
    });
  }

  /** The store has seen this onion before: the HTLC is failed instead of carried out. */
  refuseReplayed(state: EstablishedChannel, htlcId: bigint): void {
    const htlc = state.changes.htlcs.find(({ body }) => body.direction === 'inbound' && body.id === htlcId);
    this.#decisions.set(htlcId, {
      type: 'fail_malformed',
      sha256OfOnion: this.#host.sha256(htlc?.body.onionRoutingPacket ?? new Uint8Array(0)),
      failureCode: FAILURE_CODES.invalid_onion_hmac,
    });
  }

  /** Somebody else settled this intent first. */
  takenByOther(source: HtlcSource): void {
    if (source.type === 'htlc' && equalBytes(source.channelId, this.#actor.channelId))
      this.#takenByOthers.add(source.htlcId);
  }

  /** HTLCs whose intent nobody took in time. */
  overdue(state: EstablishedChannel, height: number): readonly (HtlcSource & { readonly type: 'htlc' })[] {
    return state.changes.htlcs.flatMap(({ body, state: progress }) => {
      if (body.direction !== 'inbound' || progress !== 'committed' || !this.#decided.has(body.id)) return [];
      if (body.cltvExpiryHeight > height + HTLC_FAIL_BACK_BUFFER_BLOCKS) return [];
      if (this.#takenByOthers.has(body.id)) return [];
      return [{ type: 'htlc', channelId: state.channelId, htlcId: body.id } as const];
    });
  }

  /** Follows what a turn has committed. */
  committed(result: TurnResult): void {
    for (const id of result.settledInbound) {
      this.#secrets.delete(id);
      this.#decisions.delete(id);
      this.#decided.delete(id);
      this.#takenByOthers.delete(id);
    }
    for (const { source } of result.forwarding.intents)
      if (source.type === 'htlc') this.#decided.add(source.htlcId);
  }

  /** A disconnect may take HTLCs back that were never committed; their ids come again with another onion. */
  forgetVanished(state: ChannelState): void {
    if (state.type !== 'established') return;
    const present = new Set(
      state.changes.htlcs.filter(({ body }) => body.direction === 'inbound').map(({ body }) => body.id),
    );
    for (const map of [this.#secrets, this.#decisions])
      for (const id of map.keys()) if (!present.has(id)) map.delete(id);
  }
}
