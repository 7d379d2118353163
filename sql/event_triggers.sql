-- Event triggers: DDL is followed as soon as it is done.

-- Is this DDL of our own making? Then whoever issued it sees to the rest. The lines of the context are in the
-- server's language, and those that quote a statement do not count.
CREATE OR REPLACE FUNCTION pghistory._is_own_ddl(context text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT count(*) > 1 FROM regexp_matches(context, $re$^[^"»«„“”]*\mpghistory[.][a-z_]+[(]$re$, 'gn')
$function$;

-- Is a dump being restored? It brings the triggers itself, one by one, and the foreign keys of the registry
-- after them.
CREATE OR REPLACE FUNCTION pghistory._is_restoring()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT current_setting('application_name') = 'pg_restore'
        OR current_setting('pghistory.installing', true) = 'on'
        OR NOT EXISTS (SELECT FROM pg_constraint
                        WHERE conrelid = to_regclass('pghistory.tracker') AND conname = 'tracker_event_table_fkey')
$function$;

-- A table that is a partition, a parent or a child no longer may have statement-level triggers again, and is not
-- named by the command that made it so.
CREATE OR REPLACE FUNCTION pghistory._may_leave_row_level(
    "table" regclass, event_table regclass, others_changed boolean)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT (others_changed
            OR c.relhassubclass AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))
       AND c.relkind = 'r' AND NOT c.relispartition
       AND EXISTS (SELECT FROM pg_trigger AS t
                    WHERE t.tgrelid = c.oid
                      AND t.tgname = pghistory._trigger_name("table", event_table, 'insert', 'row'))
      FROM pg_class AS c
     WHERE c.oid = "table"
$function$;

-- What DDL touched follows it; what cannot follow is left to sync(), and never in the way of the DDL.
CREATE OR REPLACE FUNCTION pghistory._follow_tables(tables regclass[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    reason text;
BEGIN
    FOREACH tracked IN ARRAY tables LOOP
        BEGIN
            PERFORM pghistory._follow_table(tracked);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'the history of table % could not follow: %', tracked, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'See pghistory.verify(), and call pghistory.sync().';
            -- The table must stay writable all the same.
            PERFORM pghistory._follow_registry(tracked);
        END;
    END LOOP;
END
$function$;

-- Old values must not stand in the way of DDL on types. A column that keeps them for nobody any more becomes text
-- before its type may go or change; one of a domain becomes its base type before values are checked again. Only of
-- types that this session may change.
CREATE OR REPLACE FUNCTION pghistory._release_types(tag text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    held record;
    reason text;
BEGIN
    IF tag NOT IN ('ALTER DOMAIN', 'ALTER TYPE', 'DROP TYPE', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP SCHEMA') THEN
        RETURN;
    END IF;
    FOR held IN
        SELECT e.event_table, a.attname, a.atttypid, a.atttypmod, a.attcollation
          FROM pghistory.event_table AS e
               JOIN pg_attribute AS a ON a.attrelid = e.event_table AND a.attnum > 0 AND NOT a.attisdropped
               JOIN pg_type AS t ON t.oid = a.atttypid AND t.typnamespace <> 'pg_catalog'::regnamespace
               JOIN pg_namespace AS n ON n.oid = t.typnamespace
         WHERE (pg_has_role(session_user, t.typowner, 'USAGE') OR pg_has_role(session_user, n.nspowner, 'USAGE'))
           AND (tag <> 'ALTER DOMAIN' OR t.typtype = 'd')
           AND (starts_with(col_description(a.attrelid, a.attnum), 'Kept by pghistory: ')
                OR tag = 'ALTER DOMAIN'
                   AND EXISTS (SELECT FROM pghistory.event_column AS c
                                WHERE c.event_table = e.event_table AND c.column_name = a.attname))
    LOOP
        CONTINUE WHEN NOT pghistory._may_rewrite(held.event_table)
                   OR NOT (tag = 'ALTER DOMAIN'
                           OR pghistory._is_trusted(held.event_table)
                           OR pghistory._is_harmless_cast(held.atttypid, 'text'::regtype));
        BEGIN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', pghistory._table_name(held.event_table),
                           held.attname,
                           CASE WHEN tag = 'ALTER DOMAIN'
                                THEN (SELECT pghistory._type_text(b.type_id, b.type_modifier, held.attcollation)
                                        FROM pghistory._base_type(held.atttypid, held.atttypmod) AS b)
                                ELSE 'text' END);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'column "%" of event table % keeps its type: %', held.attname, held.event_table, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Change it by hand if it stands in the way.';
        END;
    END LOOP;
END
$function$;

-- The event triggers. They run as whoever issues DDL, and must neither fail it nor ask him for rights: what they do
-- is done as the owner of the extension.

-- A restored registry has the names of columns right, and their numbers from another life: before names change, it
-- learns the numbers of this one.
CREATE OR REPLACE FUNCTION pghistory._before_ddl()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT pghistory._has_state() OR pghistory._is_restoring() OR pghistory._is_own_ddl(context) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_control_system() AS s
                           CROSS JOIN pghistory.event_table AS e
                           LEFT JOIN pg_class AS c ON c.oid = e."table"
                WHERE e."table" IS NOT NULL
                  AND (c.oid IS NULL OR e.origin <> format('%s/%s', s.system_identifier, c.oid)))
       OR EXISTS (SELECT FROM pghistory.tracker AS t JOIN pghistory.event_table AS e ON e.event_table = t.event_table
                   WHERE e."table" IS DISTINCT FROM t."table")
    THEN
        PERFORM pghistory._forget_dropped_tables();
        PERFORM pghistory._follow_tables(ARRAY(
            SELECT DISTINCT e."table"
              FROM pghistory.event_table AS e
             WHERE e."table" IS NOT NULL AND e.origin <> pghistory._origin(e."table")
               AND EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = e.event_table)));
    END IF;
    PERFORM pghistory._release_types(tg_tag);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pghistory could not prepare for this DDL: %', SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'See pghistory.verify(), and call pghistory.sync().';
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._after_ddl()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT pghistory._has_state() OR pghistory._is_restoring() OR pghistory._is_own_ddl(context) THEN
        RETURN;
    END IF;
    PERFORM pghistory._follow_tables(ARRAY(
        WITH touched AS (
            SELECT c.classid, c.objid, r.relation, k.reltype AS row_type,
                   k.relkind = 'p' OR k.relhassubclass AS relation_has_children
              FROM pg_event_trigger_ddl_commands() AS c
                   CROSS JOIN LATERAL (
                       SELECT CASE c.classid
                              WHEN 'pg_class'::regclass THEN c.objid
                              WHEN 'pg_trigger'::regclass
                              THEN (SELECT tgrelid FROM pg_trigger AS g WHERE g.oid = c.objid)
                              END AS relation) AS r
                   LEFT JOIN pg_class AS k ON k.oid = r.relation
        )
        SELECT DISTINCT t."table"
          FROM touched AS d
               CROSS JOIN pghistory.tracker AS t
               JOIN pg_class AS tc ON tc.oid = t."table"
               LEFT JOIN pg_class AS ec ON ec.oid = t.event_table
         WHERE d.relation IN (t."table", t.event_table)
            OR CASE WHEN d.relation_has_children OR tc.relhassubclass
                    THEN pghistory._may_leave_row_level(t."table", t.event_table, d.relation_has_children) END
            OR t."table" IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = d.relation)
            OR t."table" IN (SELECT relid FROM pg_partition_tree(d.relation))
            OR t."table" IN (SELECT relid FROM pg_partition_ancestors(d.relation))
            OR t."table" IN (SELECT inhparent FROM pg_inherits WHERE inhrelid = d.relation)
            OR t."table" IN (SELECT confrelid FROM pg_constraint WHERE conrelid = d.relation AND contype = 'f')
            OR d.classid = 'pg_namespace'::regclass AND d.objid IN (tc.relnamespace, ec.relnamespace)
            OR d.classid = 'pg_extension'::regclass AND t.condition_objects <> '[]'
            OR d.classid IN ('pg_type'::regclass, 'pg_namespace'::regclass) AND EXISTS (
               SELECT FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = a.atttypid
                WHERE a.attrelid = tc.oid AND a.attnum > 0
                  AND d.objid IN (y.oid, y.typelem, y.typbasetype, y.typnamespace))
            OR EXISTS (SELECT FROM jsonb_to_recordset(t.condition_objects) AS o(class text, id text, schema text)
                        WHERE o.class = d.classid::regclass::text AND o.id = d.objid::text
                           OR o.class = 'pg_type' AND o.id = d.row_type::text
                           OR d.classid = 'pg_namespace'::regclass AND o.schema = d.objid::text)));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pghistory could not follow this DDL: %', SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'See pghistory.verify(), and call pghistory.sync().';
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._after_drop()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    context text;
    gone record;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT pghistory._has_state() OR pghistory._is_restoring() OR pghistory._is_own_ddl(context) THEN
        RETURN;
    END IF;
    -- A dropped event table ends its trackers; a dropped table keeps its events.
    FOR gone IN
        SELECT e.event_table, e."table", d.objid = e.event_table::oid AS events_are_gone, e.by_hand
          FROM pg_event_trigger_dropped_objects() AS d
               JOIN pghistory.event_table AS e ON d.objid IN (e.event_table, e."table")
         WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
    LOOP
        DELETE FROM pghistory.tracker AS t WHERE t.event_table = gone.event_table;
        IF gone.events_are_gone THEN
            DELETE FROM pghistory.event_table AS e WHERE e.event_table = gone.event_table;
        ELSE
            UPDATE pghistory.event_table AS e
               SET "table" = NULL, by_hand = NULL
             WHERE e.event_table = gone.event_table;
            PERFORM pghistory._drop_generated_functions(gone.event_table);
        END IF;
        PERFORM pghistory._drop_function(to_regprocedure(gone.by_hand || '(text, text)'))
          WHERE NOT EXISTS (SELECT FROM pghistory.event_table AS e WHERE e.by_hand = gone.by_hand);
        IF EXISTS (SELECT FROM pg_class WHERE oid = gone."table") THEN
            PERFORM pghistory._follow_tables(ARRAY[gone."table"]);
        END IF;
    END LOOP;
    -- Columns, triggers, and what conditions call.
    PERFORM pghistory._follow_tables(ARRAY(
        SELECT DISTINCT t."table"
          FROM pg_event_trigger_dropped_objects() AS d
               CROSS JOIN pghistory.tracker AS t
               JOIN pg_class AS tc ON tc.oid = t."table"
         WHERE d.classid = 'pg_class'::regclass AND d.objsubid <> 0 AND d.objid IN (t."table", t.event_table)
            OR d.object_type = 'trigger' AND d.address_names[3] !~ '^! ?pghistory '
               AND to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) = t."table"
            OR CASE WHEN d.classid = 'pg_class'::regclass AND tc.relhassubclass
                    THEN pghistory._may_leave_row_level(t."table", t.event_table, false) END
            OR EXISTS (SELECT FROM jsonb_to_recordset(t.condition_objects) AS o(class text, id text)
                        WHERE o.class = d.classid::regclass::text AND o.id = d.objid::text)));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pghistory could not follow this DDL: %', SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'See pghistory.verify(), and call pghistory.sync().';
END
$function$;

DO $event_triggers$
DECLARE
    tags CONSTANT text := $tags$'ALTER TABLE', 'CREATE SCHEMA', 'CREATE TABLE', 'CREATE FOREIGN TABLE',
        'ALTER FOREIGN TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN',
        'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER OPERATOR', 'ALTER COLLATION', 'ALTER EXTENSION'$tags$;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'pghistory_after_ddl') THEN
        DROP EVENT TRIGGER pghistory_before_ddl;
        DROP EVENT TRIGGER pghistory_after_ddl;
        DROP EVENT TRIGGER pghistory_after_drop;
    END IF;
    EXECUTE 'CREATE EVENT TRIGGER pghistory_before_ddl ON ddl_command_start WHEN TAG IN (' || tags
            || $tags$, 'DROP TYPE', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP SCHEMA') EXECUTE$tags$
            || ' FUNCTION pghistory._before_ddl()';
    EXECUTE 'CREATE EVENT TRIGGER pghistory_after_ddl ON ddl_command_end WHEN TAG IN (' || tags
            || ') EXECUTE FUNCTION pghistory._after_ddl()';
    CREATE EVENT TRIGGER pghistory_after_drop ON sql_drop
        EXECUTE FUNCTION pghistory._after_drop();
    -- also in sessions that switched triggers off: loading data, they change tables all the same
    ALTER EVENT TRIGGER pghistory_before_ddl ENABLE ALWAYS;
    ALTER EVENT TRIGGER pghistory_after_ddl ENABLE ALWAYS;
    ALTER EVENT TRIGGER pghistory_after_drop ENABLE ALWAYS;
    ALTER FUNCTION pghistory._before_ddl() SET session_replication_role TO 'origin';
    ALTER FUNCTION pghistory._after_ddl() SET session_replication_role TO 'origin';
    ALTER FUNCTION pghistory._after_drop() SET session_replication_role TO 'origin';
    COMMENT ON EVENT TRIGGER pghistory_before_ddl IS 'Prepares the history of tracked tables for DDL.';
    COMMENT ON EVENT TRIGGER pghistory_after_ddl IS 'Makes event tables and triggers follow DDL on tracked tables.';
    COMMENT ON EVENT TRIGGER pghistory_after_drop IS
        'Ends tracking where tables, event tables or what conditions name are dropped.';
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'event triggers may not be created here: call pghistory.sync() after DDL on tracked tables'
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Let a superuser install the extension to have DDL followed at once.';
END
$event_triggers$;
