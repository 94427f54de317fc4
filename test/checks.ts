// The checks of the source that are no tests: one list for `npm test` and `npm run lint`.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. */
export const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/** A tool of node_modules with its arguments. */
export type Check = { readonly name: string; readonly script: string; readonly args: readonly string[] };

const OXLINT = 'node_modules/oxlint/bin/oxlint';
const OXFMT = 'node_modules/oxfmt/bin/oxfmt';

/** Rules of .oxlintrc.json, with types. */
export const lint = (paths: readonly string[], mode: 'check' | 'fix'): Check => ({
  name: 'lint',
  script: OXLINT,
  args: ['--type-aware', ...(mode === 'fix' ? ['--fix'] : []), ...orRoot(paths)],
});

/** Layout of .oxfmtrc.json. */
export const format = (paths: readonly string[], mode: 'check' | 'fix'): Check => ({
  name: 'format',
  script: OXFMT,
  args: [mode === 'fix' ? '--write' : '--check', '--no-error-on-unmatched-pattern', ...orRoot(paths)],
});

/** The whole workspace by the compiler. */
export const types = (): Check => ({
  name: 'types',
  script: 'node_modules/typescript/bin/tsc',
  args: ['--noEmit', '-p', 'tsconfig.json'],
});

/** The contracts, by buf's standard rules. */
export const contracts = (): Check => ({
  name: 'contracts',
  script: 'proto/node_modules/@bufbuild/buf/bin/buf',
  args: ['lint', 'proto'],
});

function orRoot(paths: readonly string[]): readonly string[] {
  return paths.length === 0 ? ['.'] : paths;
}

/** How a check ended; the output is what it printed on both streams. */
export type Outcome = { readonly passed: boolean; readonly output: string; readonly seconds: number };

/** Runs a check with its output collected. */
export function runCheck(check: Check): Promise<Outcome> {
  const startedMs = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [check.script, ...check.args], {
      cwd: repositoryRoot,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    const end = (passed: boolean) =>
      resolve({ passed, output, seconds: (performance.now() - startedMs) / 1000 });
    child.once('error', (error) => {
      output += error.message;
      end(false);
    });
    child.once('close', (code) => end(code === 0));
  });
}
