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
    author text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT model_version_pkey_v1 PRIMARY KEY (id)
);

CREATE TABLE serving.pointer (
    -- One row for ever.
    one boolean NOT NULL DEFAULT true,
    stable text,
    canary text,
    canary_weight_bp integer NOT NULL DEFAULT 0,
    previous text,
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
