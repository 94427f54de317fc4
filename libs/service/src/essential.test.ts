import { expect, test } from 'vitest';
import { essentialTasks } from './essential.ts';
import { nodeRuntime } from './node-runtime.ts';

test('a task that ends by an error is told of; one that ends, or is stopped, is not', async () => {
  const failures: Error[] = [];
  const runtime = essentialTasks(nodeRuntime({ onFailure: () => undefined }), (error) =>
    failures.push(error),
  );
  await runtime.spawn('ends', () => Promise.resolve()).done;
  await runtime.spawn('is stopped', (signal) => runtime.sleep(60_000, signal)).stop();
  expect(failures).toEqual([]);
  const broken = new TypeError('broken');
  await expect(runtime.spawn('breaks', () => Promise.reject(broken)).done).rejects.toBe(broken);
  expect(failures).toEqual([broken]);
});
