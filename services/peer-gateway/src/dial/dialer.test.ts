import { describe, expect, test } from 'vitest';
import {
  DIAL_DEADLINE_MS,
  MAX_CONCURRENT_DIALS,
  MAX_PENDING_REQUESTS,
  REDIAL_MAX_MS,
  REDIAL_MIN_MS,
  TICK_MS,
} from '../limits.ts';
import { Dialer, type DialTarget, redialDelayMs } from './dialer.ts';

const target = (key: string, host = key): DialTarget => ({
  key,
  nodeId: new Uint8Array(33),
  host,
  port: 9735,
});

function harness(limit = 100) {
  const state = {
    nowMs: 0,
    connected: new Set<string>(),
    attempts: [] as DialTarget[],
    answers: [] as [number, string][],
  };
  const dialer = new Dialer<number>(
    {
      monotonicMs: () => state.nowMs,
      random: () => 0.5,
      hasConnection: (key) => state.connected.has(key),
      attempt: (wanted) => state.attempts.push(wanted),
      answer: (request, _target, error) => state.answers.push([request, error]),
    },
    limit,
  );
  return { state, dialer };
}

describe('back-off', () => {
  test('quick at first, doubling, bounded, with half of it left to chance', () => {
    expect(redialDelayMs(0, 0.9)).toBe(0);
    expect([1, 2, 3, 4, 5, 6].map((failures) => redialDelayMs(failures, 1))).toEqual([
      1_000, 1_000, 1_000, 2_000, 4_000, 8_000,
    ]);
    expect(redialDelayMs(1, 0)).toBe(REDIAL_MIN_MS / 2);
    expect(redialDelayMs(10_000, 1)).toBe(REDIAL_MAX_MS);
  });

  test('a connection that did not last counts as a failure; one that did begins anew', () => {
    const { state, dialer } = harness();
    dialer.want(target('a'), 1);
    state.connected.add('a');
    dialer.dialled(target('a'), undefined);
    dialer.accepted('a');
    state.connected.delete('a');
    state.nowMs = 1_000;
    dialer.disconnected('a', 'back_off', 'flapping');
    expect(state.attempts.length).toBe(1);
    state.nowMs = 3_000;
    dialer.tick();
    expect(state.attempts.length).toBe(2);
    state.connected.add('a');
    dialer.dialled(target('a'), undefined);
    dialer.accepted('a');
    state.connected.delete('a');
    state.nowMs = 20_000;
    dialer.disconnected('a', 'back_off', 'closed');
    expect(state.attempts.length).toBe(3);
  });
});

test('each request gets one answer', () => {
  const { state, dialer } = harness();
  dialer.want(target('a'), 1);
  dialer.want(target('a'), 2);
  dialer.dialled(target('a'), 'refused');
  expect(state.answers).toEqual([
    [1, 'refused'],
    [2, 'refused'],
  ]);
  dialer.want(target('a'), 3);
  dialer.forget('a');
  expect(state.answers.at(-1)).toEqual([3, 'no longer wanted']);
  expect(state.answers.length).toBe(3);
});

test('a new address is tried at once', () => {
  const { state, dialer } = harness();
  dialer.want(target('a'), 1);
  dialer.dialled(target('a'), 'refused');
  dialer.want(target('a', 'elsewhere'), 2);
  expect(state.attempts.map(({ host }) => host)).toEqual(['a', 'elsewhere']);
});

test('peers that cannot be reached, however many, keep no other from being dialled, nor each other', () => {
  const { state, dialer } = harness(1_000);
  const ends: { atMs: number; dead: DialTarget }[] = [];
  let begun = 0;
  const pass = (ms: number): void => {
    for (const untilMs = state.nowMs + ms; state.nowMs < untilMs; state.nowMs += TICK_MS) {
      for (; begun < state.attempts.length; begun += 1) {
        const dead = state.attempts[begun];
        if (dead !== undefined) ends.push({ atMs: state.nowMs + DIAL_DEADLINE_MS, dead });
      }
      while ((ends[0]?.atMs ?? Infinity) <= state.nowMs) {
        const end = ends.shift();
        if (end !== undefined) dialer.dialled(end.dead, 'no answer');
      }
      dialer.tick();
    }
  };
  for (let i = 0; i < 250; i += 1) dialer.want(target(`dead ${i}`), i);
  pass(1_200_000);
  const before = state.attempts.length;
  dialer.want(target('new'), 1_000);
  pass(20_000);
  expect(state.attempts.slice(before).map(({ key }) => key)).toContain('new');
  pass(580_000);
  expect(new Set(state.attempts.slice(before).map(({ key }) => key)).size).toBe(251);
});

test('dials at once, wanted peers and requests are bounded', () => {
  const { state, dialer } = harness(MAX_CONCURRENT_DIALS + 8);
  for (let i = 0; i < MAX_CONCURRENT_DIALS + 9; i += 1) dialer.want(target(`peer ${i}`), i);
  expect(state.attempts.length).toBe(MAX_CONCURRENT_DIALS);
  expect(state.answers).toEqual([[MAX_CONCURRENT_DIALS + 8, 'too many wanted peers']]);
  dialer.dialled(target('peer 0'), 'refused');
  expect(state.attempts.length).toBe(MAX_CONCURRENT_DIALS + 1);
  for (let i = 0; i <= MAX_PENDING_REQUESTS; i += 1) dialer.want(target('peer 5'), 1_000 + i);
  expect(state.answers.at(-1)?.[1]).toBe('too many requests for this peer');
});
