/** Parameters of a monitor, with keys that are only bytes; for tests. */
import type { MonitorParameters, MonitorParty } from '@fulmen/monitor';

const key = (n: number): Uint8Array => Uint8Array.from([2, ...new Uint8Array(32).fill(n)]);

function party(n: number): MonitorParty {
  return {
    fundingPubkey: key(n),
    revocationBasepoint: key(n + 1),
    paymentBasepoint: key(n + 2),
    delayedPaymentBasepoint: key(n + 3),
    htlcBasepoint: key(n + 4),
    dustLimitSat: 354n,
    selfDelayBlocks: 144,
  };
}

export const TEST_PARAMETERS: MonitorParameters = {
  channelId: new Uint8Array(32).fill(0xc1),
  channelKeysId: new Uint8Array(32).fill(0xc2),
  commitmentFormat: 'anchors',
  funder: 'holder',
  holder: party(10),
  counterparty: party(20),
  fundings: [
    {
      fundingTxid: new Uint8Array(32).fill(0xc3),
      fundingOutputIndex: 0,
      fundingValueSat: 10_000_000n,
      holderFundingPubkey: key(10),
      counterpartyFundingPubkey: key(20),
    },
  ],
};
