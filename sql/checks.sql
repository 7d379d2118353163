-- Refusals: what track() and its fellows do not accept, said before anything is done.

CREATE OR REPLACE FUNCTION pghistory._check_not_null(argument text, is_null boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF is_null THEN
        RAISE EXCEPTION '% must not be null', argument
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = format('Give a value for %s.', argument);
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._check_choice(argument text, value text, choices text[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF value <> ALL (choices) THEN
        RAISE EXCEPTION 'unknown % "%"', argument, value
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('It is one of %s.', array_to_string(choices, ', '));
    END IF;
END
$function$;

-- What track() and create_event_table() are told alike.
CREATE OR REPLACE FUNCTION pghistory._check_event_table_choices(
    fields text[], exclude text[], obj_fk text, context text, append_only boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pghistory._check_not_null('context', context IS NULL);
    PERFORM pghistory._check_not_null('append_only', append_only IS NULL);
    PERFORM pghistory._check_choice('context', context, ARRAY['reference', 'inline', 'none']);
    PERFORM pghistory._check_choice('obj_fk', obj_fk, ARRAY['cascade', 'restrict', 'set null']);
    IF fields IS NOT NULL AND exclude IS NOT NULL THEN
        RAISE EXCEPTION 'fields and exclude cannot both be given'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name the columns to record, or those to leave out.';
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._check_owner("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT pg_has_role(pghistory._owner("table"), 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', pghistory._table_name("table")
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Only its owner decides what is recorded about a table.';
    END IF;
END
$function$;

-- Is this a table whose rows can be recorded, and may the caller decide that?
CREATE OR REPLACE FUNCTION pghistory._check_trackable("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this pg_class;
    schema_name name;
    reserved text;
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    SELECT * INTO this FROM pg_class WHERE oid = "table";
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no table with oid %', "table"::oid
            USING ERRCODE = 'undefined_table',
                  HINT = 'Name the table, as in ''public.users''.';
    END IF;
    SELECT nspname INTO schema_name FROM pg_namespace WHERE oid = this.relnamespace;
    IF this.relkind NOT IN ('r', 'p', 'f') THEN
        RAISE EXCEPTION '"%" is a %, not a table', this.relname,
                CASE this.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                                  WHEN 'c' THEN 'composite type' WHEN 't' THEN 'TOAST table' ELSE 'index' END
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Track the tables that its rows come from.';
    ELSIF this.relpersistence = 't' THEN
        RAISE EXCEPTION 'table "%" is temporary', this.relname
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Events of a temporary table would be gone with it; track an ordinary table.';
    ELSIF schema_name IN ('pg_catalog', 'information_schema', 'pg_toast', 'pghistory') THEN
        RAISE EXCEPTION 'table %.% is a system table', schema_name, this.relname
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Track a table of your own.';
    ELSIF pghistory._is_event_table("table") THEN
        RAISE EXCEPTION 'table % is an event table', pghistory._table_name("table")
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Events are history already; track the table that they are about.';
    END IF;
    PERFORM pghistory._check_owner("table");
    SELECT name INTO reserved FROM pghistory._columns("table") WHERE pghistory._is_reserved_name(name) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'table % has a column "%", a name that event tables need',
                pghistory._table_name("table"), reserved
            USING ERRCODE = 'reserved_name',
                  HINT = 'Rename the column.';
    END IF;
END
$function$;

-- The columns named, each once and in the table's order.
CREATE OR REPLACE FUNCTION pghistory._checked_fields("table" regclass, fields text[])
 RETURNS name[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    field text;
BEGIN
    FOREACH field IN ARRAY COALESCE(fields, '{}') LOOP
        IF field IS NULL OR field NOT IN (SELECT name FROM pghistory._columns("table")) THEN
            RAISE EXCEPTION 'table % has no column "%"', pghistory._table_name("table"), field
                USING ERRCODE = 'undefined_column',
                      HINT = 'Fields are named as the table''s columns are; '
                             'generated columns are fields only if they are stored.';
        END IF;
    END LOOP;
    RETURN CASE WHEN fields IS NOT NULL
                THEN ARRAY(SELECT name FROM pghistory._columns("table") WHERE name = ANY (fields) ORDER BY number)
           END;
END
$function$;

-- The columns that name the object, in the order of the key.
CREATE OR REPLACE FUNCTION pghistory._checked_key("table" regclass, obj_key text[])
 RETURNS name[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF obj_key IS NULL THEN
        RETURN COALESCE(pghistory._primary_key("table"), '{}');
    END IF;
    PERFORM pghistory._checked_fields("table", obj_key);
    IF (SELECT count(DISTINCT field) FROM unnest(obj_key) AS k(field)) < cardinality(obj_key) THEN
        RAISE EXCEPTION 'obj_key names a column twice'
            USING ERRCODE = 'duplicate_column',
                  HINT = 'Name each column of the key once.';
    END IF;
    RETURN obj_key;
END
$function$;

-- A foreign key from events to their object needs the object to be there.
CREATE OR REPLACE FUNCTION pghistory._check_foreign_key(
    "table" regclass, obj_key name[], obj_fk text, append_only boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF obj_fk IS NULL THEN
        RETURN;
    ELSIF obj_key = '{}' THEN
        RAISE EXCEPTION 'obj_fk needs a key, and events of table % have none', pghistory._table_name("table")
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the table a primary key, or leave out obj_fk.';
    ELSIF append_only AND obj_fk <> 'restrict' THEN
        RAISE EXCEPTION 'an append-only event table cannot have obj_fk "%"', obj_fk
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Deleting an object would change its events. '
                         'Use obj_fk => ''restrict'', or leave one of them out.';
    END IF;
END
$function$;
