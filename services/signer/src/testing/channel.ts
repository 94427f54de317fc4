/** A channel between two key trees, for tests: both sides' registrations, and an honest exchange of commitments. */
import type { CommitmentSpec } from '@fulmen/channel/commitment-spec';
import type { CommitmentFormatName, PartyParameters } from '@fulmen/channel/parameters';
import { p2wpkhScript, NETWORKS } from '@fulmen/bitcoin';
import { InternalError } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  channelSecrets,
  commitmentPoint,
  holderBasepoints,
  keyTree,
  neuter,
  walletPublicKey,
} from '@fulmen/keys';
import type { KeyTree } from '@fulmen/keys';
import type { ChannelRegistration, SignItemAnswer, SignItemRequest } from '../enforcement/types.ts';

export type Side = 'alice' | 'bob';
export const other = (side: Side): Side => (side === 'alice' ? 'bob' : 'alice');

export const FUNDING_SAT = 10_000_000n;
export const SHARD = 7;

export interface TestParty {
  readonly keys: KeyTree;
  readonly channelKeysId: Uint8Array;
  readonly walletScript: Uint8Array;
}

/** Two nodes with a seed each. */
export function testParties(secp: Secp256k1): Record<Side, TestParty> {
  const party = (name: string): TestParty => {
    const keys = keyTree(secp, sha256(new TextEncoder().encode(name)), NETWORKS.regtest);
    const channelKeysId = sha256(new TextEncoder().encode(`${name} channel`));
    const script = p2wpkhScript(
      walletPublicKey(secp, neuter(secp, keys.segwitAccount), 'change', (channelKeysId.at(-1) ?? 0) % 20),
    );
    return { keys, channelKeysId, walletScript: script };
  };
  return { alice: party('alice'), bob: party('bob') };
}

function parameters(secp: Secp256k1, party: TestParty): PartyParameters {
  return {
    ...holderBasepoints(secp, channelSecrets(secp, party.keys, party.channelKeysId)),
    dustLimitSat: 354n,
    toSelfDelayBlocks: 144,
    channelReserveSat: 100_000n,
    htlcMinimumMsat: 1n,
    maxHtlcValueInFlightMsat: 5_000_000_000n,
    maxAcceptedHtlcs: 10,
  };
}

/** Alice funds, by output 0 of a transaction. */
export function registrationOf(
  secp: Secp256k1,
  parties: Record<Side, TestParty>,
  side: Side,
  format: CommitmentFormatName = 'anchors',
  fundingTxid = sha256(new TextEncoder().encode('funding')),
): ChannelRegistration {
  const holder = parameters(secp, parties[side]);
  const counterparty = parameters(secp, parties[other(side)]);
  return {
    channelKeysId: parties[side].channelKeysId,
    channelId: fundingTxid,
    counterpartyNodeId: parties[other(side)].keys.nodeId,
    funder: side === 'alice' ? 'holder' : 'counterparty',
    commitmentFormat: format,
    holder,
    counterparty,
    funding: {
      fundingTxid,
      fundingOutputIndex: 0,
      fundingValueSat: FUNDING_SAT,
      holderFundingPubkey: holder.fundingPubkey,
      counterpartyFundingPubkey: counterparty.fundingPubkey,
    },
    shard: SHARD,
    channelType: Uint8Array.from([0x40, 0x10, 0x00]),
    announce: true,
  };
}

/** What both commitments of the channel hold, seen from Alice. */
export type Content = Omit<CommitmentSpec, 'commitmentNumber'>;

export const START: Content = {
  feerateSatPerKw: 2_500,
  toHolderMsat: 6_000_000_000n,
  toCounterpartyMsat: 4_000_000_000n,
  htlcs: [],
};

/** The same, with everything on Alice's side. */
export const KEPT: Content = {
  ...START,
  toHolderMsat: START.toHolderMsat + START.toCounterpartyMsat,
  toCounterpartyMsat: 0n,
};

/** The content as a side's spec with a number. */
export function specFor(side: Side, content: Content, commitmentNumber: bigint): CommitmentSpec {
  if (side === 'alice') return { ...content, commitmentNumber };
  return {
    commitmentNumber,
    feerateSatPerKw: content.feerateSatPerKw,
    toHolderMsat: content.toCounterpartyMsat,
    toCounterpartyMsat: content.toHolderMsat,
    htlcs: content.htlcs.map((htlc) => ({
      ...htlc,
      direction: htlc.direction === 'outbound' ? 'inbound' : 'outbound',
    })),
  };
}

/** A change of the content. */
export type Change =
  | { readonly type: 'add'; readonly by: Side; readonly amountMsat: bigint }
  | { readonly type: 'fulfill' | 'fail'; readonly index: number }
  | { readonly type: 'fee'; readonly feerateSatPerKw: number };

/** The content after a change; one that no honest node would make leaves it as it is. */
export function applyChange(content: Content, change: Change, nextId: bigint): Content {
  switch (change.type) {
    case 'fee':
      return { ...content, feerateSatPerKw: change.feerateSatPerKw };
    case 'add': {
      const balanceMsat = change.by === 'alice' ? content.toHolderMsat : content.toCounterpartyMsat;
      const own = content.htlcs.filter((htlc) => (htlc.direction === 'outbound') === (change.by === 'alice'));
      const inFlightMsat = own.reduce((sum, htlc) => sum + htlc.amountMsat, change.amountMsat);
      if (balanceMsat - change.amountMsat < 500_000_000n || own.length >= 10 || inFlightMsat > 5_000_000_000n)
        return content;
      const paymentHash = sha256(Uint8Array.from([Number(nextId & 0xffn), Number(nextId >> 8n)]));
      const htlc = {
        direction: change.by === 'alice' ? 'outbound' : 'inbound',
        id: nextId,
        amountMsat: change.amountMsat,
        paymentHash,
        cltvExpiryHeight: 700,
      } as const;
      const moved =
        change.by === 'alice'
          ? { toHolderMsat: balanceMsat - change.amountMsat }
          : { toCounterpartyMsat: balanceMsat - change.amountMsat };
      return { ...content, ...moved, htlcs: [...content.htlcs, htlc] };
    }
    case 'fulfill':
    case 'fail': {
      const htlc = content.htlcs[change.index % Math.max(1, content.htlcs.length)];
      if (htlc === undefined) return content;
      const toAlice = (htlc.direction === 'outbound') === (change.type === 'fail');
      const moved = toAlice
        ? { toHolderMsat: content.toHolderMsat + htlc.amountMsat }
        : { toCounterpartyMsat: content.toCounterpartyMsat + htlc.amountMsat };
      return { ...content, ...moved, htlcs: content.htlcs.filter((one) => one !== htlc) };
    }
  }
}

export type Execute = (side: Side, request: SignItemRequest) => Promise<SignItemAnswer>;

export const EMPTY_ITEM: SignItemRequest = {
  revocations: [],
  holderCommitment: undefined,
  releaseSecretNumber: undefined,
  counterpartyCommitment: undefined,
  ecdhs: [],
};

/** Plays two honest nodes over two signers. Fields are what each knows of the other. */
export class HonestChannel {
  content: Content = START;
  number = 0n;
  /** The secret that rides on a side's next request. */
  readonly pending: Record<Side, { commitmentNumber: bigint; secret: Uint8Array }[]> = { alice: [], bob: [] };
  /** Points by side and number. */
  readonly points: Record<Side, Map<bigint, Uint8Array>> = { alice: new Map(), bob: new Map() };
  readonly log: {
    readonly side: Side;
    readonly request: SignItemRequest;
    readonly answer: SignItemAnswer;
  }[] = [];
  #nextId = 0n;
  readonly #execute: Execute;

  constructor(secp: Secp256k1, parties: Record<Side, TestParty>, execute: Execute) {
    this.#execute = execute;
    for (const side of ['alice', 'bob'] as const) {
      const { perCommitmentSeed } = channelSecrets(secp, parties[side].keys, parties[side].channelKeysId);
      for (let n = 0n; n < 3n; n++) this.points[side].set(n, commitmentPoint(secp, perCommitmentSeed, n));
    }
  }

  async run(side: Side, request: Partial<SignItemRequest>): Promise<SignItemAnswer> {
    const whole = { ...EMPTY_ITEM, ...request, revocations: request.revocations ?? this.pending[side] };
    const answer = await this.#execute(side, whole);
    this.pending[side] = [];
    answer.perCommitmentPoints.forEach((point, i) =>
      this.points[side].set(answer.firstPointNumber + BigInt(i), point),
    );
    this.log.push({ side, request: whole, answer });
    return answer;
  }

  point(side: Side, number: bigint): Uint8Array {
    const point = this.points[side].get(number);
    if (point === undefined) throw new InternalError(`point ${number} of ${side} is not known`);
    return point;
  }

  counterpartyCommitment(
    side: Side,
    content: Content,
    number: bigint,
  ): Pick<SignItemRequest, 'counterpartyCommitment'> {
    return {
      counterpartyCommitment: {
        spec: specFor(side, content, number),
        perCommitmentPoint: this.point(other(side), number),
      },
    };
  }

  holderCommitment(
    side: Side,
    content: Content,
    number: bigint,
    signed: SignItemAnswer,
  ): Pick<SignItemRequest, 'holderCommitment'> {
    return { holderCommitment: { spec: specFor(side, content, number), signatures: signed.signatures } };
  }

  /** Commitments 0 of both: funding_created and funding_signed. */
  async open(): Promise<void> {
    const first = await this.run('alice', this.counterpartyCommitment('alice', this.content, 0n));
    const second = await this.run('bob', {
      ...this.holderCommitment('bob', this.content, 0n, first),
      ...this.counterpartyCommitment('bob', this.content, 0n),
    });
    await this.run('alice', this.holderCommitment('alice', this.content, 0n, second));
    this.number = 1n;
  }

  /** One change, proposed by a side and committed on both. */
  async step(by: Side, change: Change): Promise<void> {
    const content = applyChange(this.content, change, this.#nextId++);
    const number = this.number;
    const peer = other(by);
    const first = await this.run(by, this.counterpartyCommitment(by, content, number));
    const second = await this.run(peer, {
      ...this.holderCommitment(peer, content, number, first),
      releaseSecretNumber: number - 1n,
      ...this.counterpartyCommitment(peer, content, number),
    });
    if (second.releasedSecret !== undefined)
      this.pending[by].push({ commitmentNumber: number - 1n, secret: second.releasedSecret });
    const third = await this.run(by, {
      ...this.holderCommitment(by, content, number, second),
      releaseSecretNumber: number - 1n,
    });
    if (third.releasedSecret !== undefined)
      this.pending[peer].push({ commitmentNumber: number - 1n, secret: third.releasedSecret });
    this.content = content;
    this.number = number + 1n;
  }
}
