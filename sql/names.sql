-- The names we give to things.

-- A name that fits: what is too long loses its end to a digest of the whole, so that no two become one.
CREATE OR REPLACE FUNCTION pghistory._fitting_name(stem text, suffix text DEFAULT '')
 RETURNS name
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    name_limit CONSTANT integer := 63;
    ending text := '_' || left(md5(stem || suffix), 8) || suffix;
    head text := left(stem, name_limit);
BEGIN
    IF octet_length(stem || suffix) <= name_limit THEN
        RETURN stem || suffix;
    END IF;
    WHILE octet_length(head || ending) > name_limit AND head <> '' LOOP
        head := left(head, -1);
    END LOOP;
    RETURN head || ending;
END
$function$;

CREATE OR REPLACE FUNCTION pghistory._event_table_name("table" regclass, fields name[], exclude name[])
 RETURNS name
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._fitting_name(
               CASE
               WHEN fields = '{}' THEN format('%s_meta', relname)
               WHEN fields IS NOT NULL THEN format('%s_%s', relname, array_to_string(fields, '_'))
               WHEN exclude IS NOT NULL THEN format('%s_without_%s', relname, array_to_string(exclude, '_'))
               ELSE relname::text
               END,
               '_event')
      FROM pg_class
     WHERE oid = "table"
$function$;

-- The columns of an event table that name the object.
CREATE OR REPLACE FUNCTION pghistory._object_columns(obj_key name[])
 RETURNS name[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN cardinality(obj_key) = 1 THEN ARRAY['pgh_obj_id']::name[]
           ELSE ARRAY(SELECT pghistory._fitting_name('pgh_obj_' || field)
                        FROM unnest(obj_key) WITH ORDINALITY AS k(field, position) ORDER BY position)
           END
$function$;

-- The columns beside them that hold the object's other key when an update changed it, and are null otherwise.
CREATE OR REPLACE FUNCTION pghistory._other_key_columns(obj_key name[])
 RETURNS name[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN cardinality(obj_key) = 1 THEN ARRAY['pgh_other_id']::name[]
           ELSE ARRAY(SELECT pghistory._fitting_name('pgh_other_' || field)
                        FROM unnest(obj_key) WITH ORDINALITY AS k(field, position) ORDER BY position)
           END
$function$;

-- Is this a name that only event tables have?
CREATE OR REPLACE FUNCTION pghistory._is_reserved_name(field name)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT field IN ('pgh_id', 'pgh_created_at', 'pgh_label', 'pgh_operation', 'pgh_xid', 'pgh_context_id',
                     'pgh_context', 'pgh_row')
        OR starts_with(field, 'pgh_obj_') OR starts_with(field, 'pgh_other_')
$function$;

-- The function that writes to an event table when rows of the tracked table meet the operation,
-- and its trigger's name.
CREATE OR REPLACE FUNCTION pghistory._trigger_function_name(event_table regclass, operation text, level text)
 RETURNS name
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT pghistory._fitting_name(relname, format('_%s_%s', operation, level))
          FROM pg_class WHERE oid = event_table);
END
$function$;

-- Triggers fire in the order of their names. Ours come first: a trigger that writes to its own table again would
-- otherwise make the second change look older than the first. The one that notes the writer comes before.
CREATE OR REPLACE FUNCTION pghistory._trigger_name(
    "table" regclass, event_table regclass, operation text, level text, notes_writer boolean DEFAULT false)
 RETURNS name
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT pghistory._fitting_name(
                   concat(CASE WHEN notes_writer THEN '! pghistory writer ' ELSE '!pghistory ' END,
                          CASE WHEN e.relnamespace <> t.relnamespace THEN e.relnamespace::regnamespace || '.' END,
                          e.relname),
                   format(' %s %s', operation, level))
          FROM pg_class AS e, pg_class AS t
         WHERE e.oid = event_table AND t.oid = "table");
END
$function$;

-- A column of OLD or NEW as PL/pgSQL reads it: some words that SQL leaves bare are its own.
CREATE OR REPLACE FUNCTION pghistory._field(image text, field name)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(image, '.',
                  CASE WHEN field IN ('begin', 'by', 'declare', 'execute', 'foreach', 'if', 'loop', 'strict', 'while')
                       THEN '"' || field || '"' ELSE quote_ident(field) END)
$function$;

-- A list over several lines, indented.
CREATE OR REPLACE FUNCTION pghistory._wrapped(items text[], indent integer)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    line_limit CONSTANT integer := 110;
    item text;
    line text := '';
    lines text := '';
BEGIN
    FOREACH item IN ARRAY items LOOP
        IF line <> '' AND indent + length(line) + length(item) + 2 > line_limit THEN
            lines := lines || line || E',\n' || repeat(' ', indent);
            line := item;
        ELSE
            line := concat_ws(', ', NULLIF(line, ''), item);
        END IF;
    END LOOP;
    RETURN lines || line;
END
$function$;

-- A template, its {name}s replaced by the texts of these names.
CREATE OR REPLACE FUNCTION pghistory._rendered(template text, texts jsonb)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    rendered text := '';
    part text[];
BEGIN
    FOR part IN SELECT regexp_matches(template, '([^{]*)(?:[{]([^{}]+)[}])?', 'g') LOOP
        rendered := concat(rendered, part[1], texts ->> part[2]);
    END LOOP;
    RETURN rendered;
END
$function$;
