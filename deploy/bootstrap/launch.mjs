// Runs one TypeScript file with Node 26 as if it had been started directly: same arguments, stdio,
// exit code, and each signal once.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { BootstrapError, prepare } from './prepare.mjs';

const watchParent = path.join(path.dirname(fileURLToPath(import.meta.url)), 'watch-parent.mjs');

/**
 * Prepares the checkout, then runs `file` with `args` and ends this process as it ended.
 * @param {string} file path of the program, absolute
 * @param {string[]} args
 * @param {{ skipProto?: boolean }} options
 */
export async function launch(file, args, options = {}) {
  // A signal while packages are installed ends this process at once: every step can be repeated.
  const node = await prepare(options);
  if (!fs.existsSync(file)) throw new BootstrapError(`There is no program ${file} in this checkout.`);
  await run(node, file, args);
}

// npm passes on a Ctrl-C that the terminal has already sent to every process of the group, so the
// same key press arrives here two or three times within milliseconds.
const SAME_SIGNAL_MS = 300;

function run(node, file, args) {
  return new Promise((_resolve, reject) => {
    // A process group of its own: the terminal's Ctrl-C reaches only this process, which passes it on
    // once. The child watches that this process lives, so a kill -9 of it leaves no orphan.
    const child = spawn(node, ['--import', pathToFileURL(watchParent).href, file, ...args], {
      stdio: 'inherit',
      detached: process.platform !== 'win32',
      env: { ...process.env, FULMEN_LAUNCHER_PID: String(process.pid) },
    });
    const lastSent = new Map();
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
    const forward = (signal) => {
      const now = performance.now();
      if (now - (lastSent.get(signal) ?? -Infinity) < SAME_SIGNAL_MS) return;
      lastSent.set(signal, now);
      child.kill(signal);
    };
    for (const signal of signals) process.on(signal, forward);
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (signal === null) process.exit(code ?? 1);
      for (const name of signals) process.removeListener(name, forward);
      process.kill(process.pid, signal);
      // A signal that cannot end this process (it is ignored in the parent shell) still must.
      setTimeout(() => process.exit(1), 100);
    });
  });
}

/** Shows a failure as a sentence, and a defect with its stack. */
export function fail(error) {
  process.stderr.write(
    error instanceof BootstrapError ? `fulmen: ${error.message}\n` : `${error?.stack ?? error}\n`,
  );
  process.exit(1);
}
