-- The third part of the hot path, after commit_payments: every claim was of an intent that is there. prune takes a
-- cancelled intent away together with its claim, so that the claim of whoever still has the intent in hand (its actor
-- waited for the signer meanwhile) meets no rival. Were that enough, an HTLC would be added that its payment counts as
-- never sent. A statement of its own: its snapshot is later than any prune that the claim's insert had to wait for.
CREATE FUNCTION require_intents(ic_unit int4[], ic_source bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  bad record;
BEGIN
  IF cardinality(ic_source) > 0 THEN
    SELECT n.unit, n.source INTO bad FROM unnest(ic_unit, ic_source) AS n(unit, source)
    WHERE NOT EXISTS (SELECT FROM intent AS i WHERE i.source = n.source) LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'intent lost' USING ERRCODE = 'FM003', DETAIL = concat_ws(' ', bad.unit, encode(bad.source, 'hex'));
    END IF;
  END IF;
END $$;
