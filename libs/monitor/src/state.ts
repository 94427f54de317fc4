/**
 * What a channel's updates build: everything that is needed to settle the
 * channel on-chain, to the last output, without the channel itself. Unrevoked
 * commitments of both sides are kept whole, revoked ones packed.
 *
 * A monitor is an immutable value. `applyUpdate` refuses an update that does
 * not fit what came before: a gap or a contradiction means that justice could
 * be incomplete, and the caller must stop and repair, not go on.
 */
import { assertNever, equalBytes, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { constantTimeEqual, sha256 } from '@fulmen/crypto';
import { EMPTY_SECRET_STORE, insertSecret } from '@fulmen/keys';
import type { SecretStore, SecretStoreError } from '@fulmen/keys';
import {
  EMPTY_HTLC_ARCHIVE,
  EMPTY_STATE_ARCHIVE,
  MAX_BALANCE_MSAT,
  appendHtlc,
  appendState,
} from './archive.ts';
import type { HtlcArchive, StateArchive } from './archive.ts';
import type {
  ChannelMonitorUpdate,
  ChannelMonitorUpdateStep,
  CommitmentContent,
  HolderCommitmentSignatures,
  HtlcRef,
  MonitorHtlc,
  MonitorParameters,
} from './update.ts';

/** A holder commitment that may be broadcast. */
export interface HolderCommitment {
  readonly content: CommitmentContent;
  readonly signatures: readonly HolderCommitmentSignatures[];
  /** Absent: the update came from a release that did not write it. */
  readonly perCommitmentPoint?: Uint8Array;
}

/** A counterparty commitment that may be broadcast. */
export interface CounterpartyCommitment {
  readonly content: CommitmentContent;
  readonly perCommitmentPoint: Uint8Array;
}

/** An HTLC of at least one unrevoked commitment. */
export interface LiveHtlc {
  readonly htlc: MonitorHtlc;
  /** The counterparty commitments that it was in so far; absent: none. */
  readonly counterpartyNumbers?: { readonly first: bigint; readonly last: bigint };
}

export interface ForceClose {
  readonly shouldBroadcast: 'broadcast' | 'passive';
  readonly reason: string;
}

export interface ChannelMonitor {
  readonly parameters: MonitorParameters;
  /** Of the last update applied; 0 at birth. */
  readonly updateId: bigint;
  /** The one to broadcast. */
  readonly holderCommitment: HolderCommitment | undefined;
  /** The one before: the holder may still have been about to revoke it when it was broadcast. Gone with the next. */
  readonly previousHolderCommitment: HolderCommitment | undefined;
  /** The counterparty's newest commitment that it has not revoked when there is no next one, else the older of two. */
  readonly counterpartyCommitment: CounterpartyCommitment | undefined;
  /** Signed by the holder while the one before is not revoked yet. */
  readonly nextCounterpartyCommitment: CounterpartyCommitment | undefined;
  /** By `htlcKey`. */
  readonly htlcs: ReadonlyMap<string, LiveHtlc>;
  /** Preimages of live HTLCs, by `htlcKey`. */
  readonly preimages: ReadonlyMap<string, Uint8Array>;
  /** The counterparty's secrets; their count is also the number of its oldest unrevoked commitment. */
  readonly secrets: SecretStore;
  readonly revokedHtlcs: HtlcArchive;
  readonly revokedStates: StateArchive;
  readonly shutdownScript: Uint8Array | undefined;
  readonly forceClose: ForceClose | undefined;
}

/** Why an update does not fit. */
export type MonitorError =
  | { readonly type: 'wrong_channel' }
  | { readonly type: 'update_gap'; readonly expectedUpdateId: bigint; readonly updateId: bigint }
  | {
      readonly type: 'commitment_number';
      readonly side: 'holder' | 'counterparty';
      readonly expected: bigint;
      readonly commitmentNumber: bigint;
    }
  /** A third unrevoked counterparty commitment. */
  | { readonly type: 'not_revoked' }
  | { readonly type: 'unknown_htlc'; readonly htlc: HtlcRef }
  /** The same HTLC twice in one commitment, with two bodies, or back after it was gone. */
  | { readonly type: 'htlc_conflict'; readonly htlc: HtlcRef }
  | { readonly type: 'balance_out_of_range' }
  | { readonly type: 'missing_signatures' }
  | { readonly type: 'secret_refused'; readonly reason: SecretStoreError['kind'] | 'nothing_to_revoke' }
  | { readonly type: 'wrong_preimage'; readonly htlc: HtlcRef }
  /** A commitment after channel_force_closed. */
  | { readonly type: 'force_closed' };

/** What became of an update. */
export interface AppliedUpdate {
  readonly monitor: ChannelMonitor;
  /** already_applied: an update of this or a later id was, and the monitor is unchanged. */
  readonly outcome: 'applied' | 'already_applied';
}

/** Key of an HTLC in a monitor's maps. */
export function htlcKey(ref: HtlcRef): string {
  return `${ref.direction === 'inbound' ? 'in' : 'out'}:${ref.id}`;
}

/** A monitor before any update. */
export function newMonitor(parameters: MonitorParameters): ChannelMonitor {
  return {
    parameters,
    updateId: 0n,
    holderCommitment: undefined,
    previousHolderCommitment: undefined,
    counterpartyCommitment: undefined,
    nextCounterpartyCommitment: undefined,
    htlcs: new Map(),
    preimages: new Map(),
    secrets: EMPTY_SECRET_STORE,
    revokedHtlcs: EMPTY_HTLC_ARCHIVE,
    revokedStates: EMPTY_STATE_ARCHIVE,
    shutdownScript: undefined,
    forceClose: undefined,
  };
}

/** Applies one update: its id must be the next; one already applied changes nothing. All steps apply, or none. */
export function applyUpdate(
  monitor: ChannelMonitor,
  update: ChannelMonitorUpdate,
): Result<AppliedUpdate, MonitorError> {
  if (!equalBytes(update.channelId, monitor.parameters.channelId)) return err({ type: 'wrong_channel' });
  if (update.updateId <= monitor.updateId) return ok({ monitor, outcome: 'already_applied' });
  const expectedUpdateId = monitor.updateId + 1n;
  if (update.updateId !== expectedUpdateId)
    return err({ type: 'update_gap', expectedUpdateId, updateId: update.updateId });
  let next = monitor;
  for (const step of update.steps) {
    const applied = applyStep(next, step);
    if (!applied.ok) return applied;
    next = applied.value;
  }
  return ok({ monitor: { ...next, updateId: update.updateId }, outcome: 'applied' });
}

function applyStep(
  monitor: ChannelMonitor,
  step: ChannelMonitorUpdateStep,
): Result<ChannelMonitor, MonitorError> {
  switch (step.type) {
    case 'latest_holder_commitment':
      return applyHolderCommitment(monitor, step);
    case 'latest_counterparty_commitment':
      return applyCounterpartyCommitment(monitor, step);
    case 'commitment_secret':
      return applySecret(monitor, step.commitmentNumber, step.secret);
    case 'payment_preimage':
      return applyPreimage(monitor, step.htlc, step.preimage);
    case 'channel_force_closed':
      // The first decision stands: whoever came first may have broadcast already.
      return ok(
        monitor.forceClose === undefined
          ? { ...monitor, forceClose: { shouldBroadcast: step.shouldBroadcast, reason: step.reason } }
          : monitor,
      );
    case 'shutdown_script':
      return ok({ ...monitor, shutdownScript: step.scriptPubKey });
    default:
      return assertNever(step);
  }
}

type StepOf<T extends ChannelMonitorUpdateStep['type']> = ChannelMonitorUpdateStep & { readonly type: T };

function applyHolderCommitment(
  monitor: ChannelMonitor,
  step: StepOf<'latest_holder_commitment'>,
): Result<ChannelMonitor, MonitorError> {
  const { content, signatures, perCommitmentPoint } = step;
  const expected =
    monitor.holderCommitment === undefined ? 0n : monitor.holderCommitment.content.commitmentNumber + 1n;
  const accepted = acceptContent(monitor, 'holder', { content, newHtlcs: step.newHtlcs, expected });
  if (!accepted.ok) return accepted;
  // Every funding that may confirm needs a commitment of its own to be broadcast.
  const everyFunding = monitor.parameters.fundings.every(({ fundingTxid }) =>
    signatures.some((of) => equalBytes(of.fundingTxid, fundingTxid)),
  );
  if (!everyFunding) return err({ type: 'missing_signatures' });
  return ok(
    retireHtlcs({
      ...monitor,
      htlcs: accepted.value,
      previousHolderCommitment: monitor.holderCommitment,
      holderCommitment: {
        content,
        signatures,
        ...(perCommitmentPoint === undefined ? {} : { perCommitmentPoint }),
      },
    }),
  );
}

function applyCounterpartyCommitment(
  monitor: ChannelMonitor,
  step: StepOf<'latest_counterparty_commitment'>,
): Result<ChannelMonitor, MonitorError> {
  const { content, perCommitmentPoint } = step;
  if (monitor.nextCounterpartyCommitment !== undefined) return err({ type: 'not_revoked' });
  const expected =
    monitor.counterpartyCommitment === undefined
      ? 0n
      : monitor.counterpartyCommitment.content.commitmentNumber + 1n;
  const accepted = acceptContent(monitor, 'counterparty', { content, newHtlcs: step.newHtlcs, expected });
  if (!accepted.ok) return accepted;
  const htlcs = new Map(accepted.value);
  for (const ref of content.htlcs) {
    const live = htlcs.get(htlcKey(ref));
    if (live === undefined) return err({ type: 'unknown_htlc', htlc: ref });
    const numbers = live.counterpartyNumbers;
    // An interval has no holes: an HTLC that left the counterparty's commitments never comes back.
    if (numbers !== undefined && numbers.last !== expected - 1n)
      return err({ type: 'htlc_conflict', htlc: ref });
    htlcs.set(htlcKey(ref), {
      htlc: live.htlc,
      counterpartyNumbers: { first: numbers?.first ?? expected, last: expected },
    });
  }
  const commitment: CounterpartyCommitment = { content, perCommitmentPoint };
  return ok(
    monitor.counterpartyCommitment === undefined
      ? { ...monitor, htlcs, counterpartyCommitment: commitment }
      : { ...monitor, htlcs, nextCounterpartyCommitment: commitment },
  );
}

/** Checks a new commitment against what is known, and adds the HTLCs that it brings. */
function acceptContent(
  monitor: ChannelMonitor,
  side: 'holder' | 'counterparty',
  commitment: {
    readonly content: CommitmentContent;
    readonly newHtlcs: readonly MonitorHtlc[];
    readonly expected: bigint;
  },
): Result<ReadonlyMap<string, LiveHtlc>, MonitorError> {
  const { content, newHtlcs, expected } = commitment;
  if (monitor.forceClose !== undefined) return err({ type: 'force_closed' });
  if (content.commitmentNumber !== expected)
    return err({ type: 'commitment_number', side, expected, commitmentNumber: content.commitmentNumber });
  for (const balanceMsat of [content.toHolderMsat, content.toCounterpartyMsat]) {
    if (balanceMsat < 0n || balanceMsat > MAX_BALANCE_MSAT) return err({ type: 'balance_out_of_range' });
  }
  const htlcs = new Map(monitor.htlcs);
  for (const htlc of newHtlcs) {
    const known = htlcs.get(htlcKey(htlc))?.htlc;
    if (known !== undefined && !sameHtlc(known, htlc)) return err({ type: 'htlc_conflict', htlc });
    if (known === undefined) htlcs.set(htlcKey(htlc), { htlc });
  }
  const seen = new Set<string>();
  for (const ref of content.htlcs) {
    const key = htlcKey(ref);
    if (!htlcs.has(key)) return err({ type: 'unknown_htlc', htlc: ref });
    if (seen.has(key)) return err({ type: 'htlc_conflict', htlc: ref });
    seen.add(key);
  }
  return ok(htlcs);
}

function sameHtlc(a: MonitorHtlc, b: MonitorHtlc): boolean {
  return (
    a.amountMsat === b.amountMsat &&
    a.cltvExpiryHeight === b.cltvExpiryHeight &&
    equalBytes(a.paymentHash, b.paymentHash)
  );
}

function applySecret(
  monitor: ChannelMonitor,
  commitmentNumber: bigint,
  secret: Uint8Array,
): Result<ChannelMonitor, MonitorError> {
  const { counterpartyCommitment: revoked, nextCounterpartyCommitment: next } = monitor;
  // A commitment is revoked only once the counterparty has the one that replaces it.
  if (revoked === undefined || next === undefined)
    return err({ type: 'secret_refused', reason: 'nothing_to_revoke' });
  const secrets = insertSecret(monitor.secrets, commitmentNumber, secret);
  if (!secrets.ok) return err({ type: 'secret_refused', reason: secrets.error.kind });
  const { feerateSatPerKw, toHolderMsat, toCounterpartyMsat } = revoked.content;
  return ok(
    retireHtlcs({
      ...monitor,
      secrets: secrets.value,
      counterpartyCommitment: next,
      nextCounterpartyCommitment: undefined,
      revokedStates: appendState(monitor.revokedStates, {
        feerateSatPerKw,
        toHolderMsat,
        toCounterpartyMsat,
      }),
    }),
  );
}

/** A preimage of an HTLC that no unrevoked commitment has is of no use any more: it is ignored. */
function applyPreimage(
  monitor: ChannelMonitor,
  htlc: HtlcRef,
  preimage: Uint8Array,
): Result<ChannelMonitor, MonitorError> {
  const live = monitor.htlcs.get(htlcKey(htlc));
  if (live === undefined) return ok(monitor);
  if (!constantTimeEqual(sha256(preimage), live.htlc.paymentHash))
    return err({ type: 'wrong_preimage', htlc });
  return ok({ ...monitor, preimages: new Map(monitor.preimages).set(htlcKey(htlc), preimage) });
}

/** Moves HTLCs that left every unrevoked commitment to the archive, or drops them if no counterparty commitment had them. */
function retireHtlcs(monitor: ChannelMonitor): ChannelMonitor {
  const used = new Set<string>();
  for (const commitment of [
    monitor.holderCommitment,
    monitor.previousHolderCommitment,
    monitor.counterpartyCommitment,
    monitor.nextCounterpartyCommitment,
  ]) {
    for (const ref of commitment?.content.htlcs ?? []) used.add(htlcKey(ref));
  }
  if (used.size === monitor.htlcs.size) return monitor;
  let revokedHtlcs = monitor.revokedHtlcs;
  const htlcs = new Map<string, LiveHtlc>();
  const preimages = new Map<string, Uint8Array>();
  for (const [key, live] of monitor.htlcs) {
    const preimage = monitor.preimages.get(key);
    if (used.has(key)) {
      htlcs.set(key, live);
      if (preimage !== undefined) preimages.set(key, preimage);
    } else if (live.counterpartyNumbers !== undefined) {
      const { first, last } = live.counterpartyNumbers;
      revokedHtlcs = appendHtlc(revokedHtlcs, { htlc: live.htlc, firstNumber: first, lastNumber: last });
    }
  }
  return { ...monitor, htlcs, preimages, revokedHtlcs };
}
