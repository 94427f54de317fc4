/**
 * The port for hints. Nothing true lives only here: whoever acts on a hint
 * reads the database, and polls it when no hint comes (law 6).
 */
export type HintSubject =
  /** A new best block was processed. */
  | 'fulmen.block'
  /** Work for a shard is in the database: intents, resolutions, preimages, commands. Suffix: the shard's number. */
  | `fulmen.shard.${number}`
  /** New events in the event log. */
  | 'fulmen.event'
  /** Shard ownership changed. */
  | 'fulmen.lease'
  /** Gossip was accepted. */
  | 'fulmen.gossip'
  /** Monitor log grew. */
  | 'fulmen.monitor'
  /** Channels came or went, or a new static backup is there. */
  | 'fulmen.backup'
  /** A tower has something new to fetch. */
  | 'fulmen.tower.update'
  /** A tower acknowledged something. */
  | 'fulmen.tower.ack';

export interface Bus {
  /** Fire and forget: never throws, never blocks; dropped when the bus is away. */
  publish(subject: HintSubject, payload?: Uint8Array): void;
  /** Subjects may end in `>`. Listener errors are contained. Returns the unsubscriber. */
  subscribe(
    subject: HintSubject | 'fulmen.shard.>',
    listener: (subject: string, payload: Uint8Array) => void,
  ): () => void;
  readonly connected: boolean;
  close(): Promise<void>;
}
