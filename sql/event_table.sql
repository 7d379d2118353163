-- Event tables: what they consist of, making them, and taking over one that is there.

-- The columns of an event table, in order. `source` is the tracked column that one holds, if any; one that is not
-- `required` may be missing from a table that is taken over.
CREATE OR REPLACE FUNCTION pghistory._event_columns(
    "table" regclass,
    fields name[],
    obj_key name[],
    context text,
    OUT name name,
    OUT type_id oid,
    OUT type_modifier integer,
    OUT collation_id oid,
    OUT source name,
    OUT not_null boolean,
    OUT required boolean)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH key_column AS (
        SELECT k.position, c.name, t.type_id, t.type_modifier, c.collation_id
          FROM unnest(obj_key) WITH ORDINALITY AS k(field, position)
               JOIN pghistory._columns("table") AS c ON c.name = k.field
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
    )
    SELECT v.name, v.type_id, v.type_modifier, v.collation_id, v.source, v.not_null, v.required
      FROM (
        SELECT section, position, f.name::name, f.type::oid AS type_id, -1 AS type_modifier,
               (SELECT typcollation FROM pg_type WHERE oid = f.type) AS collation_id,
               NULL::name AS source, f.not_null, true AS required
          FROM (VALUES (1, 1, 'pgh_id', 'bigint'::regtype, true),
                       (1, 2, 'pgh_created_at', 'timestamp with time zone', true),
                       (1, 3, 'pgh_label', 'text', true),
                       (1, 4, 'pgh_operation', '"char"', true),
                       (1, 5, 'pgh_xid', 'xid8', true),
                       (4, 1, 'pgh_context_id', 'uuid', false),
                       (4, 2, 'pgh_context', 'jsonb', false))
               AS f(section, position, name, type, not_null)
         WHERE f.name NOT IN ('pgh_context_id', 'pgh_context')
            OR f.name = 'pgh_context_id' AND _event_columns.context <> 'none'
            OR f.name = 'pgh_context' AND _event_columns.context = 'inline'
        UNION ALL
        SELECT 2, k.position, (pghistory._object_columns(obj_key))[k.position], k.type_id, k.type_modifier,
               k.collation_id, NULL, false, true
          FROM key_column AS k
        UNION ALL
        SELECT 3, k.position, (pghistory._other_key_columns(obj_key))[k.position], k.type_id, k.type_modifier,
               k.collation_id, NULL, false, false
          FROM key_column AS k
        UNION ALL
        SELECT 5, c.number, c.name, t.type_id, t.type_modifier, c.collation_id, c.name, false, true
          FROM pghistory._columns("table") AS c
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
         WHERE c.name = ANY (fields)
      ) AS v
     ORDER BY v.section, v.position;
END
$function$;

-- A column's type as it is written, with its collation where that is not the type's own.
CREATE OR REPLACE FUNCTION pghistory._type_text(type_id oid, type_modifier integer, collation_id oid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT format_type(type_id, type_modifier)
               || COALESCE((SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
                              FROM pg_collation AS c
                                   JOIN pg_namespace AS n ON n.oid = c.collnamespace
                                   JOIN pg_type AS t ON t.oid = type_id
                             WHERE c.oid = collation_id AND c.oid <> t.typcollation),
                           ''));
END
$function$;

-- Large values are stored in an event as they are stored in the table.
CREATE OR REPLACE FUNCTION pghistory._copy_storage(event_table regclass, field name, "table" regclass, source name)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
BEGIN
    SELECT c.compression, c.storage, c.storage <> t.typstorage AS differs
      INTO this
      FROM pghistory._columns("table") AS c JOIN pg_type AS t ON t.oid = c.type_id
     WHERE c.name = source;
    IF this.differs THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', pghistory._table_name(event_table), field,
                       CASE this.storage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
                                         ELSE 'EXTENDED' END);
    END IF;
    IF this.compression <> '' THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s',
                       pghistory._table_name(event_table), field,
                       CASE this.compression WHEN 'l' THEN 'lz4' ELSE 'pglz' END);
    END IF;
END
$function$;

-- What an append-only event table answers.
CREATE OR REPLACE FUNCTION pghistory._refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION 'event table %.% is append-only: % refused',
            quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME), TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Its owner can call track() again with append_only => false.';
END
$function$;

-- Puts the guard of an append-only event table in place, or takes it away.
CREATE OR REPLACE FUNCTION pghistory._set_append_only(event_table regclass, append_only boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    guard CONSTANT name := '!pghistory append-only';
    relation CONSTANT text := pghistory._table_name(event_table);
    guarded CONSTANT boolean := EXISTS (SELECT FROM pg_trigger WHERE tgrelid = event_table AND tgname = guard);
BEGIN
    IF append_only AND NOT guarded THEN
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
                       'FOR EACH STATEMENT EXECUTE FUNCTION pghistory._refuse_change()',
                       guard, relation);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, guard);
        IF pghistory._extension_is_installed() THEN
            EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION pghistory', guard, relation);
        END IF;
    ELSIF append_only
          AND (SELECT tgenabled = 'O' FROM pg_trigger WHERE tgrelid = event_table AND tgname = guard)
    THEN
        -- a restore that switches triggers off for a while switches them on as ordinary ones
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, guard);
    ELSIF guarded AND NOT append_only THEN
        EXECUTE format('DROP TRIGGER %I ON %s', guard, relation);
    END IF;
END
$function$;

-- Ties events to their object by a real foreign key, or unties them.
CREATE OR REPLACE FUNCTION pghistory._set_foreign_key(
    event_table regclass, "table" regclass, obj_key name[], obj_fk text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    foreign_key CONSTANT name := 'pghistory_obj_fk';
    relation CONSTANT text := pghistory._table_name(event_table);
    actual text := (SELECT CASE confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' ELSE 'restrict' END
                      FROM pg_constraint WHERE conrelid = event_table AND conname = foreign_key);
    definition text;
BEGIN
    IF actual IS NOT DISTINCT FROM obj_fk THEN
        RETURN;
    END IF;
    IF actual IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', relation, foreign_key);
    END IF;
    IF obj_fk IS NOT NULL THEN
        definition := format(
            'ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s) ON UPDATE CASCADE ON DELETE %s',
            relation, foreign_key,
            (SELECT string_agg(quote_ident(field), ', ') FROM unnest(pghistory._object_columns(obj_key)) AS field),
            pghistory._table_name("table"),
            (SELECT string_agg(quote_ident(field), ', ') FROM unnest(obj_key) AS field),
            CASE obj_fk WHEN 'cascade' THEN 'CASCADE' WHEN 'set null' THEN 'SET NULL' ELSE 'RESTRICT' END);
        BEGIN
            EXECUTE definition;
        EXCEPTION WHEN foreign_key_violation THEN
            EXECUTE definition || ' NOT VALID';  -- events of objects that are gone
        END;
    END IF;
END
$function$;

-- Events are looked up by object, by context, and where a key changed. Values that no btree index is known to hold,
-- since they may be too long for one or of a type without order, are hashed.
CREATE OR REPLACE FUNCTION pghistory._create_event_indexes(
    event_table regclass, "table" regclass, obj_key name[], context text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    columns CONSTANT name[] := pghistory._object_columns(obj_key);
BEGIN
    IF obj_key <> '{}' THEN
        IF NOT EXISTS (
               SELECT FROM pghistory._columns("table") AS c
                WHERE c.name = ANY (obj_key)
                  AND NOT (pghistory._is_indexable(c.type_id, 'btree')
                           AND (c.fixed_size OR pghistory._has_index("table", obj_key))))
        THEN
            EXECUTE format('CREATE INDEX ON %s (%s, pgh_id)', relation,
                           (SELECT string_agg(quote_ident(field), ', ') FROM unnest(columns) AS field));
        ELSIF (SELECT pghistory._is_indexable(c.type_id, 'hash') FROM pghistory._columns("table") AS c
                WHERE c.name = obj_key[1])
        THEN
            EXECUTE format('CREATE INDEX ON %s USING hash (%I)', relation, columns[1]);
        END IF;
    END IF;
    -- a table that was taken over may do without the other key
    IF EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = event_table AND attname = (pghistory._other_key_columns(obj_key))[1]
                  AND NOT attisdropped)
    THEN
        EXECUTE format('CREATE INDEX ON %s (pgh_id) WHERE %I IS NOT NULL', relation,
                       (pghistory._other_key_columns(obj_key))[1]);
    END IF;
    IF context <> 'none' THEN
        EXECUTE format('CREATE INDEX ON %s (pgh_context_id) WHERE pgh_context_id IS NOT NULL', relation);
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._create_event_table(
    "table" regclass, event_schema name, event_name name, fields name[], obj_key name[], obj_fk text, context text,
    append_only boolean)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    column_limit CONSTANT integer := 1600;
    relation CONSTANT text := format('%I.%I', event_schema, event_name);
    columns text[] := ARRAY(
        SELECT format('%I %s%s', c.name, pghistory._type_text(c.type_id, c.type_modifier, c.collation_id),
                      CASE WHEN c.name = 'pgh_id' THEN ' GENERATED ALWAYS AS IDENTITY PRIMARY KEY'
                           WHEN c.not_null THEN ' NOT NULL'
                           ELSE '' END)
          FROM pghistory._event_columns("table", fields, obj_key, context) AS c);
    field name;
    event_table regclass;
BEGIN
    IF cardinality(columns) > column_limit THEN
        RAISE EXCEPTION 'events of table % would have % columns, and a table can have %',
                pghistory._table_name("table"), cardinality(columns), column_limit
            USING ERRCODE = 'too_many_columns',
                  HINT = 'Leave out some with fields or exclude.';
    END IF;
    EXECUTE format(E'CREATE TABLE %s (\n    %s\n)', relation, array_to_string(columns, E',\n    '));
    event_table := to_regclass(relation);
    FOREACH field IN ARRAY fields LOOP
        PERFORM pghistory._copy_storage(event_table, field, "table", field);
    END LOOP;
    PERFORM pghistory._create_event_indexes(event_table, "table", obj_key, context);
    PERFORM pghistory._set_foreign_key(event_table, "table", obj_key, obj_fk);
    PERFORM pghistory._set_append_only(event_table, append_only);
    EXECUTE format('COMMENT ON TABLE %s IS %L', relation,
                   format('The history of %s, written by pghistory.', pghistory._table_name("table")));
    -- What a superuser or another member of the owning role tracks belongs to the table's owner all the same.
    IF pghistory._owner("table") <> current_user::regrole THEN
        BEGIN
            EXECUTE format('ALTER TABLE %s OWNER TO %s', relation, pghistory._owner("table"));
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- the owner may not create tables in that schema: the caller keeps it
        END;
    END IF;
    RETURN event_table;
END
$function$;

-- Why events cannot be written to a table, or null when they can: its pgh_id must fill itself, what is written must
-- not be generated, and what is not always written may be null.
CREATE OR REPLACE FUNCTION pghistory._unwritable(event_table regclass, written name[])
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    problem text;
BEGIN
    IF (SELECT NOT a.atthasdef AND a.attidentity = ''
          FROM pg_attribute AS a WHERE a.attrelid = event_table AND a.attname = 'pgh_id')
    THEN
        RETURN 'its column "pgh_id" does not fill itself';
    END IF;
    SELECT CASE WHEN a.attgenerated <> '' OR a.attidentity <> ''
                THEN format('its column "%s" is generated', a.attname)
                ELSE format('its column "%s" must not be null, and is not always written', a.attname) END
      INTO problem
      FROM pg_attribute AS a
     WHERE a.attrelid = event_table AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'pgh_id'
       AND CASE WHEN a.attname <> ALL (written) THEN a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
                ELSE a.attgenerated <> '' OR a.attidentity <> ''
                     OR a.attnotnull AND (starts_with(a.attname, 'pgh_other_')
                                          OR a.attname IN ('pgh_context_id', 'pgh_context')) END
     LIMIT 1;
    RETURN problem;
END
$function$;

-- Why a table that is there cannot hold such events, or null when it can.
CREATE OR REPLACE FUNCTION pghistory._misfit(
    event_table regclass, "table" regclass, fields name[], obj_key name[], context text, append_only boolean)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    problem text;
BEGIN
    IF (SELECT relkind NOT IN ('r', 'p') OR relpersistence = 't' FROM pg_class WHERE oid = event_table) THEN
        RETURN 'it is not an ordinary table';
    ELSIF append_only
          AND EXISTS (SELECT FROM pg_class WHERE oid = event_table AND (relkind = 'p' OR relhassubclass))
    THEN
        RETURN 'it has partitions or children, which nothing would guard as append-only';
    ELSIF EXISTS (SELECT FROM pghistory.tracker AS t WHERE t."table" = _misfit.event_table)
          OR event_table = "table"
    THEN
        RETURN 'it is a tracked table';
    END IF;

    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _misfit.event_table;
    IF FOUND THEN
        IF registered."table" <> "table" AND pghistory._table_name(registered."table") IS NOT NULL THEN
            RETURN format('it holds the events of %s', pghistory._table_name(registered."table"));
        ELSIF registered."table" IS DISTINCT FROM "table"
              AND format('%I.%I', registered.table_schema, registered.table_name) <> pghistory._table_name("table")
        THEN
            RETURN format('it holds the events of %I.%I, which was dropped',
                          registered.table_schema, registered.table_name);
        ELSIF registered.obj_key <> obj_key THEN
            RETURN format('its events name the object by %s',
                          COALESCE(NULLIF(array_to_string(registered.obj_key, ', '), ''), 'nothing'));
        ELSIF registered.context <> context THEN
            RETURN format('its events have context "%s"', registered.context);
        END IF;
    END IF;

    SELECT CASE WHEN a.attname IS NULL THEN format('it has no column "%s"', c.name)
                ELSE format('its column "%s" is %s, not %s', c.name,
                            pghistory._type_text(a.atttypid, a.atttypmod, a.attcollation),
                            pghistory._type_text(c.type_id, c.type_modifier, c.collation_id)) END
      INTO problem
      FROM pghistory._event_columns("table", fields, obj_key, context) AS c
           LEFT JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = c.name AND NOT a.attisdropped
     WHERE (c.required OR a.attname IS NOT NULL)
       AND NOT pghistory._holds(event_table, c.name, c.type_id, c.type_modifier, c.collation_id)
     LIMIT 1;
    IF FOUND THEN
        RETURN problem;
    END IF;
    RETURN pghistory._unwritable(event_table, ARRAY(
        SELECT c.name FROM pghistory._event_columns("table", fields, obj_key, context) AS c));
END
$function$;

-- The parts of a name such as audit.users_event; without a schema, that of the tracked table.
CREATE OR REPLACE FUNCTION pghistory._parsed_event_table(
    event_table text, "table" regclass, OUT event_schema name, OUT event_name name)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    parts text[];
BEGIN
    BEGIN
        parts := parse_ident(event_table);
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL;  -- said below
    END;
    IF parts IS NULL OR cardinality(parts) > 2 OR octet_length(parts[cardinality(parts)]) > 63 THEN
        RAISE EXCEPTION 'event_table "%" is not a table name', event_table
            USING ERRCODE = 'invalid_name',
                  HINT = 'Give a name of at most 63 bytes, or schema.name, quoted as in SQL.';
    ELSIF cardinality(parts) = 2 AND starts_with(parts[1], 'pg_temp') THEN
        RAISE EXCEPTION 'event_table "%" would be temporary', event_table
            USING ERRCODE = 'invalid_name',
                  HINT = 'Events are kept: name a schema that stays.';
    END IF;
    event_name := parts[cardinality(parts)];
    IF cardinality(parts) = 2 THEN
        event_schema := parts[1];
    ELSE
        SELECT n.nspname INTO event_schema
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = "table";
    END IF;
END
$function$;

-- The columns that a tracker records: those given, all but those excluded, or all.
CREATE OR REPLACE FUNCTION pghistory._tracked_fields("table" regclass, fields name[], exclude name[])
 RETURNS name[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(fields,
                        ARRAY(SELECT name FROM pghistory._columns("table")
                               WHERE name <> ALL (COALESCE(exclude, '{}'))
                               ORDER BY number)));
END
$function$;
