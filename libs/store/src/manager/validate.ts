/**
 * What a unit of a group commit must satisfy before it is stored, checked alike
 * by every implementation: lengths, ranges, text that Postgres can hold. A fault
 * here is a defect of the caller's, and costs that unit alone ('bad_data').
 */
import type {
  ChannelCommit,
  CommitUnit,
  ForwardingWrites,
  HtlcSource,
  PaymentCommit,
} from './manager-store.ts';
import { sourceKey } from './source.ts';

const MAX_INT8 = 2n ** 63n - 1n;
const MAX_U64 = 2n ** 64n - 1n;
const MAX_INT4 = 2 ** 31 - 1;
const MAX_U32 = 2 ** 32 - 1;
/** Largest blob of one row; far above any real one (a funding of 20 inputs, 966 HTLC states). */
const MAX_BLOB_BYTES = 1_000_000;
const MAX_TEXT_CHARACTERS = 100_000;

/** Collects the first fault. */
class Check {
  fault: string | undefined;
  bytes(name: string, value: Uint8Array | undefined, length?: number): void {
    if (value === undefined) return;
    if (length === undefined ? value.length > MAX_BLOB_BYTES : value.length !== length)
      this.#fail(`${name} has ${value.length} bytes`);
  }
  /** Amounts, versions, times: what a signed column holds. */
  amount(name: string, value: bigint | undefined): void {
    if (value !== undefined && (value < 0n || value > MAX_INT8)) this.#fail(`${name} is ${value}`);
  }
  u64(name: string, value: bigint | undefined): void {
    if (value !== undefined && (value < 0n || value > MAX_U64)) this.#fail(`${name} is ${value}`);
  }
  int(name: string, value: number | undefined, max = MAX_INT4): void {
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 0 || value > max))
      this.#fail(`${name} is ${value}`);
  }
  text(name: string, value: string | undefined): void {
    if (value === undefined) return;
    if (value.includes('\0')) this.#fail(`${name} has a NUL`);
    if (value.length > MAX_TEXT_CHARACTERS) this.#fail(`${name} has ${value.length} characters`);
  }
  source(value: HtlcSource): void {
    if (value.type === 'payment') this.bytes('attempt id', value.attemptId);
    else {
      this.bytes('source channel id', value.channelId, 32);
      this.u64('source htlc id', value.htlcId);
    }
  }
  /** Rows that are written in one go, and must not meet in it. */
  distinct(name: string, sources: readonly { readonly source: HtlcSource }[]): void {
    if (sources.length > 1 && new Set(sources.map(({ source }) => sourceKey(source))).size < sources.length)
      this.#fail(`two ${name} are of one source`);
  }
  consecutive(name: string, first: bigint, index: number, value: bigint): void {
    if (value !== first + BigInt(index)) this.#fail(`${name} is ${value}, not ${first + BigInt(index)}`);
  }
  time(name: string, value: number | undefined): void {
    this.int(name, value, Number.MAX_SAFE_INTEGER);
  }
  #fail(reason: string): void {
    this.fault ??= reason;
  }
}

/** Why the unit cannot be stored; undefined when it can. */
export function unitFault(unit: CommitUnit): string | undefined {
  const check = new Check();
  if (unit.kind !== 'shard') check.amount('expected version', unit.commit.expectedVersion);
  if (unit.kind === 'channel') checkChannel(check, unit.commit);
  if (unit.kind === 'payment') checkPayment(check, unit.commit);
  checkForwarding(check, unit.commit.forwarding);
  return check.fault;
}

function checkChannel(check: Check, commit: ChannelCommit): void {
  const { row, delta } = commit;
  check.bytes('channel id', commit.channelId, 32);
  if (commit.expectedVersion === 0n && delta.cold === undefined)
    check.bytes('cold state of a new channel', new Uint8Array(0), 1);
  check.bytes('counterparty node id', row.counterpartyNodeId, 33);
  check.bytes('channel keys id', row.channelKeysId);
  check.bytes('funding txid', row.fundingTxid, 32);
  check.bytes('closing txid', row.closingTxid, 32);
  check.int('shard', row.shard);
  check.int('funding output index', row.fundingOutputIndex);
  check.int('HTLCs in flight', row.htlcsInFlight);
  check.u64('short channel id', row.shortChannelId);
  check.u64('alias', row.holderAliasScid);
  for (const [name, value] of Object.entries(row)) {
    if (typeof value === 'bigint' && !name.endsWith('cid') && !name.endsWith('ChannelId'))
      check.amount(name, value);
    if (typeof value === 'string') check.text(name, value);
  }
  check.bytes('hot state', delta.hot);
  check.bytes('cold state', delta.cold);
  check.bytes('signatures', delta.holderSignatures);
  for (const htlc of delta.newHtlcs) {
    check.u64('htlc id', htlc.id);
    check.amount('htlc amount', htlc.amountMsat);
    check.bytes('payment hash', htlc.paymentHash, 32);
    check.int('cltv expiry', htlc.cltvExpiryHeight, MAX_U32);
    check.bytes('onion', htlc.onionRoutingPacket);
    check.bytes('path key', htlc.pathKey, 33);
  }
  for (const { id, removal } of delta.newRemovals) {
    check.u64('htlc id', id);
    if (removal.type === 'fulfilled') check.bytes('preimage', removal.preimage, 32);
    if (removal.type === 'failed') check.bytes('failure reason', removal.reason);
    if (removal.type === 'failed_malformed') check.bytes('sha256 of onion', removal.sha256OfOnion, 32);
  }
  for (const settled of delta.settledHtlcs) check.u64('htlc id', settled.id);
  for (const bucket of delta.secretBuckets) {
    check.int('secret bucket', bucket.bucket, 48);
    check.amount('secret index', bucket.index);
    check.bytes('secret', bucket.secret, 32);
  }
  check.bytes('monitor parameters', commit.monitorBirth);
  commit.monitorUpdates.forEach((update, index) => {
    check.amount('monitor update id', update.updateId);
    check.consecutive('monitor update id', commit.monitorUpdates[0]?.updateId ?? 0n, index, update.updateId);
    check.bytes('monitor update', update.payload);
  });
  check.amount('late fulfilments', commit.fulfilledLateMsat);
  check.amount('generation', commit.consumedThrough?.generation);
  check.amount('frame number', commit.consumedThrough?.number);
  for (const order of commit.broadcasts)
    for (const transaction of order.transactions) check.bytes('transaction', transaction);
  for (const watch of commit.watches) {
    check.bytes('watched channel id', watch.channelId, 32);
    check.bytes('watched txid', watch.fundingTxid, 32);
    check.int('watched output index', watch.fundingOutputIndex);
    check.amount('watched value', watch.fundingValueSat);
    check.bytes('watched script', watch.scriptPubKey);
    check.int('minimum depth', watch.minimumDepth);
  }
}

function checkPayment(check: Check, commit: PaymentCommit): void {
  const { row } = commit;
  check.bytes('payment hash', commit.paymentHash, 32);
  check.bytes('payment state', commit.state);
  check.text('bolt11', row.bolt11);
  check.amount('amount', row.amountMsat);
  check.time('creation time', row.createdUnixMs);
  if (row.type === 'inbound') {
    check.text('description', row.description);
    check.amount('received amount', row.receivedMsat);
    check.time('expiry time', row.expiresUnixMs);
    check.time('payment time', row.paidUnixMs);
  } else {
    check.amount('fee', row.feeMsat);
    check.bytes('preimage', row.preimage, 32);
    check.text('failure reason', row.failureReason);
    check.int('attempts', row.attempts);
  }
}

function checkForwarding(check: Check, writes: ForwardingWrites): void {
  for (const intent of writes.intents) {
    check.source(intent.source);
    if (intent.target.type === 'scid') check.u64('target scid', intent.target.shortChannelId);
    else check.bytes('target payment hash', intent.target.paymentHash, 32);
    check.int('target shard', intent.targetShard);
    check.int('source shard', intent.sourceShard);
    check.bytes('payment hash', intent.paymentHash, 32);
    check.amount('incoming amount', intent.incomingAmountMsat);
    check.amount('outgoing amount', intent.outgoingAmountMsat);
    check.int('incoming expiry', intent.incomingCltvExpiryHeight, MAX_U32);
    check.int('outgoing expiry', intent.outgoingCltvExpiryHeight, MAX_U32);
    check.bytes('onion', intent.onion);
    check.bytes('shared secret', intent.sharedSecret);
    check.time('creation time', intent.createdUnixMs);
  }
  for (const claim of writes.intentClaims) check.source(claim.source);
  check.distinct('resolutions', writes.resolutions);
  check.distinct('resolutions taken', writes.resolutionsTaken);
  for (const { source, sourceShard, outcome } of writes.resolutions) {
    check.source(source);
    check.int('source shard', sourceShard);
    if (outcome.type === 'fulfilled') check.bytes('preimage', outcome.preimage, 32);
    if (outcome.type === 'failed') check.bytes('failure reason', outcome.reason);
    if (outcome.type === 'failed_here') check.bytes('failure', outcome.failure);
    if (outcome.type === 'failed_malformed') check.bytes('sha256 of onion', outcome.sha256OfOnion, 32);
  }
  for (const taken of writes.resolutionsTaken) check.source(taken.source);
  for (const { channelId, htlcId, preimage } of writes.preimages) {
    check.bytes('upstream channel id', channelId, 32);
    check.u64('upstream htlc id', htlcId);
    check.bytes('preimage', preimage, 32);
  }
  for (const link of writes.outgoing) {
    check.bytes('outgoing channel id', link.channelId, 32);
    check.u64('outgoing htlc id', link.htlcId);
    check.source(link.source);
    check.int('source shard', link.sourceShard);
    check.amount('incoming amount', link.incomingAmountMsat);
  }
  for (const replay of writes.onionReplays) {
    check.bytes('shared secret hash', replay.sharedSecretHash, 32);
    check.bytes('replay channel id', replay.channelId, 32);
    check.u64('replay htlc id', replay.htlcId);
  }
  for (const event of writes.events) {
    check.text('event type', event.type);
    check.text('event body', event.body);
    check.time('event time', event.timeUnixMs);
  }
}
