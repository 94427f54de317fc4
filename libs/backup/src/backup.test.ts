/** Sealed forms: the recorded one, round trips, arbitrary and damaged bytes; what may replace what; what fits. */
import { readFileSync } from 'node:fs';
import { concatBytes, EncodeError, equalBytes, fromHex, toHex } from '@fulmen/codec';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NodeBackup } from './backup.ts';
import { decodeContent, encodeContent } from './codec.ts';
import { fitted, isSameContent, merged, replacementFault } from './policy.ts';
import { openBackup, readHeader, sealBackup } from './seal.ts';
import { channelBackup, nodeBackup } from './testing/arbitraries.ts';
import { RECORDED_BACKUP, RECORDED_SALT, RECORDED_SECRET } from './testing/recorded.ts';

/** Written once by the release that introduced the version; never regenerated. */
const recorded = JSON.parse(
  readFileSync(new URL('./vectors/recorded-v1.json', import.meta.url), 'utf8'),
) as Readonly<Record<'sealed', string>>;

const SECRET = RECORDED_SECRET;
const SALT = new Uint8Array(32).fill(1);

function contentOf(backup: NodeBackup): Omit<NodeBackup, 'nodeId' | 'sequence'> {
  const { nodeId: _nodeId, sequence: _sequence, ...content } = backup;
  return content;
}

describe('the sealed form', () => {
  test('version 1, recorded, opens as what it was and is sealed as it was', () => {
    expect(openBackup(SECRET, fromHex(recorded.sealed))).toEqual({ ok: true, value: RECORDED_BACKUP });
    expect(toHex(sealBackup(SECRET, RECORDED_SALT, RECORDED_BACKUP))).toBe(recorded.sealed);
  });

  test('every backup comes back as it was', () => {
    fc.assert(
      fc.property(nodeBackup, (backup) => {
        const sealed = sealBackup(SECRET, SALT, backup);
        expect(openBackup(SECRET, sealed)).toEqual({ ok: true, value: backup });
        expect(readHeader(sealed)).toEqual({
          ok: true,
          value: { nodeId: backup.nodeId, sequence: backup.sequence },
        });
      }),
      { numRuns: 100 },
    );
  });

  test('padded, every backup has one length, and comes back as it was', () => {
    fc.assert(
      fc.property(nodeBackup, (backup) => {
        const sealed = sealBackup(SECRET, SALT, backup, 65_531);
        expect(sealed.length).toBe(65_531);
        expect(openBackup(SECRET, sealed)).toEqual({ ok: true, value: backup });
      }),
      { numRuns: 20 },
    );
    const { length } = sealBackup(SECRET, SALT, RECORDED_BACKUP);
    expect(sealBackup(SECRET, SALT, RECORDED_BACKUP, length).length).toBe(length);
    expect(() => sealBackup(SECRET, SALT, RECORDED_BACKUP, length - 1)).toThrow(EncodeError);
  });

  test('another seed does not open it', () => {
    const sealed = sealBackup(SECRET, SALT, RECORDED_BACKUP);
    expect(openBackup(new Uint8Array(32).fill(2), sealed)).toEqual({
      ok: false,
      error: { type: 'cannot_decrypt' },
    });
  });

  test('no bit of it can be changed, the header’s included', () => {
    const sealed = sealBackup(SECRET, SALT, RECORDED_BACKUP);
    for (let at = 0; at < sealed.length; at++) {
      const damaged = sealed.slice();
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(openBackup(SECRET, damaged).ok).toBe(false);
    }
    for (let length = 0; length < sealed.length; length += 7)
      expect(openBackup(SECRET, sealed.subarray(0, length)).ok).toBe(false);
    expect(openBackup(SECRET, concatBytes(sealed, Uint8Array.of(0))).ok).toBe(false);
  });

  test('a version of the future is named', () => {
    const sealed = sealBackup(SECRET, SALT, RECORDED_BACKUP);
    sealed[4] = 2;
    expect(openBackup(SECRET, sealed)).toEqual({
      ok: false,
      error: { type: 'unsupported_version', version: 2 },
    });
  });

  test('any bytes are refused with a reason, or are content that encodes to the same', () => {
    const near = fc.tuple(nodeBackup, fc.nat(), fc.nat(255)).map(([backup, at, byte]) => {
      const bytes = encodeContent(contentOf(backup));
      bytes[at % bytes.length] = byte;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), near), (bytes) => {
        expect(openBackup(SECRET, bytes).ok).toBe(false);
        const decoded = decodeContent(bytes);
        if (decoded.ok) expect(equalBytes(encodeContent(decoded.value), bytes)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('replacing a backup', () => {
  const nothingClosed = (): boolean => false;
  const next: NodeBackup = { ...RECORDED_BACKUP, sequence: 301n };

  test('a newer one of the same channels replaces it', () => {
    expect(replacementFault(RECORDED_BACKUP, next, nothingClosed)).toBeUndefined();
    expect(replacementFault(RECORDED_BACKUP, RECORDED_BACKUP, nothingClosed)).toBeUndefined();
  });

  test('a full backup is never overwritten by an empty one of a database that was lost', () => {
    const channelIds = RECORDED_BACKUP.channels.map(({ channelId }) => channelId);
    expect(replacementFault(RECORDED_BACKUP, { ...next, channels: [] }, nothingClosed)).toEqual({
      type: 'forgets_channels',
      channelIds,
    });
    expect(replacementFault(RECORDED_BACKUP, { ...next, sequence: 1n, channels: [] }, nothingClosed)).toEqual(
      { type: 'older', sequence: 1n, existingSequence: 300n },
    );
  });

  test('channels may leave it once they are known to be closed', () => {
    const [first, second] = RECORDED_BACKUP.channels;
    const isSecond = (channelId: Uint8Array): boolean =>
      second !== undefined && equalBytes(channelId, second.channelId);
    const without = { ...next, channels: first === undefined ? [] : [first] };
    expect(replacementFault(RECORDED_BACKUP, without, isSecond)).toBeUndefined();
    expect(replacementFault(RECORDED_BACKUP, without, nothingClosed)?.type).toBe('forgets_channels');
    expect(replacementFault(RECORDED_BACKUP, { ...next, channels: [] }, () => true)).toBeUndefined();
  });

  test('another node’s or network’s is never replaced', () => {
    expect(
      replacementFault({ ...RECORDED_BACKUP, nodeId: new Uint8Array(33).fill(3) }, next, nothingClosed),
    ).toEqual({ type: 'other_node' });
    expect(replacementFault({ ...RECORDED_BACKUP, network: 'regtest' }, next, nothingClosed)).toEqual({
      type: 'other_network',
    });
  });
});

test('what does not fit is left out, the keeper’s channels and large ones last', () => {
  fc.assert(
    fc.property(nodeBackup, fc.integer({ min: 256, max: 4_000 }), fc.nat(5), (backup, maximum, which) => {
      const keeper = backup.channels[which]?.counterpartyNodeId ?? backup.nodeId;
      const part = fitted(backup, keeper, maximum);
      expect(sealBackup(SECRET, SALT, part).length).toBeLessThanOrEqual(maximum);
      const whole = sealBackup(SECRET, SALT, backup).length <= maximum;
      expect(part.coverage).toBe(whole ? backup.coverage : 'part');
      if (whole) expect(part.channels).toEqual(backup.channels);
      for (const channel of part.channels) expect(backup.channels).toContain(channel);
    }),
    { numRuns: 200 },
  );
  const [first, second] = RECORDED_BACKUP.channels;
  if (first === undefined || second === undefined) throw new RangeError('two channels');
  // Room for one: the keeper's, though the other is larger.
  expect(fitted(RECORDED_BACKUP, second.counterpartyNodeId, 700).channels).toEqual([second]);
  expect(fitted(RECORDED_BACKUP, RECORDED_BACKUP.nodeId, 700).channels).toEqual([first]);
});

test('several backups together know every channel, each as the newest says', () => {
  fc.assert(
    fc.property(nodeBackup, channelBackup, (backup, other) => {
      const [first] = backup.channels;
      const newer: NodeBackup = {
        ...backup,
        sequence: 500n,
        channels: first === undefined ? [] : [{ ...first, searchFromHeight: 7 }],
      };
      const older: NodeBackup = { ...backup, sequence: 400n, coverage: 'full' };
      const both = merged([older, newer]);
      expect(both?.sequence).toBe(500n);
      expect(both?.channels.length).toBe(backup.channels.length);
      if (first !== undefined && both?.channels[0] !== undefined)
        expect(both.channels[0].searchFromHeight).toBe(7);
      const foreign: NodeBackup = { ...older, nodeId: new Uint8Array(33), channels: [other] };
      expect(merged([newer, foreign])?.channels).toEqual(newer.channels);
    }),
    { numRuns: 50 },
  );
  expect(merged([])).toBeUndefined();
});

test('the same content is recognised whatever its number and time', () => {
  expect(isSameContent(RECORDED_BACKUP, { ...RECORDED_BACKUP, sequence: 1n, createdUnixSeconds: 5 })).toBe(
    true,
  );
  expect(isSameContent(RECORDED_BACKUP, { ...RECORDED_BACKUP, channels: [] })).toBe(false);
});
