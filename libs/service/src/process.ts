/** What every service's main does the same way: configuration, logs, metrics, signals, and a clean or a loud end. */
import { ConfigError } from './config.ts';
import { createLogger, type Logger } from './logger.ts';
import { Metrics, serveMetrics } from './metrics.ts';
import { nodeRuntime } from './node-runtime.ts';
import type { Runtime } from './runtime.ts';

/** What a running service offers its process. */
export interface RunningService {
  /** Where it listens, for whoever started the process. */
  readonly address: string;
  /** Resolves when the service decided to end by itself (lease lost for good, unrecoverable store error). */
  readonly failed: Promise<Error>;
  stop(): Promise<void>;
}

export interface ProcessPorts {
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Longest time for a clean stop before the process ends anyway. */
const STOP_DEADLINE_MS = 15_000;

/**
 * Runs a service as this process. Its metrics port opens first, and says from
 * then on that the process is alive. Prints one JSON line `{"ready":true,…}` on
 * standard output when it serves. SIGTERM and SIGINT stop it cleanly; with
 * FULMEN_EXIT_WITH_PARENT=1 the end of standard input does too.
 */
export function runService(name: string, start: (ports: ProcessPorts) => Promise<RunningService>): void {
  const environment = process.env;
  const logger = createLogger(name, environment['FULMEN_LOG_LEVEL'] ?? 'info');
  const metrics = new Metrics(name);
  metrics.collectProcessMetrics();
  const runtime = nodeRuntime({
    onFailure: (task, error) => logger.error({ task, err: error }, 'background task failed'),
  });
  process.on('uncaughtException', (error) => {
    logger.error({ err: error }, 'uncaught exception: stopping');
    process.exit(70);
  });
  process.on('unhandledRejection', (error) => {
    logger.error({ err: error }, 'unhandled rejection: stopping');
    process.exit(70);
  });
  const main = async (): Promise<void> => {
    // Before the service starts: while it waits for others, whoever watches the process must see that it lives.
    const served = await serveMetrics(
      metrics,
      environment['FULMEN_METRICS_HOST'] ?? '127.0.0.1',
      Number(environment['FULMEN_METRICS_PORT'] ?? 0),
    );
    const service = await start({ runtime, logger, metrics, environment });
    served.ready();
    process.stdout.write(
      `${JSON.stringify({ ready: true, service: name, address: service.address, metricsPort: served.port, pid: process.pid })}\n`,
    );
    let stopping = false;
    const stop = (reason: string, code: number): void => {
      if (stopping) return;
      stopping = true;
      logger.info({ reason }, 'stopping');
      setTimeout(() => process.exit(code === 0 ? 75 : code), STOP_DEADLINE_MS).unref();
      service
        .stop()
        .then(() => served.stop())
        .then(
          () => process.exit(code),
          (error: unknown) => {
            logger.error({ err: error }, 'stop failed');
            process.exit(70);
          },
        );
    };
    process.on('SIGTERM', () => stop('SIGTERM', 0));
    process.on('SIGINT', () => stop('SIGINT', 0));
    if (environment['FULMEN_EXIT_WITH_PARENT'] === '1') {
      process.stdin.on('end', () => stop('parent ended', 0));
      process.stdin.on('error', () => stop('parent ended', 0));
      process.stdin.resume();
    }
    void service.failed.then((error) => {
      logger.error({ err: error }, 'the service cannot go on');
      stop('failed', 71);
    });
  };
  main().catch((error: unknown) => {
    if (error instanceof ConfigError) process.stderr.write(`${name}: ${error.message}\n`);
    logger.error({ err: error }, 'could not start');
    process.exit(error instanceof ConfigError ? 78 : 70);
  });
}
