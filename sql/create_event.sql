-- Events written by hand.

-- The table among this one and those it is a partition or a child of that has the label.
CREATE OR REPLACE FUNCTION pghistory._table_with_label("table" regclass, label text)
 RETURNS regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
BEGIN
    IF pghistory._has_state() THEN
        WITH RECURSIVE ancestor AS (
            SELECT "table"::oid AS relation, 0 AS distance
            UNION
            SELECT i.inhparent, a.distance + 1 FROM ancestor AS a JOIN pg_inherits AS i ON i.inhrelid = a.relation
        )
        SELECT t."table" INTO tracked
          FROM ancestor AS a JOIN pghistory.tracker AS t ON t."table" = a.relation
         WHERE t.label = _table_with_label.label
         ORDER BY a.distance
         LIMIT 1;
    END IF;
    IF tracked IS NULL THEN
        RAISE EXCEPTION 'table % has no tracker "%"', pghistory._table_name("table"), label
            USING ERRCODE = 'undefined_object',
                  HINT = 'Register the label first: SELECT pghistory.track(table, label, kind => ''event'').';
    END IF;
    RETURN tracked;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.create_event(record anyelement, label text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET xmloption TO 'content'
AS $function$
DECLARE
    "table" regclass := (SELECT NULLIF(typrelid, 0) FROM pg_type WHERE oid = pg_typeof(record));
    tracked regclass;
    function text;
    event_id bigint;
BEGIN
    IF "table" IS NULL THEN
        RAISE EXCEPTION 'create_event() needs a row of a tracked table, not %', pg_typeof(record)
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Give the table''s row itself: '
                         'SELECT pghistory.create_event(u, ''user.login'') FROM users AS u WHERE ...';
    END IF;
    PERFORM pghistory._check_not_null('record', record IS NOT DISTINCT FROM NULL);
    PERFORM pghistory._check_not_null('label', label IS NULL);
    tracked := pghistory._table_with_label("table", label);
    -- It is called by the name that the catalog has for it, and only if it runs as the owner of the event table.
    SELECT format('%I.%I', n.nspname, p.proname) INTO function
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
           JOIN pg_class AS c ON c.oid = e.event_table
           JOIN pg_proc AS p ON p.oid = to_regprocedure(e.by_hand || '(text, text)')
                            AND p.prosecdef AND p.proowner = c.relowner
           JOIN pg_namespace AS n ON n.oid = p.pronamespace
     WHERE t."table" = tracked AND t.label = create_event.label;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the function that writes events of table % is missing', pghistory._table_name(tracked)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Its owner can call pghistory.refresh().';
    END IF;
    INSERT INTO pghistory._request VALUES ('permit event', tracked, NULL, jsonb_build_object('label', label));
    -- The row as text, by output functions: casts could be anybody's.
    EXECUTE format('SELECT %s($1, format(''%%s'', ROW(%s)))', function,
                   (SELECT string_agg(format('($2).%I', a.attname), ', ' ORDER BY a.attnum)
                      FROM pg_attribute AS a
                     WHERE a.attrelid = tracked AND a.attnum > 0 AND NOT a.attisdropped))
       INTO event_id
      USING label, record;
    RETURN event_id;
END
$function$;
COMMENT ON FUNCTION pghistory.create_event(anyelement, text) IS
    'Writes one event with this label from a row of a tracked table, and returns its pgh_id. Whoever may insert, '
    'update or delete rows of the table may write its events by hand.';

CREATE OR REPLACE FUNCTION pghistory.create_event("table" regclass, obj text, label text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    key name[];
    identity jsonb;
    event_id bigint;
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_not_null('obj', obj IS NULL);
    PERFORM pghistory._check_not_null('label', label IS NULL);
    tracked := pghistory._table_with_label("table", label);
    SELECT e.obj_key INTO key
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = tracked AND t.label = create_event.label;
    IF key = '{}' THEN
        RAISE EXCEPTION 'events of table % do not name their object', pghistory._table_name(tracked)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Give the row itself: '
                         'SELECT pghistory.create_event(t, label) FROM the_table AS t WHERE ...';
    END IF;
    identity := pghistory._object_identity(key, obj);
    EXECUTE format('SELECT pghistory.create_event(t, $1) FROM %s AS t WHERE %s',
                   pghistory._table_name("table"), pghistory._identity_text("table", identity))
       INTO event_id USING label;
    IF event_id IS NULL THEN
        RAISE EXCEPTION 'table % has no row %', pghistory._table_name("table"), obj
            USING ERRCODE = 'no_data_found',
                  HINT = 'obj is the key as text, or a JSON object for a key of several columns.';
    END IF;
    RETURN event_id;
END
$function$;
COMMENT ON FUNCTION pghistory.create_event(regclass, text, text) IS
    'Writes one event with this label from the row of a tracked table that has this key (as text, or a JSON object '
    'for a key of several columns), and returns its pgh_id.';
