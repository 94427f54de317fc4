/**
 * What the records need of the chain, for sources that show only what is
 * registered. Nothing is registered that is known to be confirmed: a source
 * that tells of it again would be telling of something new.
 */
import { decodeTx } from '@fulmen/bitcoin';
import { Registrations } from '@fulmen/chain';
import { fromHex } from '@fulmen/codec';
import type { Draft } from '../state/draft.ts';

/** Adds to a filter what one part of the service waits for. */
export type Registrar = (draft: Draft, filter: Registrations) => void;

/** Everything that the records wait for. */
export function registered(draft: Draft, registrars: readonly Registrar[]): Registrations {
  const filter = new Registrations();
  for (const register of registrars) register(draft, filter);
  return filter;
}

/** Funding transactions that are to confirm, and outputs whose spend closes a channel. */
export const registerFundings: Registrar = (draft, filter) => {
  for (const { fundingTxid, fundingOutputIndex, seen, spent } of draft.fundings()) {
    if (seen === undefined) filter.registerTx(fundingTxid);
    if (spent === undefined) filter.registerOutput(fundingTxid, fundingOutputIndex);
  }
};

/** Transactions that were ordered, and their inputs: somebody else may spend those first. */
export const registerOrders: Registrar = (draft, filter) => {
  for (const [id] of draft.view.broadcasts) {
    const order = draft.broadcast(id);
    if (order === undefined || order.conflictHeight !== undefined) continue;
    for (const [at, txid] of (draft.view.orderTxids.get(id) ?? []).entries()) {
      if (order.confirmedHeights[at] !== undefined || txid === '') continue;
      filter.registerTx(fromHex(txid));
      const tx = decodeTx(order.transactions[at] ?? new Uint8Array(0));
      if (tx.ok) for (const input of tx.value.inputs) filter.registerOutput(input.txid, input.vout);
    }
  }
};

/** Addresses of the wallet: who pays them, and who spends what they were paid. */
export const registerWallet: Registrar = (draft, filter) => {
  for (const { script } of draft.addresses()) filter.registerScript(script);
};
