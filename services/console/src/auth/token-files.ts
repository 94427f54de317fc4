/** Tokens from files: the configured hashes, and the admin token that a first start creates. */
import { link, open, readFile, rm, writeFile } from 'node:fs/promises';
import { makeToken, parseTokens, TokenFileError, type TokenSource } from './tokens.ts';

export function tokensFromFile(file: string): TokenSource {
  return {
    load: async () => {
      let text: string;
      try {
        text = await readFile(file, 'utf8');
      } catch (error) {
        throw new TokenFileError(`the tokens file ${file} cannot be read (${codeOf(error)})`);
      }
      return parseTokens(text);
    },
  };
}

/** Adds a line to a file, which an editor may have left without a newline at its end. Makes the file when there is none. */
export async function appendLine(file: string, line: string): Promise<void> {
  const handle = await open(file, 'a+', 0o600);
  try {
    const { size } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    const begin = size === 0 || last.toString('latin1') === '\n' ? '' : '\n';
    await handle.writeFile(`${begin}${line}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Creates a token of scope "admin" unless `adminTokenFile` exists: its hash is
 * appended to the tokens file first, so that a crash in between leaves a hash
 * that nobody has the token of. Resolves with true when it made one.
 */
export async function createAdminToken(
  tokensFile: string,
  adminTokenFile: string,
  random: (length: number) => Uint8Array,
): Promise<boolean> {
  const existing = await readFile(adminTokenFile, 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new TokenFileError(`the admin token file ${adminTokenFile} cannot be read (${codeOf(error)})`);
  });
  if (existing !== undefined) return false;
  const { token, line } = makeToken('admin', ['admin'], random(32));
  const temporary = `${adminTokenFile}.${Buffer.from(random(4)).toString('hex')}.part`;
  try {
    await appendLine(tokensFile, line);
    await writeFile(temporary, `${token}\n`, { mode: 0o600, flag: 'wx', flush: true });
    // A hard link fails when the file exists: of two consoles that start at once, one wins.
    await link(temporary, adminTokenFile);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw new TokenFileError(`the admin token could not be written to ${adminTokenFile} (${codeOf(error)})`);
  } finally {
    await rm(temporary, { force: true });
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
