/** BOLT 2 "Committing Updates So Far" and "Completing the Transition to the Updated State". */
import { equalBytes } from '@fulmen/codec';
import { insertSecret } from '@fulmen/keys';
import type { HolderCommitmentSignatures, MonitorHtlc } from '@fulmen/monitor';
import type { MessageOf } from '@fulmen/wire';
import { buildCommitment } from './commitment/build.ts';
import { paysForRelay } from './commitment/fees.ts';
import { verifyCommitmentSignatures } from './commitment/sign.ts';
import type { ChannelContext } from './context.ts';
import type { ChannelEffect } from './effect.ts';
import { fault } from './errors.ts';
import type { EstablishedChannel, Funding, Htlc } from './state.ts';
import type { StepResult } from './step.ts';
import { stepOf, withMonitorUpdate } from './step.ts';
import { dustExposureMsat, isTrimmedOn, maximumDustExposureMsat, OWNERS } from './updates/limits.ts';
import { canSendUpdates, requireReceivable } from './updates/ready.ts';
import {
  contentOf,
  counterpartySpec,
  currentSpec,
  hasPendingChanges,
  holderSpec,
  isAwaitingRevocation,
} from './updates/spec.ts';
import { isFulfilled, move } from './updates/transitions.ts';

/**
 * Signs what is pending for the counterparty. Nothing happens when nothing is
 * pending, while a secret is owed by the counterparty (HTLCs arriving
 * meanwhile batch into the next commitment), offline, or frozen.
 */
export function commit(state: EstablishedChannel): StepResult<EstablishedChannel> {
  if (!canCommit(state)) return stepOf(state);
  const { current, next } = state.changes.counterpartyPoints;
  if (next === undefined) return stepOf(state);
  const moved = move(state, 'holder_signs');
  const signed: EstablishedChannel = {
    ...state,
    fundings: moved.fundings,
    changes: {
      ...moved.changes,
      counterpartyCommitmentNumber: state.changes.counterpartyCommitmentNumber + 1n,
      counterpartyPoints: { previous: current, current: next },
      lastSent: 'commitment_signed',
    },
  };
  // The monitor knows each commitment before the signature leaves: two may be valid until the secret comes.
  const step = withMonitorUpdate(signed, {
    type: 'latest_counterparty_commitment',
    content: contentOf(counterpartySpec(signed)),
    newHtlcs: moved.touched.filter(isNewAdd).map(monitorHtlc),
    perCommitmentPoint: next,
  });
  return stepOf(step.state, ...step.effects, { type: 'send', message: commitmentMessage(step.state) });
}

/** Whether `commit` would send a commitment_signed. */
export function canCommit(state: EstablishedChannel): boolean {
  return (
    (state.phase.type === 'open' || state.phase.type === 'shutting_down') &&
    canSendUpdates(state) &&
    !isAwaitingRevocation(state.changes) &&
    state.changes.counterpartyPoints.next !== undefined &&
    hasPendingChanges(state, 'holder')
  );
}

/** The latest commitment_signed, to be signed (again). */
export function commitmentMessage(state: EstablishedChannel) {
  return {
    kind: 'commitment_signed',
    channelId: state.channelId,
    spec: counterpartySpec(state),
    counterpartyPerCommitmentPoint: state.changes.counterpartyPoints.current,
  } as const;
}

/** The latest revoke_and_ack. */
export function revocationMessage(state: EstablishedChannel) {
  return {
    kind: 'revoke_and_ack',
    channelId: state.channelId,
    revokedNumber: state.changes.holderCommitmentNumber - 1n,
  } as const;
}

/**
 * The counterparty signs the holder's next commitment; the holder keeps the
 * signatures and revokes the previous one in the same step.
 */
export function receiveCommitment(
  ctx: ChannelContext,
  state: EstablishedChannel,
  messages: readonly MessageOf<'commitment_signed'>[],
): StepResult<EstablishedChannel> {
  const receivable = requireReceivable(state, 'commitment_signed');
  if (!receivable.ok) return receivable;
  // BOLT 2: "MUST NOT send a commitment_signed message that does not include any updates."
  if (!hasPendingChanges(state, 'counterparty'))
    return fault('commitment_without_changes', 'warning_disconnect', 'commitment_signed without any update');
  const number = state.changes.holderCommitmentNumber + 1n;
  const perCommitmentPoint = ctx.holderPoint(number);
  if (perCommitmentPoint === undefined)
    return fault('holder_point_missing', 'ignore', `the point of commitment ${number} is needed`);

  const moved = move(state, 'counterparty_signs');
  const changes = { ...moved.changes, holderCommitmentNumber: number, lastSent: 'revoke_and_ack' } as const;
  const unsigned: EstablishedChannel = { ...state, fundings: moved.fundings, changes };
  const fundings: Funding[] = [];
  for (const funding of moved.fundings) {
    const message = messageFor(messages, funding);
    // BOLT 2: "If commitment_signed is missing for a funding transaction: MUST send an error and fail the channel."
    if (message === undefined)
      return fault(
        'missing_funding_txid',
        'fail_channel',
        'commitment_signed is missing for a funding transaction',
      );
    const { parameters } = state;
    const spec = currentSpec(unsigned, 'holder', funding);
    // Updates of both sides that crossed may ask for more than the funder has: "In this case, the fee will be less than the
    // fee rate" (BOLT 2). What is not even relayed is no commitment to go on with: the one before still is one.
    if (!paysForRelay({ parameters, owner: 'holder', spec }))
      return fault(
        'cannot_afford_commitment_fee',
        'fail_channel',
        'commitment_signed: the funder cannot pay a fee that is relayed',
      );
    const commitment = buildCommitment(ctx.secp, {
      parameters,
      funding,
      owner: 'holder',
      spec,
      perCommitmentPoint,
    });
    const verified = verifyCommitmentSignatures(ctx.secp, commitment, message);
    if (!verified.ok) {
      // BOLT 2: "if num_htlcs is not equal to the number of HTLC outputs in the local commitment transaction: MUST send a
      // warning and close the connection, or send an error and fail the channel"; the same for a signature that is "not
      // valid for its local commitment transaction OR non-compliant with LOW-S-standard rule". The two sides no longer
      // agree on the state, and a reconnection would not make them.
      return verified.error.type === 'wrong_htlc_signature_count'
        ? fault(
            'wrong_signature_count',
            'fail_channel',
            `commitment_signed: ${verified.error.actual} HTLC signatures, expected ${verified.error.expected}`,
          )
        : fault(
            'invalid_signature',
            'fail_channel',
            `commitment_signed: ${verified.error.type.replaceAll('_', ' ')}`,
          );
    }
    fundings.push({ ...funding, signature: message.signature, htlcSignatures: message.htlcSignatures });
  }
  const next: EstablishedChannel = { ...unsigned, fundings };
  const step = withMonitorUpdate(next, {
    type: 'latest_holder_commitment',
    content: contentOf(holderSpec(next)),
    newHtlcs: moved.touched.filter(isNewAdd).map(monitorHtlc),
    signatures: holderSignatures(next),
    perCommitmentPoint,
  });
  return stepOf(
    step.state,
    ...step.effects,
    { type: 'send', message: revocationMessage(step.state) },
    ...moved.gone.map(settled),
  );
}

/** In a batch each funding has its own message; alone, the TLV may be absent. */
function messageFor(
  messages: readonly MessageOf<'commitment_signed'>[],
  funding: Funding,
): MessageOf<'commitment_signed'> | undefined {
  const [only] = messages;
  if (messages.length === 1 && only !== undefined && only.tlvs.fundingTxid === undefined) return only;
  return messages.find(
    (message) =>
      message.tlvs.fundingTxid !== undefined && equalBytes(message.tlvs.fundingTxid, funding.fundingTxid),
  );
}

/** The counterparty revokes its previous commitment. */
export function receiveRevocation(
  ctx: ChannelContext,
  state: EstablishedChannel,
  message: MessageOf<'revoke_and_ack'>,
): StepResult<EstablishedChannel> {
  const receivable = requireReceivable(state, message.type);
  if (!receivable.ok) return receivable;
  const { changes } = state;
  const { previous, current } = changes.counterpartyPoints;
  if (!isAwaitingRevocation(changes) || previous === undefined) {
    return fault('unexpected_revocation', 'fail_channel', 'revoke_and_ack without a commitment_signed');
  }
  const revokedNumber = changes.counterpartySecrets.count;
  // BOLT 2: "if per_commitment_secret is not a valid secret key or does not generate the previous per_commitment_point:
  // MUST send an error and fail the channel."
  const secret = message.perCommitmentSecret;
  if (!ctx.secp.isSecretKey(secret) || !equalBytes(ctx.secp.publicKeyOf(secret), previous)) {
    return fault(
      'invalid_revocation_secret',
      'fail_channel',
      'revoke_and_ack: the secret does not belong to the previous point',
    );
  }
  // BOLT 2: "if the per_commitment_secret was not generated by the protocol in BOLT #3: MAY send a warning and close the
  // connection, or send an error and fail the channel."
  const inserted = insertSecret(changes.counterpartySecrets, revokedNumber, secret);
  if (!inserted.ok)
    return fault(
      'invalid_revocation_secret',
      'fail_channel',
      'revoke_and_ack: the secret is not from the same seed',
    );
  if (!ctx.secp.isPublicKey(message.nextPerCommitmentPoint))
    return fault('invalid_point', 'fail_channel', 'revoke_and_ack: the next point is no point');

  const moved = move(state, 'counterparty_revokes');
  const next: EstablishedChannel = {
    ...state,
    fundings: moved.fundings,
    changes: {
      ...moved.changes,
      counterpartySecrets: inserted.value,
      counterpartyPoints: { current, next: message.nextPerCommitmentPoint },
    },
  };
  const accepted = moved.touched.filter(
    (htlc) => htlc.body.direction === 'inbound' && htlc.state === 'add_signed',
  );
  const step = withMonitorUpdate(next, {
    type: 'commitment_secret',
    commitmentNumber: revokedNumber,
    secret,
  });
  return stepOf(
    step.state,
    ...step.effects,
    ...accepted.map((htlc) => acceptedEffect(ctx, step.state, htlc)),
    ...moved.gone.flatMap(removedEffects),
  );
}

/** BOLT 2: an HTLC over the dust cap is not refused: "SHOULD fail this HTLC once it's committed". */
function acceptedEffect(ctx: ChannelContext, state: EstablishedChannel, htlc: Htlc): ChannelEffect {
  const isExcessive = OWNERS.some((owner) =>
    state.fundings.some((funding) => {
      const spec = currentSpec(state, owner, funding);
      return (
        isTrimmedOn(state, owner, htlc.body, spec.feerateSatPerKw) &&
        dustExposureMsat(ctx, state, owner, spec) > maximumDustExposureMsat(ctx)
      );
    }),
  );
  return {
    type: 'htlc_accepted',
    htlc: htlc.body,
    ...(isExcessive ? { mustFail: 'dust_exposure' as const } : {}),
  };
}

/** An outbound HTLC is off both commitments. A fulfilled one surfaced when its preimage came. */
function removedEffects(htlc: Htlc): ChannelEffect[] {
  const failed: ChannelEffect[] =
    'removal' in htlc && htlc.removal.type !== 'fulfilled'
      ? [{ type: 'htlc_failed', htlc: htlc.body, removal: htlc.removal }]
      : [];
  return [...failed, settled(htlc)];
}

function settled(htlc: Htlc): ChannelEffect {
  return {
    type: 'htlc_settled',
    direction: htlc.body.direction,
    id: htlc.body.id,
    outcome: isFulfilled(htlc) ? 'fulfilled' : 'failed',
  };
}

function isNewAdd(htlc: Htlc): boolean {
  return htlc.state === 'add_pending';
}

function monitorHtlc({ body }: Htlc): MonitorHtlc {
  const { direction, id, amountMsat, paymentHash, cltvExpiryHeight } = body;
  return { direction, id, amountMsat, paymentHash, cltvExpiryHeight };
}

/** The counterparty's signatures on the holder's latest commitment, per funding. */
export function holderSignatures(state: EstablishedChannel): readonly HolderCommitmentSignatures[] {
  return state.fundings.map(({ fundingTxid, signature, htlcSignatures }) => ({
    fundingTxid,
    signature,
    htlcSignatures,
  }));
}
