-- One object through time: from its last event back, also under keys that it had before.

-- The template of the query over after-images: a version is what an event made of the object, until the next event or
-- until it left the key.
CREATE OR REPLACE FUNCTION pghistory._after_versions_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT $sql$
WITH RECURSIVE line AS (
    SELECT e.* FROM {events} AS e
     WHERE e.pgh_id = COALESCE((SELECT e.pgh_id FROM {events} AS e WHERE {e is wanted} AND {recorded}
                                 ORDER BY e.pgh_id DESC LIMIT 1),
                               (SELECT min(e.pgh_id) FROM {events} AS e WHERE {e is wanted} AND {snapshot}))
    UNION ALL
    SELECT p.*
      FROM line AS e
           CROSS JOIN LATERAL (
               SELECT p.* FROM {events} AS p
                WHERE p.pgh_id = COALESCE({previous}, (SELECT min(s.pgh_id) FROM {events} AS s
                                                        WHERE {s is e} AND {snapshot s} AND s.pgh_id < e.pgh_id))
               OFFSET 0) AS p
     WHERE e.pgh_operation <> 'S'
), dated AS (
    SELECT e.*, {time} AS began, lag(e.pgh_id) OVER w IS NULL AS is_first,
           min({time}) OVER (w ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_began,
           lead(e.pgh_id) OVER w AS next_id
      FROM line AS e
    WINDOW w AS (ORDER BY e.pgh_id)
)
SELECT CASE WHEN v.began < v.ended OR v.ended IS NULL THEN tstzrange(v.began, v.ended) ELSE 'empty' END,
       CASE WHEN NOT v.is_found THEN v.pgh_label END, CASE WHEN NOT v.is_found THEN v.pgh_context_id END, v.version
  FROM (
    SELECT e.pgh_id, e.pgh_label, {context_id} AS pgh_context_id, past.version,
           f.is_found,
           CASE WHEN e.is_first AND e.pgh_operation IN ('S', 'D', 'T') THEN {since} ELSE e.began END AS began,
           CASE WHEN f.is_found THEN e.began
                ELSE LEAST(e.next_began, (SELECT min({time of m}) FROM {events} AS m
                                           WHERE {m left e} AND m.pgh_id > e.pgh_id
                                             AND m.pgh_id < COALESCE(e.next_id, 9223372036854775807))) END AS ended
      FROM dated AS e
           CROSS JOIN LATERAL (SELECT e.pgh_operation IN ('D', 'T') AS is_found) AS f
           CROSS JOIN LATERAL (SELECT ROW({row columns})::{row type} FROM (SELECT {past columns}) AS past)
               AS past(version)
     WHERE e.pgh_operation IN ('I', 'U') OR e.is_first
    UNION ALL
    SELECT 0, NULL, NULL, ROW({row columns})::{row type}, false, {since}, NULL
      FROM (SELECT {present columns} FROM {rows} AS t WHERE {t is wanted} AND NOT EXISTS (SELECT FROM line)) AS past
    ) AS v
 ORDER BY v.pgh_id$sql$
$function$;

-- The template of the query over before-images: a version is what the next event found, or the row of today.
CREATE OR REPLACE FUNCTION pghistory._before_versions_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT $sql$
WITH RECURSIVE line AS (
    SELECT e.* FROM {events} AS e
     WHERE e.pgh_id = (SELECT e.pgh_id FROM {events} AS e WHERE ({e is wanted} OR {e came to wanted}) AND {recorded}
                        ORDER BY e.pgh_id DESC LIMIT 1)
    UNION ALL
    SELECT p.*
      FROM line AS e CROSS JOIN LATERAL (SELECT p.* FROM {events} AS p WHERE p.pgh_id = {previous} OFFSET 0) AS p
), dated AS (
    SELECT e.*, {context_id} AS context_id, {time} AS ended,
           max({time}) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS began
      FROM line AS e
    WINDOW w AS (ORDER BY e.pgh_id)
)
SELECT CASE WHEN v.began < v.ended OR v.ended IS NULL THEN tstzrange(v.began, v.ended) ELSE 'empty' END,
       v.label, v.context_id, v.version
  FROM (
    SELECT e.pgh_id, lag(e.pgh_label) OVER w AS label, lag(e.context_id) OVER w AS context_id,
           e.pgh_operation <> 'I' AS is_found, past.version,
           COALESCE(e.began, {since}) AS began, e.ended
      FROM dated AS e CROSS JOIN LATERAL (SELECT ROW({row columns})::{row type} FROM (SELECT {past columns}) AS past)
               AS past(version)
    WINDOW w AS (ORDER BY e.pgh_id)
    UNION ALL
    SELECT 9223372036854775807, l.pgh_label, l.context_id, true, past.version, COALESCE(l.ended, {since}), NULL
      FROM (SELECT ROW({row columns})::{row type} AS version
              FROM (SELECT {present columns} FROM {rows} AS t WHERE {t is wanted}) AS past) AS past
           LEFT JOIN (SELECT * FROM dated ORDER BY pgh_id DESC LIMIT 1) AS l ON true
    ) AS v
 WHERE v.is_found
 ORDER BY v.pgh_id$sql$
$function$;

-- When a transaction counts that we wrote down: the one between this event and the next.
CREATE OR REPLACE FUNCTION pghistory._time_of(
    event_table regclass, after_event bigint, xid xid8, began timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    "time" timestamp with time zone;
BEGIN
    EXECUTE format('SELECT %s FROM (SELECT $1 + 1 AS pgh_id, $2 AS pgh_xid, $3 AS pgh_created_at) AS e',
                   pghistory._time_text(event_table, 'e'))
       INTO "time" USING after_event, xid, began;
    RETURN "time";
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.versions(rowtype anyelement, obj text)
 RETURNS TABLE(valid tstzrange, label text, context_id uuid, version anyelement)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
DECLARE
    "table" CONSTANT regclass := pghistory._table_of_type(pg_typeof(rowtype));
    source record;
    registered record;
    others name[];
    texts jsonb;
    held name[];
    moves boolean;
BEGIN
    PERFORM pghistory._check_not_null('obj', obj IS NULL);
    PERFORM pghistory._check_history_is_kept("table");
    SELECT * INTO source FROM pghistory._history_sources("table") AS s
     WHERE s.missing IS NULL ORDER BY s.since, s.image LIMIT 1;
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = source.event_table;
    PERFORM pghistory._check_unique_key("table", registered.obj_key);
    texts := pghistory._history_texts("table", source, NULL);
    moves := (texts -> 'has moves')::boolean;
    others := pghistory._other_key_columns(registered.obj_key);
    held := pghistory._object_columns(registered.obj_key);
    texts := texts || jsonb_build_object(
        'e is wanted', pghistory._event_identity_text(source.event_table, registered.obj_key, held, obj, 'e'),
        'e came to wanted', CASE WHEN moves THEN
            pghistory._event_identity_text(source.event_table, registered.obj_key, others, obj, 'e') ELSE 'false' END,
        't is wanted', pghistory._identity_text("table", pghistory._object_identity(registered.obj_key, obj)),
        'previous', pghistory._previous_event_text(source.event_table, registered.obj_key,
                                                   pghistory._recorded_text(source, 'p')),
        's is e', pghistory._same_object_text(source.event_table, registered.obj_key, pghistory._qualified('s', held),
                                              pghistory._key_before_text(source.event_table, registered.obj_key)),
        'snapshot s', pghistory._snapshot_text(source, 's'),
        'm left e', CASE WHEN moves THEN
            concat(pghistory._recorded_text(source, 'm'), ' AND ',
                   pghistory._same_object_text(source.event_table, registered.obj_key,
                                               pghistory._qualified('m', others), pghistory._qualified('e', held)))
            ELSE 'false' END,
        'time', pghistory._time_text(source.event_table, 'e'),
        'time of m', pghistory._time_text(source.event_table, 'm'),
        'context_id', CASE WHEN registered.context = 'none' THEN 'NULL::uuid' ELSE 'e.pgh_context_id' END,
        'since', format('%L::timestamptz', pghistory._time_of(source.event_table, source.since_event, source.since_xid,
                                                              source.since)),
        'row columns', pghistory._row_columns("table"),
        'row type', pghistory._table_name("table"));
    RETURN QUERY EXECUTE pghistory._rendered(
        CASE source.image WHEN 'after' THEN pghistory._after_versions_template()
                          ELSE pghistory._before_versions_template() END, texts);
END
$function$;
COMMENT ON FUNCTION pghistory.versions(anyelement, text) IS
    'Every version of the object that has this key (as text, or a JSON object for a key of several columns), or had it '
    'last, oldest first, also under keys that it had before: when it was valid, the label and the context of the event '
    'that made it, and the row: SELECT valid, (version).* FROM pghistory.versions(NULL::users, ''42'').';
