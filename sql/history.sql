-- History: which events can tell what a table was like, from when on, and the texts of the queries over them.

-- The table that a row type belongs to.
CREATE OR REPLACE FUNCTION pghistory._table_of_type(type_id regtype)
 RETURNS regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    "table" regclass := (SELECT c.oid FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
                          WHERE t.oid = type_id AND c.relkind IN ('r', 'p', 'f'));
BEGIN
    IF "table" IS NULL THEN
        RAISE EXCEPTION '% is not the row type of a table', type_id
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Name the table by its row type, as in NULL::users.';
    END IF;
    RETURN "table";
END
$function$;

-- When an event counts, as an SQL expression over it: when its transaction committed, if the server keeps that and the
-- transaction was one of this server's; otherwise when it began.
CREATE OR REPLACE FUNCTION pghistory._time_text(event_table regclass, alias text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    -- Of transactions further back than ids reach the server knows nothing.
    horizon CONSTANT numeric := GREATEST(pg_snapshot_xmax(pg_current_snapshot())::text::numeric - 2147483648, 3);
BEGIN
    SELECT e.foreign_until,
           split_part(e.origin, '/', 1) = split_part(pghistory._origin(e."table"), '/', 1) AS is_here
      INTO registered
      FROM pghistory.event_table AS e WHERE e.event_table = _time_text.event_table;
    IF current_setting('track_commit_timestamp') = 'off' OR NOT registered.is_here THEN
        RETURN format('%s.pgh_created_at', alias);
    END IF;
    RETURN format('CASE WHEN %1$s.pgh_id > %2$s AND %1$s.pgh_xid >= %3$L::xid8 '
                  'THEN COALESCE(pg_xact_commit_timestamp(%1$s.pgh_xid::xid), %1$s.pgh_created_at) '
                  'ELSE %1$s.pgh_created_at END', alias, registered.foreign_until, horizon);
END
$function$;

-- Had the transaction happened by a time that wrote an event? As an SQL condition over the event.
CREATE OR REPLACE FUNCTION pghistory._happened_text(event_table regclass, alias text, at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
AS $function$
    SELECT concat_ws(' AND ', format('%s.pgh_created_at <= %L::timestamptz', alias, at),
                     CASE WHEN t.time <> format('%s.pgh_created_at', alias)
                          THEN format('(%s) <= %L::timestamptz', t.time, at) END)
      FROM pghistory._time_text(event_table, alias) AS t(time)
$function$;

-- Had a transaction happened by a time that we wrote down: the one between this event and the next?
CREATE OR REPLACE FUNCTION pghistory._had_happened(
    event_table regclass, after_event bigint, xid xid8, began timestamp with time zone, at timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    had_happened boolean;
BEGIN
    EXECUTE format('SELECT %s FROM (SELECT $1 + 1 AS pgh_id, $2 AS pgh_xid, $3 AS pgh_created_at) AS e',
                   pghistory._happened_text(event_table, 'e', at))
       INTO had_happened USING after_event, xid, began;
    RETURN had_happened;
END
$function$;

-- Which events can tell what a table was like: those of trackers that record every row, without a condition, with all
-- columns, in one event table that names the object. After-images say what a row became, before-images what it was.
-- `labels` has the label to read for each operation's letter; `missing` says what nothing records. It is complete if
-- TRUNCATE has been recorded as long as the rest.
CREATE OR REPLACE FUNCTION pghistory._history_sources(
    "table" regclass,
    OUT event_table regclass,
    OUT image text,
    OUT labels jsonb,
    OUT since timestamp with time zone,
    OUT since_xid xid8,
    OUT since_event bigint,
    OUT is_complete boolean,
    OUT since_empty boolean,
    OUT missing text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH needed(image, operation, code, is_optional) AS (
        VALUES ('before', 'insert', 'I', false), ('before', 'update', 'B', false), ('before', 'delete', 'D', false),
               ('before', 'truncate', 'T', true),
               ('after', 'insert', 'I', false), ('after', 'update', 'U', false), ('after', 'delete', 'D', false),
               ('after', 'truncate', 'T', true)
    ), recorded AS (
        SELECT t.event_table, t.label, t.since, t.since_xid, COALESCE(t.since_event, 0) AS since_event,
               COALESCE(t.since_empty, false) AS since_empty, o.operation, o.code,
               -- one that is void now narrowed what was written before
               CASE WHEN t.condition IS NOT NULL THEN 'with a condition'
                    WHEN e.obj_key = '{}' THEN 'without the key' END AS lack,
               'without ' || f.missing AS lack_of_columns
          FROM pghistory.tracker AS t
               JOIN pghistory.event_table AS e ON e.event_table = t.event_table
               JOIN pghistory._operations(_history_sources."table") AS o ON o.label = t.label
               CROSS JOIN LATERAL (
                   SELECT string_agg(c.name, ', ' ORDER BY c.number)
                     FROM pghistory._columns(_history_sources."table") AS c
                    WHERE c.name <> ALL (o.fields)) AS f(missing)
         WHERE t."table" = _history_sources."table"
    ), covered AS (
        -- each operation by the tracker that has been there longest
        SELECT DISTINCT ON (e.event_table, n.image, n.operation)
               e.event_table, n.image, n.operation, n.code, n.is_optional, r.label, r.since, r.since_xid, r.since_event,
               r.since_empty, l.lack
          FROM (SELECT DISTINCT t.event_table FROM pghistory.tracker AS t
                 WHERE t."table" = _history_sources."table") AS e
               CROSS JOIN needed AS n
               LEFT JOIN recorded AS r
                      ON r.event_table = e.event_table AND r.operation = n.operation AND r.code = n.code
               -- what a row was inserted with, before-images know from the next
               CROSS JOIN LATERAL (
                   SELECT COALESCE(r.lack, CASE WHEN (n.image, n.operation) <> ('before', 'insert')
                                                THEN r.lack_of_columns END)) AS l(lack)
         ORDER BY e.event_table, n.image, n.operation, (l.lack IS NOT NULL), r.since
    )
    SELECT c.event_table, c.image,
           COALESCE(jsonb_object_agg(c.code, c.label) FILTER (WHERE c.label IS NOT NULL AND c.lack IS NULL), '{}'),
           max(c.since) FILTER (WHERE c.lack IS NULL AND NOT c.is_optional),
           (array_agg(c.since_xid ORDER BY c.since DESC NULLS LAST)
                FILTER (WHERE c.lack IS NULL AND NOT c.is_optional))[1],
           max(c.since_event) FILTER (WHERE c.lack IS NULL AND NOT c.is_optional),
           bool_and(c.lack IS NULL AND c.label IS NOT NULL AND c.since_event <= (
               SELECT max(o.since_event) FROM covered AS o
                WHERE o.event_table = c.event_table AND o.image = c.image AND NOT o.is_optional))
               FILTER (WHERE c.is_optional),
           bool_and(c.since_empty) FILTER (WHERE c.lack IS NULL AND NOT c.is_optional),
           string_agg(concat(c.operation, ' (' || c.lack || ')'), ', ' ORDER BY c.operation)
               FILTER (WHERE (c.label IS NULL OR c.lack IS NOT NULL) AND NOT c.is_optional)
      FROM covered AS c
     GROUP BY c.event_table, c.image
$function$;

-- The refusal for a table whose history is not kept, or null where it is.
CREATE OR REPLACE FUNCTION pghistory._check_history_is_kept("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    root CONSTANT regclass := pghistory._partition_root("table");
    advice CONSTANT text := format('From when SELECT pghistory.track(%L, kind => ''history'') is called on, '
                                   'it can be told.', pghistory._table_name("table"));
    missing text;
BEGIN
    IF NOT pghistory._is_tracked("table") THEN
        RAISE EXCEPTION 'table % is not tracked', pghistory._table_name("table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = CASE WHEN root <> "table" AND pghistory._is_tracked(root)
                              THEN format('It is a partition: ask for %s.', pghistory._table_name(root))
                              ELSE advice END;
    END IF;
    SELECT s.missing INTO missing FROM pghistory._history_sources("table") AS s
     -- what is recorded, if only in part, comes nearest
     ORDER BY s.missing IS NOT NULL,
              (SELECT count(*) FROM regexp_matches(s.missing, '(insert|update|delete)(, |$)', 'g')),
              length(s.missing), s.image
     LIMIT 1;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the events of table % do not tell what it was like', pghistory._table_name("table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Of every row, with all columns and its key, nothing records: %s.', missing),
                  HINT = advice;
    END IF;
END
$function$;

-- The source for a table at a time, or the refusal that says from when on it can be told.
CREATE OR REPLACE FUNCTION pghistory._history_source(
    "table" regclass, at timestamp with time zone, OUT event_table regclass, OUT image text, OUT labels jsonb,
    OUT since_event bigint, OUT is_complete boolean, OUT since_empty boolean)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    source record;
    earliest timestamp with time zone;
BEGIN
    PERFORM pghistory._check_history_is_kept("table");
    FOR source IN SELECT * FROM pghistory._history_sources("table") AS s
                   WHERE s.missing IS NULL ORDER BY s.since, s.image
    LOOP
        IF pghistory._had_happened(source.event_table, source.since_event, source.since_xid, source.since, at) THEN
            event_table := source.event_table;
            image := source.image;
            labels := source.labels;
            since_event := source.since_event;
            is_complete := source.is_complete;
            since_empty := source.since_empty;
            RETURN;
        END IF;
        -- with commit timestamps, from when the tracking was committed
        EXECUTE format('SELECT LEAST($4, GREATEST($3, %s)) '
                       'FROM (SELECT $1 + 1 AS pgh_id, $2 AS pgh_xid, $3 AS pgh_created_at) AS e',
                       pghistory._time_text(source.event_table, 'e'))
           INTO earliest USING source.since_event, source.since_xid, source.since, earliest;
    END LOOP;
    RAISE EXCEPTION 'the history of table % does not reach back to %', pghistory._table_name("table"), at
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = format('It can be told from %s on.', earliest);
END
$function$;

-- What an event leaves open: the row was there before it, and nothing says what it was like.
CREATE OR REPLACE FUNCTION pghistory._refuse_to_guess(event_table regclass, event_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    obj text;
    began timestamp with time zone;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _refuse_to_guess.event_table;
    EXECUTE format('SELECT %s, e.pgh_created_at FROM %s AS e WHERE e.pgh_id = $1',
                   pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key,
                                       'e'),
                   pghistory._table_name(event_table))
       INTO obj, began USING event_id;
    RAISE EXCEPTION 'what row % of table % was like before % is not known', obj,
            pghistory._table_name(registered."table"), began
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('Event %s:%s is the first of it, or the one before is gone.',
                              pghistory._table_name(event_table), event_id),
              HINT = 'pghistory.backfill() gives every row a first event, from which on it is known.';
END
$function$;

-- What a missing row leaves open: when it went.
CREATE OR REPLACE FUNCTION pghistory._refuse_vanished(event_table regclass, event_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    obj text;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _refuse_vanished.event_table;
    EXECUTE format('SELECT %s FROM %s AS e WHERE e.pgh_id = $1',
                   pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key,
                                       'e'),
                   pghistory._table_name(event_table))
       INTO obj USING event_id;
    RAISE EXCEPTION 'when row % of table % went is not known', obj, pghistory._table_name(registered."table")
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('Nothing was recorded of it after event %s:%s, and it is not there any more.',
                              pghistory._table_name(event_table), event_id),
              HINT = 'TRUNCATE is recorded by kind ''history'' and ''before_truncate''; '
                     'partitions that are dropped or detached are not.';
END
$function$;

-- What a transaction leaves open in which two rows had the same key for a while.
CREATE OR REPLACE FUNCTION pghistory._refuse_to_choose(event_table regclass, event_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    obj text;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _refuse_to_choose.event_table;
    EXECUTE format('SELECT %s FROM %s AS e WHERE e.pgh_id = $1',
                   pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key,
                                       'e'),
                   pghistory._table_name(event_table))
       INTO obj USING event_id;
    RAISE EXCEPTION 'which of two rows stayed that were row % of table % is not known', obj,
            pghistory._table_name(registered."table")
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('The transaction of event %s:%s had two rows under one key before it ended.',
                              pghistory._table_name(event_table), event_id),
              HINT = 'Earlier and later times can be told.';
END
$function$;

-- The same of one column, whose values a DDL statement changed without an event.
CREATE OR REPLACE FUNCTION pghistory._refuse_to_guess_value("table" regclass, field name, at timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION 'what column "%" of table % held at % is not known', field, pghistory._table_name("table"), at
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'It was added with a default that was computed for each row, or got a type that the old values '
                       'cannot become or that was computed from them.',
              HINT = format('Earlier and later times can be told; or look at the events: pghistory.events(%L).',
                            pghistory._table_name("table"));
END
$function$;

-- The columns of a table as they were, as SQL expressions over an event e that holds the row, or over the row t of
-- today. Without a time: as the event has them.
CREATE OR REPLACE FUNCTION pghistory._past_columns(
    "table" regclass, event_table regclass, at timestamp with time zone, from_event boolean, later_event text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name("table");
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                                 WHERE e.event_table = _past_columns.event_table);
    -- the row of today that is about the same object
    today CONSTANT text := format('FROM %s AS t WHERE %s', relation,
                                  pghistory._same_object_text(
                                      event_table, obj_key, pghistory._qualified('t', obj_key),
                                      pghistory._qualified('e', pghistory._object_columns(obj_key))));
    is_past CONSTANT text := CASE WHEN at IS NOT NULL THEN pghistory._happened_text(event_table, 'e', at) END;
    this record;
    rewritten record;
    nothing text;
    refusal text;
    value text;
    expressions text[] := '{}';
BEGIN
    FOR this IN
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type_text,
               h.atttypid <> a.atttypid AS is_other_type, m.*
          FROM pg_attribute AS a
               LEFT JOIN pghistory.event_column AS m
                      ON m.event_table = _past_columns.event_table AND m.table_column_number = a.attnum
               LEFT JOIN pg_attribute AS h ON h.attrelid = m.event_table AND h.attname = m.column_name
         WHERE a.attrelid = "table" AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
         ORDER BY a.attnum
    LOOP
        -- a null of the column's type, also where that is a domain that refuses it
        nothing := format('(NULL::%s).%I', relation, this.attname);
        -- (a CASE of a domain's values alone is of that domain)
        refusal := format('CASE WHEN pghistory._refuse_to_guess_value(%s::oid, %L, %L) THEN %s ELSE %4$s END',
                          "table"::oid, this.attname, at, nothing);
        -- The last time that its values changed without an event, of those that had happened; the first of the others.
        SELECT max(r.after) FILTER (WHERE r.had_happened) AS until,
               min(r.after) FILTER (WHERE NOT r.had_happened) AS since
          INTO rewritten
          FROM (SELECT r.after, pghistory._had_happened(_past_columns.event_table, r.after, r.xid, r.at,
                                                        _past_columns.at) AS had_happened
                  FROM jsonb_to_recordset(this.rewrites) AS r(after bigint, xid xid8, at timestamp with time zone)
                 WHERE _past_columns.at IS NOT NULL) AS r;
        value := format(CASE WHEN this.is_other_type THEN 'CASE WHEN e.%1$I IS NOT NULL THEN e.%1$I::%2$s ELSE %3$s END'
                             ELSE 'e.%1$I' END, this.column_name, this.type_text, nothing);
        IF this.added_after IS NOT NULL THEN
            value := format('CASE WHEN e.pgh_id <= %s THEN %s ELSE %s END', this.added_after,
                            CASE WHEN at IS NOT NULL AND this.missing_value IS NOT NULL
                                 THEN format('%L::%s', this.missing_value, this.type_text) ELSE nothing END, value);
        END IF;
        IF at IS NOT NULL AND this.added_after IS NOT NULL
           AND NOT pghistory._had_happened(event_table, this.added_after, this.added_xid, this.added_at, at)
        THEN
            value := nothing;
        ELSIF NOT from_event THEN
            value := CASE WHEN rewritten.since IS NULL THEN format('t.%I', this.attname) ELSE refusal END;
        ELSIF at IS NULL AND this.unreadable_until IS NOT NULL THEN
            value := format('CASE WHEN e.pgh_id > %s THEN %s ELSE %s END', this.unreadable_until, value, refusal);
        ELSIF COALESCE(rewritten.until, rewritten.since, this.unreadable_until) IS NOT NULL THEN
            value := concat(
                format('CASE WHEN e.pgh_id > %s', GREATEST(rewritten.until, this.unreadable_until, 0)),
                -- what an event found that had not happened is of its own time
                CASE WHEN rewritten.since IS NOT NULL
                     THEN format(' AND (%s OR e.pgh_id <= %s)', is_past, rewritten.since) END,
                format(' THEN %s ', value),
                -- the row of today has it, if nothing happened to it since
                CASE WHEN rewritten.since IS NULL
                     THEN format('WHEN %s AND NOT (%s) AND EXISTS (SELECT %s) THEN (SELECT t.%I %s) ',
                                 is_past, later_event, today, this.attname, today) END,
                'ELSE ', refusal, ' END');
        END IF;
        expressions := expressions || format('%s AS %I', value, this.attname);
    END LOOP;
    RETURN array_to_string(expressions, ', ');
END
$function$;

-- The list of a table's columns, virtual generated ones among them, over its other columns.
CREATE OR REPLACE FUNCTION pghistory._row_columns("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(CASE WHEN a.attgenerated = 'v'
                           THEN (SELECT format('(%s)::%s', pg_get_expr(d.adbin, d.adrelid),
                                               format_type(a.atttypid, a.atttypmod))
                                   FROM pg_attrdef AS d
                                  WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
                           ELSE quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
      FROM pg_attribute AS a
     WHERE a.attrelid = "table" AND a.attnum > 0 AND NOT a.attisdropped
$function$;

-- Refuses a key that rows may share.
CREATE OR REPLACE FUNCTION pghistory._check_unique_key("table" regclass, obj_key name[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index AS i
         WHERE i.indrelid = "table" AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
           AND ARRAY(SELECT a.attname FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, position)
                                           JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
                                                                  AND a.attnotnull
                      WHERE k.position <= i.indnkeyatts) <@ obj_key
           AND i.indnkeyatts = (SELECT count(*) FROM pg_attribute AS a
                                 WHERE a.attrelid = i.indrelid AND a.attnotnull
                                   AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])))
    THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'events of table % do not tell its rows apart', pghistory._table_name("table")
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('They name the object by %s, which no unique constraint guards.',
                              array_to_string(obj_key, ', ')),
              HINT = 'Give the table a primary key or a unique constraint on columns that are not null.';
END
$function$;

-- The condition that an event is one of the source's, after it began to know all.
CREATE OR REPLACE FUNCTION pghistory._recorded_text(source record, alias text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (SELECT format('(%s%s)', alias || '.pgh_id > ' || NULLIF(source.since_event, 0) || ' AND ',
                          CASE count(*) WHEN 1 THEN min(of_label) ELSE format('(%s)', string_agg(of_label, ' OR ')) END)
              FROM (SELECT format('%1$s.pgh_operation = ANY (%2$L::"char"[]) AND %1$s.pgh_label = %3$L', alias,
                                  array_agg(code ORDER BY strpos('IU', code) DESC, code), label) AS of_label
                      FROM jsonb_each_text(source.labels) AS l(code, label)
                     GROUP BY label) AS o);
END
$function$;

-- The condition that it was written by backfill(), or by hand: which counts for rows to which nothing had happened.
-- Before-images do without.
CREATE OR REPLACE FUNCTION pghistory._snapshot_text(source record, alias text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN CASE source.image WHEN 'after' THEN
               format('(%1$s.pgh_id > %2$s AND %1$s.pgh_operation = ''S'' AND %1$s.pgh_label = ANY (%3$L::text[]))',
                      alias, source.since_event, ARRAY(SELECT DISTINCT value FROM jsonb_each_text(source.labels)))
           ELSE 'false' END;
END
$function$;

-- The texts that queries over history are made of: {name}s in their templates.
CREATE OR REPLACE FUNCTION pghistory._history_texts("table" regclass, source record, at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    event_table CONSTANT regclass := source.event_table;
    key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e WHERE e.event_table = source.event_table);
    held CONSTANT name[] := pghistory._object_columns(key);
    others CONSTANT name[] := pghistory._other_key_columns(key);
    has_moves CONSTANT boolean := pghistory._has_moves(event_table, key);
    relation_kind CONSTANT "char" := (SELECT relkind FROM pg_class WHERE oid = "table");
    is_moved CONSTANT text := CASE WHEN has_moves THEN
        format('(e.%I IS NOT NULL AND NOT (%s))', others[1],
               pghistory._same_object_text(event_table, key, pghistory._qualified('e', held),
                                           pghistory._qualified('e', others)))
        ELSE 'false' END;
BEGIN
    RETURN jsonb_build_object(
        'events', pghistory._table_name(event_table),
        'event table', format('%s::oid', event_table::oid),
        'rows', concat(CASE WHEN relation_kind <> 'p' THEN 'ONLY ' END, pghistory._table_name("table")),
        'key', (SELECT string_agg(quote_ident(h), ', ' ORDER BY position)
                  FROM unnest(held) WITH ORDINALITY AS k(h, position)),
        'k.key', array_to_string(pghistory._qualified('k', held), ', '),
        'e.key', array_to_string(pghistory._qualified('e', held), ', '),
        'w.key', array_to_string(pghistory._qualified('w', held), ', '),
        'e.key is known', format('e.%I IS NOT NULL', held[1]),
        'other key', (SELECT string_agg(format('e.%I AS %I', CASE WHEN has_moves THEN o ELSE h END, h), ', '
                                        ORDER BY position)
                        FROM unnest(others, held) WITH ORDINALITY AS k(o, h, position)),
        'g.key', array_to_string(pghistory._qualified('g', held), ', '),
        'e is g', pghistory._same_object_text(event_table, key, pghistory._qualified('e', held),
                                              pghistory._qualified('g', held)),
        'recorded g', pghistory._recorded_text(source, 'g'),
        'past g', pghistory._happened_text(event_table, 'g', at),
        'e is k', pghistory._same_object_text(event_table, key, pghistory._qualified('e', held),
                                              pghistory._qualified('k', held)),
        'm is k', pghistory._same_object_text(event_table, key, pghistory._qualified('m', held),
                                              pghistory._qualified('k', held)),
        'n is k', pghistory._same_object_text(event_table, key, pghistory._qualified('n', held),
                                              pghistory._qualified('k', held)),
        'l is k', pghistory._same_object_text(event_table, key, pghistory._qualified('l', held),
                                              pghistory._qualified('k', held)),
        'l is e', pghistory._same_object_text(event_table, key, pghistory._qualified('l', held),
                                              pghistory._qualified('e', held)),
        't is k', pghistory._same_object_text(event_table, key, pghistory._qualified('t', key),
                                              pghistory._qualified('k', held)),
        'recorded', pghistory._recorded_text(source, 'e'),
        'snapshot', pghistory._snapshot_text(source, 'e'),
        'past', format('(%s)', pghistory._happened_text(event_table, 'e', at)),
        'has moves', has_moves,
        'moved', is_moved,
        -- After-images name the key that a row got, before-images the one that it had.
        'e came', CASE source.image WHEN 'after' THEN format('(e.pgh_operation = ''I'' OR %s)', is_moved)
                                    ELSE '(e.pgh_operation = ''I'')' END,
        'e went', CASE source.image WHEN 'after' THEN '(e.pgh_operation IN (''D'', ''T''))'
                                    ELSE format('(e.pgh_operation IN (''D'', ''T'') OR %s)', is_moved) END,
        'moves', CASE source.image WHEN 'after' THEN '-1' ELSE '1' END,
        'e is like g', COALESCE(
            (SELECT format('ROW(%s)::record *= ROW(%s)::record',
                           string_agg(format('e.%I', m.column_name), ', ' ORDER BY m.table_column_number),
                           string_agg(format('g.%I', m.column_name), ', ' ORDER BY m.table_column_number))
               FROM pghistory.event_column AS m
              WHERE m.event_table = source.event_table AND m.table_column_name <> ALL (key)), 'false'),
        -- Rows that were emptied or dropped without an event are missed when they should be there.
        'may vanish', NOT source.is_complete OR relation_kind <> 'r',
        'past columns', pghistory._past_columns(
            "table", event_table, at, true,
            format('EXISTS (SELECT FROM %s AS l WHERE %s AND %s AND l.pgh_id > e.pgh_id)',
                   pghistory._table_name(event_table), pghistory._recorded_text(source, 'l'),
                   pghistory._same_object_text(event_table, key, pghistory._qualified('l', held),
                                               pghistory._qualified('e', held)))),
        'present columns', pghistory._past_columns("table", event_table, at, false, NULL));
END
$function$;
