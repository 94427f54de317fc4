/** The hot path: batches of many channels on a long-lived stream, answered as they are done. */
import {
  type Refusal as WireRefusal,
  RefusalKind,
  type SignBatchRequest,
  type SignBatchResponse,
  type SignItem,
  type SignResult,
} from '@fulmen/proto/signer/v1/signer';
import { Writer } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { type DuplexStream, RpcError } from '@fulmen/rpc';
import { decodeSignItem, decoding } from '../decode.ts';
import { signItem } from '../enforcement/sign-item.ts';
import type { Refusal, SignItemAnswer, SignItemRequest, SignerChannelState } from '../enforcement/types.ts';
import { checkShard, contextOf, recordRefusal, runInLane, unregistered } from '../signer.ts';
import { MAX_REASON_LENGTH } from '../refusal-log.ts';
import type { Signer } from '../signer.ts';

/** Batches of one stream that are under way; reading stops above. */
const MAX_BATCHES_IN_FLIGHT = 64;
const MAX_ITEMS_IN_BATCH = 2_000;

export async function signBatch(
  signer: Signer,
  stream: DuplexStream<SignBatchRequest, SignBatchResponse>,
): Promise<void> {
  const inFlight = new Set<Promise<void>>();
  let failure: unknown;
  for await (const batch of stream) {
    if (batch.items.length > MAX_ITEMS_IN_BATCH)
      throw new RpcError('invalid_argument', `${batch.items.length} items in a batch`);
    // Every item is queued before the next batch is read: that keeps a channel's order.
    const work = Promise.all(batch.items.map((item) => answerItem(signer, item)))
      .then((results) => stream.send({ batchId: batch.batchId, results }))
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => inFlight.delete(work));
    inFlight.add(work);
    if (inFlight.size >= MAX_BATCHES_IN_FLIGHT) await Promise.race(inFlight);
    if (failure !== undefined)
      throw failure instanceof Error ? failure : new RpcError('internal', String(failure));
  }
  await Promise.all(inFlight);
}

async function answerItem(signer: Signer, item: SignItem): Promise<SignResult> {
  const result = await runItem(signer, item);
  return {
    outcome: result.ok
      ? { $case: 'success', value: toSuccess(result.value) }
      : { $case: 'refusal', value: toRefusal(result.error) },
  };
}

function runItem(signer: Signer, item: SignItem): Promise<Result<SignItemAnswer, Refusal>> {
  const decoded = decoding(() => decodeSignItem(item));
  if (!decoded.ok) {
    recordRefusal(signer, 'sign_item', decoded.error, undefined);
    return Promise.resolve(decoded);
  }
  const { channelKeysId, request } = decoded.value;
  return runInLane<SignItemAnswer>(signer, 'sign_item', {
    priority: 'channel',
    channelKeysId,
    weight: weightOf(request),
    evaluate: (view) => {
      const { channel } = view;
      if (channel === undefined) return unregistered();
      const allowed = checkShard(view, channel, decoded.value);
      if (!allowed.ok) return allowed;
      const signed = signItem(contextOf(signer, channelKeysId), channel, request);
      if (!signed.ok) return signed;
      const { state, answer } = signed.value;
      // An identical retry and a mere ECDH change nothing, so there is nothing to commit.
      if (state === channel) return { ok: true, value: { answer } };
      return {
        ok: true,
        value: {
          answer,
          channel: state,
          audit: { operation: 'sign_item', channelKeysId, detail: numbersOf(state) },
        },
      };
    },
  });
}

function weightOf({ holderCommitment, counterpartyCommitment, ecdhs }: SignItemRequest): number {
  const htlcs = (holderCommitment?.spec.htlcs.length ?? 0) + (counterpartyCommitment?.spec.htlcs.length ?? 0);
  return 1 + htlcs + ecdhs.length;
}

/** The four numbers after the step: which signatures and secrets left the signer follows from them. */
function numbersOf(state: SignerChannelState): Uint8Array {
  const writer = new Writer(32).u64(state.nextHolderCommitment).u64(state.nextHolderRevocation);
  return writer.u64(state.nextCounterpartyCommitment).u64(state.secrets.count).finish();
}

/** The answer as the contract has it. */
export function toSuccess(answer: SignItemAnswer) {
  return {
    ...(answer.releasedSecret === undefined ? {} : { releasedSecret: answer.releasedSecret }),
    firstPointNumber: answer.firstPointNumber,
    perCommitmentPoints: [...answer.perCommitmentPoints],
    signatures: answer.signatures.map(({ fundingTxid, signature, htlcSignatures }) => ({
      fundingTxid,
      signature,
      htlcSignatures: [...htlcSignatures],
    })),
    sharedSecrets: [...answer.sharedSecrets],
  };
}

const KINDS = {
  policy: RefusalKind.REFUSAL_KIND_POLICY,
  fenced: RefusalKind.REFUSAL_KIND_FENCED,
  unavailable: RefusalKind.REFUSAL_KIND_UNAVAILABLE,
} as const;

function toRefusal(refusal: Refusal): WireRefusal {
  // Of any length where it is an error of the database: a batch's answers have to fit into one message.
  const reason = refusal.reason.slice(0, MAX_REASON_LENGTH);
  return { policy: refusal.policy, reason, kind: KINDS[refusal.kind] };
}
