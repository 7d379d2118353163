-- Taking back what a context or a transaction did.

-- The tables whose history is kept, and the source that what happened to them is taken back from: before-images need no look
-- at the event before.
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

-- What is taken back, as an SQL condition over an event: what happened in a context, or in a transaction of this server or
-- of the one before a restore.
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

-- What taking back event e changes, as an SQL expression: {"field": [now, then]}. What an update is taken back to is event p,
-- or event e itself, which then only the row of today (t) can be compared with.
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
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = source.event_table;
    held := pghistory._object_columns(registered.obj_key);
    others := pghistory._other_key_columns(registered.obj_key);
    has_moves := pghistory._has_moves(event_table, registered.obj_key);
    -- the key that the object had after event e
    key_after := CASE WHEN has_moves AND source.image = 'before' THEN
        ARRAY(SELECT format('CASE WHEN e.pgh_operation = ''B'' THEN COALESCE(e.%I, e.%I) ELSE e.%I END', o, h, h)
                FROM unnest(others, held) WITH ORDINALITY AS k(o, h, position) ORDER BY k.position)
        ELSE pghistory._qualified('e', held) END;
    RETURN jsonb_build_object(
        'events', pghistory._table_name(event_table),
        'rows', pghistory._rows_text("table"),
        'wanted', pghistory._undo_condition(event_table, context_id, xid, 'e'),
        'wanted n', pghistory._undo_condition(event_table, context_id, xid, 'n'),
        'recorded', pghistory._recorded_text(source, 'e'),
        'recorded n', pghistory._recorded_text(source, 'n'),
        'n is e', pghistory._same_object_text(event_table, registered.obj_key, pghistory._qualified('n', held), key_after),
        'n left e', CASE WHEN has_moves AND source.image = 'after' THEN
            pghistory._same_object_text(event_table, registered.obj_key, pghistory._qualified('n', others), key_after)
            ELSE 'false' END,
        't is e', pghistory._same_object_text(event_table, registered.obj_key,
                                              pghistory._qualified('t', registered.obj_key), key_after),
        't was e', pghistory._same_object_text(event_table, registered.obj_key,
                                               pghistory._qualified('t', registered.obj_key),
                                               pghistory._qualified('e', held)),
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

-- The steps that take back what happened to one table, the last change first: what to do, and what stands in the way. An
-- update is taken back to what event `previous_id` says.
CREATE OR REPLACE FUNCTION pghistory._undo_steps(
    "table" regclass,
    source record,
    texts jsonb,
    OUT event_id bigint,
    OUT previous_id bigint,
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
 SET "DateStyle" TO 'ISO'
AS $function$
BEGIN
    RETURN QUERY EXECUTE pghistory._rendered($sql$
        SELECT s.pgh_id, s.previous_id, s.action, s.object, s.changes,
               CASE WHEN NOT s.is_known THEN 'what it was before is not known'
                    WHEN s.next_id IS NOT NULL THEN
                        (SELECT format('changed since by event %s:%s (%s, %s)', $2, n.pgh_id, n.pgh_label, n.pgh_created_at)
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
                       AS is_known,
                   e.next_id IS NULL AND EXISTS (SELECT FROM {rows} AS t WHERE {t is e}) AS is_there
              FROM (
                SELECT e.*, {object} AS object, {previous} AS previous_id,
                       CASE e.pgh_operation WHEN 'I' THEN 'DELETE' WHEN 'D' THEN 'INSERT' WHEN 'T' THEN 'INSERT'
                                            ELSE 'UPDATE' END AS action,
                       LEAST((SELECT n.pgh_id FROM {events} AS n
                               WHERE {recorded n} AND n.pgh_id > e.pgh_id AND {n is e} ORDER BY n.pgh_id LIMIT 1),
                             (SELECT n.pgh_id FROM {events} AS n
                               WHERE {recorded n} AND n.pgh_id > e.pgh_id AND {n left e} ORDER BY n.pgh_id LIMIT 1))
                           AS next_id
                  FROM {events} AS e
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
    FOR source IN SELECT * FROM pghistory._undoable_tables() AS u ORDER BY pghistory._depth(u."table") DESC, u."table"::oid
    LOOP
        texts := pghistory._undo_texts(source."table", source, context_id, xid);
        texts := texts || jsonb_build_object('changes', CASE WHEN with_changes
            THEN pghistory._undo_changes_text(source.event_table, source.image, texts) ELSE 'NULL::jsonb' END);
        RETURN QUERY SELECT source."table", source.event_table, source.image, s.event_id, s.previous_id, s.action, s.obj,
                            s.changes, s.conflict, s.is_possible, s.column_count
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
    SELECT p.step, p."table", p.obj, p.action, format('%s:%s', pghistory._table_name(p.event_table), p.event_id), p.changes,
           p.conflict
      FROM pghistory._undo_plan(context_id, xid, true) WITH ORDINALITY
               AS p("table", event_table, image, event_id, previous_id, action, obj, changes, conflict, is_possible,
                    column_count, step)
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

-- Does another row refer to the one that the event made, so that it would go or change with it?
CREATE OR REPLACE FUNCTION pghistory._is_referred_to("table" regclass, event_id bigint, texts jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    foreign_key record;
    refers boolean;
BEGIN
    FOR foreign_key IN
        SELECT k.referring,
               (SELECT string_agg(format('r.%I %s t.%I', c.one, pghistory._equality_operator(a.type_id), c.other), ' AND ')
                  FROM unnest(k.columns, k.referred) AS c(one, other)
                       JOIN pghistory._columns(k.referring) AS a ON a.name = c.one) AS condition,
               CASE WHEN k.referring = "table" THEN 'r.ctid <> t.ctid' ELSE 'true' END AS is_another
          FROM pghistory._foreign_keys_to("table") AS k
    LOOP
        EXECUTE pghistory._rendered(
            'SELECT EXISTS (SELECT FROM {events} AS e JOIN {rows} AS t ON {t is e} '
            'JOIN {referring} AS r ON {r refers to t} AND {r is another} WHERE e.pgh_id = $1)',
            texts || jsonb_build_object('referring', pghistory._table_name(foreign_key.referring),
                                        'r refers to t', foreign_key.condition,
                                        'r is another', foreign_key.is_another))
           INTO refers USING event_id;
        IF refers THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
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
           string_agg(format('%1$I = CASE WHEN record_image_ne(ROW(%2$s), ROW(e.%3$I)) THEN %2$s::%4$s ELSE t.%1$I END',
                             c.name,
                             pghistory._previous_value_text(m.event_table, c.held, m.added_after, m.missing_value, 'p', 'e'),
                             c.held, c.type_text), ', ' ORDER BY c.number)
               FILTER (WHERE c.is_updatable) AS changes_set
      INTO columns
      FROM pghistory._writable_columns("table", event_table, event_id) AS c
           JOIN pghistory.event_column AS m
             ON m.event_table = _undo_statement.event_table AND m.column_name = c.held;
    RETURN pghistory._rendered(
        CASE WHEN action = 'DELETE' THEN
            'DELETE FROM {rows} AS t USING {events} AS e, {events} AS p WHERE e.pgh_id = $1 AND p.pgh_id = $2 AND {t is e}'
        WHEN action = 'INSERT' THEN
            'INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE '
            'SELECT {of event} FROM {events} AS e, {events} AS p WHERE e.pgh_id = $1 AND p.pgh_id = $2'
        WHEN action = 'REPLACE' THEN
            'UPDATE {rows} AS t SET {set} FROM {events} AS e, {events} AS p '
            'WHERE e.pgh_id = $1 AND p.pgh_id = $2 AND {t was e}'
        ELSE
            'UPDATE {rows} AS t SET {set} FROM {events} AS e, {events} AS p '
            'WHERE e.pgh_id = $1 AND p.pgh_id = $2 AND {t is e}'
        END,
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
AS $function$
DECLARE
    source record;
BEGIN
    FOR source IN SELECT u.* FROM pghistory._undoable_tables() AS u JOIN pg_class AS c ON c.oid = u."table"
                   WHERE c.relkind <> 'f' ORDER BY u."table"::oid
    LOOP
        EXECUTE pghistory._rendered(
            'SELECT count(*) FROM (SELECT FROM {rows} AS t WHERE EXISTS ('
            'SELECT FROM {events} AS e WHERE {wanted} AND {recorded} AND {t is e}) ORDER BY {row key} FOR UPDATE OF t) AS s',
            pghistory._undo_texts(source."table", source, context_id, xid));
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

-- Takes one step, and says how many changes that took back; null if foreign keys stand in the way. With is_cautious, an
-- error of theirs is caught; unless may_break, rows that refer to one that is to be deleted keep it.
CREATE OR REPLACE FUNCTION pghistory._take_step(
    "table" regclass, action text, event_id bigint, previous_id bigint, statement text, texts jsonb, is_cautious boolean,
    may_break boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    written bigint;
BEGIN
    IF action = 'DELETE' AND NOT may_break AND pghistory._is_referred_to("table", event_id, texts) THEN
        RETURN NULL;
    END IF;
    IF is_cautious THEN
        BEGIN
            EXECUTE statement USING event_id, previous_id;
            GET DIAGNOSTICS written = ROW_COUNT;
        EXCEPTION WHEN foreign_key_violation THEN
            RETURN NULL;
        END;
    ELSE
        EXECUTE statement USING event_id, previous_id;
        GET DIAGNOSTICS written = ROW_COUNT;
    END IF;
    -- a row that is gone already went with one that it referred to
    RETURN CASE WHEN action = 'DELETE' THEN 1 ELSE written END;
END
$function$;

-- Takes back what a context or a transaction did: in each table from its last change to its first, between tables in any
-- order that foreign keys allow.
CREATE OR REPLACE FUNCTION pghistory._undo(subject text, context_id uuid, xid xid8, force boolean)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    plan record;
    tables record;
    texts jsonb[] := '{}';
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
    PERFORM pghistory._lock_for_undo(context_id, xid);
    SELECT array_agg(p."table" ORDER BY p.step) AS tables, array_agg(p.event_table ORDER BY p.step) AS event_tables,
           array_agg(p.image ORDER BY p.step) AS images, array_agg(p.event_id ORDER BY p.step) AS event_ids,
           array_agg(p.previous_id ORDER BY p.step) AS previous_ids, array_agg(p.action ORDER BY p.step) AS actions,
           array_agg(p.obj ORDER BY p.step) AS objs, array_agg(p.column_count ORDER BY p.step) AS column_counts,
           COALESCE(array_agg(format('row %s of table %s: %s', p.obj, pghistory._table_name(p."table"), p.conflict)
                              ORDER BY p.step) FILTER (WHERE p.conflict IS NOT NULL), '{}') AS conflicts,
           COALESCE(array_agg(format('row %s of table %s: %s', p.obj, pghistory._table_name(p."table"), p.conflict)
                              ORDER BY p.step) FILTER (WHERE NOT p.is_possible), '{}') AS impossible
      INTO plan
      FROM pghistory._undo_plan(context_id, xid, false) WITH ORDINALITY
               AS p("table", event_table, image, event_id, previous_id, action, obj, changes, conflict, is_possible,
                    column_count, step);
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
    LOOP
        has_moved_on := false;
        obstacle := NULL;
        FOR number IN 1 .. cardinality(tables.nexts) LOOP
            WHILE tables.nexts[number] <= tables.lasts[number] LOOP
                step := tables.nexts[number];
                action := plan.actions[step];
                IF force AND action = 'INSERT' AND pghistory._is_there(plan.event_ids[step], texts[number]) THEN
                    action := 'REPLACE';
                END IF;
                this_of := concat_ws(' ', number, action, plan.column_counts[step]);
                IF this_of IS DISTINCT FROM statement_of THEN
                    statement := pghistory._undo_statement(plan.tables[step], plan.event_tables[step], plan.images[step],
                                                           action, plan.event_ids[step], texts[number]);
                    statement_of := this_of;
                END IF;
                taken := pghistory._take_step(plan.tables[step], action, plan.event_ids[step], plan.previous_ids[step],
                                              statement, texts[number],
                                              cardinality(tables.nexts) > 1, may_break);
                IF taken IS NULL THEN
                    obstacle := format('row %s of table %s: others refer to it, or it refers to one that is not there',
                                       plan.objs[step], pghistory._table_name(plan.tables[step]));
                    EXIT;
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
    RETURN total;
END
$function$;

-- Runs an undo under a context that says what it undoes: the active one, or one of its own.
CREATE OR REPLACE FUNCTION pghistory._undo_in_context(
    subject text, undone jsonb, context_id uuid, xid xid8, force boolean)
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
    taken := pghistory._undo(subject, context_id, xid, force);
    PERFORM set_config('pghistory.context_id', COALESCE(active_id, ''), true),
            set_config('pghistory.context_metadata', COALESCE(active_metadata, ''), true);
    RETURN taken;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory.undo(context_id uuid, force boolean DEFAULT false)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('context_id', context_id IS NULL);
    RETURN pghistory._undo_in_context(format('context %s', context_id), jsonb_build_object('context_id', context_id),
                                      context_id, NULL, force);
END
$function$;
COMMENT ON FUNCTION pghistory.undo(uuid, boolean) IS
    'Takes back everything that a context did to the tables whose history is kept, the last change first, and returns how '
    'many changes that were. If anything stands in the way, such as a row that changed since, nothing is taken back and the '
    'error names it; with force what can be is taken back all the same. That it was undone is recorded under a context '
    'whose metadata has "undo", and can be undone. See undo_plan().';

CREATE OR REPLACE FUNCTION pghistory.undo_transaction(xid xid8, force boolean DEFAULT false)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('xid', xid IS NULL);
    RETURN pghistory._undo_in_context(format('transaction %s', xid), jsonb_build_object('xid', xid), NULL, xid, force);
END
$function$;
COMMENT ON FUNCTION pghistory.undo_transaction(xid8, boolean) IS
    'Takes back everything that a transaction (the pgh_xid of its events) did to the tables whose history is kept, as undo() '
    'does for a context.';

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
    'What undo() of a context would do, and changes nothing: for each change, the last first, the row, whether it would be '
    'inserted, updated or deleted, the event that is taken back, {"field": [now, then]}, and what stands in the way, or null. '
    'Between tables, undo() takes the order that foreign keys allow.';

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
