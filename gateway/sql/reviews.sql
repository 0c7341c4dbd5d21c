-- name: queue: oldest first; turn ids are ordered by time
SELECT *, EXISTS (SELECT FROM gateway.reading g WHERE g.turn_id = q.id AND g.key_id = %(key_id)s
    AND g.undone_at IS NULL AND g.superseded_at IS NULL) AS read_by_me
FROM gateway.review_row q
WHERE (%(sees_all)s OR key_id = %(key_id)s OR principals <@ to_jsonb(%(principals)s::text[]))
    AND (%(reason)s::text IS NULL OR %(reason)s = ANY (reasons))
    AND (%(label)s::text IS NULL OR CASE WHEN state = 'closed' THEN label ELSE proposed_label END = %(label)s)
    AND (%(cluster)s::text IS NULL OR cluster = %(cluster)s)
    AND (%(since)s::timestamptz IS NULL OR asked_at >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR asked_at < %(until)s::timestamptz)
    AND (%(state)s::text IS NULL OR state = %(state)s)
    AND (%(ending)s::text IS NULL OR ending = %(ending)s)
    AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid)
    AND (NOT %(unread)s OR NOT EXISTS (SELECT FROM gateway.reading g WHERE g.turn_id = q.id AND g.key_id = %(key_id)s
        AND g.undone_at IS NULL AND g.superseded_at IS NULL))
ORDER BY id LIMIT %(limit)s;

-- name: progress: of what the filters leave, whatever its state
SELECT state, coalesce(ending, '') AS ending, count(*) AS reviews,
    count(*) FILTER (WHERE same_label IS NOT NULL) AS read_twice,
    count(*) FILTER (WHERE same_label) AS same_label,
    count(*) FILTER (WHERE same_ending) AS same_ending,
    count(*) FILTER (WHERE state = 'closed' AND criteria IS NOT NULL) AS proposed,
    count(*) FILTER (WHERE state = 'closed' AND criteria IS NOT NULL AND label IS NOT DISTINCT FROM proposed_label) AS accepted
FROM gateway.review
WHERE key_id IS NOT NULL
    AND (%(sees_all)s OR key_id = %(key_id)s OR principals <@ to_jsonb(%(principals)s::text[]))
    AND (%(reason)s::text IS NULL OR %(reason)s = ANY (reasons))
    AND (%(label)s::text IS NULL OR CASE WHEN state = 'closed' THEN label ELSE proposed_label END = %(label)s)
    AND (%(cluster)s::text IS NULL OR cluster = %(cluster)s)
    AND (%(since)s::timestamptz IS NULL OR asked_at >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR asked_at < %(until)s::timestamptz)
GROUP BY 1, 2;

-- name: clusters: those of the queue, for a filter
SELECT DISTINCT cluster FROM gateway.review
WHERE cluster <> '' AND key_id IS NOT NULL AND (%(sees_all)s OR key_id = %(key_id)s OR principals <@ to_jsonb(%(principals)s::text[]))
ORDER BY cluster LIMIT 200;

-- name: review
SELECT *, EXISTS (SELECT FROM gateway.reading g WHERE g.turn_id = q.id AND g.key_id = %(key_id)s
    AND g.undone_at IS NULL AND g.superseded_at IS NULL) AS read_by_me
FROM gateway.review_row q WHERE id = %(turn_id)s;

-- name: hold_review: nobody else reads it meanwhile
SELECT turn_id, state FROM gateway.review WHERE turn_id = %(turn_id)s FOR UPDATE;

-- name: readings: the last of each reader, in the order in which the readers came
SELECT key_id, reader, ending, label, sub, note, corrected_answer, settles, created_at FROM (
    SELECT *, row_number() OVER (PARTITION BY key_id, settles ORDER BY id DESC) AS age,
        min(id) OVER (PARTITION BY key_id, settles) AS came
    FROM gateway.reading WHERE turn_id = %(turn_id)s AND undone_at IS NULL AND superseded_at IS NULL
) told WHERE age = 1 ORDER BY came;

-- name: insert_reading
INSERT INTO gateway.reading (turn_id, tenant, key_id, reader, ending, label, sub, note, corrected_answer, settles)
VALUES (%(turn_id)s, %(tenant)s, %(key_id)s, %(reader)s, %(ending)s, %(label)s, %(sub)s, %(note)s,
    %(corrected_answer)s, %(settles)s);

-- name: undo_reading: the last of this reader
UPDATE gateway.reading SET undone_at = now() WHERE id = (
    SELECT max(id) FROM gateway.reading
    WHERE turn_id = %(turn_id)s AND key_id = %(key_id)s AND undone_at IS NULL AND superseded_at IS NULL
) RETURNING id;

-- name: set_standing
UPDATE gateway.review SET
    state = %(state)s, readers = %(readers)s, same_label = %(same_label)s, same_ending = %(same_ending)s,
    ending = %(ending)s, label = %(label)s, sub = %(sub)s, note = %(note)s, corrected_answer = %(corrected_answer)s,
    closed_by = %(closed_by)s, closed_at = %(closed_at)s
WHERE turn_id = %(turn_id)s;

-- name: gaps: questions that no article answers, most wanted article first
SELECT group_name, nearest_id, nearest_title, id, question, asked_at, note, corrected_answer FROM (
    SELECT *, count(*) OVER (PARTITION BY group_name) AS wanted FROM (
        SELECT id, question, asked_at, note, corrected_answer,
            nearest ->> 'document_id' AS nearest_id, nearest ->> 'title' AS nearest_title,
            coalesce(nullif(cluster, ''), nullif(nearest ->> 'title', ''), nearest ->> 'document_id', '') AS group_name
        FROM gateway.review_row
        WHERE state = 'closed' AND ending = 'knowledge_gap'
            AND (%(sees_all)s OR key_id = %(key_id)s OR principals <@ to_jsonb(%(principals)s::text[]))
    ) gap
) counted ORDER BY wanted DESC, group_name, id LIMIT %(limit)s;
