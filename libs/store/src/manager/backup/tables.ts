/** The tables of the backups' store in memory; one object for each database. */
export class MemoryBackupTables {
  readonly backups = new Map<bigint, Uint8Array>();
  readonly peerStorage = new Map<
    string,
    { readonly peerNodeId: Uint8Array; blob: Uint8Array; channelHeight: number }
  >();
  /** In the order of their arrival. */
  readonly returned = new Map<string, { readonly peerNodeId: Uint8Array; readonly sealed: Uint8Array }>();
}
