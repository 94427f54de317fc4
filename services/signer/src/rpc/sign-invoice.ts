/** BOLT 11 invoices: the signer hashes what it is shown, and only for its own network. */
import type { SignInvoiceRequest, SignInvoiceResponse } from '@fulmen/proto/signer/v1/signer';
import { concatBytes, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { refuse } from '../enforcement/refuse.ts';
import { orRefuse, runUnary } from '../signer.ts';
import type { Signer } from '../signer.ts';

/** Seven words of timestamp at least; far beyond every invoice that fits a QR code at most. */
const MIN_WORDS = 7;
const MAX_WORDS = 8_000;

export async function signInvoice(signer: Signer, request: SignInvoiceRequest): Promise<SignInvoiceResponse> {
  const operation = 'sign_invoice';
  const { humanReadablePart, dataWords } = request;
  // BOLT 11: prefix `ln` and the network's, then an optional amount with an optional multiplier.
  const prefix = `ln${signer.network.invoiceHrp}`;
  if (
    !humanReadablePart.startsWith(prefix) ||
    !/^(?:[1-9][0-9]{0,20}[munp]?)?$/.test(humanReadablePart.slice(prefix.length))
  ) {
    return orRefuse(signer, operation, refuse('policy-invoice', 'not an invoice of this network'));
  }
  if (dataWords.length < MIN_WORDS || dataWords.length > MAX_WORDS || dataWords.some((word) => word > 31)) {
    return orRefuse(signer, operation, refuse('policy-invoice', 'no data part of an invoice'));
  }
  // BOLT 11: "the data part … padded with 0 bits to … a byte boundary"
  const hash = sha256(concatBytes(utf8Encode(humanReadablePart), packWords(dataWords)));
  return runUnary<SignInvoiceResponse>(signer, operation, {
    priority: 'channel',
    channelKeysId: undefined,
    evaluate: () => {
      const { signature, recoveryId } = signer.secp.signRecoverable(hash, signer.keys.nodeSecret);
      return {
        ok: true,
        value: {
          answer: { signature, recoveryId },
          audit: { operation, channelKeysId: undefined, detail: hash },
        },
      };
    },
  });
}

/** Five-bit words as bytes, the last one filled with zero bits. */
function packWords(words: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.ceil((words.length * 5) / 8));
  let bits = 0;
  let pending = 0;
  let at = 0;
  for (const word of words) {
    pending = (pending << 5) | word;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (pending >> bits) & 0xff;
      pending &= (1 << bits) - 1;
    }
  }
  if (bits > 0) out[at] = (pending << (8 - bits)) & 0xff;
  return out;
}
