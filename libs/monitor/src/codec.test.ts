/** The stored forms: recorded bytes of every version, round trips, and arbitrary bytes. */
import { readFileSync } from 'node:fs';
import { fromHex, toHex } from '@fulmen/codec';
import type { DecodeError, Result } from '@fulmen/codec';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeChannelMonitorUpdate,
  decodeMonitorParameters,
  encodeChannelMonitorUpdate,
  encodeMonitorParameters,
} from './codec.ts';
import { decodeMonitor, encodeMonitor, splitMonitor } from './snapshot.ts';
import { applyUpdate, newMonitor } from './state.ts';
import type { ChannelMonitor } from './state.ts';
import { damaged, parameters, update } from './testing/arbitraries.ts';
import {
  RECORDED_MOVES,
  RECORDED_PARAMETERS,
  RECORDED_UPDATE,
  RECORDED_UPDATE_WITH_POINT,
} from './testing/recorded.ts';
import { play } from './testing/history.ts';

/** Written once by the release that introduced the version; never regenerated. */
function recordedBy<K extends string>(version: string): Readonly<Record<K, string>> {
  return JSON.parse(
    readFileSync(new URL(`./vectors/recorded-${version}.json`, import.meta.url), 'utf8'),
  ) as Readonly<Record<K, string>>;
}

const recorded = recordedBy<'update' | 'parameters' | 'monitor'>('v1');
const recordedV3 = recordedBy<'monitor'>('v3');
const recordedV2 = recordedBy<'update' | 'monitor'>('v2');

function played(holderPoints: 'with_points' | 'without_points'): ChannelMonitor {
  let monitor = newMonitor(RECORDED_PARAMETERS);
  for (const next of play(RECORDED_PARAMETERS, RECORDED_MOVES, holderPoints).updates) {
    const applied = applyUpdate(monitor, next);
    if (!applied.ok) throw new RangeError(applied.error.type);
    monitor = applied.value.monitor;
  }
  return monitor;
}

describe('version 1, recorded', () => {
  test('an update', () => {
    expect(decodeChannelMonitorUpdate(fromHex(recorded.update))).toEqual({
      ok: true,
      value: RECORDED_UPDATE,
    });
    expect(toHex(encodeChannelMonitorUpdate(RECORDED_UPDATE))).toBe(recorded.update);
  });
  test('parameters', () => {
    expect(decodeMonitorParameters(fromHex(recorded.parameters))).toEqual({
      ok: true,
      value: RECORDED_PARAMETERS,
    });
    expect(toHex(encodeMonitorParameters(RECORDED_PARAMETERS))).toBe(recorded.parameters);
  });
  test('a monitor', () => {
    const monitor = played('without_points');
    expect(decodeMonitor(fromHex(recorded.monitor))).toEqual({ ok: true, value: monitor });
    expect(toHex(encodeMonitor(monitor))).toBe(recorded.monitor);
  });
});

describe("version 2, recorded: with the holder's per-commitment points", () => {
  test('an update', () => {
    expect(decodeChannelMonitorUpdate(fromHex(recordedV2.update))).toEqual({
      ok: true,
      value: RECORDED_UPDATE_WITH_POINT,
    });
    expect(toHex(encodeChannelMonitorUpdate(RECORDED_UPDATE_WITH_POINT))).toBe(recordedV2.update);
  });
  test('a monitor', () => {
    const monitor = played('with_points');
    expect(decodeMonitor(fromHex(recordedV2.monitor))).toEqual({ ok: true, value: monitor });
    expect(toHex(encodeMonitor(monitor))).toBe(recordedV2.monitor);
  });
  test('no monitor has two encodings', () => {
    const v1 = fromHex(recorded.monitor);
    const relabelled = decodeMonitor(Uint8Array.from([2, ...v1.slice(1)]));
    expect(relabelled.ok).toBe(false);
  });
});

describe('version 3, recorded: without the chunks of the archives', () => {
  test.each(['with_points', 'without_points'] as const)('a monitor %s', (holderPoints) => {
    const monitor = played(holderPoints);
    const { snapshot } = splitMonitor(monitor);
    expect(decodeMonitor(snapshot)).toEqual({ ok: true, value: monitor });
    if (holderPoints === 'with_points') expect(toHex(snapshot)).toBe(recordedV3.monitor);
  });
});

test('updates and parameters come back as they were', () => {
  fc.assert(
    fc.property(update, (value) => {
      expect(decodeChannelMonitorUpdate(encodeChannelMonitorUpdate(value))).toEqual({ ok: true, value });
    }),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(parameters, (value) => {
      expect(decodeMonitorParameters(encodeMonitorParameters(value))).toEqual({ ok: true, value });
    }),
    { numRuns: 50 },
  );
});

test('a newer version or an unknown step is unsupported, not skipped', () => {
  const error = (result: Result<unknown, DecodeError>): string => (result.ok ? 'ok' : result.error.code);
  const bytes = encodeChannelMonitorUpdate({
    channelId: new Uint8Array(32),
    updateId: 1n,
    steps: [{ type: 'shutdown_script', scriptPubKey: new Uint8Array(0) }],
  });
  expect(error(decodeChannelMonitorUpdate(bytes))).toBe('ok');
  expect(error(decodeChannelMonitorUpdate(Uint8Array.from([2, ...bytes.slice(1)])))).toBe('unsupported');
  const at = bytes.length - 2;
  expect(error(decodeChannelMonitorUpdate(Uint8Array.from([...bytes.slice(0, at), 99, 0])))).toBe(
    'unsupported',
  );
  expect(error(decodeMonitorParameters(Uint8Array.of(7)))).toBe('unsupported');
  expect(error(decodeMonitor(Uint8Array.of(7)))).toBe('unsupported');
});

/** Any bytes give a typed error, or a value with exactly these bytes. */
function fuzz<T>(
  decode: (bytes: Uint8Array) => Result<T, DecodeError>,
  encode: (value: T) => Uint8Array,
  encoding: fc.Arbitrary<Uint8Array>,
  version = 1,
): void {
  const versioned = fc.uint8Array({ maxLength: 200 }).map((rest) => Uint8Array.from([version, ...rest]));
  fc.assert(
    fc.property(fc.oneof(versioned, damaged(encoding)), (bytes) => {
      const decoded = decode(bytes);
      if (decoded.ok) expect(toHex(encode(decoded.value))).toBe(toHex(bytes));
      else expect(decoded.error.name).toBe('DecodeError');
    }),
    { numRuns: 400 },
  );
}

describe('arbitrary bytes', () => {
  test('as an update', () =>
    fuzz(decodeChannelMonitorUpdate, encodeChannelMonitorUpdate, update.map(encodeChannelMonitorUpdate)));
  test('as parameters', () =>
    fuzz(decodeMonitorParameters, encodeMonitorParameters, parameters.map(encodeMonitorParameters)));
  test('as a monitor', () =>
    fuzz(
      decodeMonitor,
      encodeMonitor,
      fc.constantFrom(fromHex(recorded.monitor), fromHex(recordedV2.monitor)),
    ));
  test('as a monitor without its chunks', () =>
    fuzz(
      decodeMonitor,
      (monitor) => splitMonitor(monitor).snapshot,
      fc.constant(fromHex(recordedV3.monitor)),
      3,
    ));
});
