/**
 * What a commitment must satisfy, whoever owns it. It is well formed, or it is no commitment of this channel. Beyond that
 * its fee is sane, and its HTLCs keep to what both sides agreed at the opening: reasons not to go on with a channel, and
 * never reasons not to close it with what the counterparty has signed.
 */
import { dustExposureMsat, paysForRelay } from '@fulmen/channel/commitment/fees';
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import type { CommitmentHtlc, CommitmentSpec } from '@fulmen/channel/commitment-spec';
import { CLTV_EXPIRY_LIMIT, MAX_ACCEPTED_HTLCS_LIMIT } from '@fulmen/channel/config';
import { ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import { refuse } from './refuse.ts';
import type { ChannelRegistration, CommitmentRecord, PolicyLimits, Refusal } from './types.ts';

/** Checks that it adds up, and that each HTLC is one. */
export function checkForm(registration: ChannelRegistration, spec: CommitmentSpec): Result<void, Refusal> {
  let totalMsat = spec.toHolderMsat + spec.toCounterpartyMsat;
  const seen = new Set<string>();
  for (const htlc of spec.htlcs) {
    totalMsat += htlc.amountMsat;
    const identity = `${htlc.direction} ${htlc.id}`;
    if (seen.has(identity)) return refuse('policy-commitment-htlc-identity', `${identity} is there twice`);
    seen.add(identity);
    if (htlc.amountMsat === 0n) return refuse('policy-commitment-value', `${identity} of nothing`);
    // An expiry in the past is an expiry: the counterparty may offer any (BOLT 2 refuses times alone).
    if (htlc.cltvExpiryHeight >= CLTV_EXPIRY_LIMIT)
      return refuse('policy-commitment-htlc-cltv-range', `${identity} expires at ${htlc.cltvExpiryHeight}`);
  }
  if (totalMsat !== 1000n * registration.funding.fundingValueSat) {
    return refuse(
      'policy-commitment-value',
      `${totalMsat} msat on a funding of ${registration.funding.fundingValueSat} sat`,
    );
  }
  return ok(undefined);
}

/** Checks a commitment with which the channel is to go on: about to be validated (holder's) or signed (counterparty's). `previous`: of the same owner. */
export function checkSpec(
  registration: ChannelRegistration,
  owner: CommitmentOwner,
  spec: CommitmentSpec,
  previous: CommitmentRecord | undefined,
  limits: PolicyLimits,
): Result<void, Refusal> {
  if (
    spec.feerateSatPerKw < limits.minimumFeerateSatPerKw ||
    spec.feerateSatPerKw > limits.maximumFeerateSatPerKw
  ) {
    return refuse('policy-commitment-fee-range', `feerate ${spec.feerateSatPerKw} sat/kw`);
  }
  const form = checkForm(registration, spec);
  if (!form.ok) return form;
  const htlcs = checkHtlcs(registration, owner, spec.htlcs);
  if (!htlcs.ok) return htlcs;
  const exposureMsat = dustExposureMsat(registration.commitmentFormat, {
    owner,
    // BOLT 2 has the receiver fail what is too much of the counterparty's dust, once it is committed: it must be taken first.
    htlcs: spec.htlcs.filter(({ direction }) => direction === 'outbound'),
    ownerDustLimitSat: registration[owner].dustLimitSat,
    feerateSatPerKw: spec.feerateSatPerKw,
  });
  if (exposureMsat > 1000n * limits.maximumDustExposureSat) {
    return refuse('policy-commitment-dust-exposure', `${exposureMsat} msat in trimmed HTLCs of the holder`);
  }
  const reserve = checkReserve(registration, owner, spec, previous);
  if (!reserve.ok) return reserve;
  // The funder may not have what the feerate asks for. To the holder a commitment that is not relayed is none.
  return owner === 'holder' && !paysForRelay({ parameters: registration, owner, spec })
    ? refuse('policy-commitment-fee-range', 'its funder cannot pay a fee that is relayed')
    : ok(undefined);
}

function checkHtlcs(
  registration: ChannelRegistration,
  owner: CommitmentOwner,
  htlcs: readonly CommitmentHtlc[],
): Result<void, Refusal> {
  const count = { inbound: 0, outbound: 0 };
  const inFlightMsat = { inbound: 0n, outbound: 0n };
  for (const htlc of htlcs) {
    count[htlc.direction] += 1;
    inFlightMsat[htlc.direction] += htlc.amountMsat;
  }
  // Each side's limits speak of its own commitment (BOLT 2, max_accepted_htlcs and
  // max_htlc_value_in_flight_msat); on the other's the same HTLCs may come and go a step later.
  const offeredToOwner = owner === 'holder' ? 'inbound' : 'outbound';
  const { maxAcceptedHtlcs, maxHtlcValueInFlightMsat } = registration[owner];
  if (
    count[offeredToOwner] > maxAcceptedHtlcs ||
    Math.max(count.inbound, count.outbound) > MAX_ACCEPTED_HTLCS_LIMIT
  ) {
    return refuse(
      'policy-commitment-htlc-count',
      `${count.inbound} inbound and ${count.outbound} outbound HTLCs`,
    );
  }
  if (inFlightMsat[offeredToOwner] > maxHtlcValueInFlightMsat) {
    return refuse(
      'policy-commitment-htlc-in-flight',
      `${inFlightMsat[offeredToOwner]} msat ${offeredToOwner} in flight`,
    );
  }
  return ok(undefined);
}

/**
 * A party that offers HTLCs keeps its reserve. Balances are compared before
 * fees: those may dip into the reserve when both sides add at the same time
 * (BOLT 2), and a party that never had its reserve may still receive.
 */
function checkReserve(
  registration: ChannelRegistration,
  owner: CommitmentOwner,
  spec: CommitmentSpec,
  previous: CommitmentRecord | undefined,
): Result<void, Refusal> {
  if (previous === undefined) return ok(undefined);
  const balances =
    owner === 'holder'
      ? {
          nowMsat: spec.toCounterpartyMsat,
          beforeMsat: previous.toCounterpartyMsat,
          reserveSat: registration.holder.channelReserveSat,
        }
      : {
          nowMsat: spec.toHolderMsat,
          beforeMsat: previous.toHolderMsat,
          reserveSat: registration.counterparty.channelReserveSat,
        };
  if (balances.nowMsat < balances.beforeMsat && balances.nowMsat < 1000n * balances.reserveSat) {
    return refuse(
      'policy-commitment-reserve',
      `${balances.nowMsat} msat left of a reserve of ${balances.reserveSat} sat`,
    );
  }
  return ok(undefined);
}
