// Messages of the network's implementations and ours to them, recorded by the interop lane: one of each type in each
// direction. They must be known, and encode to the same bytes, records that nobody here knows included.
import fs from 'node:fs';
import path from 'node:path';
import { fromHex, toHex } from '@fulmen/codec';
import { describe, expect, test } from 'vitest';
import { decodeMessage, encodeMessage, messageName } from './message.ts';

const DIR = path.join(import.meta.dirname, '../fixtures');

describe.each(fs.readdirSync(DIR))('%s', (file) => {
  const lines = fs
    .readFileSync(path.join(DIR, file), 'utf8')
    .trimEnd()
    .split('\n')
    .filter((line) => !line.startsWith('#'));

  test.each(lines.map((line): [string, string] => [line.split(' ').slice(1, 3).join(' '), line]))(
    '%s',
    (_title, line) => {
      const [, , name, hex = ''] = line.split(' ');
      const bytes = fromHex(hex);
      const decoded = decodeMessage(bytes);
      if (!decoded.ok) throw decoded.error;
      const { value } = decoded;
      if (value.type === 'unknown') {
        expect(value.isRequired).toBe(false);
        expect(name).toBe(`type_${value.messageType}`);
        expect(messageName(value.messageType)).toBeUndefined();
      } else expect(value.type).toBe(name);
      expect(toHex(encodeMessage(value))).toBe(hex);
    },
  );
});
