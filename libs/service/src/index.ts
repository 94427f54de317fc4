export * from './runtime.ts';
export { essentialTasks } from './essential.ts';
export { nodeRuntime, spawnTask } from './node-runtime.ts';
export { createLogger, type Logger, silentLogger } from './logger.ts';
export { Metrics, serveMetrics } from './metrics.ts';
export * from './config.ts';
export { type ProcessPorts, type RunningService, runService } from './process.ts';
