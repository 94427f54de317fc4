// A peer that breaks one rule of BOLT 2 at a time: the fleet's reaction is the one that the sentence asks for.
import { describe, expect, test } from 'vitest';
import { ADD_RULES } from './rules-add.ts';
import { CLOSING_RULES } from './rules-closing.ts';
import { COMMIT_RULES } from './rules-commit.ts';
import { FUNDING_RULES } from './rules-funding.ts';
import { MESSAGE_RULES } from './rules-messages.ts';
import { OPEN_RULES } from './rules-open.ts';
import { REESTABLISH_RULES } from './rules-reestablish.ts';
import { REMOVE_RULES } from './rules-remove.ts';
import { SHUTDOWN_RULES } from './rules-shutdown.ts';
import { Scene } from './scene.ts';

const RULES = [
  ...MESSAGE_RULES,
  ...OPEN_RULES,
  ...FUNDING_RULES,
  ...ADD_RULES,
  ...REMOVE_RULES,
  ...COMMIT_RULES,
  ...SHUTDOWN_RULES, ...CLOSING_RULES, ...REESTABLISH_RULES,
];

test('each rule is named once', () => {
  expect(new Set(RULES.map(({ name }) => name)).size).toBe(RULES.length);
});

describe.each([...new Set(RULES.map(({ section }) => section))])('%s', (section) => {
  test.each(RULES.filter((rule) => rule.section === section))('$name: $reaction', async (rule) => {
    const { reaction, heard, scene } = await Scene.play(rule.name, rule);
    expect({ reaction, heard }).toMatchObject({ reaction: rule.reaction });
    let from = 0;
    for (const words of rule.hears ?? []) {
      const at = heard.findIndex((text, index) => index >= from && text.includes(words));
      expect({ words, at, heard }).not.toMatchObject({ at: -1 });
      from = at + 1;
    }
    if (rule.never !== undefined) expect(heard).not.toContainEqual(expect.stringContaining(rule.never));
    rule.check?.(scene);
  });
});
