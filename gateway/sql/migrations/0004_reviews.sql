-- What evaluation and people say about turns and versions: labels, scores, readings of reviews, reports, verdicts.

-- Append-only: the newest of a source counts, older ones stay.
CREATE TABLE gateway.turn_label (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    turn_id      uuid NOT NULL,
    tenant       text NOT NULL,
    -- auto, human.
    source       text NOT NULL,
    -- Null: the turn passed.
    label        text,
    sub          text NOT NULL,
    rule         text NOT NULL,
    contributing jsonb NOT NULL,
    checks       jsonb NOT NULL,
    criteria     text NOT NULL,
    cluster      text NOT NULL,
    reviewer     text NOT NULL,
    note         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX turn_label_newest_v1 ON gateway.turn_label (turn_id, source, id DESC);

-- The last word of each score counts.
CREATE TABLE gateway.turn_score (
    turn_id    uuid NOT NULL,
    name       text NOT NULL,
    tenant     text NOT NULL,
    -- Null: could not be told, which is not 0.
    value      double precision,
    detail     text NOT NULL,
    version    text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (turn_id, name)
);

-- What a reader said about a review. Append-only: the last of each reader counts, what was taken back is marked.
CREATE TABLE gateway.reading (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    turn_id          uuid NOT NULL,
    tenant           text NOT NULL,
    key_id           uuid NOT NULL,
    reader           text NOT NULL,
    ending           text NOT NULL,
    label            text,
    sub              text NOT NULL,
    note             text NOT NULL,
    corrected_answer text,
    -- Ends a dispute, or corrects what is closed.
    settles          boolean NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    undone_at        timestamptz,
    -- When the review was opened again, so that it has to be read anew.
    superseded_at    timestamptz
);
CREATE INDEX reading_of_turn_v1 ON gateway.reading (turn_id, id) WHERE undone_at IS NULL AND superseded_at IS NULL;

-- Every content that a name ever had, so that the evidence of a verdict can always be read.
CREATE TABLE gateway.report (
    tenant     text NOT NULL,
    name       text NOT NULL,
    sha256     text NOT NULL,
    kind       text NOT NULL,
    content    jsonb NOT NULL,
    -- The same for people: text/html, text/markdown. Null: there is the content only.
    page_type  text,
    page       text,
    written_by text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, name, sha256)
);
CREATE INDEX report_latest_v1 ON gateway.report (tenant, written_at DESC);

-- Of no tenant, like the versions and pointers that they are about. Append-only: the newest of each gate counts.
CREATE TABLE gateway.verdict (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rail       text NOT NULL,
    version    text NOT NULL,
    gate       text NOT NULL,
    -- pass, refused, not_enough.
    verdict    text NOT NULL,
    report     text NOT NULL,
    sha256     text NOT NULL,
    given_by   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX verdict_newest_v1 ON gateway.verdict (rail, version, gate, id DESC);

-- Promotions against a refusal: who insisted, and what stood against it.
CREATE TABLE gateway.forced_promotion (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rail       text NOT NULL,
    version    text NOT NULL,
    gates      text[] NOT NULL,
    forced_by  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX forced_promotion_of_v1 ON gateway.forced_promotion (rail, version, id DESC);

ALTER TABLE gateway.turn_label ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.turn_label FORCE ROW LEVEL SECURITY;
ALTER TABLE gateway.turn_score ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.turn_score FORCE ROW LEVEL SECURITY;
ALTER TABLE gateway.reading ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.reading FORCE ROW LEVEL SECURITY;
ALTER TABLE gateway.report ENABLE ROW LEVEL SECURITY;
ALTER TABLE gateway.report FORCE ROW LEVEL SECURITY;

CREATE POLICY tenant_only ON gateway.turn_label
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
CREATE POLICY tenant_only ON gateway.turn_score
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
CREATE POLICY tenant_only ON gateway.reading
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));
CREATE POLICY tenant_only ON gateway.report
    USING (tenant = NULLIF(current_setting('gateway.tenant', true), ''));

-- Opening a review, writing its turn and labelling it wait for each other until the transaction ends: two of them at once
-- would not see each other, and the review would lack for ever what the other one brought.
CREATE FUNCTION gateway.hold_review_of(p_turn uuid) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('gateway.review ' || p_turn::text, 0))
$$;

-- What a review repeats of its turn and of the newest automatic label: counting a queue of 100,000 through both tables
-- takes a second, and a reader's page asks after every key.
CREATE FUNCTION gateway.review_is_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM gateway.hold_review_of(NEW.turn_id);
    SELECT key_id, principals, created_at INTO NEW.key_id, NEW.principals, NEW.asked_at
        FROM gateway.turn WHERE id = NEW.turn_id;
    SELECT label, sub, rule, criteria, cluster
        INTO NEW.proposed_label, NEW.proposed_sub, NEW.proposed_rule, NEW.criteria, NEW.cluster
        FROM gateway.turn_label WHERE turn_id = NEW.turn_id AND source = 'auto' ORDER BY id DESC LIMIT 1;
    NEW.cluster := coalesce(NEW.cluster, '');
    RETURN NEW;
END $$;
CREATE TRIGGER review_is_opened BEFORE INSERT ON gateway.review
    FOR EACH ROW EXECUTE FUNCTION gateway.review_is_opened();

CREATE FUNCTION gateway.turn_is_labelled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM gateway.hold_review_of(NEW.turn_id);
    UPDATE gateway.review SET proposed_label = l.label, proposed_sub = l.sub, proposed_rule = l.rule,
        criteria = l.criteria, cluster = l.cluster
    FROM (
        SELECT turn_id, label, sub, rule, criteria, cluster
        FROM gateway.turn_label WHERE turn_id = NEW.turn_id AND source = 'auto' ORDER BY id DESC LIMIT 1
    ) l
    WHERE review.turn_id = l.turn_id;
    RETURN NULL;
END $$;
CREATE TRIGGER turn_is_labelled AFTER INSERT ON gateway.turn_label
    FOR EACH ROW WHEN (NEW.source = 'auto') EXECUTE FUNCTION gateway.turn_is_labelled();

-- A review with its turn, for queue, export and gaps. Row-level security is the reader's.
CREATE VIEW gateway.review_row WITH (security_invoker = true) AS
SELECT r.turn_id AS id, r.reasons, r.ticket, r.state, r.ending, r.label, r.sub, r.note, r.corrected_answer, r.closed_by,
    r.closed_at, r.readers, r.same_label, r.same_ending, r.reopened_at, r.created_at AS opened_at,
    r.key_id, r.principals, r.asked_at, r.proposed_label, r.proposed_sub, r.proposed_rule, r.criteria, r.cluster,
    r.criteria IS NOT NULL AS is_labelled,
    t.question, t.status, t.pinned, t.knowledge_version, t.model_version, t.answer ->> 'answer' AS answer,
    t.used -> 'hits' -> 0 AS nearest
FROM gateway.review r
JOIN gateway.turn t ON t.id = r.turn_id
WHERE r.key_id IS NOT NULL;

-- A turn that lost a document: what was written about its words goes too. Nothing else changes a turn.
CREATE FUNCTION gateway.turn_is_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE gateway.turn_label SET checks = (
        SELECT coalesce(jsonb_agg(item || '{"detail": ""}' ORDER BY place), '[]')
        FROM jsonb_array_elements(checks) WITH ORDINALITY AS listed (item, place))
    WHERE turn_id = NEW.id;
    UPDATE gateway.turn_score SET detail = '' WHERE turn_id = NEW.id;
    UPDATE gateway.reading SET corrected_answer = NULL WHERE turn_id = NEW.id AND corrected_answer IS NOT NULL;
    UPDATE gateway.review SET corrected_answer = NULL WHERE turn_id = NEW.id AND corrected_answer IS NOT NULL;
    UPDATE gateway.feedback SET corrected_answer = NULL WHERE turn_id = NEW.id AND corrected_answer IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER turn_is_erased AFTER UPDATE ON gateway.turn
    FOR EACH ROW EXECUTE FUNCTION gateway.turn_is_erased();
