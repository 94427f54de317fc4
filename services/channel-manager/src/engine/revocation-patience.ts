/** How long a peer may owe its revoke_and_ack. */
import type { ChannelState } from '@fulmen/channel';
import { isClosing, warningMessage } from '@fulmen/channel/close/force';
import { isAwaitingRevocation } from '@fulmen/channel/updates/spec';
import type { ActorHost } from './actor-host.ts';
import type { ChannelActor } from './channel-actor.ts';

/**
 * While one is owed nothing more is signed, and what others sent through this channel waits. LDK gives one to two minutes
 * (DISCONNECT_PEER_AWAITING_RESPONSE_TICKS). The end of the connection takes back what is not signed, which then fails
 * upstream; the reestablish asks for the revoke_and_ack anew.
 */
const REVOCATION_PATIENCE_MS = 120_000;
/** A turn that takes longer waits for the signer or the store, and what the peer said meanwhile lies unread: none of its time. */
const LONG_TURN_MS = 1_000;

export class RevocationPatience {
  readonly #host: ActorHost;
  readonly #actor: ChannelActor;
  /** The commitment_signed that is not answered, and on which connection it was said. */
  #unanswered: { readonly number: bigint; readonly generation: bigint | undefined } | undefined;
  #waitedMs = 0;
  /** Until when `#waitedMs` counts. */
  #countedMs = 0;
  #turn: 'under_way' | 'done' = 'done';
  #timer: AbortController | undefined;

  constructor(host: ActorHost, actor: ChannelActor) {
    this.#host = host;
    this.#actor = actor;
  }

  /** To be told when a turn begins. */
  turnBegins(): void {
    this.#turn = 'under_way';
    if (this.#unanswered !== undefined) this.#count();
  }

  /** To be told after each turn, when its messages are sent. */
  follow(state: ChannelState): void {
    this.#turn = 'done';
    const number = unansweredCommitment(state);
    const { generation } = this.#actor;
    const before = this.#unanswered;
    this.#unanswered = number === undefined ? undefined : { number, generation };
    if (this.#unanswered === undefined) return;
    const isNew = before?.number !== number || before?.generation !== generation;
    if (isNew) this.#waitedMs = 0;
    if (isNew || this.#nowMs() - this.#countedMs > LONG_TURN_MS) this.#countedMs = this.#nowMs();
    else this.#count();
    this.#timer ??= this.#start();
  }

  stop(): void {
    this.#timer?.abort();
    this.#timer = undefined;
  }

  #nowMs(): number {
    return this.#host.ports.runtime.monotonicMs();
  }

  #count(): void {
    this.#waitedMs += this.#nowMs() - this.#countedMs;
    this.#countedMs = this.#nowMs();
  }

  /** One timer, however many are answered meanwhile: when it fires it is seen how long the present one has waited. */
  #start(): AbortController {
    const timer = new AbortController();
    void this.#host.ports.runtime
      .sleep(Math.max(REVOCATION_PATIENCE_MS - this.#waitedMs, 0), timer.signal)
      .then(
        () => this.#look(),
        () => undefined,
      );
    return timer;
  }

  #look(): void {
    this.#timer = undefined;
    // The end of the turn that is under way starts it again, if anything is owed by then.
    if (this.#turn === 'under_way' || this.#unanswered === undefined || this.#actor.stopped) return;
    this.#count();
    if (this.#waitedMs >= REVOCATION_PATIENCE_MS) {
      this.#disconnect();
      this.#waitedMs = 0;
    }
    this.#timer = this.#start();
  }

  #disconnect(): void {
    const { channelId, generation } = this.#actor;
    const reason = `no revoke_and_ack within ${REVOCATION_PATIENCE_MS / 1000} seconds`;
    this.#host.ports.logger.info({ channel: channelId, reason }, 'a peer does not answer: disconnecting');
    if (generation !== undefined) this.#host.send(this.#actor, warningMessage(channelId, reason), generation);
    this.#host.disconnect(this.#actor, reason);
  }
}

/** Number of a commitment that was signed for the counterparty, and heard of by it, while the one before is not revoked. */
function unansweredCommitment(state: ChannelState): bigint | undefined {
  if (state.type !== 'established' || state.connection.type !== 'connected' || isClosing(state))
    return undefined;
  const { durability } = state.monitor;
  const isHeld = durability.type === 'in_progress' && durability.owed.commitmentSigned !== 'none';
  return isAwaitingRevocation(state.changes) && !isHeld
    ? state.changes.counterpartyCommitmentNumber
    : undefined;
}
