/** The console's public face: what an all-in-one node or a test composes. */
export { type ConsoleConfig, consoleConfig } from './config.ts';
export { type ConsolePorts, startConsole } from './start.ts';
export type { EventReader, StoredEvent } from './events/reader.ts';
export type { TokenSource } from './auth/tokens.ts';
