// Ends the child processes when this process dies without doing so itself (kill -9, out of memory).
//
// One small shell holds the reading end of a pipe from here. It is told which processes exist; when
// the pipe closes it ends what is left: first with the signal that suits each, then by force. It lives
// in a session of its own, so that the terminal's Ctrl-C does not end it early.
import { type ChildProcess, spawn } from 'node:child_process';

const SCRIPT = `
pids=""
while read -r op pid sig; do
  case $op in
    add) pids="$pids $pid:$sig" ;;
    del) rest=""; for p in $pids; do [ "\${p%%:*}" = "$pid" ] || rest="$rest $p"; done; pids=$rest ;;
  esac
done
[ -n "$pids" ] || exit 0
for p in $pids; do kill -s "\${p##*:}" "\${p%%:*}" 2>/dev/null; done
n=0
while [ $n -lt 100 ]; do
  left=""
  for p in $pids; do kill -0 "\${p%%:*}" 2>/dev/null && left="$left $p"; done
  [ -n "$left" ] || exit 0
  n=$((n + 1)); sleep 0.1
done
for p in $left; do kill -KILL "\${p%%:*}" 2>/dev/null; done
`;

let shell: ChildProcess | undefined;

/** Has `child` ended with `signal` should this process die first. Call it right after the spawn. */
export function guardChild(child: ChildProcess, signal: 'INT' | 'TERM'): void {
  if (child.pid === undefined) return;
  const pid = child.pid;
  tell(`add ${pid} ${signal}`);
  child.once('exit', () => tell(`del ${pid}`));
}

function tell(line: string): void {
  if (shell === undefined) {
    shell = spawn('/bin/sh', ['-c', SCRIPT], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
    });
    shell.unref();
    // The guard must never keep this process alive, nor end it when the guard is gone.
    (shell.stdin as unknown as { unref(): void }).unref();
    shell.stdin?.on('error', () => undefined);
    shell.on('error', () => undefined);
  }
  shell.stdin?.write(`${line}\n`);
}
