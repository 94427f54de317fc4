/**
 * The fleet's signer while a channel lives off-chain: the real policy, called
 * synchronously so that the channel core's shell for tests can use it, and a
 * record of every request. The record is played to the real service
 * afterwards, which then knows the channel as it would after serving it.
 */
import { channelIdOf } from '@fulmen/channel';
import type { ClosingSpec, CommitmentSpec, HolderKeys, SignerProgress, SignerWork } from '@fulmen/channel';
import type { CommitmentSignatures } from '@fulmen/channel/commitment/types';
import { TestSigner } from '@fulmen/channel/testing/signer';
import type { Registration } from '@fulmen/channel/testing/signer';
import { NETWORKS, p2wpkhScript } from '@fulmen/bitcoin';
import { InternalError } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  channelSecrets,
  commitmentPoint,
  holderBasepoints,
  keyTree,
  neuter,
  walletPublicKey,
} from '@fulmen/keys';
import type { HolderBasepointSecrets, KeyTree } from '@fulmen/keys';
import { DEFAULT_LIMITS } from '@fulmen/signer/enforcement/limits';
import { registerChannel } from '@fulmen/signer/enforcement/registration';
import { signItem } from '@fulmen/signer/enforcement/sign-item';
import type {
  ChannelRegistration,
  SignItemAnswer,
  SignItemRequest,
  SignerChannelState,
} from '@fulmen/signer/enforcement/types';

/** The shard that every channel of these tests is on. */
export const SHARD = 7;

const NOTHING: SignItemRequest = {
  revocations: [],
  holderCommitment: undefined,
  releaseSecretNumber: undefined,
  counterpartyCommitment: undefined,
  ecdhs: [],
};

/** The fleet's keys: one seed for all of it. */
export function fleetKeys(secp: Secp256k1): KeyTree {
  return keyTree(secp, new Uint8Array(64).fill(0x5e), NETWORKS.regtest);
}

/** Change addresses over which the signer spreads the scripts of closes. */
const SHUTDOWN_ADDRESSES = 20;

export class PolicySigner extends TestSigner {
  readonly #tree: KeyTree;
  readonly #channelKeysId: Uint8Array;
  readonly #secrets: HolderBasepointSecrets;
  #state: SignerChannelState | undefined;
  #registration: ChannelRegistration | undefined;
  /** In order. */
  readonly requests: SignItemRequest[] = [];

  constructor(secp: Secp256k1, tree: KeyTree, channelKeysId: Uint8Array) {
    super(secp, 'fleet');
    this.#tree = tree;
    this.#channelKeysId = channelKeysId;
    this.#secrets = channelSecrets(secp, tree, channelKeysId);
  }

  /** The wallet's script for this channel. */
  get walletScript(): Uint8Array {
    const index = (this.#channelKeysId.at(-1) ?? 0) % SHUTDOWN_ADDRESSES;
    const account = neuter(this.secp, this.#tree.segwitAccount);
    return p2wpkhScript(walletPublicKey(this.secp, account, 'change', index));
  }

  get registration(): ChannelRegistration {
    if (this.#registration === undefined) throw new InternalError('the channel was never registered');
    return this.#registration;
  }

  override get progress(): SignerProgress {
    if (this.#state === undefined) return { holderCommitmentNumber: -1n, counterpartyRevocations: 0n };
    return {
      holderCommitmentNumber: this.#state.nextHolderCommitment - 1n,
      counterpartyRevocations: this.#state.secrets.count,
    };
  }

  override keys(): HolderKeys {
    return { channelKeysId: this.#channelKeysId, ...holderBasepoints(this.secp, this.#secrets) };
  }

  override point(number: bigint): Uint8Array {
    return commitmentPoint(this.secp, this.#secrets.perCommitmentSeed, number);
  }

  override work(registration: Registration, work: SignerWork): void {
    this.#do(registration, {
      ...NOTHING,
      revocations: work.counterpartyRevocations,
      holderCommitment: work.holderCommitment,
    });
  }

  override release(revokedNumber: bigint): {
    readonly perCommitmentSecret: Uint8Array;
    readonly nextPerCommitmentPoint: Uint8Array;
  } {
    const { releasedSecret } = this.#execute({ ...NOTHING, releaseSecretNumber: revokedNumber });
    if (releasedSecret === undefined) throw new InternalError('no secret was released');
    return {
      perCommitmentSecret: releasedSecret,
      nextPerCommitmentPoint: this.point(revokedNumber + 2n),
    };
  }

  override signCounterparty(
    registration: Registration,
    spec: CommitmentSpec,
    perCommitmentPoint: Uint8Array,
  ): CommitmentSignatures {
    const answer = this.#do(registration, {
      ...NOTHING,
      counterpartyCommitment: { spec, perCommitmentPoint },
    });
    const [signatures] = answer?.signatures ?? [];
    if (signatures === undefined) throw new InternalError('no signature');
    return signatures;
  }

  override signHolder(): Uint8Array {
    throw new InternalError('only the service signs the fleet’s own commitment');
  }

  override signClosing(_registration: Registration, _closing: ClosingSpec): Uint8Array {
    throw new InternalError('these channels do not close by agreement');
  }

  #do(registration: Registration, request: SignItemRequest): SignItemAnswer | undefined {
    this.#register(registration);
    const isEmpty =
      request.revocations.length === 0 &&
      request.holderCommitment === undefined &&
      request.counterpartyCommitment === undefined;
    return isEmpty ? undefined : this.#execute(request);
  }

  #register({ parameters, funding }: Registration): void {
    if (this.#state !== undefined) return;
    const { fundingTxid, fundingOutputIndex, fundingValueSat } = funding;
    this.#registration = {
      channelKeysId: this.#channelKeysId,
      channelId: channelIdOf(fundingTxid, fundingOutputIndex),
      counterpartyNodeId: parameters.counterpartyNodeId,
      funder: parameters.funder,
      commitmentFormat: parameters.commitmentFormat,
      holder: parameters.holder,
      counterparty: parameters.counterparty,
      funding: {
        fundingTxid,
        fundingOutputIndex,
        fundingValueSat,
        holderFundingPubkey: funding.holderFundingPubkey,
        counterpartyFundingPubkey: funding.counterpartyFundingPubkey,
      },
      shard: SHARD,
      channelType: parameters.channelType,
      announce: parameters.announce,
    };
    const registered = registerChannel(this.#context(), undefined, this.#registration);
    if (!registered.ok)
      throw new InternalError(`registration: ${registered.error.policy}: ${registered.error.reason}`);
    this.#state = registered.value;
  }

  #execute(request: SignItemRequest): SignItemAnswer {
    if (this.#state === undefined) throw new InternalError('the channel is not registered');
    const result = signItem(this.#context(), this.#state, request);
    if (!result.ok) throw new InternalError(`${result.error.policy}: ${result.error.reason}`);
    this.#state = result.value.state;
    this.requests.push(request);
    return result.value.answer;
  }

  #context() {
    return {
      secp: this.secp,
      limits: DEFAULT_LIMITS,
      nodeSecret: this.#tree.nodeSecret,
      nodeId: this.#tree.nodeId,
      walletScript: this.walletScript,
      secrets: this.#secrets,
    };
  }
}
