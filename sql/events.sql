-- Looking at events.

-- The columns of an event table that hold its table's, as SQL expressions over an event.
CREATE OR REPLACE FUNCTION pghistory._data_text(event_table regclass, alias text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    followed text;
    others text;
BEGIN
    SELECT string_agg(CASE WHEN pghistory._is_harmless_as_json(a.atttypid)
                           THEN format('%s.%I AS %I', alias, a.attname, m.table_column_name)
                           ELSE format('%s AS %I', pghistory._json_text(a.atttypid, format('%s.%I', alias, a.attname)),
                                       m.table_column_name) END,
                      ', ' ORDER BY m.table_column_number)
      INTO followed
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name AND NOT a.attisdropped
     WHERE m.event_table = _data_text.event_table;
    -- What dropped columns held, and columns of the user's own: where they hold something.
    SELECT string_agg(format('(%L, %s)', a.attname,
                             pghistory._json_text(a.atttypid, format('%s.%I', alias, a.attname))),
                      ', ' ORDER BY a.attnum)
      INTO others
      FROM pg_attribute AS a
     WHERE a.attrelid = event_table AND a.attnum > 0 AND NOT a.attisdropped
       AND NOT pghistory._is_reserved_name(a.attname)
       AND NOT EXISTS (SELECT FROM pghistory.event_column AS m
                        WHERE m.event_table = _data_text.event_table
                          AND a.attname IN (m.column_name, m.table_column_name));
    RETURN concat_ws(' || ',
        CASE WHEN followed IS NULL THEN '''{}''::jsonb'
             ELSE format('(SELECT to_jsonb(d) FROM (SELECT %s) AS d)', followed) END,
        'COALESCE((SELECT jsonb_object_agg(o.field, o.value) FROM (VALUES ' || others
        || ') AS o(field, value) WHERE o.value IS NOT NULL), ''{}'')');
END
$function$;

-- The value of a column before an event, as an SQL expression over the event before it: where the table got the column
-- between the two, it is what the column was added with.
CREATE OR REPLACE FUNCTION pghistory._previous_value_text(
    event_table regclass, field name, added_after bigint, missing_value text, alias text, next_alias text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN missing_value IS NULL THEN format('%s.%I', alias, field)
                ELSE format('CASE WHEN %1$s.pgh_id OPERATOR(pg_catalog.<=) %3$s '
                            'AND %2$s.pgh_id OPERATOR(pg_catalog.>) %3$s THEN %4$L::%5$s ELSE %1$s.%6$I END',
                            alias, next_alias, added_after, missing_value,
                            (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
                              WHERE a.attrelid = event_table AND a.attname = field),
                            field) END
$function$;

-- What changed from one event (p) to the next (e), as an SQL expression: {"field": [old, new]}, compared by image.
CREATE OR REPLACE FUNCTION pghistory._diff_text(event_table regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN count(*) = 0 THEN '''{}''::jsonb'
                ELSE format('COALESCE((SELECT jsonb_object_agg(c.field, jsonb_build_array(c.old, c.new)) '
                            'FROM (VALUES %s) AS c(field, differs, old, new) WHERE c.differs), ''{}'')',
                            string_agg(format('(%L, record_image_ne(ROW(%s), ROW(%s)), %s, %s)',
                                              m.table_column_name, v.old, v.new,
                                              pghistory._json_text(a.atttypid, v.old),
                                              pghistory._json_text(a.atttypid, v.new)),
                                       ', ' ORDER BY m.table_column_number)) END
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name AND NOT a.attisdropped
           CROSS JOIN LATERAL (SELECT pghistory._previous_value_text(
                                          m.event_table, m.column_name, m.added_after, m.missing_value, 'p', 'e'),
                                      format('e.%I', m.column_name)) AS v(old, new)
     WHERE m.event_table = _diff_text.event_table
$function$;

-- Have keys changed among the events? Before-images name the key that the object then got as its other key.
CREATE OR REPLACE FUNCTION pghistory._has_moves(event_table regclass, obj_key name[], operation text DEFAULT NULL)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    other CONSTANT name := (pghistory._other_key_columns(obj_key))[1];
    has_moves boolean := false;
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = event_table AND attname = other AND NOT attisdropped) THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s AS e WHERE e.%I IS NOT NULL%s)',
                       pghistory._table_name(event_table), other, ' AND e.pgh_operation = ' || quote_literal(operation))
           INTO has_moves;
    END IF;
    RETURN has_moves;
END
$function$;

-- The key that an object had before event e, as SQL expressions: an update may have given it another.
CREATE OR REPLACE FUNCTION pghistory._key_before_text(event_table regclass, obj_key name[])
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN pghistory._has_moves(event_table, obj_key, 'U') THEN
        ARRAY(SELECT format('CASE WHEN e.pgh_operation = ''U'' THEN COALESCE(e.%I, e.%I) ELSE e.%I END',
                            k.other, k.held, k.held)
                FROM unnest(pghistory._object_columns(obj_key), pghistory._other_key_columns(obj_key)) WITH ORDINALITY
                         AS k(held, other, position)
               ORDER BY k.position)
        ELSE pghistory._qualified('e', pghistory._object_columns(obj_key)) END
$function$;

-- The pgh_id of an object's event before event e, among those that meet a condition over p, as an SQL expression.
CREATE OR REPLACE FUNCTION pghistory._previous_event_text(event_table regclass, obj_key name[], wanted text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    others CONSTANT name[] := pghistory._other_key_columns(obj_key);
    relation CONSTANT text := pghistory._table_name(event_table);
    key_before CONSTANT text[] := pghistory._key_before_text(event_table, obj_key);
    previous text;
BEGIN
    previous := format('(SELECT p.pgh_id FROM %s AS p WHERE %s AND p.pgh_id < e.pgh_id AND %s '
                       'ORDER BY p.pgh_id DESC LIMIT 1)',
                       relation, wanted,
                       pghistory._same_object_text(event_table, obj_key,
                                                   pghistory._qualified('p', pghistory._object_columns(obj_key)),
                                                   key_before));
    IF pghistory._has_moves(event_table, obj_key, 'B') THEN
        previous := format(
            'GREATEST(%s, (SELECT p.pgh_id FROM %s AS p WHERE %s AND p.pgh_id < e.pgh_id AND p.pgh_operation = ''B'' '
            'AND p.%I IS NOT NULL AND %s ORDER BY p.pgh_id DESC LIMIT 1))',
            previous, relation, wanted, others[1],
            pghistory._same_object_text(event_table, obj_key, pghistory._qualified('p', others), key_before));
    END IF;
    RETURN previous;
END
$function$;

-- The query for the events of one event table that meet a condition over e, newest first.
CREATE OR REPLACE FUNCTION pghistory._events_query(event_table regclass, wanted text, max_rows bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    relation CONSTANT text := pghistory._table_name(event_table);
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _events_query.event_table;
    RETURN format(
        $query$
        SELECT concat(%L, ':', e.pgh_id) AS pgh_slug, %s::oid::regclass AS pgh_event_table, e.pgh_id, e.pgh_created_at,
               e.pgh_label, e.pgh_operation, %s AS pgh_data, %s AS pgh_diff, %s AS pgh_context_id,
               %s AS pgh_context, e.pgh_xid, %s::oid::regclass AS pgh_obj_table, %s AS pgh_obj_id
          FROM (SELECT e.* FROM %s AS e WHERE %s ORDER BY e.pgh_id DESC%s) AS e%s
        $query$,
        relation, event_table::oid, pghistory._data_text(event_table, 'e'),
        CASE WHEN registered.obj_key <> '{}'
             THEN format('CASE WHEN p.pgh_id IS NOT NULL THEN %s END', pghistory._diff_text(event_table))
             ELSE 'NULL::jsonb' END,
        CASE WHEN registered.context = 'none' THEN 'NULL::uuid' ELSE 'e.pgh_context_id' END,
        CASE registered.context
            WHEN 'inline' THEN 'e.pgh_context'
            WHEN 'reference' THEN 'CASE WHEN e.pgh_context_id IS NOT NULL '
                                  'THEN pghistory._context_of_event(e.pgh_context_id, e.pgh_xid) END'
            ELSE 'NULL::jsonb' END,
        COALESCE(registered."table"::oid::text, 'NULL'),
        pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key, 'e'),
        relation, wanted, ' LIMIT ' || max_rows,
        CASE WHEN registered.obj_key <> '{}'
             THEN format(E'\n               LEFT JOIN LATERAL (SELECT p.* FROM %s AS p WHERE p.pgh_id = %s OFFSET 0) '
                         'AS p ON true',
                         relation, pghistory._previous_event_text(event_table, registered.obj_key, 'true')) END);
END
$function$;

-- What events are asked for, as an SQL condition over an event called e.
CREATE OR REPLACE FUNCTION pghistory._events_condition(
    event_table regclass, obj text, label text, context_id uuid, since timestamp with time zone,
    until timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat_ws(' AND ', 'true',
               CASE WHEN obj IS NULL THEN NULL
                    WHEN e.obj_key = '{}' THEN 'false'
                    ELSE pghistory._event_identity_text(
                             e.event_table, e.obj_key, pghistory._object_columns(e.obj_key), obj, 'e') END,
               'e.pgh_label = ' || quote_literal(label),
               CASE WHEN context_id IS NULL THEN NULL
                    WHEN e.context = 'none' THEN 'false'
                    ELSE format('e.pgh_context_id = %L::uuid', context_id) END,
               'e.pgh_created_at >= ' || quote_literal(since) || '::timestamptz',
               'e.pgh_created_at < ' || quote_literal(until) || '::timestamptz')
      FROM pghistory.event_table AS e
     WHERE e.event_table = _events_condition.event_table
$function$;

-- Runs queries of events together, newest first.
CREATE OR REPLACE FUNCTION pghistory._run_events(queries text[], max_rows bigint)
 RETURNS TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone,
     pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, pgh_context jsonb,
     pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF max_rows < 0 THEN
        RAISE EXCEPTION 'max_rows must not be negative'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Say how many of the newest events to return.';
    END IF;
    IF cardinality(queries) = 1 THEN
        RETURN QUERY EXECUTE queries[1];
    ELSIF cardinality(queries) > 1 THEN
        RETURN QUERY EXECUTE format(
            'SELECT * FROM (%s) AS e ORDER BY e.pgh_created_at DESC, e.pgh_event_table, e.pgh_id DESC%s',
            array_to_string(queries, ' UNION ALL '), ' LIMIT ' || max_rows);
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.events(
    "table" regclass DEFAULT NULL, obj text DEFAULT NULL, label text DEFAULT NULL, context_id uuid DEFAULT NULL,
    since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL,
    max_rows bigint DEFAULT NULL)
 RETURNS TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone,
     pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, pgh_context jsonb,
     pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
BEGIN
    IF obj IS NOT NULL AND "table" IS NULL THEN
        RAISE EXCEPTION 'object "%" is named without its table', obj
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the table too, as in pghistory.events(''users'', ''42'').';
    END IF;
    IF pghistory._has_state() THEN
        -- Of all tables, those that the caller may read; of one, that one, or the error that says why not.
        RETURN QUERY
        SELECT *
          FROM pghistory._run_events(
                   ARRAY(SELECT pghistory._events_query(
                                    e.event_table,
                                    pghistory._events_condition(e.event_table, events.obj, events.label,
                                                                events.context_id, events.since, events.until),
                                    events.max_rows)
                           FROM pghistory.event_table AS e JOIN pg_class AS c ON c.oid = e.event_table
                          WHERE e."table" = events."table"
                             OR events."table" IS NULL AND has_table_privilege(e.event_table, 'SELECT')
                          ORDER BY pghistory._table_name(e.event_table)),
                   events.max_rows);
    END IF;
END
$function$;
COMMENT ON FUNCTION pghistory.events(
    regclass, text, text, uuid, timestamp with time zone, timestamp with time zone, bigint) IS
    'Events, newest first: of a table, of an object (its key as text, or a JSON object for a key of several columns), '
    'with a label, of a context, of a time (since is included, until is not), the newest max_rows of them. pgh_diff is '
    '{"field": [old, new]} against the object''s previous event in that event table, null for its first. Without a '
    'table: of all event tables that the caller may read.';

-- The keys that an object has had, in these columns of its table, as rows of text: what foreign keys point, or
-- pointed, at.
CREATE OR REPLACE FUNCTION pghistory._values_of_object("table" regclass, obj text, columns name[])
 RETURNS SETOF text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    key CONSTANT name[] := COALESCE((SELECT e.obj_key FROM pghistory.event_table AS e
                                      WHERE e."table" = _values_of_object."table" AND e.obj_key <> '{}' LIMIT 1),
                                    pghistory._primary_key("table"), columns);
    this record;
    list text;
BEGIN
    list := (SELECT string_agg(format('format(''%%s'', t.%I)', field), ', ' ORDER BY position)
               FROM unnest(columns) WITH ORDINALITY AS c(field, position));
    RETURN QUERY EXECUTE format(
        'SELECT ARRAY[%s] FROM %s AS t WHERE %s', list, pghistory._table_name("table"),
        pghistory._identity_text("table", pghistory._object_identity(key, obj)));
    FOR this IN
        SELECT e.event_table,
               string_agg(format('format(''%%s'', e.%I)', m.column_name), ', ' ORDER BY c.position) AS list,
               pghistory._event_identity_text(
                             e.event_table, e.obj_key, pghistory._object_columns(e.obj_key), obj, 'e') AS wanted
          FROM pghistory.event_table AS e
               JOIN pghistory.event_column AS m ON m.event_table = e.event_table
               JOIN unnest(columns) WITH ORDINALITY AS c(field, position) ON c.field = m.table_column_name
         WHERE e."table" = _values_of_object."table" AND e.obj_key <> '{}'
         GROUP BY e.event_table, e.obj_key
        HAVING count(*) = cardinality(columns)
    LOOP
        RETURN QUERY EXECUTE format('SELECT DISTINCT ARRAY[%s] FROM %s AS e WHERE %s', this.list,
                                    pghistory._table_name(this.event_table), this.wanted);
    END LOOP;
END
$function$;

-- The condition that an event of a table is about a row whose foreign key points, or pointed, at one of these values.
CREATE OR REPLACE FUNCTION pghistory._referring_condition(
    event_table regclass, "table" regclass, columns name[], pointed_at text[])
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    values_text text;
    from_event text;
    from_row text;
    held text;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _referring_condition.event_table;
    SELECT string_agg(format('(%s)', v.row), ', ') INTO values_text
      FROM (SELECT string_agg(format('%L::%s', pointed_at[i][c.position],
                                     format_type((pghistory._base_type(t.type_id, -1)).type_id, -1)),
                              ', ' ORDER BY c.position) AS row
              FROM generate_subscripts(pointed_at, 1) AS i
                   CROSS JOIN unnest(columns) WITH ORDINALITY AS c(field, position)
                   JOIN pghistory._columns("table") AS t ON t.name = c.field
             GROUP BY i) AS v;
    -- as it is now
    IF registered.obj_key <> '{}' THEN
        held := (SELECT string_agg(format('e.%I', h), ', ' ORDER BY position)
                   FROM unnest(pghistory._object_columns(registered.obj_key)) WITH ORDINALITY AS k(h, position));
        from_row := format('ROW(%s) IN (SELECT %s FROM %s AS t JOIN (VALUES %s) AS v(%s) ON %s)', held,
            (SELECT string_agg(format('t.%I', field), ', ' ORDER BY position)
               FROM unnest(registered.obj_key) WITH ORDINALITY AS k(field, position)),
            pghistory._table_name("table"), values_text,
            (SELECT string_agg('v' || position, ', ' ORDER BY position)
               FROM unnest(columns) WITH ORDINALITY AS c(field, position)),
            (SELECT string_agg(format('t.%I %s v.v%s', c.field, pghistory._equality_operator(t.type_id), c.position),
                               ' AND ')
               FROM unnest(columns) WITH ORDINALITY AS c(field, position)
                    JOIN pghistory._columns("table") AS t ON t.name = c.field));
    END IF;
    -- as events say it was
    SELECT format(CASE WHEN registered.obj_key = '{}' THEN 'EXISTS (SELECT FROM (VALUES %2$s) AS v(%3$s) WHERE %5$s)'
                       ELSE 'ROW(%1$s) IN (SELECT %1$s FROM %4$s AS e JOIN (VALUES %2$s) AS v(%3$s) ON %5$s)' END,
                  held, values_text, string_agg('v' || c.position, ', ' ORDER BY c.position),
                  pghistory._table_name(_referring_condition.event_table),
                  string_agg(format('e.%I %s v.v%s', a.attname, pghistory._equality_operator(a.atttypid), c.position),
                             ' AND '))
      INTO from_event
      FROM unnest(columns) WITH ORDINALITY AS c(field, position)
           JOIN pghistory.event_column AS m
             ON m.event_table = _referring_condition.event_table AND m.table_column_name = c.field
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name
    HAVING count(*) = cardinality(columns);
    RETURN COALESCE('(' || concat_ws(' OR ', from_row, from_event) || ')', 'false');
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.references(
    "table" regclass, obj text, label text DEFAULT NULL, context_id uuid DEFAULT NULL,
    since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL,
    max_rows bigint DEFAULT NULL)
 RETURNS TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone,
     pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, pgh_context jsonb,
     pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
DECLARE
    this record;
    pointed_at text[];
    condition text;
    conditions jsonb := '{}';
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_not_null('obj', obj IS NULL);
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    FOR this IN SELECT e.event_table FROM pghistory.event_table AS e JOIN pg_class AS c ON c.oid = e.event_table
                 WHERE e."table" = "references"."table" AND e.obj_key <> '{}'
    LOOP
        conditions := conditions || jsonb_build_object(
            this.event_table::oid,
            pghistory._events_condition(this.event_table, obj, NULL, NULL, NULL, NULL));
    END LOOP;
    FOR this IN
        SELECT e.event_table, e."table" AS referring, f.columns, f.referred
          FROM pghistory._foreign_keys_to("table") AS f
               JOIN pghistory.event_table AS e ON e."table" = f.referring
               JOIN pg_class AS c ON c.oid = e.event_table
    LOOP
        pointed_at := ARRAY(SELECT DISTINCT v FROM pghistory._values_of_object("table", obj, this.referred) AS v
                             WHERE array_position(v, NULL) IS NULL);
        CONTINUE WHEN pointed_at = '{}';
        condition := pghistory._referring_condition(this.event_table, this.referring, this.columns, pointed_at);
        conditions := conditions || jsonb_build_object(
            this.event_table::oid, concat_ws(' OR ', conditions ->> this.event_table::oid::text, condition));
    END LOOP;
    RETURN QUERY
    SELECT *
      FROM pghistory._run_events(
               ARRAY(SELECT pghistory._events_query(
                                k.event_table::oid::regclass,
                                format('(%s) AND %s', k.condition,
                                       pghistory._events_condition(
                                           k.event_table::oid::regclass, NULL, "references".label,
                                           "references".context_id, "references".since, "references".until)),
                                "references".max_rows)
                       FROM jsonb_each_text(conditions) AS k(event_table, condition)
                      ORDER BY k.event_table::oid),
               "references".max_rows);
END
$function$;
COMMENT ON FUNCTION pghistory.references(
    regclass, text, text, uuid, timestamp with time zone, timestamp with time zone, bigint) IS
    'Events of an object, as events() returns them, and of every tracked row whose foreign key points, or pointed, '
    'at it.';
