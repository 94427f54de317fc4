// A peer that breaks one rule of BOLT 2 at a time: the fleet's reaction is the one that the sentence asks for.
import { describe, expect, test } from 'vitest';
import type { Rule } from './rule.ts';
import { RULES } from './rules.ts';
import { Scene } from './scene.ts';

test('each rule is named once', () => {
  expect(new Set(RULES.map(({ name }) => name)).size).toBe(RULES.length);
});

for (const section of new Set(RULES.map((rule) => rule.section))) {
  describe(section, () => {
    for (const rule of RULES.filter((other) => other.section === section))
      test(`${rule.name}: ${rule.reaction}`, () => plays(rule));
  });
}

async function plays(rule: Rule): Promise<void> {
  const { reaction, heard, scene } = await Scene.play(rule.name, rule);
  expect({ reaction, heard }).toMatchObject({ reaction: rule.reaction });
  let from = 0;
  for (const words of rule.hears ?? []) {
    const at = heard.findIndex((text, index) => index >= from && text.includes(words));
    expect({ words, at, heard }).not.toMatchObject({ at: -1 });
    from = at + 1;
  }
  if (rule.never !== undefined) expect(heard).not.toContainEqual(expect.stringContaining(rule.never));
  // An answer, and no reason to ask another replica: the console tells it to the operator.
  if (scene.refusal !== undefined)
    expect(scene.refusal).toMatchObject({
      code: 'failed_precondition',
      message: expect.stringContaining('the channel was not opened'),
      metadata: {},
    });
  rule.check?.(scene);
}
