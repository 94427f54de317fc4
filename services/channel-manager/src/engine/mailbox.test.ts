import { expect, test } from 'vitest';
import type { CommandOutcome, Item } from './items.ts';
import { Mailbox } from './mailbox.ts';

const block = (height: number): Item => ({ kind: 'block', height });

/** A mailbox whose turns end when they are let, and what they worked on. */
function boxWithGate() {
  const turns: (readonly Item[])[] = [];
  const gates: (() => void)[] = [];
  const failures: unknown[] = [];
  const mailbox = new Mailbox(
    (items) => {
      turns.push(items);
      return new Promise((resolve) => gates.push(resolve));
    },
    (error) => failures.push(error),
  );
  return { mailbox, turns, endTurn: () => gates.shift()?.(), failures };
}

test('one that is never empty comes to rest with the turn under way, and answers for the rest', async () => {
  const { mailbox, turns, endTurn, failures } = boxWithGate();
  mailbox.push(block(1));
  mailbox.push(block(2));
  let rests = false;
  mailbox.drain();
  const idle = mailbox.idle().then(() => (rests = true));
  const outcomes: CommandOutcome[] = [];
  mailbox.push({
    kind: 'command',
    input: { type: 'abandon_opening', reason: '' },
    settle: (outcome) => outcomes.push(outcome),
  });
  await Promise.resolve();
  expect(rests).toBe(false);
  endTurn();
  await idle;
  mailbox.push({
    kind: 'message',
    input: { type: 'commitment_signed_batch', messages: [] },
    generation: 1n,
    frame: 7n,
  });
  expect(turns).toEqual([[block(1)]]);
  expect(outcomes).toEqual([]);
  expect(mailbox.stop()).toEqual([7n]);
  expect(outcomes).toMatchObject([{ ok: false, error: { message: expect.stringContaining('try again') } }]);
  expect(failures).toEqual([]);
});

test('one without a turn under way rests at once, and begins none', async () => {
  const { mailbox, turns } = boxWithGate();
  mailbox.drain();
  await mailbox.idle();
  mailbox.push(block(1));
  await mailbox.idle();
  expect(turns).toEqual([]);
});
