-- Waits for a commit of the channel that is under way, and sees its phase; the next one sees the decision.
WITH fence AS MATERIALIZED (SELECT fence_holds($1, $2, $3) AS holds),
decided AS (
  UPDATE channel AS c SET closing_decision = $5 FROM fence
  WHERE fence.holds AND c.channel_id = $4 AND c.shard = $1 AND c.closing_decision IS NULL
    AND c.phase NOT IN ('closing_force', 'passive', 'closed')
  RETURNING c.shard),
told AS (
  INSERT INTO event_outbox (shard, type, time_unix_ms, body)
  SELECT shard, $6::text, $7::int8, $8::text FROM decided RETURNING 1)
SELECT CASE
  WHEN NOT holds THEN 'fence_lost'
  WHEN EXISTS (SELECT FROM decided) THEN 'decided'
  WHEN EXISTS (SELECT FROM channel WHERE channel_id = $4 AND phase = 'passive') THEN 'passive'
  ELSE 'closing' END AS outcome
FROM fence
