/** What a monitor holds, in the terms of the builder: whoever settles a channel on-chain rebuilds its commitments with these. */
import type { MonitorParameters, MonitorParty } from '@fulmen/monitor';
import type { CommitmentParameters, CommitmentPartyParameters } from './types.ts';

function partyOf(party: MonitorParty, other: MonitorParty): CommitmentPartyParameters {
  return {
    revocationBasepoint: party.revocationBasepoint,
    paymentBasepoint: party.paymentBasepoint,
    delayedPaymentBasepoint: party.delayedPaymentBasepoint,
    htlcBasepoint: party.htlcBasepoint,
    dustLimitSat: party.dustLimitSat,
    // A monitor names the delay by who waits, a channel by who asked for it.
    toSelfDelayBlocks: other.selfDelayBlocks,
  };
}

/** The builder's parameters of a monitored channel; its MonitorFunding is a FundingScope as it is. */
export function commitmentParametersOfMonitor(monitor: MonitorParameters): CommitmentParameters {
  return {
    funder: monitor.funder,
    commitmentFormat: monitor.commitmentFormat,
    holder: partyOf(monitor.holder, monitor.counterparty),
    counterparty: partyOf(monitor.counterparty, monitor.holder),
  };
}
