export type { Bus, HintSubject } from './bus.ts';
export { MemoryBusHub, subjectMatches } from './memory.ts';
export { natsBus, type NatsBusOptions } from './nats.ts';
