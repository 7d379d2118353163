-- Triggers and functions: what should be there, what is there, and making the one the other.

CREATE OR REPLACE FUNCTION pghistory._is_generated(function oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_proc WHERE oid = function AND starts_with(prosrc, E'\n-- Written by pghistory: '))
$function$;

-- A name for a generated function that is free, or taken by that function already: one of the event table's owner,
-- or, where that changed hands, one that a trigger of the table calls. In a schema where others may create functions
-- too, somebody's may stand in the way.
CREATE OR REPLACE FUNCTION pghistory._own_function_name(
    "table" regclass, function_schema name, wanted name, arguments oidvector, function_owner regrole)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    candidate name := wanted;
    number integer := 1;
BEGIN
    WHILE EXISTS (SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
                   WHERE n.nspname = function_schema AND p.proname = candidate AND p.proargtypes = arguments
                     AND NOT (pghistory._is_generated(p.oid)
                              AND (p.proowner = function_owner
                                   OR pg_has_role(p.proowner, 'USAGE')
                                      AND (EXISTS (SELECT FROM pg_trigger AS t
                                                    WHERE t.tgfoid = p.oid AND t.tgrelid = "table")
                                           OR EXISTS (SELECT FROM pghistory.event_table AS e
                                                       WHERE e."table" = _own_function_name."table"
                                                         AND to_regprocedure(e.by_hand || '(text, text)') = p.oid)))))
    LOOP
        number := number + 1;
        candidate := pghistory._fitting_name(wanted, format('_%s', number));
    END LOOP;
    RETURN format('%I.%I', function_schema, candidate);
END
$function$;

-- Where the trigger for an operation goes. Row-level triggers of a partitioned table are cloned to its partitions
-- by PostgreSQL; TRUNCATE fires the triggers of each partition it empties, and those only.
CREATE OR REPLACE FUNCTION pghistory._trigger_relations("table" regclass, operation text, OUT relation regclass)
 RETURNS SETOF regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.relation
      FROM pghistory._partition_tree("table") AS t JOIN pg_class AS c ON c.oid = t.relation
     WHERE CASE WHEN operation <> 'truncate' THEN t.relation = "table"
                -- foreign tables have no TRUNCATE triggers before PostgreSQL 16
                ELSE t.is_leaf AND (c.relkind <> 'f' OR current_setting('server_version_num')::integer >= 160000)
           END;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._trigger_definition(
    trigger_name name, relation regclass, operation text, level text, with_rows boolean, function text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('CREATE TRIGGER %I %s %s ON %s%s FOR EACH %s EXECUTE FUNCTION %s()',
                  trigger_name,
                  CASE WHEN operation = 'truncate' THEN 'BEFORE' ELSE 'AFTER' END,
                  upper(operation),
                  pghistory._table_name(relation),
                  CASE WHEN with_rows AND level = 'statement' AND operation <> 'truncate'
                       THEN ' REFERENCING'
                            || CASE WHEN operation IN ('update', 'delete') THEN ' OLD TABLE AS old_rows' ELSE '' END
                            || CASE WHEN operation IN ('update', 'insert') THEN ' NEW TABLE AS new_rows' ELSE '' END
                       ELSE '' END,
                  upper(level),
                  function)
$function$;

-- Notes who writes, for capture('current_user'): a SECURITY DEFINER function cannot see that, so that this one,
-- which runs as the writer, fires right before.
CREATE OR REPLACE FUNCTION pghistory._note_writer()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM set_config('pghistory.writer', current_user, true);
    RETURN NULL;
END
$function$;

-- The triggers that the trackers of a table need, on it and on its partitions, and the functions these call.
CREATE OR REPLACE FUNCTION pghistory._desired_triggers(
    "table" regclass,
    OUT relation regclass,
    OUT trigger_name name,
    OUT event_table regclass,
    OUT operation text,
    OUT function text,
    OUT body text,
    OUT definition text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    notes_writer CONSTANT boolean := EXISTS (SELECT FROM pghistory.capture_key WHERE key = 'current_user');
    this record;
    own_function text;
    own_body text;
BEGIN
    FOR this IN
        SELECT o.event_table, o.operation, o.level, n.nspname, c.relowner::regrole AS owner,
               e.context <> 'none' AS has_context
          FROM (SELECT DISTINCT o.event_table, o.operation, o.level FROM pghistory._operations("table") AS o) AS o
               JOIN pghistory.event_table AS e ON e.event_table = o.event_table
               JOIN pg_class AS c ON c.oid = o.event_table
               JOIN pg_namespace AS n ON n.oid = c.relnamespace
         ORDER BY o.event_table::text, o.operation, o.level
    LOOP
        event_table := this.event_table;
        operation := this.operation;
        own_function := pghistory._own_function_name(
            "table", this.nspname, pghistory._trigger_function_name(event_table, this.operation, this.level), '',
            this.owner);
        own_body := pghistory._trigger_body("table", event_table, this.operation, this.level);
        FOR relation IN
            SELECT t.relation FROM pghistory._trigger_relations("table", this.operation) AS t
        LOOP
            trigger_name := pghistory._trigger_name("table", event_table, this.operation, this.level);
            function := own_function;
            body := own_body;
            definition := pghistory._trigger_definition(
                trigger_name, relation, this.operation, this.level, true, function);
            RETURN NEXT;
            IF notes_writer AND this.has_context THEN
                trigger_name := pghistory._trigger_name("table", event_table, this.operation, this.level, true);
                function := 'pghistory._note_writer';
                body := NULL;
                definition := pghistory._trigger_definition(
                    trigger_name, relation, this.operation, this.level, false, function);
                RETURN NEXT;
            END IF;
        END LOOP;
    END LOOP;
END
$function$;

-- The triggers of ours that are on a table and its partitions. Those that PostgreSQL cloned are its business.
CREATE OR REPLACE FUNCTION pghistory._actual_triggers(
    "table" regclass,
    OUT relation regclass, OUT trigger_name name, OUT function oid, OUT enabled "char", OUT definition text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.tgrelid::regclass, t.tgname, t.tgfoid, t.tgenabled, pg_get_triggerdef(t.oid)
      FROM pghistory._partition_tree("table") AS p JOIN pg_trigger AS t ON t.tgrelid = p.relation
     WHERE NOT t.tgisinternal AND t.tgparentid = 0
       AND (pghistory._is_generated(t.tgfoid) OR t.tgfoid = 'pghistory._note_writer()'::regprocedure);
END
$function$;

-- May anybody but its owner call a function, or attach it to a table of his own?
CREATE OR REPLACE FUNCTION pghistory._is_open_to_all(function oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_proc AS p
                               CROSS JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) AS a
                    WHERE p.oid = function AND a.grantee = 0)
$function$;

-- The settings of a generated function. TRUNCATE reads the table, and is not to fail where the writer switched
-- row_security off.
CREATE OR REPLACE FUNCTION pghistory._function_settings(operation text)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT ARRAY['search_path=pg_catalog, pg_temp']
           || CASE WHEN operation = 'truncate' THEN ARRAY['row_security=on'] ELSE '{}' END
$function$;

-- Lets DROP EXTENSION take a generated function along. This locks the extension until the transaction ends; while
-- another one holds it, the function goes without: DROP EXTENSION takes its trigger in any case.
CREATE OR REPLACE FUNCTION pghistory._depend_on_extension(signature text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '1ms'
AS $function$
BEGIN
    IF pghistory._extension_is_installed() THEN
        EXECUTE format('ALTER FUNCTION %s DEPENDS ON EXTENSION pghistory', signature);
    END IF;
EXCEPTION WHEN lock_not_available THEN
    NULL;
END
$function$;

-- Creates or replaces a generated function, for its owner: whoever could attach a trigger function to a table of his
-- own could write events with it.
CREATE OR REPLACE FUNCTION pghistory._ensure_function(
    function text, arguments text, result text, settings text[], body text, function_owner regrole)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    signature CONSTANT text := format('%s(%s)', function, arguments);
    this pg_proc;
BEGIN
    SELECT * INTO this FROM pg_proc WHERE oid = to_regprocedure(
        format('%s(%s)', function, CASE WHEN arguments <> '' THEN 'text, text' ELSE '' END));
    IF this.prosrc = body AND this.prosecdef AND this.proowner = function_owner
       AND this.proconfig = settings
       AND (result <> 'trigger' OR NOT pghistory._is_open_to_all(this.oid))
       AND this.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
    THEN
        RETURN;
    END IF;
    EXECUTE format(
        E'CREATE OR REPLACE FUNCTION %s\n RETURNS %s\n LANGUAGE plpgsql\n SECURITY DEFINER\n'
        ' SET search_path TO ''pg_catalog'', ''pg_temp''%s\nAS %L',
        signature, result,
        CASE WHEN 'row_security=on' = ANY (settings) THEN E'\n SET row_security TO ''on''' ELSE '' END, body);
    IF result = 'trigger' THEN
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
    END IF;
    PERFORM pghistory._depend_on_extension(signature);
    IF function_owner <> COALESCE(this.proowner, current_user::regrole::oid) THEN
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', signature, function_owner);
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._drop_function(function oid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF pghistory._is_generated(function)
       AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = function)
    THEN
        EXECUTE format('DROP FUNCTION %s', function::regprocedure);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- the event table went to another owner, and its old functions did not
END
$function$;

-- Drops what is left of the functions of an event table that nothing writes to any more.
CREATE OR REPLACE FUNCTION pghistory._drop_generated_functions(event_table regclass)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._drop_function(p.oid)
      FROM pg_class AS e
           CROSS JOIN unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS operation
           CROSS JOIN unnest(ARRAY['row', 'statement']) AS level
           JOIN pg_proc AS p ON p.pronamespace = e.relnamespace AND p.pronargs = 0
                            AND p.proname = pghistory._trigger_function_name(e.oid, operation, level)
     WHERE e.oid = event_table
$function$;

-- Makes the triggers and functions of a table, and of what it is partitioned with, what its trackers need.
CREATE OR REPLACE FUNCTION pghistory._apply_triggers("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    family CONSTANT regclass[] := ARRAY(
        SELECT t.relation FROM pghistory._partition_tree(pghistory._partition_root("table")) AS t
         WHERE EXISTS (SELECT FROM pghistory.tracker AS r WHERE r."table" = t.relation));
    wanted CONSTANT jsonb := COALESCE(
        (SELECT jsonb_agg(to_jsonb(d)) FROM unnest(family) AS f, pghistory._desired_triggers(f) AS d), '[]');
    desired record;
    actual record;
    stale oid[] := '{}';
    function oid;
BEGIN
    FOR actual IN
        SELECT a.* FROM pghistory._actual_triggers(pghistory._partition_root("table")) AS a
         WHERE NOT EXISTS (
               SELECT FROM jsonb_to_recordset(wanted) AS d(relation regclass, trigger_name name, definition text)
                WHERE d.relation = a.relation AND d.trigger_name = a.trigger_name
                  AND d.definition = a.definition)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', actual.trigger_name, pghistory._table_name(actual.relation));
        stale := stale || actual.function;
    END LOOP;
    -- A partition that was detached has kept the triggers that are not cloned.
    FOR actual IN
        SELECT t.tgrelid::regclass AS relation, t.tgname AS trigger_name, t.tgfoid AS function
          FROM pghistory.event_table AS e
               JOIN pg_class AS c ON c.oid = e.event_table
               JOIN pg_proc AS p ON p.pronamespace = c.relnamespace AND pghistory._is_generated(p.oid)
                                AND p.proname = pghistory._trigger_function_name(
                                        e.event_table, 'truncate', 'statement')
               JOIN pg_trigger AS t ON t.tgfoid = p.oid
         WHERE e."table" = ANY (family)
           AND t.tgrelid NOT IN (
               SELECT r.relation
                 FROM pghistory._partition_tree(pghistory._partition_root(_apply_triggers."table")) AS r)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', actual.trigger_name, pghistory._table_name(actual.relation));
        stale := stale || actual.function;
    END LOOP;
    FOR desired IN
        SELECT * FROM jsonb_to_recordset(wanted)
            AS d(relation regclass, trigger_name name, event_table regclass, operation text, function text, body text,
                 definition text)
    LOOP
        IF desired.body IS NOT NULL THEN
            PERFORM pghistory._ensure_function(
                desired.function, '', 'trigger', pghistory._function_settings(desired.operation), desired.body,
                pghistory._owner(desired.event_table));
        END IF;
        IF NOT EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = desired.relation AND tgname = desired.trigger_name)
        THEN
            EXECUTE desired.definition;
            IF pghistory._extension_is_installed() THEN
                EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION pghistory',
                               desired.trigger_name, pghistory._table_name(desired.relation));
            END IF;
        END IF;
    END LOOP;
    FOREACH function IN ARRAY stale LOOP
        PERFORM pghistory._drop_function(function);
    END LOOP;
END
$function$;

-- Triggers of ours that do not fire, those among them that PostgreSQL cloned to partitions.
CREATE OR REPLACE FUNCTION pghistory._disabled_triggers(
    "table" regclass, OUT relation regclass, OUT trigger_name name)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN QUERY
    SELECT t.tgrelid::regclass, t.tgname
      FROM pghistory._partition_tree("table") AS p JOIN pg_trigger AS t ON t.tgrelid = p.relation
     -- before PostgreSQL 15 clones count as internal
     WHERE (NOT t.tgisinternal OR t.tgparentid <> 0) AND t.tgenabled IN ('D', 'R')
       AND (pghistory._is_generated(t.tgfoid) OR t.tgfoid = 'pghistory._note_writer()'::regprocedure);
END
$function$;

-- Switches the triggers of a table on again, where somebody switched them off.
CREATE OR REPLACE FUNCTION pghistory._enable_triggers("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    disabled record;
BEGIN
    FOR disabled IN SELECT * FROM pghistory._disabled_triggers("table") LOOP
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I',
                       pghistory._table_name(disabled.relation), disabled.trigger_name);
    END LOOP;
END
$function$;

-- The function through which create_event() writes to an event table.
CREATE OR REPLACE FUNCTION pghistory._apply_by_hand("table" regclass, event_table regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    wanted text;
BEGIN
    SELECT e.by_hand, tn.nspname AS table_schema, en.nspname AS event_schema, ec.relname,
           ec.relowner::regrole AS owner
      INTO registered
      FROM pghistory.event_table AS e
           JOIN pg_class AS tc ON tc.oid = e."table" JOIN pg_namespace AS tn ON tn.oid = tc.relnamespace
           JOIN pg_class AS ec ON ec.oid = e.event_table JOIN pg_namespace AS en ON en.oid = ec.relnamespace
     WHERE e.event_table = _apply_by_hand.event_table;
    IF EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = _apply_by_hand.event_table) THEN
        wanted := pghistory._own_function_name(
            "table", registered.table_schema,
            pghistory._fitting_name(
                CASE WHEN registered.event_schema = registered.table_schema THEN registered.relname::text
                     ELSE format('%s_%s', registered.event_schema, registered.relname) END,
                '_by_hand'),
            ARRAY['text'::regtype, 'text'::regtype]::oidvector, registered.owner);
        PERFORM pghistory._ensure_function(
            wanted, 'label text, "row" text', 'bigint', pghistory._function_settings('by hand'),
            pghistory._by_hand_body("table", event_table), registered.owner);
    END IF;
    IF registered.by_hand IS DISTINCT FROM wanted THEN
        PERFORM pghistory._drop_function(to_regprocedure(registered.by_hand || '(text, text)'));
        INSERT INTO pghistory._request
        VALUES ('save function', "table", event_table, jsonb_build_object('by_hand', wanted));
    END IF;
END
$function$;
