-- What taking back a context or a transaction would do.

-- The tables whose history is kept, and the source that what happened to them is taken back from: before-images need
-- no look at the event before.
CREATE OR REPLACE FUNCTION pghistory._undoable_tables(
    OUT "table" regclass,
    OUT event_table regclass,
    OUT image text,
    OUT labels jsonb,
    OUT since_event bigint)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT DISTINCT ON (t."table") t."table", s.event_table, s.image, s.labels, s.since_event
      FROM (SELECT DISTINCT r."table" FROM pghistory.tracker AS r JOIN pg_class AS c ON c.oid = r."table") AS t
           CROSS JOIN LATERAL pghistory._history_sources(t."table") AS s
     WHERE s.missing IS NULL AND has_table_privilege(s.event_table, 'SELECT')
     ORDER BY t."table", s.since, s.image DESC
$function$;

-- What is taken back, as an SQL condition over an event: what happened in a context, or in a transaction of this
-- server or of the one before a restore.
CREATE OR REPLACE FUNCTION pghistory._undo_condition(event_table regclass, context_id uuid, xid xid8, alias text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN xid IS NOT NULL THEN format('%s.pgh_xid = %L::xid8', alias, xid)
                WHEN e.context = 'none' THEN 'false'
                ELSE format('COALESCE(%s.pgh_context_id = %L::uuid, false)', alias, context_id) END
      FROM pghistory.event_table AS e
     WHERE e.event_table = _undo_condition.event_table
$function$;

-- What taking back event e changes, as an SQL expression: {"field": [now, then]}. What an update is taken back to is
-- event p, or event e itself, which then only the row of today (t) can be compared with.
CREATE OR REPLACE FUNCTION pghistory._undo_changes_text(event_table regclass, image text, texts jsonb)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format(
        'CASE e.action WHEN ''UPDATE'' THEN '
        '(SELECT jsonb_object_agg(c.field, jsonb_build_array(c.now, c."then")) FROM %s CROSS JOIN LATERAL '
        '(VALUES %s) AS c(field, differs, now, "then") WHERE c.differs) '
        'ELSE (SELECT jsonb_object_agg(d.key, CASE e.action WHEN ''INSERT'' THEN jsonb_build_array(NULL, d.value) '
        'ELSE jsonb_build_array(d.value, NULL) END) FROM jsonb_each(%s) AS d(key, value)) END',
        CASE image WHEN 'after' THEN format('(SELECT p.* FROM %s AS p WHERE p.pgh_id = e.previous_id OFFSET 0) AS p',
                                            pghistory._table_name(_undo_changes_text.event_table))
                   ELSE format('(SELECT t.* FROM %s AS t WHERE %s) AS t', texts ->> 'rows', texts ->> 't is e') END,
        string_agg(format('(%L, record_image_ne(ROW(%s), ROW(%s)), %s, %s)', m.table_column_name, v.now, v.back,
                          pghistory._json_text(a.atttypid, v.now), pghistory._json_text(a.atttypid, v.back)),
                   ', ' ORDER BY m.table_column_number),
        pghistory._data_text(_undo_changes_text.event_table, 'e'))
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name AND NOT a.attisdropped
           CROSS JOIN LATERAL (
               SELECT CASE image WHEN 'after' THEN format('e.%I', m.column_name)
                                 ELSE format('t.%I::%s', m.table_column_name, format_type(a.atttypid, a.atttypmod)) END,
                      CASE image WHEN 'after' THEN pghistory._previous_value_text(
                                          m.event_table, m.column_name, m.added_after, m.missing_value, 'p', 'e')
                                 ELSE format('e.%I', m.column_name) END) AS v(now, back)
     WHERE m.event_table = _undo_changes_text.event_table
$function$;

-- Is there anything to take back? Where not, nothing is asked of the caller's rights.
CREATE OR REPLACE FUNCTION pghistory._is_concerned(texts jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    is_concerned boolean;
BEGIN
    EXECUTE pghistory._rendered('SELECT EXISTS (SELECT FROM {events} AS e WHERE {wanted} AND {recorded})', texts)
       INTO is_concerned;
    RETURN is_concerned;
END
$function$;

-- The key that the object had after an event, as SQL expressions over it.
CREATE OR REPLACE FUNCTION pghistory._key_after_text(event_table regclass, obj_key name[], image text, alias text)
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN image = 'before' AND pghistory._has_moves(event_table, obj_key) THEN
        ARRAY(SELECT format('CASE WHEN %1$s.pgh_operation OPERATOR(pg_catalog.=) ''B'' '
                            'THEN COALESCE(%1$s.%2$I, %1$s.%3$I) ELSE %1$s.%3$I END',
                            alias, k.other, k.held)
                FROM unnest(pghistory._other_key_columns(obj_key), pghistory._object_columns(obj_key)) WITH ORDINALITY
                         AS k(other, held, position)
               ORDER BY k.position)
        ELSE pghistory._qualified(alias, pghistory._object_columns(obj_key)) END
$function$;

-- The texts that the statements of an undo are made of.
CREATE OR REPLACE FUNCTION pghistory._undo_texts("table" regclass, source record, context_id uuid, xid xid8)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    event_table CONSTANT regclass := source.event_table;
    registered record;
    held name[];
    others name[];
    has_moves boolean;
    key_after text[];
    last_key text[];
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = source.event_table;
    held := pghistory._object_columns(registered.obj_key);
    others := pghistory._other_key_columns(registered.obj_key);
    has_moves := pghistory._has_moves(event_table, registered.obj_key);
    key_after := pghistory._key_after_text(event_table, registered.obj_key, source.image, 'e');
    last_key := pghistory._key_after_text(event_table, registered.obj_key, source.image, 'h');
    RETURN jsonb_build_object(
        'events', pghistory._table_name(event_table),
        'rows', pghistory._rows_text("table"),
        'wanted', pghistory._undo_condition(event_table, context_id, xid, 'e'),
        'wanted n', pghistory._undo_condition(event_table, context_id, xid, 'n'),
        'recorded', pghistory._recorded_text(source, 'e'),
        'recorded n', pghistory._recorded_text(source, 'n'),
        'recorded h', pghistory._recorded_text(source, 'h'),
        'is', 'OPERATOR(pg_catalog.=)',
        'n is e', pghistory._same_object_text(event_table, registered.obj_key, pghistory._qualified('n', held),
                                              key_after),
        -- another row may have the key of an object that had left it only while the key may be taken twice
        'may be doubled', has_moves AND EXISTS (SELECT FROM pg_index AS i
                                                 WHERE i.indrelid = "table" AND i.indisunique AND NOT i.indimmediate),
        'left', CASE WHEN has_moves AND source.image = 'after' THEN pghistory._rendered(
            'LEFT JOIN (SELECT e.pgh_id, min(n.pgh_id) AS left_id FROM {events} AS e JOIN {events} AS n '
            'ON {n left e} AND n.pgh_id > e.pgh_id WHERE {wanted} AND {recorded} AND {recorded n} GROUP BY e.pgh_id) '
            'AS l ON l.pgh_id = e.pgh_id',
            jsonb_build_object(
                'events', pghistory._table_name(event_table),
                'n left e', pghistory._same_object_text(event_table, registered.obj_key,
                                                        pghistory._qualified('n', others), key_after),
                'wanted', pghistory._undo_condition(event_table, context_id, xid, 'e'),
                'recorded', pghistory._recorded_text(source, 'e'),
                'recorded n', pghistory._recorded_text(source, 'n')))
            ELSE 'CROSS JOIN (SELECT NULL::bigint AS left_id) AS l' END,
        'r is h', pghistory._same_object_text(event_table, registered.obj_key,
                                              pghistory._qualified('r', registered.obj_key),
                                              last_key),
        't is h', pghistory._same_object_text(event_table, registered.obj_key,
                                              pghistory._qualified('t', registered.obj_key),
                                              last_key),
        'h is e', pghistory._same_object_text(event_table, registered.obj_key,
                                              last_key,
                                              key_after),
        't is e', pghistory._same_object_text(event_table, registered.obj_key,
                                              pghistory._qualified('t', registered.obj_key), key_after),
        't was e', pghistory._same_object_text(event_table, registered.obj_key,
                                               pghistory._qualified('t', registered.obj_key),
                                               pghistory._qualified('e', held)),
        't was p', pghistory._same_object_text(event_table, registered.obj_key,
                                               pghistory._qualified('t', registered.obj_key),
                                               pghistory._qualified('p', held)),
        'row key', array_to_string(pghistory._qualified('t', registered.obj_key), ', '),
        'object', pghistory._key_text(event_table, held, registered.obj_key, 'e'),
        'previous', CASE source.image WHEN 'before' THEN 'e.pgh_id' ELSE format(
            'CASE WHEN e.pgh_operation = ''U'' THEN COALESCE(%s, (SELECT min(s.pgh_id) FROM %s AS s '
            'WHERE %s AND %s AND s.pgh_id < e.pgh_id)) ELSE e.pgh_id END',
            pghistory._previous_event_text(event_table, registered.obj_key, pghistory._recorded_text(source, 'p')),
            pghistory._table_name(event_table), pghistory._snapshot_text(source, 's'),
            pghistory._same_object_text(event_table, registered.obj_key, pghistory._qualified('s', held),
                                        pghistory._key_before_text(event_table, registered.obj_key))) END);
END
$function$;

-- The steps that take back what happened to one table, the last change first: what to do, and what stands in the way.
-- An update is taken back to what event `previous_id` says.
CREATE OR REPLACE FUNCTION pghistory._undo_steps(
    "table" regclass,
    source record,
    texts jsonb,
    OUT event_id bigint,
    OUT previous_id bigint,
    OUT next_id bigint,
    OUT action text,
    OUT obj text,
    OUT changes jsonb,
    OUT conflict text,
    OUT is_possible boolean,
    OUT column_count bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_bitmapscan TO 'off'  -- reads all later events of a row to find the next
 SET enable_nestloop TO 'off'  -- without statistics it would be taken for thousands of rows
 SET jit TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
BEGIN
    RETURN QUERY EXECUTE pghistory._rendered($sql$
        SELECT s.pgh_id, s.previous_id, s.next_id, s.action, s.object, s.changes,
               CASE WHEN NOT s.is_known THEN 'what it was before is not known'
                    WHEN s.next_id IS NOT NULL THEN
                        (SELECT format('changed since by event %s:%s (%s, %s)', $2, n.pgh_id, n.pgh_label,
                                       n.pgh_created_at)
                           FROM {events} AS n WHERE n.pgh_id = s.next_id AND NOT {wanted n})
                    WHEN s.is_there <> (s.action <> 'INSERT') THEN
                        CASE WHEN s.is_there THEN 'it is there again' ELSE 'it is not there any more' END
               END,
               s.is_known,
               (SELECT count(*) FROM pghistory.event_column AS m
                 WHERE m.event_table = $1 AND COALESCE(m.added_after, -1) < s.pgh_id)
          FROM (
            SELECT e.pgh_id, e.action, e.object, e.previous_id, e.next_id, {changes} AS changes,
                   e.previous_id IS NOT NULL AND NOT EXISTS (
                       SELECT FROM pghistory.event_column AS m
                                   CROSS JOIN jsonb_to_recordset(m.rewrites) AS r(after bigint)
                        WHERE m.event_table = $1 AND r.after >= e.previous_id AND r.after < e.pgh_id)
                   AND NOT ({may be doubled} AND e.next_id IS NOT NULL AND e.action = 'UPDATE'
                            AND EXISTS (SELECT FROM {rows} AS t WHERE {t is e})
                            AND NOT EXISTS (SELECT FROM {events} AS h
                                             WHERE {h is e} AND {recorded h} AND h.pgh_id > e.next_id))
                       AS is_known,
                   e.next_id IS NULL AND EXISTS (SELECT FROM {rows} AS t WHERE {t is e}) AS is_there
              FROM (
                SELECT e.*, {object} AS object, {previous} AS previous_id,
                       CASE e.pgh_operation WHEN 'I' THEN 'DELETE' WHEN 'D' THEN 'INSERT' WHEN 'T' THEN 'INSERT'
                                            ELSE 'UPDATE' END AS action,
                       LEAST((SELECT n.pgh_id FROM {events} AS n
                               WHERE {recorded n} AND n.pgh_id > e.pgh_id AND {n is e} ORDER BY n.pgh_id LIMIT 1),
                             l.left_id) AS next_id
                  FROM {events} AS e {left}
                 WHERE {wanted} AND {recorded}) AS e) AS s
         ORDER BY s.pgh_id DESC$sql$, texts)
      USING source.event_table, pghistory._table_name(source.event_table);
END
$function$;

-- The tables below a table: those that its foreign keys point at, and so on. What has more of them is emptied first.
CREATE OR REPLACE FUNCTION pghistory._depth("table" regclass)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH RECURSIVE below AS (
        SELECT confrelid FROM pg_constraint WHERE conrelid = "table" AND contype = 'f' AND confrelid <> conrelid
        UNION
        SELECT c.confrelid FROM below AS b JOIN pg_constraint AS c ON c.conrelid = b.confrelid AND c.contype = 'f'
    )
    SELECT count(*) FROM below
$function$;

-- The whole plan, with its changes where they are asked for.
CREATE OR REPLACE FUNCTION pghistory._undo_plan(
    context_id uuid,
    xid xid8,
    with_changes boolean,
    OUT "table" regclass,
    OUT event_table regclass,
    OUT image text,
    OUT event_id bigint,
    OUT previous_id bigint,
    OUT next_id bigint,
    OUT action text,
    OUT obj text,
    OUT changes jsonb,
    OUT conflict text,
    OUT is_possible boolean,
    OUT column_count bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    source record;
    texts jsonb;
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    FOR source IN SELECT * FROM pghistory._undoable_tables() AS u
                   ORDER BY pghistory._depth(u."table") DESC, u."table"::oid
    LOOP
        texts := pghistory._undo_texts(source."table", source, context_id, xid);
        CONTINUE WHEN NOT pghistory._is_concerned(texts);
        texts := texts || jsonb_build_object('changes', CASE WHEN with_changes
            THEN pghistory._undo_changes_text(source.event_table, source.image, texts) ELSE 'NULL::jsonb' END);
        RETURN QUERY SELECT source."table", source.event_table, source.image, s.event_id, s.previous_id, s.next_id,
                            s.action, s.obj, s.changes, s.conflict, s.is_possible, s.column_count
                       FROM pghistory._undo_steps(source."table", source, texts) AS s;
    END LOOP;
END
$function$;

-- The plan as people see it.
CREATE OR REPLACE FUNCTION pghistory._shown_plan(context_id uuid, xid xid8)
 RETURNS TABLE(step bigint, "table" regclass, obj text, action text, event text, changes jsonb, conflict text)
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT p.step, p."table", p.obj, p.action, format('%s:%s', pghistory._table_name(p.event_table), p.event_id),
           p.changes, p.conflict
      FROM pghistory._undo_plan(context_id, xid, true) WITH ORDINALITY
               AS p("table", event_table, image, event_id, previous_id, next_id, action, obj, changes, conflict,
                    is_possible, column_count, step)
$function$;

CREATE OR REPLACE FUNCTION pghistory.undo_plan(context_id uuid)
 RETURNS TABLE(step bigint, "table" regclass, obj text, action text, event text, changes jsonb, conflict text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('context_id', context_id IS NULL);
    RETURN QUERY SELECT * FROM pghistory._shown_plan(context_id, NULL);
END
$function$;
COMMENT ON FUNCTION pghistory.undo_plan(uuid) IS
    'What undo() of a context would do, and changes nothing: for each change, the last first, the row, whether it '
    'would be inserted, updated or deleted, the event that is taken back, {"field": [now, then]}, and what stands '
    'in the way, or null. Between tables, undo() takes the order that foreign keys allow.';

CREATE OR REPLACE FUNCTION pghistory.undo_transaction_plan(xid xid8)
 RETURNS TABLE(step bigint, "table" regclass, obj text, action text, event text, changes jsonb, conflict text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('xid', xid IS NULL);
    RETURN QUERY SELECT * FROM pghistory._shown_plan(NULL, xid);
END
$function$;
COMMENT ON FUNCTION pghistory.undo_transaction_plan(xid8) IS
    'What undo_transaction() would do, as undo_plan() shows it, and changes nothing.';
