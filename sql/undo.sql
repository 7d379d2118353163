-- Taking back what a context or a transaction did.

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
