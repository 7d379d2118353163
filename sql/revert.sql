-- Putting one object back to what an event says.

-- The columns of a table that a statement may give values: those of the event that it had then. Generated ones are not
-- written; an identity that is always generated is written in an INSERT only.
CREATE OR REPLACE FUNCTION pghistory._writable_columns(
    "table" regclass,
    event_table regclass,
    event_id bigint,
    OUT number smallint,
    OUT name name,
    OUT held name,
    OUT type_text text,
    OUT is_updatable boolean)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT a.attnum, a.attname, m.column_name, format_type(a.atttypid, a.atttypmod), a.attidentity <> 'a'
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = _writable_columns."table" AND a.attnum = m.table_column_number
     WHERE m.event_table = _writable_columns.event_table AND a.attgenerated = '' AND NOT a.attisdropped
       AND COALESCE(m.added_after, -1) < event_id
     ORDER BY a.attnum
$function$;

-- Where the rows of a table are: not in those that inherit from it.
CREATE OR REPLACE FUNCTION pghistory._rows_text("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(CASE WHEN relkind <> 'p' THEN 'ONLY ' END, pghistory._table_name("table"))
      FROM pg_class WHERE oid = "table"
$function$;

-- The key under which an object is now that had this one after an event: updates since may have given it others.
CREATE OR REPLACE FUNCTION pghistory._key_of_today(event_table regclass, obj text, after_event bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                                 WHERE e.event_table = _key_of_today.event_table);
    held CONSTANT name[] := pghistory._object_columns(obj_key);
    others CONSTANT name[] := pghistory._other_key_columns(obj_key);
    step record;
BEGIN
    WHILE pghistory._has_moves(event_table, obj_key) LOOP
        EXECUTE format(
            $query$
            SELECT e.pgh_id, CASE WHEN e.pgh_operation = 'U' THEN %5$s WHEN e.pgh_operation = 'B' THEN %6$s END AS obj
              FROM %1$s AS e
             WHERE e.pgh_id > $1
               AND (%2$s AND (e.pgh_operation IN ('D', 'T') OR e.pgh_operation = 'B' AND e.%4$I IS NOT NULL)
                    OR %3$s AND e.pgh_operation = 'U')
             ORDER BY e.pgh_id LIMIT 1
            $query$,
            pghistory._table_name(event_table),
            pghistory._event_identity_text(event_table, obj_key, held, obj, 'e'),
            pghistory._event_identity_text(event_table, obj_key, others, obj, 'e'),
            others[1],
            pghistory._key_text(event_table, held, obj_key, 'e'),
            pghistory._key_text(event_table, others, obj_key, 'e'))
           INTO step USING after_event;
        EXIT WHEN step.obj IS NULL;
        obj := step.obj;
        after_event := step.pgh_id;
    END LOOP;
    RETURN obj;
END
$function$;

-- Runs a statement that writes to a table of the user's, under the search_path that its triggers expect.
CREATE OR REPLACE FUNCTION pghistory._write_event(statement text, event anyelement, search_path text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    result jsonb;
BEGIN
    PERFORM set_config('search_path', search_path, true);
    EXECUTE statement INTO result USING event;
    RETURN result;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._revert(event anyelement, search_path text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    source CONSTANT regclass := (SELECT t.typrelid FROM pg_type AS t WHERE t.oid = pg_typeof(event));
    registered record;
    columns record;
    given record;
    missing text;
    obj text;
    identity text;
    result jsonb;
BEGIN
    IF source IS NULL OR NOT pghistory._is_event_table(source) THEN
        RAISE EXCEPTION 'revert() needs an event, not %', pg_typeof(event)
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Give a row of an event table: '
                         'SELECT pghistory.revert(e) FROM users_event AS e WHERE pgh_id = 7.';
    END IF;
    PERFORM pghistory._check_not_null('event', event IS NOT DISTINCT FROM NULL);
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = source;
    IF pghistory._table_name(registered."table") IS NULL THEN
        RAISE EXCEPTION 'table %.% was dropped', quote_ident(registered.table_schema),
                quote_ident(registered.table_name)
            USING ERRCODE = 'undefined_table',
                  HINT = 'Create it again and track it; then it takes its events over.';
    END IF;
    EXECUTE format('SELECT ($1).pgh_id AS id, ($1).pgh_label AS label, ($1).pgh_operation AS operation, %s AS obj '
                   'FROM (SELECT ($1).*) AS e',
                   pghistory._key_text(source, pghistory._object_columns(registered.obj_key), registered.obj_key, 'e'))
       INTO given USING event;
    SELECT string_agg(c.name, ', ' ORDER BY c.number) INTO missing
      FROM pghistory._columns(registered."table") AS c
     WHERE NOT EXISTS (SELECT FROM pghistory.event_column AS m
                        WHERE m.event_table = source AND m.table_column_number = c.number)
        OR c.name <> ALL (COALESCE((SELECT pghistory._tracked_fields(t."table", t.fields, t.exclude)
                                      FROM pghistory.tracker AS t
                                     WHERE t.event_table = source AND t.label = given.label), ARRAY[c.name]));
    IF missing IS NOT NULL OR given.obj IS NULL THEN
        RAISE EXCEPTION 'event %:% does not hold the whole row', pghistory._table_name(source), given.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It is without %s.', COALESCE(missing, 'the key')),
                  HINT = 'Rows can be put back to events that hold every column and name their object.';
    END IF;

    -- A before-image is of the row as it was when its key was still the one before.
    obj := pghistory._key_of_today(source, given.obj, given.id - CASE WHEN given.operation = 'B' THEN 1 ELSE 0 END);
    identity := pghistory._identity_text(registered."table", pghistory._object_identity(registered.obj_key, obj));
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.number) AS names,
           string_agg(format('($1).%I::%s', c.held, c.type_text), ', ' ORDER BY c.number) AS "values",
           string_agg(format('%I = ($1).%I::%s', c.name, c.held, c.type_text), ', ' ORDER BY c.number)
               FILTER (WHERE c.is_updatable) AS sets
      INTO columns
      FROM pghistory._writable_columns(registered."table", source, given.id) AS c;
    result := pghistory._write_event(
        CASE WHEN columns.sets IS NULL
             THEN format('SELECT pg_catalog.to_jsonb(t) FROM %s AS t WHERE %s',
                         pghistory._rows_text(registered."table"), identity)
             ELSE format('UPDATE %s AS t SET %s WHERE %s RETURNING pg_catalog.to_jsonb(t)',
                         pghistory._rows_text(registered."table"), columns.sets, identity) END,
        event, search_path);
    IF result IS NULL THEN
        result := pghistory._write_event(
            format('INSERT INTO %s AS t (%s) OVERRIDING SYSTEM VALUE VALUES (%s) RETURNING pg_catalog.to_jsonb(t)',
                   pghistory._table_name(registered."table"), columns.names, columns."values"),
            event, search_path);
    END IF;
    IF result IS NULL THEN
        RAISE EXCEPTION 'row % of table % was not written', obj, pghistory._table_name(registered."table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A trigger or a rule of the table kept it from being written.';
    END IF;
    RETURN result;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.revert(event anyelement)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
BEGIN
    -- Not pinned, so that triggers of the table see the caller's search_path; all that is called from here on is.
    RETURN pghistory._revert(event, pg_catalog.current_setting('search_path'));
END
$function$;
COMMENT ON FUNCTION pghistory.revert(anyelement) IS
    'Puts an object back to what an event says, inserting it again if it is gone, and returns the row: SELECT '
    'pghistory.revert(e) FROM users_event AS e WHERE pgh_id = 7. Columns that the table got later stay as they are.';
