/** The version of this checkout, as `fulmen version` and GetInfo say it. */
import packageJson from '../package.json' with { type: 'json' };

export const VERSION: string = packageJson.version;
