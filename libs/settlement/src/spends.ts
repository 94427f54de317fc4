/** Who spent what: finding the input that spends an output, and reading from its witness what it did there. */
import type { Tx } from '@fulmen/bitcoin';
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import { otherParty } from '@fulmen/channel/commitment/build';
import { toHex } from '@fulmen/codec';
import { constantTimeEqual, sha256 } from '@fulmen/crypto';
import type { ConfirmedSpend, OutPoint } from './types.ts';

export interface SpendingInput {
  readonly tx: Tx;
  readonly inputIndex: number;
}

export interface ConfirmedInput extends SpendingInput {
  readonly txid: Uint8Array;
  readonly height: number;
}

/** Key of an outpoint in this library's maps. */
export function outPointKey({ txid, outputIndex }: OutPoint): string {
  return `${toHex(txid)}:${outputIndex}`;
}

/** Confirmed inputs by the outpoint that they spend. */
export type ConfirmedInputs = ReadonlyMap<string, ConfirmedInput>;
/** Inputs in the mempool, by the outpoint that they spend: rivals may have been seen one after the other. */
export type UnconfirmedInputs = ReadonlyMap<string, readonly SpendingInput[]>;

export function indexConfirmed(spends: readonly ConfirmedSpend[]): ConfirmedInputs {
  const inputs = new Map<string, ConfirmedInput>();
  for (const { tx, txid, height } of spends) {
    for (const [inputIndex, input] of tx.inputs.entries())
      inputs.set(outPointKey({ txid: input.txid, outputIndex: input.vout }), {
        tx,
        txid,
        height,
        inputIndex,
      });
  }
  return inputs;
}

export function indexUnconfirmed(txs: readonly Tx[]): UnconfirmedInputs {
  const inputs = new Map<string, SpendingInput[]>();
  for (const tx of txs) {
    for (const [inputIndex, input] of tx.inputs.entries()) {
      const key = outPointKey({ txid: input.txid, outputIndex: input.vout });
      const known = inputs.get(key);
      if (known === undefined) inputs.set(key, [{ tx, inputIndex }]);
      else known.push({ tx, inputIndex });
    }
  }
  return inputs;
}

/** What a spend of an HTLC output was, by BOLT 3's witnesses. */
export type HtlcSpend =
  /** The preimage is the HTLC's: its hash was compared. */
  | { readonly type: 'preimage'; readonly by: CommitmentOwner; readonly preimage: Uint8Array }
  | { readonly type: 'timeout'; readonly by: CommitmentOwner }
  | { readonly type: 'revocation'; readonly by: CommitmentOwner }
  /** None of the script's paths; a block would not have it. */
  | { readonly type: 'other' };

/** Reads how an input spends an HTLC output of a commitment of `owner`. */
export function readHtlcSpend(
  { tx, inputIndex }: SpendingInput,
  owner: CommitmentOwner,
  paymentHash: Uint8Array,
): HtlcSpend {
  const witness = tx.inputs[inputIndex]?.witness ?? [];
  // "0 <remotehtlcsig> <localhtlcsig> <payment_preimage or empty> <script>": the owner's second stage.
  // "<remotehtlcsig> <payment_preimage or empty> <script>", "<revocation_sig> <revocationpubkey> <script>": the other's.
  const by = witness.length === 5 ? owner : witness.length === 3 ? otherParty(owner) : undefined;
  const item = witness.at(-2);
  if (by === undefined || item === undefined) return { type: 'other' };
  if (item.length === 0) return { type: 'timeout', by };
  if (item.length === 33 && by !== owner) return { type: 'revocation', by };
  if (item.length === 32 && constantTimeEqual(sha256(item), paymentHash))
    return { type: 'preimage', by, preimage: item };
  return { type: 'other' };
}

/** Who spent a delayed output of `owner`: the owner after its delay ("<sig> <> <script>"), or the other, punishing ("<sig> 1 <script>"). */
export function readDelayedSpend(
  { tx, inputIndex }: SpendingInput,
  owner: CommitmentOwner,
): { readonly by: CommitmentOwner; readonly how: 'claim' | 'justice' } {
  const branch = tx.inputs[inputIndex]?.witness[1];
  return branch === undefined || branch.length === 0
    ? { by: owner, how: 'claim' }
    : { by: otherParty(owner), how: 'justice' };
}
