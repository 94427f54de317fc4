/** Invoices written here, read by two decoders that others wrote: the packages `bolt11` and `invoices`. */
import { createRequire } from 'node:module';
import { FeatureBits, toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeInvoice, encodeInvoice } from './index.ts';
import type { RouteHintHop, UnsignedInvoice } from './index.ts';

interface Bolt11Hop {
  pubkey: string;
  short_channel_id: string;
  fee_base_msat: number;
  fee_proportional_millionths: number;
  cltv_expiry_delta: number;
}
interface Bolt11Tag {
  tagName: string;
  data: unknown;
}
interface Bolt11 {
  decode(text: string): {
    millisatoshis: string | null;
    payeeNodeKey: string;
    timestamp: number;
    tags: Bolt11Tag[];
  };
}
interface ParsedHop {
  base_fee_mtokens?: string;
  channel?: string;
  cltv_delta?: number;
  fee_rate?: number;
  public_key: string;
}
interface Invoices {
  parsePaymentRequest(request: { request: string }): {
    destination: string;
    network: string;
    cltv_delta: number;
    created_at: string;
    expires_at: string;
    mtokens?: string;
    id: string;
    payment: string;
    description?: string;
    description_hash?: string;
    metadata?: string;
    features: { bit: number }[];
    routes?: ParsedHop[][];
    chain_addresses?: string[];
  };
}

const load = createRequire(import.meta.url);
const bolt11 = load('bolt11') as Bolt11;
const invoices = load('invoices') as Invoices;

const KEY = new Uint8Array(32).fill(0x42);
const PAYEE = toHex(secp.publicKeyOf(KEY));
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const nodeId = bytes(32)
  .filter((key) => secp.isSecretKey(key))
  .map((key) => secp.publicKeyOf(key));
const hop: fc.Arbitrary<RouteHintHop> = fc.record({
  nodeId,
  shortChannelId: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  feeBaseMsat: fc.nat(0xffff_ffff),
  feeProportionalMillionths: fc.nat(0xffff_ffff),
  cltvExpiryDelta: fc.nat(0xffff),
});
const invoice: fc.Arbitrary<UnsignedInvoice> = fc.record({
  currency: fc.constantFrom('bc' as const, 'tb' as const, 'bcrt' as const),
  amountMsat: fc.option(
    fc.oneof(fc.bigInt({ min: 1n, max: 10n ** 15n }), fc.constantFrom(1n, 1000n, 10n ** 8n, 10n ** 11n)),
    {
      nil: undefined,
    },
  ),
  timestampUnixSeconds: fc.integer({ min: 1_400_000_000, max: 2_000_000_000 }),
  paymentHash: bytes(32),
  paymentSecret: bytes(32),
  description: fc.oneof(
    fc
      .string({ minLength: 1, maxLength: 100, unit: 'grapheme' })
      .map((text) => ({ kind: 'text' as const, text })),
    bytes(32).map((hash) => ({ kind: 'hash' as const, hash })),
  ),
  expirySeconds: fc.option(fc.integer({ min: 1, max: 31_536_000 }), { nil: undefined }),
  minFinalCltvExpiryDelta: fc.option(fc.integer({ min: 1, max: 2016 }), { nil: undefined }),
  paymentMetadata: fc.option(fc.uint8Array({ minLength: 1, maxLength: 60 }), { nil: undefined }),
  features: fc
    .constantFrom([8, 14], [8, 14, 17], [9, 15, 17, 49], [8, 14, 48, 25, 99])
    .map((bits) => FeatureBits.fromBits(bits)),
  fallbacks: fc.array(
    fc.oneof(
      bytes(20).map((hash) => ({ kind: 'p2pkh' as const, hash })),
      bytes(20).map((hash) => ({ kind: 'p2sh' as const, hash })),
      bytes(20).map((program) => ({ kind: 'witness' as const, version: 0, program })),
      bytes(32).map((program) => ({ kind: 'witness' as const, version: 0, program })),
    ),
    { maxLength: 2 },
  ),
  routeHints: fc.array(fc.array(hop, { minLength: 1, maxLength: 2 }), { maxLength: 2 }),
});

test('both read what was written', () => {
  fc.assert(
    fc.property(invoice, fc.boolean(), (unsigned, withNodeId) => {
      const content = withNodeId ? { ...unsigned, nodeIdField: secp.publicKeyOf(KEY) } : unsigned;
      const text = encodeInvoice(secp, content, KEY);
      const own = decodeInvoice(secp, text);
      expect(own).toMatchObject({ ok: true, value: { ...content, payeeNodeId: secp.publicKeyOf(KEY) } });
      expect(decodeInvoice(secp, text.toUpperCase())).toEqual(own);
      compareBolt11(text, content);
      compareInvoices(text, content);
    }),
    { numRuns: 60 },
  );
});

function compareBolt11(text: string, content: UnsignedInvoice): void {
  const other = bolt11.decode(text);
  const all = (name: string) => other.tags.filter((tag) => tag.tagName === name).map((tag) => tag.data);
  expect(other.payeeNodeKey).toBe(PAYEE);
  expect(other.millisatoshis).toBe(content.amountMsat === undefined ? null : String(content.amountMsat));
  expect(other.timestamp).toBe(content.timestampUnixSeconds);
  expect(all('payment_hash')).toEqual([toHex(content.paymentHash)]);
  expect(all('payment_secret')).toEqual([toHex(content.paymentSecret)]);
  expect(all('description')).toEqual(content.description.kind === 'text' ? [content.description.text] : []);
  expect(all('purpose_commit_hash')).toEqual(
    content.description.kind === 'hash' ? [toHex(content.description.hash)] : [],
  );
  expect(all('expire_time')).toEqual(content.expirySeconds === undefined ? [] : [content.expirySeconds]);
  expect(all('min_final_cltv_expiry')).toEqual(
    content.minFinalCltvExpiryDelta === undefined ? [] : [content.minFinalCltvExpiryDelta],
  );
  expect(all('fallback_address').map((data) => (data as { addressHash: string }).addressHash)).toEqual(
    (content.fallbacks ?? []).map((address) =>
      toHex(address.kind === 'witness' ? address.program : address.hash),
    ),
  );
  expect(all('routing_info')).toEqual(
    (content.routeHints ?? []).map((hops) =>
      hops.map((entry): Bolt11Hop => ({
        pubkey: toHex(entry.nodeId),
        short_channel_id: entry.shortChannelId.toString(16).padStart(16, '0'),
        fee_base_msat: entry.feeBaseMsat,
        fee_proportional_millionths: entry.feeProportionalMillionths,
        cltv_expiry_delta: entry.cltvExpiryDelta,
      })),
    ),
  );
}

function compareInvoices(text: string, content: UnsignedInvoice): void {
  const other = invoices.parsePaymentRequest({ request: text });
  const expires = content.timestampUnixSeconds + (content.expirySeconds ?? 3600);
  expect(other.destination).toBe(PAYEE);
  // This package reports 0 for any amount.
  expect(other.mtokens).toBe(String(content.amountMsat ?? 0n));
  expect(Date.parse(other.created_at)).toBe(content.timestampUnixSeconds * 1000);
  expect(Date.parse(other.expires_at)).toBe(expires * 1000);
  expect(other.id).toBe(toHex(content.paymentHash));
  expect(other.payment).toBe(toHex(content.paymentSecret));
  expect(other.description).toBe(content.description.kind === 'text' ? content.description.text : undefined);
  expect(other.description_hash).toBe(
    content.description.kind === 'hash' ? toHex(content.description.hash) : undefined,
  );
  expect(other.metadata).toBe(
    content.paymentMetadata === undefined ? undefined : toHex(content.paymentMetadata),
  );
  expect(other.cltv_delta).toBe(content.minFinalCltvExpiryDelta ?? 18);
  expect(other.features.map((feature) => feature.bit).toSorted((a, b) => a - b)).toEqual(
    content.features.bits(),
  );
  expect(other.chain_addresses?.length ?? 0).toBe(content.fallbacks?.length ?? 0);
  expect((other.routes ?? []).map((route) => route.length)).toEqual(
    (content.routeHints ?? []).map((hops) => hops.length + 1),
  );
  for (const [index, hops] of (content.routeHints ?? []).entries()) {
    for (const [position, entry] of hops.entries()) {
      expect(other.routes?.[index]?.[position]?.public_key).toBe(toHex(entry.nodeId));
      expect(other.routes?.[index]?.[position + 1]).toMatchObject({
        base_fee_mtokens: String(entry.feeBaseMsat),
        fee_rate: entry.feeProportionalMillionths,
        cltv_delta: entry.cltvExpiryDelta,
      });
    }
  }
}
