-- Replicas of the release before 0018 find a channel by a row in scid of kind 'real', which only their own commits wrote: an
-- HTLC for a channel that another replica confirms would fail for good with 'unknown_next_peer'. The row comes with the scid
-- on the channel's row now, whoever commits it. A row whose channel still says that it is there stays: that release writes
-- it with each commit of the channel, and would be refused.
CREATE FUNCTION name_real_scid() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO scid (scid, channel_id, kind) VALUES (NEW.short_channel_id, NEW.channel_id, 'real')
  ON CONFLICT (scid) DO UPDATE SET channel_id = excluded.channel_id
  WHERE scid.kind = 'real' AND NOT EXISTS (
    SELECT FROM channel AS c WHERE c.channel_id = scid.channel_id AND c.short_channel_id = scid.scid);
  RETURN NULL;
END $$;
CREATE TRIGGER name_real_scid_at_birth AFTER INSERT ON channel FOR EACH ROW WHEN (NEW.short_channel_id IS NOT NULL)
  EXECUTE FUNCTION name_real_scid();
CREATE TRIGGER name_real_scid AFTER UPDATE OF short_channel_id ON channel FOR EACH ROW
  WHEN (NEW.short_channel_id IS NOT NULL AND NEW.short_channel_id IS DISTINCT FROM OLD.short_channel_id)
  EXECUTE FUNCTION name_real_scid();
