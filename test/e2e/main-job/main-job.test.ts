// What `npm start -- --once` promises, run as a user runs it.
import { expect, test } from 'vitest';
import { failureOf, runStory, summaryOf } from './run-story.ts';

test('the main job: payments cross the fleet, six kills, nothing unaccounted for', async () => {
  const end = await runStory('payments');
  expect(failureOf(end)).toEqual({ code: 0, lines: [] });
  expect(summaryOf(end)).toMatchObject({
    event: 'summary',
    settled: 52,
    failedAsExpected: 4,
    failedUnexpectedly: 0,
    unaccountedMsat: '0',
    kills: 6,
  });
}, 400_000);
