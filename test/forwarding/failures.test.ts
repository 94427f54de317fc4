// The fleet between a payer and a payee, and as the payee itself: every failure code of BOLT 4 that it may send, read by
// the payer with the keys of its onion; and what the payee says, passed on.
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { checkChannelUpdate, decodeChannelUpdate } from '@fulmen/graph';
import { decodeInvoice } from '@fulmen/invoice';
import { encodeHopPayload, FAILURE_CODES, type FailureMessage } from '@fulmen/onion';
import { make } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import { type End, Line, type Offer } from './line.ts';

const AMOUNT_MSAT = 10_000_000n;
const FEE_MSAT = 11_000n;
const GRACE_MS = 600_000;
const AWAY_MS = 20_000;

/** The failure, which must come from the named hop: 0 is the fleet. */
function failureOf(end: End, hopIndex = 0): FailureMessage {
  if (end.type !== 'failed' || end.unwrapped.kind !== 'failure')
    return expect.fail(`no readable failure: ${end.type === 'failed' ? end.unwrapped.kind : end.type}`);
  expect(end.unwrapped.hopIndex).toBe(hopIndex);
  return end.unwrapped.failure;
}

/** The terms in a failure: signed by the fleet, for the channel as the onion named it. */
function termsOf(line: Line, failure: FailureMessage): ReturnType<typeof decodeChannelUpdate> {
  const raw = 'channelUpdate' in failure ? failure.channelUpdate : new Uint8Array();
  const update = decodeChannelUpdate(raw);
  if (update === undefined) return expect.fail(`${failure.kind} without a channel_update`);
  expect(checkChannelUpdate(secp256k1, update, raw, line.nodeId)).toEqual({ ok: true });
  expect(update.shortChannelId).toBe(line.outgoingScid);
  return update;
}

const lastByteFlipped = (bytes: Uint8Array): Uint8Array => bytes.with(-1, (bytes.at(-1) ?? 0) ^ 1);

describe('a forward', () => {
  test('that its channel’s terms do not allow: the failure says what was offered, and the terms', async () => {
    await Line.play('terms', async (line) => {
      expect(await line.pay(AMOUNT_MSAT)).toEqual({ type: 'fulfilled' });

      const cheap = failureOf(await line.pay(AMOUNT_MSAT, { feeMsat: FEE_MSAT - 1n }));
      expect(cheap).toMatchObject({ kind: 'fee_insufficient', htlcMsat: AMOUNT_MSAT + FEE_MSAT - 1n });
      expect(termsOf(line, cheap)).toMatchObject({
        feeBaseMsat: 1_000,
        feeProportionalMillionths: 1_000,
        cltvExpiryDelta: 72,
      });

      const outgoingCltvHeight = line.height + 200;
      const hasty = failureOf(await line.pay(AMOUNT_MSAT, { outgoingCltvHeight, cltvDelta: 71 }));
      expect(hasty).toMatchObject({ kind: 'incorrect_cltv_expiry', cltvExpiryHeight: outgoingCltvHeight });
      expect(termsOf(line, hasty)).toMatchObject({ cltvExpiryDelta: 72 });

      const soon = failureOf(await line.pay(AMOUNT_MSAT, { outgoingCltvHeight: line.height + 1 }));
      expect(soon.kind).toBe('expiry_too_soon');
      termsOf(line, soon);

      expect(failureOf(await line.pay(AMOUNT_MSAT, { cltvDelta: 3_000 }))).toEqual({
        kind: 'expiry_too_far',
      });
      expect(failureOf(await line.pay(AMOUNT_MSAT, { shortChannelId: 77n }))).toEqual({
        kind: 'unknown_next_peer',
      });

      await line.setTerms({ htlcMinimumMsat: 5_000n, htlcMaximumMsat: 20_000_000n });
      const small = failureOf(await line.pay(4_999n));
      expect(small).toMatchObject({ kind: 'amount_below_minimum', htlcMsat: 4_999n });
      expect(termsOf(line, small)).toMatchObject({ htlcMinimumMsat: 5_000n, htlcMaximumMsat: 20_000_000n });
      const large = failureOf(await line.pay(20_000_001n));
      expect(large.kind).toBe('temporary_channel_failure');
      expect(termsOf(line, large)).toMatchObject({ htlcMaximumMsat: 20_000_000n });
    });
  });

  test('that pays out more than it brings fails, by whatever amount, and the channel it came over goes on', async () => {
    await Line.play('greedy', async (line) => {
      const htlcMsat = AMOUNT_MSAT + FEE_MSAT;
      for (const amtToForwardMsat of [htlcMsat + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
        const outgoingCltvHeight = line.height + 200;
        const fleetPayload = encodeHopPayload({
          amtToForwardMsat,
          outgoingCltvHeight,
          shortChannelId: line.outgoingScid,
        });
        const greedy = failureOf(await line.pay(AMOUNT_MSAT, { fleetPayload, outgoingCltvHeight }));
        expect(greedy).toMatchObject({ kind: 'fee_insufficient', htlcMsat });
      }
      expect(await line.pay(AMOUNT_MSAT)).toEqual({ type: 'fulfilled' });
    });
  });

  test('that the channel cannot carry tells nothing of it', async () => {
    await Line.play('liquidity', async (line) => {
      // The fleet was given 300,000 sat of the payee's channel.
      expect(failureOf(await line.pay(295_000_000n))).toEqual({
        kind: 'temporary_channel_failure',
        channelUpdate: new Uint8Array(),
      });
    });
  });

  test('to a peer that is away waits for it a while, and then fails as one that cannot be carried', async () => {
    await Line.play('away', async (line) => {
      line.payee.presence = 'away';
      line.payee.cut();
      const sinceMs = line.nowMs;
      expect(failureOf(await line.pay(AMOUNT_MSAT))).toEqual({
        kind: 'temporary_channel_failure',
        channelUpdate: new Uint8Array(),
      });
      expect(line.nowMs - sinceMs).toBeGreaterThan(AWAY_MS);
      const late = line.pay(AMOUNT_MSAT);
      await line.wait(AWAY_MS / 2);
      line.payee.presence = 'here';
      expect(await late).toEqual({ type: 'fulfilled' });
    });
  });

  test('while the chain is not known waits as long, and then fails as the node’s own trouble', async () => {
    await Line.play('doubt', async (line) => {
      line.doubtChain('a test');
      await line.wait(5_000);
      expect(failureOf(await line.pay(AMOUNT_MSAT))).toEqual({ kind: 'temporary_node_failure' });
      line.doubtChain('');
      await line.wait(5_000);
      expect(await line.pay(AMOUNT_MSAT)).toEqual({ type: 'fulfilled' });
    });
  });

  test('under older terms is taken for ten minutes, and then refused with the terms of now', async () => {
    await Line.play('grace', async (line) => {
      await line.setTerms({ feeBaseMsat: 2_000, cltvExpiryDelta: 90 });
      expect(await line.pay(AMOUNT_MSAT)).toEqual({ type: 'fulfilled' });
      await line.wait(GRACE_MS + 2_000);
      const refused = failureOf(await line.pay(AMOUNT_MSAT));
      expect(refused).toMatchObject({ kind: 'fee_insufficient', htlcMsat: AMOUNT_MSAT + FEE_MSAT });
      const now = { feeBaseMsat: 2_000, cltvExpiryDelta: 90 };
      expect(termsOf(line, refused)).toMatchObject(now);
      const feeMsat = FEE_MSAT + 1_000n;
      const hasty = failureOf(await line.pay(AMOUNT_MSAT, { feeMsat }));
      expect(hasty.kind).toBe('incorrect_cltv_expiry');
      expect(termsOf(line, hasty)).toMatchObject(now);
      expect(await line.pay(AMOUNT_MSAT, { feeMsat, cltvDelta: 90 })).toEqual({ type: 'fulfilled' });
      // Two changes in a row: the first terms are not those before the last change any more.
      await line.setTerms({ feeBaseMsat: 3_000 });
      await line.setTerms({ feeBaseMsat: 4_000 });
      const twice = failureOf(await line.pay(AMOUNT_MSAT, { feeMsat, cltvDelta: 90 }));
      expect(termsOf(line, twice)).toMatchObject({ feeBaseMsat: 4_000, cltvExpiryDelta: 90 });
    });
  });

  test('with an onion that cannot be read is failed as malformed, and told once', async () => {
    await Line.play('onions', async (line) => {
      const outcomes: [Offer['change'], number][] = [
        [(packet) => packet.with(0, 1), FAILURE_CODES.invalid_onion_version],
        [(packet) => packet.with(1, 5), FAILURE_CODES.invalid_onion_key],
        [lastByteFlipped, FAILURE_CODES.invalid_onion_hmac],
      ];
      for (const [change, failureCode] of outcomes) {
        let sent = new Uint8Array();
        const remember: Offer['change'] = (packet) => (sent = Uint8Array.from(change?.(packet) ?? packet));
        const end = await line.pay(AMOUNT_MSAT, { change: remember });
        expect(end).toMatchObject({ type: 'failed_malformed', failureCode, sha256OfOnion: sha256(sent) });
      }
      // Readable, but what it says is not: that is for the origin's eyes.
      const payloads = [
        encodeHopPayload({ amtToForwardMsat: AMOUNT_MSAT, shortChannelId: line.outgoingScid }),
        encodeHopPayload({}, [{ type: 66n, value: new Uint8Array(1) }]),
      ];
      for (const fleetPayload of payloads)
        expect(failureOf(await line.pay(AMOUNT_MSAT, { fleetPayload })).kind).toBe('invalid_onion_payload');
    });
  });

  test('that the payee fails comes back with the payee’s words, and with ours for an onion it could not read', async () => {
    await Line.play('payee', async (line) => {
      line.payee.preimages.clear();
      const unknown = new Uint8Array(32).fill(1);
      const refused = failureOf(await line.pay(AMOUNT_MSAT, { paymentHash: unknown }), 1);
      expect(refused).toMatchObject({
        kind: 'incorrect_or_unknown_payment_details',
        htlcMsat: AMOUNT_MSAT,
      });
      for (const kind of ['invalid_onion_version', 'invalid_onion_hmac', 'invalid_onion_key'] as const) {
        const sha256OfOnion = new Uint8Array(32).fill(7);
        line.payee.tamper = (message) =>
          message.type === 'update_fail_htlc'
            ? [
                make('update_fail_malformed_htlc', {
                  channelId: message.channelId,
                  id: message.id,
                  sha256OfOnion,
                  failureCode: FAILURE_CODES[kind],
                }),
              ]
            : [message];
        const end = await line.pay(AMOUNT_MSAT, { paymentHash: sha256(unknown) });
        expect(failureOf(end)).toEqual({ kind, sha256OfOnion });
      }
    });
  });
});

describe('the fleet as the payee', () => {
  test('whatever would tell a prober something has one answer, with the amount and the height', async () => {
    await Line.play('final', async (line) => {
      const invoice = decodeInvoice(secp256k1, await line.invoice(AMOUNT_MSAT));
      if (!invoice.ok) return expect.unreachable();
      const { paymentHash, paymentSecret } = invoice.value;
      const asked = { paymentHash, paymentSecret: paymentSecret ?? new Uint8Array(32) };
      const amountMsat = AMOUNT_MSAT;
      const probes: [string, bigint, Partial<Offer>][] = [
        ['unknown hash', amountMsat, { ...asked, paymentHash: new Uint8Array(32).fill(9) }],
        ['wrong secret', amountMsat, { ...asked, paymentSecret: new Uint8Array(32).fill(9) }],
        ['too little', amountMsat - 1n, asked],
        ['more than twice', 2n * amountMsat + 1n, asked],
        ['expires too soon', amountMsat, { ...asked, outgoingCltvHeight: line.height + 20 }],
      ];
      for (const [what, sentMsat, offer] of probes) {
        const failure = failureOf(await line.payFleet(sentMsat, offer));
        expect({ what, ...failure }).toMatchObject({
          kind: 'incorrect_or_unknown_payment_details',
          htlcMsat: sentMsat,
        });
        // One block may come while the HTLC is looked at.
        const { height } = failure as Extract<FailureMessage, { readonly height: number }>;
        expect(Math.abs(height - line.height)).toBeLessThanOrEqual(2);
      }
      // The hop before sent less, or later, than the onion asks for.
      const expiryHeight = line.height + 144;
      const early = await line.payFleet(
        amountMsat,
        { ...asked, outgoingCltvHeight: expiryHeight },
        { outgoingCltvHeight: expiryHeight + 1 },
      );
      expect(failureOf(early)).toEqual({
        kind: 'final_incorrect_cltv_expiry',
        cltvExpiryHeight: expiryHeight,
      });
      const little = await line.payFleet(amountMsat - 5n, asked, { amtToForwardMsat: amountMsat });
      expect(failureOf(little)).toEqual({
        kind: 'final_incorrect_htlc_amount',
        incomingHtlcMsat: amountMsat - 5n,
      });
      // A part of a set that never becomes whole.
      const part = await line.payFleet(amountMsat / 2n, { ...asked, totalMsat: amountMsat });
      expect(failureOf(part)).toEqual({ kind: 'mpp_timeout' });
      expect(await line.payFleet(amountMsat, asked)).toEqual({ type: 'fulfilled' });
      // Paid once: the same invoice is as unknown as any.
      expect(failureOf(await line.payFleet(amountMsat, asked)).kind).toBe(
        'incorrect_or_unknown_payment_details',
      );
    });
  });
});
