-- Tracking: what people call.

-- Writes down what the event table consists of, whose events it holds, and how.
CREATE OR REPLACE FUNCTION pghistory._register_event_table(
    "table" regclass, event_table regclass, fields name[], obj_key name[], obj_key_given boolean, obj_fk text,
    context text, append_only boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    held jsonb;
    wanted jsonb := jsonb_build_object(
        'obj_key', obj_key, 'obj_key_given', obj_key_given, 'obj_fk', obj_fk, 'context', context,
        'append_only', append_only,
        'obj_key_numbers', ARRAY(SELECT c.number FROM unnest(obj_key) WITH ORDINALITY AS k(field, position)
                                        JOIN pghistory._columns("table") AS c ON c.name = k.field
                                  ORDER BY k.position));
BEGIN
    SELECT * INTO registered
      FROM pghistory.event_table AS e
     WHERE e.event_table = _register_event_table.event_table;
    IF NOT FOUND OR registered."table" IS DISTINCT FROM "table"
       OR NOT to_jsonb(registered) @> wanted OR registered.obj_fk IS DISTINCT FROM obj_fk
    THEN
        INSERT INTO pghistory._request VALUES ('save event table', "table", event_table, wanted);
    END IF;

    -- What is mapped already stays mapped: several trackers write to one event table.
    SELECT COALESCE(jsonb_agg(to_jsonb(c) - 'event_table' ORDER BY c.table_column_number, c.column_name), '[]')
      INTO held
      FROM pghistory.event_column AS c
     WHERE c.event_table = _register_event_table.event_table;
    SELECT COALESCE(jsonb_agg(to_jsonb(m) ORDER BY m.table_column_number, m.column_name), '[]')
      INTO wanted
      FROM (SELECT e.name AS column_name, c.name AS table_column_name, c.number AS table_column_number
              FROM pghistory._event_columns("table", fields, obj_key, context) AS e
                   JOIN pghistory._columns("table") AS c ON c.name = e.source
             UNION
            SELECT h.column_name, h.table_column_name, h.table_column_number
              FROM jsonb_to_recordset(held)
                       AS h(column_name name, table_column_name name, table_column_number smallint)) AS m;
    IF wanted <> held THEN
        INSERT INTO pghistory._request VALUES ('save columns', "table", event_table, wanted);
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._register_tracker(
    "table" regclass, label text, kind text, fields name[], exclude name[], condition record, event_table regclass,
    level text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered jsonb := (SELECT to_jsonb(t) - 'ordinal' - 'table' FROM pghistory.tracker AS t
                          WHERE t."table" = _register_tracker."table" AND t.label = _register_tracker.label);
    wanted jsonb := jsonb_build_object(
        'label', label, 'kind', kind, 'level', level, 'event_table', event_table,
        'condition', condition.text, 'condition_columns', condition.columns, 'condition_objects', condition.objects,
        'condition_is_row_level', condition.is_row_level, 'condition_is_void', false,
        'fields', fields, 'exclude', exclude,
        'field_numbers', CASE WHEN fields IS NOT NULL THEN
            ARRAY(SELECT c.number FROM pghistory._columns("table") AS c
                   WHERE c.name = ANY (fields) ORDER BY c.number) END,
        'exclude_numbers', CASE WHEN exclude IS NOT NULL THEN
            ARRAY(SELECT c.number FROM pghistory._columns("table") AS c
                   WHERE c.name = ANY (exclude) ORDER BY c.number) END);
BEGIN
    IF registered IS DISTINCT FROM wanted THEN
        INSERT INTO pghistory._request
        VALUES ('save tracker', "table", event_table,
                wanted || jsonb_build_object('since_event', pghistory._last_event(event_table)));
    END IF;
END
$function$;

-- Adds what an event table of ours lacks for these fields.
CREATE OR REPLACE FUNCTION pghistory._add_missing_columns(
    "table" regclass, event_table regclass, fields name[], obj_key name[], context text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    missing record;
BEGIN
    FOR missing IN
        SELECT * FROM pghistory._event_columns("table", fields, obj_key, context) AS c
         WHERE c.source IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_attribute
                            WHERE attrelid = event_table AND attname = c.name AND NOT attisdropped)
    LOOP
        PERFORM pghistory._ensure_column(
            event_table, missing.name, missing.type_id, missing.type_modifier, missing.collation_id);
        PERFORM pghistory._copy_storage(event_table, missing.name, "table", missing.source);
    END LOOP;
END
$function$;

-- The event table for a tracker: the one it has, the one named, or the one of the default name; made where
-- it is not there.
CREATE OR REPLACE FUNCTION pghistory._find_event_table(
    "table" regclass, label text, event_table text, fields name[], exclude name[], obj_key name[], obj_fk text,
    context text, append_only boolean)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked CONSTANT name[] := pghistory._tracked_fields("table", fields, exclude);
    parsed record;
    found_table regclass;
    present regclass := (SELECT t.event_table FROM pghistory.tracker AS t
                          WHERE t."table" = _find_event_table."table" AND t.label = _find_event_table.label);
    problem text;
BEGIN
    parsed := pghistory._parsed_event_table(
        COALESCE(event_table, quote_ident(pghistory._event_table_name("table", fields, exclude))), "table");
    found_table := to_regclass(format('%I.%I', parsed.event_schema, parsed.event_name));

    IF present IS NOT NULL AND event_table IS NOT NULL AND found_table IS DISTINCT FROM present THEN
        RAISE EXCEPTION 'events labelled "%" of table % go to %', label, pghistory._table_name("table"),
                pghistory._table_name(present)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Leave out event_table, or call untrack() for the label first.';
    END IF;
    found_table := COALESCE(present, found_table);

    IF found_table IS NULL THEN
        RETURN pghistory._create_event_table("table", parsed.event_schema, parsed.event_name, tracked, obj_key,
                                             obj_fk, context, append_only);
    END IF;
    IF NOT pg_has_role(pghistory._owner(found_table), 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', pghistory._table_name(found_table)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Events go to a table of your own, or of a role that you are a member of. '
                         'Give another event_table.';
    END IF;
    -- One that this table had before, or that a dropped table of its name left, is brought up to date.
    IF EXISTS (SELECT FROM pghistory.event_table AS e
                WHERE e.event_table = found_table
                  AND (e."table" = _find_event_table."table"
                       OR pghistory._table_name(e."table") IS NULL
                          AND format('%I.%I', e.table_schema, e.table_name)
                              = pghistory._table_name(_find_event_table."table")))
    THEN
        PERFORM pghistory._follow_event_table("table", found_table);
        -- Another tracker's gets no columns for this one.
        IF present IS NOT NULL
           OR NOT EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = found_table)
        THEN
            PERFORM pghistory._add_missing_columns("table", found_table, tracked, obj_key, context);
        END IF;
    END IF;
    problem := pghistory._misfit(found_table, "table", tracked, obj_key, context, append_only);
    IF problem IS NULL THEN
        -- What holds for the event table as a whole is changed by its only tracker, or by none.
        SELECT CASE WHEN e.obj_fk IS DISTINCT FROM _find_event_table.obj_fk
                    THEN format('its events have obj_fk %s', COALESCE(quote_literal(e.obj_fk), 'null'))
                    WHEN e.append_only <> _find_event_table.append_only
                    THEN format('it is %sappend-only', CASE WHEN e.append_only THEN '' ELSE 'not ' END)
               END
          INTO problem
          FROM pghistory.event_table AS e
         WHERE e.event_table = found_table
           AND EXISTS (SELECT FROM pghistory.tracker AS t
                        WHERE t.event_table = found_table AND t.label <> _find_event_table.label);
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'table % cannot hold these events: %', pghistory._table_name(found_table), problem
            USING ERRCODE = CASE WHEN present IS NULL AND event_table IS NULL THEN 'duplicate_table'
                                 ELSE 'invalid_table_definition' END,
                  HINT = CASE WHEN present IS NOT NULL
                              THEN 'Call untrack() for the label first, or use another label.'
                              ELSE 'Give another name as event_table.' END;
    END IF;
    RETURN found_table;
END
$function$;

-- level => 'statement' is taken at its word, or refused.
CREATE OR REPLACE FUNCTION pghistory._check_statement_level(
    "table" regclass, kind text, condition_is_row_level boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    reason text := CASE WHEN condition_is_row_level
                        THEN 'its condition names whole rows or system columns'
                        ELSE pghistory._row_level_reason(
                            "table",
                            CASE WHEN kind IN ('after_insert', 'before_delete') THEN 'insert' ELSE 'update' END)
                   END;
BEGIN
    IF reason IS NOT NULL AND kind NOT IN ('before_truncate', 'event') THEN
        RAISE EXCEPTION 'statement-level triggers on table % would lose or misorder events: %',
                pghistory._table_name("table"), reason
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Use level => ''auto'' or level => ''row''.';
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._lock("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF (SELECT relkind <> 'f' FROM pg_class WHERE oid = "table") THEN
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', pghistory._table_name("table"));
    END IF;
END
$function$;

-- track(), with the search_path of the session that called it, which conditions are read with.
CREATE OR REPLACE FUNCTION pghistory._track(
    "table" regclass, label text, kind text, fields text[], condition text, exclude text[], event_table text,
    obj_key text[], obj_fk text, context text, append_only boolean, level text, partition_by text,
    retention interval, path text)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    kept_fields name[];
    kept_exclude name[];
    key name[];
    kept record;
    target regclass;
BEGIN
    PERFORM pghistory._check_not_null('kind', kind IS NULL);
    PERFORM pghistory._check_not_null('level', level IS NULL);
    PERFORM pghistory._check_choice('kind', kind, ARRAY['snapshot', 'after_insert', 'after_insert_or_update',
        'before_update', 'after_update', 'before_delete', 'before_truncate', 'history', 'event']);
    PERFORM pghistory._check_choice('level', level, ARRAY['auto', 'row', 'statement']);
    PERFORM pghistory._check_event_table_choices(fields, exclude, obj_fk, context, append_only);
    PERFORM pghistory._check_trackable("table");
    IF partition_by IS NOT NULL OR retention IS NOT NULL THEN
        RAISE EXCEPTION '% is not there yet',
                CASE WHEN partition_by IS NOT NULL THEN 'partition_by' ELSE 'retention' END
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Leave it out: events are kept in one table until you delete them.';
    END IF;
    IF label = '' THEN
        RAISE EXCEPTION 'label must not be empty'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name the event in the words of your application, such as ''user.create''.';
    END IF;
    IF obj_fk IS NOT NULL AND kind IN ('before_delete', 'before_truncate', 'history') THEN
        RAISE EXCEPTION 'events of kind "%" outlive their object, and obj_fk would not let them', kind
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Leave out obj_fk.';
    END IF;

    label := COALESCE(label, (SELECT format('%s.%s', relname, kind) FROM pg_class WHERE oid = "table"));
    kept_fields := pghistory._checked_fields("table", fields);
    kept_exclude := NULLIF(pghistory._checked_fields("table", exclude), '{}');
    key := pghistory._checked_key("table", obj_key);
    PERFORM pghistory._check_foreign_key("table", key, obj_fk, append_only);

    -- One at a time for a table. The first request of all makes the registry.
    PERFORM pghistory._lock("table");
    INSERT INTO pghistory._request VALUES ('prepare', "table");
    kept := pghistory._normalised_condition("table", kind, condition, path);
    IF level = 'statement' THEN
        PERFORM pghistory._check_statement_level("table", kind, kept.is_row_level);
    END IF;

    target := pghistory._find_event_table(
        "table", label, event_table, kept_fields, kept_exclude, key, obj_fk, context, append_only);
    IF kind IN ('before_truncate', 'history')
       AND NOT has_table_privilege(pghistory._owner(target), "table", 'SELECT')
    THEN
        RAISE EXCEPTION 'role %, who owns the event table, may not read table %', pghistory._owner(target),
                pghistory._table_name("table")
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Recording a TRUNCATE reads the rows that are about to go: grant SELECT on the table.';
    END IF;
    PERFORM pghistory._register_event_table(
        "table", target, pghistory._tracked_fields("table", kept_fields, kept_exclude), key, obj_key IS NOT NULL,
        obj_fk, context, append_only);
    PERFORM pghistory._register_tracker(
        "table", label, kind, kept_fields, kept_exclude, kept, target, level);
    PERFORM pghistory._set_append_only(target, append_only);
    PERFORM pghistory._set_foreign_key(target, "table", key, obj_fk);
    PERFORM pghistory._apply_triggers("table");
    PERFORM pghistory._enable_triggers("table");
    PERFORM pghistory._apply_by_hand("table", target);
    RETURN target;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.track(
    "table" regclass,
    label text DEFAULT NULL,
    kind text DEFAULT 'snapshot',
    fields text[] DEFAULT NULL,
    condition text DEFAULT NULL,
    exclude text[] DEFAULT NULL,
    event_table text DEFAULT NULL,
    obj_key text[] DEFAULT NULL,
    obj_fk text DEFAULT NULL,
    context text DEFAULT 'reference',
    append_only boolean DEFAULT false,
    level text DEFAULT 'auto',
    partition_by text DEFAULT NULL,
    retention interval DEFAULT NULL)
 RETURNS regclass
 LANGUAGE plpgsql
AS $function$
BEGIN
    -- Not pinned, to see the caller's search_path; all that is called from here on is.
    RETURN pghistory._track("table", label, kind, fields, condition, exclude, event_table, obj_key, obj_fk, context,
                            append_only, level, partition_by, retention, pg_catalog.current_setting('search_path'));
END
$function$;
COMMENT ON FUNCTION pghistory.track(
    regclass, text, text, text[], text, text[], text, text[], text, text, boolean, text, text, interval) IS
    'Records what happens to the rows of a table from now on, as events with this label, and returns the event '
    'table. Kinds: snapshot, after_insert, after_insert_or_update, before_update, after_update, before_delete, '
    'before_truncate, history, event. fields or exclude choose the columns (fields => ''{}'' only that something '
    'happened), condition the rows: an SQL boolean over OLD and NEW. event_table names where events go, obj_key '
    'the columns that name the object (by default the primary key; ''{}'' none); obj_fk (cascade, restrict, '
    'set null) makes that a real foreign key. context is reference (events refer to pghistory.context), inline '
    '(they hold it) or none. append_only refuses changes of events. level is auto, row or statement. The same '
    'call again changes nothing; another definition for the same label replaces the tracker.';

CREATE OR REPLACE FUNCTION pghistory.create_event_table(
    "table" regclass,
    name text DEFAULT NULL,
    fields text[] DEFAULT NULL,
    exclude text[] DEFAULT NULL,
    obj_key text[] DEFAULT NULL,
    obj_fk text DEFAULT NULL,
    context text DEFAULT 'reference',
    append_only boolean DEFAULT false)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    kept_fields name[];
    kept_exclude name[];
    key name[];
    parsed record;
BEGIN
    PERFORM pghistory._check_event_table_choices(fields, exclude, obj_fk, context, append_only);
    PERFORM pghistory._check_trackable("table");
    kept_fields := pghistory._checked_fields("table", fields);
    kept_exclude := NULLIF(pghistory._checked_fields("table", exclude), '{}');
    key := pghistory._checked_key("table", obj_key);
    PERFORM pghistory._check_foreign_key("table", key, obj_fk, append_only);
    parsed := pghistory._parsed_event_table(
        COALESCE(name, quote_ident(pghistory._event_table_name("table", kept_fields, kept_exclude))), "table");
    RETURN pghistory._create_event_table(
        "table", parsed.event_schema, parsed.event_name,
        pghistory._tracked_fields("table", kept_fields, kept_exclude), key, obj_fk, context, append_only);
END
$function$;
COMMENT ON FUNCTION pghistory.create_event_table(regclass, text, text[], text[], text[], text, text, boolean) IS
    'Creates an event table for a table and tracks nothing yet: add columns, indexes or constraints of your own, '
    'then call track() with its name as event_table and the same choices.';

-- Removes the events of one label, or the event table once no tracker writes to it.
CREATE OR REPLACE FUNCTION pghistory._drop_events("table" regclass, event_table regclass, label text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    append_only CONSTANT boolean := (SELECT e.append_only FROM pghistory.event_table AS e
                                      WHERE e.event_table = _drop_events.event_table);
BEGIN
    IF NOT EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = _drop_events.event_table) THEN
        INSERT INTO pghistory._request VALUES ('forget event table', "table", event_table);
        EXECUTE format('DROP TABLE %s', relation);
    ELSE
        IF NOT pghistory._is_trusted(event_table)
           AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = event_table AND NOT tgisinternal
                                                AND tgname <> '!pghistory append-only')
        THEN
            RAISE EXCEPTION 'deleting events of % would run the triggers of another role', relation
                USING ERRCODE = 'insufficient_privilege',
                      HINT = format('Let role %s call untrack().', pghistory._owner(event_table));
        END IF;
        PERFORM pghistory._set_append_only(event_table, false);
        EXECUTE format('DELETE FROM %s WHERE pgh_label = $1', relation) USING label;
        PERFORM pghistory._set_append_only(event_table, append_only);
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.untrack(
    "table" regclass, label text DEFAULT NULL, drop_events boolean DEFAULT false)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    this record;
    removed jsonb := '[]';
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_not_null('drop_events', drop_events IS NULL);
    PERFORM pghistory._check_owner("table");
    PERFORM pghistory._lock("table");
    IF pghistory._has_state() THEN
        FOR this IN SELECT t.label, t.event_table FROM pghistory.tracker AS t
                     WHERE t."table" = untrack."table" AND t.label = COALESCE(untrack.label, t.label)
        LOOP
            INSERT INTO pghistory._request
            VALUES ('remove tracker', "table", NULL, jsonb_build_object('label', this.label));
            removed := removed || to_jsonb(this);
        END LOOP;
    END IF;
    IF removed = '[]' AND label IS NOT NULL THEN
        RAISE EXCEPTION 'table % has no tracker "%"', pghistory._table_name("table"), label
            USING ERRCODE = 'undefined_object',
                  HINT = 'See pghistory.trackers() for those it has.';
    END IF;
    IF removed <> '[]' THEN
        PERFORM pghistory._apply_triggers("table");
    END IF;
    FOR this IN SELECT r.event_table::regclass, r.label
                  FROM jsonb_to_recordset(removed) AS r(event_table text, label text)
    LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class WHERE oid = this.event_table);
        PERFORM pghistory._apply_by_hand("table", this.event_table);
        IF drop_events THEN
            PERFORM pghistory._drop_events("table", this.event_table, this.label);
        END IF;
    END LOOP;
    RETURN jsonb_array_length(removed);
END
$function$;
COMMENT ON FUNCTION pghistory.untrack(regclass, text, boolean) IS
    'Removes one tracker of a table, or all of them, and returns how many. '
    'Events stay unless drop_events says otherwise.';

-- Are the triggers of a tracker there, and do they fire?
CREATE OR REPLACE FUNCTION pghistory._tracker_status("table" regclass, label text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN bool_or(a.trigger_name IS NULL) THEN 'missing'
                WHEN bool_or(a.enabled = 'D') THEN 'disabled'
                ELSE 'active' END
      FROM pghistory._operations("table") AS o
           LEFT JOIN pghistory._actual_triggers("table") AS a
                  ON a.trigger_name = pghistory._trigger_name("table", o.event_table, o.operation, o.level)
     WHERE o.label = _tracker_status.label
$function$;

-- The call of track() that would make a tracker again.
CREATE OR REPLACE FUNCTION pghistory._definition("table" regclass, label text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('SELECT pghistory.track(%s)', concat_ws(', ',
               quote_literal(pghistory._table_name(t."table")),
               quote_literal(t.label),
               'kind => ' || quote_literal(NULLIF(t.kind, 'snapshot')),
               'fields => ' || quote_literal(t.fields),
               'condition => ' || quote_literal(t.condition),
               'exclude => ' || quote_literal(t.exclude),
               'event_table => ' || quote_literal(pghistory._table_name(t.event_table)),
               CASE WHEN e.obj_key_given THEN 'obj_key => ' || quote_literal(e.obj_key) END,
               'obj_fk => ' || quote_literal(e.obj_fk),
               'context => ' || quote_literal(NULLIF(e.context, 'reference')),
               CASE WHEN e.append_only THEN 'append_only => true' END,
               'level => ' || quote_literal(NULLIF(t.level, 'auto'))))
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = _definition."table" AND t.label = _definition.label
$function$;

CREATE OR REPLACE FUNCTION pghistory.trackers()
 RETURNS TABLE("table" regclass, label text, kind text, fields text[], exclude text[], condition text,
     event_table regclass, obj_key text[], obj_fk text, context text, append_only boolean, level text,
     partition_by text, retention interval, status text, definition text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT t."table", t.label, t.kind, t.fields::text[], t.exclude::text[], t.condition, t.event_table,
           e.obj_key::text[], e.obj_fk, e.context, e.append_only, t.level, NULL::text, NULL::interval,
           pghistory._tracker_status(t."table", t.label), pghistory._definition(t."table", t.label)
      FROM pghistory.tracker AS t
           JOIN pghistory.event_table AS e USING (event_table)
           JOIN pg_class AS c ON c.oid = t."table"
     ORDER BY pghistory._table_name(t."table"), t.ordinal;
END
$function$;
COMMENT ON FUNCTION pghistory.trackers() IS
    'What is tracked: one row for each tracker, its status (active, disabled, missing) and the track() call that '
    'would make it again.';
