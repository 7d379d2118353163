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
