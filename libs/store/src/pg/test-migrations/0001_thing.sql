CREATE TABLE thing (id int8 PRIMARY KEY, body bytea NOT NULL CHECK (length(body) < 10));
