/** Prometheus metrics of one service instance: a registry of its own, since replicas may share a heap in tests. */
import { createServer, type Server } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export class Metrics {
  readonly registry = new Registry();

  constructor(service: string) {
    this.registry.setDefaultLabels({ service });
  }

  counter<L extends string>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return new Counter({
      name: `fulmen_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
    });
  }

  gauge<L extends string>(name: string, help: string, labelNames: readonly L[] = []): Gauge<L> {
    return new Gauge({
      name: `fulmen_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
    });
  }

  /** Buckets in seconds. */
  histogram<L extends string>(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames: readonly L[] = [],
  ): Histogram<L> {
    return new Histogram({
      name: `fulmen_${name}`,
      help,
      buckets: [...buckets],
      labelNames: [...labelNames],
      registers: [this.registry],
    });
  }

  /** CPU, memory, event loop lag, garbage collection of this process. Call once, in main. */
  collectProcessMetrics(): void {
    collectDefaultMetrics({ register: this.registry });
  }
}

export interface MetricsServer {
  readonly port: number;
  /** The service serves: from now on there are metrics. */
  ready(): void;
  stop(): Promise<void>;
}

/**
 * Serves those who watch, on host:port; port 0 picks one. `/alive` is answered as long as the process is not stuck, also while
 * it waits for other services; `/metrics` once it is ready.
 */
export async function serveMetrics(metrics: Metrics, host: string, port: number): Promise<MetricsServer> {
  let isReady = false;
  const server: Server = createServer((request, response) => {
    if (request.url === '/alive') {
      response.writeHead(200).end();
      return;
    }
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    if (!isReady) {
      response.writeHead(503).end('not ready\n');
      return;
    }
    metrics.registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.requestTimeout = 5_000;
  server.maxConnections = 32;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    ready: () => {
      isReady = true;
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
