/**
 * The life of a channel up to its close: the HTLCs that a case asks for, the
 * states after them, and what each side holds. Built once for all cases that
 * differ only in what the chain does.
 */
import { preimageOf } from '@fulmen/channel/testing/pair';
import type { BuiltCommitment } from '@fulmen/channel/commitment/types';
import type { Tx } from '@fulmen/bitcoin';
import { InternalError } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import type { HtlcSource } from '@fulmen/store';
import { MemoryManagerState } from '@fulmen/store/manager/memory-state';
import type { Case, CommitmentKind, Feerate, HtlcSet, Knowledge } from './cases.ts';
import { Counterparty, type KeptCommitment } from './counterparty.ts';
import { OffChain } from './off-chain.ts';
import { type PolicySigner, fleetKeys } from './policy-signer.ts';
import { World, fundingFrom } from './world.ts';

/** Heights at which HTLCs expire; the channel closes at about 120. */
export const OUTBOUND_EXPIRY_HEIGHT = 170;
export const INBOUND_EXPIRY_HEIGHT = 220;
export const TO_SELF_DELAY_BLOCKS = 40;
/** Of the HTLC that only the newest commitments have. */
const EXTRA_SEED = 99;

/** One HTLC of the channel, seen from the fleet. */
export interface PlannedHtlc {
  readonly direction: 'inbound' | 'outbound';
  readonly id: bigint;
  readonly amountMsat: bigint;
  readonly seed: number;
  readonly cltvExpiryHeight: number;
  /** subject: what the case is about; carrier: shows its preimage; extra: only on the newest commitments. */
  readonly role: 'subject' | 'carrier' | 'extra';
  /** Of outbound ones: where they came from. */
  readonly source: HtlcSource | undefined;
  readonly endedOffChain: 'fulfilled' | 'failed' | undefined;
}

/** The one of identical HTLCs that the counterparty claims, when it shows its preimage late. */
const CLAIMED_TWIN = 1n;

/** Whether the counterparty ever shows the preimage of an HTLC that it was offered. */
export function showsPreimage(
  { htlcs, knowledge }: Pick<Case, 'htlcs' | 'knowledge'>,
  htlc: PlannedHtlc,
): boolean {
  if (htlc.role === 'extra' || knowledge === 'unknown') return false;
  return knowledge === 'known' || htlcs !== 'identical' || htlc.id === CLAIMED_TWIN;
}

export interface Scenario {
  readonly name: string;
  readonly channelId: Uint8Array;
  readonly fundingTx: Tx;
  readonly htlcs: readonly PlannedHtlc[];
  readonly signer: PolicySigner;
  readonly counterparty: Counterparty;
  /** The counterparty's commitment that confirms; undefined: the fleet's. */
  readonly kept: KeptCommitment | undefined;
  /** A commitment of the counterparty's that might have confirmed instead. */
  readonly alternative: KeptCommitment;
  /** The commitment that confirms, built from the counterparty's side. */
  readonly built: BuiltCommitment;
  /** The manager's tables while the channel is open, and after the fleet decided to close it. */
  readonly rows: () => MemoryManagerState;
  readonly closingRows: () => MemoryManagerState;
}

type Draft = Omit<PlannedHtlc, 'id' | 'endedOffChain' | 'source'> & { readonly from: 'elsewhere' | number };

const offered = (seed: number, amountSat: bigint, role: PlannedHtlc['role'], from: Draft['from']): Draft => ({
  direction: 'outbound',
  amountMsat: amountSat * 1000n,
  seed,
  cltvExpiryHeight: OUTBOUND_EXPIRY_HEIGHT,
  role,
  from,
});

const received = (seed: number, amountSat: bigint): Draft => ({
  direction: 'inbound',
  amountMsat: amountSat * 1000n,
  seed,
  cltvExpiryHeight: INBOUND_EXPIRY_HEIGHT,
  role: 'subject',
  from: 'elsewhere',
});

/** `from` of an offered HTLC: the index of the received one that it forwards. */
function draftsOf(htlcs: HtlcSet, knowledge: Knowledge): readonly Draft[] {
  const isLate = knowledge === 'late_block' || knowledge === 'late_mempool';
  switch (htlcs) {
    case 'offered':
      return [offered(1, 50_000n, 'subject', 'elsewhere')];
    case 'received':
      // What makes it known late is the other half of its forward, back to the same peer.
      return [received(1, 60_000n), ...(isLate ? [offered(1, 55_000n, 'carrier', 0)] : [])];
    case 'dust':
      return [
        received(2, 300n),
        offered(1, 300n, 'subject', 'elsewhere'),
        ...(isLate ? [offered(1, 50_000n, 'carrier', 'elsewhere')] : []),
      ];
    case 'tiny':
      return [received(2, 520n), offered(1, 510n, 'subject', 'elsewhere')];
    case 'identical':
      return [
        received(1, 45_000n),
        received(1, 45_000n),
        offered(1, 45_000n, 'subject', 0),
        offered(1, 45_000n, 'subject', 1),
        offered(1, 45_000n, 'subject', 'elsewhere'),
      ];
  }
}

/** Upstream of HTLCs that the fleet forwards from channels which do not matter here. */
export const ELSEWHERE = new Uint8Array(32).fill(0xe1);

const scenarios = new Map<string, Scenario>();

/** Feerate of the commitments: with anchors, spiking means that they alone enter no mempool. */
function commitmentFeerate(format: Case['format'], feerate: Feerate): number {
  return format === 'anchors' && feerate === 'spiking' ? 300 : 1_000;
}

export function scenarioOf(one: Case): Scenario {
  const { format, commitment, htlcs, knowledge } = one;
  const feerateSatPerKw = commitmentFeerate(format, one.feerate);
  const name = [format, commitment, htlcs, knowledge, feerateSatPerKw].join('/');
  const known = scenarios.get(name);
  if (known !== undefined) return known;
  const built = build(name, one, feerateSatPerKw);
  scenarios.set(name, built);
  return built;
}

const FUNDING_COIN = new World({ minRelayFeerateSatPerKvb: 1000 }).coinAt(1);

function build(
  name: string,
  { format, commitment, htlcs, knowledge }: Case,
  feerateSatPerKw: number,
): Scenario {
  const channel = new OffChain(secp256k1, fleetKeys(secp256k1), {
    name,
    format,
    funder: funderOf(name),
    fundingSat: 2_000_000n,
    pushSat: 900_000n,
    feerateSatPerKw,
    toSelfDelayBlocks: TO_SELF_DELAY_BLOCKS,
    dustLimitSat: { fleet: 354n, peer: 500n },
    fund: (script, valueSat) => fundingFrom(FUNDING_COIN, script, valueSat),
  });
  const counterparty = new Counterparty(channel.peer);
  const planned = addAll(channel, draftsOf(htlcs, knowledge));
  const life = new Life(channel, counterparty, planned);
  const before = counterparty.keep();
  const kept = life.live(commitment, knowledge);
  const last = counterparty.keep();
  const rows = snapshot(channel.fleet.manager);
  if (commitment === 'holder') channel.fleet.must({ type: 'force_close', reason: 'the test says so' });
  const { fundingTx } = channel;
  if (fundingTx === undefined) throw new InternalError('no funding');
  return {
    name,
    channelId: channel.channelId,
    fundingTx,
    htlcs: life.htlcs,
    signer: channel.fleet.signer,
    counterparty,
    kept,
    // Of two that are not revoked the one that does not confirm; the newest instead of a revoked one.
    alternative: kept === undefined || commitment === 'counterparty_next' ? before : last,
    built: kept?.built ?? counterparty.fleetCommitment(),
    rows,
    closingRows: snapshot(channel.fleet.manager),
  };
}

function funderOf(name: string): 'fleet' | 'peer' {
  return ((sha256(new TextEncoder().encode(name))[0] ?? 0) & 1) === 0 ? 'fleet' : 'peer';
}

function addAll(channel: OffChain, drafts: readonly Draft[]): PlannedHtlc[] {
  const planned: PlannedHtlc[] = [];
  const next = { inbound: 0n, outbound: 0n };
  for (const { from, ...draft } of drafts) {
    const id = next[draft.direction]++;
    const source = draft.direction === 'inbound' ? undefined : sourceOf(channel, from, id);
    add(channel, draft, source);
    planned.push({ ...draft, id, source, endedOffChain: undefined });
    channel.settle();
  }
  return planned;
}

function sourceOf(channel: OffChain, from: Draft['from'], id: bigint): HtlcSource {
  return from === 'elsewhere'
    ? { type: 'htlc', channelId: ELSEWHERE, htlcId: id }
    : { type: 'htlc', channelId: channel.channelId, htlcId: BigInt(from) };
}

function add(
  channel: OffChain,
  htlc: Pick<PlannedHtlc, 'direction' | 'amountMsat' | 'seed' | 'cltvExpiryHeight'>,
  source: HtlcSource | undefined,
): void {
  const body = {
    amountMsat: htlc.amountMsat,
    paymentHash: sha256(preimageOf(htlc.seed)),
    cltvExpiryHeight: htlc.cltvExpiryHeight,
  };
  if (source !== undefined) channel.fleet.forward(source, body);
  else channel.peer.must({ type: 'add_htlc', ...body, onionRoutingPacket: new Uint8Array(1366).fill(7) });
}

/** What happens between the HTLCs and the close. */
class Life {
  readonly #channel: OffChain;
  readonly #counterparty: Counterparty;
  htlcs: PlannedHtlc[];

  constructor(channel: OffChain, counterparty: Counterparty, htlcs: PlannedHtlc[]) {
    this.#channel = channel;
    this.#counterparty = counterparty;
    this.htlcs = htlcs;
  }

  /** Returns the commitment that the counterparty broadcasts. */
  live(commitment: CommitmentKind, knowledge: Knowledge): KeptCommitment | undefined {
    const before = this.#counterparty.keep();
    switch (commitment) {
      case 'holder':
      case 'counterparty':
      case 'counterparty_next': {
        // Of two commitments that the counterparty may broadcast, only the next has the extra HTLC; the fleet's has it not.
        if (knowledge === 'known') this.#learnOutbound();
        this.#addExtra();
        this.#channel.signWithoutAnswer();
        if (knowledge === 'known') this.#learnInbound();
        const next = this.#counterparty.keep();
        return commitment === 'holder' ? undefined : commitment === 'counterparty' ? before : next;
      }
      case 'revoked_1':
        this.#addExtra();
        this.#channel.settle();
        this.#age(before, 1n);
        if (knowledge === 'known') this.#learnOutbound();
        if (knowledge === 'known') this.#learnInbound();
        return before;
      case 'revoked_100':
        this.#endOffChain(knowledge);
        this.#age(before, 98n);
        this.#addExtra();
        this.#channel.settle();
        this.#age(before, 100n);
        return before;
    }
  }

  #addExtra(): void {
    const htlc = {
      direction: 'outbound',
      amountMsat: 40_000_000n,
      seed: EXTRA_SEED,
      cltvExpiryHeight: OUTBOUND_EXPIRY_HEIGHT + 5,
    } as const;
    const id = this.#channel.fleet.channel.changes.nextOutboundHtlcId;
    const source: HtlcSource = { type: 'htlc', channelId: ELSEWHERE, htlcId: BigInt(EXTRA_SEED) };
    add(this.#channel, htlc, source);
    this.htlcs = [...this.htlcs, { ...htlc, id, role: 'extra', source, endedOffChain: undefined }];
  }

  /** The counterparty fulfils what it was offered; the fleet hears it, and no commitment follows. */
  #learnOutbound(): void {
    const { fleet, peer } = this.#channel;
    for (const { direction, id, seed, role } of this.htlcs) {
      if (direction === 'outbound' && role !== 'extra')
        peer.must({ type: 'fulfil_htlc', id, preimage: preimageOf(seed) });
    }
    for (const message of peer.outbox.splice(0)) this.#channel.receive(fleet, message);
  }

  /** The fleet learns the preimages of what it was offered; the counterparty does not hear it. */
  #learnInbound(): void {
    const { fleet } = this.#channel;
    for (const { direction, id, seed } of this.htlcs)
      if (direction === 'inbound') fleet.fulfil(id, preimageOf(seed));
    fleet.outbox = [];
  }

  /** HTLCs that end before the close, when they can. */
  #endOffChain(knowledge: Knowledge): void {
    if (knowledge !== 'known' && knowledge !== 'unknown') return;
    const { fleet, peer } = this.#channel;
    this.htlcs = this.htlcs.map((htlc) => {
      const { direction, id, seed } = htlc;
      const reason = new Uint8Array(292);
      if (knowledge === 'unknown') {
        (direction === 'outbound' ? peer : fleet).must({ type: 'fail_htlc', id, reason });
        return { ...htlc, endedOffChain: 'failed' as const };
      }
      if (direction === 'outbound') peer.must({ type: 'fulfil_htlc', id, preimage: preimageOf(seed) });
      else fleet.fulfil(id, preimageOf(seed));
      return { ...htlc, endedOffChain: 'fulfilled' as const };
    });
    this.#channel.settle();
  }

  /** States go by until the kept one is this far behind. */
  #age(kept: KeptCommitment, depth: bigint): void {
    const { fleet, peer } = this.#channel;
    const behind = (): bigint => peer.channel.changes.holderCommitmentNumber - kept.commitmentNumber;
    while (behind() < depth) {
      const id = peer.channel.changes.nextOutboundHtlcId;
      peer.must({
        type: 'add_htlc',
        amountMsat: 10_000_000n,
        paymentHash: sha256(preimageOf(1_000 + Number(id))),
        cltvExpiryHeight: INBOUND_EXPIRY_HEIGHT,
        onionRoutingPacket: new Uint8Array(1366).fill(7),
      });
      this.#channel.settle();
      fleet.must({ type: 'fail_htlc', id, reason: new Uint8Array(292) });
      this.#channel.settle();
    }
  }
}

/** A copy of the tables as they are now, as often as one is asked for. */
function snapshot(state: MemoryManagerState): () => MemoryManagerState {
  const frozen = structuredClone(Object.fromEntries(Object.entries(state)));
  return () => Object.assign(new MemoryManagerState(), structuredClone(frozen));
}
