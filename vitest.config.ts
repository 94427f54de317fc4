import { defineConfig } from 'vitest/config';

/** Files that start a fleet, a Postgres or other processes: one at a time. `npm test` runs them after the others. */
const FLEET = ['test/e2e/**/*.test.ts', 'test/ldk-wallet/*.test.ts'];

export default defineConfig({
  test: {
    pool: 'forks',
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'libs/*/src/**/*.test.ts',
            'services/*/src/**/*.test.ts',
            'proto/*.test.ts',
            'test/**/*.test.ts',
          ],
          exclude: [...FLEET, '**/node_modules/**'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'fleet',
          include: FLEET,
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
