-- The text of generated functions. What is written here is what people read under \sf.

-- What each tracker of a table wants written, operation by operation, and at which level.
CREATE OR REPLACE FUNCTION pghistory._operations(
    "table" regclass,
    OUT event_table regclass,
    OUT label text,
    OUT ordinal bigint,
    OUT operation text,
    OUT level text,
    OUT image text,
    OUT code text,
    OUT only_changes boolean,
    OUT condition text,
    OUT fields name[])
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH operation_of_kind(kind, operation, image, code, only_changes) AS (
        VALUES ('snapshot', 'insert', 'new', 'I', false),
               ('snapshot', 'update', 'new', 'U', true),
               ('after_insert', 'insert', 'new', 'I', false),
               ('after_insert_or_update', 'insert', 'new', 'I', false),
               ('after_insert_or_update', 'update', 'new', 'U', false),
               ('before_update', 'update', 'old', 'B', false),
               ('after_update', 'update', 'new', 'U', false),
               ('before_delete', 'delete', 'old', 'D', false),
               ('before_truncate', 'truncate', 'old', 'T', false),
               ('history', 'insert', 'new', 'I', false),
               ('history', 'update', 'new', 'U', true),
               ('history', 'delete', 'old', 'D', false),
               ('history', 'truncate', 'old', 'T', false)
    )
    SELECT t.event_table, t.label, t.ordinal, o.operation,
           CASE
           WHEN o.operation = 'truncate' THEN 'statement'
           WHEN t.level = 'row' OR t.condition_is_row_level THEN 'row'
           WHEN t.level = 'auto' AND o.operation = 'update' THEN 'row'
           WHEN pghistory._row_level_reason(t."table", o.operation) IS NOT NULL THEN 'row'
           ELSE 'statement'
           END,
           o.image, o.code, o.only_changes, CASE WHEN NOT t.condition_is_void THEN t.condition END,
           pghistory._tracked_fields(t."table", t.fields, t.exclude)
      FROM pghistory.tracker AS t JOIN operation_of_kind AS o USING (kind)
     WHERE t."table" = _operations."table"
     ORDER BY t.ordinal;
END
$function$;

-- Did the update change any of the fields? By image, fixed-size columns first: large values are read last.
CREATE OR REPLACE FUNCTION pghistory._change_text("table" regclass, fields name[], level text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN level = 'row' AND (fields = '{}' OR count(*) FILTER (WHERE name <> ALL (fields)) = 0)
           THEN 'old.* *<> new.*'
           ELSE format('ROW(%s)::record *<> ROW(%s)::record',
                       string_agg(pghistory._field('old', name), ', ' ORDER BY fixed_size DESC, number)
                           FILTER (WHERE fields = '{}' OR name = ANY (fields)),
                       string_agg(pghistory._field('new', name), ', ' ORDER BY fixed_size DESC, number)
                           FILTER (WHERE fields = '{}' OR name = ANY (fields)))
           END
      FROM pghistory._columns("table")
$function$;

-- A kept condition, its placeholders for changes of the tracked fields filled in.
CREATE OR REPLACE FUNCTION pghistory._condition_text(condition text, "table" regclass, fields name[])
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    compared CONSTANT name[] := CASE WHEN fields = '{}' THEN pghistory._tracked_fields("table", NULL, NULL)
                                     ELSE fields END;
    change text;
BEGIN
    FOREACH change IN ARRAY ARRAY['any_change', 'all_change', 'any_dont_change', 'all_dont_change'] LOOP
        condition := replace(condition, format('pghistory._tracked_%s(old.*, new.*)', change),
                             pghistory._change_of(change, compared));
    END LOOP;
    RETURN condition;
END
$function$;

-- One INSERT of an event: from a table expression, or of one row where there is none.
CREATE OR REPLACE FUNCTION pghistory._insert_text(
    event_table regclass, columns text[], expressions text[], source text, indent integer)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    margin CONSTANT text := repeat(' ', indent);
BEGIN
    RETURN concat(
        margin, 'INSERT INTO ', pghistory._table_name(event_table), E'\n',
        margin, '    (', pghistory._wrapped(columns, indent + 5), E')\n',
        CASE WHEN source IS NULL
             THEN concat(margin, E'VALUES\n', margin, '    (', pghistory._wrapped(expressions, indent + 5), ')')
             ELSE concat(margin, 'SELECT ', pghistory._wrapped(expressions, indent + 7), E'\n', source)
        END);
END
$function$;

-- The columns of an event and what goes into them. `label` is an SQL expression; `code` is the operation's letter.
CREATE OR REPLACE FUNCTION pghistory._event_text(
    event_table regclass, label text, operation text, image text, code text, fields name[], level text,
    OUT columns text[], OUT expressions text[])
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    -- A row that exists no longer cannot be referred to: with a foreign key the object's key is the new one.
    key_image text;
    other_image text;
    call CONSTANT text := CASE level WHEN 'statement' THEN '(SELECT pghistory.%s())' ELSE 'pghistory.%s()' END;
    object_columns name[];
    other_columns name[];
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _event_text.event_table;
    key_image := CASE WHEN operation = 'update' AND registered.obj_fk IS NOT NULL THEN 'new' ELSE image END;
    other_image := CASE key_image WHEN 'new' THEN 'old' ELSE 'new' END;
    object_columns := pghistory._object_columns(registered.obj_key);
    other_columns := pghistory._other_key_columns(registered.obj_key);

    columns := ARRAY['pgh_created_at', 'pgh_label', 'pgh_operation', 'pgh_xid'];
    expressions := ARRAY['now()', label, quote_literal(code), 'pg_current_xact_id()'];

    columns := columns || ARRAY(SELECT quote_ident(c) FROM unnest(object_columns) AS c);
    expressions := expressions || ARRAY(SELECT pghistory._field(key_image, k) FROM unnest(registered.obj_key) AS k);

    IF operation = 'update'
       AND (SELECT count(*) FROM pg_attribute
             WHERE attrelid = event_table AND attname = ANY (other_columns) AND NOT attisdropped)
           = cardinality(other_columns)
    THEN
        columns := columns || ARRAY(SELECT quote_ident(c) FROM unnest(other_columns) AS c);
        expressions := expressions || ARRAY(
            SELECT format('CASE WHEN %s THEN %s END',
                          format('ROW(%s)::record *<> ROW(%s)::record',
                                 (SELECT string_agg(pghistory._field('old', f), ', ')
                                    FROM unnest(registered.obj_key) AS f),
                                 (SELECT string_agg(pghistory._field('new', f), ', ')
                                    FROM unnest(registered.obj_key) AS f)),
                          pghistory._field(other_image, k))
              FROM unnest(registered.obj_key) AS k);
    END IF;

    CASE registered.context
    WHEN 'reference' THEN
        columns := columns || 'pgh_context_id'::text;
        expressions := expressions || format(call, '_context_id');
    WHEN 'inline' THEN
        columns := columns || ARRAY['pgh_context_id', 'pgh_context'];
        expressions := expressions || ARRAY[format(call, '_inline_context_id'), format(call, '_inline_context')];
    ELSE
        NULL;
    END CASE;

    columns := columns || ARRAY(
        SELECT quote_ident(c.column_name) FROM pghistory.event_column AS c
         WHERE c.event_table = _event_text.event_table AND c.table_column_name = ANY (fields)
         ORDER BY c.table_column_number);
    expressions := expressions || ARRAY(
        SELECT pghistory._field(image, c.table_column_name) FROM pghistory.event_column AS c
         WHERE c.event_table = _event_text.event_table AND c.table_column_name = ANY (fields)
         ORDER BY c.table_column_number);
END
$function$;

-- What generated functions begin with. The columns stand there so that the text changes when their types do: sessions
-- keep plans for the types that there were.
CREATE OR REPLACE FUNCTION pghistory._header_text("table" regclass, event_table regclass)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    columns CONSTANT text[] := ARRAY(
        SELECT translate(format('%I %s', c.name, pghistory._type_text(c.type_id, c.type_modifier, c.collation_id)),
                         E'\n\r', '  ')
          FROM pghistory._columns("table") AS c ORDER BY c.number);
BEGIN
    RETURN format(E'\n-- Written by pghistory: events of %s go to %s. Change it with pghistory.track().\n'
                  '-- Columns: %s\n',
                  translate(pghistory._table_name("table"), E'\n\r', '  '),
                  translate(pghistory._table_name(event_table), E'\n\r', '  '),
                  replace(pghistory._wrapped(columns, 3), E'\n', E'\n--'));
END
$function$;

-- What the function of one trigger does: what every tracker of this event table wants written for the operation; or
-- only that something happened, without the values.
CREATE OR REPLACE FUNCTION pghistory._trigger_statements(
    "table" regclass, event_table regclass, operation text, level text, with_values boolean)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    body text := '';
    this record;
    event record;
    change text;
    condition text;
    wanted text;
    is_partitioned CONSTANT boolean := (SELECT relkind = 'p' FROM pg_class WHERE oid = "table");
BEGIN
    FOR this IN SELECT * FROM pghistory._operations("table") AS o
                 WHERE (o.event_table, o.operation, o.level)
                       = (_trigger_statements.event_table, _trigger_statements.operation, _trigger_statements.level)
    LOOP
        event := pghistory._event_text(event_table, quote_literal(this.label), operation, this.image, this.code,
                                       CASE WHEN with_values THEN this.fields ELSE '{}' END, level);
        change := CASE WHEN this.only_changes THEN pghistory._change_text("table", this.fields, level) END;
        condition := '(' || pghistory._condition_text(this.condition, "table", this.fields) || ')';
        wanted := concat_ws(' AND ', change, condition);

        IF level = 'row' AND wanted = '' THEN
            body := concat(body, pghistory._insert_text(
                               event_table, event.columns, event.expressions, NULL, 4), E';\n');
        ELSIF level = 'row' THEN
            body := concat(body, '    IF ', wanted, E' THEN\n',
                           pghistory._insert_text(event_table, event.columns, event.expressions, NULL, 8),
                           E';\n    END IF;\n');
        ELSIF operation = 'truncate' AND is_partitioned THEN
            -- The trigger is on each partition: which one is being truncated is known when it fires.
            body := concat(body, '    EXECUTE concat(',
                           quote_literal(E'\n' || pghistory._insert_text(
                               event_table, event.columns, event.expressions, '      FROM ONLY ', 4)),
                           E',\n        format(''%I.%I'', TG_TABLE_SCHEMA, TG_TABLE_NAME), ',
                           quote_literal(concat(' AS old', E'\n     WHERE ' || NULLIF(wanted, ''))), E');\n');
        ELSIF operation = 'truncate' THEN
            body := concat(body, pghistory._insert_text(
                               event_table, event.columns, event.expressions,
                               concat('      FROM ONLY ', pghistory._table_name("table"), ' AS old',
                                      E'\n     WHERE ' || NULLIF(wanted, '')), 4), E';\n');
        ELSIF operation <> 'update' THEN
            body := concat(body, pghistory._insert_text(
                               event_table, event.columns, event.expressions,
                               concat('      FROM ', this.image, '_rows AS ', this.image,
                                      E'\n     WHERE ' || NULLIF(wanted, '')), 4), E';\n');
        ELSE
            -- The two transition tables are paired by their order. A full join cannot be planned as a nested loop,
            -- whatever the first statement of the session made the planner think of their size, as long as no
            -- filter turns it into another join; one row needs no join at all.
            body := concat(body,
                E'    IF EXISTS (SELECT FROM new_rows OFFSET 1) THEN\n',
                pghistory._insert_text(
                    event_table, event.columns, event.expressions,
                    concat(E'          FROM (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS old\n',
                           '               FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM new_rows)',
                           E' AS new USING (pgh_row)\n',
                           '         WHERE COALESCE(',
                           concat_ws(' AND ', 'new.pgh_row IS NOT NULL', NULLIF(wanted, '')), ', false)'),
                    8),
                E';\n    ELSE\n',
                pghistory._insert_text(
                    event_table, event.columns, event.expressions,
                    concat('          FROM old_rows AS old, new_rows AS new',
                           E'\n         WHERE ' || NULLIF(wanted, '')),
                    8),
                E';\n    END IF;\n');
        END IF;
    END LOOP;
    RETURN body;
END
$function$;

-- The body of the function of one trigger. An event is a little wider than its row: where that may not fit a page,
-- it is written without its values rather than failing the write.
CREATE OR REPLACE FUNCTION pghistory._trigger_body(
    "table" regclass, event_table regclass, operation text, level text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    statements text := pghistory._trigger_statements("table", event_table, operation, level, true);
BEGIN
    IF pghistory._may_not_fit("table") THEN
        statements := concat(
            E'    BEGIN\n', statements,
            E'    EXCEPTION WHEN program_limit_exceeded THEN\n',
            E'        RAISE WARNING ''an event was too wide, and was written without its values''\n',
            E'            USING ERRCODE = ''program_limit_exceeded'',\n',
            E'                  DETAIL = SQLERRM,\n',
            E'                  HINT = ''Leave out columns with fields or exclude.'';\n',
            pghistory._trigger_statements("table", event_table, operation, level, false),
            E'    END;\n');
    END IF;
    IF operation = 'truncate' THEN
        statements := concat(
            E'    BEGIN\n', statements,
            E'    EXCEPTION WHEN insufficient_privilege THEN\n',
            E'        RAISE WARNING ''the rows that go are not recorded: %'', SQLERRM\n',
            E'            USING ERRCODE = ''insufficient_privilege'',\n',
            E'                  HINT = ''See pghistory.verify().'';\n',
            E'    END;\n');
    END IF;
    IF operation = 'truncate'
       AND (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = "table")
    THEN
        statements := concat(
            E'    IF row_security_active(TG_RELID) THEN\n',
            E'        RAISE WARNING ''rows that policies hide from the owner of the event table are not recorded''\n',
            E'            USING ERRCODE = ''insufficient_privilege'',\n',
            E'                  HINT = ''See pghistory.verify().'';\n',
            E'    END IF;\n',
            statements);
    END IF;
    RETURN concat(pghistory._header_text("table", event_table),
                  CASE WHEN level = 'statement' THEN E'#variable_conflict use_column\n' END,
                  E'BEGIN\n', statements, E'    RETURN NULL;\nEND\n');
END
$function$;

-- The body of the function that create_event() calls, with the row as text: were it of any type that the writer
-- likes, its casts would be his, and run as the owner; were it of the table's own, the table could not be dropped.
CREATE OR REPLACE FUNCTION pghistory._by_hand_body("table" regclass, event_table regclass)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    body text := '';
    this record;
    event record;
BEGIN
    FOR this IN SELECT array_agg(t.label ORDER BY t.ordinal) AS labels,
                       pghistory._tracked_fields(t."table", t.fields, t.exclude) AS fields
                  FROM pghistory.tracker AS t
                 WHERE t."table" = _by_hand_body."table" AND t.event_table = _by_hand_body.event_table
                 GROUP BY 2
                 ORDER BY min(t.ordinal)
    LOOP
        event := pghistory._event_text(event_table, 'label', 'by hand', 'new', 'S', this.fields, 'row');
        body := concat(body, '    WHEN ',
                       (SELECT string_agg(quote_literal(l), ', ' ORDER BY position)
                          FROM unnest(this.labels) WITH ORDINALITY AS labels(l, position)),
                       E' THEN\n',
                       pghistory._insert_text(event_table, event.columns, event.expressions, NULL, 8),
                       E'\n        RETURNING pgh_id INTO event_id;\n');
    END LOOP;
    RETURN concat(pghistory._header_text("table", event_table),
                  format(E'DECLARE\n    new %1$s := "row"::%1$s;\n    event_id bigint;\nBEGIN\n',
                         pghistory._table_name("table")),
                  format(E'    PERFORM pghistory._use_permit(%L, label);\n', pghistory._table_name(event_table)),
                  E'    CASE label\n', body, E'    END CASE;\n    RETURN event_id;\nEND\n');
END
$function$;
