CREATE TABLE audit (
    id SERIAL NOT NULL,
    at FLOAT NOT NULL,
    who TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    line TEXT COLLATE "C" NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE collected (
    line TEXT COLLATE "C" NOT NULL,
    image_id TEXT COLLATE "C" NOT NULL,
    collected_at FLOAT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (line, image_id)
);
CREATE INDEX collected_by_time ON collected (line, collected_at);
CREATE TABLE events (
    kind TEXT COLLATE "C" NOT NULL,
    identity TEXT COLLATE "C" NOT NULL,
    line TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C",
    at FLOAT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (kind, identity)
);
CREATE INDEX events_by_time ON events (kind, at);
CREATE INDEX events_of_line ON events (kind, line, at);
CREATE TABLE gates (
    request_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    passed BOOLEAN NOT NULL,
    value FLOAT,
    limit_value FLOAT NOT NULL,
    words TEXT NOT NULL,
    PRIMARY KEY (request_id, name)
);
CREATE TABLE incidents (
    incident_id TEXT COLLATE "C" NOT NULL,
    line TEXT COLLATE "C" NOT NULL,
    at FLOAT NOT NULL,
    state TEXT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (incident_id)
);
CREATE INDEX incidents_of_line ON incidents (line, at);
CREATE TABLE outbox (
    id SERIAL NOT NULL,
    topic TEXT NOT NULL,
    body BYTEA NOT NULL,
    sent BOOLEAN NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX outbox_unsent ON outbox (sent, id);
CREATE TABLE requests (
    request_id TEXT COLLATE "C" NOT NULL,
    line TEXT COLLATE "C" NOT NULL,
    state TEXT NOT NULL,
    requested_at FLOAT NOT NULL,
    run_id TEXT,
    attempt INTEGER NOT NULL,
    version INTEGER,
    detail TEXT,
    started_at FLOAT,
    ended_at FLOAT,
    body BYTEA NOT NULL,
    PRIMARY KEY (request_id)
);
CREATE INDEX requests_by_state ON requests (state);
CREATE INDEX requests_of_line ON requests (line, requested_at);
CREATE TABLE verdicts (
    line TEXT COLLATE "C" NOT NULL,
    image_id TEXT COLLATE "C" NOT NULL,
    version INTEGER NOT NULL,
    score FLOAT NOT NULL,
    flagged BOOLEAN NOT NULL,
    judged_at FLOAT NOT NULL,
    redelivered INTEGER NOT NULL,
    repeats INTEGER NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (line, image_id)
);
CREATE INDEX verdicts_by_time ON verdicts (line, judged_at);
CREATE INDEX verdicts_by_version ON verdicts (line, version, judged_at);
CREATE INDEX verdicts_flagged ON verdicts (line, flagged, judged_at);
