/** What composes a signer: its start function, its stores, and the marker that guards against a set-back database. */
export { SignerStartError, start } from './start.ts';
export type { SignerOptions, SignerPorts } from './start.ts';
export { MemorySignerDatabase, MemorySignerStore } from './store/memory.ts';
export { fileMarker, memoryMarker } from './marker.ts';
export { REFUSAL_KIND_KEY, REFUSAL_POLICY_KEY } from './signer.ts';
export type { SignerStore } from './store/port.ts';
