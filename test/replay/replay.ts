/**
 * Replays one channel of a recorded conversation through the channel's core and the signer's rules: the peer's bytes
 * go in as they came, and every byte that the fleet sent must come out again. What the fleet chose freely (which HTLC
 * to offer when, its onion, when to commit, the alias, the funding transaction, a feerate) is a command whose content is
 * read from the recorded message; keys, points, signatures, secrets, ids, amounts, fees, order, and everything that
 * answers the peer or is said again after a reconnection, is computed.
 *
 * A gateway sees messages before channel-manager does, so a recorded `in` may have been handled only after later
 * `out`s. Inbound messages therefore wait until an expected outbound message needs them.
 */
import {
  acceptChannel,
  applyReaction,
  type ChannelContext,
  type ChannelInput,
  type ChannelState,
  channelStep,
  defaultChannelConfig,
  type NegotiatedFeatures,
  type OutboundMessage,
  type PeerMessage,
  type StepResult,
} from '@fulmen/channel';
import { NETWORKS } from '@fulmen/bitcoin';
import { negotiatedFeatures } from '@fulmen/channel-manager/peers/peer';
import { equalBytes, toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeMessage } from '@fulmen/wire';
import { Commands } from './commands.ts';
import { type Conversation, nameOf } from './conversation.ts';
import { isEstablished, NEW_CHANNEL, ReplaySigner, type SignerMemory } from './signer.ts';

/** channel-manager's defaults for regtest. */
const CONFIG = {
  ...defaultChannelConfig(NETWORKS.regtest.chainHash),
  minimumDepth: 6,
  maxAcceptedHtlcs: 483,
};

/** What was computed is not what was recorded. */
export class ReplayMismatch extends Error {
  override readonly name = 'ReplayMismatch';
}

export interface Replayed {
  /** Messages of the fleet that were computed, byte for byte, by name. */
  readonly computed: readonly string[];
  /** Messages of the peer that the core took. */
  readonly taken: number;
}

/** Everything that a step changes. */
interface Position {
  readonly state: ChannelState | undefined;
  readonly memory: SignerMemory;
  /** Computed and not yet seen in the recording. */
  readonly pending: readonly Uint8Array[];
}

/** @throws ReplayMismatch; InternalError when the signer refuses. */
export async function replay(conversation: Conversation, channelId: string): Promise<Replayed> {
  const keysId = conversation.channelKeys.get(channelId);
  if (keysId === undefined) throw new ReplayMismatch(`no keys of channel ${channelId} are recorded`);
  return new Replay(conversation, channelId, keysId).run();
}

class Replay {
  readonly #conversation: Conversation;
  readonly #signer: ReplaySigner;
  readonly #channelId: string;
  readonly #temporaryChannelId: string | undefined;
  readonly #context: ChannelContext;
  readonly #commands: Commands;
  readonly #computed: string[] = [];
  #taken = 0;
  #position: Position = { state: undefined, memory: NEW_CHANNEL, pending: [] };
  #inbound: PeerMessage[] = [];
  #connections = 0;
  #features: NegotiatedFeatures | undefined;

  constructor(conversation: Conversation, channelId: string, keysId: Uint8Array) {
    this.#conversation = conversation;
    this.#channelId = channelId;
    this.#signer = new ReplaySigner(conversation.mnemonic, keysId);
    this.#context = {
      secp: secp256k1,
      config: CONFIG,
      feerates: conversation.feerates,
      holderPoint: this.#signer.point,
    };
    this.#commands = new Commands(conversation, channelId, this.#signer, this.#context);
    this.#temporaryChannelId = this.#commands
      .messages('funding_created')
      .filter((created) => toHex(idOf(created.fundingTxid, created.fundingOutputIndex)) === channelId)
      .map((created) => toHex(created.temporaryChannelId))[0];
  }

  async run(): Promise<Replayed> {
    for (const [index, line] of this.#conversation.lines.entries()) {
      try {
        if (line.direction === 'end') await this.#disconnected();
        else await this.#line(line.direction, line.message);
      } catch (error) {
        const what = line.direction === 'end' ? line.cause : nameOf(line.message);
        const why = error instanceof Error ? error.message : String(error);
        throw new ReplayMismatch(`message ${index + 1}, ${line.direction} ${what}: ${why}`);
      }
    }
    await this.#takeAll();
    const [unsaid] = this.#position.pending;
    if (unsaid !== undefined) throw new ReplayMismatch(`${nameOf(unsaid)} was computed and never said`);
    return { computed: this.#computed, taken: this.#taken };
  }

  async #line(direction: 'in' | 'out', bytes: Uint8Array): Promise<void> {
    const decoded = decodeMessage(bytes);
    if (!decoded.ok) throw decoded.error;
    const message = decoded.value;
    if (message.type === 'init') {
      if (direction === 'in') await this.#connected(negotiatedFeatures(message.features));
      return;
    }
    if (!isPeerMessage(message) || !this.#isOurs(message)) return;
    if (direction === 'in') this.#inbound.push(message);
    else await this.#expect(message, bytes);
  }

  /** Of this channel, or of its opening. */
  #isOurs(message: PeerMessage): boolean {
    if ('temporaryChannelId' in message)
      return toHex(message.temporaryChannelId) === this.#temporaryChannelId;
    return toHex(message.channelId) === this.#channelId;
  }

  /** The next outbound message, computed from what is known, or from the least more of what the peer said. */
  async #expect(message: PeerMessage, bytes: Uint8Array): Promise<void> {
    for (;;) {
      const [next, ...rest] = this.#position.pending;
      if (next !== undefined && equalBytes(next, bytes)) {
        this.#position = { ...this.#position, pending: rest };
        break;
      }
      const commanded = next === undefined ? await this.#command(message, bytes) : undefined;
      if (commanded !== undefined) {
        this.#position = commanded;
        break;
      }
      if (!(await this.#takeOne()))
        throw new ReplayMismatch(
          next === undefined
            ? 'nothing makes the fleet say this'
            : `${nameOf(next)} ${toHex(next)} was computed`,
        );
    }
    this.#computed.push(message.type);
  }

  /** A message that the fleet says of its own accord: the position after it, if its bytes are the recorded ones. */
  async #command(message: PeerMessage, bytes: Uint8Array): Promise<Position | undefined> {
    const step = this.#commandStep(message);
    if (step === undefined || !step.ok) return undefined;
    const after = await this.#after(step.value);
    const [first, ...rest] = after.pending;
    return first !== undefined && equalBytes(first, bytes) ? { ...after, pending: rest } : undefined;
  }

  #commandStep(message: PeerMessage): StepResult | undefined {
    if (message.type === 'open_channel') return this.#commands.open(this.#features, message);
    const { state } = this.#position;
    const input = state === undefined ? undefined : this.#commands.input(state, message);
    return state === undefined || input === undefined ? undefined : channelStep(this.#context, state, input);
  }

  /** The core takes the next message of the peer; false when none waits. */
  async #takeOne(): Promise<boolean> {
    const message = this.#inbound.shift();
    if (message === undefined) return false;
    this.#taken += 1;
    if (message.type === 'open_channel') {
      if (this.#features === undefined) throw new ReplayMismatch('open_channel before init');
      const accepted = acceptChannel(
        this.#context,
        {
          counterpartyNodeId: this.#conversation.counterpartyNodeId,
          keys: this.#signer.holderKeys,
          features: this.#features,
          shutdownScript: this.#signer.shutdownScript,
          ...this.#commands.alias(),
          // Whom the operator trusts, the answer tells.
          zeroConf:
            this.#commands.messages('accept_channel', 'out')[0]?.minimumDepth === 0 ? 'trusted' : 'refused',
        },
        message,
      );
      await this.#apply(accepted, message.type);
    } else await this.#must({ type: 'message', message });
    return true;
  }

  async #takeAll(): Promise<void> {
    while (await this.#takeOne());
  }

  /** The gateway speaks first: with the peer's init a connection stands. An older one may end only afterwards. */
  async #connected(features: NegotiatedFeatures): Promise<void> {
    if (this.#connections > 0) await this.#lost();
    this.#connections += 1;
    this.#features = features;
    if (isEstablished(this.#position.state)) await this.#must({ type: 'peer_connected', features });
  }

  async #disconnected(): Promise<void> {
    this.#connections -= 1;
    if (this.#connections === 0) await this.#lost();
  }

  async #lost(): Promise<void> {
    await this.#takeAll();
    this.#features = undefined;
    if (this.#position.state !== undefined) await this.#must({ type: 'peer_disconnected' });
    this.#position = { ...this.#position, pending: [] };
  }

  async #must(input: ChannelInput): Promise<void> {
    const { state } = this.#position;
    if (state === undefined) throw new ReplayMismatch('no channel yet');
    await this.#apply(
      channelStep(this.#context, state, input),
      input.type === 'message' ? input.message.type : input.type,
    );
  }

  async #apply(step: StepResult, what: string): Promise<void> {
    const { state } = this.#position;
    // What the core refuses is answered as it says, like in channel-manager; here it must be in the recording, too.
    const taken =
      step.ok || state === undefined
        ? step
        : ({ ok: true, value: applyReaction(state, step.error) } as const);
    if (!taken.ok) throw new ReplayMismatch(`${what} is refused: ${taken.error.message}`);
    this.#position = await this.#after(taken.value);
  }

  async #after(step: Extract<StepResult, { ok: true }>['value']): Promise<Position> {
    const sends: OutboundMessage[] = step.effects.flatMap((effect) =>
      effect.type === 'send' ? [effect.message] : [],
    );
    const { memory, messages } = await this.#signer.messages(this.#position.memory, step.state, sends);
    return { state: step.state, memory, pending: [...this.#position.pending, ...messages] };
  }
}

const PEER_MESSAGES: ReadonlySet<string> = new Set<PeerMessage['type']>([
  'open_channel',
  'accept_channel',
  'funding_created',
  'funding_signed',
  'channel_ready',
  'update_add_htlc',
  'update_fulfill_htlc',
  'update_fail_htlc',
  'update_fail_malformed_htlc',
  'update_fee',
  'commitment_signed',
  'revoke_and_ack',
  'channel_reestablish',
  'shutdown',
  'closing_signed',
  'announcement_signatures',
  'stfu',
  'error',
  'warning',
]);

function isPeerMessage(message: { readonly type: string }): message is PeerMessage {
  return PEER_MESSAGES.has(message.type);
}

/** BOLT 2: the funding txid with its output index in the last two bytes, by exclusive or. */
function idOf(fundingTxid: Uint8Array, outputIndex: number): Uint8Array {
  const id = Uint8Array.from(fundingTxid);
  id[30] = (id[30] ?? 0) ^ (outputIndex >> 8);
  id[31] = (id[31] ?? 0) ^ (outputIndex & 0xff);
  return id;
}
