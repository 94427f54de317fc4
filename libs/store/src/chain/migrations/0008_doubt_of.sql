-- Whose word `doubt` is: a writer of a release that does not know of it leaves the one before's, and nobody may be told
-- that as its own. Believed while it is the holder's; null: nobody's.
ALTER TABLE lease ADD COLUMN doubt_of text;
