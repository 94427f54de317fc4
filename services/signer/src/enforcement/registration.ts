/** Registering a channel: parameters are checked once and never change. */
import { fundingWitnessScript } from '@fulmen/channel/commitment/scripts/funding';
import { MAX_ACCEPTED_HTLCS_LIMIT } from '@fulmen/channel/config';
import type { PartyParameters } from '@fulmen/channel/parameters';
import { compareBytes, concatBytes, equalBytes, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { EMPTY_SECRET_STORE, holderBasepoints } from '@fulmen/keys';
import { encodeRegistration } from './codec.ts';
import type { EnforcementContext } from './commitments.ts';
import { refuse } from './refuse.ts';
import type { ChannelRegistration, PolicyLimits, Refusal, SignerChannelState } from './types.ts';

export interface RegistrationContext extends EnforcementContext {
  readonly nodeId: Uint8Array;
  /** The wallet's script for this channel. */
  readonly walletScript: Uint8Array;
}

/**
 * Checks and registers; an identical retry gives the state as it is by now.
 * restored: the node comes back from a static backup and does not know the
 * channel's last state. Whatever it signed could be revoked already, and whatever
 * it released could still be needed: the channel is frozen, and only claimed from.
 */
export function registerChannel(
  ctx: RegistrationContext,
  existing: SignerChannelState | undefined,
  registration: ChannelRegistration,
  origin: 'new' | 'restored' = 'new',
): Result<SignerChannelState, Refusal> {
  if (existing !== undefined) {
    if (!equalBytes(encodeRegistration(existing.registration), encodeRegistration(registration)))
      return refuse('policy-channel-immutable', 'the channel is registered with other parameters');
    return ok(origin === 'new' ? existing : frozen(existing));
  }
  const checked = checkRegistration(ctx, registration);
  if (!checked.ok) return checked;
  return ok({
    registration,
    nextHolderCommitment: 0n,
    nextHolderRevocation: 0n,
    nextCounterpartyCommitment: 0n,
    holderCommitments: [],
    counterpartyCommitments: [],
    secrets: EMPTY_SECRET_STORE,
    lock: origin === 'new' ? { type: 'none' } : { type: 'frozen' },
  });
}

/** A commitment that was signed for broadcast stays signed: the lock that says which one is as tight. */
function frozen(state: SignerChannelState): SignerChannelState {
  return state.lock.type === 'frozen' || state.lock.type === 'closing'
    ? state
    : { ...state, lock: { type: 'frozen' } };
}

function checkRegistration(
  ctx: RegistrationContext,
  registration: ChannelRegistration,
): Result<void, Refusal> {
  const { holder, counterparty, funding } = registration;
  const own = holderBasepoints(ctx.secp, ctx.secrets);
  const ownKeys: (keyof typeof own)[] = [
    'fundingPubkey',
    'revocationBasepoint',
    'paymentBasepoint',
    'delayedPaymentBasepoint',
    'htlcBasepoint',
  ];
  for (const key of ownKeys) {
    if (!equalBytes(own[key], holder[key]))
      return refuse('policy-channel-keys', `holder.${key} is not derived from this key id`);
    if (!ctx.secp.isPublicKey(counterparty[key]))
      return refuse('policy-channel-keys', `counterparty.${key} is not on the curve`);
    if (equalBytes(own[key], counterparty[key]))
      return refuse('policy-channel-keys', `counterparty.${key} is the holder’s`);
  }
  if (
    !equalBytes(funding.holderFundingPubkey, own.fundingPubkey) ||
    !equalBytes(funding.counterpartyFundingPubkey, counterparty.fundingPubkey)
  ) {
    return refuse('policy-channel-keys', 'the funding is of other keys');
  }
  if (
    !ctx.secp.isPublicKey(registration.counterpartyNodeId) ||
    equalBytes(registration.counterpartyNodeId, ctx.nodeId)
  ) {
    return refuse('policy-channel-counterparty', 'no node id of a counterparty');
  }
  const named = [channelIdOfFunding(registration), channelIdOfBasepoints(registration)].some((id) =>
    equalBytes(id, registration.channelId),
  );
  if (!named) return refuse('policy-channel-id', 'the channel id does not belong to this funding');
  if (funding.fundingValueSat === 0n || funding.fundingValueSat > ctx.limits.maximumChannelSat)
    return refuse('policy-channel-value', `channel of ${funding.fundingValueSat} sat`);
  const upfront = holder.upfrontShutdownScript;
  if (upfront !== undefined && !isAllowedScript(ctx.limits, ctx.walletScript, upfront)) {
    return refuse(
      'policy-channel-shutdown-script',
      'the holder’s upfront script is not the wallet’s and not allowed',
    );
  }
  if (holder.toSelfDelayBlocks < ctx.limits.minimumCounterpartyDelayBlocks)
    return refuse(
      'policy-channel-delay-range',
      `the counterparty would wait only ${holder.toSelfDelayBlocks} blocks`,
    );
  if (counterparty.toSelfDelayBlocks > ctx.limits.maximumHolderDelayBlocks)
    return refuse(
      'policy-channel-delay-range',
      `the holder would wait ${counterparty.toSelfDelayBlocks} blocks`,
    );
  for (const party of [holder, counterparty]) {
    const checked = checkParty(party, funding.fundingValueSat, ctx.limits);
    if (!checked.ok) return checked;
  }
  // Building it once proves that both keys make a script.
  fundingWitnessScript(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  return ok(undefined);
}

function checkParty(
  party: PartyParameters,
  fundingValueSat: bigint,
  limits: PolicyLimits,
): Result<void, Refusal> {
  if (party.dustLimitSat < limits.minimumDustLimitSat || party.dustLimitSat > limits.maximumDustLimitSat)
    return refuse('policy-channel-dust-limit', `dust limit of ${party.dustLimitSat} sat`);
  if (party.channelReserveSat > fundingValueSat)
    return refuse('policy-channel-value', `reserve of ${party.channelReserveSat} sat`);
  if (party.maxAcceptedHtlcs > MAX_ACCEPTED_HTLCS_LIMIT)
    return refuse('policy-commitment-htlc-count', `${party.maxAcceptedHtlcs} accepted HTLCs`);
  return ok(undefined);
}

/** BOLT 2: "exclusive-OR of the funding_txid and the funding_output_index (i.e. funding_output_index alters the last 2 bytes)". */
function channelIdOfFunding({ funding }: ChannelRegistration): Uint8Array {
  const id = Uint8Array.from(funding.fundingTxid);
  id[30] = (id[30] ?? 0) ^ ((funding.fundingOutputIndex >> 8) & 0xff);
  id[31] = (id[31] ?? 0) ^ (funding.fundingOutputIndex & 0xff);
  return id;
}

/** BOLT 2, channels of version 2: "SHA256(lesser-revocation-basepoint || greater-revocation-basepoint)". */
function channelIdOfBasepoints({ holder, counterparty }: ChannelRegistration): Uint8Array {
  const [lesser, greater] = [holder.revocationBasepoint, counterparty.revocationBasepoint].toSorted(
    compareBytes,
  );
  return sha256(concatBytes(lesser ?? new Uint8Array(0), greater ?? new Uint8Array(0)));
}

/** Whether a channel may promise to pay the holder there when it closes. */
export function isAllowedScript(
  { allowedScripts }: Pick<PolicyLimits, 'allowedScripts'>,
  walletScript: Uint8Array,
  script: Uint8Array,
): boolean {
  return [walletScript, ...allowedScripts].some((allowed) => equalBytes(allowed, script));
}
