#!/usr/bin/env node
// The command `fulmen` (`npx fulmen …` in a checkout).
import path from 'node:path';
import { fail, launch } from './launch.mjs';
import { root } from './prepare.mjs';

launch(path.join(root, 'services', 'console', 'src', 'cli', 'main.ts'), process.argv.slice(2)).catch(fail);
