-- Following the user's DDL: the event table, its columns and the triggers become what the table has become.

-- Makes one tracked table's event tables and triggers follow it.
CREATE OR REPLACE FUNCTION pghistory._follow_table("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    event_table regclass;
BEGIN
    FOR event_table IN SELECT e.event_table FROM pghistory.event_table AS e WHERE e."table" = _follow_table."table" LOOP
        IF NOT EXISTS (SELECT FROM pg_class WHERE oid = event_table) THEN
            INSERT INTO pghistory._request VALUES ('forget event table', "table", event_table);
            CONTINUE;
        END IF;
        PERFORM pghistory._apply_by_hand("table", event_table);
    END LOOP;
    PERFORM pghistory._apply_triggers("table");
END
$function$;

-- What an event table lacks to hold what its trackers write.
CREATE OR REPLACE FUNCTION pghistory._event_table_problems("table" regclass, event_table regclass)
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT DISTINCT CASE WHEN a.attname IS NULL THEN format('column "%s" is missing', c.name)
                         ELSE format('column "%s" is %s, not %s', c.name, format_type(a.atttypid, a.atttypmod),
                                     format_type(c.type_id, c.type_modifier)) END
      FROM pghistory.tracker AS t
           JOIN pghistory.event_table AS e USING (event_table)
           CROSS JOIN LATERAL pghistory._event_columns(
               t."table", pghistory._tracked_fields(t."table", t.fields, t.exclude), e.obj_key, e.context) AS c
           LEFT JOIN pg_attribute AS a ON a.attrelid = e.event_table AND a.attname = c.name AND NOT a.attisdropped
     WHERE e.event_table = _event_table_problems.event_table AND t."table" = _event_table_problems."table"
       AND (a.attname IS NULL AND c.required OR a.atttypid <> c.type_id OR a.atttypmod NOT IN (c.type_modifier, -1))
$function$;

-- The event triggers. They run as whoever issues DDL, and must neither fail it nor ask him for rights: what they do is
-- done as the owner of the extension, and what he may not do is left to sync().
CREATE OR REPLACE FUNCTION pghistory._after_ddl()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    reason text;
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    FOR tracked IN
        SELECT DISTINCT t."table"
          FROM pg_event_trigger_ddl_commands() AS c
               CROSS JOIN LATERAL (
                   SELECT CASE WHEN c.classid = 'pg_class'::regclass THEN c.objid
                               WHEN c.classid = 'pg_trigger'::regclass
                               THEN (SELECT tgrelid FROM pg_trigger WHERE oid = c.objid AND tgname !~ '^! ?pghistory ')
                          END AS relation) AS r
               JOIN pghistory.tracker AS t
                 ON t."table" = r.relation OR t.event_table = r.relation
                 OR t."table" IN (SELECT relid FROM pg_partition_ancestors(r.relation))
                 OR t."table" IN (SELECT inhparent FROM pg_inherits WHERE inhrelid = r.relation)
               JOIN pg_class AS k ON k.oid = t."table"
    LOOP
        BEGIN
            PERFORM pghistory._follow_table(tracked);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'history of table % could not follow: %', tracked, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'See pghistory.verify(); call pghistory.sync().';
        END;
    END LOOP;
END
$function$;

DO $event_triggers$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'pghistory_after_ddl') THEN
        DROP EVENT TRIGGER pghistory_after_ddl;
    END IF;
    CREATE EVENT TRIGGER pghistory_after_ddl ON ddl_command_end
        WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'CREATE TRIGGER', 'ALTER TRIGGER', 'CREATE FOREIGN TABLE',
                     'ALTER FOREIGN TABLE')
        EXECUTE FUNCTION pghistory._after_ddl();
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'event triggers may not be created here: call pghistory.sync() after DDL on tracked tables'
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Let a superuser install the extension to have DDL followed at once.';
END
$event_triggers$;
