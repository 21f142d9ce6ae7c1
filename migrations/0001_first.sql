-- Accounts and settings. Conversations are not here: their truth is in the journals.
-- Ids are 16 bytes, big-endian, so that they sort as their text does.

CREATE TABLE site (
    id      BLOB PRIMARY KEY CHECK (length(id) = 16),
    name    TEXT NOT NULL,
    made_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    id      BLOB PRIMARY KEY CHECK (length(id) = 16),
    place   INTEGER NOT NULL UNIQUE,
    name    TEXT NOT NULL,
    origins TEXT NOT NULL DEFAULT '',          -- one a line
    enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    made_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agent (
    id            BLOB PRIMARY KEY CHECK (length(id) = 16),
    email         TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('agent', 'admin')),
    password      TEXT NOT NULL,               -- Argon2id, in PHC form
    session_epoch INTEGER NOT NULL DEFAULT 0,
    capacity      INTEGER NOT NULL CHECK (capacity BETWEEN 0 AND 500),
    enabled       INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    made_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The key with the highest id signs; the others still verify. An id is never used again.
CREATE TABLE signing_key (
    id      INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),
    secret  BLOB NOT NULL CHECK (length(secret) = 32),
    made_ms INTEGER NOT NULL
) STRICT;

-- 'settings': the version last given to the shards. 'changes': rises whenever something they should know changes.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('settings', 0), ('changes', 0);

-- How far each follower has read each journal. 64 bits as they are; large ones look negative.
CREATE TABLE cursor (
    follower   TEXT NOT NULL,
    shard      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    place      INTEGER NOT NULL,
    records    INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (follower, shard)
) STRICT, WITHOUT ROWID;
