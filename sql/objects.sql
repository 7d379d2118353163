-- Objects: rows named by their key, given as text, or as a JSON object where the key has several columns.

CREATE OR REPLACE FUNCTION pghistory._object_identity(obj_key name[], obj text)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    identity jsonb;
BEGIN
    IF cardinality(obj_key) = 1 THEN
        RETURN jsonb_build_object(obj_key[1], obj);
    END IF;
    BEGIN
        identity := obj;
    EXCEPTION WHEN OTHERS THEN
        NULL;  -- said below
    END;
    IF jsonb_typeof(identity) IS DISTINCT FROM 'object'
       OR (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(identity) AS k)
          IS DISTINCT FROM (SELECT array_agg(k::text ORDER BY k::text) FROM unnest(obj_key) AS k)
    THEN
        RAISE EXCEPTION 'key "%" does not name an object', obj
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('Give a JSON object with the columns %s.', array_to_string(obj_key, ', '));
    END IF;
    RETURN identity;
END
$function$;

-- The SQL condition that a row, called t, is the object.
CREATE OR REPLACE FUNCTION pghistory._identity_text("table" regclass, identity jsonb)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(format('t.%I %s %L::%s', c.name, pghistory._equality_operator(c.type_id), i.value,
                             format_type((pghistory._base_type(c.type_id, -1)).type_id, -1)),
                      ' AND ' ORDER BY c.number)
      FROM jsonb_each_text(identity) AS i JOIN pghistory._columns("table") AS c ON c.name = i.key
$function$;

-- The same for an event: the condition that these columns of it, called by the alias, name the object.
CREATE OR REPLACE FUNCTION pghistory._event_identity_text(
    event_table regclass, obj_key name[], columns name[], obj text, alias text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(format('%s.%I %s %L::%s', alias, a.attname, pghistory._equality_operator(a.atttypid), i.value,
                             format_type((pghistory._base_type(a.atttypid, -1)).type_id, -1)),
                      ' AND ' ORDER BY k.position)
      FROM jsonb_each_text(pghistory._object_identity(obj_key, obj)) AS i
           JOIN unnest(obj_key, columns) WITH ORDINALITY AS k(field, held, position) ON k.field = i.key
           JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = k.held
$function$;

-- The SQL expression for a value as JSON. Where a cast to json that somebody made would do it, its text is taken.
CREATE OR REPLACE FUNCTION pghistory._json_text(type_id oid, expression text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN pghistory._is_harmless_as_json(type_id) THEN format('to_jsonb(%s)', expression)
                ELSE format('CASE WHEN %1$s IS NOT NULL THEN to_jsonb(format(''%%s'', %1$s)) END', expression) END
$function$;

-- The SQL expression for the key of an event's object as text.
CREATE OR REPLACE FUNCTION pghistory._key_text(relation regclass, columns name[], obj_key name[], alias text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE cardinality(obj_key)
           WHEN 0 THEN 'NULL::text'
           WHEN 1 THEN format('CASE WHEN %1$s.%2$I IS NOT NULL THEN format(''%%s'', %1$s.%2$I) END', alias, columns[1])
           ELSE (SELECT format('(SELECT jsonb_object_agg(k.name, k.value) FROM (VALUES %s) AS k(name, value))::text',
                               string_agg(format('(%L, %s)', k.field,
                                                 pghistory._json_text(a.atttypid, format('%s.%I', alias, a.attname))),
                                          ', ' ORDER BY k.position))
                   FROM unnest(obj_key, columns) WITH ORDINALITY AS k(field, held, position)
                        JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = k.held)
           END
$function$;

-- Equality of two lists of columns that hold keys, by the operators of their types.
CREATE OR REPLACE FUNCTION pghistory._same_object_text(
    event_table regclass, obj_key name[], columns text[], other_columns text[])
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(format('%s %s %s', k.this, pghistory._equality_operator(a.atttypid), k.other),
                      ' AND ' ORDER BY k.position)
      FROM unnest(columns, other_columns, pghistory._object_columns(obj_key)) WITH ORDINALITY
               AS k(this, other, held, position)
           JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = k.held
$function$;

CREATE OR REPLACE FUNCTION pghistory._qualified(alias text, columns name[])
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT ARRAY(SELECT format('%s.%I', alias, name) FROM unnest(columns) WITH ORDINALITY AS c(name, position)
                  ORDER BY position)
$function$;
