-- Following the user's DDL: the event table, its columns and the triggers become what the table has become.

-- A column whose values are kept for nobody any more says so in its comment, which follows it wherever it goes.
CREATE OR REPLACE FUNCTION pghistory._mark_kept(event_table regclass, field name, source name)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    this pg_attribute;
BEGIN
    EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', relation, field,
                   format('Kept by pghistory: what column "%s" held.', source));
    -- Nothing is written to it any more.
    SELECT * INTO this FROM pg_attribute WHERE attrelid = event_table AND attname = field;
    IF this.attnotnull AND this.attidentity = '' THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', relation, field);
    END IF;
END
$function$;

-- What a dropped column held stays. A type that is not PostgreSQL's own becomes text, or it could not be dropped.
CREATE OR REPLACE FUNCTION pghistory._keep_dropped(event_table regclass, field name)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pghistory._mark_kept(event_table, field, field);
    IF EXISTS (SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                WHERE a.attrelid = event_table AND a.attname = field
                  AND t.typnamespace <> 'pg_catalog'::regnamespace
                  AND (pghistory._is_trusted(event_table)
                       OR pghistory._may_rewrite(event_table)
                          AND pghistory._is_harmless_cast(a.atttypid, 'text'::regtype)))
    THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE text', pghistory._table_name(event_table), field);
    END IF;
END
$function$;

-- Keeps a column under the first free name: <name>__1, <name>__2, ...
CREATE OR REPLACE FUNCTION pghistory._set_aside(event_table regclass, field name)
 RETURNS name
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    number integer := 1;
    free_name name := pghistory._fitting_name(field, '__1');
BEGIN
    WHILE EXISTS (SELECT FROM pg_attribute WHERE attrelid = event_table AND attname = free_name) LOOP
        number := number + 1;
        free_name := pghistory._fitting_name(field, format('__%s', number));
    END LOOP;
    EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', pghistory._table_name(event_table), field, free_name);
    PERFORM pghistory._mark_kept(event_table, free_name, field);
    RETURN free_name;
END
$function$;

-- Sees to it that an event table has a column of this name and type. Adding one of a domain with checks evaluates
-- them: if they are somebody else's, its base type does.
CREATE OR REPLACE FUNCTION pghistory._ensure_column(
    event_table regclass, field name, type_id oid, type_modifier integer, collation_id oid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF pghistory._holds(event_table, field, type_id, type_modifier, collation_id)
       AND (SELECT attgenerated = '' AND attidentity = ''
              FROM pg_attribute WHERE attrelid = event_table AND attname = field)
    THEN
        IF (SELECT attnotnull FROM pg_attribute WHERE attrelid = event_table AND attname = field) THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', pghistory._table_name(event_table), field);
        END IF;
        RETURN;
    ELSIF EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = event_table AND attname = field AND NOT attisdropped)
    THEN
        PERFORM pghistory._set_aside(event_table, field);
    END IF;
    IF NOT pghistory._is_trusted(event_table) AND NOT pghistory._is_harmless_type(type_id) THEN
        SELECT b.type_id, b.type_modifier INTO type_id, type_modifier
          FROM pghistory._base_type(_ensure_column.type_id, _ensure_column.type_modifier) AS b;
    END IF;
    EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', pghistory._table_name(event_table), field,
                   pghistory._type_text(type_id, type_modifier, collation_id));
END
$function$;

-- Makes a column of an event table be of another type. Values that cannot become it, or would not be the same any
-- more, stay beside it in a column of the old type. Says whether the column has all of them.
CREATE OR REPLACE FUNCTION pghistory._retype_column(
    event_table regclass, field name, type_id oid, type_modifier integer, collation_id oid)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    new_type CONSTANT text := format_type(type_id, type_modifier);
    old_type text;
    may_cast boolean;
    changed boolean;
    kept_name name;
BEGIN
    -- Of a domain, what it is made of: its checks have nothing to say about what was.
    SELECT format_type(b.type_id, b.type_modifier),
           pghistory._is_trusted(event_table)
           OR pghistory._may_rewrite(event_table)
              AND pghistory._is_harmless_cast(b.type_id, _retype_column.type_id)
              AND pghistory._is_harmless_cast(_retype_column.type_id, b.type_id)
              AND pghistory._is_harmless_cast(b.type_id, 'text'::regtype)
      INTO old_type, may_cast
      FROM pg_attribute AS a CROSS JOIN LATERAL pghistory._base_type(a.atttypid, a.atttypmod) AS b
     WHERE a.attrelid = event_table AND a.attname = field;
    IF may_cast THEN
        BEGIN
            EXECUTE format(
                'SELECT EXISTS (SELECT FROM %1$s WHERE %2$I::%3$s::%4$s::text IS DISTINCT FROM %2$I::text)',
                relation, field, new_type, old_type)
               INTO changed;
            IF NOT changed THEN
                EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %I::%s', relation, field,
                               pghistory._type_text(type_id, type_modifier, collation_id), field, new_type);
                RETURN true;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- then they are kept beside it
        END;
    END IF;
    kept_name := pghistory._set_aside(event_table, field);
    PERFORM pghistory._ensure_column(event_table, field, type_id, type_modifier, collation_id);
    IF may_cast THEN
        BEGIN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %I::%s', relation, field,
                           pghistory._type_text(type_id, type_modifier, collation_id), kept_name, new_type);
            RETURN true;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- not all of them can be cast
        END;
    END IF;
    RETURN false;
END
$function$;

-- Renames columns of an event table, {"old": "new", ...}, also where names change places. What stands in the way
-- and follows nothing is set aside.
CREATE OR REPLACE FUNCTION pghistory._rename_columns(event_table regclass, renames jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    this record;
BEGIN
    FOR this IN SELECT key, value, row_number() OVER () AS number FROM jsonb_each_text(renames) LOOP
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', relation, this.key, 'pgh_row_' || this.number);
    END LOOP;
    FOR this IN SELECT key, value, row_number() OVER () AS number FROM jsonb_each_text(renames) LOOP
        IF EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = event_table AND attname = this.value AND NOT attisdropped)
        THEN
            PERFORM pghistory._set_aside(event_table, this.value);
        END IF;
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', relation, 'pgh_row_' || this.number, this.value);
    END LOOP;
END
$function$;

-- Names and numbers of columns, as they are now: by number where the numbers hold, by name after a restore.
CREATE OR REPLACE FUNCTION pghistory._current_names(
    "table" regclass, names name[], numbers smallint[], same_origin boolean)
 RETURNS name[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN names IS NOT NULL THEN ARRAY(
               SELECT c.name
                 FROM unnest(names, numbers) WITH ORDINALITY AS k(name, number, place)
                      JOIN pghistory._columns("table") AS c
                        ON CASE WHEN same_origin THEN c.number = k.number ELSE c.name = k.name END
                ORDER BY k.place) END
$function$;

-- May the DDL statement that is being followed have computed a column's values? Not if it is but an ALTER TABLE without
-- the word for it.
CREATE OR REPLACE FUNCTION pghistory._may_compute(query text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(query !~* '^[[:space:]]*ALTER[[:space:]]+TABLE[[:>:]]' OR query ~* '[[:<:]]USING[[:>:]]'
                    OR query ~ ';[[:space:]]*[^[:space:]]', true)
$function$;

-- Does it say that it computes those of one of these columns? That leaves no trace in the catalogs if the type stays.
CREATE OR REPLACE FUNCTION pghistory._computes(query text, columns name[])
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(query ~* '[[:<:]]TYPE[[:>:]].*[[:<:]]USING[[:>:]]', false)
       AND EXISTS (SELECT FROM unnest(columns) AS c(name) WHERE strpos(lower(query), lower(c.name)) > 0)
$function$;

-- Have rows other values in a column than what is expected, an SQL expression over their last event e? Then DDL
-- computed them, or what was written before it was followed is not known. Of rows without events nothing is known;
-- where it matters, the others have to speak for them.
CREATE OR REPLACE FUNCTION pghistory._is_rewritten(
    "table" regclass, event_table regclass, field name, expected text, unseen_matter boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                             WHERE e.event_table = _is_rewritten.event_table);
    found record;
BEGIN
    IF key = '{}' THEN
        RETURN false;  -- its events tell nothing about rows
    ELSIF NOT pghistory._may_rewrite("table") OR NOT pghistory._may_rewrite(event_table)
          OR NOT (pghistory._is_trusted("table") AND pghistory._is_trusted(event_table))
             AND EXISTS (SELECT FROM pghistory._columns("table") AS c
                          WHERE c.name = field AND NOT pghistory._is_harmless_type(c.type_id))
    THEN
        RETURN true;  -- it cannot be looked at
    END IF;
    EXECUTE format(
        'SELECT bool_or(is_seen AND is_other) AS differs, bool_or(NOT is_seen) AS has_unseen, '
        'bool_or(is_seen AND NOT is_other AND is_value) AS is_confirmed FROM ('
        'SELECT e.pgh_id IS NOT NULL AS is_seen, ROW(%1$s)::record *<> ROW(t.%2$I)::record AS is_other, '
        't.%2$I IS NOT NULL AS is_value FROM %3$s AS t LEFT JOIN LATERAL ('
        'SELECT e.* FROM (SELECT e.* FROM %4$s AS e WHERE %5$s ORDER BY e.pgh_id DESC LIMIT 1) AS e '
        'WHERE e.pgh_operation IN (''I'', ''U'', ''S'')) AS e ON true) AS looked_at',
        expected, field,
        CASE WHEN (SELECT relkind FROM pg_class WHERE oid = "table") = 'p' THEN '' ELSE 'ONLY ' END
        || pghistory._table_name("table"),
        pghistory._table_name(event_table),
        pghistory._same_object_text(event_table, key, pghistory._qualified('e', pghistory._object_columns(key)),
                                    pghistory._qualified('t', key)))
       INTO found;
    RETURN COALESCE(found.differs OR unseen_matter AND found.has_unseen AND NOT found.is_confirmed, false);
EXCEPTION WHEN OTHERS THEN
    RETURN true;
END
$function$;

-- The columns that events hold follow those of the table. Returns those whose values may not be what the events say.
CREATE OR REPLACE FUNCTION pghistory._follow_columns("table" regclass, event_table regclass, same_origin boolean)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    mapped jsonb;
    this record;
    is_readable boolean;
    missing_value text;
    doubtful jsonb := '[]';
BEGIN
    -- Renamed and dropped ones. A dropped column stays in the event table, and is nobody's.
    SELECT COALESCE(jsonb_agg(jsonb_build_object(
               'column_name', CASE WHEN pghistory._is_reserved_name(c.name) THEN m.column_name ELSE c.name END,
               'table_column_name', c.name, 'table_column_number', c.number)), '[]')
      INTO mapped
      FROM pghistory.event_column AS m
           JOIN pghistory._columns("table") AS c
             ON CASE WHEN same_origin THEN c.number = m.table_column_number ELSE c.name = m.table_column_name END
     WHERE m.event_table = _follow_columns.event_table;
    PERFORM pghistory._rename_columns(_follow_columns.event_table,
                                      COALESCE(jsonb_object_agg(m.column_name, c.name), '{}'))
       FROM pghistory.event_column AS m
            JOIN pghistory._columns("table") AS c
              ON CASE WHEN same_origin THEN c.number = m.table_column_number ELSE c.name = m.table_column_name END
      WHERE m.event_table = _follow_columns.event_table
        AND m.column_name <> c.name AND NOT pghistory._is_reserved_name(c.name);
    PERFORM pghistory._keep_dropped(_follow_columns.event_table, m.column_name)
       FROM pghistory.event_column AS m
            JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name
      WHERE m.event_table = _follow_columns.event_table
        AND NOT EXISTS (SELECT FROM pghistory._columns("table") AS c
                         WHERE CASE WHEN same_origin THEN c.number = m.table_column_number
                                    ELSE c.name = m.table_column_name END);

    -- Retyped ones.
    FOR this IN
        SELECT m.column_name, t.type_id, t.type_modifier, c.collation_id, c.name, c.number
          FROM jsonb_to_recordset(mapped) AS m(column_name name, table_column_number smallint)
               JOIN pghistory._columns("table") AS c ON c.number = m.table_column_number
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
               JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = m.column_name
         WHERE NOT pghistory._holds(event_table, m.column_name, t.type_id, t.type_modifier, c.collation_id)
    LOOP
        is_readable := pghistory._retype_column(
            event_table, this.column_name, this.type_id, this.type_modifier, this.collation_id);
        PERFORM pghistory._copy_storage(event_table, this.column_name, "table", this.name);
        IF NOT is_readable OR pghistory._may_compute(current_query()) THEN
            doubtful := doubtful || jsonb_build_object(
                'name', this.name, 'table_column_number', this.number,
                'last_event', COALESCE(pghistory._last_event(event_table), 0),
                'is_unreadable', NOT is_readable, 'expected', format('e.%I', this.column_name), 'is_new', false);
        END IF;
    END LOOP;

    doubtful := doubtful || COALESCE((
        SELECT jsonb_agg(jsonb_build_object(
                   'name', c.name, 'table_column_number', c.number,
                   'last_event', COALESCE(pghistory._last_event(_follow_columns.event_table), 0),
                   'is_unreadable', false, 'expected', format('e.%I', m.column_name), 'is_new', false))
          FROM jsonb_to_recordset(mapped) AS m(column_name name, table_column_number smallint)
               JOIN pghistory._columns("table") AS c ON c.number = m.table_column_number
         WHERE pghistory._computes(current_query(), ARRAY[c.name])
           AND NOT doubtful @> jsonb_build_array(jsonb_build_object('table_column_number', c.number))), '[]');

    -- Added ones, where a tracker wants every column, and those that are missing.
    FOR this IN
        SELECT c.name, c.number, t.type_id, t.type_modifier, c.collation_id
          FROM pghistory._columns("table") AS c
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
         WHERE EXISTS (SELECT FROM pghistory.tracker AS r
                        WHERE r.event_table = _follow_columns.event_table AND r."table" = _follow_columns."table"
                          AND c.name = ANY (pghistory._tracked_fields(r."table", r.fields, r.exclude)))
           AND NOT pghistory._is_reserved_name(c.name)
           AND c.number NOT IN (
               SELECT m.table_column_number FROM jsonb_to_recordset(mapped) AS m(table_column_number smallint)
                WHERE EXISTS (
                      SELECT FROM jsonb_to_recordset(mapped) AS n(column_name name, table_column_number smallint)
                                  JOIN pg_attribute AS a
                                    ON a.attrelid = event_table AND a.attname = n.column_name
                       WHERE n.table_column_number = m.table_column_number))
         ORDER BY c.number
    LOOP
        PERFORM pghistory._ensure_column(event_table, this.name,
                                         this.type_id, this.type_modifier, this.collation_id);
        PERFORM pghistory._copy_storage(event_table, this.name, "table", this.name);
        missing_value := pghistory._missing_value("table", this.number);
        mapped := mapped || jsonb_build_object(
            'column_name', this.name, 'table_column_name', this.name, 'table_column_number', this.number,
            'added_after', COALESCE(pghistory._last_event(event_table), 0), 'missing_value', missing_value);
        IF pghistory._is_filled("table", this.number)
           OR NOT pghistory._is_of_this_transaction("table", this.number)
        THEN
            doubtful := doubtful || jsonb_build_object(
                'name', this.name, 'table_column_number', this.number,
                'last_event', COALESCE(pghistory._last_event(event_table), 0),
                'is_unreadable', false, 'is_new', true,
                'expected', format('%L::%s', missing_value, format_type(this.type_id, this.type_modifier)));
        END IF;
    END LOOP;

    INSERT INTO pghistory._request VALUES ('save columns', "table", event_table, mapped);
    RETURN doubtful;
END
$function$;

-- Notes what DDL did to values without an event.
CREATE OR REPLACE FUNCTION pghistory._note_rewrites("table" regclass, event_table regclass, doubtful jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    found CONSTANT jsonb := (
        SELECT jsonb_agg(d || jsonb_build_object('is_rewritten', (d -> 'is_unreadable')::boolean
                   OR pghistory._is_rewritten("table", _note_rewrites.event_table, d ->> 'name', d ->> 'expected',
                                              NOT (d -> 'is_new')::boolean)))
          FROM jsonb_array_elements(doubtful) AS d);
BEGIN
    IF found @? '$[*] ? (@.is_rewritten == true)' THEN
        INSERT INTO pghistory._request VALUES ('note rewrite', "table", event_table, found);
    END IF;
END
$function$;

-- Have events that named their objects by one key told all that happened to another one? If it never changed. Then they
-- can name them by that.
CREATE OR REPLACE FUNCTION pghistory._was_constant(
    "table" regclass, event_table regclass, obj_key name[], fields name[])
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    held CONSTANT name[] := pghistory._object_columns(obj_key);
    others CONSTANT name[] := pghistory._other_key_columns(obj_key);
    columns CONSTANT name[] := ARRAY(
        SELECT m.column_name
          FROM unnest(fields) WITH ORDINALITY AS k(field, position)
               JOIN pghistory.event_column AS m
                 ON m.event_table = _was_constant.event_table AND m.table_column_name = k.field
         ORDER BY k.position);
    was_constant boolean;
BEGIN
    IF obj_key = '{}' OR held <@ ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = event_table) IS NOT TRUE
       OR cardinality(columns) < cardinality(fields)
       OR NOT pghistory._may_rewrite("table") OR NOT pghistory._may_rewrite(event_table)
       OR EXISTS (SELECT FROM unnest(obj_key) AS k(field)
                   WHERE k.field NOT IN (SELECT c.name FROM pghistory._columns("table") AS c))
    THEN
        RETURN false;
    END IF;
    EXECUTE (
        SELECT format(
                   'SELECT NOT EXISTS (SELECT FROM (SELECT e.*, lag(e.pgh_id) OVER w AS pgh_previous, %1$s '
                   'FROM %2$s AS e WINDOW w AS (PARTITION BY %3$s ORDER BY e.pgh_id)) AS e '
                   'WHERE %4$s OR e.pgh_previous IS NOT NULL AND ROW(%5$s)::record *<> ROW(%6$s)::record%7$s) '
                   'AND NOT EXISTS (SELECT FROM %8$s AS t CROSS JOIN LATERAL ('
                   'SELECT e.* FROM %2$s AS e WHERE %9$s ORDER BY e.pgh_id DESC LIMIT 1) AS e '
                   'WHERE ROW(%5$s)::record *<> ROW(%10$s)::record)',
                   string_agg(format('lag(e.%I) OVER w AS pgh_row_%s', c.name, c.position), ', ' ORDER BY c.position),
                   pghistory._table_name(event_table),
                   array_to_string(pghistory._qualified('e', held), ', '),
                   string_agg(format('e.%I IS NULL', c.name), ' OR ' ORDER BY c.position),
                   string_agg(format('e.%I', c.name), ', ' ORDER BY c.position),
                   string_agg(format('e.pgh_row_%s', c.position), ', ' ORDER BY c.position),
                   (SELECT format(' OR e.%I IS NOT NULL', a.attname) FROM pg_attribute AS a
                     WHERE a.attrelid = event_table AND a.attname = others[1] AND NOT a.attisdropped),
                   pghistory._table_name("table"),
                   pghistory._same_object_text(event_table, obj_key, pghistory._qualified('e', held),
                                               pghistory._qualified('t', obj_key)),
                   array_to_string(pghistory._qualified('t', fields), ', '))
          FROM unnest(columns) WITH ORDINALITY AS c(name, position))
       INTO was_constant;
    RETURN was_constant;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$function$;

-- Has a key been computed anew? Then there are no rows of keys that have been left by nobody.
CREATE OR REPLACE FUNCTION pghistory._is_lost("table" regclass, event_table regclass, obj_key name[])
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    held CONSTANT name[] := pghistory._object_columns(obj_key);
    others CONSTANT name[] := pghistory._other_key_columns(obj_key);
    is_lost boolean;
BEGIN
    IF NOT pghistory._may_rewrite("table") OR NOT pghistory._may_rewrite(event_table) THEN
        RETURN true;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %1$s AS e '
        'WHERE NOT EXISTS (SELECT FROM %2$s AS t WHERE %3$s) '
        'AND NOT EXISTS (SELECT FROM %1$s AS l WHERE %4$s AND (l.pgh_operation IN (''D'', ''T'')%5$s))) '
        'OR NOT EXISTS (SELECT FROM %1$s AS e WHERE e.pgh_operation IN (''I'', ''U'', ''S'', ''B'')) '
        'AND EXISTS (SELECT FROM %2$s)',
        pghistory._table_name(event_table), pghistory._table_name("table"),
        pghistory._same_object_text(event_table, obj_key, pghistory._qualified('t', obj_key),
                                    pghistory._qualified('e', held)),
        pghistory._same_object_text(event_table, obj_key, pghistory._qualified('l', held),
                                    pghistory._qualified('e', held)),
        (SELECT format(' OR l.%I IS NOT NULL) OR l.%I IS NOT NULL AND (%s', a.attname, a.attname,
                       pghistory._same_object_text(event_table, obj_key, pghistory._qualified('l', others),
                                                   pghistory._qualified('e', held)))
           FROM pg_attribute AS a
          WHERE a.attrelid = event_table AND a.attname = others[1] AND NOT a.attisdropped))
       INTO is_lost;
    RETURN is_lost;
EXCEPTION WHEN OTHERS THEN
    RETURN true;
END
$function$;

-- Events of another key: they know it if they hold its columns. Says whether they do.
CREATE OR REPLACE FUNCTION pghistory._fill_key("table" regclass, event_table regclass, obj_key name[])
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
BEGIN
    IF NOT pghistory._may_rewrite(event_table)
       OR EXISTS (SELECT FROM unnest(obj_key) AS k(field)
                   WHERE NOT EXISTS (SELECT FROM pghistory.event_column AS m
                                      WHERE m.event_table = _fill_key.event_table AND m.table_column_name = k.field))
    THEN
        RETURN false;
    END IF;
    FOR this IN
        SELECT k.held, m.column_name, format_type(a.atttypid, a.atttypmod) AS type_text
          FROM unnest(obj_key, pghistory._object_columns(obj_key)) AS k(field, held)
               JOIN pghistory.event_column AS m
                 ON m.event_table = _fill_key.event_table AND m.table_column_name = k.field
               JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = k.held
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %I', pghistory._table_name(event_table),
                       this.held, this.type_text, this.column_name);
    END LOOP;
    RETURN true;
END
$function$;

-- The real foreign key of events goes where the key went, if it can.
CREATE OR REPLACE FUNCTION pghistory._follow_foreign_key("table" regclass, event_table regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _follow_foreign_key.event_table;
    IF registered.obj_fk IS NOT NULL THEN
        PERFORM pghistory._set_foreign_key(event_table, "table", registered.obj_key, registered.obj_fk);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'events of % have no foreign key to their objects any more: %', "table", SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Give the table a key that it can refer to, and call pghistory.refresh().';
END
$function$;

-- The columns that name the object follow its key: the one given, or the primary key. A table that loses its
-- primary key keeps naming its objects by the columns that are still there.
CREATE OR REPLACE FUNCTION pghistory._follow_key("table" regclass, event_table regclass, same_origin boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    present name[];
    wanted name[];
    this record;
    fresh boolean := false;
    is_lost boolean := false;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _follow_key.event_table;
    present := pghistory._current_names("table", registered.obj_key, registered.obj_key_numbers, same_origin);
    wanted := CASE WHEN registered.obj_key_given THEN present
                   ELSE COALESCE(pghistory._primary_key("table"), present) END;
    IF cardinality(present) < cardinality(registered.obj_key) AND registered.obj_key_given THEN
        wanted := '{}';
    END IF;

    IF wanted = present AND cardinality(present) = cardinality(registered.obj_key) THEN
        PERFORM pghistory._rename_columns(_follow_key.event_table,
                                          COALESCE(jsonb_object_agg(old_name, new_name), '{}'))
           FROM unnest(pghistory._object_columns(registered.obj_key)
                       || pghistory._other_key_columns(registered.obj_key),
                       pghistory._object_columns(wanted)
                       || pghistory._other_key_columns(wanted)) AS k(old_name, new_name)
                JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = k.old_name
          WHERE old_name <> new_name;
        FOR this IN
            SELECT c.name, c.type_id, c.type_modifier, c.collation_id
              FROM pghistory._event_columns("table", '{}', wanted, 'none') AS c
                   JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = c.name
             WHERE (starts_with(c.name, 'pgh_obj_') OR starts_with(c.name, 'pgh_other_'))
               AND NOT pghistory._holds(event_table, c.name, c.type_id, c.type_modifier, c.collation_id)
        LOOP
            is_lost := NOT pghistory._retype_column(
                               event_table, this.name, this.type_id, this.type_modifier, this.collation_id)
                       OR is_lost OR pghistory._may_compute(current_query());
        END LOOP;
        is_lost := (is_lost OR pghistory._computes(current_query(), wanted))
                   AND pghistory._is_lost("table", event_table, wanted);
    ELSE
        -- Another key: the columns of the old one step aside.
        is_lost := NOT pghistory._was_constant("table", event_table, present, wanted);
        FOR this IN
            SELECT k.field FROM unnest(pghistory._object_columns(registered.obj_key)
                                       || pghistory._other_key_columns(registered.obj_key)) AS k(field)
                                JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = k.field
        LOOP
            PERFORM pghistory._keep_dropped(event_table, pghistory._set_aside(event_table, this.field));
        END LOOP;
        fresh := wanted <> '{}';
    END IF;
    FOR this IN
        SELECT c.name, c.type_id, c.type_modifier, c.collation_id
          FROM pghistory._event_columns("table", '{}', wanted, 'none') AS c
         WHERE starts_with(c.name, 'pgh_obj_') OR starts_with(c.name, 'pgh_other_') AND fresh
    LOOP
        PERFORM pghistory._ensure_column(event_table, this.name,
                                         this.type_id, this.type_modifier, this.collation_id);
    END LOOP;
    IF wanted <> '{}' AND NOT EXISTS (
           SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = event_table AND a.attname = (pghistory._object_columns(wanted))[1])
    THEN
        PERFORM pghistory._create_event_indexes(event_table, "table", wanted, 'none');
    END IF;
    IF fresh THEN
        is_lost := NOT pghistory._fill_key("table", event_table, wanted) OR is_lost;
    END IF;

    INSERT INTO pghistory._request
    VALUES ('save event table', "table", event_table, jsonb_build_object(
        'obj_key', wanted, 'obj_key_given', registered.obj_key_given, 'obj_fk', registered.obj_fk,
        'context', registered.context, 'append_only', registered.append_only,
        'obj_key_numbers', ARRAY(SELECT c.number FROM unnest(wanted) WITH ORDINALITY AS k(field, place)
                                        JOIN pghistory._columns("table") AS c ON c.name = k.field
                                  ORDER BY k.place)));
    -- What events say of another key is not about these rows: the history begins anew.
    IF is_lost AND wanted <> '{}' THEN
        INSERT INTO pghistory._request
        VALUES ('restart trackers', "table", event_table,
                jsonb_build_object('since_event', pghistory._last_event(event_table)));
    END IF;
    IF fresh THEN
        PERFORM pghistory._follow_foreign_key("table", event_table);
    END IF;
END
$function$;

-- What a condition names, under the names of today, as a map from the old text to the new; null if something is
-- gone or of another type.
CREATE OR REPLACE FUNCTION pghistory._condition_renames(
    "table" regclass, columns jsonb, objects jsonb, same_origin boolean)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN bool_and(new_text IS NOT NULL) IS NOT FALSE
                THEN COALESCE(jsonb_object_agg(old_text, new_text) FILTER (WHERE old_text <> new_text), '{}') END
      FROM (
        SELECT pghistory._field(image, k.name) AS old_text,
               CASE WHEN a.attname IS NOT NULL THEN pghistory._field(image, a.attname) END AS new_text
          FROM unnest(ARRAY['old', 'new']) AS image
               CROSS JOIN jsonb_to_recordset(columns) AS k(number smallint, name name, type oid)
               LEFT JOIN pg_attribute AS a
                      ON a.attrelid = "table" AND NOT a.attisdropped AND a.attnum > 0
                     AND CASE WHEN same_origin THEN a.attnum = k.number AND a.atttypid = k.type
                              ELSE a.attname = k.name END
        UNION ALL
        SELECT k.name, pghistory._object_text(k.class, k.id)
          FROM jsonb_to_recordset(objects) AS k(class text, id oid, name text)
         WHERE same_origin
      ) AS names
$function$;

CREATE OR REPLACE FUNCTION pghistory._column_numbers("table" regclass, names name[])
 RETURNS smallint[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN names IS NOT NULL THEN ARRAY(
               SELECT c.number FROM unnest(names) WITH ORDINALITY AS k(name, place)
                                    JOIN pghistory._columns("table") AS c ON c.name = k.name ORDER BY k.place) END
$function$;

-- Fields, exclusions and conditions of a table's trackers follow its columns.
CREATE OR REPLACE FUNCTION pghistory._follow_trackers("table" regclass, event_table regclass, same_origin boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
    fields name[];
    exclude name[];
    renames jsonb;
BEGIN
    FOR this IN SELECT t.* FROM pghistory.tracker AS t
                 WHERE t."table" = _follow_trackers."table" AND t.event_table = _follow_trackers.event_table
    LOOP
        fields := pghistory._current_names("table", this.fields, this.field_numbers, same_origin);
        exclude := pghistory._current_names("table", this.exclude, this.exclude_numbers, same_origin);
        renames := pghistory._condition_renames(
            "table", this.condition_columns, this.condition_objects, same_origin);
        IF this.condition_objects <> '[]' AND NOT this.condition_is_void AND NOT pghistory._still_parses(
               "table", this.kind, pghistory._renamed_condition(this.condition, renames))
        THEN
            renames := NULL;
        END IF;
        IF renames IS NULL AND NOT this.condition_is_void THEN
            RAISE WARNING 'what the condition of tracker "%" names is gone or of another type', this.label
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Until track() is called for it again, '
                             'its events are written as if it had no condition.';
        END IF;
        INSERT INTO pghistory._request
        VALUES ('save tracker', "table", event_table, to_jsonb(this) || jsonb_build_object(
            'fields', fields, 'field_numbers', pghistory._column_numbers("table", fields),
            'exclude', exclude, 'exclude_numbers', pghistory._column_numbers("table", exclude),
            'condition_is_void', this.condition_is_void OR renames IS NULL)
            || CASE WHEN renames IS NULL OR this.condition IS NULL THEN '{}' ELSE jsonb_build_object(
                   'condition', pghistory._renamed_condition(this.condition, renames),
                   'condition_columns', pghistory._renamed_columns("table", this.condition_columns, same_origin),
                   'condition_objects', pghistory._renamed_objects(this.condition_objects, same_origin)) END);
    END LOOP;
END
$function$;

-- Puts back columns of ours that somebody dropped from an event table: writes need them.
CREATE OR REPLACE FUNCTION pghistory._restore_own_columns("table" regclass, event_table regclass, context text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    missing record;
BEGIN
    FOR missing IN
        SELECT c.name, format_type(c.type_id, c.type_modifier) AS type_text
          FROM pghistory._event_columns("table", '{}', '{}', context) AS c
         WHERE NOT EXISTS (SELECT FROM pg_attribute AS a
                            WHERE a.attrelid = event_table AND a.attname = c.name AND NOT a.attisdropped)
    LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s%s', relation, missing.name, missing.type_text,
                       CASE missing.name WHEN 'pgh_id' THEN ' GENERATED ALWAYS AS IDENTITY PRIMARY KEY' ELSE '' END);
    END LOOP;
    IF EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = event_table AND attname = 'pgh_id'
                  AND attnotnull AND NOT atthasdef AND attidentity = '')
       AND pghistory._may_rewrite(event_table)
    THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN pgh_id ADD GENERATED ALWAYS AS IDENTITY', relation);
        EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), max(pgh_id)) FROM %s',
                       relation, 'pgh_id', relation);
    END IF;
END
$function$;

-- Makes an event table follow its table, also one that a dropped table of the name left behind.
CREATE OR REPLACE FUNCTION pghistory._follow_event_table("table" regclass, event_table regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    same_origin boolean;
    doubtful jsonb;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _follow_event_table.event_table;
    same_origin := registered.origin = pghistory._origin("table");
    PERFORM pghistory._restore_own_columns("table", event_table, registered.context);
    PERFORM pghistory._follow_trackers("table", event_table, same_origin);
    doubtful := pghistory._follow_columns("table", event_table, same_origin);
    PERFORM pghistory._follow_key("table", event_table, same_origin);
    PERFORM pghistory._note_rewrites("table", event_table, doubtful);
    PERFORM pghistory._set_append_only(event_table, registered.append_only);
END
$function$;

-- Follows as far as it goes without touching the event table, when that cannot be altered now: names are renewed, and
-- what the event table cannot hold is not written.
CREATE OR REPLACE FUNCTION pghistory._follow_registry("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
    same_origin boolean;
    key name[];
BEGIN
    FOR this IN SELECT e.* FROM pghistory.event_table AS e JOIN pg_class AS c ON c.oid = e.event_table
                 WHERE e."table" = _follow_registry."table"
    LOOP
        same_origin := this.origin = pghistory._origin("table");
        PERFORM pghistory._follow_trackers("table", this.event_table, same_origin);
        INSERT INTO pghistory._request
        SELECT 'save columns', "table", this.event_table,
               COALESCE(jsonb_agg(jsonb_build_object('column_name', m.column_name, 'table_column_name', c.name,
                                                     'table_column_number', c.number)), '[]')
          FROM pghistory.event_column AS m
               JOIN pghistory._columns(_follow_registry."table") AS c
                 ON CASE WHEN same_origin THEN c.number = m.table_column_number ELSE c.name = m.table_column_name END
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
         WHERE m.event_table = this.event_table
           AND pghistory._holds(m.event_table, m.column_name, t.type_id, t.type_modifier, c.collation_id);
        key := pghistory._current_names("table", this.obj_key, this.obj_key_numbers, same_origin);
        IF cardinality(key) < cardinality(this.obj_key) OR EXISTS (
               SELECT FROM pghistory._event_columns("table", '{}', key, 'none') AS c
                WHERE c.required AND NOT pghistory._holds(this.event_table, c.name, c.type_id, c.type_modifier,
                                                          c.collation_id))
        THEN
            key := '{}';
        END IF;
        INSERT INTO pghistory._request
        VALUES ('save event table', "table", this.event_table,
                to_jsonb(this) || jsonb_build_object(
                    'obj_key', key, 'obj_key_numbers', pghistory._column_numbers("table", key)));
        PERFORM pghistory._apply_by_hand("table", this.event_table);
    END LOOP;
    PERFORM pghistory._apply_triggers("table");
END
$function$;

-- Makes one tracked table's event tables and triggers follow it.
CREATE OR REPLACE FUNCTION pghistory._follow_table("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
BEGIN
    FOR this IN SELECT e.event_table FROM pghistory.event_table AS e WHERE e."table" = _follow_table."table" LOOP
        IF NOT EXISTS (SELECT FROM pg_class WHERE oid = this.event_table) THEN
            INSERT INTO pghistory._request VALUES ('forget event table', "table", this.event_table);
            CONTINUE;
        END IF;
        PERFORM pghistory._follow_event_table("table", this.event_table);
        PERFORM pghistory._apply_by_hand("table", this.event_table);
    END LOOP;
    PERFORM pghistory._apply_triggers("table");
END
$function$;
