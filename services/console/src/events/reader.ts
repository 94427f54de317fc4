/** The port to the event log. */

export interface StoredEvent {
  /** Global, from 1, without gaps. */
  readonly position: bigint;
  readonly event: { readonly type: string; readonly timeUnixMs: number; readonly body: string };
}

export interface EventReader {
  /** At most `limit` events whose position is greater, in order. Rejects when the database cannot be asked. */
  readEvents(afterPosition: bigint, limit: number): Promise<readonly StoredEvent[]>;
}
