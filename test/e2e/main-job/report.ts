// What the main job tells: sentences for a person, or one JSON object a line for a program.

/** How the job speaks. */
export type Report = {
  /** A chapter of the story. */
  readonly step: (title: string) => void;
  /** Something that happened in it; `fields` go into the JSON line. */
  readonly say: (text: string, fields?: Readonly<Record<string, unknown>>) => void;
  /** The last line. */
  readonly summary: (fields: Readonly<Record<string, unknown>>) => void;
};

const json = (value: Readonly<Record<string, unknown>>): void => {
  process.stdout.write(
    `${JSON.stringify(value, (_key, field: unknown) => (typeof field === 'bigint' ? field.toString() : field))}\n`,
  );
};

export function jsonReport(): Report {
  return {
    step: (title) => json({ event: 'step', title }),
    say: (text, fields = {}) => json({ event: 'progress', text, ...fields }),
    summary: (fields) => json({ event: 'summary', ...fields }),
  };
}

export function textReport(startedAtMs: number): Report {
  const clock = (): string => `${((Date.now() - startedAtMs) / 1000).toFixed(1).padStart(6)}s`;
  return {
    step: (title) => process.stdout.write(`\n${clock()}  ${title}\n`),
    say: (text) => process.stdout.write(`${clock()}    ${text}\n`),
    summary: (fields) =>
      process.stdout.write(
        `\n${JSON.stringify({ event: 'summary', ...fields }, (_key, field: unknown) => (typeof field === 'bigint' ? field.toString() : field))}\n`,
      ),
  };
}
