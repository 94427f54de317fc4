// What a person does before anything of this repository runs: with the Node that the machine has, and as the user that it has.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The guides, and what stands at the head of files that people run. */
const guides = fs
  .globSync(
    [
      '*.{md,yml}',
      'docs/**/*.md',
      'deploy/**/*.{md,yml,yaml}',
      'libs/*/*.md',
      'services/*/*.md',
      'test/**/*.{md,ts}',
    ],
    { cwd: root },
  )
  .filter((file) => !file.includes('node_modules'))
  .map((file) => ({ file, text: fs.readFileSync(path.join(root, file), 'utf8') }));

test('no guide runs a program by the machine’s own Node, which may be one that does not know TypeScript', () => {
  expect(guides.map(({ file }) => file)).toContain(path.join('deploy', 'tower', 'README.md'));
  const found = guides.flatMap(({ file, text }) =>
    text
      .split('\n')
      // Inside an image it is the image's.
      .filter((line) => /\bnode [\w./-]+\.ts\b/.test(line) && !line.includes('docker compose exec'))
      .map((line) => `${file}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
});

test('a folder that is not writable is named in a sentence, also for a user without a name', () => {
  const prepare = pathToFileURL(path.join(root, 'deploy', 'bootstrap', 'prepare.mjs')).href;
  const program = `
    import os from 'node:os';
    os.userInfo = () => { throw new Error('uv_os_get_passwd returned ENOENT'); };
    const { explain } = await import(${JSON.stringify(prepare)});
    process.stdout.write(explain('The folder cannot be used', 'Error: EACCES: permission denied').message);
  `;
  const said = execFileSync(process.execPath, ['--input-type=module', '--eval', program], {
    encoding: 'utf8',
  });
  expect(said).toContain('not writable for this user');
  expect(said).toContain(`run as the owner of ${root}`);
});
