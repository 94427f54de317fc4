import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { silentLogger } from '@fulmen/service';
import { testInit } from '@fulmen/testing/peer';
import { encodeMessage, make } from '@fulmen/wire';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Fleet, nodeIdOf, shutdown } from './testing/fleet.ts';
import { settle } from './testing/manual-runtime.ts';
import { fileWireLog, OLDER_WIRE_LOG_FILE, WIRE_LOG_FILE } from './wire-log.ts';

let directory: string;
beforeEach(() => {
  directory = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-wire-log-')), 'made');
});
afterEach(() => fs.rmSync(path.dirname(directory), { recursive: true }));

const open = (maxBytes = 1_000_000) =>
  fileWireLog({ directory, maxBytes }, { wallClockMs: () => 1_000, logger: silentLogger });
const linesOf = (file: string): readonly string[] =>
  fs.readFileSync(path.join(directory, file), 'utf8').trimEnd().split('\n');

test('a conversation is logged from init to the end, both ways, whole', async () => {
  const wireLog = open();
  const fleet = await Fleet.start({ wireLog });
  try {
    const peer = await fleet.peer('alice');
    await peer.send(shutdown(1));
    await settle();
    fleet.outbound('alice', 1n);
    await peer.next('shutdown');
    peer.close();
    await settle();
  } finally {
    await fleet.stop();
    wireLog.close();
  }
  const alice = toHex(nodeIdOf('alice'));
  const said = toHex(encodeMessage(shutdown(1)));
  const lines = linesOf(WIRE_LOG_FILE);
  expect(lines.map((line) => line.replace(/ init [0-9a-f]+$/, ' init'))).toEqual([
    `1970-01-01T00:00:01.000Z out ${alice} init`,
    `1970-01-01T00:00:01.000Z in ${alice} init`,
    `1970-01-01T00:00:01.000Z in ${alice} shutdown ${said}`,
    `1970-01-01T00:00:01.000Z out ${alice} shutdown ${said}`,
    `1970-01-01T00:00:01.000Z end ${alice} counterparty_closed`,
  ]);
});

test('a connection that is refused after init has its end too', async () => {
  const wireLog = open();
  const fleet = await Fleet.start({ wireLog, limits: { maxUnwantedPeers: 0 } });
  try {
    const refused = await fleet.connect('bob');
    await refused.closed;
    await settle();
    const wrong = await fleet.connect('carol', { init: shutdown(1) });
    await wrong.closed;
    await settle();
  } finally {
    await fleet.stop();
    wireLog.close();
  }
  const ends = linesOf(WIRE_LOG_FILE).filter((line) => line.includes(' end '));
  expect(ends.map((line) => line.split(' ').slice(2).join(' '))).toEqual([
    `${toHex(nodeIdOf('bob'))} unwanted_peers`,
    `${toHex(nodeIdOf('carol'))} init`,
  ]);
});

test('a connection whose init comes while the gateway stops has its end too', async () => {
  const wireLog = open();
  const fleet = await Fleet.start({ wireLog });
  const peer = await fleet.connect('dave', { init: null });
  await settle();
  await peer.send(testInit());
  await fleet.stop();
  wireLog.close();
  const dave = toHex(nodeIdOf('dave'));
  expect(linesOf(WIRE_LOG_FILE).map((line) => line.split(' ').slice(1, 4).join(' '))).toEqual([
    `out ${dave} init`,
    `in ${dave} init`,
    `end ${dave} stopping`,
  ]);
});

test('what has no name is logged by its number; the files are for their owner alone', () => {
  const wireLog = open();
  wireLog.message('in', nodeIdOf('alice'), Uint8Array.of(0x94, 0x19, 7));
  wireLog.message('in', nodeIdOf('alice'), Uint8Array.of(1));
  wireLog.close();
  expect(linesOf(WIRE_LOG_FILE).map((line) => line.split(' ').slice(3).join(' '))).toEqual([
    'type_37913 941907',
    'empty 01',
  ]);
  expect(fs.statSync(path.join(directory, WIRE_LOG_FILE)).mode & 0o077).toBe(0);
});

test('two files take turns within the bound, over restarts', () => {
  const ping = encodeMessage(make('ping', { numPongBytes: 0, ignored: new Uint8Array(200) }));
  for (let start = 0; start < 10; start += 1) {
    const wireLog = open(4_000);
    for (let i = 0; i < 10; i += 1) wireLog.message('out', nodeIdOf('alice'), ping);
    wireLog.close();
  }
  const sizes = [WIRE_LOG_FILE, OLDER_WIRE_LOG_FILE].map(
    (file) => fs.statSync(path.join(directory, file)).size,
  );
  expect(Math.max(...sizes)).toBeLessThanOrEqual(2_000);
  expect(linesOf(OLDER_WIRE_LOG_FILE).every((line) => line.endsWith(toHex(ping)))).toBe(true);
});

test('a disk that fails ends the log, and nothing else', () => {
  const wireLog = open(1_000);
  const full = encodeMessage(make('ping', { numPongBytes: 0, ignored: new Uint8Array(400) }));
  wireLog.message('out', nodeIdOf('alice'), full);
  // The older file's name is taken by a folder, so that the turn of the files fails.
  fs.mkdirSync(path.join(directory, OLDER_WIRE_LOG_FILE, 'inside'), { recursive: true });
  wireLog.message('out', nodeIdOf('alice'), full);
  wireLog.message('out', nodeIdOf('alice'), full);
  wireLog.close();
  expect(linesOf(WIRE_LOG_FILE)).toHaveLength(1);
});

test('no file stays open when its turn is over', () => {
  const ping = encodeMessage(make('ping', { numPongBytes: 0, ignored: new Uint8Array(200) }));
  const [opened, closed] = [vi.spyOn(fs, 'openSync'), vi.spyOn(fs, 'closeSync')];
  try {
    const wireLog = open(2_000);
    for (let i = 0; i < 10; i += 1) wireLog.message('out', nodeIdOf('alice'), ping);
    wireLog.close();
    const descriptors = opened.mock.results.map(({ value }) => value as number);
    expect(descriptors.length).toBeGreaterThan(2);
    expect(closed.mock.calls.map(([descriptor]) => descriptor)).toEqual(descriptors);
  } finally {
    vi.restoreAllMocks();
  }
});

test('a write that fails leaves no file open', () => {
  const wireLog = open();
  const [write, close] = [vi.spyOn(fs, 'writeSync'), vi.spyOn(fs, 'closeSync')];
  try {
    write.mockImplementationOnce(() => {
      throw new Error('no space left on device');
    });
    wireLog.message('out', nodeIdOf('alice'), Uint8Array.of(0, 18));
    expect(close).toHaveBeenCalledTimes(1);
    wireLog.close();
    expect(close).toHaveBeenCalledTimes(1);
  } finally {
    vi.restoreAllMocks();
  }
});
