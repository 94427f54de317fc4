-- A tower whose database was set back, or is another one, lost what it acknowledged, and no longer says so by itself. What
-- it takes is counted in its database, in the transaction that takes it: the node remembers how far the count was.

-- The node's side. mark: the highest that the tower said; 0: none yet. lost_mark: what was said up to here counts no more.
ALTER TABLE tower ADD COLUMN mark int8 NOT NULL DEFAULT 0, ADD COLUMN lost_mark int8 NOT NULL DEFAULT 0;

-- The tower's side: one row. 1: nothing was counted yet.
CREATE TABLE tower_mark (
  one  boolean PRIMARY KEY DEFAULT true CHECK (one),
  mark int8 NOT NULL
) WITH (fillfactor = 50);
INSERT INTO tower_mark (mark) VALUES (1);
