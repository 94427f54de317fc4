import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { appendLine, createAdminToken, tokensFromFile } from './token-files.ts';
import { bearerOf, findToken, makeToken, parseTokens, TokenFileError } from './tokens.ts';

const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length));

describe('the tokens file', () => {
  test('gives back what makeToken wrote, and finds its token alone', () => {
    const shop = makeToken('shop', ['read', 'invoices'], random(32));
    const bot = makeToken('bot', ['pay'], random(32));
    const entries = parseTokens(`# tokens\n${shop.line}\n\n${bot.line}\n`);
    expect(entries.map(({ name, scopes }) => [name, [...scopes]])).toEqual([
      ['shop', ['read', 'invoices']],
      ['bot', ['pay']],
    ]);
    expect(findToken(entries, bot.token)?.name).toBe('bot');
    expect(findToken(entries, 'f'.repeat(64))).toBeUndefined();
    expect(findToken(entries, 'short')).toBeUndefined();
    expect(shop.line).not.toContain(shop.token);
  });

  test.each([
    ['{', 'is not JSON'],
    ['7', 'is not an object'],
    ['{"name":"","scopes":[],"sha256":""}', '"name"'],
    [`{"name":"x","scopes":["root"],"sha256":"${'0'.repeat(64)}"}`, '"scopes" may hold'],
    ['{"name":"x","scopes":["read"],"sha256":"00"}', '"sha256"'],
  ])('%s is refused with its line', (line, why) => {
    expect(() => parseTokens(`\n${line}`)).toThrow(TokenFileError);
    expect(() => parseTokens(`\n${line}`)).toThrow(`line 2 of the tokens file: ${why}`);
  });

  test('any text is entries or a TokenFileError', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          parseTokens(text);
        } catch (error) {
          expect(error).toBeInstanceOf(TokenFileError);
        }
      }),
    );
  });
});

test('the bearer header is read in any case, and nothing else is', () => {
  const token = 'ab'.repeat(32);
  expect(bearerOf(`Bearer ${token}`)).toBe(token);
  expect(bearerOf(`bearer ${token.toUpperCase()}`)).toBe(token);
  expect(bearerOf(`Bearer ${token}0`)).toBeUndefined();
  expect(bearerOf(token)).toBeUndefined();
  expect(bearerOf(undefined)).toBeUndefined();
});

test.each(['', '# tokens', '# tokens\n'])('a line is added on its own to a file of %j', async (before) => {
  const made = await mkdtemp(path.join(os.tmpdir(), 'fulmen-tokens-'));
  onTestFinished(() => rm(made, { recursive: true }));
  const file = path.join(made, 'tokens.jsonl');
  await writeFile(file, before);
  await appendLine(file, 'one');
  await appendLine(file, 'two');
  const lines = (await readFile(file, 'utf8')).split('\n');
  expect(lines.filter((line) => line !== '# tokens')).toEqual(['one', 'two', '']);
});

describe('the first admin token', () => {
  const folder = async (): Promise<{ tokens: string; admin: string }> => {
    const made = await mkdtemp(path.join(os.tmpdir(), 'fulmen-tokens-'));
    onTestFinished(() => rm(made, { recursive: true }));
    return { tokens: path.join(made, 'tokens.jsonl'), admin: path.join(made, 'admin.token') };
  };

  test('is created once, readable by its owner alone', async () => {
    const { tokens, admin } = await folder();
    expect(await createAdminToken(tokens, admin, random)).toBe(true);
    const token = (await readFile(admin, 'utf8')).trim();
    expect((await stat(admin)).mode & 0o777).toBe(0o600);
    const entries = await tokensFromFile(tokens).load();
    expect(findToken(entries, token)?.scopes).toEqual(new Set(['admin']));
    expect(await createAdminToken(tokens, admin, random)).toBe(false);
    expect((await readFile(admin, 'utf8')).trim()).toBe(token);
    expect(await tokensFromFile(tokens).load()).toHaveLength(1);
  });

  test('gets a line of its own after a last line without a newline', async () => {
    const { tokens, admin } = await folder();
    const shop = makeToken('shop', ['read'], random(32));
    await writeFile(tokens, shop.line);
    expect(await createAdminToken(tokens, admin, random)).toBe(true);
    const entries = await tokensFromFile(tokens).load();
    expect(entries.map(({ name }) => name)).toEqual(['shop', 'admin']);
    expect(findToken(entries, shop.token)?.name).toBe('shop');
  });

  test('a revoked one does not come back', async () => {
    const { tokens, admin } = await folder();
    await createAdminToken(tokens, admin, random);
    await writeFile(tokens, '');
    expect(await createAdminToken(tokens, admin, random)).toBe(false);
    expect(await tokensFromFile(tokens).load()).toEqual([]);
  });

  test('of two consoles that start at once, one makes it', async () => {
    const { tokens, admin } = await folder();
    const made = await Promise.all([
      createAdminToken(tokens, admin, random),
      createAdminToken(tokens, admin, random),
    ]);
    expect(made.filter((won) => won)).toHaveLength(1);
    const token = (await readFile(admin, 'utf8')).trim();
    expect(findToken(await tokensFromFile(tokens).load(), token)?.name).toBe('admin');
  });

  test('a folder that is missing is told by name', async () => {
    const { tokens, admin } = await folder();
    await expect(createAdminToken(path.join(tokens, 'x'), admin, random)).rejects.toThrow(TokenFileError);
    await expect(tokensFromFile(tokens).load()).rejects.toThrow(/cannot be read \(ENOENT\)/);
  });
});
