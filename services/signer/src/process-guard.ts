/** A process that holds keys must not be looked into: no debugger, no core files. */
import { readFileSync } from 'node:fs';
import { url as inspectorUrl } from 'node:inspector';
import type { Logger } from '@fulmen/service';

/** This process could be inspected. */
export class UnsafeProcessError extends Error {
  override readonly name = 'UnsafeProcessError';
}

const INSPECT =
  /(?:^|\s)--(?:inspect|debug)|--(?:heapsnapshot-signal|heapsnapshot-near-heap-limit|heap-prof|report-on|report-signal)/;

/** Why a process with these arguments and NODE_OPTIONS could be inspected; undefined when it could not. */
export function inspectable(execArgv: readonly string[], nodeOptions: string): string | undefined {
  const found = [...execArgv, ...nodeOptions.split(/\s+/)].find((option) => INSPECT.test(option));
  return found === undefined ? undefined : `started with ${found.split('=')[0]}`;
}

/** Throws UnsafeProcessError for a debugger or heap dumps; warns when core files are possible. */
export function guardProcess(logger: Logger): void {
  const reason =
    inspectorUrl() === undefined
      ? inspectable(process.execArgv, process.env['NODE_OPTIONS'] ?? '')
      : 'a debugger listens';
  if (reason !== undefined)
    throw new UnsafeProcessError(`the signer does not run when its memory can be read: ${reason}`);
  // SIGUSR1 would open the inspector.
  process.on('SIGUSR1', () => logger.warn({}, 'SIGUSR1 ignored: the signer has no inspector'));
  if (process.platform === 'linux' && !/^Max core file size\s+0\s/m.test(readLimits())) {
    logger.warn({}, 'core files are possible: set the limit to 0 (LimitCORE=0, ulimit -c 0)');
  }
}

function readLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}
