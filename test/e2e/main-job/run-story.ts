// Runs a story as a user runs it, for the tests.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { repositoryRoot } from '../support/state.ts';

/** How it ended; `lines` of its output, each JSON. */
export type StoryEnd = { readonly code: number | null; readonly lines: readonly string[] };

/** `npm start -- --once --json --scenario …` with a state folder of its own. */
export async function runStory(scenario: string): Promise<StoryEnd> {
  const stateDir = fs.mkdtempSync(path.join(os.tmpdir(), `fulmen-${scenario}-`));
  // The database's own user must be able to enter.
  fs.chmodSync(stateDir, 0o755);
  try {
    const child = spawn(
      process.execPath,
      ['test/e2e/main-job/start.ts', '--once', '--json', '--scenario', scenario, '--state', stateDir],
      { cwd: repositoryRoot, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const output: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => output.push(text));
    }
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { code, lines: output.join('').trim().split('\n') };
  } finally {
    fs.rmSync(stateDir, { recursive: true, force: true });
  }
}

/** The lines before the end say why it failed, should it have failed. */
export function failureOf({ code, lines }: StoryEnd): StoryEnd {
  return { code, lines: code === 0 ? [] : lines.slice(-20) };
}

/** The last line. */
export function summaryOf({ lines }: StoryEnd): unknown {
  return JSON.parse(lines.at(-1) ?? '{}');
}
