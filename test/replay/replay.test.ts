// Conversations with the network's implementations, recorded by the interop lane, replayed without them.
import fs from 'node:fs';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { decodeMessage, encodeMessage } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import { type Conversation, format, parse } from './conversation.ts';
import { replay, ReplayMismatch } from './replay.ts';

const DIR = path.join(import.meta.dirname, 'conversations');
const files = fs.readdirSync(DIR);
const read = (file: string): string => fs.readFileSync(path.join(DIR, file), 'utf8');
const channelOf = (conversation: Conversation): string => [...conversation.channelKeys.keys()][0] ?? '';

describe.each(files)('%s', (file) => {
  const conversation = parse(read(file));

  test('is read and written as it is', () => {
    expect(format(conversation)).toBe(read(file));
  });

  test('every message is decoded and encoded to the same bytes', () => {
    for (const line of conversation.lines) {
      if (line.direction === 'end') continue;
      const decoded = decodeMessage(line.message);
      if (!decoded.ok) throw decoded.error;
      expect(toHex(encodeMessage(decoded.value))).toBe(toHex(line.message));
    }
  });

  test('the core and the signer say every byte that the fleet said', async () => {
    const said = conversation.lines.filter(({ direction }) => direction === 'out').length;
    const inits = conversation.lines.filter(
      (line) => line.direction === 'out' && line.message[1] === 16 && line.message[0] === 0,
    ).length;
    const { computed } = await replay(conversation, channelOf(conversation));
    expect(computed).toHaveLength(said - inits);
    expect(computed).toContain('commitment_signed');
    expect(computed).toContain('revoke_and_ack');
  });

  test('a byte of the peer’s that changes is noticed', async () => {
    const index = conversation.lines.findIndex(
      (line) => line.direction === 'in' && line.message[1] === 132 && line.message[0] === 0,
    );
    const line = conversation.lines[index];
    if (line === undefined || line.direction === 'end') throw new ReplayMismatch('no commitment_signed');
    const message = Uint8Array.from(line.message);
    message[40] = (message[40] ?? 0) ^ 1;
    const changed = { ...conversation, lines: conversation.lines.with(index, { ...line, message }) };
    await expect(replay(changed, channelOf(conversation))).rejects.toThrow(ReplayMismatch);
  });

  test('another seed makes other bytes', async () => {
    const mnemonic = `${'abandon '.repeat(11)}about`;
    await expect(replay({ ...conversation, mnemonic }, channelOf(conversation))).rejects.toThrow(
      ReplayMismatch,
    );
  });
});

test('both sides of every implementation are there', () => {
  const kinds = new Set(files.map((file) => parse(read(file)).kind));
  expect([...kinds]).toEqual(expect.arrayContaining(['ldk', 'lnd']));
});

test('what cannot be read is refused by its line', () => {
  const [file = ''] = files;
  const text = read(file);
  expect(() => parse(text.replace(/ in init /, ' in pong '))).toThrow(/^line \d+ of a conversation/);
  expect(() => parse(text.replace(/^# feerates/m, '# other'))).toThrow('a conversation without feerates');
});
