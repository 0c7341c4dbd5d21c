-- The engines of the model rail: which there are, what each of them holds, and what is shown of it.

CREATE TABLE serving.replica (
    url text NOT NULL,
    -- Who says that it exists; what one announcer no longer names is gone.
    announced_by text NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT now(),
    -- Whether it loads adapters at run time; NULL: nobody has said that it does not.
    takes_adapters boolean,
    -- It is about to be stopped: no new answers where another engine can give them.
    leaving boolean NOT NULL DEFAULT false,
    -- What the last look found. `life` changes with each start of the process; NULL while it does not answer.
    life text,
    build text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT 'not asked yet',
    listed text[] NOT NULL DEFAULT '{}',
    -- Those of the listed that are adapters, and the digests of the bases that it runs on.
    adapters text[] NOT NULL DEFAULT '{}',
    bases text[] NOT NULL DEFAULT '{}',
    -- Adapters that it lists and no registered version accounts for.
    strange text[] NOT NULL DEFAULT '{}',
    looks bigint NOT NULL DEFAULT 0,
    looked_at timestamptz,
    CONSTRAINT replica_pkey_v1 PRIMARY KEY (url)
);

CREATE TABLE serving.replica_version (
    url text NOT NULL,
    version text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL DEFAULT '',
    -- The life of the engine for which this is true: that of a process that is gone counts for nothing.
    life text NOT NULL,
    evidence jsonb,
    since timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT replica_version_pkey_v1 PRIMARY KEY (url, version),
    CONSTRAINT replica_version_replica_v1 FOREIGN KEY (url) REFERENCES serving.replica (url) ON DELETE CASCADE,
    CONSTRAINT replica_version_state_v1 CHECK (state IN ('wanted', 'loading', 'listed', 'probed', 'failed'))
);

-- Versions that engines are to hold although they are no arm yet.
CREATE TABLE serving.staged (
    version text NOT NULL,
    staged_by text NOT NULL,
    staged_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT staged_pkey_v1 PRIMARY KEY (version),
    CONSTRAINT staged_version_v1 FOREIGN KEY (version) REFERENCES serving.model_version (id)
);

-- What weights made of the fixed probes when they were first seen on an engine of that build.
CREATE TABLE serving.probe_reference (
    base_digest text NOT NULL,
    adapter_digest text NOT NULL DEFAULT '',
    form text NOT NULL,
    build text NOT NULL,
    places jsonb NOT NULL,
    seen_on text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT probe_reference_pkey_v1 PRIMARY KEY (base_digest, adapter_digest, form, build),
    CONSTRAINT probe_reference_form_v1 CHECK (form IN ('base', 'adapter', 'merged'))
);

-- One of several gateways reconciles, until it no longer says so.
CREATE TABLE serving.reconciler (
    one boolean NOT NULL DEFAULT true,
    holder text NOT NULL DEFAULT '',
    until timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT reconciler_pkey_v1 PRIMARY KEY (one),
    CONSTRAINT reconciler_one_v1 CHECK (one)
);

INSERT INTO serving.reconciler DEFAULT VALUES;
