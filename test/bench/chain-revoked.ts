/** A channel with very many states: what each costs, and how long a breach of any of them takes to answer. */
import { buildCommitment } from '@fulmen/channel/commitment/build';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { txid } from '@fulmen/bitcoin';
import { InternalError, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { commitmentPoint, commitmentSecret } from '@fulmen/keys';
import {
  type ChannelMonitor,
  type ChannelMonitorUpdateStep,
  type MonitorHtlc,
  type MonitorParameters,
  type MonitorParty,
  applyUpdate,
  decodeMonitor,
  encodeMonitor,
  newMonitor,
  rebuildRevoked,
} from '@fulmen/monitor';
import { settle } from '@fulmen/settlement';

const SEED = sha256(utf8Encode('bench counterparty'));
const FUNDING_SAT = 10_000_000n;
const HTLC_MSAT = 250_000_123n;
/** Breaches measured, spread over all states. */
const BREACHES = 20;

function party(name: string): MonitorParty {
  const key = (label: string): Uint8Array => secp256k1.publicKeyOf(sha256(utf8Encode(`${name} ${label}`)));
  return {
    fundingPubkey: key('funding'),
    revocationBasepoint: key('revocation'),
    paymentBasepoint: key('payment'),
    delayedPaymentBasepoint: key('delayed'),
    htlcBasepoint: key('htlc'),
    dustLimitSat: 354n,
    selfDelayBlocks: 144,
  };
}

/** Parameters with real keys; `n` makes the channel unlike any other's. */
export function monitorParameters(n: number): MonitorParameters {
  const fundingTxid = sha256(utf8Encode(`bench funding ${n}`));
  const [holder, counterparty] = [HOLDER, COUNTERPARTY];
  return {
    channelId: fundingTxid,
    channelKeysId: sha256(utf8Encode(`bench keys ${n}`)),
    commitmentFormat: 'anchors',
    funder: 'holder',
    holder,
    counterparty,
    fundings: [
      {
        fundingTxid,
        fundingOutputIndex: 0,
        fundingValueSat: FUNDING_SAT,
        holderFundingPubkey: holder.fundingPubkey,
        counterpartyFundingPubkey: counterparty.fundingPubkey,
      },
    ],
  };
}

const HOLDER = party('holder');
const COUNTERPARTY = party('counterparty');

/** A monitor after the first commitments of both sides. */
export function openMonitor(parameters: MonitorParameters): ChannelMonitor {
  const content = {
    commitmentNumber: 0n,
    feerateSatPerKw: 1_000,
    toHolderMsat: (FUNDING_SAT * 1000n) / 2n,
    toCounterpartyMsat: (FUNDING_SAT * 1000n) / 2n,
    htlcs: [],
  };
  const signatures = parameters.fundings.map(({ fundingTxid }) => ({
    fundingTxid,
    signature: new Uint8Array(64).fill(1),
    htlcSignatures: [],
  }));
  return apply(newMonitor(parameters), [
    {
      type: 'latest_counterparty_commitment',
      content,
      newHtlcs: [],
      perCommitmentPoint: commitmentPoint(secp256k1, SEED, 0n),
    },
    { type: 'latest_holder_commitment', content, newHtlcs: [], signatures },
  ]);
}

function apply(monitor: ChannelMonitor, steps: readonly ChannelMonitorUpdateStep[]): ChannelMonitor {
  const { channelId } = monitor.parameters;
  const applied = applyUpdate(monitor, { channelId, updateId: monitor.updateId + 1n, steps });
  if (!applied.ok) throw new InternalError(`the update does not fit: ${applied.error.type}`);
  return applied.value.monitor;
}

/** Payments in either direction by turns: one state with the HTLC, the next without it. */
function grow(states: number): ChannelMonitor {
  let monitor = openMonitor(monitorParameters(0));
  let toHolderMsat = (FUNDING_SAT * 1000n) / 2n;
  let toCounterpartyMsat = toHolderMsat;
  let htlcs: readonly MonitorHtlc[] = [];
  const point = commitmentPoint(secp256k1, SEED, 1n);
  const ids = { inbound: 0n, outbound: 0n };
  for (let number = 1; number <= states; number++) {
    const [done] = htlcs;
    if (done === undefined) {
      const direction = number % 4 === 1 ? 'outbound' : 'inbound';
      const id = ids[direction]++;
      const paymentHash = sha256(utf8Encode(`${direction} ${id}`));
      htlcs = [
        { direction, id, amountMsat: HTLC_MSAT, paymentHash, cltvExpiryHeight: 800_000 + number / 100 },
      ];
      htlcs = htlcs.map((htlc) => ({ ...htlc, cltvExpiryHeight: Math.floor(htlc.cltvExpiryHeight) }));
      if (direction === 'outbound') toHolderMsat -= HTLC_MSAT;
      else toCounterpartyMsat -= HTLC_MSAT;
    } else {
      if (done.direction === 'outbound') toCounterpartyMsat += HTLC_MSAT;
      else toHolderMsat += HTLC_MSAT;
      htlcs = [];
    }
    monitor = apply(monitor, [
      {
        type: 'latest_counterparty_commitment',
        content: {
          commitmentNumber: BigInt(number),
          feerateSatPerKw: 1_000,
          toHolderMsat,
          toCounterpartyMsat,
          htlcs: htlcs.map(({ direction, id }) => ({ direction, id })),
        },
        newHtlcs: htlcs,
        perCommitmentPoint: point,
      },
    ]);
    const revoked = BigInt(number - 1);
    monitor = apply(monitor, [
      { type: 'commitment_secret', commitmentNumber: revoked, secret: commitmentSecret(SEED, revoked) },
    ]);
  }
  return monitor;
}

/** The breach of a state, as the chain shows it. */
function breachOf(monitor: ChannelMonitor, number: bigint) {
  const [funding] = monitor.parameters.fundings;
  const revoked = rebuildRevoked(monitor, number);
  if (funding === undefined || revoked === undefined) throw new InternalError('not revoked');
  const { transaction } = buildCommitment(secp256k1, {
    parameters: commitmentParametersOfMonitor(monitor.parameters),
    funding,
    owner: 'counterparty',
    spec: { ...revoked.content, htlcs: revoked.htlcs },
    perCommitmentPoint: commitmentPoint(secp256k1, SEED, number),
  });
  return { tx: transaction, txid: txid(transaction), height: 900_000 };
}

export interface RevokedFigures {
  readonly states: number;
  readonly bytesPerState: number;
  readonly bytes: number;
  readonly decodeMs: number;
  /** Of settling breaches all over the channel's life: median and slowest. */
  readonly breachMs: { readonly median: number; readonly slowest: number };
  readonly claims: number;
}

export function measureRevoked(states: number): RevokedFigures {
  const grown = grow(states);
  const bytes = encodeMonitor(grown);
  const decodeStartMs = performance.now();
  const decoded = decodeMonitor(bytes);
  const decodeMs = performance.now() - decodeStartMs;
  if (!decoded.ok) throw decoded.error;
  const monitor = decoded.value;
  const times: number[] = [];
  let claims = 0;
  for (let i = 0; i < BREACHES; i++) {
    // Odd states have an HTLC.
    const number = BigInt(Math.floor((states / BREACHES) * i) | 1);
    const breach = breachOf(monitor, number);
    const startMs = performance.now();
    const settlement = settle({ secp: secp256k1 }, monitor, {
      confirmed: [breach],
      unconfirmed: [],
      bestHeight: breach.height,
      preimages: new Map(),
    });
    times.push(performance.now() - startMs);
    if (settlement.close?.type !== 'revoked')
      throw new InternalError(`a breach taken for ${settlement.close?.type}`);
    claims += settlement.outputs.filter(({ status }) => status.type === 'claimable').length;
  }
  times.sort((a, b) => a - b);
  return {
    states,
    bytes: bytes.length,
    bytesPerState: bytes.length / states,
    decodeMs,
    breachMs: { median: times[Math.floor(times.length / 2)] ?? 0, slowest: times.at(-1) ?? 0 },
    claims,
  };
}
