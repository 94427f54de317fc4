/** Commitments of any content: the arithmetic agrees with the transaction, both parties build the same one, and every output can be spent in every way it should. */
import { txWeight, withWitness } from '@fulmen/bitcoin';
import { InternalError, toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { derivePrivateKey } from '@fulmen/keys';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { buildCommitment, decodeCommitmentNumber, obscuringFactor, otherParty } from './build.ts';
import { buildClosingTransaction, assembleClosing, closingSpec, closingWeight } from './closing.ts';
import {
  anchorsSat,
  commitmentAmounts,
  commitmentFeeSat,
  countUntrimmed,
  dustExposureMsat,
  funderCommitmentCostSat,
  htlcTransactionFeeSat,
  isTrimmed,
  maxAffordableFeerateSatPerKw,
  maxCommitmentFeeSat,
} from './fees.ts';
import { commitmentFormat } from './format.ts';
import { fundingScriptPubKey } from './scripts/funding.ts';
import {
  assembleCommitment,
  htlcTransactionWitness,
  signCommitment,
  verifyCommitmentSignatures,
} from './sign.ts';
import { runInput } from './testing/interpreter.ts';
import type { CommitmentOwner } from './types.ts';
import { secret, SECRETS, cases, mirrored, waysOf, runWay } from './testing/cases.ts';

describe('a commitment of any content', () => {
  test('pays what the arithmetic says, and is the same seen from the other side', () => {
    fc.assert(
      fc.property(cases, ({ inputs }) => {
        const { parameters, owner, spec, funding } = inputs;
        const format = parameters.commitmentFormat;
        const built = buildCommitment(secp, inputs);
        const other = buildCommitment(secp, mirrored(inputs));
        expect(toHex(other.sighash)).toBe(toHex(built.sighash));
        expect(other.htlcTransactions.map((htlc) => toHex(htlc.counterpartySighash))).toEqual(
          built.htlcTransactions.map((htlc) => toHex(htlc.counterpartySighash)),
        );

        const dustLimitSat = parameters[owner].dustLimitSat;
        const on = {
          owner,
          htlcs: spec.htlcs,
          ownerDustLimitSat: dustLimitSat,
          feerateSatPerKw: spec.feerateSatPerKw,
        };
        const outputsSat = built.transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n);
        expect(built.feeSat).toBe(funding.fundingValueSat - outputsSat);
        expect(built.feeSat).toBe(commitmentAmounts(inputs).feeSat);
        expect(built.htlcTransactions.length).toBe(countUntrimmed(format, on));
        const onChainMsat = built.htlcTransactions.reduce((sum, { htlc }) => sum + htlc.amountMsat, 0n);
        expect(dustExposureMsat(format, on)).toBe(
          spec.htlcs.reduce((sum, { amountMsat }) => sum + amountMsat, 0n) - onChainMsat,
        );

        // Each side's balance, computed here the long way.
        const baseFee = commitmentFeeSat(format, spec.feerateSatPerKw, built.htlcTransactions.length);
        for (const party of ['holder', 'counterparty'] as const) {
          const balanceSat = (party === 'holder' ? spec.toHolderMsat : spec.toCounterpartyMsat) / 1000n;
          const costSat = parameters.funder === party ? baseFee + anchorsSat(format) : 0n;
          const found = built.outputs.find(
            ({ type }) => type === (party === owner ? 'to_local' : 'to_remote'),
          );
          expect(found?.valueSat).toBe(
            balanceSat - costSat >= dustLimitSat ? balanceSat - costSat : undefined,
          );
          const anchor = built.outputs.find(({ type }) => type === `anchor_${party}`);
          expect(anchor?.valueSat).toBe(
            format === 'anchors' && (found !== undefined || built.htlcTransactions.length > 0)
              ? 330n
              : undefined,
          );
        }
        for (const { valueSat, type } of built.outputs)
          if (!type.startsWith('anchor')) expect(valueSat >= dustLimitSat).toBe(true);
        for (const { kind, transaction, amountSat } of built.htlcTransactions) {
          const feeSat = htlcTransactionFeeSat(
            format,
            kind === 'timeout' ? 'offered' : 'received',
            spec.feerateSatPerKw,
          );
          expect(transaction.outputs[0]?.valueSat).toBe(amountSat - feeSat);
          expect(amountSat - feeSat >= dustLimitSat).toBe(true);
        }
        expect(decodeCommitmentNumber(built.transaction, obscuringFactor(parameters))).toBe(
          spec.commitmentNumber,
        );

        // The order of the spec's HTLCs is of no consequence.
        const reversed = buildCommitment(secp, {
          ...inputs,
          spec: { ...spec, htlcs: spec.htlcs.toReversed() },
        });
        expect(reversed.htlcTransactions.map(({ htlc }) => htlc.id)).toEqual(
          built.htlcTransactions.map(({ htlc }) => htlc.id),
        );
        expect(toHex(reversed.txid)).toBe(toHex(built.txid));
      }),
      { numRuns: 150 },
    );
  });

  test('is signed, verified, and spent in every way under an independent interpreter', () => {
    fc.assert(
      fc.property(cases, ({ inputs, preimages }) => {
        const { owner, funding, parameters, perCommitmentPoint } = inputs;
        const built = buildCommitment(secp, inputs);
        const own = SECRETS[owner];
        const other = SECRETS[otherParty(owner)];
        const signatures = signCommitment(secp, built, {
          fundingSecret: other.funding,
          htlcSecret: derivePrivateKey(secp, other.htlc, perCommitmentPoint),
        });
        expect(verifyCommitmentSignatures(secp, built, signatures)).toEqual({ ok: true, value: undefined });
        const ownSignature = secp.sign(built.sighash, own.funding);
        const signed = assembleCommitment(
          built,
          funding,
          owner === 'holder'
            ? { holderSignature: ownSignature, counterpartySignature: signatures.signature }
            : { holderSignature: signatures.signature, counterpartySignature: ownSignature },
        );
        const fundingOutput = {
          valueSat: funding.fundingValueSat,
          scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
        };
        if (built.outputs.length > 0) expect(runInput(signed, 0, fundingOutput)).toBe('ok');
        const format = commitmentFormat(parameters.commitmentFormat);
        expect(txWeight(signed)).toBeLessThanOrEqual(
          format.commitmentBaseWeight + format.htlcOutputWeight * built.htlcTransactions.length,
        );

        for (const output of built.outputs) {
          for (const way of waysOf(inputs, built, output, preimages))
            expect(`${way.name}: ${runWay(built.txid, output, way)}`).toBe(`${way.name}: ok`);
          // The same paths do not open to another's key.
          const [first] = waysOf(inputs, built, output, preimages);
          if (first !== undefined)
            expect(runWay(built.txid, output, { ...first, secret: secret('a thief') })).not.toBe('ok');
        }
        for (const [index, htlcTransaction] of built.htlcTransactions.entries()) {
          const counterpartySignature = signatures.htlcSignatures[index] ?? new Uint8Array(64);
          const preimage = preimages.get(toHex(htlcTransaction.htlc.paymentHash));
          const ownHtlc = secp.sign(
            htlcTransaction.ownSighash,
            derivePrivateKey(secp, own.htlc, perCommitmentPoint),
          );
          const witness = htlcTransactionWitness(
            htlcTransaction,
            { counterpartySignature, ownSignature: ownHtlc },
            htlcTransaction.kind === 'success' ? preimage : undefined,
          );
          const complete = withWitness(htlcTransaction.transaction, 0, witness);
          const spent = built.outputs[htlcTransaction.outputIndex];
          if (spent === undefined) throw new InternalError('no such output');
          expect(runInput(complete, 0, spent)).toBe('ok');
          expect(txWeight(complete)).toBeLessThanOrEqual(
            htlcTransaction.kind === 'timeout' ? format.htlcTimeoutWeight : format.htlcSuccessWeight,
          );
        }
      }),
      { numRuns: 8 },
    );
  }, 60_000);

  test('a damaged, missing or high-S signature is refused', () => {
    const [sample] = fc.sample(
      cases.filter(
        ({ inputs }) =>
          countUntrimmed(inputs.parameters.commitmentFormat, {
            owner: inputs.owner,
            htlcs: inputs.spec.htlcs,
            ownerDustLimitSat: inputs.parameters[inputs.owner].dustLimitSat,
            feerateSatPerKw: inputs.spec.feerateSatPerKw,
          }) > 0,
      ),
      { numRuns: 1, seed: 7 },
    );
    if (sample === undefined) throw new InternalError('no sample');
    const built = buildCommitment(secp, sample.inputs);
    const other = SECRETS[otherParty(sample.inputs.owner)];
    const good = signCommitment(secp, built, {
      fundingSecret: other.funding,
      htlcSecret: derivePrivateKey(secp, other.htlc, sample.inputs.perCommitmentPoint),
    });
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const highS = (signature: Uint8Array): Uint8Array => {
      const s = BigInt(`0x${toHex(signature.slice(32))}`);
      return Uint8Array.from([
        ...signature.slice(0, 32),
        ...Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex'),
      ]);
    };
    const [first = new Uint8Array(64), ...rest] = good.htlcSignatures;
    expect(verifyCommitmentSignatures(secp, built, { ...good, signature: highS(good.signature) })).toEqual({
      ok: false,
      error: { type: 'invalid_commitment_signature' },
    });
    expect(verifyCommitmentSignatures(secp, built, { ...good, signature: new Uint8Array(64) })).toEqual({
      ok: false,
      error: { type: 'invalid_commitment_signature' },
    });
    expect(
      verifyCommitmentSignatures(secp, built, { ...good, htlcSignatures: [highS(first), ...rest] }),
    ).toEqual({ ok: false, error: { type: 'invalid_htlc_signature', index: 0 } });
    const expected = good.htlcSignatures.length;
    expect(verifyCommitmentSignatures(secp, built, { ...good, htlcSignatures: rest })).toEqual({
      ok: false,
      error: { type: 'wrong_htlc_signature_count', expected, actual: expected - 1 },
    });
    expect(
      verifyCommitmentSignatures(secp, built, { ...good, htlcSignatures: [...good.htlcSignatures, first] }),
    ).toMatchObject({ ok: false, error: { type: 'wrong_htlc_signature_count' } });
  });

  test('contents that do not add up to the funding are refused', () => {
    fc.assert(
      fc.property(cases, ({ inputs }) => {
        const spec = { ...inputs.spec, toHolderMsat: inputs.spec.toHolderMsat + 1n };
        expect(() => buildCommitment(secp, { ...inputs, spec })).toThrow('msat on a funding of');
      }),
      { numRuns: 10 },
    );
  });
});

describe('arithmetic', () => {
  test("BOLT 3's example", () => {
    const htlcs = [
      { direction: 'outbound', amountMsat: 5_000_000n },
      { direction: 'outbound', amountMsat: 1_000_000n },
      { direction: 'inbound', amountMsat: 7_000_000n },
      { direction: 'inbound', amountMsat: 800_000n },
    ] as const;
    const on = { owner: 'holder', htlcs, ownerDustLimitSat: 546n, feerateSatPerKw: 5000 } as const;
    expect(htlcTransactionFeeSat('static_remotekey', 'offered', 5000)).toBe(3315n);
    expect(htlcTransactionFeeSat('static_remotekey', 'received', 5000)).toBe(3515n);
    expect(countUntrimmed('static_remotekey', on)).toBe(2);
    expect(commitmentFeeSat('static_remotekey', 5000, 2)).toBe(5340n);
    expect(dustExposureMsat('static_remotekey', on)).toBe(1_800_000n);
  });

  test.each([
    // Below the limit trims, equal keeps, fractions of a satoshi do not count.
    ['anchors', { offered: true, amountMsat: 545_999n, dustLimitSat: 546n, feerateSatPerKw: 10_000 }, true],
    ['anchors', { offered: true, amountMsat: 546_000n, dustLimitSat: 546n, feerateSatPerKw: 10_000 }, false],
    [
      'static_remotekey',
      { offered: true, amountMsat: 3_860_999n, dustLimitSat: 546n, feerateSatPerKw: 5000 },
      true,
    ],
    [
      'static_remotekey',
      { offered: true, amountMsat: 3_861_000n, dustLimitSat: 546n, feerateSatPerKw: 5000 },
      false,
    ],
    [
      'static_remotekey',
      { offered: false, amountMsat: 4_060_999n, dustLimitSat: 546n, feerateSatPerKw: 5000 },
      true,
    ],
    [
      'static_remotekey',
      { offered: false, amountMsat: 4_061_000n, dustLimitSat: 546n, feerateSatPerKw: 5000 },
      false,
    ],
  ] as const)('%s trims %o: %s', (format, htlc, trimmed) => {
    expect(isTrimmed(format, htlc)).toBe(trimmed);
  });

  test('the highest affordable feerate is affordable and the next is not', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('static_remotekey' as const, 'anchors' as const),
        fc.bigInt({ min: 660n, max: 10_000_000n }),
        fc.integer({ min: 0, max: 966 }),
        (format, sat, htlcs) => {
          const feerate = maxAffordableFeerateSatPerKw(format, sat, htlcs);
          expect(funderCommitmentCostSat(format, feerate, htlcs) <= sat).toBe(true);
          expect(funderCommitmentCostSat(format, feerate + 1, htlcs) > sat).toBe(true);
          expect(maxCommitmentFeeSat(format, feerate, htlcs)).toBe(commitmentFeeSat(format, feerate, htlcs));
        },
      ),
      { numRuns: 100 },
    );
    expect(maxAffordableFeerateSatPerKw('anchors', 659n, 0)).toBe(0);
  });
});

describe('a legacy close', () => {
  const p2wpkh = Uint8Array.from([0, 20, ...new Uint8Array(20).fill(7)]);
  const p2wsh = Uint8Array.from([0, 32, ...new Uint8Array(32).fill(8)]);
  const funding = {
    fundingTxid: secret('funding txid'),
    fundingOutputIndex: 3,
    fundingValueSat: 100_000n,
    holderFundingPubkey: secp.publicKeyOf(SECRETS.holder.funding),
    counterpartyFundingPubkey: secp.publicKeyOf(SECRETS.counterparty.funding),
  };

  test('pays both, the fee taken from the funder, and can be mined', () => {
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 100_000_000n }),
        fc.bigInt({ min: 0n, max: 5_000n }),
        fc.constantFrom<CommitmentOwner>('holder', 'counterparty'),
        (holderBalanceMsat, feeSat, funder) => {
          const closing = closingSpec({
            funder,
            holderBalanceMsat,
            counterpartyBalanceMsat: 100_000_000n - holderBalanceMsat,
            holderScript: p2wpkh,
            counterpartyScript: p2wsh,
            feeSat,
          });
          const built = buildClosingTransaction({ funding, closing, dustLimitSat: 354n });
          if (!built.ok) throw new InternalError(built.error.type);
          const { transaction, sighash, holderOutputIndex, counterpartyOutputIndex } = built.value;
          expect(transaction.inputs[0]?.sequence).toBe(0xffff_ffff);
          expect(transaction.locktime).toBe(0);
          expect(
            built.value.feeSat + transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0n),
          ).toBe(100_000n);
          expect(
            built.value.feeSat >= feeSat ||
              holderOutputIndex === undefined ||
              counterpartyOutputIndex === undefined,
          ).toBe(true);
          expect(holderOutputIndex === undefined).toBe(closing.toHolderSat < 354n);
          expect(counterpartyOutputIndex === undefined).toBe(closing.toCounterpartySat < 354n);
          if (holderOutputIndex !== undefined)
            expect(transaction.outputs[holderOutputIndex]).toEqual({
              valueSat: closing.toHolderSat,
              script: p2wpkh,
            });
          const signed = assembleClosing(built.value, funding, {
            holderSignature: secp.sign(sighash, SECRETS.holder.funding),
            counterpartySignature: secp.sign(sighash, SECRETS.counterparty.funding),
          });
          expect(
            runInput(signed, 0, {
              valueSat: 100_000n,
              scriptPubKey: fundingScriptPubKey(
                funding.holderFundingPubkey,
                funding.counterpartyFundingPubkey,
              ),
            }),
          ).toBe('ok');
          const weight = closingWeight(transaction.outputs.map(({ script }) => script));
          expect(txWeight(signed)).toBeLessThanOrEqual(weight);
          expect(txWeight(signed)).toBeGreaterThanOrEqual(weight - 8);
        },
      ),
      { numRuns: 20 },
    );
  });

  test('leaves out dust by limit and by script, or what the counterparty chose to leave out', () => {
    const closing = {
      toHolderSat: 99_000n,
      toCounterpartySat: 300n,
      holderScript: p2wsh,
      counterpartyScript: p2wpkh,
      feeSat: 700n,
    };
    const outputs = (dustLimitSat: bigint, given = closing): number | string => {
      const built = buildClosingTransaction({ funding, closing: given, dustLimitSat });
      return built.ok ? built.value.transaction.outputs.length : built.error.type;
    };
    expect(outputs(354n)).toBe(1);
    expect(outputs(0n)).toBe(2);
    expect(outputs(0n, { ...closing, counterpartyScript: p2wsh })).toBe(1);
    expect(outputs(200_000n)).toBe('no_outputs');
    expect(outputs(0n, { ...closing, toHolderSat: 100_000n })).toBe('exceeds_funding');
    const only = buildClosingTransaction({
      funding,
      closing,
      dustLimitSat: 0n,
      outputs: 'counterparty_only',
    });
    expect(only.ok && only.value.transaction.outputs).toEqual([{ valueSat: 300n, script: p2wpkh }]);
    const both = buildClosingTransaction({ funding, closing, dustLimitSat: 354n, outputs: 'both' });
    expect(both.ok && both.value.transaction.outputs.length).toBe(2);
  });
});
