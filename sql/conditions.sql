-- Conditions: parsed by PostgreSQL when track() is called, and kept as the text that PostgreSQL makes of them, in
-- which every name is qualified.

-- The four changes. Over named fields they are plain comparisons by image; over the tracked fields, whichever these
-- are when an event is written, they are placeholders that the trigger function fills in.
CREATE OR REPLACE FUNCTION pghistory._row_of(image text, fields text[])
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('ROW(%s)', string_agg(pghistory._field(image, field), ', ' ORDER BY position))
      FROM unnest(fields) WITH ORDINALITY AS f(field, position)
$function$;

CREATE OR REPLACE FUNCTION pghistory._change_of(change text, fields text[])
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN fields = '{}' THEN NULL
           WHEN change IN ('any_change', 'all_dont_change') THEN
               format('pg_catalog.record_image_%s(%s, %s)', CASE change WHEN 'any_change' THEN 'ne' ELSE 'eq' END,
                      pghistory._row_of('old', fields), pghistory._row_of('new', fields))
           ELSE
               (SELECT format('(%s)',
                           string_agg(format('pg_catalog.record_image_%s(%s, %s)',
                                             CASE change WHEN 'all_change' THEN 'ne' ELSE 'eq' END,
                                             pghistory._row_of('old', ARRAY[field]),
                                             pghistory._row_of('new', ARRAY[field])),
                                      CASE change WHEN 'all_change' THEN ' AND ' ELSE ' OR ' END ORDER BY position))
                  FROM unnest(fields) WITH ORDINALITY AS f(field, position))
           END
$function$;

CREATE OR REPLACE FUNCTION pghistory._tracked_any_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *<> new; END $function$;

CREATE OR REPLACE FUNCTION pghistory._tracked_all_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *<> new; END $function$;

CREATE OR REPLACE FUNCTION pghistory._tracked_any_dont_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *= new; END $function$;

CREATE OR REPLACE FUNCTION pghistory._tracked_all_dont_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *= new; END $function$;

CREATE OR REPLACE FUNCTION pghistory.any_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('any_change', fields), 'pghistory._tracked_any_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.any_change(text[]) IS
    'The text of a condition for track(): true when the update changed any of the fields; '
    'without arguments, any of the tracked fields.';

CREATE OR REPLACE FUNCTION pghistory.all_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('all_change', fields), 'pghistory._tracked_all_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.all_change(text[]) IS
    'The text of a condition for track(): true when the update changed every one of the fields; '
    'without arguments, every tracked field.';

CREATE OR REPLACE FUNCTION pghistory.any_dont_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('any_dont_change', fields), 'pghistory._tracked_any_dont_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.any_dont_change(text[]) IS
    'The text of a condition for track(): true when the update left any of the fields as it was; '
    'without arguments, any of the tracked fields.';

CREATE OR REPLACE FUNCTION pghistory.all_dont_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('all_dont_change', fields), 'pghistory._tracked_all_dont_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.all_dont_change(text[]) IS
    'The text of a condition for track(): true when the update left every one of the fields as it was; '
    'without arguments, every tracked field.';

-- The trigger function of the scratch trigger that conditions are parsed in.
CREATE OR REPLACE FUNCTION pghistory._parse_only()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN NULL;
END
$function$;

-- Which rows there are for the operations of a kind: a condition may name only those that all of them have.
CREATE OR REPLACE FUNCTION pghistory._condition_events(kind text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE kind
           WHEN 'snapshot' THEN 'INSERT OR UPDATE'
           WHEN 'after_insert_or_update' THEN 'INSERT OR UPDATE'
           WHEN 'after_insert' THEN 'INSERT'
           WHEN 'before_update' THEN 'UPDATE'
           WHEN 'after_update' THEN 'UPDATE'
           WHEN 'before_delete' THEN 'DELETE'
           WHEN 'before_truncate' THEN 'DELETE'
           WHEN 'history' THEN 'INSERT OR DELETE OR UPDATE'
           END
$function$;

-- A parse tree without what says only where and how it was written.
CREATE OR REPLACE FUNCTION pghistory._meaning(tree pg_node_tree)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT regexp_replace(tree::text, ':(location|list_start|list_end|[a-z_]*format) -?[0-9]+', '', 'g')
$function$;

-- An object that a condition may name, as PostgreSQL writes it there; null once it is gone.
CREATE OR REPLACE FUNCTION pghistory._object_text(class text, id oid)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('%I.%s', n.nspname, o.name)
      FROM (SELECT p.pronamespace AS namespace, quote_ident(p.proname) AS name FROM pg_proc AS p
             WHERE class = 'pg_proc' AND p.oid = id
            UNION ALL
            SELECT e.typnamespace, quote_ident(e.typname)
              FROM pg_type AS t
                   JOIN pg_type AS e
                     ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
             WHERE class = 'pg_type' AND t.oid = id
            UNION ALL
            SELECT p.oprnamespace, p.oprname FROM pg_operator AS p WHERE class = 'pg_operator' AND p.oid = id
            UNION ALL
            SELECT c.collnamespace, quote_ident(c.collname) FROM pg_collation AS c
             WHERE class = 'pg_collation' AND c.oid = id
           ) AS o
           JOIN pg_namespace AS n ON n.oid = o.namespace
$function$;

-- The functions, types, operators and collations that the condition of a trigger names,
-- beyond PostgreSQL's own and ours.
CREATE OR REPLACE FUNCTION pghistory._objects_named(trigger_id oid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(jsonb_agg(jsonb_build_object('class', class, 'id', id, 'schema', namespace,
                                                 'name', pghistory._object_text(class, id))), '[]')
      FROM (SELECT d.class, d.id,
                   COALESCE((SELECT pronamespace FROM pg_proc WHERE oid = d.id AND d.class = 'pg_proc'),
                            (SELECT typnamespace FROM pg_type WHERE oid = d.id AND d.class = 'pg_type'),
                            (SELECT oprnamespace FROM pg_operator WHERE oid = d.id AND d.class = 'pg_operator'),
                            (SELECT collnamespace FROM pg_collation WHERE oid = d.id AND d.class = 'pg_collation')
                   ) AS namespace
              FROM (SELECT refclassid::regclass::text AS class, refobjid AS id
                      FROM pg_depend
                     WHERE classid = 'pg_trigger'::regclass AND objid = trigger_id
                    UNION
                    -- an attribute of a composite type is recorded as a column of its relation
                    SELECT 'pg_type', c.reltype
                      FROM pg_depend AS r JOIN pg_trigger AS t ON t.oid = r.objid
                           JOIN pg_class AS c ON c.oid = r.refobjid AND c.oid <> t.tgrelid
                     WHERE r.classid = 'pg_trigger'::regclass AND r.objid = trigger_id
                       AND r.refclassid = 'pg_class'::regclass) AS d) AS o
     WHERE namespace <> 'pghistory'::regnamespace
$function$;

-- Does a condition ask what is another inside of a SECURITY DEFINER function: the current user, role or schema?
CREATE OR REPLACE FUNCTION pghistory._depends_on_role(tree pg_node_tree)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT tree::text ~ 'SQLVALUEFUNCTION :op (9|10|11|14) '
        OR EXISTS (SELECT FROM regexp_matches(tree::text, ':funcid ([0-9]+) ', 'g') AS called(id)
                               JOIN pg_proc AS p ON p.oid = called.id[1]::oid
                    WHERE p.pronamespace = 'pg_catalog'::regnamespace
                      AND p.proname IN ('current_user', 'current_schema', 'current_schemas', 'getpgusername'))
$function$;

-- A literal with a backslash is read differently where standard_conforming_strings is off, unless it is an E''
-- literal; a column named by a word of PL/pgSQL is read as that word, unless it is quoted.
CREATE OR REPLACE FUNCTION pghistory._portable_condition(condition text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(CASE WHEN starts_with(token[1], '''') AND strpos(token[1], E'\\') > 0
                           THEN 'E' || replace(token[1], E'\\', E'\\\\')
                           WHEN token[1] ~ '^(old|new)[.][a-z_]'
                           THEN pghistory._field(left(token[1], 3), substr(token[1], 5))
                           ELSE token[1] END, '' ORDER BY position)
      FROM regexp_matches(
               condition,
               $re$(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|$re$
               || $re$(?:old|new)\.(?:[[:alnum:]_$]+|"(?:[^"]|"")*")|[[:alnum:]_$]+|.)$re$,
               'g')
               WITH ORDINALITY AS t(token, position)
$function$;

-- The condition of a trigger as PostgreSQL writes it, under settings that leave nothing to those of the reader.
CREATE OR REPLACE FUNCTION pghistory._deparsed_condition(
    trigger_id oid, before_condition text, after_condition text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET quote_all_identifiers TO 'off'
 SET standard_conforming_strings TO 'on'
AS $function$
DECLARE
    definition CONSTANT text := pg_get_triggerdef(trigger_id);
BEGIN
    RETURN pghistory._portable_condition(
        substr(definition, length(before_condition) + 1,
               length(definition) - length(before_condition) - length(after_condition)));
END
$function$;

-- The condition as PostgreSQL writes it, its parse tree, and what it names. The trigger it is parsed in
-- is gone at once.
CREATE OR REPLACE FUNCTION pghistory._parse_condition(
    "table" regclass, events text, condition text, path text,
    OUT deparsed text, OUT tree pg_node_tree, OUT objects jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name("table");
    before_condition CONSTANT text :=
        format('CREATE TRIGGER "!pghistory condition" AFTER %s ON %s FOR EACH ROW WHEN (', events, relation);
    after_condition CONSTANT text := ') EXECUTE FUNCTION pghistory._parse_only()';
    own_path CONSTANT text := current_setting('search_path');
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE pg_catalog.concat(before_condition, condition, E'\n', after_condition);
    PERFORM pg_catalog.set_config('search_path', own_path, true);
    SELECT pghistory._deparsed_condition(t.oid, before_condition, after_condition), t.tgqual,
           pghistory._objects_named(t.oid)
      INTO deparsed, tree, objects
      FROM pg_trigger AS t
     WHERE t.tgrelid = "table" AND t.tgname = '!pghistory condition';
    EXECUTE format('DROP TRIGGER "!pghistory condition" ON %s', relation);
END
$function$;

-- Is the text one expression? In parentheses, as it will be used, several statements or a second clause would not
-- do; bare, text that closes the parentheses and opens them again would not. Nothing is run: a cursor is opened
-- and closed.
CREATE OR REPLACE FUNCTION pghistory._check_single_expression("table" regclass, condition text, path text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    rows CONSTANT text := format('FROM ONLY %1$s AS old, ONLY %1$s AS new', pghistory._table_name("table"));
    expression refcursor;
BEGIN
    PERFORM set_config('search_path', path, true);
    OPEN expression FOR EXECUTE pg_catalog.concat('SELECT (', condition, E'\n) ', rows);
    CLOSE expression;
    OPEN expression FOR EXECUTE pg_catalog.concat('SELECT ', condition, E'\n ', rows);
    CLOSE expression;
END
$function$;

-- The condition as it is kept, the columns it names, and whether only a row-level trigger can have what it names.
-- `path` is the search_path of the session that gave it.
CREATE OR REPLACE FUNCTION pghistory._normalised_condition(
    "table" regclass, kind text, condition text, path text,
    OUT text text, OUT columns jsonb, OUT objects jsonb, OUT is_row_level boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    events CONSTANT text := pghistory._condition_events(kind);
    first record;
    second record;
    code text;
    reason text;
BEGIN
    is_row_level := false;
    columns := '[]';
    objects := '[]';
    IF condition IS NULL THEN
        RETURN;
    ELSIF events IS NULL THEN
        RAISE EXCEPTION 'kind "%" takes no condition', kind
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Its events are written only by create_event(): decide there.';
    END IF;
    BEGIN
        PERFORM pghistory._check_single_expression("table", condition, path);
        first := pghistory._parse_condition("table", events, condition, path);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, reason = MESSAGE_TEXT;
        RAISE EXCEPTION 'condition of kind "%" is not accepted: %', kind, reason
            USING ERRCODE = code,
                  DETAIL = format('The condition is: %s', condition),
                  HINT = 'A condition is one boolean SQL expression over the columns of OLD (update, delete, '
                         'truncate) and NEW (insert, update), without subqueries.';
    END;
    BEGIN
        second := pghistory._parse_condition("table", events, first.deparsed, 'pg_catalog, pg_temp');
        IF pghistory._depends_on_role(first.tree) THEN
            reason := 'it asks for the current user or schema, '
                      'and events are written as the owner of the event table';
        ELSIF first.tree::text ~ ':consttype (24|2202|2203|2204|2205|2206|3734|3769|4089|4096|4191) ' THEN
            reason := 'it has a constant that stands for an object, such as a regclass';
        ELSIF second.deparsed <> first.deparsed
              OR pghistory._meaning(second.tree) <> pghistory._meaning(first.tree)
        THEN
            reason := 'PostgreSQL would read it differently';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
    END;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION 'condition cannot be kept without changing its meaning: %', reason
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('It would be kept as: %s', first.deparsed),
                  HINT = 'Write it with function calls and plain comparisons, such as pghistory.any_change().';
    END IF;
    text := first.deparsed;
    objects := first.objects;
    SELECT COALESCE(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type', a.atttypid)
                              ORDER BY a.attnum), '[]')
      INTO columns
      FROM pg_attribute AS a
     WHERE a.attrelid = "table" AND a.attnum > 0
       AND a.attnum IN (SELECT m[1]::smallint
                          FROM regexp_matches(first.tree::text, ':varattno ([0-9]+) ', 'g') AS m);
    -- Transition tables have neither whole rows of the table's type nor system columns. The placeholders for
    -- changes name whole rows, but are not evaluated as they stand.
    is_row_level := pghistory._meaning(first.tree) ~ ':varattno -'
        OR (SELECT count(*) FROM regexp_matches(pghistory._meaning(first.tree), ':varattno 0 ', 'g'))
           > 2 * (SELECT count(*)
                    FROM regexp_matches(text, 'pghistory[.]_tracked_[a-z_]+[(]old[.][*], new[.][*][)]', 'g'));
END
$function$;

-- The condition after something it names was renamed: {"old.email": "old.mail", "public.mood": "app.mood"}.
-- PostgreSQL writes every name with two parts; what stands in a literal is left alone.
CREATE OR REPLACE FUNCTION pghistory._renamed_condition(condition text, renames jsonb)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(COALESCE(renames ->> token[1], token[1]), '' ORDER BY position)
      FROM regexp_matches(
               condition,
               $re$(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|(?:"(?:[^"]|"")*"|[[:alnum:]_$]+)$re$
               || $re$(?:\.(?:"(?:[^"]|"")*"|[[:alnum:]_$]+|[-+*/<>=~!@#%^&|`?]+))?|.)$re$,
               'g') WITH ORDINALITY AS t(token, position)
$function$;

-- What a condition names, brought up to date.
CREATE OR REPLACE FUNCTION pghistory._renamed_columns("table" regclass, columns jsonb, same_origin boolean)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type', a.atttypid)
                              ORDER BY a.attnum), '[]')
      FROM jsonb_to_recordset(columns) AS k(number smallint, name name)
           JOIN pg_attribute AS a ON a.attrelid = "table" AND a.attnum > 0 AND NOT a.attisdropped
                                 AND CASE WHEN same_origin THEN a.attnum = k.number ELSE a.attname = k.name END
$function$;

CREATE OR REPLACE FUNCTION pghistory._renamed_objects(objects jsonb, same_origin boolean)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(jsonb_agg(jsonb_build_object('class', k.class, 'id', o.id, 'schema', o.schema,
                                                 'name', pghistory._object_text(k.class, o.id))), '[]')
      FROM jsonb_to_recordset(objects) AS k(class text, id oid, schema oid, name text)
           CROSS JOIN LATERAL (
               SELECT k.id, k.schema WHERE same_origin
                UNION ALL
               SELECT p.oid, p.pronamespace FROM pg_proc AS p
                WHERE NOT same_origin AND k.class = 'pg_proc' AND p.oid = to_regproc(k.name)
                UNION ALL
               SELECT t.oid, t.typnamespace FROM pg_type AS t
                WHERE NOT same_origin AND k.class = 'pg_type' AND t.oid = to_regtype(k.name)
           ) AS o
$function$;

-- Does a kept condition still mean something, after what it names has changed? It comes from the registry: what
-- closes the parentheses it stands in, or ends the statement, is not given to the parser.
CREATE OR REPLACE FUNCTION pghistory._still_parses("table" regclass, kind text, condition text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    token text;
    depth integer := 0;
BEGIN
    FOR token IN
        SELECT m[1] FROM regexp_matches(
            condition, $re$(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--|/[*]|.)$re$, 'g') AS m
    LOOP
        depth := depth + CASE token WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        IF depth < 0 OR token IN (';', '--', '/*', '$') THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN condition IS NULL
        OR depth = 0 AND (pghistory._parse_condition("table", pghistory._condition_events(kind), condition,
                                                     'pg_catalog, pg_temp')).deparsed = condition;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$function$;
