/** Typed configuration from the environment: read once, and a bad value stops the process with a sentence. */
import { z } from 'zod';

export { z };

/** The environment does not describe a configuration this service can run with. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** host:port. */
export const address = z.string().regex(/^[^\s:]+:\d{1,5}$/, 'must be host:port');
/** A whole number in a range, from text. */
export const integer = (min: number, max: number) => z.coerce.number().int().min(min).max(max);
/** Comma-separated list, empty entries dropped. */
export const list = z.string().transform((text) =>
  text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item.length > 0),
);

/**
 * Parses variables against a schema whose keys are the variables' names.
 * Throws ConfigError naming every bad variable, never its value.
 */
export function readConfig<S extends z.ZodObject>(
  schema: S,
  environment: Readonly<Record<string, string | undefined>>,
): z.infer<S> {
  const wanted = Object.fromEntries(
    Object.keys(schema.shape).map((key) => [key, environment[key] === '' ? undefined : environment[key]]),
  );
  const parsed = schema.safeParse(wanted);
  if (parsed.success) return parsed.data as z.infer<S>;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new ConfigError(`configuration is not usable: ${problems.join('; ')}`);
}
