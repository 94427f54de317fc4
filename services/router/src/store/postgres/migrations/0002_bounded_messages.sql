-- Messages longer than the router takes, and what nodes without a channel said of themselves.
DELETE FROM channel WHERE octet_length(announcement) > 2048;
DELETE FROM channel_update WHERE octet_length(raw) > 2048;
DELETE FROM node WHERE octet_length(raw) > 2048;

-- channel_announcement: type and four signatures (258 bytes), length of the features and the features, chain hash and
-- short channel id (40 bytes), the two node ids.
WITH ends AS (
  SELECT substring(c.announcement FROM 301 + f.length + side * 33 FOR 33) AS node_id
    FROM channel c
    CROSS JOIN LATERAL (SELECT get_byte(c.announcement, 258) * 256 + get_byte(c.announcement, 259) AS length) f
    CROSS JOIN generate_series(0, 1) side
   WHERE octet_length(c.announcement) >= 432
)
DELETE FROM node n WHERE NOT EXISTS (SELECT 1 FROM ends e WHERE e.node_id = n.node_id);
