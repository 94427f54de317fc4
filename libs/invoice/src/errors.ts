/** Why an invoice from outside is refused. Carries nothing that would need escaping to be shown. */
import type { FeatureName } from '@fulmen/codec';

/** A tagged field known here, by its letter. */
export type FieldLetter = 'p' | 's' | 'd' | 'm' | 'n' | 'h' | 'x' | 'c' | 'f' | 'r' | '9';

/** The reason of a refusal. */
export type InvoiceError =
  | { readonly kind: 'too_long' }
  /** Not bech32: characters, mixed case, checksum. */
  | { readonly kind: 'invalid_bech32' }
  | { readonly kind: 'unknown_prefix' }
  | { readonly kind: 'invalid_amount' }
  | { readonly kind: 'too_short' }
  /** A field runs past the signature. */
  | { readonly kind: 'truncated_field' }
  /** A field's content is not what its letter promises. */
  | { readonly kind: 'malformed_field'; readonly field: FieldLetter }
  /** Missing, or of a length that readers skip. */
  | { readonly kind: 'missing_field'; readonly field: FieldLetter }
  | { readonly kind: 'duplicate_field'; readonly field: FieldLetter }
  /** Neither or both of `d` and `h`. */
  | { readonly kind: 'ambiguous_description' }
  | { readonly kind: 'invalid_signature' }
  | { readonly kind: 'unknown_required_features'; readonly bits: readonly number[] }
  | {
      readonly kind: 'missing_feature_dependency';
      readonly feature: FeatureName;
      readonly needs: FeatureName;
    };
