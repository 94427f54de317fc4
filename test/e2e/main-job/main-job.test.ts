// What `npm start -- --once` promises, run as a user runs it.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { repositoryRoot } from '../support/state.ts';

test('the main job: payments cross the fleet, six kills, nothing unaccounted for', async () => {
  const stateDir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-main-job-'));
  fs.chmodSync(stateDir, 0o755);
  try {
    const child = spawn(
      process.execPath,
      ['test/e2e/main-job/start.ts', '--once', '--json', '--state', stateDir],
      { cwd: repositoryRoot, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const output: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => output.push(text));
    }
    const code = await new Promise((resolve) => child.once('close', resolve));
    const lines = output.join('').trim().split('\n');
    // The lines before the end say why it failed, should it fail.
    expect({ code, lines: code === 0 ? [] : lines.slice(-20) }).toEqual({ code: 0, lines: [] });
    expect(JSON.parse(lines.at(-1) ?? '{}')).toMatchObject({
      event: 'summary',
      settled: 52,
      failedAsExpected: 4,
      failedUnexpectedly: 0,
      unaccountedMsat: '0',
      kills: 6,
    });
  } finally {
    fs.rmSync(stateDir, { recursive: true, force: true });
  }
}, 400_000);
