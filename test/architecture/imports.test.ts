// Holds the direction of imports and the purity of the core.
//
//   services → shell libraries → pure libraries; a service never imports another service.
//
// A pure library is a function of its input: no clock, no randomness, no I/O, no promise. Drivers
// (Postgres, NATS, gRPC, ZeroMQ) live in one adapter library each, so that everything above them runs
// on a simulation as well.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

const PURE = new Set([
  'codec',
  'crypto',
  'bitcoin',
  'wire',
  'noise',
  'onion',
  'invoice',
  'keys',
  'channel',
  'monitor',
  'settlement',
  'backup',
  'graph',
  'payment',
  'lsps',
]);
const SHELL = new Set(['rpc', 'bus', 'store', 'chain', 'service']);

/** Packages that only one place may use, and that place. */
const DRIVERS: readonly { readonly packages: RegExp; readonly homes: readonly string[] }[] = [
  { packages: /^(pg|pg-.*|postgres)(\/|$)/, homes: ['libs/store'] },
  { packages: /^(nats|@nats-io\/.*)(\/|$)/, homes: ['libs/bus'] },
  { packages: /^(@grpc\/.*|grpc-health-check)(\/|$)/, homes: ['libs/rpc'] },
  { packages: /^zeromq(\/|$)/, homes: ['libs/chain'] },
  { packages: /^(pino|prom-client)(\/|$)/, homes: ['libs/service'] },
];

/** What a pure library may take of Node: the hash and cipher functions, and the loader of a native addon. */
const PURE_NODE_MODULES = new Map([['crypto', new Set(['node:crypto', 'node:module'])]]);

/** Packages from outside that are functions only. */
const PURE_PACKAGES = /^(@noble\/|@scure\/|secp256k1$|tiny-secp256k1$|bitcoinjs-lib(\/|$))/;

/** Names that bring in the outside world. `Date.` and `.then` would come through these as well. */
const IMPURE: readonly (readonly [string, RegExp])[] = [
  ['a clock', /\b(Date|performance)\b/],
  [
    'randomness',
    /\bMath\s*\.\s*random\b|\b(getRandomValues|randomBytes|randomUUID|randomInt|randomFillSync)\b/,
  ],
  ['timers', /\b(setTimeout|setInterval|setImmediate|queueMicrotask|nextTick)\b/],
  ['the process', /(?<![.\w'"#])process\s*\./],
  ['promises', /\bPromise\b|\basync\s+(function\b|\(|[A-Za-z_$][\w$]*\s*(=>|\())|\bawait\s/],
  ['output', /\bconsole\s*\./],
  ['weak references', /\b(WeakRef|FinalizationRegistry)\b/],
];

type Import = { readonly specifier: string; readonly typeOnly: boolean };
type Source = {
  readonly file: string;
  readonly owner: string;
  readonly isTest: boolean;
  readonly imports: Import[];
  readonly code: string;
};

/** Removes comments, and the content of strings, so that words in them do not count. */
function bareCode(text: string): string {
  return text.replace(
    /\/\*[^]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\$]|\$(?!\{))*`/g,
    (found) => (found.startsWith('/') ? ' ' : "''"),
  );
}

function importsOf(text: string): Import[] {
  const code = text.replace(/\/\*[^]*?\*\//g, ' ').replace(/^\s*\/\/[^\n]*$/gm, ' ');
  const found: Import[] = [];
  for (const match of code.matchAll(/\b(import|export)\s+(type\s+)?(?:[^'";]*?\bfrom\s*)?'([^']+)'/g)) {
    found.push({ specifier: match[3] ?? '', typeOnly: match[2] !== undefined });
  }
  for (const match of code.matchAll(/\b(?:import|require)\s*\(\s*'([^']+)'/g)) {
    found.push({ specifier: match[1] ?? '', typeOnly: false });
  }
  return found;
}

function sources(): Source[] {
  const found: Source[] = [];
  for (const group of ['libs', 'services']) {
    const groupDir = path.join(root, group);
    for (const name of fs.readdirSync(groupDir)) {
      const src = path.join(groupDir, name, 'src');
      if (!fs.existsSync(src)) continue;
      for (const entry of fs.readdirSync(src, { recursive: true, encoding: 'utf8' })) {
        if (!/\.tsx?$/.test(entry)) continue;
        const text = fs.readFileSync(path.join(src, entry), 'utf8');
        found.push({
          file: path.join(group, name, 'src', entry),
          owner: `${group}/${name}`,
          // Test code beside the source: tests, generators of values, and readers of vectors.
          isTest: /\.test\.tsx?$|(^|\/)(vectors|testing)\/|(^|\/)arbitrar(y|ies)\.ts$/.test(entry),
          imports: importsOf(text),
          code: bareCode(text),
        });
      }
    }
  }
  return found;
}

const all = sources();
const workspace = new Map<string, string>();
for (const group of ['libs', 'services']) {
  for (const name of fs.readdirSync(path.join(root, group)))
    workspace.set(`@fulmen/${name}`, `${group}/${name}`);
}

/** The workspace folder an import goes to, or undefined for a package from outside. */
function target(specifier: string): string | undefined {
  const [scope = '', name = ''] = specifier.split('/');
  return workspace.get(`${scope}/${name}`);
}

function layer(owner: string): 'pure' | 'shell' | 'testing' | 'service' {
  if (owner.startsWith('services/')) return 'service';
  const name = owner.slice('libs/'.length);
  if (PURE.has(name)) return 'pure';
  return SHELL.has(name) ? 'shell' : 'testing';
}

function violations(check: (source: Source, imported: Import) => string | undefined): string[] {
  const found: string[] = [];
  for (const source of all) {
    for (const imported of source.imports) {
      const why = check(source, imported);
      if (why !== undefined) found.push(`${source.file}: ${imported.specifier} (${why})`);
    }
  }
  return found;
}

describe('the direction of imports', () => {
  test('every library has a layer', () => {
    const unknown = [...workspace.values()].filter(
      (owner) => layer(owner) === 'testing' && owner !== 'libs/testing',
    );
    expect(unknown).toEqual([]);
  });

  test('runs from services over shell libraries to pure libraries', () => {
    const allowed = {
      pure: ['pure'],
      shell: ['pure', 'shell'],
      service: ['pure', 'shell'],
      testing: ['pure', 'shell', 'testing'],
    } as const;
    const wrong = violations((source, imported) => {
      const to = target(imported.specifier);
      if (to === undefined || to === source.owner) return undefined;
      const toLayer = layer(to);
      // Tests may use the shared test library.
      if (source.isTest && toLayer === 'testing') return undefined;
      return (allowed[layer(source.owner)] as readonly string[]).includes(toLayer)
        ? undefined
        : `${toLayer} library`;
    });
    expect(wrong).toEqual([]);
  });

  test('never leaves a package by a relative path', () => {
    const wrong = violations((source, imported) => {
      if (!imported.specifier.startsWith('.')) return undefined;
      const to = path.join(path.dirname(source.file), imported.specifier);
      return to.startsWith(`${source.owner}/`) ? undefined : 'leaves its package';
    });
    expect(wrong).toEqual([]);
  });

  test('keeps drivers in their adapters', () => {
    const wrong = violations((source, imported) => {
      if (source.isTest || imported.typeOnly || layer(source.owner) === 'testing') return undefined;
      const driver = DRIVERS.find(({ packages }) => packages.test(imported.specifier));
      if (driver === undefined || driver.homes.includes(source.owner)) return undefined;
      return `belongs in ${driver.homes.join(', ')}`;
    });
    expect(wrong).toEqual([]);
  });
});

describe('pure libraries', () => {
  const pure = all.filter((source) => layer(source.owner) === 'pure' && !source.isTest);

  test('import nothing of Node', () => {
    const wrong = pure.flatMap((source) =>
      source.imports
        .filter(({ specifier }) => specifier.startsWith('node:'))
        .filter(({ specifier }) => !PURE_NODE_MODULES.get(source.owner.slice('libs/'.length))?.has(specifier))
        .map(({ specifier }) => `${source.file}: ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  test('use only packages that compute', () => {
    const wrong = pure.flatMap((source) =>
      source.imports
        .filter(({ specifier }) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
        .filter(({ specifier }) => target(specifier) === undefined && !PURE_PACKAGES.test(specifier))
        .map(({ specifier }) => `${source.file}: ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  test.each(IMPURE)('use no %s', (what, pattern) => {
    const wrong = pure.flatMap((source) => {
      const match = pattern.exec(source.code);
      return match === null ? [] : [`${source.file}: ${match[0].trim()} (${what})`];
    });
    expect(wrong).toEqual([]);
  });
});

test('the checks see what they look for', () => {
  expect(
    importsOf(
      "import { a,\n b } from 'x';\nimport type { C } from 'y';\nexport * from './z.ts';\nimport 'w';",
    ),
  ).toEqual([
    { specifier: 'x', typeOnly: false },
    { specifier: 'y', typeOnly: true },
    { specifier: './z.ts', typeOnly: false },
    { specifier: 'w', typeOnly: false },
  ]);
  const impure = "// Date\nconst text = 'await x'; const now = Date.now(); /* Promise */";
  expect(IMPURE.filter(([, pattern]) => pattern.test(bareCode(impure))).map(([what]) => what)).toEqual([
    'a clock',
  ]);
});
