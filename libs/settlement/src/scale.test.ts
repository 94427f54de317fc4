/** What does not grow: the bytes of a revoked state, and the work of an open channel. */
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { encodeMonitor } from '@fulmen/monitor';
import { describe, expect, test } from 'vitest';
import { settle } from './settle.ts';
import { fullChannel, longChannel } from './testing/scale.ts';

test.each([
  // Every HTLC, the balance, the anchor; of a revoked one both balances.
  ['holder', 'holder', 968],
  ['counterparty', 'counterparty', 968],
  ['revoked', 'revoked', 969],
] as const)('a %s commitment with all HTLCs that BOLT 2 allows is settled whole', (owner, type, outputs) => {
  const full = fullChannel();
  const settlement = settle({ secp }, full.monitor, full.closedBy(owner, 100, 1n));
  expect(settlement.close?.type).toBe(type);
  expect(settlement.outputs).toHaveLength(outputs);
  expect(settlement.htlcs).toHaveLength(483);
  expect(settlement.watched.length).toBeLessThanOrEqual(outputs + 1);
});

describe('a channel with a long past', () => {
  const long = longChannel(3000);

  test('takes few bytes for each revoked state', () => {
    // One HTLC for two states: its hash alone is 16 bytes a state.
    expect(encodeMonitor(long.monitor).length / 3000).toBeLessThan(34);
  });

  test.each([0n, 1n, 1499n, 2998n, 2999n])('is punished with state %i', (number) => {
    const { close, outputs } = settle({ secp }, long.monitor, long.closedBy('revoked', 100, number));
    expect(close).toMatchObject({ type: 'revoked', commitmentNumber: number });
    const htlcs = outputs.filter(({ kind }) => kind.startsWith('htlc'));
    // Odd states have a payment in flight.
    expect(htlcs).toHaveLength(Number(number % 2n));
    expect(htlcs.every(({ status }) => status.type === 'claimable')).toBe(true);
  });
});
