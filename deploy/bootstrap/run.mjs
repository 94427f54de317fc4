#!/usr/bin/env node
// node deploy/bootstrap/run.mjs FILE.ts [arguments]: runs a program of this repository on a fresh
// clone, without a global install (see prepare.mjs for what it makes sure of).
import path from 'node:path';
import { fail, launch } from './launch.mjs';
import { root } from './prepare.mjs';

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  process.stderr.write('usage: node deploy/bootstrap/run.mjs FILE.ts [arguments]\n');
  process.exit(2);
}
const program = path.resolve(root, file);
launch(program, args, {
  skipProto: path.relative(root, program) === path.join('proto', 'generate.ts'),
}).catch(fail);
