/** A chain source whose answers a test can replace. */
import type { WholeBlockSource } from '@fulmen/chain';

/** The source with some methods replaced, for as long as `isActive` says so. */
export function overriding(
  source: WholeBlockSource,
  overrides: (source: WholeBlockSource) => Partial<WholeBlockSource>,
  isActive: () => boolean,
): WholeBlockSource {
  const replaced = overrides(source);
  return new Proxy(source, {
    get(target, name) {
      const key = name as keyof WholeBlockSource;
      const override = isActive() ? replaced[key] : undefined;
      return override ?? target[key].bind(target);
    },
  });
}
