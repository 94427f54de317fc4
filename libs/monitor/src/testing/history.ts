/** A simulated channel that feeds a monitor and remembers every counterparty commitment; for this library's tests. */
import { sha256 } from '@fulmen/crypto';
import { commitmentSecret } from '@fulmen/keys';
import type {
  ChannelMonitorUpdate,
  ChannelMonitorUpdateStep,
  CommitmentContent,
  HtlcRef,
  MonitorHtlc,
  MonitorParameters,
} from '../update.ts';

/** What happens next. Removals pick among the present HTLCs by index. */
export type Move =
  | {
      readonly type: 'add';
      readonly direction: 'inbound' | 'outbound';
      readonly amountMsat: bigint;
      readonly cltvExpiryHeight: number;
    }
  | { readonly type: 'remove'; readonly index: number; readonly outcome: 'fulfilled' | 'failed' }
  | { readonly type: 'fee'; readonly feerateSatPerKw: number }
  | { readonly type: 'sign_counterparty' }
  | { readonly type: 'revoke' }
  | { readonly type: 'sign_holder' }
  | { readonly type: 'preimage'; readonly index: number };

export const SEED = new Uint8Array(32).fill(9);

/** Preimage of the HTLC's hash in a history. */
export function preimageOf(ref: HtlcRef): Uint8Array {
  return sha256(new TextEncoder().encode(`${ref.direction} ${ref.id}`));
}

/** The updates of a channel's life, and every counterparty commitment ever signed with its HTLCs. */
export interface History {
  readonly updates: readonly ChannelMonitorUpdate[];
  readonly counterpartyCommitments: readonly {
    readonly content: CommitmentContent;
    readonly htlcs: readonly MonitorHtlc[];
  }[];
  readonly revoked: number;
}

function byIdentity(a: HtlcRef, b: HtlcRef): number {
  if (a.direction !== b.direction) return a.direction === 'inbound' ? -1 : 1;
  return a.id < b.id ? -1 : 1;
}

/** Plays moves; those that are impossible at their time do nothing. without_points: as a release wrote them that knew no holder points. */
export function play(
  parameters: MonitorParameters,
  moves: readonly Move[],
  holderPoints: 'with_points' | 'without_points' = 'with_points',
): History {
  let present: readonly MonitorHtlc[] = [];
  let feerateSatPerKw = 253;
  let toHolderMsat = 5_000_000_000n;
  let toCounterpartyMsat = 5_000_000_000n;
  let holderNumber = 0n;
  let revoked = 0;
  const ids = { inbound: 0n, outbound: 0n };
  const declared = new Set<MonitorHtlc>();
  const counterpartyCommitments: { content: CommitmentContent; htlcs: readonly MonitorHtlc[] }[] = [];
  const updates: ChannelMonitorUpdate[] = [];
  const emit = (...steps: readonly ChannelMonitorUpdateStep[]): void => {
    updates.push({ channelId: parameters.channelId, updateId: BigInt(updates.length + 1), steps });
  };
  const declare = (): MonitorHtlc[] => {
    const fresh = present.filter((htlc) => !declared.has(htlc));
    for (const htlc of fresh) declared.add(htlc);
    return fresh;
  };
  const contentOf = (commitmentNumber: bigint): CommitmentContent => {
    const htlcs = present.map(({ direction, id }) => ({ direction, id })).sort(byIdentity);
    return { commitmentNumber, feerateSatPerKw, toHolderMsat, toCounterpartyMsat, htlcs };
  };
  const signCounterparty = (): ChannelMonitorUpdateStep => {
    const content = contentOf(BigInt(counterpartyCommitments.length));
    counterpartyCommitments.push({ content, htlcs: [...present].sort(byIdentity) });
    return {
      type: 'latest_counterparty_commitment',
      content,
      newHtlcs: declare(),
      perCommitmentPoint: Uint8Array.from([
        2,
        ...sha256(Uint8Array.of(counterpartyCommitments.length & 255)),
      ]),
    };
  };
  const signHolder = (): ChannelMonitorUpdateStep => {
    const content = contentOf(holderNumber);
    holderNumber += 1n;
    const signatures = parameters.fundings.map(({ fundingTxid }) => ({
      fundingTxid,
      signature: new Uint8Array(64).fill(Number(holderNumber & 255n)),
      htlcSignatures: present.map(() => new Uint8Array(64).fill(7)),
    }));
    const step = { type: 'latest_holder_commitment', content, newHtlcs: declare(), signatures } as const;
    return holderPoints === 'without_points'
      ? step
      : {
          ...step,
          perCommitmentPoint: Uint8Array.from([3, ...sha256(Uint8Array.of(Number(holderNumber & 255n)))]),
        };
  };

  emit(signCounterparty(), signHolder());
  for (const move of moves) {
    switch (move.type) {
      case 'add': {
        const ref = { direction: move.direction, id: ids[move.direction] };
        ids[move.direction] += 1n;
        present = [
          ...present,
          {
            ...ref,
            amountMsat: move.amountMsat,
            cltvExpiryHeight: move.cltvExpiryHeight,
            paymentHash: sha256(preimageOf(ref)),
          },
        ];
        if (move.direction === 'outbound') toHolderMsat -= move.amountMsat;
        else toCounterpartyMsat -= move.amountMsat;
        break;
      }
      case 'remove': {
        // An HTLC leaves only after every commitment could have had it; before that it would be a hole in the history.
        const candidates = present.filter((htlc) => declared.has(htlc));
        const htlc = candidates[move.index % Math.max(1, candidates.length)];
        if (htlc === undefined) break;
        present = present.filter((other) => other !== htlc);
        const toHolder = (htlc.direction === 'inbound') === (move.outcome === 'fulfilled');
        if (toHolder) toHolderMsat += htlc.amountMsat;
        else toCounterpartyMsat += htlc.amountMsat;
        break;
      }
      case 'fee':
        feerateSatPerKw = move.feerateSatPerKw;
        break;
      case 'sign_counterparty':
        if (counterpartyCommitments.length === revoked + 1) emit(signCounterparty());
        break;
      case 'revoke':
        if (counterpartyCommitments.length === revoked + 2) {
          emit({
            type: 'commitment_secret',
            commitmentNumber: BigInt(revoked),
            secret: commitmentSecret(SEED, BigInt(revoked)),
          });
          revoked += 1;
        }
        break;
      case 'sign_holder':
        emit(signHolder());
        break;
      case 'preimage': {
        const htlc = present[move.index % Math.max(1, present.length)];
        if (htlc !== undefined)
          emit({
            type: 'payment_preimage',
            htlc: { direction: htlc.direction, id: htlc.id },
            preimage: preimageOf(htlc),
          });
        break;
      }
    }
  }
  return { updates, counterpartyCommitments, revoked };
}
