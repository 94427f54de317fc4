/**
 * The signer of one channel, without a database or a wire: requests are made and answers read by channel-manager's own
 * code, decoded and judged by the signer's own rules. A state is a value, so that a replay may try a step and forget it.
 */
import type { ChannelState, EstablishedChannel, OutboundMessage, SignerProgress } from '@fulmen/channel';
import { signerProgress, signerWork } from '@fulmen/channel';
import { NETWORKS } from '@fulmen/bitcoin';
import { announcementSignatures } from '@fulmen/channel-manager/engine/own-gossip';
import { openingRegistrationOf, registrationOf } from '@fulmen/channel-manager/engine/registration';
import { HolderPoints, materialise, signItemOf } from '@fulmen/channel-manager/signing/sign-item';
import { InternalError, type Result } from '@fulmen/codec';
import { sha256d } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { channelSecrets, commitmentPoint, holderBasepoints, type KeyTree, keyTree } from '@fulmen/keys';
import type { RegisterChannelRequest, SignSuccess } from '@fulmen/proto/signer/v1/signer';
import { decodeRegistration, decodeSignItem } from '@fulmen/signer/decode';
import { signClosing } from '@fulmen/signer/enforcement/closing';
import { DEFAULT_LIMITS } from '@fulmen/signer/enforcement/limits';
import { registerChannel } from '@fulmen/signer/enforcement/registration';
import { signItem } from '@fulmen/signer/enforcement/sign-item';
import type { Refusal, SignerChannelState } from '@fulmen/signer/enforcement/types';
import { toSuccess } from '@fulmen/signer/rpc/sign-batch';
import { seedOf } from '@fulmen/signer/seed/seed-file';
import { shutdownScript } from '@fulmen/signer/signer';
import { encodeMessage } from '@fulmen/wire';

/** What the signer remembers, and what channel-manager remembers of it. */
export interface SignerMemory {
  readonly channel: SignerChannelState | undefined;
  readonly progress: SignerProgress;
}

export const NEW_CHANNEL: SignerMemory = {
  channel: undefined,
  progress: { holderCommitmentNumber: -1n, counterpartyRevocations: 0n },
};

const FENCE = { shard: 0, replicaId: 'replay', epoch: 1n };

/** The points come from the seed itself, so that none is ever missing. */
class AllPoints extends HolderPoints {
  readonly #point: (number: bigint) => Uint8Array;

  constructor(point: (number: bigint) => Uint8Array) {
    super();
    this.#point = point;
  }

  override get(number: bigint): Uint8Array {
    return this.#point(number);
  }
}

export class ReplaySigner {
  readonly keys: KeyTree;
  readonly channelKeysId: Uint8Array;
  readonly #secrets: ReturnType<typeof channelSecrets>;

  constructor(mnemonic: string, channelKeysId: Uint8Array) {
    this.keys = keyTree(secp256k1, seedOf(mnemonic), NETWORKS.regtest);
    this.channelKeysId = channelKeysId;
    this.#secrets = channelSecrets(secp256k1, this.keys, channelKeysId);
  }

  readonly point = (number: bigint): Uint8Array =>
    commitmentPoint(secp256k1, this.#secrets.perCommitmentSeed, number);

  get holderKeys() {
    return { channelKeysId: this.channelKeysId, ...holderBasepoints(secp256k1, this.#secrets) };
  }

  get shutdownScript(): Uint8Array {
    return shutdownScript({ secp: secp256k1, keys: this.keys }, this.channelKeysId);
  }

  /** The messages of a step as they go to the peer, each whole, in order. @throws InternalError when the signer refuses. */
  async messages(
    before: SignerMemory,
    state: ChannelState,
    sends: readonly OutboundMessage[],
  ): Promise<{ readonly memory: SignerMemory; readonly messages: readonly Uint8Array[] }> {
    let channel = this.#registered(before.channel, state, sends);
    let { progress } = before;
    const work =
      state.type === 'established' ? signerWork(state, progress) : ({ ok: true, value: NO_WORK } as const);
    if (!work.ok) throw new InternalError(work.error.reason);
    const item = signItemOf({
      channelKeysId: this.channelKeysId,
      fence: FENCE,
      work: work.value,
      messages: sends,
      ecdhKeys: [],
    });
    let signed: SignSuccess | undefined;
    if (item !== undefined) {
      if (channel === undefined) throw new InternalError('the channel is not registered');
      const done = accepted(signItem(this.#context, channel, decodeSignItem(item).request));
      channel = done.state;
      signed = toSuccess(done.answer);
      if (state.type === 'established') progress = signerProgress(state);
    }
    const messages: Uint8Array[] = [];
    for (const message of sends) {
      const ready = await materialise(message, signed, new AllPoints(this.point), {
        closing: ({ closing }) => {
          if (channel === undefined) throw new InternalError('the channel is not registered');
          const done = accepted(signClosing(this.#context, channel, closing, this.shutdownScript));
          channel = done.state;
          return Promise.resolve(done.signature);
        },
        announcement: ({ shortChannelId }) => this.#announcement(state, shortChannelId),
      });
      messages.push(encodeMessage(ready));
    }
    return { memory: { channel, progress }, messages };
  }

  get #context() {
    return {
      secp: secp256k1,
      limits: DEFAULT_LIMITS,
      nodeSecret: this.keys.nodeSecret,
      secrets: this.#secrets,
      nodeId: this.keys.nodeId,
      walletScript: this.shutdownScript,
    };
  }

  #registered(
    known: SignerChannelState | undefined,
    state: ChannelState,
    sends: readonly OutboundMessage[],
  ): SignerChannelState | undefined {
    if (known !== undefined) return known;
    const request: RegisterChannelRequest | undefined =
      state.type === 'established'
        ? registrationOf(state, FENCE)
        : openingRegistrationOf(state, sends, FENCE);
    if (request === undefined) return undefined;
    return accepted(registerChannel(this.#context, undefined, decodeRegistration(request).registration));
  }

  /** channel-manager builds the announcement; both keys sign what it would have sent to the signer. */
  async #announcement(
    state: ChannelState,
    shortChannelId: bigint,
  ): Promise<{ node: Uint8Array; bitcoin: Uint8Array }> {
    const signGossip = ({ message }: { readonly message?: { readonly value: Uint8Array } | undefined }) => {
      const hash = sha256d(message?.value ?? new Uint8Array(0));
      return Promise.resolve({
        nodeSignature: secp256k1.sign(hash, this.keys.nodeSecret),
        bitcoinSignature: secp256k1.sign(hash, this.#secrets.fundingSecret),
      });
    };
    type Parameters3 = Parameters<typeof announcementSignatures>;
    // It asks its ports for this one signature, and its actor for the state alone.
    const ports = { signer: { signGossip } } as unknown as Parameters3[0];
    const node = { nodeId: this.keys.nodeId, chainHash: NETWORKS.regtest.chainHash } as Parameters3[1];
    const actor = { state, stopped: false, channelKeysId: this.channelKeysId } as unknown as Parameters3[2];
    return announcementSignatures(ports, node, actor, shortChannelId);
  }
}

const NO_WORK = { counterpartyRevocations: [] } as const;

function accepted<T>(result: Result<T, Refusal>): T {
  if (result.ok) return result.value;
  throw new InternalError(`the signer refuses: ${result.error.policy}: ${result.error.reason}`);
}

/** Whether there is a channel to speak of after a connection's end. */
export function isEstablished(state: ChannelState | undefined): state is EstablishedChannel {
  return state?.type === 'established';
}
