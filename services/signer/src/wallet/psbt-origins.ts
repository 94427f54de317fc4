/** Reads the key origins (BIP 174, BIP 371) out of a PSBT; the rest of it is the Bitcoin library's. */
import { err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { Transaction } from '@scure/btc-signer';
import type { KeyOrigin } from './paths.ts';

export interface PsbtOrigins {
  readonly inputs: readonly (readonly KeyOrigin[])[];
  readonly outputs: readonly (readonly KeyOrigin[])[];
}

/** Of one key that a hostile caller could fill up. */
const MAX_ORIGINS = 4;

interface WithOrigins {
  readonly bip32Derivation?: readonly (readonly [unknown, KeyOrigin])[] | undefined;
  readonly tapBip32Derivation?: readonly (readonly [unknown, { readonly der: KeyOrigin }])[] | undefined;
}

function originsOf(part: WithOrigins): readonly KeyOrigin[] {
  const segwit = (part.bip32Derivation ?? []).map(([, origin]) => origin);
  const taproot = (part.tapBip32Derivation ?? []).map(([, { der }]) => der);
  return [...segwit, ...taproot].slice(0, MAX_ORIGINS);
}

/** Origins by input and output; an error for bytes that are no PSBT. */
export function readPsbtOrigins(psbt: Uint8Array): Result<PsbtOrigins, 'bad_psbt'> {
  try {
    // Nothing is signed here, so unknown scripts are nobody's business.
    const transaction = Transaction.fromPSBT(psbt, {
      allowUnknownInputs: true,
      allowUnknownOutputs: true,
      disableScriptCheck: true,
    });
    return ok({
      inputs: Array.from({ length: transaction.inputsLength }, (_, i) => originsOf(transaction.getInput(i))),
      outputs: Array.from({ length: transaction.outputsLength }, (_, i) =>
        originsOf(transaction.getOutput(i)),
      ),
    });
  } catch {
    return err('bad_psbt');
  }
}
