/**
 * Generates TypeScript from the contracts: `npm run proto`. Run by the
 * bootstrap whenever a .proto file is newer than what was generated.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const here = import.meta.dirname;
const require = createRequire(import.meta.url);
const out = join(here, 'gen');

const files = readdirSync(join(here, 'fulmen'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.proto'))
  .map((file) => join('fulmen', file))
  .sort();

const options = [
  'outputServices=grpc-js',
  'forceLong=bigint',
  'oneof=unions-value',
  'esModuleInterop=true',
  'enumsAsLiterals=true',
  'outputJsonMethods=false',
  'exportCommonSymbols=false',
  'useExactTypes=false',
  'importSuffix=.ts',
];

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const plugin = join(dirname(require.resolve('ts-proto/package.json')), 'protoc-gen-ts_proto');
const protoc = join(dirname(require.resolve('protoc/package.json')), 'protoc.cjs');
execFileSync(
  process.execPath,
  [
    protoc,
    `--plugin=protoc-gen-ts_proto=${plugin}`,
    `--ts_proto_out=${out}`,
    `--ts_proto_opt=${options.join(',')}`,
    `--descriptor_set_out=${join(out, 'descriptors.bin')}`,
    '--include_imports',
    `-I${here}`,
    ...files,
  ],
  { cwd: here, stdio: 'inherit' },
);
writeFileSync(join(out, '.stamp'), '');
