/**
 * What is told of a settlement when it moves: each change once, with
 * transaction, height and reason. What was told before is read from the stored
 * row, so that a restart repeats nothing.
 */
import { displayHash } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import type { Settlement, SettlementOutput } from '@fulmen/settlement';
import type { ChainEvent, SettlementRecord } from '@fulmen/store/chain/chain-store';
import { outPointKey } from '../state/keys.ts';
import { decodeSummary } from './summary.ts';

/** JSON with bytes in hex and 64-bit numbers as strings, as the event log promises. */
function eventBody(body: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(body).flatMap(([key, value]) => {
    if (value === undefined) return [];
    if (value instanceof Uint8Array) return [[key, toHex(value)]];
    return [[key, typeof value === 'bigint' ? value.toString() : value]];
  });
  return JSON.stringify(Object.fromEntries(entries));
}

export function chainEvent(
  type: string,
  at: { readonly channelId: Uint8Array; readonly timeUnixMs: number },
  body: Readonly<Record<string, unknown>>,
): ChainEvent {
  return { type, ...at, body: eventBody({ type, channelId: at.channelId, ...body }) };
}

export interface EventSurroundings {
  readonly channelId: Uint8Array;
  readonly timeUnixMs: number;
  /** Of a sweep of ours, by txid in hex. */
  readonly sweepFeeSat: (txid: string) => bigint | undefined;
}

/** What changed between the stored settlement and this one. */
export function settlementEvents(
  before: SettlementRecord | undefined,
  settlement: Settlement,
  surroundings: EventSurroundings,
): readonly ChainEvent[] {
  const { close } = settlement;
  if (close === undefined) return [];
  const at = { channelId: surroundings.channelId, timeUnixMs: surroundings.timeUnixMs };
  const event = (type: string, body: Readonly<Record<string, unknown>>): ChainEvent =>
    chainEvent(type, at, body);
  const known = before !== undefined && toHex(before.closeTxid) === toHex(close.txid) ? before : undefined;
  const events: ChainEvent[] = [];
  const closeBody = {
    closeType: close.type,
    txid: displayHash(close.txid),
    height: close.height,
    commitmentNumber: close.commitmentNumber,
  };
  if (known === undefined) {
    events.push(event('channel_close_confirmed', closeBody));
    if (close.type === 'revoked') events.push(event('breach_detected', closeBody));
    if (close.type === 'unknown') events.push(event('unknown_spend', closeBody));
  }
  const statuses = new Map(
    (known === undefined ? [] : decodeSummary(known.summary)).map(({ txid, outputIndex, status }) => [
      outPointKey(txid, outputIndex),
      status,
    ]),
  );
  for (const output of settlement.outputs) {
    const { txid, outputIndex } = output.outPoint;
    if (statuses.get(outPointKey(txid, outputIndex)) === output.status.type) continue;
    const told = outputEvent(output, surroundings.sweepFeeSat);
    if (told !== undefined) events.push(event(told.type, told.body));
  }
  if (settlement.stage === 'resolved' && known?.stage !== 'resolved')
    events.push(event('channel_resolved', closeBody));
  return events;
}

interface OutputNews {
  readonly type: string;
  readonly body: Readonly<Record<string, unknown>>;
}

function outputEvent(
  { outPoint, valueSat, kind, htlc, status }: SettlementOutput,
  sweepFeeSat: EventSurroundings['sweepFeeSat'],
): OutputNews | undefined {
  const output = {
    outputTxid: displayHash(outPoint.txid),
    outputIndex: outPoint.outputIndex,
    kind,
    valueSat,
    ...(htlc !== undefined && { htlcDirection: htlc.direction, htlcId: htlc.id }),
  };
  switch (status.type) {
    case 'maturing':
    case 'preimage_unknown':
      return undefined;
    case 'claimable':
      return kind === 'anchor'
        ? undefined
        : {
            type: 'output_claimable',
            body: { ...output, deadlineHeight: status.claim.deadlineHeight, claim: status.claim.kind.type },
          };
    case 'spent': {
      const body = {
        ...output,
        txid: displayHash(status.txid),
        height: status.height,
        spentBy: status.by,
        how: status.how,
        feeSat: sweepFeeSat(toHex(status.txid)),
      };
      const isHtlc = kind === 'htlc_offered_by_holder' || kind === 'htlc_offered_by_counterparty';
      if (isHtlc) return { type: 'htlc_resolved_onchain', body };
      if (status.by === 'holder') return { type: 'output_swept', body };
      return kind === 'anchor' ? undefined : { type: 'output_lost', body };
    }
  }
}
