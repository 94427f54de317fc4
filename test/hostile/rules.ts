/** Every row of the hostile peer's table. */
import type { Rule } from './rule.ts';
import { ADD_RULES } from './rules-add.ts';
import { CLOSING_RULES } from './rules-closing.ts';
import { COMMIT_RULES } from './rules-commit.ts';
import { FUNDING_RULES } from './rules-funding.ts';
import { MESSAGE_RULES } from './rules-messages.ts';
import { OPEN_RULES } from './rules-open.ts';
import { REESTABLISH_RULES } from './rules-reestablish.ts';
import { REMOVE_RULES } from './rules-remove.ts';
import { SHUTDOWN_RULES } from './rules-shutdown.ts';

export const RULES: readonly Rule[] = [
  ...MESSAGE_RULES,
  ...OPEN_RULES,
  ...FUNDING_RULES,
  ...ADD_RULES,
  ...REMOVE_RULES,
  ...COMMIT_RULES,
  ...SHUTDOWN_RULES,
  ...CLOSING_RULES,
  ...REESTABLISH_RULES,
];
