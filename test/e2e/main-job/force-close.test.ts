// What `npm start -- --once --scenario force-close` promises.
import { expect, test } from 'vitest';
import { failureOf, runStory, summaryOf } from './run-story.ts';

test('LDK wallets force-close on the fleet and the fleet on them, with HTLCs in flight both ways; both sides end whole', async () => {
  const end = await runStory('force-close');
  expect(failureOf(end)).toEqual({ code: 0, lines: [] });
  expect(summaryOf(end)).toMatchObject({
    event: 'summary',
    scenario: 'force-close',
    // Seven before, and of the six in flight one each way with its preimage; the others timed out or were dust.
    settled: 9,
    failedAsExpected: 4,
    failedUnexpectedly: 0,
    unaccountedMsat: '0',
    kills: 4,
  });
}, 600_000);
