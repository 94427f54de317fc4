// The table of BOLT 2's sentences names rows that exist, and the page shows the table.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { document, duties, rowsOf } from './duties.ts';
import { RULES } from './rules.ts';

const names = new Set(RULES.map(({ name }) => name));

for (const { section, duties: own } of duties()) {
  describe(section, () => {
    for (const duty of own)
      test(duty.sentence, () => {
        expect(rowsOf(duty).filter((row) => !names.has(row))).toEqual([]);
        const reasons = Object.keys(duty).filter((key) => key !== 'sentence' && key !== 'rows');
        expect(reasons.length).toBeLessThanOrEqual(1);
        if (reasons.length === 0) expect(rowsOf(duty)).not.toEqual([]);
      });
  });
}

test('docs/hostile-peer.md is what document.ts writes', () => {
  const page = readFileSync(new URL('../../docs/hostile-peer.md', import.meta.url), 'utf8');
  expect(page).toBe(document());
});
