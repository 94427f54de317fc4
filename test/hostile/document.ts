/** Writes docs/hostile-peer.md from the tables. */
import { writeFileSync } from 'node:fs';
import { document } from './duties.ts';

writeFileSync(new URL('../../docs/hostile-peer.md', import.meta.url), document());
