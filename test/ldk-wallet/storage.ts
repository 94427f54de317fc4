// The wallet's data folder: one generation of manager, monitors and the rest at a time.
//
// LDK closes a channel whose manager is older than its monitor. So all of them are written together:
// new files first, then `manifest.json`, whose rename makes the generation count. What the wallet says
// to its peers leaves after that.
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fromHex, toHex } from './ldk.ts';

/** One generation. `monitors` maps `txid:index` of the funding to the monitor's bytes. */
export type Snapshot<Meta> = {
  readonly manager: Uint8Array;
  readonly monitors: ReadonlyMap<string, Uint8Array>;
  readonly graph: Uint8Array | undefined;
  readonly meta: Meta;
};

/** What changed since the last generation. */
export type Changes<Meta> = {
  readonly manager?: Uint8Array;
  readonly monitors?: ReadonlyMap<string, Uint8Array | null>;
  readonly graph?: Uint8Array;
  readonly meta: Meta;
};

type Manifest<Meta> = {
  readonly generation: number;
  readonly manager: string;
  readonly monitors: Readonly<Record<string, string>>;
  readonly graph?: string;
  readonly meta: Meta;
};

/** The data folder. */
export class Storage<Meta> {
  readonly #dir: string;
  #manifest: Manifest<Meta> | undefined;

  constructor(dir: string) {
    this.#dir = dir;
    fs.mkdirSync(dir, { recursive: true });
  }

  /** The last generation, or undefined in a new folder. */
  load(): Snapshot<Meta> | undefined {
    let text: string;
    try {
      text = fs.readFileSync(path.join(this.#dir, 'manifest.json'), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    const manifest = JSON.parse(text) as Manifest<Meta>;
    this.#manifest = manifest;
    this.#removeAllBut(manifest);
    const read = (name: string) => Uint8Array.from(fs.readFileSync(path.join(this.#dir, name)));
    return {
      manager: read(manifest.manager),
      monitors: new Map(Object.entries(manifest.monitors).map(([key, name]) => [key, read(name)])),
      graph: manifest.graph === undefined ? undefined : read(manifest.graph),
      meta: manifest.meta,
    };
  }

  /** Writes a generation; a crash at any point leaves the one before or this one. */
  save(changes: Changes<Meta>): void {
    const before = this.#manifest;
    const generation = (before?.generation ?? 0) + 1;
    const write = (name: string, bytes: Uint8Array) => {
      fs.writeFileSync(path.join(this.#dir, name), bytes);
      return name;
    };
    const monitors = { ...before?.monitors };
    for (const [key, bytes] of changes.monitors ?? []) {
      if (bytes === null) delete monitors[key];
      else monitors[key] = write(`monitor-${key.replace(':', '-')}.${generation}`, bytes);
    }
    const manager =
      changes.manager === undefined ? before?.manager : write(`manager.${generation}`, changes.manager);
    if (manager === undefined) return;
    const graph = changes.graph === undefined ? before?.graph : write(`graph.${generation}`, changes.graph);
    const manifest: Manifest<Meta> = {
      generation,
      manager,
      monitors,
      ...(graph === undefined ? {} : { graph }),
      meta: changes.meta,
    };
    const file = path.join(this.#dir, 'manifest.json');
    fs.writeFileSync(`${file}.part`, JSON.stringify(manifest));
    fs.renameSync(`${file}.part`, file);
    this.#manifest = manifest;
    if (before !== undefined) this.#removeReplaced(before, manifest);
  }

  #removeReplaced(before: Manifest<Meta>, now: Manifest<Meta>): void {
    const kept = filesOf(now);
    for (const name of filesOf(before)) {
      if (!kept.has(name)) fs.rmSync(path.join(this.#dir, name), { force: true });
    }
  }

  /** A crash between two writes leaves files that no generation names. */
  #removeAllBut(manifest: Manifest<Meta>): void {
    const kept = filesOf(manifest);
    for (const name of fs.readdirSync(this.#dir)) {
      if (/^(manager|graph|monitor-[0-9a-f]+-\d+)\.\d+$/.test(name) && !kept.has(name)) {
        fs.rmSync(path.join(this.#dir, name), { force: true });
      }
    }
  }
}

function filesOf(manifest: Manifest<unknown>): Set<string> {
  const files = new Set([manifest.manager, ...Object.values(manifest.monitors)]);
  if (manifest.graph !== undefined) files.add(manifest.graph);
  return files;
}

/** The seed in a file, which is made where there is none. */
export function loadSeed(file: string): Uint8Array {
  try {
    return fromHex(fs.readFileSync(file, 'utf8').trim(), 32);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const seed = Uint8Array.from(randomBytes(32));
  fs.writeFileSync(`${file}.part`, `${toHex(seed)}\n`, { mode: 0o600 });
  fs.renameSync(`${file}.part`, file);
  return seed;
}
