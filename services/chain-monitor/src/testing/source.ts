/** A chain source whose answers a test can replace. */
import type { ChainSource } from '@fulmen/chain';

/** The source with some methods replaced, for as long as `isActive` says so. */
export function overriding(
  source: ChainSource,
  overrides: (source: ChainSource) => Partial<ChainSource>,
  isActive: () => boolean,
): ChainSource {
  const replaced = overrides(source);
  return new Proxy(source, {
    get(target, name) {
      const key = name as keyof ChainSource;
      const override = isActive() ? replaced[key] : undefined;
      return override ?? target[key].bind(target);
    },
  });
}
