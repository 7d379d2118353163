-- Taking back what a context or a transaction did.

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

-- Is the row there that an event says is gone?
CREATE OR REPLACE FUNCTION pghistory._is_there(event_id bigint, texts jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    is_there boolean;
BEGIN
    EXECUTE pghistory._rendered(
        'SELECT EXISTS (SELECT FROM {events} AS e JOIN {rows} AS t ON {t was e} WHERE e.pgh_id = $1)', texts)
       INTO is_there USING event_id;
    RETURN is_there;
END
$function$;

-- The foreign keys that would take rows along that refer to one that is deleted, or that gets other values in what they
-- refer to: the SQL condition that row r refers to row t, and that event p gives t other values there.
CREATE OR REPLACE FUNCTION pghistory._dragging_keys(
    "table" regclass, event_table regclass, action text, OUT referring regclass, OUT refers text, OUT differs text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT k.referring,
           (SELECT string_agg(format('r.%I %s t.%I', c.one, pghistory._equality_operator(a.type_id), c.other), ' AND ')
              FROM unnest(k.columns, k.referred) AS c(one, other)
                   JOIN pghistory._columns(k.referring) AS a ON a.name = c.one),
           CASE WHEN action = 'DELETE' THEN 'true'
                ELSE (SELECT string_agg(format('record_image_ne(ROW(t.%I), ROW(p.%I::%s))', c.other, m.column_name,
                                               format_type(a.type_id, a.type_modifier)), ' OR ')
                        FROM unnest(k.referred) AS c(other)
                             JOIN pghistory._columns(_dragging_keys."table") AS a ON a.name = c.other
                             JOIN pghistory.event_column AS m
                               ON m.event_table = _dragging_keys.event_table AND m.table_column_number = a.number) END
      FROM pghistory._foreign_keys_to("table") AS k
     WHERE CASE WHEN action = 'DELETE' THEN k.delete_action IN ('c', 'n', 'd') ELSE k.update_action IN ('n', 'd') END
$function$;

-- Does another row refer to the one that the step is about, so that it would go or change with it?
CREATE OR REPLACE FUNCTION pghistory._is_referred_to(
    "table" regclass, event_table regclass, action text, event_id bigint, previous_id bigint, texts jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    foreign_key record;
    refers boolean;
BEGIN
    FOR foreign_key IN SELECT * FROM pghistory._dragging_keys("table", event_table, action)
    LOOP
        EXECUTE pghistory._rendered(
            'SELECT EXISTS (SELECT FROM {events} AS e JOIN {events} AS p ON p.pgh_id = $2 JOIN {rows} AS t ON {t is e} '
            'JOIN {referring} AS r ON {r refers to t} AND {r is another} WHERE e.pgh_id = $1 AND ({differs}))',
            texts || jsonb_build_object(
                'referring', pghistory._table_name(foreign_key.referring),
                'r refers to t', foreign_key.refers,
                'differs', foreign_key.differs,
                'r is another', CASE WHEN foreign_key.referring = "table" THEN 'r.ctid <> t.ctid' ELSE 'true' END))
           INTO refers USING event_id, previous_id;
        IF refers THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$function$;

-- Runs a statement that writes to tables of the user's, under the search_path that their triggers expect, and says
-- how many rows it wrote, which the statement counts.
CREATE OR REPLACE FUNCTION pghistory._write_back(statement text, search_path text, event_id bigint, previous_id bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    written bigint;
BEGIN
    PERFORM set_config('search_path', search_path, true);
    EXECUTE statement INTO written USING event_id, previous_id;
    RETURN written;
END
$function$;

-- What the steps of a plan come to: for each row the last event that was recorded of it, the first one that is taken
-- back, and the one that it goes back to. Steps of one row are linked by the event that came next.
CREATE OR REPLACE FUNCTION pghistory._undo_outcome(
    tables regclass[], event_ids bigint[], previous_ids bigint[], next_ids bigint[], actions text[],
    column_counts bigint[],
    OUT "table" regclass,
    OUT action text,
    OUT column_count bigint,
    OUT last_id bigint,
    OUT first_id bigint,
    OUT previous_id bigint)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
 SET jit TO 'off'
AS $function$
DECLARE
    last_ids bigint[] := ARRAY(SELECT COALESCE(s.next, s.id)
                                 FROM unnest(next_ids, event_ids) WITH ORDINALITY AS s(next, id, step) ORDER BY s.step);
    further_ids bigint[];
BEGIN
    LOOP
        further_ids := ARRAY(
            SELECT COALESCE(n.last, s.last)
              FROM unnest(tables, last_ids) WITH ORDINALITY AS s("table", last, step)
                   LEFT JOIN unnest(tables, event_ids, last_ids) AS n("table", id, last)
                          ON n."table" = s."table" AND n.id = s.last
             ORDER BY s.step);
        EXIT WHEN further_ids = last_ids;
        last_ids := further_ids;
    END LOOP;
    RETURN QUERY
    SELECT r."table",
           CASE WHEN r.is_there AND r.was_there THEN 'UPDATE' WHEN r.is_there THEN 'DELETE' ELSE 'INSERT' END,
           r.column_count, r.last_id, r.first_id, r.previous_id
      FROM (SELECT s."table", s.last AS last_id, min(s.id) AS first_id,
                   (array_agg(s.action ORDER BY s.id DESC))[1] <> 'INSERT' AS is_there,
                   (array_agg(s.action ORDER BY s.id))[1] <> 'DELETE' AS was_there,
                   (array_agg(s.previous ORDER BY s.id))[1] AS previous_id,
                   (array_agg(s.column_count ORDER BY s.id))[1] AS column_count
              FROM unnest(tables, event_ids, previous_ids, last_ids, actions, column_counts)
                       AS s("table", id, previous, last, action, column_count)
             GROUP BY s."table", s.last) AS r
     WHERE r.is_there OR r.was_there
     ORDER BY r."table"::oid, r.first_id;
END
$function$;

-- The statement that puts rows back: over their last events (h), the first ones that are taken back (e) and those
-- that they go back to (p).
CREATE OR REPLACE FUNCTION pghistory._outcome_statement(
    "table" regclass, event_table regclass, action text, event_id bigint, texts jsonb)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    columns record;
BEGIN
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.number) AS names,
           string_agg(format('%s::%s', v.value, c.type_text), ', ' ORDER BY c.number) AS "values",
           string_agg(format('%I = %s::%s', c.name, v.value, c.type_text), ', ' ORDER BY c.number)
               FILTER (WHERE c.is_updatable) AS set
      INTO columns
      FROM pghistory._writable_columns("table", event_table, event_id) AS c
           JOIN pghistory.event_column AS m
             ON m.event_table = _outcome_statement.event_table AND m.column_name = c.held
           CROSS JOIN LATERAL pghistory._previous_value_text(
                   m.event_table, c.held, m.added_after, m.missing_value, 'p', 'e') AS v(value);
    RETURN pghistory._rendered(
        CASE action WHEN 'DELETE' THEN
            'DELETE FROM {rows} AS t USING {events} AS h WHERE h.pgh_id {is} ANY ({last ids}::bigint[]) AND {t is h}'
        WHEN 'UPDATE' THEN
            'UPDATE {rows} AS t SET {set} '
            'FROM unnest({last ids}::bigint[], {first ids}::bigint[], {previous ids}::bigint[]) '
            'AS s(last_id, first_id, previous_id) '
            'JOIN {events} AS h ON h.pgh_id {is} s.last_id JOIN {events} AS e ON e.pgh_id {is} s.first_id '
            'JOIN {events} AS p ON p.pgh_id {is} s.previous_id WHERE {earlier} AND {t is h}'
        ELSE
            'INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} '
            'FROM unnest({first ids}::bigint[], {previous ids}::bigint[]) AS s(first_id, previous_id) '
            'JOIN {events} AS e ON e.pgh_id {is} s.first_id JOIN {events} AS p ON p.pgh_id {is} s.previous_id '
            'WHERE {earlier}'
        END,
        texts || jsonb_build_object('table', pghistory._table_name("table"), 'names', columns.names,
                                    'values', columns."values", 'set', columns.set));
END
$function$;

-- Do rows refer to others again as they did? Foreign keys that take rows along may have done so once more with rows
-- that were put back already, where a key went from one row to another.
CREATE OR REPLACE FUNCTION pghistory._are_references_back(
    tables regclass[], event_tables regclass[], event_ids bigint[], previous_ids bigint[], next_ids bigint[],
    actions text[], column_counts bigint[], texts jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
    are_back boolean;
BEGIN
    FOR this IN
        SELECT o.*, r.are_same
          FROM (SELECT o."table", count(*) AS number, array_agg(o.first_id) AS first_ids,
                       array_agg(o.previous_id) AS previous_ids
                  FROM pghistory._undo_outcome(tables, event_ids, previous_ids, next_ids, actions, column_counts) AS o
                 WHERE o.action <> 'DELETE' GROUP BY o."table") AS o
               CROSS JOIN LATERAL (
                   SELECT string_agg(format('NOT record_image_ne(ROW(t.%I), ROW(%s::%s))', a.attname,
                                            pghistory._previous_value_text(m.event_table, m.column_name, m.added_after,
                                                                           m.missing_value, 'p', 'e'),
                                            format_type(a.atttypid, a.atttypmod)), ' AND ')
                     FROM pghistory.event_column AS m
                          JOIN pg_attribute AS a ON a.attrelid = o."table" AND a.attnum = m.table_column_number
                    WHERE m.event_table = event_tables[array_position(tables, o."table")]
                      AND a.attnum IN (SELECT unnest(c.conkey) FROM pg_constraint AS c
                                        WHERE c.conrelid = o."table" AND c.contype = 'f'
                                          AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')))
               ) AS r(are_same)
         WHERE r.are_same IS NOT NULL
    LOOP
        EXECUTE pghistory._rendered(
            'SELECT count(*) = $3 FROM unnest($1, $2) AS s(first_id, previous_id) '
            'JOIN {events} AS e ON e.pgh_id = s.first_id JOIN {events} AS p ON p.pgh_id = s.previous_id '
            'JOIN {rows} AS t ON {t was p} WHERE {are same}',
            texts -> this."table"::oid::text || jsonb_build_object('are same', this.are_same))
           INTO are_back USING this.first_ids, this.previous_ids, this.number;
        IF NOT are_back THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$function$;

-- Takes back all steps in one statement, at whose end foreign keys are looked at, and says whether that could be
-- done: not if other rows would be taken along, if a unique value passes from row to row, or if a row is not written.
CREATE OR REPLACE FUNCTION pghistory._undo_at_once(
    tables regclass[], event_tables regclass[], event_ids bigint[], previous_ids bigint[], next_ids bigint[],
    actions text[], column_counts bigint[], texts jsonb, search_path text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
    foreign_key record;
    last_ids jsonb;
    part text;
    parts text[] := '{}';
    earlier text[] := '{}';  -- parts of an earlier kind: to be done before
    same_kind text[] := '{}';
    kind text;
    is_referred_to boolean;
    written bigint;
    expected bigint := 0;
BEGIN
    SELECT jsonb_object_agg(r.oid, r.ids) INTO last_ids
      FROM (SELECT o."table"::oid, array_agg(o.last_id)::text AS ids
              FROM pghistory._undo_outcome(tables, event_ids, previous_ids, next_ids, actions, column_counts) AS o
             GROUP BY o."table") AS r(oid, ids);
    FOR this IN
        SELECT o."table", o.action, o.column_count, min(o.first_id) AS an_event, count(*) AS number,
               array_agg(o.last_id)::text AS last_ids, array_agg(o.first_id)::text AS first_ids,
               array_agg(o.previous_id)::text AS previous_ids,
               (SELECT s.event_table FROM unnest(tables, event_tables) AS s("table", event_table)
                 WHERE s."table" = o."table" LIMIT 1) AS event_table
          FROM pghistory._undo_outcome(tables, event_ids, previous_ids, next_ids, actions, column_counts) AS o
         GROUP BY o."table", o.action, o.column_count
         ORDER BY array_position(ARRAY['DELETE', 'UPDATE', 'INSERT'], o.action), o."table"::oid
    LOOP
        FOR foreign_key IN SELECT * FROM pghistory._dragging_keys(this."table", this.event_table, this.action)
                            WHERE this.action <> 'INSERT'
        LOOP
            EXECUTE pghistory._rendered(
                'SELECT EXISTS (SELECT FROM unnest({last ids}::bigint[], {previous ids}::bigint[]) '
                'AS s(last_id, previous_id) '
                'JOIN {events} AS h ON h.pgh_id = s.last_id JOIN {events} AS p ON p.pgh_id = s.previous_id '
                'JOIN {rows} AS t ON {t is h} JOIN {referring} AS r ON {r refers to t} '
                'WHERE ({differs}){r is not ours})',
                texts -> this."table"::oid::text || jsonb_build_object(
                    'last ids', quote_literal(this.last_ids), 'previous ids', quote_literal(this.previous_ids),
                    'referring', pghistory._table_name(foreign_key.referring), 'r refers to t', foreign_key.refers,
                    'differs', foreign_key.differs,
                    'r is not ours', CASE WHEN texts ? foreign_key.referring::oid::text THEN pghistory._rendered(
                        ' AND NOT EXISTS (SELECT FROM {events} AS h '
                        'WHERE h.pgh_id = ANY ({ids}::bigint[]) AND {r is h})',
                        texts -> foreign_key.referring::oid::text || jsonb_build_object(
                            'ids', quote_literal(COALESCE(last_ids ->> foreign_key.referring::oid::text, '{}'))))
                        ELSE '' END))
               INTO is_referred_to;
            IF is_referred_to THEN
                RETURN false;
            END IF;
        END LOOP;
        IF this.action IS DISTINCT FROM kind THEN
            earlier := earlier || same_kind;
            same_kind := '{}';
            kind := this.action;
        END IF;
        part := format('part_%s', cardinality(parts) + 1);
        same_kind := same_kind || format('(SELECT pg_catalog.count(*) FROM %s)', part);
        parts := parts || pghistory._rendered(
            '{part} AS ({statement} RETURNING 1)',
            jsonb_build_object(
                'part', part,
                'statement', pghistory._outcome_statement(
                    this."table", this.event_table, this.action, this.an_event, texts -> this."table"::oid::text
                    || jsonb_build_object('last ids', quote_literal(this.last_ids),
                                          'first ids', quote_literal(this.first_ids),
                                          'previous ids', quote_literal(this.previous_ids),
                                          'earlier', CASE WHEN earlier = '{}' THEN 'true' ELSE
                                              format('%s OPERATOR(pg_catalog.>=) 0',
                                                     array_to_string(earlier, ' OPERATOR(pg_catalog.+) ')) END))));
        expected := expected + this.number;
    END LOOP;
    IF parts = '{}' THEN
        RETURN true;
    END IF;
    BEGIN
        written := pghistory._write_back(
            format(E'WITH %s\nSELECT %s', array_to_string(parts, E',\n'),
                   array_to_string(earlier || same_kind, ' OPERATOR(pg_catalog.+) ')),
            search_path, NULL, NULL);
        IF written <> expected
           OR NOT pghistory._are_references_back(tables, event_tables, event_ids, previous_ids, next_ids, actions,
                                                 column_counts, texts)
        THEN
            RAISE cardinality_violation;
        END IF;
    EXCEPTION WHEN foreign_key_violation OR restrict_violation OR unique_violation OR exclusion_violation
                OR cardinality_violation OR triggered_data_change_violation THEN
        RETURN false;
    END;
    RETURN true;
END
$function$;

-- The statement that takes one step: over the events $1 and $2, to which an update goes back.
CREATE OR REPLACE FUNCTION pghistory._undo_statement(
    "table" regclass, event_table regclass, image text, action text, event_id bigint, texts jsonb)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    columns record;
BEGIN
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.number) AS names,
           string_agg(format('e.%I::%s', c.held, c.type_text), ', ' ORDER BY c.number) AS of_event,
           string_agg(format('%I = e.%I::%s', c.name, c.held, c.type_text), ', ' ORDER BY c.number)
               FILTER (WHERE c.is_updatable) AS all_set,
           -- only what the event changed
           string_agg(format('%1$I = CASE WHEN pg_catalog.record_image_ne(ROW(%2$s), ROW(e.%3$I)) '
                             'THEN %2$s::%4$s ELSE t.%1$I END',
                             c.name,
                             pghistory._previous_value_text(m.event_table, c.held, m.added_after, m.missing_value,
                                                            'p', 'e'),
                             c.held, c.type_text), ', ' ORDER BY c.number)
               FILTER (WHERE c.is_updatable) AS changes_set
      INTO columns
      FROM pghistory._writable_columns("table", event_table, event_id) AS c
           JOIN pghistory.event_column AS m
             ON m.event_table = _undo_statement.event_table AND m.column_name = c.held;
    RETURN pghistory._rendered(
        concat('WITH written AS (', CASE WHEN action = 'DELETE' THEN
            'DELETE FROM {rows} AS t USING {events} AS e, {events} AS p '
            'WHERE e.pgh_id {is} $1 AND p.pgh_id {is} $2 AND {t is e}'
        WHEN action = 'INSERT' THEN
            'INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE '
            'SELECT {of event} FROM {events} AS e, {events} AS p WHERE e.pgh_id {is} $1 AND p.pgh_id {is} $2'
        WHEN action = 'REPLACE' THEN
            'UPDATE {rows} AS t SET {set} FROM {events} AS e, {events} AS p '
            'WHERE e.pgh_id {is} $1 AND p.pgh_id {is} $2 AND {t was e}'
        ELSE
            'UPDATE {rows} AS t SET {set} FROM {events} AS e, {events} AS p '
            'WHERE e.pgh_id {is} $1 AND p.pgh_id {is} $2 AND {t is e}'
        END, ' RETURNING 1) SELECT pg_catalog.count(*) FROM written'),
        texts || jsonb_build_object(
            'table', pghistory._table_name("table"), 'names', columns.names, 'of event', columns.of_event,
            'set', CASE WHEN action = 'UPDATE' AND image = 'after' THEN columns.changes_set ELSE columns.all_set END));
END
$function$;

-- Locks the rows that an undo is about, so that they stay as they are seen.
CREATE OR REPLACE FUNCTION pghistory._lock_for_undo(context_id uuid, xid xid8)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_nestloop TO 'off'
 SET jit TO 'off'
AS $function$
DECLARE
    source record;
    texts jsonb;
BEGIN
    FOR source IN SELECT u.* FROM pghistory._undoable_tables() AS u JOIN pg_class AS c ON c.oid = u."table"
                   WHERE c.relkind <> 'f' ORDER BY u."table"::oid
    LOOP
        texts := pghistory._undo_texts(source."table", source, context_id, xid);
        IF pghistory._is_concerned(texts) THEN
            EXECUTE pghistory._rendered(
                'SELECT count(*) FROM (SELECT FROM {rows} AS t WHERE EXISTS ('
                'SELECT FROM {events} AS e WHERE {wanted} AND {recorded} AND {t is e}) '
                'ORDER BY {row key} FOR UPDATE OF t) AS s',
                texts);
        END IF;
    END LOOP;
END
$function$;

-- Says what stands in the way of an undo, if anything does.
CREATE OR REPLACE FUNCTION pghistory._refuse_undo(subject text, conflicts text[], may_force boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    shown CONSTANT integer := 10;
BEGIN
    IF conflicts <> '{}' THEN
        RAISE EXCEPTION '% cannot be taken back: %', subject, conflicts[1]
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = array_to_string(conflicts[1:shown], E'\n')
                           || CASE WHEN cardinality(conflicts) > shown
                                   THEN format(E'\nand %s more', cardinality(conflicts) - shown) ELSE '' END,
                  HINT = CASE WHEN may_force THEN 'See undo_plan() and undo_transaction_plan(); with force => true '
                                                  'it is taken back all the same.'
                              ELSE 'What was before the first event of a row is known after backfill() only.' END;
    END IF;
END
$function$;

-- Takes one step, and says how many changes that took back; null if a constraint stands in the way. Unless may_break,
-- rows that would be taken along by a foreign key stand in the way too.
CREATE OR REPLACE FUNCTION pghistory._take_step(
    "table" regclass, event_table regclass, action text, event_id bigint, previous_id bigint, statement text,
    texts jsonb, may_break boolean, search_path text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    written bigint;
BEGIN
    IF action <> 'INSERT' AND NOT may_break
       AND pghistory._is_referred_to("table", event_table, action, event_id, previous_id, texts)
    THEN
        RETURN NULL;
    END IF;
    BEGIN
        written := pghistory._write_back(statement, search_path, event_id, previous_id);
    EXCEPTION WHEN foreign_key_violation OR restrict_violation OR unique_violation OR exclusion_violation THEN
        RETURN NULL;
    END;
    -- a row that is gone already went with one that it referred to
    RETURN CASE WHEN action = 'DELETE' THEN GREATEST(written, 1) ELSE written END;
END
$function$;

-- Takes back one step after the other: in each table from its last change to its first, between tables in any order
-- that foreign keys allow, beginning with those that refer to others or, from_below, with those that others refer to.
CREATE OR REPLACE FUNCTION pghistory._undo_one_by_one(
    subject text, plan record, tables record, texts jsonb[], texts_by_table jsonb, force boolean, from_below boolean,
    search_path text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    statement text;
    statement_of text;
    this_of text;
    number bigint;
    step bigint;
    action text;
    taken bigint;
    total bigint := 0;
    obstacle text;
    has_moved_on boolean;
    may_break boolean := false;
BEGIN
    LOOP
        has_moved_on := false;
        obstacle := NULL;
        FOR turn IN 1 .. cardinality(tables.nexts) LOOP
            number := CASE WHEN from_below THEN cardinality(tables.nexts) + 1 - turn ELSE turn END;
            WHILE tables.nexts[number] <= tables.lasts[number] LOOP
                step := tables.nexts[number];
                action := plan.actions[step];
                IF force AND action = 'INSERT' AND pghistory._is_there(plan.event_ids[step], texts[number]) THEN
                    action := 'REPLACE';
                END IF;
                this_of := concat_ws(' ', number, action, plan.column_counts[step]);
                IF this_of IS DISTINCT FROM statement_of THEN
                    statement := pghistory._undo_statement(
                        plan.tables[step], plan.event_tables[step], plan.images[step], action, plan.event_ids[step],
                        texts[number]);
                    statement_of := this_of;
                END IF;
                taken := pghistory._take_step(
                    plan.tables[step], plan.event_tables[step], action, plan.event_ids[step], plan.previous_ids[step],
                    statement, texts[number], may_break, search_path);
                IF taken IS NULL THEN
                    obstacle := format('row %s of table %s: others refer to it, it refers to one that is not there, '
                                       'or another one has a value that must be unique',
                                       plan.objs[step], pghistory._table_name(plan.tables[step]));
                    EXIT;
                ELSIF taken > 1 THEN
                    PERFORM pghistory._refuse_undo(
                        subject, ARRAY[format('row %s of table %s: several rows have its key', plan.objs[step],
                                              pghistory._table_name(plan.tables[step]))], false);
                ELSIF taken = 0 AND NOT force THEN
                    PERFORM pghistory._refuse_undo(
                        subject, ARRAY[format('row %s of table %s: it was not written', plan.objs[step],
                                              pghistory._table_name(plan.tables[step]))], true);
                END IF;
                total := total + taken;
                tables.nexts[number] := step + 1;
                has_moved_on := true;
                may_break := false;
            END LOOP;
        END LOOP;
        EXIT WHEN obstacle IS NULL;
        IF NOT has_moved_on THEN
            IF may_break OR NOT force THEN
                PERFORM pghistory._refuse_undo(subject, ARRAY[obstacle], NOT may_break);
            END IF;
            may_break := true;  -- for one step: what refers to the row goes or changes with it
        END IF;
    END LOOP;
    IF plan.conflicts = '{}' AND NOT force AND NOT pghistory._are_references_back(
           plan.tables, plan.event_tables, plan.event_ids, plan.previous_ids, plan.next_ids, plan.actions,
           plan.column_counts, texts_by_table)
    THEN
        PERFORM pghistory._refuse_undo(
            subject, ARRAY['foreign keys would not let rows refer to others as they did'], true);
    END IF;
    RETURN total;
END
$function$;

-- Takes back what a context or a transaction did: at once, or where that cannot be, in each table from its last
-- change to its first, between tables in any order that foreign keys allow.
CREATE OR REPLACE FUNCTION pghistory._undo(subject text, context_id uuid, xid xid8, force boolean, search_path text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    plan record;
    tables record;
    texts jsonb[] := '{}';
    texts_by_table jsonb;
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN 0;
    END IF;
    PERFORM pghistory._lock_for_undo(context_id, xid);
    SELECT array_agg(p."table" ORDER BY p.step) AS tables, array_agg(p.event_table ORDER BY p.step) AS event_tables,
           array_agg(p.image ORDER BY p.step) AS images, array_agg(p.event_id ORDER BY p.step) AS event_ids,
           array_agg(p.previous_id ORDER BY p.step) AS previous_ids, array_agg(p.next_id ORDER BY p.step) AS next_ids,
           array_agg(p.action ORDER BY p.step) AS actions,
           array_agg(p.obj ORDER BY p.step) AS objs, array_agg(p.column_count ORDER BY p.step) AS column_counts,
           COALESCE(array_agg(format('row %s of table %s: %s', p.obj, pghistory._table_name(p."table"), p.conflict)
                              ORDER BY p.step) FILTER (WHERE p.conflict IS NOT NULL), '{}') AS conflicts,
           COALESCE(array_agg(format('row %s of table %s: %s', p.obj, pghistory._table_name(p."table"), p.conflict)
                              ORDER BY p.step) FILTER (WHERE NOT p.is_possible), '{}') AS impossible
      INTO plan
      FROM pghistory._undo_plan(context_id, xid, false) WITH ORDINALITY
               AS p("table", event_table, image, event_id, previous_id, next_id, action, obj, changes, conflict,
                    is_possible, column_count, step);
    PERFORM pghistory._refuse_undo(subject, plan.impossible, false);
    IF NOT force THEN
        PERFORM pghistory._refuse_undo(subject, plan.conflicts, true);
    END IF;
    IF plan.tables IS NULL THEN
        RETURN 0;
    END IF;

    -- The steps of each table stand together: where the next one is, and the last.
    SELECT array_agg(s.first ORDER BY s.first) AS nexts, array_agg(s.last ORDER BY s.first) AS lasts INTO tables
      FROM (SELECT min(p.step) AS first, max(p.step) AS last
              FROM unnest(plan.tables) WITH ORDINALITY AS p("table", step) GROUP BY p."table") AS s;
    FOR number IN 1 .. cardinality(tables.nexts) LOOP
        texts := texts || pghistory._undo_texts(
            plan.tables[tables.nexts[number]], (SELECT u FROM pghistory._undoable_tables() AS u
                                                 WHERE u."table" = plan.tables[tables.nexts[number]]), context_id, xid);
    END LOOP;
    SELECT jsonb_object_agg(plan.tables[t.next]::oid, texts[t.number]) INTO texts_by_table
      FROM unnest(tables.nexts) WITH ORDINALITY AS t(next, number);
    IF plan.conflicts = '{}' AND pghistory._undo_at_once(
           plan.tables, plan.event_tables, plan.event_ids, plan.previous_ids, plan.next_ids, plan.actions,
           plan.column_counts, texts_by_table, search_path)
    THEN
        RETURN cardinality(plan.tables);
    END IF;
    -- One by one, then.
    IF cardinality(tables.nexts) > 1 AND NOT force THEN
        BEGIN
            RETURN pghistory._undo_one_by_one(subject, plan, tables, texts, texts_by_table, force, false, search_path);
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
            NULL;  -- it may be the other way round
        END;
    END IF;
    RETURN pghistory._undo_one_by_one(subject, plan, tables, texts, texts_by_table, force, NOT force, search_path);
END
$function$;

-- Runs an undo under a context that says what it undoes: the active one, or one of its own.
CREATE OR REPLACE FUNCTION pghistory._undo_in_context(
    subject text, undone jsonb, context_id uuid, xid xid8, force boolean, search_path text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    active_id CONSTANT text := current_setting('pghistory.context_id', true);
    active_metadata CONSTANT text := current_setting('pghistory.context_metadata', true);
    taken bigint;
BEGIN
    PERFORM pghistory._check_not_null('force', force IS NULL);
    PERFORM pghistory.set_context(jsonb_build_object('undo', undone));
    taken := pghistory._undo(subject, context_id, xid, force, search_path);
    PERFORM set_config('pghistory.context_id', COALESCE(active_id, ''), true),
            set_config('pghistory.context_metadata', COALESCE(active_metadata, ''), true);
    RETURN taken;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.undo(context_id uuid, force boolean DEFAULT false)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('context_id', context_id IS NULL);
    -- Not pinned, so that triggers of the tables see the caller's search_path; all that is called from here on is.
    RETURN pghistory._undo_in_context(pg_catalog.concat('context ', context_id),
                                      pg_catalog.jsonb_build_object('context_id', context_id), context_id, NULL, force,
                                      pg_catalog.current_setting('search_path'));
END
$function$;
COMMENT ON FUNCTION pghistory.undo(uuid, boolean) IS
    'Takes back everything that a context did to the tables whose history is kept, the last change first, and '
    'returns how many changes that were. If anything stands in the way, such as a row that changed since, nothing '
    'is taken back and the error names it; with force what can be is taken back all the same. That it was undone is '
    'recorded under a context whose metadata has "undo", and can be undone. Tables whose history is not kept, or '
    'whose events the caller may not read, are passed over. See undo_plan().';

CREATE OR REPLACE FUNCTION pghistory.undo_transaction(xid xid8, force boolean DEFAULT false)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('xid', xid IS NULL);
    RETURN pghistory._undo_in_context(pg_catalog.concat('transaction ', xid), pg_catalog.jsonb_build_object('xid', xid),
                                      NULL, xid, force, pg_catalog.current_setting('search_path'));
END
$function$;
COMMENT ON FUNCTION pghistory.undo_transaction(xid8, boolean) IS
    'Takes back everything that a transaction (the pgh_xid of its events) did to the tables whose history is kept, '
    'as undo() does for a context.';

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
