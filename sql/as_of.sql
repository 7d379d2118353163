-- The table as it was.
--
-- A row is looked for under its key. Its events, in the order of pgh_id, are those that came under the key and those
-- that left it: by being deleted, or by an update that gave the row another key. Times are not in that order, since a
-- transaction that began earlier may write later; what counts is the last event, in that order, of the transactions
-- that had happened.

-- Does it pay to look up each object's last event by the index, rather than to read all events once?
CREATE OR REPLACE FUNCTION pghistory._has_many_events("table" regclass, event_table regclass, obj_key name[])
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._has_index(event_table, pghistory._object_columns(obj_key) || 'pgh_id'::name)
       AND (SELECT bool_and(pghistory._equality_operator(a.atttypid) = 'OPERATOR(pg_catalog.=)')
              FROM pg_attribute AS a
             WHERE a.attrelid = event_table AND a.attname = ANY (pghistory._object_columns(obj_key)))
       AND (SELECT e.reltuples > 8 * GREATEST(
                       (SELECT sum(GREATEST(c.reltuples, 0)) FROM pghistory._partition_tree("table") AS p
                                                                  JOIN pg_class AS c ON c.oid = p.relation), 1)
              FROM pg_class AS e WHERE e.oid = event_table)
$function$;

-- The key of one object, as a query.
CREATE OR REPLACE FUNCTION pghistory._keys_text(event_table regclass, obj text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                             WHERE e.event_table = _keys_text.event_table);
BEGIN
    RETURN (SELECT format('SELECT %s', string_agg(
                       format('%L::%s AS %I', i.value, format_type((pghistory._base_type(a.atttypid, -1)).type_id, -1),
                              k.held), ', ' ORDER BY k.position))
              FROM jsonb_each_text(pghistory._object_identity(obj_key, obj)) AS i
                   JOIN unnest(obj_key, pghistory._object_columns(obj_key)) WITH ORDINALITY AS k(field, held, position)
                     ON k.field = i.key
                   JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = k.held);
END
$function$;

-- The template of the walk from key to key by the index, as common table expression.
CREATE OR REPLACE FUNCTION pghistory._walk_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT $sql$
walk AS (
    (SELECT {e.key} FROM {events} AS e WHERE {e.key is known} ORDER BY {e.key} LIMIT 1)
    UNION ALL
    SELECT n.*
      FROM walk AS w
           CROSS JOIN LATERAL (SELECT {e.key} FROM {events} AS e
                                WHERE ROW({e.key}) > ROW({w.key}) AND {e.key is known}
                                ORDER BY {e.key} LIMIT 1) AS n
)$sql$
$function$;

-- The template of the common table expressions that know, of each key, the last event that had happened and the next.
-- With after-images the next one only matters where none had. `moved` has what left keys (after-images) or came to
-- them (before-images) by updates that gave rows another key. The keys to look at are those of one object; or of all,
-- one after the other by the index, where such a walk pays; or else all events are read once.
CREATE OR REPLACE FUNCTION pghistory._known_keys_template(image text, look_at text, has_moves boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(
        CASE WHEN look_at = 'walk' THEN pghistory._walk_template() || ',' END, $sql$
moved AS MATERIALIZED (
    SELECT {other key}, e.pgh_id, e.pgh_xid, {past} AS is_past FROM {events} AS e WHERE {moved} AND {recorded}
), moved_key AS (
    SELECT {key}, max(pgh_id) FILTER (WHERE is_past) AS last_moved, min(pgh_id) AS first_moved FROM moved GROUP BY {key}
),$sql$,
        CASE WHEN look_at <> 'events' THEN concat($sql$
known AS MATERIALIZED (
    SELECT {k.key}, l.last_id, m.last_moved, COALESCE(l.last_operation IN ('D', 'T'), false) AS last_went,
           CASE WHEN {next matters} THEN
               (SELECT e.pgh_id FROM {events} AS e
                 WHERE {e is k} AND ({recorded} OR {snapshot})
                   AND e.pgh_id > COALESCE(GREATEST(l.last_id, m.last_moved), 0)
                 ORDER BY e.pgh_id LIMIT 1) END AS next_id,
           CASE WHEN m.first_moved IS NOT NULL THEN
               (SELECT min(n.pgh_id) FROM moved AS n
                 WHERE {n is k} AND n.pgh_id > COALESCE(GREATEST(l.last_id, m.last_moved), 0)) END AS next_moved
      FROM ($sql$, CASE look_at WHEN 'walk' THEN 'SELECT {key} FROM walk UNION SELECT {key} FROM moved'
                                ELSE '{object}' END, $sql$) AS k
           LEFT JOIN moved_key AS m ON {m is k}
           LEFT JOIN LATERAL (
               SELECT e.pgh_id AS last_id, e.pgh_operation AS last_operation FROM {events} AS e
                WHERE {e is k} AND {recorded} AND {past} ORDER BY e.pgh_id DESC LIMIT 1) AS l ON true
)$sql$)
        ELSE concat($sql$
happened AS MATERIALIZED ($sql$,
            CASE WHEN has_moves THEN $sql$
    SELECT {key}, max(last_id) AS last_id, max(last_gone) AS last_gone, max(last_moved) AS last_moved,
           min(first_id) AS first_id, min(first_moved) AS first_moved
      FROM ($sql$ END, $sql$
    SELECT {e.key}, max(e.pgh_id) FILTER (WHERE {recorded} AND {past}) AS last_id,
           max(e.pgh_id) FILTER (WHERE e.pgh_operation IN ('D', 'T') AND {recorded} AND {past}) AS last_gone,
           NULL::bigint AS last_moved, min(e.pgh_id) AS first_id, NULL::bigint AS first_moved
      FROM {events} AS e
     WHERE ({recorded} OR {snapshot}) AND {e.key is known}
     GROUP BY {e.key}$sql$,
            CASE WHEN has_moves THEN $sql$
            UNION ALL
            SELECT {key}, NULL, NULL, last_moved, NULL, first_moved FROM moved_key) AS k
     GROUP BY {key}$sql$ END, $sql$
), known AS MATERIALIZED ($sql$,
            CASE image WHEN 'after' THEN $sql$
    SELECT {k.key}, k.last_id, k.last_moved, COALESCE(k.last_id = k.last_gone, false) AS last_went,
           k.first_id AS next_id, k.first_moved AS next_moved
      FROM happened AS k$sql$
            ELSE $sql$
    SELECT {k.key}, k.last_id, k.last_moved, min(e.pgh_id) AS next_id,
           CASE WHEN k.first_moved IS NOT NULL THEN
               (SELECT min(n.pgh_id) FROM moved AS n
                 WHERE {n is k} AND n.pgh_id > COALESCE(GREATEST(k.last_id, k.last_moved), 0)) END AS next_moved
      FROM happened AS k
           LEFT JOIN {events} AS e
                  ON {e is k} AND {recorded} AND e.pgh_id > COALESCE(GREATEST(k.last_id, k.last_moved), 0)
     GROUP BY {k.key}, k.last_id, k.last_moved, k.first_moved$sql$ END, $sql$
)$sql$) END)
$function$;

-- The template of how many rows had a key after an event: as many as have it today, less those that came since, and
-- those that went. One or none; the order of events within a transaction does not matter to it.
CREATE OR REPLACE FUNCTION pghistory._rows_after_template(event_id text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT replace($sql$(EXISTS (SELECT FROM {rows} AS t WHERE {t is k})::integer
        - (SELECT count(*) FILTER (WHERE {e came}) - count(*) FILTER (WHERE {e went}) FROM {events} AS e
            WHERE {e is k} AND {recorded} AND e.pgh_id > $after$)
        - {moves} * (SELECT count(*) FROM moved AS m WHERE {m is k} AND m.pgh_id > $after$))$sql$,
        '$after$', event_id)
$function$;

-- The template of the rows that after-images tell: what its last event made of a row or, if none had happened, what the
-- first one found.
CREATE OR REPLACE FUNCTION pghistory._told_rows_template(may_vanish boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat($sql$
SELECT {past columns}
  FROM known AS k LEFT JOIN {events} AS e ON e.pgh_id = COALESCE(k.last_id, k.next_id)
 WHERE CASE
       WHEN COALESCE(k.last_id, k.last_moved) IS NULL THEN
            CASE WHEN COALESCE(k.next_id, k.next_moved) IS NULL THEN false
                 WHEN COALESCE(k.next_moved < k.next_id, k.next_id IS NULL)
                 THEN pghistory._refuse_to_guess({event table}, k.next_moved)
                 WHEN e.pgh_operation IN ('S', 'D', 'T') THEN true
                 WHEN NOT {e came} THEN pghistory._refuse_to_guess({event table}, e.pgh_id)
                 -- perhaps in the place of a row that left in the same transaction
                 WHEN NOT EXISTS (SELECT FROM {events} AS l
                                   WHERE {l is e} AND l.pgh_xid = e.pgh_xid AND l.pgh_operation IN ('D', 'T'))
                      AND NOT EXISTS (SELECT FROM moved AS m WHERE {m is k} AND m.pgh_xid = e.pgh_xid)
                      OR $sql$, pghistory._rows_after_template('0'), $sql$ = 0
                 THEN false
                 ELSE pghistory._refuse_to_guess({event table}, e.pgh_id) END
       WHEN COALESCE(k.last_moved > k.last_id, k.last_id IS NULL) OR e.pgh_operation IN ('D', 'T') THEN false$sql$,
        CASE WHEN may_vanish THEN $sql$
       WHEN COALESCE(
                (SELECT n.came AND NOT EXISTS (SELECT FROM {events} AS l
                                                WHERE {l is k} AND l.pgh_xid = n.pgh_xid AND l.pgh_id > n.pgh_id
                                                  AND l.pgh_operation IN ('D', 'T'))
                               AND NOT EXISTS (SELECT FROM moved AS m
                                                WHERE {m is k} AND m.pgh_xid = n.pgh_xid AND m.pgh_id > n.pgh_id)
                   FROM ((SELECT e.pgh_id, e.pgh_xid, {e came} AS came FROM {events} AS e
                           WHERE {e is k} AND {recorded} AND e.pgh_id > k.last_id ORDER BY e.pgh_id LIMIT 1)
                         UNION ALL
                         SELECT m.pgh_id, m.pgh_xid, false FROM moved AS m WHERE {m is k} AND m.pgh_id > k.last_id) AS n
                  ORDER BY n.pgh_id LIMIT 1),
                NOT EXISTS (SELECT FROM {rows} AS t WHERE {t is k}))
       THEN pghistory._refuse_vanished({event table}, e.pgh_id)$sql$ END, $sql$
       ELSE true END$sql$)
$function$;

-- The template of the rows that one transaction put in the place of others, when its events have the newcomer before
-- the one that left. If nothing happened since, it is the row of today.
CREATE OR REPLACE FUNCTION pghistory._replaced_rows_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat($sql$
SELECT {past columns}
  FROM known AS k
       JOIN {events} AS g ON g.pgh_id = GREATEST(k.last_id, k.last_moved)
       CROSS JOIN LATERAL (
           SELECT min(n.pgh_id) FILTER (WHERE n.is_of_key) AS event_id, min(n.pgh_id) AS any_id
             FROM (SELECT e.pgh_id, true AS is_of_key FROM {events} AS e
                    WHERE {e is k} AND {recorded} AND e.pgh_id > g.pgh_id
                   UNION ALL
                   SELECT m.pgh_id, false FROM moved AS m WHERE {m is k} AND m.pgh_id > g.pgh_id) AS n) AS n
       CROSS JOIN LATERAL (
           SELECT e.* FROM {events} AS e
            WHERE {e is k} AND {recorded}
              AND (e.pgh_id = n.event_id AND n.event_id = n.any_id AND e.pgh_operation IN ('D', 'T')
                   OR e.pgh_xid = g.pgh_xid AND e.pgh_id < g.pgh_id AND e.pgh_operation IN ('I', 'U'))
            ORDER BY e.pgh_id DESC LIMIT 1) AS e
 WHERE (k.last_went OR COALESCE(k.last_moved > k.last_id, k.last_id IS NULL))
   AND n.any_id IS NOT NULL
   AND EXISTS (SELECT FROM {events} AS e
                WHERE {e is k} AND {recorded} AND e.pgh_xid = g.pgh_xid AND e.pgh_id < g.pgh_id AND {e came})
   AND CASE WHEN $sql$, pghistory._rows_after_template('g.pgh_id'), $sql$ <> 1 THEN false
            -- if the newcomer looks like the one that left, it may be the same one, come and gone again
            WHEN e.pgh_id < g.pgh_id AND {e is like g}
                 AND (SELECT {e is like g} FROM {events} AS e
                       WHERE {e is k} AND {recorded} AND e.pgh_id < g.pgh_id AND e.pgh_xid <> g.pgh_xid
                       ORDER BY e.pgh_id DESC LIMIT 1) IS NOT TRUE
            THEN pghistory._refuse_to_choose({event table}, e.pgh_id)
            ELSE true END$sql$)
$function$;

-- The template of the query over after-images: rows of which nothing tells are what they are today.
CREATE OR REPLACE FUNCTION pghistory._after_images_template(may_vanish boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(pghistory._told_rows_template(may_vanish), E'\nUNION ALL', pghistory._replaced_rows_template(), $sql$
UNION ALL
SELECT {present columns}
  FROM {rows} AS t
 WHERE {t is wanted}
   AND NOT EXISTS (SELECT FROM known AS k
                    WHERE {t is k} AND COALESCE(k.last_id, k.last_moved, k.next_id, k.next_moved) IS NOT NULL
                      AND NOT (COALESCE(k.last_id, k.last_moved) IS NOT NULL
                               AND (k.last_went OR COALESCE(k.last_moved > k.last_id, k.last_id IS NULL))
                               AND NOT EXISTS (SELECT FROM {events} AS e WHERE {e is k} AND {recorded}
                                                  AND e.pgh_id > GREATEST(k.last_id, k.last_moved))
                               AND NOT EXISTS (SELECT FROM moved AS m
                                                WHERE {m is k} AND m.pgh_id > GREATEST(k.last_id, k.last_moved))))$sql$)
$function$;

-- How many events say that a row went, if there are as many rows as came and did not go: then none of these events
-- was removed, and no row came without one. Otherwise null.
CREATE OR REPLACE FUNCTION pghistory._balanced_departures(texts jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    departures bigint;
BEGIN
    EXECUTE pghistory._rendered($sql$
        SELECT e.departures
          FROM (SELECT count(*) AS moves, count(NULLIF(e.pgh_operation, 'I')) AS departures
                  FROM {events} AS e WHERE e.pgh_operation <> 'U' AND {recorded}) AS e
         WHERE e.moves - 2 * e.departures = (SELECT count(*) FROM {rows} AS t)$sql$, texts)
       INTO departures;
    RETURN departures;
END
$function$;

-- The template of the query over after-images, with its common table expressions, where every row has an event and none
-- ever changed its key: a row is what its last event made of it. Only those that went are looked at again. What is
-- sorted are the columns that matter.
CREATE OR REPLACE FUNCTION pghistory._complete_images_template(look_at text, departures bigint)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(
        'WITH RECURSIVE ' || NULLIF(concat_ws(E',\n',
            CASE look_at WHEN 'walk' THEN pghistory._walk_template() END,
            CASE WHEN departures > 0 THEN $sql$
moved AS MATERIALIZED (
    SELECT {other key}, e.pgh_id, e.pgh_xid FROM {events} AS e WHERE false
), known AS MATERIALIZED (
    SELECT {g.key}, g.pgh_id AS last_id, NULL::bigint AS last_moved, true AS last_went
      FROM {events} AS g
     WHERE g.pgh_operation IN ('D', 'T') AND {recorded g} AND {past g}
       AND EXISTS (SELECT FROM {events} AS e
                    WHERE {e is g} AND {recorded} AND e.pgh_xid = g.pgh_xid AND e.pgh_id < g.pgh_id AND {e came})
       AND NOT EXISTS (SELECT FROM {events} AS e WHERE {e is g} AND {recorded} AND {past} AND e.pgh_id > g.pgh_id)
)$sql$ END), ''), $sql$
SELECT {row columns} FROM ($sql$,
        CASE look_at WHEN 'walk' THEN $sql$
SELECT {past columns}
  FROM walk AS k
       CROSS JOIN LATERAL (SELECT e.* FROM {events} AS e WHERE {e is k} AND {past} AND {recorded}
                            ORDER BY e.pgh_id DESC LIMIT 1) AS e
 WHERE $sql$
        ELSE $sql$
SELECT {past columns}
  FROM (SELECT DISTINCT ON ({e.key}) {e.key}, {e.others} FROM {events} AS e
         WHERE {past} AND {recorded} AND {e.key is known}
         ORDER BY {e.key}, e.pgh_id DESC) AS e
 WHERE $sql$ END, $sql$e.pgh_operation NOT IN ('D', 'T')$sql$,
        CASE WHEN departures > 0 THEN concat($sql$
UNION ALL$sql$, pghistory._replaced_rows_template(), $sql$
UNION ALL
SELECT {present columns}
  FROM {rows} AS t JOIN known AS k ON {t is k}
 WHERE NOT EXISTS (SELECT FROM {events} AS e WHERE {e is k} AND {recorded} AND e.pgh_id > k.last_id)$sql$) END, $sql$
) AS past$sql$)
$function$;

-- The template of the query over before-images: a row is what its next event found, or what it is today.
CREATE OR REPLACE FUNCTION pghistory._before_images_template(may_vanish boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat($sql$
SELECT {past columns}
  FROM known AS k JOIN {events} AS e ON e.pgh_id = k.next_id
 WHERE COALESCE(k.next_moved > k.next_id, true) AND e.pgh_operation <> 'I'
UNION ALL
-- One transaction put a row in the place of another, and its events have the newcomer before the one that left.
SELECT {past columns}
  FROM known AS k
       JOIN {events} AS g ON g.pgh_id = LEAST(k.next_id, k.next_moved)
       CROSS JOIN LATERAL (
           SELECT e.* FROM {events} AS e
            WHERE {e is k} AND {recorded}
              AND (e.pgh_id = k.last_id AND e.pgh_operation = 'I'
                   OR e.pgh_xid = g.pgh_xid AND e.pgh_id > g.pgh_id AND e.pgh_operation <> 'I')
            ORDER BY e.pgh_id LIMIT 1) AS e
 WHERE (g.pgh_operation = 'I' OR g.pgh_id = k.next_moved)
   AND CASE WHEN $sql$, pghistory._rows_after_template('COALESCE(GREATEST(k.last_id, k.last_moved), 0)'), $sql$ <> 1
            THEN false
            -- if the one that left looks like the newcomer, it may be the same one, come and gone again
            WHEN e.pgh_id > g.pgh_id AND g.pgh_operation = 'I' AND {e is like g}
            THEN pghistory._refuse_to_choose({event table}, e.pgh_id)
            ELSE true END
UNION ALL
SELECT {present columns}
  FROM {rows} AS t
 WHERE {t is wanted}
   AND NOT EXISTS (SELECT FROM known AS k WHERE {t is k} AND COALESCE(k.next_id, k.next_moved) IS NOT NULL)$sql$,
        CASE WHEN may_vanish THEN $sql$
UNION ALL
SELECT {past columns}
  FROM known AS k
       JOIN {events} AS e ON e.pgh_id = GREATEST(k.last_id, k.last_moved)
       LEFT JOIN {events} AS g ON g.pgh_id = LEAST(k.next_id, k.next_moved)
 WHERE CASE
       WHEN e.pgh_id = k.last_id AND {e went} THEN false
       WHEN g.pgh_id IS NULL AND EXISTS (SELECT FROM {rows} AS t WHERE {t is k}) THEN false
       WHEN g.pgh_id = k.next_id AND g.pgh_operation <> 'I' THEN false
       WHEN EXISTS (SELECT FROM {events} AS l
                     WHERE {l is k} AND l.pgh_xid = g.pgh_xid AND l.pgh_id > g.pgh_id AND l.pgh_operation <> 'I')
       THEN false
       ELSE pghistory._refuse_vanished({event table}, e.pgh_id) END$sql$ END)
$function$;

-- The query that gives a table, or one object of it, as it was.
CREATE OR REPLACE FUNCTION pghistory._as_of_query("table" regclass, at timestamp with time zone, obj text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    source record;
    key name[];
    look_at text;
    texts jsonb;
    departures bigint;
BEGIN
    source := pghistory._history_source("table", at);
    key := (SELECT e.obj_key FROM pghistory.event_table AS e WHERE e.event_table = source.event_table);
    PERFORM pghistory._check_unique_key("table", key);
    look_at := CASE WHEN obj IS NOT NULL THEN 'object'
                    WHEN pghistory._has_many_events("table", source.event_table, key) THEN 'walk'
                    ELSE 'events' END;
    texts := pghistory._history_texts("table", source, at) || jsonb_build_object(
        'object', CASE WHEN obj IS NOT NULL THEN pghistory._keys_text(source.event_table, obj) END,
        'row columns', pghistory._row_columns("table"),
        'next matters', CASE source.image WHEN 'after' THEN 'COALESCE(l.last_id, m.last_moved) IS NULL' ELSE 'true' END,
        't is wanted', CASE WHEN obj IS NULL THEN 'true'
                            ELSE pghistory._identity_text("table", pghistory._object_identity(key, obj)) END);
    IF source.image = 'after' AND source.since_empty AND obj IS NULL AND NOT (texts -> 'has moves')::boolean
       AND NOT (texts -> 'may vanish')::boolean
    THEN
        departures := pghistory._balanced_departures(texts);
    END IF;
    IF departures IS NOT NULL THEN
        texts := texts || jsonb_build_object('e.others', (
            SELECT string_agg(format('e.%I', a.attname), ', ' ORDER BY a.attnum)
              FROM pg_attribute AS a
             WHERE a.attrelid = source.event_table AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attname <> ALL (pghistory._object_columns(key))
               AND (a.attname IN ('pgh_id', 'pgh_operation')
                    OR strpos(texts ->> 'past columns', format('e.%I', a.attname)) > 0)));
        RETURN pghistory._rendered(pghistory._complete_images_template(look_at, departures), texts);
    END IF;
    RETURN pghistory._rendered(
        concat('WITH RECURSIVE',
               pghistory._known_keys_template(source.image, look_at, (texts -> 'has moves')::boolean),
               E'\nSELECT {row columns} FROM (',
               CASE source.image WHEN 'after' THEN pghistory._after_images_template((texts -> 'may vanish')::boolean)
                                 ELSE pghistory._before_images_template((texts -> 'may vanish')::boolean) END,
               ') AS past'),
        texts);
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.as_of(rowtype anyelement, at timestamp with time zone, obj text DEFAULT NULL)
 RETURNS SETOF anyelement
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
 SET jit TO off
AS $function$
DECLARE
    said text;
    detail text;
    hint text;
BEGIN
    PERFORM pghistory._check_not_null('at', at IS NULL);
    RETURN QUERY EXECUTE pghistory._as_of_query(pghistory._table_of_type(pg_typeof(rowtype)), at, obj);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- without the text of the query, in which nobody would find it
    GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    IF detail = '' THEN
        RAISE EXCEPTION USING MESSAGE = said, HINT = hint, ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RAISE EXCEPTION USING MESSAGE = said, DETAIL = detail, HINT = hint, ERRCODE = 'object_not_in_prerequisite_state';
END
$function$;
COMMENT ON FUNCTION pghistory.as_of(anyelement, timestamp with time zone, text) IS
    'The rows of a table as they were at a time, or the one with this key (as text, or a JSON object for a key of '
    'several columns): SELECT * FROM pghistory.as_of(NULL::users, ''2026-01-01''). With all transactions that had '
    'committed by then, if the server keeps commit timestamps, otherwise with all that had begun. If what is kept '
    'cannot answer, it says so.';
