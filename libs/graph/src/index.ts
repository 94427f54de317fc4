/** The public network: what gossip says, checked, stored, asked and saved. */
export * from './messages.ts';
export * from './rejection.ts';
export * from './graph.ts';
export * from './check.ts';
export * from './apply.ts';
export * from './queries.ts';
export * from './snapshot.ts';
