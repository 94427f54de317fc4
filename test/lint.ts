// `npm run lint [-- paths]`: rules and layout of the source. `--fix` repairs what can be repaired.
import { format, lint, runCheck } from './checks.ts';

const args = process.argv.slice(2);
const mode = args.includes('--fix') ? 'fix' : 'check';
const paths = args.filter((argument) => argument !== '--fix');

// One after the other: both may write the same files.
for (const check of [lint(paths, mode), format(paths, mode)]) {
  const outcome = await runCheck(check);
  process.stdout.write(outcome.output);
  if (!outcome.passed) process.exitCode = 1;
}
