/**
 * The human-readable part (BOLT 11): `ln`, the chain, and an amount in bitcoin
 * with a multiplier. One millisatoshi is 10 pico-bitcoin.
 */
import { EncodeError, err, ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { InvoiceError } from './errors.ts';
import type { Currency } from './invoice.ts';

const PICO_PER_MSAT = 10n;
/** Pico-bitcoin in one unit of each multiplier, the largest first. */
const PICO_PER_UNIT = { '': 1_000_000_000_000n, m: 1_000_000_000n, u: 1_000_000n, n: 1_000n, p: 1n } as const;
type Multiplier = keyof typeof PICO_PER_UNIT;

/** All bitcoin there will ever be. */
const MAX_AMOUNT_MSAT = 21_000_000n * 100_000_000n * 1000n;
/** The longest that MAX_AMOUNT_MSAT can be, in pico-bitcoin. */
const MAX_DIGITS = 20;

/** What a prefix says. */
export interface Prefix {
  readonly currency: Currency;
  readonly amountMsat: bigint | undefined;
}

/** Reads a lower-case human-readable part. */
export function decodePrefix(prefix: string): Result<Prefix, InvoiceError> {
  const match = /^ln(bcrt|bc|tbs|tb)(.*)$/s.exec(prefix);
  const currency = match?.[1];
  const rest = match?.[2];
  if (rest === undefined || !isCurrency(currency)) return err({ kind: 'unknown_prefix' });
  if (rest === '') return ok({ currency, amountMsat: undefined });
  const amountMsat = decodeAmount(rest);
  return amountMsat === undefined ? err({ kind: 'invalid_amount' }) : ok({ currency, amountMsat });
}

function isCurrency(value: string | undefined): value is Currency {
  return value === 'bc' || value === 'tb' || value === 'tbs' || value === 'bcrt';
}

function decodeAmount(text: string): bigint | undefined {
  // BOLT 11: "MUST encode amount as a positive decimal integer with no leading 0s."
  const match = /^([1-9][0-9]*)([munp]?)$/.exec(text);
  const digits = match?.[1];
  const multiplier = match?.[2];
  if (digits === undefined || digits.length > MAX_DIGITS || !isMultiplier(multiplier)) return undefined;
  const pico = BigInt(digits) * PICO_PER_UNIT[multiplier];
  // BOLT 11: "if multiplier is p and the last decimal of amount is not 0: MUST fail the payment."
  if (pico % PICO_PER_MSAT !== 0n) return undefined;
  const amountMsat = pico / PICO_PER_MSAT;
  return amountMsat <= MAX_AMOUNT_MSAT ? amountMsat : undefined;
}

function isMultiplier(value: string | undefined): value is Multiplier {
  return value !== undefined && value in PICO_PER_UNIT;
}

/**
 * Writes the human-readable part, with the largest multiplier that fits.
 *
 * @throws EncodeError unless 0 < amount ≤ 21 million bitcoin.
 */
export function encodePrefix(prefix: Prefix): string {
  const { currency, amountMsat } = prefix;
  if (amountMsat === undefined) return `ln${currency}`;
  if (amountMsat <= 0n || amountMsat > MAX_AMOUNT_MSAT)
    throw new EncodeError('out_of_range', `${amountMsat} msat`);
  const pico = amountMsat * PICO_PER_MSAT;
  for (const [multiplier, unit] of Object.entries(PICO_PER_UNIT)) {
    if (pico % unit === 0n) return `ln${currency}${pico / unit}${multiplier}`;
  }
  return `ln${currency}${pico}p`;
}
