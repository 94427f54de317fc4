/** The state that updates build: any revoked commitment comes back exactly, through snapshots too, and what does not fit is refused. */
import { toHex } from '@fulmen/codec';
import { commitmentSecret } from '@fulmen/keys';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { archiveLength } from './archive.ts';
import type { ArchiveChunk } from './archive.ts';
import { isAtHand, rebuildRevoked, withChunks, withoutChunks } from './rebuild.ts';
import { decodeMonitor, encodeMonitor, encodeWholeFrame, isSplit, splitMonitor } from './snapshot.ts';
import { applyUpdate, htlcKey, newMonitor } from './state.ts';
import type { ChannelMonitor } from './state.ts';
import { SEED, play, preimageOf } from './testing/history.ts';
import type { History, Move } from './testing/history.ts';
import { RECORDED_PARAMETERS as PARAMETERS } from './testing/recorded.ts';
import type { ChannelMonitorUpdate, ChannelMonitorUpdateStep } from './update.ts';

const move: fc.Arbitrary<Move> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('add' as const),
      direction: fc.constantFrom('inbound' as const, 'outbound' as const),
      amountMsat: fc.bigInt({ min: 1n, max: 10_000_000n }),
      cltvExpiryHeight: fc.integer({ min: 1, max: 900_000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('remove' as const),
      index: fc.nat(20),
      outcome: fc.constantFrom('fulfilled' as const, 'failed' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant('fee' as const),
      feerateSatPerKw: fc.integer({ min: 253, max: 50_000 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('sign_counterparty' as const) }) },
  { weight: 4, arbitrary: fc.record({ type: fc.constant('revoke' as const) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('sign_holder' as const) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('preimage' as const), index: fc.nat(20) }) },
);

function apply(monitor: ChannelMonitor, update: ChannelMonitorUpdate): ChannelMonitor {
  const applied = applyUpdate(monitor, update);
  if (!applied.ok)
    throw new RangeError(
      JSON.stringify(applied.error, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value)),
    );
  expect(applied.value.outcome).toBe('applied');
  return applied.value.monitor;
}

function checkAgainst(monitor: ChannelMonitor, history: History, numbers: readonly number[]): void {
  for (const number of numbers) {
    const expected = history.counterpartyCommitments[number];
    const rebuilt = rebuildRevoked(monitor, BigInt(number));
    if (number >= history.revoked) {
      expect(rebuilt).toBeUndefined();
      continue;
    }
    expect(rebuilt?.content).toEqual(expected?.content);
    expect(rebuilt?.htlcs).toEqual(expected?.htlcs);
    expect(toHex(rebuilt?.secret ?? new Uint8Array(0))).toBe(toHex(commitmentSecret(SEED, BigInt(number))));
  }
}

test('every revoked commitment of any history is rebuilt, with a snapshot taken anywhere', () => {
  fc.assert(
    fc.property(fc.array(move, { maxLength: 80 }), fc.nat(), (moves, snapshotAt) => {
      const history = play(PARAMETERS, moves);
      let monitor = newMonitor(PARAMETERS);
      for (const [index, update] of history.updates.entries()) {
        monitor = apply(monitor, update);
        if (index !== snapshotAt % history.updates.length) continue;
        const restored = decodeMonitor(encodeMonitor(monitor));
        expect(restored).toEqual({ ok: true, value: monitor });
        if (restored.ok) monitor = restored.value;
      }
      expect(monitor.updateId).toBe(BigInt(history.updates.length));
      const unrevoked = history.counterpartyCommitments.slice(history.revoked).map(({ content }) => content);
      expect(
        [monitor.counterpartyCommitment, monitor.nextCounterpartyCommitment].flatMap(
          (commitment) => commitment?.content ?? [],
        ),
      ).toEqual(unrevoked);
      checkAgainst(monitor, history, [
        ...history.counterpartyCommitments.keys(),
        history.counterpartyCommitments.length,
      ]);
      // Every HTLC of an unrevoked commitment has its body.
      for (const commitment of [
        monitor.holderCommitment,
        monitor.previousHolderCommitment,
        monitor.counterpartyCommitment,
        monitor.nextCounterpartyCommitment,
      ]) {
        for (const ref of commitment?.content.htlcs ?? []) expect(monitor.htlcs.has(htlcKey(ref))).toBe(true);
      }
      for (const update of history.updates) {
        expect(applyUpdate(monitor, update)).toEqual({
          ok: true,
          value: { monitor, outcome: 'already_applied' },
        });
      }
    }),
    { numRuns: 120 },
  );
});

/** A payment a state, in and out again two states later: what routing does to a channel. */
function routing(payments: number): Move[] {
  const moves: Move[] = [];
  for (let i = 0; i < payments; i++) {
    moves.push({
      type: 'add',
      direction: i % 2 === 0 ? 'outbound' : 'inbound',
      amountMsat: BigInt(1_000_000 + ((i * 7919) % 50_000_000)),
      cltvExpiryHeight: 800_000 + i,
    });
    for (const type of ['sign_counterparty', 'revoke', 'sign_holder'] as const) moves.push({ type });
    moves.push({ type: 'remove', index: 0, outcome: i % 3 === 0 ? 'failed' : 'fulfilled' });
    for (const type of ['sign_counterparty', 'revoke', 'sign_holder'] as const) moves.push({ type });
  }
  return moves;
}

test('a long history stays small: bytes for each revoked state and each HTLC', () => {
  const history = play(PARAMETERS, routing(1500));
  let monitor = newMonitor(PARAMETERS);
  for (const update of history.updates) monitor = apply(monitor, update);
  expect(history.revoked).toBe(3000);
  const { htlcBytes, stateBytes } = archiveLength(monitor.revokedHtlcs, monitor.revokedStates);
  const archived = 1500 - monitor.htlcs.size;
  // A flag byte and one or two balances that moved; an HTLC's hash alone is 32 bytes.
  expect(stateBytes / history.revoked).toBeLessThan(9);
  expect(htlcBytes / archived).toBeLessThan(53);
  const snapshot = encodeMonitor(monitor);
  // All else, 12 secrets included, is independent of the history's length.
  expect(snapshot.length - htlcBytes - stateBytes).toBeLessThan(2500);
  const restored = decodeMonitor(snapshot);
  expect(restored).toEqual({ ok: true, value: monitor });
  checkAgainst(monitor, history, [0, 1, 255, 256, 257, 1499, 2047, 2048, 2815, 2816, 2998, 2999, 3000]);
});

describe('a monitor that is split at every update', () => {
  const history = play(PARAMETERS, routing(400));
  const chunks: ArchiveChunk[] = [];
  let monitor = newMonitor(PARAMETERS);
  let whole = newMonitor(PARAMETERS);
  let longest = 0;
  for (const update of history.updates) {
    whole = apply(whole, update);
    const { snapshot, chunks: sealed } = splitMonitor(apply(monitor, update));
    chunks.push(...sealed);
    longest = Math.max(longest, snapshot.length);
    const decoded = decodeMonitor(snapshot);
    if (!decoded.ok) throw decoded.error;
    monitor = decoded.value;
  }
  /** As a store selects them. */
  const covering = (number: bigint): ArchiveChunk[] =>
    chunks.filter(({ firstNumber, lastNumber }) => firstNumber <= number && number <= lastNumber);

  test('seals each chunk once, and stays as small as it was', () => {
    expect(history.revoked).toBe(800);
    expect(chunks.map(({ kind, number }) => `${kind} ${number}`).sort()).toEqual([
      ...['htlc 0', 'htlc 1', 'htlc 2'],
      ...['state 0', 'state 1', 'state 2'],
    ]);
    // 255 states and 127 HTLCs in the open ends, and all that does not grow.
    expect(longest).toBeLessThan(12_000);
  });

  test('is what it would have been in one piece', () => {
    expect(withChunks(monitor, [], chunks)).toEqual({ ...whole, htlcs: monitor.htlcs });
    const { head, middle, tail } = encodeWholeFrame(monitor);
    const bytesOf = (kind: ArchiveChunk['kind']): string =>
      chunks.flatMap((chunk) => (chunk.kind === kind ? [toHex(chunk.bytes)] : [])).join('');
    expect([toHex(head), bytesOf('state'), toHex(middle), bytesOf('htlc'), toHex(tail)].join('')).toBe(
      toHex(encodeMonitor(withChunks(monitor, [], chunks))),
    );
    expect(withoutChunks(whole)).toEqual({ ...monitor, htlcs: whole.htlcs });
  });

  test('rebuilds a revoked commitment from the chunks that cover it', () => {
    for (const number of [0, 1, 255, 256, 511, 512, 767]) {
      expect(isAtHand(monitor, BigInt(number))).toBe(false);
      const ready = withChunks(monitor, [BigInt(number)], covering(BigInt(number)));
      expect(isAtHand(ready, BigInt(number))).toBe(true);
      checkAgainst(ready, history, [number]);
    }
    // What a later state sealed is still in the open end of this one.
    const early = withChunks(splitEarly(), [700n], covering(700n));
    expect(rebuildRevoked(early, 700n)?.htlcs).toEqual(history.counterpartyCommitments[700]?.htlcs);
    expect(isAtHand(monitor, 800n)).toBe(true);
    expect(rebuildRevoked(monitor, 800n)).toBeUndefined();
  });

  test('never takes a commitment for another because its chunks are not at hand', () => {
    expect(() => rebuildRevoked(monitor, 3n)).toThrow(/not at hand/);
    // The state alone: its HTLCs are not known.
    const halfReady = withChunks(
      monitor,
      [],
      covering(3n).filter(({ kind }) => kind === 'state'),
    );
    expect(() => rebuildRevoked(halfReady, 3n)).toThrow(/not at hand/);
    // Chunks that are missing where they are stored.
    expect(() => rebuildRevoked(withChunks(monitor, [3n], []), 3n)).toThrow(/not at hand/);
    expect(() => encodeMonitor(monitor)).toThrow(/not whole/);
    expect(isSplit(splitMonitor(monitor).snapshot)).toBe(true);
    expect(isSplit(encodeMonitor(whole))).toBe(false);
  });

  /** The monitor after 704 revocations. */
  function splitEarly(): ChannelMonitor {
    let early = newMonitor(PARAMETERS);
    for (const update of history.updates) {
      if (early.secrets.count === 704n) break;
      early = apply(early, update);
    }
    return withoutChunks(early);
  }
});

describe('what does not fit is refused', () => {
  const start = play(PARAMETERS, [
    { type: 'add', direction: 'inbound', amountMsat: 1_000_000n, cltvExpiryHeight: 500 },
    { type: 'sign_counterparty' },
    { type: 'sign_holder' },
  ]).updates.reduce(apply, newMonitor(PARAMETERS));
  const inbound = { direction: 'inbound', id: 0n } as const;
  const content = {
    commitmentNumber: 2n,
    feerateSatPerKw: 253,
    toHolderMsat: 1n,
    toCounterpartyMsat: 1n,
    htlcs: [],
  };
  const signatures = [
    {
      fundingTxid: PARAMETERS.fundings[0]?.fundingTxid ?? new Uint8Array(32),
      signature: new Uint8Array(64),
      htlcSignatures: [],
    },
  ];
  const holder = (
    changes: Partial<ChannelMonitorUpdateStep & { readonly type: 'latest_holder_commitment' }>,
  ): ChannelMonitorUpdateStep => ({
    type: 'latest_holder_commitment',
    content,
    newHtlcs: [],
    signatures,
    ...changes,
  });
  const secret = (commitmentNumber: bigint): ChannelMonitorUpdateStep => ({
    type: 'commitment_secret',
    commitmentNumber,
    secret: commitmentSecret(SEED, commitmentNumber),
  });
  const counterparty: ChannelMonitorUpdateStep = {
    type: 'latest_counterparty_commitment',
    content,
    newHtlcs: [],
    perCommitmentPoint: Uint8Array.from([2, ...new Uint8Array(32).fill(1)]),
  };
  const closed: ChannelMonitorUpdateStep = {
    type: 'channel_force_closed',
    shouldBroadcast: 'passive',
    reason: 'test',
  };
  const run = (...steps: readonly ChannelMonitorUpdateStep[]) =>
    applyUpdate(start, { channelId: PARAMETERS.channelId, updateId: start.updateId + 1n, steps });
  const body = { ...inbound, amountMsat: 1n, paymentHash: new Uint8Array(32), cltvExpiryHeight: 1 };

  test.each<readonly [string, readonly ChannelMonitorUpdateStep[]]>([
    ['commitment_number', [holder({ content: { ...content, commitmentNumber: 3n } })]],
    ['commitment_number', [holder({ content: { ...content, commitmentNumber: 1n } })]],
    ['unknown_htlc', [holder({ content: { ...content, htlcs: [{ direction: 'outbound', id: 0n }] } })]],
    ['htlc_conflict', [holder({ content: { ...content, htlcs: [inbound, inbound] } })]],
    ['htlc_conflict', [holder({ newHtlcs: [body] })]],
    ['balance_out_of_range', [holder({ content: { ...content, toHolderMsat: -1n } })]],
    ['missing_signatures', [holder({ signatures: [] })]],
    ['not_revoked', [counterparty]],
    ['secret_refused', [secret(1n)]],
    ['secret_refused', [{ type: 'commitment_secret', commitmentNumber: 0n, secret: new Uint8Array(31) }]],
    ['secret_refused', [secret(0n), secret(1n)]],
    ['wrong_preimage', [{ type: 'payment_preimage', htlc: inbound, preimage: new Uint8Array(32) }]],
    ['force_closed', [closed, holder({})]],
    ['force_closed', [secret(0n), closed, counterparty]],
    // The HTLC leaves the counterparty's commitments with number 2; it cannot come back with number 3.
    [
      'htlc_conflict',
      [
        secret(0n),
        counterparty,
        secret(1n),
        { ...counterparty, content: { ...content, commitmentNumber: 3n, htlcs: [inbound] } },
      ],
    ],
  ])('%s', (type, steps) => {
    expect(run(...steps)).toMatchObject({ ok: false, error: { type } });
  });

  test('a secret that does not come from the same seed', () => {
    const other = commitmentSecret(new Uint8Array(32).fill(1), 1n);
    const forged: ChannelMonitorUpdateStep = {
      type: 'commitment_secret',
      commitmentNumber: 1n,
      secret: other,
    };
    expect(run(secret(0n), counterparty, forged)).toEqual({
      ok: false,
      error: { type: 'secret_refused', reason: 'not_from_same_seed' },
    });
    expect(run(secret(0n), counterparty, secret(1n)).ok).toBe(true);
  });

  test('a gap, another channel', () => {
    const update = { channelId: PARAMETERS.channelId, updateId: start.updateId + 2n, steps: [] };
    expect(applyUpdate(start, update)).toEqual({
      ok: false,
      error: { type: 'update_gap', expectedUpdateId: start.updateId + 1n, updateId: start.updateId + 2n },
    });
    expect(applyUpdate(start, { ...update, channelId: new Uint8Array(32) })).toEqual({
      ok: false,
      error: { type: 'wrong_channel' },
    });
  });

  test('what a closed channel still takes', () => {
    const script = Uint8Array.of(0x6a);
    const applied = run(
      closed,
      { type: 'channel_force_closed', shouldBroadcast: 'broadcast', reason: 'again' },
      { type: 'payment_preimage', htlc: inbound, preimage: preimageOf(inbound) },
      { type: 'payment_preimage', htlc: { direction: 'inbound', id: 99n }, preimage: new Uint8Array(32) },
      { type: 'shutdown_script', scriptPubKey: script },
      secret(0n),
    );
    if (!applied.ok) throw new RangeError(applied.error.type);
    const { monitor } = applied.value;
    expect(monitor.forceClose).toEqual({ shouldBroadcast: 'passive', reason: 'test' });
    expect([...monitor.preimages]).toEqual([['in:0', preimageOf(inbound)]]);
    expect(monitor.shutdownScript).toEqual(script);
    expect(monitor.secrets.count).toBe(1n);
  });
});
