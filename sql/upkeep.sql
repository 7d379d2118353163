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

CREATE OR REPLACE FUNCTION pghistory.sync("table" regclass DEFAULT NULL)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    tracked regclass;
BEGIN
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables("table") LOOP
        PERFORM pghistory._lock(tracked);
        PERFORM pghistory._follow_table(tracked);
    END LOOP;
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
DECLARE
    tracked regclass;
    this record;
BEGIN
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables(NULL) LOOP
        INSERT INTO pghistory._request VALUES ('prepare', tracked);
        PERFORM pghistory._lock(tracked);
        PERFORM pghistory._follow_table(tracked);
        PERFORM pghistory._enable_triggers(tracked);
        FOR this IN SELECT e.event_table, e.append_only
                      FROM pghistory.event_table AS e
                     WHERE e."table" = tracked
        LOOP
            PERFORM pghistory._set_append_only(this.event_table, this.append_only);
        END LOOP;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION pghistory.refresh() IS
    'Repairs what verify() finds, on all tables that the caller owns; '
    'call it after ALTER EXTENSION pghistory UPDATE.';

-- What an event table lacks to hold what its trackers write.
CREATE OR REPLACE FUNCTION pghistory._event_table_problems("table" regclass, event_table regclass)
 RETURNS SETOF text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT DISTINCT CASE WHEN a.attname IS NULL THEN format('column "%s" is missing', c.name)
                         ELSE format('column "%s" is %s, not %s', c.name,
                                     pghistory._type_text(a.atttypid, a.atttypmod, a.attcollation),
                                     pghistory._type_text(c.type_id, c.type_modifier, c.collation_id)) END
      FROM pghistory.tracker AS t
           JOIN pghistory.event_table AS e USING (event_table)
           CROSS JOIN LATERAL pghistory._event_columns(
               t."table", pghistory._tracked_fields(t."table", t.fields, t.exclude), e.obj_key, e.context) AS c
           LEFT JOIN pg_attribute AS a ON a.attrelid = e.event_table AND a.attname = c.name AND NOT a.attisdropped
     WHERE e.event_table = _event_table_problems.event_table AND t."table" = _event_table_problems."table"
       AND (c.required OR a.attname IS NOT NULL)
       AND NOT pghistory._holds(e.event_table, c.name, c.type_id, c.type_modifier, c.collation_id)
$function$;

-- What is wrong with the generated function of a trigger or of create_event(), or null.
CREATE OR REPLACE FUNCTION pghistory._function_problem(
    function text, arguments text, body text, event_table regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN p.oid IS NULL THEN 'function is missing'
           WHEN NOT p.prosecdef OR p.proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp']
           THEN 'function is not SECURITY DEFINER with a pinned search_path'
           WHEN p.proowner::regrole <> pghistory._owner(event_table)
           THEN 'function does not belong to the owner of the event table'
           WHEN p.prosrc <> body THEN 'function is not what this version of pghistory writes'
           END
      FROM (SELECT to_regprocedure(format('%s(%s)', function, arguments)) AS oid) AS f
           LEFT JOIN pg_proc AS p ON p.oid = f.oid
$function$;

CREATE OR REPLACE FUNCTION pghistory.verify()
 RETURNS TABLE("table" regclass, object text, problem text, hint text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    repair CONSTANT text := 'Call pghistory.refresh().';
    this record;
    desired record;
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;

    hint := repair;
    FOR this IN SELECT e.*, ec.oid IS NOT NULL AS is_there
                  FROM pghistory.event_table AS e
                       JOIN pg_class AS c ON c.oid = e."table"
                       LEFT JOIN pg_class AS ec ON ec.oid = e.event_table
                 WHERE EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = e.event_table)
                 ORDER BY e.event_table::text
    LOOP
        "table" := this."table";
        IF NOT this.is_there THEN
            object := format('event table %s', this.event_table);
            problem := 'event table is missing';
            RETURN NEXT;
            CONTINUE;
        END IF;
        object := format('event table %s', pghistory._table_name(this.event_table));
        FOR problem IN SELECT p.problem
                         FROM pghistory._event_table_problems("table", this.event_table) AS p(problem)
        LOOP
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
        object := format('function %s(text, text)', this.by_hand);
        problem := pghistory._function_problem(this.by_hand, 'text, text',
                                               pghistory._by_hand_body("table", this.event_table),
                                               this.event_table);
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    FOR this IN SELECT t."table", t.label FROM pghistory.tracker AS t JOIN pg_class AS c ON c.oid = t."table"
                 WHERE t.condition_is_void ORDER BY t.ordinal
    LOOP
        "table" := this."table";
        object := format('tracker %L on %s', this.label, pghistory._table_name("table"));
        problem := 'condition names what is gone or of another type: events are written without it';
        hint := 'Call pghistory.track() for it again.';
        RETURN NEXT;
    END LOOP;

    hint := repair;
    FOR "table" IN SELECT DISTINCT t."table"
                     FROM pghistory.tracker AS t JOIN pg_class AS c ON c.oid = t."table"
    LOOP
        FOR desired IN
            SELECT d.*, a.trigger_name IS NOT NULL AS is_there, a.enabled, a.definition AS actual_definition
              FROM pghistory._desired_triggers("table") AS d
                   LEFT JOIN pghistory._actual_triggers("table") AS a
                          ON a.relation = d.relation AND a.trigger_name = d.trigger_name
        LOOP
            object := format('trigger %I on %s', desired.trigger_name, pghistory._table_name(desired.relation));
            problem := CASE WHEN NOT desired.is_there THEN 'trigger is missing'
                            WHEN desired.actual_definition <> desired.definition
                            THEN 'trigger is not what this version of pghistory makes'
                            WHEN desired.enabled IN ('D', 'R') THEN 'trigger is disabled' END;
            IF problem IS NOT NULL THEN
                RETURN NEXT;
            END IF;
            object := format('function %s()', desired.function);
            problem := CASE WHEN desired.body IS NOT NULL
                            THEN pghistory._function_problem(
                                desired.function, '', desired.body, desired.event_table) END;
            IF problem IS NOT NULL THEN
                RETURN NEXT;
            END IF;
        END LOOP;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION pghistory.verify() IS
    'One row for each thing that is wrong with tracking, and what to do about it; no rows when all is well.';
