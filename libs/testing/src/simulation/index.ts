/** Simulation: many processes in one heap, on virtual time, from one seed. */
export { type CallConditions, type CallFault, simulatedCalls } from './calls.ts';
export { Incarnation } from './incarnation.ts';
export { Prng } from './prng.ts';
export { type Scheduled, Scheduler, SimulationError } from './scheduler.ts';
