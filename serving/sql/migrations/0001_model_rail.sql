-- The model rail: immutable versions, one pointer row, and every move that it made.
CREATE SCHEMA IF NOT EXISTS serving;

CREATE TABLE serving.model_version (
    id text NOT NULL,
    name text NOT NULL,
    -- json, not jsonb: the order of a schema's properties is the order in which the model writes them.
    definition json NOT NULL,
    manifest jsonb NOT NULL,
    served_name text NOT NULL,
    releasable boolean NOT NULL,
    -- Releasable because a person insisted, not because a gate passed it.
    forced boolean NOT NULL DEFAULT false,
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT model_version_pkey_v1 PRIMARY KEY (id),
    CONSTRAINT model_version_forced_v1 CHECK (releasable OR NOT forced)
);

-- Who did what with a version beside moving the pointer, and why.
CREATE TABLE serving.version_event (
    id bigint GENERATED ALWAYS AS IDENTITY,
    version text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    action text NOT NULL,
    by text NOT NULL,
    reason text NOT NULL DEFAULT '',
    CONSTRAINT version_event_pkey_v1 PRIMARY KEY (id),
    CONSTRAINT version_event_version_v1 FOREIGN KEY (version) REFERENCES serving.model_version (id),
    CONSTRAINT version_event_action_v1
        CHECK (action IN ('registered', 'passed', 'forced', 'promoted_by_force', 'retired', 'revived'))
);
CREATE INDEX version_event_latest_v1 ON serving.version_event (version, id DESC);

CREATE TABLE serving.pointer (
    -- One row for ever.
    one boolean NOT NULL DEFAULT true,
    stable text,
    canary text,
    canary_weight_bp integer NOT NULL DEFAULT 0,
    previous text,
    -- Whether an undo left the previous version: then it stands in for nobody.
    taken_back boolean NOT NULL DEFAULT false,
    shadow text,
    fallback text,
    salt text NOT NULL,
    -- The command that made the last move.
    action text NOT NULL DEFAULT 'created',
    revision bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pointer_pkey_v1 PRIMARY KEY (one),
    CONSTRAINT pointer_one_v1 CHECK (one),
    CONSTRAINT pointer_weight_v1 CHECK (canary_weight_bp BETWEEN 0 AND 10000),
    CONSTRAINT pointer_weight_needs_canary_v1 CHECK (canary IS NOT NULL OR canary_weight_bp = 0),
    CONSTRAINT pointer_canary_not_stable_v1 CHECK (canary IS DISTINCT FROM stable OR canary IS NULL),
    CONSTRAINT pointer_stable_v1 FOREIGN KEY (stable) REFERENCES serving.model_version (id),
    CONSTRAINT pointer_canary_v1 FOREIGN KEY (canary) REFERENCES serving.model_version (id),
    CONSTRAINT pointer_previous_v1 FOREIGN KEY (previous) REFERENCES serving.model_version (id),
    CONSTRAINT pointer_shadow_v1 FOREIGN KEY (shadow) REFERENCES serving.model_version (id),
    CONSTRAINT pointer_fallback_v1 FOREIGN KEY (fallback) REFERENCES serving.model_version (id)
);

INSERT INTO serving.pointer (salt) VALUES (gen_random_uuid()::text);

CREATE TABLE serving.pointer_history (
    revision bigint NOT NULL,
    action text NOT NULL,
    stable text,
    canary text,
    canary_weight_bp integer NOT NULL,
    previous text,
    shadow text,
    fallback text,
    moved_by text NOT NULL DEFAULT current_user,
    moved_at timestamptz NOT NULL,
    CONSTRAINT pointer_history_pkey_v1 PRIMARY KEY (revision)
);

-- Where an undo leads: the last row in which another version or share took traffic. Moves of the fallback decide
-- nothing about traffic and are passed over.
CREATE VIEW serving.before_last_move AS
SELECT h.stable, h.canary, h.canary_weight_bp
FROM serving.pointer_history h, serving.pointer p
WHERE h.revision < p.revision AND h.stable IS NOT NULL
  AND (h.stable, h.canary, h.canary_weight_bp) IS DISTINCT FROM (p.stable, p.canary, p.canary_weight_bp)
ORDER BY h.revision DESC LIMIT 1;

CREATE FUNCTION serving.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER pointer_history_append_only_v1 BEFORE UPDATE OR DELETE OR TRUNCATE ON serving.pointer_history
    FOR EACH STATEMENT EXECUTE FUNCTION serving.refuse_change();
CREATE TRIGGER version_event_append_only_v1 BEFORE UPDATE OR DELETE OR TRUNCATE ON serving.version_event
    FOR EACH STATEMENT EXECUTE FUNCTION serving.refuse_change();

-- Asked while the pointer's row is locked, by whoever moves it: a version that is retired in the same moment is
-- either seen here, or its retiring sees the move.
CREATE FUNCTION serving.require_live_arms() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    dead text;
BEGIN
    SELECT v.id INTO dead FROM serving.model_version v
    WHERE v.id IN (NEW.stable, NEW.canary, NEW.previous, NEW.shadow, NEW.fallback)
      AND (v.retired_at IS NOT NULL OR NOT v.releasable AND v.id IN (NEW.stable, NEW.canary, NEW.fallback));
    IF dead IS NOT NULL THEN
        RAISE EXCEPTION 'model version % takes no traffic', dead
            USING ERRCODE = 'check_violation', CONSTRAINT = 'pointer_arms_live_v1';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER pointer_arms_live_v1 BEFORE UPDATE ON serving.pointer
    FOR EACH ROW EXECUTE FUNCTION serving.require_live_arms();

-- A version's identity never changes and a version never goes; only its manifest may gain facts.
CREATE FUNCTION serving.refuse_new_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.id <> OLD.id OR NEW.definition::text <> OLD.definition::text THEN
        RAISE EXCEPTION 'model version % is immutable', OLD.id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER model_version_immutable_v1 BEFORE UPDATE OR DELETE ON serving.model_version
    FOR EACH ROW EXECUTE FUNCTION serving.refuse_new_identity();

-- The move and its record are one statement, whoever makes it.
CREATE FUNCTION serving.note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO serving.pointer_history
        (revision, action, stable, canary, canary_weight_bp, previous, shadow, fallback, moved_at)
    VALUES
        (NEW.revision, NEW.action, NEW.stable, NEW.canary,
         NEW.canary_weight_bp, NEW.previous, NEW.shadow, NEW.fallback, NEW.moved_at);
    RETURN NULL;
END
$$;

CREATE TRIGGER pointer_noted_v1 AFTER UPDATE ON serving.pointer
    FOR EACH ROW EXECUTE FUNCTION serving.note_move();
