-- First events for rows that were there before they were tracked.

-- The tracker whose label backfilled events get when none is named: one that knows the table at any time, or else the
-- first that knows of inserts, or of anything.
CREATE OR REPLACE FUNCTION pghistory._backfill_label("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT t.label
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = _backfill_label."table"
     ORDER BY EXISTS (SELECT FROM pghistory._history_sources(_backfill_label."table") AS s
                       WHERE s.missing IS NULL AND s.labels ->> 'I' = t.label) DESC,
              e.obj_key <> '{}' DESC,
              t.kind IN ('history', 'snapshot', 'after_insert_or_update', 'after_insert') DESC,
              t.ordinal
     LIMIT 1
$function$;

-- Writes the events of one stretch of a table's storage, or of all of it, and says how many. The rows are locked
-- against being changed, and against being filled by somebody else, before it is seen, in a snapshot of its own,
-- which of them still have no event.
CREATE OR REPLACE FUNCTION pghistory._backfill_pages(
    relation regclass, event_table regclass, label text, event_columns text[], expressions text[], pages int8range)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                                 WHERE e.event_table = _backfill_pages.event_table);
    has_no_event CONSTANT text := format(
        'NOT EXISTS (SELECT FROM %s AS e WHERE %s AND e.pgh_label = %L)', pghistory._table_name(event_table),
        pghistory._same_object_text(event_table, obj_key,
                                    pghistory._qualified('e', pghistory._object_columns(obj_key)),
                                    pghistory._qualified('t', obj_key)),
        label);
    is_foreign CONSTANT boolean := (SELECT relkind = 'f' FROM pg_class WHERE oid = relation);
    these tid[];
    written bigint;
BEGIN
    IF NOT is_foreign THEN
        EXECUTE format('SELECT array_agg(s.ctid) FROM (SELECT t.ctid FROM ONLY %s AS t '
                       'WHERE t.ctid >= $1 AND t.ctid < $2 AND %s FOR NO KEY UPDATE OF t) AS s',
                       pghistory._table_name(relation), has_no_event)
           INTO these
          USING format('(%s,0)', lower(pages))::tid, format('(%s,0)', LEAST(upper(pages), 4294967295))::tid;
    END IF;
    EXECUTE format('%s WHERE %s AND %s',
                   pghistory._insert_text(event_table, event_columns, expressions,
                                          format('FROM ONLY %s AS t', pghistory._table_name(relation)), 0),
                   CASE WHEN is_foreign THEN 'true' ELSE 't.ctid = ANY ($1)' END, has_no_event)
      USING these;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.backfill(
    "table" regclass, label text DEFAULT NULL, pages int8range DEFAULT NULL)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    pages_at_once CONSTANT bigint := 1000;
    tracked regclass;
    tracker record;
    event record;
    this record;
    stretch bigint;
    written bigint := 0;
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_owner("table");
    IF pghistory._has_state() THEN
        label := COALESCE(label, pghistory._backfill_label("table"),
                          pghistory._backfill_label(pghistory._partition_root("table")));
    END IF;
    IF label IS NULL THEN
        RAISE EXCEPTION 'table % is not tracked', pghistory._table_name("table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call pghistory.track() first.';
    END IF;
    tracked := pghistory._table_with_label("table", label);
    SELECT t.event_table, e.obj_key, pghistory._tracked_fields(tracked, t.fields, t.exclude) AS fields INTO tracker
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = tracked AND t.label = backfill.label;
    IF tracker.obj_key = '{}' THEN
        RAISE EXCEPTION 'events of table % do not name their object', pghistory._table_name(tracked)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Which rows have an event cannot be told: '
                         'give the table a primary key, or track() an obj_key.';
    ELSIF pages IS NOT NULL AND (SELECT relkind <> 'r' FROM pg_class WHERE oid = "table") THEN
        RAISE EXCEPTION 'table % has no pages of its own', pghistory._table_name("table")
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Name one of its partitions, or leave out pages.';
    END IF;
    IF isempty(pages) THEN
        RETURN 0;
    END IF;
    -- These are events by hand: their context is written down with a permit.
    INSERT INTO pghistory._request VALUES ('permit event', tracked, NULL, jsonb_build_object('label', label));
    PERFORM pghistory._use_permit(pghistory._table_name(tracker.event_table), label);
    event := pghistory._event_text(tracker.event_table, quote_literal(label), 'by hand', 't', 'S', tracker.fields,
                                   'statement');
    FOR this IN
        SELECT p.relation, CASE WHEN c.relkind = 'f' THEN 1 ELSE pg_relation_size(p.relation)
                                                                / current_setting('block_size')::bigint END AS size
          FROM pghistory._partition_tree("table") AS p JOIN pg_class AS c ON c.oid = p.relation
         WHERE p.is_leaf ORDER BY p.relation::oid
    LOOP
        FOR stretch IN SELECT generate_series(COALESCE(lower(pages), 0),
                                              LEAST(upper(pages), this.size) - 1,
                                              CASE WHEN this.size = 1 THEN 1 ELSE pages_at_once END)
        LOOP
            written := written + pghistory._backfill_pages(
                this.relation, tracker.event_table, label, event.columns, event.expressions,
                int8range(stretch, LEAST(stretch + pages_at_once, upper(pages))));
        END LOOP;
    END LOOP;
    RETURN written;
END
$function$;
COMMENT ON FUNCTION pghistory.backfill(regclass, text, int8range) IS
    'Writes an event (operation S) for each row of a tracked table that has none with that label yet, and returns '
    'how many; by default with the label of the tracker that knows the table at any time. It can be called again, '
    'and while others write. With pages, only for rows stored in these pages of the table, or of a partition of it: '
    'for batches that commit.';
