/** One case of the matrix: a name, and a story that holds with any peer, or with any two. */
import type { PeerKind } from './peer.ts';
import type { World } from './world.ts';

export interface Case {
  /** Heading in the matrix. */
  readonly group: string;
  readonly name: string;
  /** Throws when it does not hold; `NotApplicable` when the peer cannot do it. */
  readonly run: (world: World, kind: PeerKind, other: PeerKind) => Promise<void>;
  /** pairs: run for every ordered pair of implementations. */
  readonly over: 'peers' | 'pairs';
}

export type Outcome =
  | { readonly type: 'ok'; readonly seconds: number }
  | { readonly type: 'n/a'; readonly reason: string }
  | { readonly type: 'failed'; readonly reason: string; readonly seconds: number };
