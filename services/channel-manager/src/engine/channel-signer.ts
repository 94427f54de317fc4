/**
 * What one channel asks of the signer: a step's item, patience with a signer
 * that cannot do it now, and the memory of how far the signer has come.
 */
import {
  type ChannelState,
  signerProgress,
  type SignerProgress,
  signerWork,
  type SignerWork,
} from '@fulmen/channel';
import { InternalError } from '@fulmen/codec';
import type { SignItem, SignResult, SignSuccess } from '@fulmen/proto/signer/v1/signer';
import { patiently } from '../signing/patiently.ts';
import { signItemOf, type SignRequest } from '../signing/sign-item.ts';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';

const SIGN_RETRY_MS = 100;
/** The signer refuses a call for more. */
const MAX_POINTS_IN_CALL = 16;

export class ChannelSigner {
  readonly #host: ActorHost;
  readonly #actor: ChannelActor;
  #progress: SignerProgress;

  constructor(host: ActorHost, actor: ChannelActor, progress: SignerProgress | undefined) {
    this.#host = host;
    this.#actor = actor;
    this.#progress = progress ?? { holderCommitmentNumber: -1n, counterpartyRevocations: 0n };
  }

  /** What the signer has not been shown yet of a state. */
  workOf(state: ChannelState): SignerWork {
    if (state.type !== 'established') return { counterpartyRevocations: [] };
    const work = signerWork(state, this.#progress);
    if (!work.ok) throw new InternalError(work.error.reason);
    return work.value;
  }

  /** The item of a step; undefined when it needs no signer. */
  itemOf(step: Omit<SignRequest, 'channelKeysId' | 'fence'>): SignItem | undefined {
    const { channelKeysId, fence } = this.#actor;
    return signItemOf({ channelKeysId, fence, ...step });
  }

  /** Hands over an item that needs no commit before it. */
  async ask(item: SignItem): Promise<SignResult> {
    const [first] = await this.#host.ports.signLane.sign([item]);
    if (first === undefined) throw new InternalError('the signer answered nothing');
    return first;
  }

  /**
   * A refusal to do it now is retried identically; any other is for the host to
   * act on. Undefined when the channel's work ends here.
   */
  async signedOrRetry(item: SignItem, first: SignResult): Promise<SignSuccess | undefined> {
    let result = first;
    for (;;) {
      const { outcome } = result;
      if (outcome?.$case === 'success') return outcome.value;
      const refusal = outcome?.value;
      if (refusal === undefined) throw new InternalError('the signer gave an empty result');
      if (this.#actor.stopped) return undefined;
      if (this.#host.signerRefused(this.#actor, refusal) === 'stop') return undefined;
      await this.#host.ports.runtime.sleep(SIGN_RETRY_MS);
      result = await this.ask(item);
    }
  }

  async signNow(item: SignItem): Promise<SignSuccess | undefined> {
    return this.signedOrRetry(item, await this.ask(item));
  }

  /** Takes from a signed step what later steps build on. */
  learn(success: SignSuccess, state: ChannelState): void {
    if (success.perCommitmentPoints.length > 0)
      this.#actor.points.add(success.firstPointNumber, success.perCommitmentPoints);
    if (state.type === 'established') this.#progress = signerProgress(state);
  }

  /**
   * Adds the holder's points of these commitments, however many: every connection that lies in one turn may ask for one.
   * @throws AbortedError when the actor stops meanwhile; RpcError for a definitive no.
   */
  async fetchPoints(numbers: readonly bigint[], points: Map<bigint, Uint8Array>): Promise<void> {
    const { runtime, signer } = this.#host.ports;
    const missing = [...new Set(numbers)];
    for (let from = 0; from < missing.length; from += MAX_POINTS_IN_CALL) {
      const commitmentNumbers = missing.slice(from, from + MAX_POINTS_IN_CALL);
      const request = { channelKeysId: this.#actor.channelKeysId, commitmentNumbers };
      const answer = await patiently(
        runtime,
        () => this.#actor.stopped,
        () => signer.getPerCommitmentPoints(request),
      );
      for (const [at, number] of commitmentNumbers.entries()) {
        const point = answer.points[at];
        if (point === undefined) throw new InternalError(`the signer gave no point of commitment ${number}`);
        points.set(number, point);
      }
    }
  }
}
