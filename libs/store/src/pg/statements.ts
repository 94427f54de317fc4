/** Loads a folder of queries, a file each: the file's name names the prepared statement. */
import { readdirSync, readFileSync } from 'node:fs';
import { StoreSetupError } from '../error.ts';
import type { Statement } from './database.ts';

/**
 * Reads every `.sql` file of `folder` at once, at start-up.
 * @throws StoreSetupError from the returned function, for a name that has no file
 */
export function readStatements(folder: URL): (name: string) => Statement {
  const statements = new Map<string, Statement>();
  for (const file of readdirSync(folder)) {
    if (file.endsWith('.sql'))
      statements.set(file.slice(0, -4), {
        name: file.slice(0, -4),
        text: readFileSync(new URL(file, folder), 'utf8'),
      });
  }
  return (name) => {
    const statement = statements.get(name);
    if (statement === undefined) throw new StoreSetupError(`no query named ${name}`);
    return statement;
  };
}
