// `npm run simulate [-- --seed N] [--seeds M] [--trace]`: runs one seed, or M of them from N on.
import { parseArgs } from 'node:util';
import { run } from './run.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
    calm: { type: 'boolean', default: false },
  },
});
const first = Number(values.seed);
const count = Number(values.seeds);
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  process.stderr.write('--seed and --seeds are whole numbers\n');
  process.exit(2);
}
let failed = 0;
for (let seed = first; seed < first + count; seed += 1) {
  try {
    const report = await run(seed, {
      faults: values.calm ? 'none' : 'seeded',
      ...(values.trace ? { onLine: (line: string) => process.stdout.write(`${line}\n`) } : {}),
    });
    const { traceHash, events, virtualMs, payments, fulfilled, faults } = report;
    process.stdout.write(
      `seed ${seed}: ${traceHash}, ${events} events in ${virtualMs} virtual ms, ${fulfilled} of ${payments} payments fulfilled; faults: ${faults.join(', ') || 'none'}\n`,
    );
  } catch (error) {
    failed += 1;
    process.stdout.write(`✗ ${error instanceof Error ? error.message : String(error)}\n`);
    if (error instanceof Error && error.name !== 'ViolationError') process.stdout.write(`${error.stack}\n`);
    process.stdout.write(`  replay: npm run simulate -- --seed ${seed} --trace\n`);
  }
}
if (count > 1) process.stdout.write(`${count - failed} passed, ${failed} failed\n`);
process.exit(failed === 0 ? 0 : 1);
