// What `npm start -- --once --scenario breach` promises.
import { expect, test } from 'vitest';
import { failureOf, runStory, summaryOf } from './run-story.ts';

test('a revoked commitment broadcast while channel-manager, gateways, router and NATS are dead is punished', async () => {
  const end = await runStory('breach');
  expect(failureOf(end)).toEqual({ code: 0, lines: [] });
  expect(summaryOf(end)).toMatchObject({
    event: 'summary',
    scenario: 'breach',
    settled: 10,
    failedUnexpectedly: 0,
    unaccountedMsat: '0',
    kills: 6,
  });
}, 600_000);
