/** The enforcement core alone, as a signer of one channel for each side. */
import type { Secp256k1 } from '@fulmen/crypto';
import { channelSecrets } from '@fulmen/keys';
import type { CommitmentFormatName } from '@fulmen/channel/parameters';
import { DEFAULT_LIMITS } from '../enforcement/limits.ts';
import { registerChannel } from '../enforcement/registration.ts';
import { signItem } from '../enforcement/sign-item.ts';
import type { SignItemContext } from '../enforcement/sign-item.ts';
import type { PolicyTag, SignItemAnswer, SignItemRequest, SignerChannelState } from '../enforcement/types.ts';
import { type Side, type TestParty, registrationOf } from './channel.ts';

/** A refusal, thrown so that an honest run fails loudly. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly policy: PolicyTag;
  constructor(policy: PolicyTag, reason: string) {
    super(`${policy}: ${reason}`);
    this.policy = policy;
  }
}

export class PureSigner {
  readonly states: Record<Side, SignerChannelState>;
  readonly contexts: Record<
    Side,
    SignItemContext & { readonly nodeId: Uint8Array; readonly walletScript: Uint8Array }
  >;

  constructor(secp: Secp256k1, parties: Record<Side, TestParty>, format: CommitmentFormatName = 'anchors') {
    const context = (side: Side) => {
      const { keys, channelKeysId, walletScript } = parties[side];
      return {
        secp,
        limits: DEFAULT_LIMITS,
        nodeSecret: keys.nodeSecret,
        nodeId: keys.nodeId,
        walletScript,
        secrets: channelSecrets(secp, keys, channelKeysId),
      };
    };
    this.contexts = { alice: context('alice'), bob: context('bob') };
    const register = (side: Side): SignerChannelState => {
      const registered = registerChannel(
        this.contexts[side],
        undefined,
        registrationOf(secp, parties, side, format),
      );
      if (!registered.ok) throw new RefusedError(registered.error.policy, registered.error.reason);
      return registered.value;
    };
    this.states = { alice: register('alice'), bob: register('bob') };
  }

  /** Moves the side's state. */
  execute(side: Side, request: SignItemRequest): SignItemAnswer {
    const result = signItem(this.contexts[side], this.states[side], request);
    if (!result.ok) throw new RefusedError(result.error.policy, result.error.reason);
    this.states[side] = result.value.state;
    return result.value.answer;
  }

  /** Why the request would be refused now; undefined when it would not be. */
  refusal(side: Side, request: SignItemRequest): PolicyTag | undefined {
    const result = signItem(this.contexts[side], this.states[side], request);
    return result.ok ? undefined : result.error.policy;
  }
}
