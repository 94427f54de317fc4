// The stores' public face: errors, the Postgres ground that every service's store stands on, and the manager's store.
export * from './error.ts';
export * from './pg/database.ts';
export * from './pg/migrate.ts';
export * from './pg/durability.ts';
export * from './pg/binary.ts';
export * from './pg/statements.ts';
export type * from './manager/manager-store.ts';
export { MemoryManagerDatabase, MemoryManagerStore } from './manager/memory.ts';
export {
  MANAGER_MIGRATIONS,
  MANAGER_SCHEMA,
  openManagerStore,
  PostgresManagerStore,
  prepareManagerDatabase,
  type PostgresManagerStoreOptions,
} from './manager/postgres/store.ts';
