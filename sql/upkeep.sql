-- Upkeep: finding what is wrong, and repairing it.

-- The tracked tables that the caller may look after: one, if it is named, or all.
CREATE OR REPLACE FUNCTION pghistory._own_tracked_tables("table" regclass)
 RETURNS SETOF regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF "table" IS NOT NULL THEN
        PERFORM pghistory._check_owner("table");
    END IF;
    IF pghistory._has_state() THEN
        RETURN QUERY
        SELECT DISTINCT e."table"
          FROM pghistory.event_table AS e
               JOIN pg_class AS c ON c.oid = e."table"
               LEFT JOIN pg_class AS ec ON ec.oid = e.event_table
         WHERE e."table" = COALESCE(_own_tracked_tables."table", e."table")
           AND pg_has_role(c.relowner, 'USAGE')
           AND (ec.oid IS NULL OR pg_has_role(ec.relowner, 'USAGE'));
    END IF;
END
$function$;

-- Brings one tracked table in order.
CREATE OR REPLACE FUNCTION pghistory._repair_table("table" regclass, enable boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    guarded regclass;
BEGIN
    INSERT INTO pghistory._request VALUES ('prepare', "table");
    PERFORM pghistory._lock("table");
    PERFORM pghistory._follow_table("table");
    IF enable THEN
        PERFORM pghistory._enable_triggers("table");
        PERFORM pghistory._follow_foreign_key(_repair_table."table", e.event_table)
           FROM pghistory.event_table AS e WHERE e."table" = _repair_table."table" AND e.obj_fk IS NOT NULL;
        FOR guarded IN SELECT e.event_table FROM pghistory.event_table AS e
                        WHERE e."table" = _repair_table."table" AND e.append_only
        LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', pghistory._table_name(guarded),
                           '!pghistory append-only');
        END LOOP;
    END IF;
END
$function$;

-- The same for all that the caller may; one that cannot be brought in order does not keep the others from it.
CREATE OR REPLACE FUNCTION pghistory._repair_tables(enable boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    reason text;
BEGIN
    IF pghistory._has_state() THEN
        INSERT INTO pghistory._request VALUES ('forget dropped tables');
    END IF;
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables(NULL) LOOP
        BEGIN
            PERFORM pghistory._repair_table(tracked, enable);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'the history of table % could not be brought in order: %', tracked, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'See pghistory.verify().';
        END;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.sync("table" regclass DEFAULT NULL)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    tracked regclass;
BEGIN
    IF "table" IS NULL THEN
        PERFORM pghistory._repair_tables(false);
    END IF;
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables("table") WHERE "table" IS NOT NULL LOOP
        PERFORM pghistory._repair_table(tracked, false);
    END LOOP;
    IF "table" IS NOT NULL AND tracked IS NULL AND pghistory._is_tracked("table") THEN
        RAISE EXCEPTION 'must be owner of the event tables of %', pghistory._table_name("table")
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Let their owner call sync().';
    END IF;
END
$function$;
COMMENT ON FUNCTION pghistory.sync(regclass) IS
    'Makes event tables and triggers follow their tables after DDL, where event triggers may not do it: one table, '
    'or all that the caller owns.';

CREATE OR REPLACE FUNCTION pghistory.refresh()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
BEGIN
    -- What a restore left to another role becomes the extension's owner's first.
    IF has_function_privilege('pghistory._ensure_state()', 'EXECUTE')
       AND EXISTS (SELECT FROM pghistory._state_relations())
    THEN
        PERFORM pghistory._ensure_state();
    END IF;
    PERFORM pghistory._repair_tables(true);
END
$function$;
COMMENT ON FUNCTION pghistory.refresh() IS
    'Repairs what verify() finds, on all tables that the caller owns; '
    'call it after ALTER EXTENSION pghistory UPDATE.';

-- What an event table lacks to hold what its trackers write: the columns of ours, and those of the table, which may
-- have other names there.
CREATE OR REPLACE FUNCTION pghistory._event_table_problems("table" regclass, event_table regclass)
 RETURNS SETOF text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH tracked AS (
        SELECT DISTINCT field
          FROM pghistory.tracker AS t
               CROSS JOIN LATERAL unnest(pghistory._tracked_fields(t."table", t.fields, t.exclude)) AS field
         WHERE t.event_table = _event_table_problems.event_table AND t."table" = _event_table_problems."table"
    ), needed AS (
        SELECT c.name, c.type_id, c.type_modifier, c.collation_id, c.required
          FROM pghistory.event_table AS e
               CROSS JOIN LATERAL pghistory._event_columns(e."table", '{}', e.obj_key, e.context) AS c
         WHERE e.event_table = _event_table_problems.event_table
        UNION ALL
        SELECT COALESCE(m.column_name, c.name), t.type_id, t.type_modifier, c.collation_id, true
          FROM tracked AS r
               JOIN pghistory._columns(_event_table_problems."table") AS c ON c.name = r.field
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
               LEFT JOIN pghistory.event_column AS m
                      ON m.event_table = _event_table_problems.event_table AND m.table_column_name = c.name
         WHERE m.column_name IS NOT NULL OR NOT pghistory._is_reserved_name(c.name)
    )
    SELECT CASE WHEN a.attname IS NULL THEN format('column "%s" is missing', n.name)
                ELSE format('column "%s" is %s, not %s', n.name,
                            pghistory._type_text(a.atttypid, a.atttypmod, a.attcollation),
                            pghistory._type_text(n.type_id, n.type_modifier, n.collation_id)) END
      FROM needed AS n
           LEFT JOIN pg_attribute AS a
                  ON a.attrelid = _event_table_problems.event_table AND a.attname = n.name AND NOT a.attisdropped
     WHERE (n.required OR a.attname IS NOT NULL)
       AND NOT pghistory._holds(_event_table_problems.event_table, n.name, n.type_id, n.type_modifier,
                                n.collation_id)
    UNION ALL
    SELECT format('column "%s" should be called "%s"', m.column_name, m.table_column_name)
      FROM pghistory.event_column AS m
     WHERE m.event_table = _event_table_problems.event_table AND m.column_name <> m.table_column_name
       AND NOT pghistory._is_reserved_name(m.table_column_name);
END
$function$;

-- What is wrong with the generated function of a trigger or of create_event(), or null.
CREATE OR REPLACE FUNCTION pghistory._function_problem(
    function text, arguments text, settings text[], body text, event_table regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN p.oid IS NULL THEN 'function is missing'
           WHEN NOT p.prosecdef OR p.proconfig IS DISTINCT FROM settings
           THEN 'function is not SECURITY DEFINER with a pinned search_path'
           WHEN p.proowner::regrole <> pghistory._owner(event_table)
           THEN 'function does not belong to the owner of the event table'
           WHEN p.prosrc <> body THEN 'function is not what this version of pghistory writes'
           WHEN arguments = '' AND pghistory._is_open_to_all(p.oid)
           THEN 'function can be attached to tables by anybody'
           END
      FROM (SELECT to_regprocedure(format('%s(%s)', function, arguments)) AS oid) AS f
           LEFT JOIN pg_proc AS p ON p.oid = f.oid
$function$;

-- What is wrong with the tracking of one table.
CREATE OR REPLACE FUNCTION pghistory._table_problems(
    "table" regclass, OUT object text, OUT problem text, OUT hint text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    repair CONSTANT text := 'Call pghistory.refresh().';
    relation CONSTANT text := pghistory._table_name("table");
    this record;
BEGIN
    FOR this IN
        SELECT e.*, ec.oid IS NOT NULL AS is_there
          FROM pghistory.event_table AS e LEFT JOIN pg_class AS ec ON ec.oid = e.event_table
         WHERE e."table" = _table_problems."table"
           AND EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = e.event_table)
         ORDER BY e.event_table::text
    LOOP
        hint := repair;
        IF NOT this.is_there THEN
            object := format('event table %s', this.event_table);
            problem := 'event table is missing';
            RETURN NEXT;
            RETURN;
        END IF;
        object := format('event table %s', pghistory._table_name(this.event_table));
        FOR problem IN SELECT p FROM pghistory._event_table_problems("table", this.event_table) AS p LOOP
            RETURN NEXT;
        END LOOP;
        IF this.append_only AND NOT EXISTS (
               SELECT FROM pg_trigger AS t
                WHERE t.tgrelid = this.event_table AND t.tgname = '!pghistory append-only'
                  AND t.tgenabled IN ('A', 'O'))
        THEN
            problem := 'event table is not guarded as append-only';
            RETURN NEXT;
        END IF;
        IF this.obj_fk IS NOT NULL AND NOT EXISTS (
               SELECT FROM pg_constraint WHERE conrelid = this.event_table AND conname = 'pghistory_obj_fk')
        THEN
            problem := 'foreign key to the object is missing';
            RETURN NEXT;
        END IF;
        problem := pghistory._unwritable(this.event_table, ARRAY(
            SELECT c.name FROM pghistory._event_columns("table", '{}', this.obj_key, this.context) AS c
            UNION ALL
            SELECT m.column_name FROM pghistory.event_column AS m WHERE m.event_table = this.event_table));
        IF problem IS NOT NULL THEN
            hint := CASE WHEN problem LIKE '%must not be null%'
                         THEN 'Give the column a default, or drop its NOT NULL.'
                         WHEN problem LIKE '%is generated' THEN 'Drop its expression or its identity.'
                         ELSE repair END;
            RETURN NEXT;
            hint := repair;
        END IF;
        object := format('function %s(text, text)', this.by_hand);
        problem := pghistory._function_problem(
            this.by_hand, 'text, text', pghistory._function_settings('by hand'),
            pghistory._by_hand_body("table", this.event_table), this.event_table);
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    FOR this IN SELECT t.label FROM pghistory.tracker AS t
                 WHERE t."table" = _table_problems."table" AND t.condition_is_void ORDER BY t.ordinal
    LOOP
        object := format('tracker %L on %s', this.label, relation);
        problem := 'condition names what is gone or of another type: events are written without it';
        hint := 'Call pghistory.track() for it again.';
        RETURN NEXT;
    END LOOP;

    FOR this IN SELECT c.name FROM pghistory._columns("table") AS c
                 WHERE pghistory._is_reserved_name(c.name)
                   AND NOT EXISTS (SELECT FROM pghistory.event_column AS m
                                        JOIN pghistory.event_table AS e USING (event_table)
                                    WHERE e."table" = _table_problems."table" AND m.table_column_name = c.name)
    LOOP
        object := format('column %I of %s', this.name, relation);
        problem := 'column has a name that event tables need, and is not recorded';
        hint := 'Rename the column.';
        RETURN NEXT;
    END LOOP;

    IF (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = "table")
       AND EXISTS (SELECT FROM pghistory._operations("table") AS o WHERE o.operation = 'truncate')
    THEN
        object := format('table %s', relation);
        problem := 'rows that its policies hide from the event table''s owner are not recorded by TRUNCATE';
        hint := 'ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or give that role a policy for all rows.';
        RETURN NEXT;
    END IF;

    FOR this IN
        SELECT DISTINCT pghistory._owner(o.event_table) AS owner
          FROM pghistory._operations("table") AS o
         WHERE o.operation = 'truncate'
           AND NOT has_table_privilege(pghistory._owner(o.event_table), "table", 'SELECT')
    LOOP
        object := format('table %s', relation);
        problem := format('role %s, who owns the event table, may not read what TRUNCATE removes', this.owner);
        hint := 'Grant SELECT on the table to that role.';
        RETURN NEXT;
    END LOOP;

    hint := repair;
    FOR object IN SELECT format('trigger %I on %s', d.trigger_name, pghistory._table_name(d.relation))
                    FROM pghistory._disabled_triggers("table") AS d
    LOOP
        problem := 'trigger is disabled';
        RETURN NEXT;
    END LOOP;
    FOR object IN
        SELECT format('trigger %I on %s', a.trigger_name, pghistory._table_name(a.relation))
          FROM pghistory._actual_triggers("table") AS a
         WHERE a.relation = _table_problems."table"
           AND NOT EXISTS (SELECT FROM (SELECT DISTINCT t."table"
                                          FROM pghistory._partition_tree(
                                                   pghistory._partition_root(_table_problems."table")) AS p
                                               JOIN pghistory.tracker AS t ON t."table" = p.relation) AS f
                                       CROSS JOIN LATERAL pghistory._desired_triggers(f."table") AS d
                            WHERE d.relation = a.relation AND d.trigger_name = a.trigger_name)
    LOOP
        problem := 'trigger is one too many';
        RETURN NEXT;
    END LOOP;
    FOR this IN
        SELECT d.*, a.trigger_name IS NOT NULL AS is_there, a.enabled, a.definition AS actual_definition
          FROM pghistory._desired_triggers("table") AS d
               LEFT JOIN pghistory._actual_triggers("table") AS a
                      ON a.relation = d.relation AND a.trigger_name = d.trigger_name
    LOOP
        object := format('trigger %I on %s', this.trigger_name, pghistory._table_name(this.relation));
        problem := CASE WHEN NOT this.is_there THEN 'trigger is missing'
                        WHEN this.actual_definition <> this.definition
                        THEN 'trigger is not what this version of pghistory makes'
                   END;
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
        object := format('function %s()', this.function);
        problem := CASE WHEN this.body IS NOT NULL
                        THEN pghistory._function_problem(
                            this.function, '', pghistory._function_settings(this.operation), this.body,
                            this.event_table) END;
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.verify()
 RETURNS TABLE("table" regclass, object text, problem text, hint text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    this record;
BEGIN
    FOR object IN SELECT format('%s', s.relation) FROM pghistory._state_relations() AS s WHERE NOT s.is_trusted LOOP
        problem := 'it belongs to another role than the extension';
        hint := 'Let a superuser call pghistory.refresh().';
        RETURN NEXT;
    END LOOP;
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    FOR "table" IN
        SELECT t."table" FROM pghistory.tracker AS t JOIN pg_class AS c ON c.oid = t."table"
         GROUP BY t."table" ORDER BY t."table"::text
    LOOP
        BEGIN
            FOR this IN SELECT * FROM pghistory._table_problems("table") LOOP
                object := this.object;
                problem := this.problem;
                hint := this.hint;
                RETURN NEXT;
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            object := format('table %s', pghistory._table_name("table"));
            problem := format('its tracking cannot be verified: %s', SQLERRM);
            hint := 'Call pghistory.refresh(), or track() for it again.';
            RETURN NEXT;
        END;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION pghistory.verify() IS
    'One row for each thing that is wrong with tracking, and what to do about it; no rows when all is well.';
