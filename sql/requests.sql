-- The one door to the registry. Functions that run as their caller put what they ask for into a view; its first
-- trigger checks, as the caller, that he may, and its second does it, as the owner of the extension. A function
-- could not do both: a SECURITY DEFINER function cannot see who called it, and an ordinary one may not write.

CREATE OR REPLACE VIEW pghistory._request AS
    SELECT NULL::text AS action, NULL::regclass AS "table", NULL::regclass AS event_table, NULL::jsonb AS details
     WHERE false;

-- What comes through the door is of the form that track() and its fellows give it: somebody who uses it himself can
-- write nonsense about his own tables, but none that keeps others from theirs.
CREATE OR REPLACE FUNCTION pghistory._check_details(
    action text, "table" regclass, event_table regclass, details jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    is_well_formed boolean;
    function regprocedure;
BEGIN
    is_well_formed := COALESCE(
        CASE
        WHEN action IN ('save event table', 'save columns', 'note rewrite', 'save tracker', 'restart trackers',
                        'save function') THEN
            event_table <> "table"
            AND NOT pghistory._is_event_table("table") AND NOT pghistory._is_tracked(event_table)
            AND (SELECT c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
                   FROM pg_class AS c WHERE c.oid = event_table)
            AND (SELECT c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
                   FROM pg_class AS c WHERE c.oid = "table")
        ELSE true
        END
        AND CASE action
        WHEN 'save event table' THEN
            (SELECT array_position(d.obj_key, NULL) IS NULL AND array_position(d.obj_key_numbers, NULL) IS NULL
                    AND cardinality(d.obj_key) = cardinality(d.obj_key_numbers)
                    AND d.obj_key <@ ARRAY(SELECT c.name FROM pghistory._columns("table") AS c)
                    AND d.context IN ('reference', 'inline', 'none')
                    AND COALESCE(d.obj_fk IN ('cascade', 'restrict', 'set null'), true)
               FROM jsonb_to_record(details)
                        AS d(obj_key name[], obj_key_numbers smallint[], context text, obj_fk text))
        WHEN 'save columns' THEN
            NOT EXISTS (SELECT FROM jsonb_to_recordset(details)
                            AS d(column_name name, table_column_name name, table_column_number smallint,
                                 added_after bigint)
                         WHERE d.column_name IS NULL OR d.table_column_name IS NULL OR d.table_column_number IS NULL)
        WHEN 'save tracker' THEN
            (SELECT d.kind IN ('snapshot', 'after_insert', 'after_insert_or_update', 'before_update', 'after_update',
                               'before_delete', 'before_truncate', 'history', 'event')
                    AND d.level IN ('auto', 'row', 'statement') AND d.label <> ''
                    AND array_position(d.fields, NULL) IS NULL AND array_position(d.exclude, NULL) IS NULL
                    AND NOT EXISTS (SELECT FROM jsonb_to_recordset(d.condition_columns)
                                        AS c(number smallint, name name, type oid)
                                     WHERE c.number IS NULL OR c.name IS NULL OR c.type IS NULL)
                    AND NOT EXISTS (SELECT FROM jsonb_to_recordset(d.condition_objects)
                                        AS o(class text, id oid, schema oid, name text)
                                     WHERE o.id IS NULL
                                        OR COALESCE(o.class NOT IN ('pg_proc', 'pg_type', 'pg_operator',
                                                                    'pg_collation'), true))
               FROM jsonb_to_record(details) AS d(kind text, level text, label text, fields name[], exclude name[],
                                                  condition_columns jsonb, condition_objects jsonb))
        ELSE true
        END,
        false);
    IF action = 'save function' AND details ->> 'by_hand' IS NOT NULL THEN
        function := to_regprocedure((details ->> 'by_hand') || '(text, text)');
        is_well_formed := is_well_formed AND EXISTS (
            SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
             WHERE p.oid = function AND p.proowner = pghistory._owner(event_table)
               AND format('%I.%I', n.nspname, p.proname) = details ->> 'by_hand');
    END IF;
    IF NOT is_well_formed THEN
        RAISE EXCEPTION 'malformed request "%"', action
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The registry is written by pghistory.track() and its fellows.';
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._check_request()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NEW.action = 'permit event' THEN
        IF NOT (has_table_privilege(NEW."table", 'INSERT, UPDATE, DELETE')
                OR has_any_column_privilege(NEW."table", 'INSERT, UPDATE'))
        THEN
            RAISE EXCEPTION 'permission denied to write events of table %', NEW."table"
                USING ERRCODE = 'insufficient_privilege',
                      HINT = 'Whoever may insert, update or delete rows of the table may write its events by hand.';
        END IF;
        PERFORM set_config('pghistory.writer', current_user, true);
    ELSIF NEW.action = 'forget dropped tables' THEN
        NULL;  -- whoever notices
    ELSIF NOT COALESCE(pg_has_role(pghistory._owner(NEW."table"), 'USAGE'), false) THEN
        RAISE EXCEPTION 'must be owner of table %', NEW."table"
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Only its owner decides what is recorded about a table.';
    ELSIF NEW.event_table IS NOT NULL
          AND NOT (NEW.action = 'forget event table' AND pghistory._owner(NEW.event_table) IS NULL)
          AND NOT COALESCE(pg_has_role(pghistory._owner(NEW.event_table), 'USAGE'), false)
    THEN
        RAISE EXCEPTION 'must be owner of event table %', NEW.event_table
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Events go to a table of your own, or of a role that you are a member of.';
    END IF;
    IF NEW.action <> 'permit event' THEN
        PERFORM pghistory._check_details(NEW.action, NEW."table", NEW.event_table, NEW.details);
    END IF;
    RETURN NEW;
END
$function$;

-- From when on can a tracker that is being made know all that happens to its table? From when the table is locked; or
-- from the start of this transaction, if that made the table.
CREATE OR REPLACE FUNCTION pghistory._tracking_since("table" regclass)
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN t.xmin = pg_current_xact_id()::xid THEN transaction_timestamp() ELSE clock_timestamp() END
      FROM pg_class AS c JOIN pg_type AS t ON t.oid = c.reltype
     WHERE c.oid = "table"
$function$;

-- Do two definitions of a tracker record the same events?
CREATE OR REPLACE FUNCTION pghistory._records_the_same(one jsonb, other jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT bool_and(one -> key IS NOT DISTINCT FROM other -> key)
      FROM unnest(ARRAY['kind', 'fields', 'exclude', 'event_table']) AS key
   HAVING (one ->> 'condition' IS NULL) = (other ->> 'condition' IS NULL)
$function$;

-- Tables that were dropped where nothing told us. After a restore such an entry may name another table, by chance:
-- that one has another name.
CREATE OR REPLACE FUNCTION pghistory._forget_dropped_tables()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    WITH gone AS (
        SELECT e.event_table
          FROM pghistory.event_table AS e
         WHERE e."table" IS NOT NULL
           AND (pghistory._table_name(e."table") IS NULL
                OR e.origin <> pghistory._origin(e."table")
                   AND pghistory._table_name(e."table") <> format('%I.%I', e.table_schema, e.table_name))
    ), untracked AS (
        DELETE FROM pghistory.tracker AS t USING gone AS g WHERE t.event_table = g.event_table
    )
    UPDATE pghistory.event_table AS e
       SET "table" = NULL, by_hand = NULL
      FROM gone AS g
     WHERE e.event_table = g.event_table;
    DELETE FROM pghistory.tracker AS t
     WHERE NOT EXISTS (SELECT FROM pghistory.event_table AS e
                        WHERE e.event_table = t.event_table AND e."table" = t."table");
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._apply_request()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    details CONSTANT jsonb := NEW.details;
BEGIN
    PERFORM pghistory._ensure_state();
    CASE NEW.action
    WHEN 'prepare' THEN
        PERFORM pghistory._settle_capturing();
    WHEN 'forget dropped tables' THEN
        PERFORM pghistory._forget_dropped_tables();
    WHEN 'save event table' THEN
        -- Trackers of a table that is gone, where nothing told us.
        DELETE FROM pghistory.tracker AS t WHERE t.event_table = NEW.event_table AND t."table" <> NEW."table";
        -- On another server the ids of transactions mean something else.
        IF (SELECT split_part(e.origin, '/', 1) <> split_part(pghistory._origin(NEW."table"), '/', 1)
              FROM pghistory.event_table AS e WHERE e.event_table = NEW.event_table)
        THEN
            UPDATE pghistory.tracker AS t SET since_xid = '0' WHERE t.event_table = NEW.event_table;
            UPDATE pghistory.event_column AS c
               SET added_xid = NULL,
                   rewrites = (SELECT COALESCE(jsonb_agg(r - 'xid' ORDER BY position), '[]')
                                 FROM jsonb_array_elements(c.rewrites) WITH ORDINALITY AS r(r, position))
             WHERE c.event_table = NEW.event_table;
        END IF;
        INSERT INTO pghistory.event_table AS e
            (event_table, "table", table_schema, table_name, origin, obj_key, obj_key_numbers, obj_key_given,
             obj_fk, context, append_only, foreign_until)
        SELECT NEW.event_table, NEW."table", n.nspname, c.relname, pghistory._origin(NEW."table"),
               d.obj_key, d.obj_key_numbers, d.obj_key_given, d.obj_fk, d.context, d.append_only, 0
          FROM jsonb_to_record(details)
                   AS d(obj_key name[], obj_key_numbers smallint[], obj_key_given boolean, obj_fk text,
                        context text, append_only boolean),
               pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = NEW."table"
        ON CONFLICT (event_table) DO UPDATE
           SET "table" = EXCLUDED."table", table_schema = EXCLUDED.table_schema, table_name = EXCLUDED.table_name,
               origin = EXCLUDED.origin, obj_key = EXCLUDED.obj_key, obj_key_numbers = EXCLUDED.obj_key_numbers,
               obj_key_given = EXCLUDED.obj_key_given, obj_fk = EXCLUDED.obj_fk, context = EXCLUDED.context,
               append_only = EXCLUDED.append_only,
               foreign_until = CASE WHEN split_part(e.origin, '/', 1) = split_part(EXCLUDED.origin, '/', 1)
                                    THEN e.foreign_until ELSE COALESCE(pghistory._last_event(e.event_table), 0) END
         WHERE to_jsonb(e) - ARRAY['by_hand', 'foreign_until']
               IS DISTINCT FROM to_jsonb(EXCLUDED) - ARRAY['by_hand', 'foreign_until'];
    WHEN 'save function' THEN
        UPDATE pghistory.event_table SET by_hand = details ->> 'by_hand' WHERE event_table = NEW.event_table;
    WHEN 'save columns' THEN
        WITH changed AS (
            DELETE FROM pghistory.event_column AS c
             WHERE c.event_table = NEW.event_table
               AND NOT EXISTS (SELECT FROM jsonb_to_recordset(details)
                                   AS d(column_name name, table_column_name name, table_column_number smallint)
                                WHERE (d.column_name, d.table_column_name, d.table_column_number)
                                      = (c.column_name, c.table_column_name, c.table_column_number))
            RETURNING *
        )
        INSERT INTO pghistory.event_column
            (event_table, column_name, table_column_name, table_column_number, added_after, added_at, added_xid,
             missing_value, rewrites, unreadable_until)
        SELECT NEW.event_table, d.column_name, d.table_column_name, d.table_column_number,
               COALESCE(c.added_after, d.added_after),
               CASE WHEN c.added_after IS NOT NULL THEN c.added_at
                    WHEN d.added_after IS NOT NULL THEN transaction_timestamp() END,
               CASE WHEN c.added_after IS NOT NULL THEN c.added_xid
                    WHEN d.added_after IS NOT NULL THEN pg_current_xact_id() END,
               COALESCE(c.missing_value, d.missing_value),
               c.rewrites, c.unreadable_until
          FROM jsonb_to_recordset(details)
                   AS d(column_name name, table_column_name name, table_column_number smallint, added_after bigint,
                        missing_value text)
               LEFT JOIN changed AS c
                 ON CASE WHEN pghistory._origin(NEW."table") = (SELECT e.origin FROM pghistory.event_table AS e
                                                                 WHERE e.event_table = NEW.event_table)
                         THEN c.table_column_number = d.table_column_number
                         ELSE c.column_name = d.column_name END
        ON CONFLICT DO NOTHING;
    WHEN 'note rewrite' THEN
        UPDATE pghistory.event_column AS c
           SET rewrites = CASE WHEN d.is_rewritten
                               THEN COALESCE(c.rewrites, '[]') || jsonb_build_object(
                                        'after', d.last_event, 'at', transaction_timestamp(),
                                        'xid', pg_current_xact_id()::text)
                               ELSE c.rewrites END,
               unreadable_until = CASE WHEN d.is_unreadable THEN d.last_event ELSE c.unreadable_until END
          FROM jsonb_to_recordset(details)
                   AS d(table_column_number smallint, last_event bigint, is_rewritten boolean, is_unreadable boolean)
         WHERE c.event_table = NEW.event_table AND c.table_column_number = d.table_column_number;
    WHEN 'restart trackers' THEN
        UPDATE pghistory.tracker AS t
           SET since = pghistory._tracking_since(NEW."table"), since_xid = pg_current_xact_id(),
               since_event = COALESCE((details ->> 'since_event')::bigint, 0),
               since_empty = pghistory._is_unused(NEW."table")
         WHERE t.event_table = NEW.event_table AND t."table" = NEW."table";
    WHEN 'save tracker' THEN
        INSERT INTO pghistory.tracker AS t
            ("table", label, kind, fields, field_numbers, exclude, exclude_numbers, condition,
             condition_is_row_level, condition_columns, condition_objects, condition_is_void, event_table, level,
             since, since_xid, since_event, since_empty)
        SELECT NEW."table", d.label, d.kind, d.fields, d.field_numbers, d.exclude, d.exclude_numbers, d.condition,
               d.condition_is_row_level, d.condition_columns, d.condition_objects, d.condition_is_void,
               NEW.event_table, d.level, pghistory._tracking_since(NEW."table"), pg_current_xact_id(),
               COALESCE((details ->> 'since_event')::bigint, 0), pghistory._is_unused(NEW."table")
          FROM jsonb_to_record(details)
                   AS d(label text, kind text, fields name[], field_numbers smallint[], exclude name[],
                        exclude_numbers smallint[], condition text, condition_is_row_level boolean,
                        condition_columns jsonb, condition_objects jsonb, condition_is_void boolean, level text)
        ON CONFLICT ("table", label) DO UPDATE
           SET kind = EXCLUDED.kind, fields = EXCLUDED.fields, field_numbers = EXCLUDED.field_numbers,
               exclude = EXCLUDED.exclude, exclude_numbers = EXCLUDED.exclude_numbers,
               condition = EXCLUDED.condition, condition_is_row_level = EXCLUDED.condition_is_row_level,
               condition_columns = EXCLUDED.condition_columns, condition_objects = EXCLUDED.condition_objects,
               condition_is_void = EXCLUDED.condition_is_void,
               event_table = EXCLUDED.event_table, level = EXCLUDED.level,
               (since, since_xid, since_event, since_empty) = (
                   SELECT k.since, k.since_xid, k.since_event, k.since_empty
                     FROM (VALUES (true, t.since, t.since_xid, t.since_event, t.since_empty),
                                  (false, EXCLUDED.since, EXCLUDED.since_xid, EXCLUDED.since_event,
                                   EXCLUDED.since_empty))
                              AS k(same, since, since_xid, since_event, since_empty)
                    WHERE k.same = COALESCE(details ? 'since'
                                            OR pghistory._records_the_same(to_jsonb(t), to_jsonb(EXCLUDED)), false))
         WHERE to_jsonb(t) - ARRAY['ordinal', 'since', 'since_xid', 'since_event', 'since_empty']
               IS DISTINCT FROM
               to_jsonb(EXCLUDED) - ARRAY['ordinal', 'since', 'since_xid', 'since_event', 'since_empty'];
    WHEN 'remove tracker' THEN
        DELETE FROM pghistory.tracker WHERE "table" = NEW."table" AND label = details ->> 'label';
    WHEN 'forget event table' THEN
        DELETE FROM pghistory.tracker WHERE event_table = NEW.event_table AND "table" = NEW."table";
        DELETE FROM pghistory.event_table WHERE event_table = NEW.event_table;
    WHEN 'permit event' THEN
        DELETE FROM pghistory._permit WHERE xid < pg_snapshot_xmin(pg_current_snapshot());
        INSERT INTO pghistory._permit (xid, event_table, label)
        SELECT pg_current_xact_id(), t.event_table, t.label
          FROM pghistory.tracker AS t
         WHERE t."table" = NEW."table" AND t.label = details ->> 'label';
    END CASE;
    RETURN NEW;
END
$function$;

CREATE OR REPLACE TRIGGER "1 check" INSTEAD OF INSERT ON pghistory._request
    FOR EACH ROW EXECUTE FUNCTION pghistory._check_request();
CREATE OR REPLACE TRIGGER "2 apply" INSTEAD OF INSERT ON pghistory._request
    FOR EACH ROW EXECUTE FUNCTION pghistory._apply_request();

-- Takes the permit that create_event() was given for one event, or refuses.
CREATE OR REPLACE FUNCTION pghistory._use_permit(event_table text, label text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    UPDATE pghistory._permit AS p
       SET used = true
     WHERE p.ctid = (SELECT q.ctid FROM pghistory._permit AS q
                      WHERE q.xid = pg_current_xact_id() AND NOT q.used
                        AND q.event_table = _use_permit.event_table::regclass
                        AND q.label = _use_permit.label
                      LIMIT 1);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'events are written by hand with pghistory.create_event() only'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Call pghistory.create_event().';
    END IF;
END
$function$;
