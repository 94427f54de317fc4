// A peer that breaks one rule of BOLT 2 at a time: the fleet's reaction is the one that the sentence asks for.
import { describe, expect, test } from 'vitest';
import { CLOSE_RULES } from './rules-close.ts';
import { OPEN_RULES } from './rules-open.ts';
import { UPDATE_RULES } from './rules-updates.ts';
import { Scene } from './scene.ts';

const RULES = [...OPEN_RULES, ...UPDATE_RULES, ...CLOSE_RULES];

test('each rule is named once', () => {
  expect(new Set(RULES.map(({ name }) => name)).size).toBe(RULES.length);
});

describe.each([...new Set(RULES.map(({ section }) => section))])('%s', (section) => {
  test.each(RULES.filter((rule) => rule.section === section))('$name: $reaction', async (rule) => {
    const { reaction, heard } = await Scene.play(rule.name, rule.stage, rule.act);
    expect({ reaction, heard }).toMatchObject({ reaction: rule.reaction });
    if (rule.hears !== undefined) expect(heard).toContainEqual(expect.stringContaining(rule.hears));
  });
});
