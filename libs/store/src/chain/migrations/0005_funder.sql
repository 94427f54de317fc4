-- Whether this node pays for the channel; null: taken up by a release that did not note it.
ALTER TABLE funding ADD COLUMN holder_is_funder boolean;
