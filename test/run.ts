// `npm test [-- filter]`: every check of the source and every test.
//
// Ends with the line `N passed, N failed`: vitest's tests and each check counted as one. A filter
// restricts the tests to files whose path contains it.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Check, format, lint, repositoryRoot, runCheck, types, contracts } from './checks.ts';

type Count = { readonly passed: number; readonly failed: number };

async function runOne(check: Check): Promise<boolean> {
  const outcome = await runCheck(check);
  const mark = outcome.passed ? '✓' : '✗';
  process.stdout.write(`${mark} ${check.name} (${outcome.seconds.toFixed(1)} s)\n`);
  if (!outcome.passed) process.stdout.write(`${outcome.output.trimEnd()}\n`);
  return outcome.passed;
}

async function runChecks(): Promise<Count> {
  const results = await Promise.all(
    [lint([], 'check'), format([], 'check'), types(), contracts()].map(runOne),
  );
  const passed = results.filter(Boolean).length;
  return { passed, failed: results.length - passed };
}

async function runVitest(project: 'unit' | 'fleet', filters: readonly string[]): Promise<Count> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fulmen-test-'));
  const report = path.join(dir, 'report.json');
  try {
    const vitest = path.join('node_modules', 'vitest', 'vitest.mjs');
    const args = ['run', '--project', project, '--passWithNoTests', '--reporter=default', '--reporter=json'];
    args.push(`--outputFile.json=${report}`, ...filters);
    const code = await new Promise<number>((resolve) => {
      const child = spawn(process.execPath, [vitest, ...args], {
        cwd: repositoryRoot,
        stdio: ['ignore', 'inherit', 'inherit'],
      });
      child.once('error', () => resolve(1));
      child.once('close', (status) => resolve(status ?? 1));
    });
    const { passed, failed } = readReport(report);
    // A file that does not load, or an error outside of every test, fails no test of its own.
    return { passed, failed: code !== 0 && failed === 0 ? 1 : failed };
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

type Report = {
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
};

function readReport(file: string): Count {
  if (!fs.existsSync(file)) return { passed: 0, failed: 1 };
  const report = JSON.parse(fs.readFileSync(file, 'utf8')) as Report;
  let failed = 0;
  for (const { status, assertionResults } of report.testResults) {
    // A test that did not run is no success: there is no skipping here.
    const wrong = assertionResults.filter((one) => one.status !== 'passed').length;
    failed += status !== 'passed' && wrong === 0 ? 1 : wrong;
  }
  return { passed: report.numPassedTests, failed };
}

const checks = await runChecks();
// What fails fast comes first; the fleets, which need the whole machine, come last.
const filters = process.argv.slice(2);
const unit = await runVitest('unit', filters);
const fleet = await runVitest('fleet', filters);
const passed = checks.passed + unit.passed + fleet.passed;
const failed = checks.failed + unit.failed + fleet.failed;
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
