/**
 * Figures of settling at scale: the largest commitments, a channel with very
 * many revoked states, and very many open channels. `measureScale` says them:
 *
 *   measureScale(() => performance.now(), (line) => console.log(line), 1_000_000);
 */
import { txid as txidOf } from '@fulmen/bitcoin';
import { buildCommitment } from '@fulmen/channel/commitment/build';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { InternalError } from '@fulmen/codec';
import { commitmentPoint, commitmentSecret } from '@fulmen/keys';
import { applyUpdate, encodeMonitor, newMonitor, rebuildRevoked } from '@fulmen/monitor';
import type {
  ChannelMonitor,
  ChannelMonitorUpdateStep,
  CommitmentContent,
  MonitorHtlc,
  MonitorParameters,
  MonitorParty,
} from '@fulmen/monitor';
import { settle } from '../settle.ts';
import type { Settlement, SettlementFacts } from '../types.ts';

const MAX_HTLCS = 966;
const VALUE_SAT = 100_000_000n;
const SEED = { holder: new Uint8Array(32).fill(3), counterparty: new Uint8Array(32).fill(4) };

function pointOf(label: string): Uint8Array {
  return secp.publicKeyOf(sha256(new TextEncoder().encode(label)));
}

function partyOf(name: string): MonitorParty {
  const of = (what: string): Uint8Array => pointOf(`${name} ${what}`);
  return {
    fundingPubkey: of('funding'),
    revocationBasepoint: of('revocation'),
    paymentBasepoint: of('payment'),
    delayedPaymentBasepoint: of('delayed'),
    htlcBasepoint: of('htlc'),
    dustLimitSat: 354n,
    selfDelayBlocks: 144,
  };
}

/** Parameters of a channel of its own number. */
export function scaleParameters(channel: number): MonitorParameters {
  const holder = partyOf('holder');
  const counterparty = partyOf('counterparty');
  const fundingTxid = sha256(new TextEncoder().encode(`funding ${channel}`));
  return {
    channelId: fundingTxid,
    channelKeysId: fundingTxid,
    commitmentFormat: 'anchors',
    funder: 'holder',
    holder,
    counterparty,
    fundings: [
      {
        fundingTxid,
        fundingOutputIndex: 0,
        fundingValueSat: VALUE_SAT,
        holderFundingPubkey: holder.fundingPubkey,
        counterpartyFundingPubkey: counterparty.fundingPubkey,
      },
    ],
  };
}

/** A monitor that is fed updates; its balances follow from the HTLCs. */
export class ScaleChannel {
  readonly parameters: MonitorParameters;
  monitor: ChannelMonitor;
  #htlcs: readonly MonitorHtlc[] = [];
  #declared = new Set<MonitorHtlc>();
  #nextId = 0n;
  #counterpartyNumber = 0n;
  #holderNumber = 0n;

  constructor(channel: number) {
    this.parameters = scaleParameters(channel);
    this.monitor = newMonitor(this.parameters);
    this.#apply(this.#counterparty(), this.#holder());
  }

  #apply(...steps: readonly ChannelMonitorUpdateStep[]): void {
    const { channelId } = this.parameters;
    const applied = applyUpdate(this.monitor, { channelId, updateId: this.monitor.updateId + 1n, steps });
    if (!applied.ok) throw new InternalError(applied.error.type);
    this.monitor = applied.value.monitor;
  }

  #content(commitmentNumber: bigint): CommitmentContent {
    let toHolderMsat = 500n * VALUE_SAT;
    let toCounterpartyMsat = 500n * VALUE_SAT;
    for (const { direction, amountMsat } of this.#htlcs) {
      if (direction === 'outbound') toHolderMsat -= amountMsat;
      else toCounterpartyMsat -= amountMsat;
    }
    const htlcs = this.#htlcs.map(({ direction, id }) => ({ direction, id }));
    return { commitmentNumber, feerateSatPerKw: 253, toHolderMsat, toCounterpartyMsat, htlcs };
  }

  #declare(): MonitorHtlc[] {
    const fresh = this.#htlcs.filter((htlc) => !this.#declared.has(htlc));
    this.#declared = new Set(this.#htlcs);
    return fresh;
  }

  #counterparty(): ChannelMonitorUpdateStep {
    const number = this.#counterpartyNumber++;
    return {
      type: 'latest_counterparty_commitment',
      content: this.#content(number),
      newHtlcs: this.#declare(),
      // Points are looked at when a commitment confirms, not before.
      perCommitmentPoint:
        number > 4n ? pointOf('holder htlc') : commitmentPoint(secp, SEED.counterparty, number),
    };
  }

  #holder(): ChannelMonitorUpdateStep {
    const number = this.#holderNumber++;
    return {
      type: 'latest_holder_commitment',
      content: this.#content(number),
      newHtlcs: this.#declare(),
      signatures: this.parameters.fundings.map(({ fundingTxid }) => ({
        fundingTxid,
        signature: new Uint8Array(64).fill(1),
        htlcSignatures: this.#htlcs.map(() => new Uint8Array(64).fill(1)),
      })),
      perCommitmentPoint: number > 4n ? pointOf('holder htlc') : commitmentPoint(secp, SEED.holder, number),
    };
  }

  setHtlcs(htlcs: readonly Omit<MonitorHtlc, 'id'>[]): void {
    this.#htlcs = htlcs.map((htlc) => ({ ...htlc, id: this.#nextId++ }));
  }

  /** Both sides move on by one commitment; the counterparty revokes. */
  advance(): void {
    const revoked = this.#counterpartyNumber - 1n;
    this.#apply(this.#counterparty());
    this.#apply({
      type: 'commitment_secret',
      commitmentNumber: revoked,
      secret: commitmentSecret(SEED.counterparty, revoked),
    });
    this.#apply(this.#holder());
  }

  /** Facts of a chain in which a commitment confirmed at height 100. */
  closedBy(
    owner: 'holder' | 'counterparty' | 'revoked',
    bestHeight = 100,
    revokedNumber = 0n,
  ): SettlementFacts {
    const { monitor } = this;
    const revoked = owner === 'revoked' ? rebuildRevoked(monitor, revokedNumber) : undefined;
    const current =
      owner === 'holder'
        ? monitor.holderCommitment
        : owner === 'counterparty'
          ? monitor.counterpartyCommitment
          : undefined;
    const [funding] = this.parameters.fundings;
    const content = revoked?.content ?? current?.content;
    const perCommitmentPoint =
      revoked === undefined ? current?.perCommitmentPoint : secp.publicKeyOf(revoked.secret);
    if (funding === undefined || content === undefined || perCommitmentPoint === undefined)
      throw new InternalError('no such commitment');
    const htlcs = revoked?.htlcs ?? this.#htlcs;
    const { transaction } = buildCommitment(secp, {
      parameters: commitmentParametersOfMonitor(this.parameters),
      funding,
      owner: owner === 'holder' ? 'holder' : 'counterparty',
      spec: { ...content, htlcs },
      perCommitmentPoint,
    });
    const spend = { tx: transaction, txid: txidOf(transaction), height: 100 };
    return { confirmed: [spend], unconfirmed: [], bestHeight, preimages: new Map() };
  }
}

/** A channel whose current commitments, and the revoked one of number 1, have as many HTLCs as BOLT 2 allows. */
export function fullChannel(channel = 0): ScaleChannel {
  const full = new ScaleChannel(channel);
  const htlcs = Array.from({ length: MAX_HTLCS }, (_, index) => ({
    direction: index % 2 === 0 ? ('outbound' as const) : ('inbound' as const),
    amountMsat: 5_000_000n + BigInt(index) * 1000n,
    paymentHash: sha256(Uint8Array.of(index & 255, index >> 8)),
    cltvExpiryHeight: 500 + index,
  }));
  full.setHtlcs(htlcs);
  full.advance();
  full.advance();
  return full;
}

/** A channel that routed a payment for every two states, until it has this many revoked ones. */
export function longChannel(states: number): ScaleChannel {
  const long = new ScaleChannel(1);
  for (let state = 0; state < states; state += 2) {
    long.setHtlcs([
      {
        direction: state % 4 === 0 ? 'outbound' : 'inbound',
        amountMsat: BigInt(1_000_000 + ((state * 7919) % 50_000_000)),
        paymentHash: sha256(new TextEncoder().encode(`${state}`)),
        cltvExpiryHeight: 800_000 + state,
      },
    ]);
    long.advance();
    long.setHtlcs([]);
    long.advance();
  }
  return long;
}

/** Milliseconds that one call takes: the median of several. */
export function medianMs(nowMs: () => number, runs: number, run: () => unknown): number {
  const took: number[] = [];
  for (let i = 0; i < runs; i++) {
    const from = nowMs();
    run();
    took.push(nowMs() - from);
  }
  return took.sort((a, b) => a - b)[Math.floor(runs / 2)] ?? 0;
}

/** Runs everything and says the figures, one a line. */
export function measureScale(nowMs: () => number, print: (line: string) => void, states: number): void {
  const settled = (facts: SettlementFacts, { monitor }: ScaleChannel): Settlement =>
    settle({ secp }, monitor, facts);
  const full = fullChannel();
  for (const owner of ['holder', 'counterparty', 'revoked'] as const) {
    const facts = full.closedBy(owner, 100, 1n);
    const { outputs, close } = settled(facts, full);
    const ms = medianMs(nowMs, 15, () => settled(facts, full));
    print(`settle, ${close?.type} commitment with ${outputs.length} outputs: ${ms.toFixed(1)} ms`);
  }

  const channels = Array.from({ length: 10_000 }, (_, index) => new ScaleChannel(index));
  const open: SettlementFacts = { confirmed: [], unconfirmed: [], bestHeight: 100, preimages: new Map() };
  const openMs = medianMs(nowMs, 5, () => {
    for (const channel of channels) settled(open, channel);
  });
  print(`settle, 10,000 open channels: ${openMs.toFixed(1)} ms`);

  const from = nowMs();
  const long = longChannel(states);
  print(`${states} revoked states applied in ${((nowMs() - from) / 1000).toFixed(1)} s`);
  print(`snapshot: ${(encodeMonitor(long.monitor).length / states).toFixed(1)} bytes a state`);
  for (const number of [1, Math.floor(states / 2) - 1, states - 1]) {
    const facts = long.closedBy('revoked', 100, BigInt(number));
    const ms = medianMs(nowMs, 5, () => settled(facts, long));
    print(`settle, breach with state ${number} of ${states}: ${ms.toFixed(1)} ms`);
  }
}
