-- Whose code would run? Rewriting an event table evaluates casts, checks and generated columns that its owner chose,
-- and what he chose can do anything that the current user can, whatever role it is switched to: it may change
-- settings under the feet of its caller. So where the current user is not the owner, only PostgreSQL's own code and
-- that of superusers is evaluated; what needs more is left to the owner, or done without.

-- Is the table the current user's own, or a superuser's?
CREATE OR REPLACE FUNCTION pghistory._is_trusted("table" regclass)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT rolname = current_user OR rolsuper FROM pg_roles WHERE oid = pghistory._owner("table")
$function$;

-- May the event table be rewritten and read by the current user? Planning a query evaluates what is constant in index
-- expressions and in the checks of children, too.
CREATE OR REPLACE FUNCTION pghistory._may_rewrite("table" regclass)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._is_trusted("table")
        OR (SELECT relkind = 'r' AND NOT relispartition FROM pg_class WHERE oid = "table")
           AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = "table" AND contype IN ('c', 'x'))
           AND NOT EXISTS (SELECT FROM pg_attribute
                            WHERE attrelid = "table" AND attgenerated <> '' AND NOT attisdropped)
           AND NOT EXISTS (SELECT FROM pg_index
                            WHERE indrelid = "table"
                              AND (indexprs IS NOT NULL OR indpred::text ~ '[{](?!VAR |NULLTEST )'))
           AND NOT EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = "table" AND stxexprs IS NOT NULL)
           AND NOT EXISTS (SELECT FROM pg_inherits WHERE "table" IN (inhrelid, inhparent))
$function$;

-- Do reading and writing values of this type run nobody's code but PostgreSQL's and superusers'? Base types are made
-- by superusers only; a domain may have checks.
CREATE OR REPLACE FUNCTION pghistory._is_harmless_type(type_id oid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this pg_type;
BEGIN
    SELECT * INTO this FROM pg_type WHERE oid = type_id;
    RETURN CASE
           WHEN this.typcategory = 'A' AND this.typelem <> 0 THEN pghistory._is_harmless_type(this.typelem)
           WHEN this.typtype IN ('b', 'e', 'r', 'm') THEN true
           WHEN this.typtype = 'd' THEN
                pghistory._is_harmless_type(this.typbasetype)
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE contypid = type_id AND contype = 'c')
           WHEN this.typtype = 'c' THEN
                NOT EXISTS (SELECT FROM pg_attribute
                             WHERE attrelid = this.typrelid AND attnum > 0 AND NOT attisdropped
                               AND NOT pghistory._is_harmless_type(atttypid))
           ELSE false
           END;
END
$function$;

-- Does casting from the one type to the other?
CREATE OR REPLACE FUNCTION pghistory._is_harmless_cast(from_type oid, to_type oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH made_of(from_id, to_id) AS (
        SELECT (pghistory._base_type(from_type, -1)).type_id, (pghistory._base_type(to_type, -1)).type_id
    )
    SELECT pghistory._is_harmless_type(from_type) AND pghistory._is_harmless_type(to_type)
       AND NOT EXISTS (
           SELECT FROM made_of AS m
                       JOIN pg_type AS f ON f.oid = m.from_id
                       JOIN pg_type AS t ON t.oid = m.to_id
                       JOIN pg_cast AS c ON c.castsource IN (from_type, f.oid, f.typelem)
                                        AND c.casttarget IN (to_type, t.oid, t.typelem)
                       JOIN pg_proc AS p ON p.oid = c.castfunc
                       JOIN pg_roles AS r ON r.oid = p.proowner
            WHERE NOT r.rolsuper)
$function$;

-- Does to_jsonb() of values of this type run nobody's code but PostgreSQL's and superusers'? It looks for casts to
-- json.
CREATE OR REPLACE FUNCTION pghistory._is_harmless_as_json(type_id oid)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    base_id CONSTANT oid := (pghistory._base_type(type_id, -1)).type_id;
    this pg_type;
BEGIN
    SELECT * INTO this FROM pg_type WHERE oid = base_id;
    RETURN CASE
           WHEN this.typcategory = 'A' AND this.typelem <> 0 THEN pghistory._is_harmless_as_json(this.typelem)
           WHEN this.typtype = 'c' THEN
                NOT EXISTS (SELECT FROM pg_attribute
                             WHERE attrelid = this.typrelid AND attnum > 0 AND NOT attisdropped
                               AND NOT pghistory._is_harmless_as_json(atttypid))
           ELSE NOT EXISTS (SELECT FROM pg_cast AS c
                                        JOIN pg_proc AS p ON p.oid = c.castfunc
                                        JOIN pg_roles AS r ON r.oid = p.proowner
                             WHERE c.castsource = base_id AND c.casttarget IN ('json'::regtype, 'jsonb'::regtype)
                               AND NOT r.rolsuper)
           END;
END
$function$;
