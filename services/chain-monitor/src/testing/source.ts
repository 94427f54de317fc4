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

/** A source that gives one block only once it is told to. */
export class BlockGate {
  readonly #hash: string | undefined;
  readonly #opened: Promise<void>;
  #open: () => void = () => undefined;

  constructor(hash: string | undefined) {
    this.#hash = hash;
    this.#opened = new Promise((resolve) => (this.#open = resolve));
  }

  readonly wrap = (source: WholeBlockSource): WholeBlockSource =>
    overriding(
      source,
      () => ({
        getBlock: async (hash) => {
          if (hash === this.#hash) await this.#opened;
          return source.getBlock(hash);
        },
      }),
      () => true,
    );

  open(): void {
    this.#open();
  }
}
