// Loaded into the program that launch.mjs starts: when the launcher has died without passing a signal
// on (kill -9, out of memory), the program ends as if it had been asked to.
import { isMainThread } from 'node:worker_threads';

const launcher = Number(process.env.FULMEN_LAUNCHER_PID);
delete process.env.FULMEN_LAUNCHER_PID;
if (isMainThread && launcher === process.ppid) {
  const timer = setInterval(() => {
    if (process.ppid === launcher) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, 500);
  timer.unref();
}
