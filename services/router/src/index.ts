/** The router, for whoever composes it: a test, the all-in-one node. */
export { start, type RouterPorts } from './start.ts';
export { readRouterConfig, type RouterConfig, type RouterProcessConfig } from './config.ts';
export { MemoryRouterDisk, memoryRouterStore } from './store/memory.ts';
export type { RouterStore } from './store/router-store.ts';
