-- Built from sql/ by make build: not to be edited by hand.
\echo Use "CREATE EXTENSION pghistory" to load this file. \quit
-- pghistory: the history of rows, kept inside PostgreSQL.
--
-- The table of contents. `make build` puts these files together as the script that CREATE EXTENSION runs;
-- `psql -1 -f sql/pghistory.sql` installs the same without CREATE EXTENSION. A file calls only what
-- stands above it.

-- the ground
-- The schema. It is no member of the extension, so that what people keep in it outlives DROP EXTENSION.

-- Bodies name tables that are made on first use; a test checks them all once these are there.
SET LOCAL check_function_bodies TO off;

-- Installed as plain SQL, this must not read names under the caller's path.
SET LOCAL search_path TO pg_catalog, pg_temp;

DO $schema$
DECLARE
    creator pg_catalog.regrole;
    schema_owner oid := (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'pghistory');
    this_role oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user);
BEGIN
    -- What event triggers would make while this runs would become part of the extension.
    PERFORM pg_catalog.set_config('pghistory.installing', 'on', true);
    -- An extension would not own what plain SQL has put there.
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pghistory')
       AND EXISTS (SELECT FROM pg_catalog.pg_proc AS p
                    WHERE p.pronamespace = pg_catalog.to_regnamespace('pghistory') AND p.proname = '_ensure_state'
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                                       WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                                         AND d.objid = p.oid AND d.deptype = 'e'))
    THEN
        RAISE EXCEPTION 'pghistory is installed in this database as plain SQL'
            USING ERRCODE = 'duplicate_object',
                  HINT = 'Go on with that. Or run sql/upgrade/remove_plain_sql.sql before CREATE EXTENSION, in one '
                         'transaction, and pghistory.refresh() after it: no event is lost.';
    END IF;
    IF schema_owner IS NULL THEN
        CREATE SCHEMA pghistory;
    ELSIF schema_owner <> this_role AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = schema_owner) THEN
        -- The owner of a schema can put functions beside ours that would be called in their place. An empty schema,
        -- as a restore makes it, can be taken over; one that holds something may have been prepared for us.
        IF EXISTS (SELECT FROM pg_catalog.pg_depend
                   WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                     AND refobjid = 'pghistory'::pg_catalog.regnamespace
                     AND classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass)
        THEN
            RAISE EXCEPTION 'schema "pghistory" belongs to role "%" and is not empty',
                    schema_owner::pg_catalog.regrole
                USING ERRCODE = 'insufficient_privilege',
                      HINT = 'Look at what it holds; then let its owner install, or take it: '
                             'ALTER SCHEMA pghistory OWNER TO CURRENT_USER.';
        END IF;
        ALTER SCHEMA pghistory OWNER TO CURRENT_USER;
    END IF;
    -- Whoever could create functions here could put them in the place of ours.
    FOR creator IN
        SELECT a.grantee
          FROM pg_catalog.pg_namespace AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
         WHERE n.nspname = 'pghistory' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE CREATE ON SCHEMA pghistory FROM %s',
                                  CASE WHEN creator = 0::pg_catalog.oid::pg_catalog.regrole THEN 'PUBLIC'
                                       ELSE creator::pg_catalog.text END);
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
                WHERE n.nspname = 'pghistory' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
                  AND a.grantee <> this_role)
    THEN
        RAISE EXCEPTION 'other roles may create objects in schema "pghistory"'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Let the schema''s owner take that from them: REVOKE CREATE ON SCHEMA pghistory FROM ...';
    END IF;
END
$schema$;

COMMENT ON SCHEMA pghistory IS 'The history of rows: see pghistory.track().';
-- What PostgreSQL's catalogs say. Nothing else reads them for tables, columns, keys and triggers.

CREATE FUNCTION pghistory._table_name("table" regclass)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT format('%I.%I', n.nspname, c.relname)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = "table");
END
$function$;

CREATE FUNCTION pghistory._owner("table" regclass)
 RETURNS regrole
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT relowner::regrole FROM pg_class WHERE oid = "table");
END
$function$;

-- The columns that hold values, in the table's order. A virtual generated column has none of its own.
CREATE FUNCTION pghistory._columns(
    "table" regclass,
    OUT number smallint,
    OUT name name,
    OUT type_id oid,
    OUT type_modifier integer,
    OUT collation_id oid,
    OUT storage "char",
    OUT compression "char",
    OUT fixed_size boolean)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT attnum, attname, atttypid, atttypmod, attcollation, attstorage, attcompression, attlen > 0
      FROM pg_attribute
     WHERE attrelid = "table" AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v'
     ORDER BY attnum;
END
$function$;

-- The last event of an event table, as its sequence knows it: a query would be planned, and what others made to be
-- evaluated in planning would be. Null where there is no sequence of its own.
CREATE FUNCTION pghistory._last_event(event_table regclass)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    sequence regclass := pg_get_serial_sequence(pghistory._table_name(event_table), 'pgh_id');
BEGIN
    RETURN CASE WHEN sequence IS NOT NULL THEN COALESCE(pg_sequence_last_value(sequence), 0) END;
END
$function$;

-- The value of a column that was added with a constant default, in the rows that were there.
CREATE FUNCTION pghistory._missing_value("table" regclass, number smallint)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    -- of a partitioned table, its partitions know
    SELECT (p.attmissingval::text::text[])[1]
      FROM pg_attribute AS a
           CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree("table") UNION SELECT "table") AS r
           JOIN pg_attribute AS p ON p.attrelid = r.relid AND p.attname = a.attname AND p.atthasmissing
     WHERE a.attrelid = "table" AND a.attnum = number
     LIMIT 1
$function$;

-- Were rows that were there when a column was added given values of it one by one?
CREATE FUNCTION pghistory._is_filled("table" regclass, number smallint)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._missing_value("table", number) IS NULL
       AND (a.atthasdef OR a.attidentity <> ''
            OR (pghistory._base_type(a.atttypid, -1)).type_id <> a.atttypid)  -- a domain may have a default
      FROM pg_attribute AS a
     WHERE a.attrelid = "table" AND a.attnum = number
$function$;

-- Was the column made by this transaction? If an earlier one did, rows may have been written since.
CREATE FUNCTION pghistory._is_of_this_transaction("table" regclass, number smallint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (SELECT age(a.xmin) <= 0 FROM pg_attribute AS a WHERE a.attrelid = "table" AND a.attnum = number);
END
$function$;

-- What a domain is made of, and whether it refuses null; any other type is made of itself.
CREATE FUNCTION pghistory._base_type(
    INOUT type_id oid, INOUT type_modifier integer, OUT refuses_null boolean)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this pg_type;
BEGIN
    refuses_null := false;
    LOOP
        SELECT * INTO this FROM pg_type WHERE oid = type_id;
        EXIT WHEN this.typtype IS DISTINCT FROM 'd';
        refuses_null := refuses_null OR this.typnotnull;
        type_id := this.typbasetype;
        type_modifier := this.typtypmod;
    END LOOP;
END
$function$;

-- A type as a column of an event table has it: a domain that refuses null would refuse events that lack the column,
-- so that its base type stands in for it.
CREATE FUNCTION pghistory._event_type(INOUT type_id oid, INOUT type_modifier integer)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN b.refuses_null THEN b.type_id ELSE _event_type.type_id END,
           CASE WHEN b.refuses_null THEN b.type_modifier ELSE _event_type.type_modifier END
      FROM pghistory._base_type(type_id, type_modifier) AS b
$function$;

-- Has the table a column of this name that holds values of this type as they are? One of a domain's base type does.
CREATE FUNCTION pghistory._holds(
    "table" regclass, field name, type_id oid, type_modifier integer, collation_id oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (
        SELECT FROM pg_attribute AS a
                    CROSS JOIN LATERAL pghistory._base_type(_holds.type_id, _holds.type_modifier) AS b
         WHERE a.attrelid = "table" AND a.attname = field AND NOT a.attisdropped AND a.attcollation = collation_id
           AND (a.atttypid = _holds.type_id AND a.atttypmod IN (_holds.type_modifier, -1)
                OR a.atttypid = b.type_id AND a.atttypmod IN (b.type_modifier, -1)))
$function$;

CREATE FUNCTION pghistory._primary_key("table" regclass)
 RETURNS name[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT array_agg(a.attname ORDER BY k.position)
      FROM pg_index AS i
           CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, position)
           JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
     WHERE i.indrelid = "table" AND i.indisprimary AND k.position <= i.indnkeyatts
$function$;

-- The tables that are written to when a row of this one changes its key: those whose foreign keys point at it,
-- and so on.
CREATE FUNCTION pghistory._key_followers("table" regclass)
 RETURNS SETOF regclass
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH RECURSIVE follower AS (
        SELECT conrelid
          FROM pg_constraint
         WHERE confrelid = "table" AND contype = 'f' AND confupdtype IN ('c', 'n', 'd')
        UNION
        SELECT c.conrelid
          FROM follower AS f
               JOIN pg_constraint AS c
                 ON c.confrelid = f.conrelid AND c.contype = 'f' AND c.confupdtype IN ('c', 'n', 'd')
    )
    SELECT conrelid::regclass FROM follower
$function$;

-- The foreign keys that point at a table: from which table, its columns, and those that they point at. Copies that
-- PostgreSQL makes for partitions are left out.
CREATE FUNCTION pghistory._foreign_keys_to(
    "table" regclass, OUT referring regclass, OUT columns name[], OUT referred name[], OUT delete_action "char",
    OUT update_action "char")
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT c.conrelid::regclass,
           ARRAY(SELECT a.attname FROM unnest(c.conkey) WITH ORDINALITY AS k(number, position)
                                       JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number
                  ORDER BY k.position),
           ARRAY(SELECT a.attname FROM unnest(c.confkey) WITH ORDINALITY AS k(number, position)
                                       JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.number
                  ORDER BY k.position),
           c.confdeltype, c.confupdtype
      FROM pg_constraint AS c
     WHERE c.confrelid = "table" AND c.contype = 'f' AND c.conparentid = 0
$function$;

-- Has the table AFTER ROW triggers other than ours and those of foreign keys?
CREATE FUNCTION pghistory._has_row_triggers("table" regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT EXISTS (
            SELECT FROM pg_trigger
             WHERE tgrelid = "table" AND NOT tgisinternal
               AND tgtype & 1 = 1   -- for each row
               AND tgtype & 66 = 0  -- neither before nor instead of
               AND NOT starts_with(tgname, '!pghistory ') AND NOT starts_with(tgname, '! pghistory ')));
END
$function$;

-- Could an event, which is wider than its row, be too wide for a page though the row was not? A value that is
-- stored elsewhere still takes its pointer's 18 bytes.
CREATE FUNCTION pghistory._may_not_fit("table" regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(sum(CASE WHEN attlen > 0 THEN attlen + 3 ELSE 18 END), 0) + 200
               > current_setting('block_size')::integer
          FROM pg_attribute
         WHERE attrelid = "table" AND attnum > 0 AND NOT attisdropped);
END
$function$;

-- Can values of the type be kept in an index of this method ("btree", "hash")? Arrays and rows can
-- if what is in them can.
CREATE FUNCTION pghistory._is_indexable(type_id oid, method name)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this pg_type;
BEGIN
    SELECT * INTO this FROM pg_type WHERE oid = (pghistory._base_type(type_id, -1)).type_id;
    IF this.typcategory = 'A' AND this.typelem <> 0 THEN
        RETURN pghistory._is_indexable(this.typelem, method);
    ELSIF this.typtype = 'c' THEN
        RETURN NOT EXISTS (SELECT FROM pg_attribute
                            WHERE attrelid = this.typrelid AND attnum > 0 AND NOT attisdropped
                              AND NOT pghistory._is_indexable(atttypid, method));
    END IF;
    RETURN EXISTS (
        SELECT FROM pg_opclass AS c JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = method
         WHERE c.opcdefault
           AND (c.opcintype = this.oid
                OR this.typtype = 'e' AND c.opcintype = 'anyenum'::regtype
                OR this.typtype IN ('r', 'm') AND c.opcintype IN ('anyrange'::regtype, 'anymultirange'::regtype)
                OR EXISTS (SELECT FROM pg_cast
                            WHERE castsource = this.oid AND casttarget = c.opcintype
                              AND castmethod = 'b' AND castcontext = 'i')));
END
$function$;

-- Is there a btree index on these columns already? Then their values fit one.
CREATE FUNCTION pghistory._has_index("table" regclass, fields name[])
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (
        SELECT FROM pg_index AS i
                    JOIN pg_class AS c ON c.oid = i.indexrelid
                    JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
         WHERE i.indrelid = "table" AND i.indpred IS NULL
           AND fields <@ ARRAY(SELECT a.attname FROM pg_attribute AS a
                                WHERE a.attrelid = "table" AND a.attnum = ANY (i.indkey::smallint[])))
$function$;

-- Why statement-level triggers would miss or misorder what happens to the table, or null when they would not.
CREATE FUNCTION pghistory._row_level_reason("table" regclass, operation text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT CASE
               WHEN c.relkind = 'p' THEN 'it is partitioned'
               WHEN c.relispartition THEN 'it is a partition'
               WHEN c.relkind = 'f' THEN 'it is a foreign table'
               WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) THEN 'other tables inherit from it'
               WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) THEN 'it inherits from another table'
               WHEN pghistory._may_not_fit(c.oid)
               THEN 'one row too wide for an event would take the others'' values along'
               WHEN pghistory._has_row_triggers(c.oid)
               THEN 'it has AFTER ROW triggers of its own, which may write to it'
               WHEN operation = 'update' AND EXISTS (
                    SELECT FROM pghistory._key_followers(c.oid) AS follower
                     WHERE follower = c.oid OR pghistory._has_row_triggers(follower))
               THEN 'a change of its key may come back to it through foreign keys'
               END
          FROM pg_class AS c
         WHERE c.oid = "table");
END
$function$;

-- Has a table no storage yet, so that it cannot have rows? Its partitions count, too.
CREATE FUNCTION pghistory._is_unused("table" regclass)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT bool_and(c.relkind IN ('r', 'p') AND pg_relation_size(c.oid) = 0)
      FROM (SELECT relid FROM pg_partition_tree("table") UNION SELECT "table") AS t
           JOIN pg_class AS c ON c.oid = t.relid
$function$;

-- The table and its partitions, theirs too.
CREATE FUNCTION pghistory._partition_tree("table" regclass)
 RETURNS TABLE(relation regclass, is_leaf boolean)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT relid, isleaf FROM pg_partition_tree("table")
     UNION
    SELECT "table", c.relkind <> 'p' FROM pg_class AS c WHERE c.oid = "table";
END
$function$;

-- The topmost partitioned table above a partition; any other table is its own.
CREATE FUNCTION pghistory._partition_root("table" regclass)
 RETURNS regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (
        SELECT COALESCE(pg_partition_root("table"), "table"));
END
$function$;

-- The type's own equality, qualified, so that it means the same under every search_path.
CREATE FUNCTION pghistory._equality_operator(type_id oid)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    base_id CONSTANT oid := (pghistory._base_type(type_id, -1)).type_id;
    operator text;
BEGIN
    SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
      INTO operator
      FROM pg_opclass AS c
           JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
           JOIN pg_amop AS p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3
                            AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
           JOIN pg_operator AS o ON o.oid = p.amopopr
           JOIN pg_namespace AS n ON n.oid = o.oprnamespace
     WHERE c.opcintype = base_id AND c.opcdefault;
    RETURN COALESCE(operator, 'OPERATOR(pg_catalog.=)');
END
$function$;

-- The server and the table that attribute numbers in the registry belong to: a restored table has others.
CREATE FUNCTION pghistory._origin("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('%s/%s', system_identifier, "table"::oid) FROM pg_control_system()
$function$;
-- Whose code would run? Rewriting an event table evaluates casts, checks and generated columns that its owner chose,
-- and what he chose can do anything that the current user can, whatever role it is switched to: it may change
-- settings under the feet of its caller. So where the current user is not the owner, only PostgreSQL's own code and
-- that of superusers is evaluated; what needs more is left to the owner, or done without.

-- Is the table the current user's own, or a superuser's?
CREATE FUNCTION pghistory._is_trusted("table" regclass)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT rolname = current_user OR rolsuper FROM pg_roles WHERE oid = pghistory._owner("table")
$function$;

-- May the event table be rewritten and read by the current user? Planning a query evaluates what is constant in index
-- expressions and in the checks of children, too.
CREATE FUNCTION pghistory._may_rewrite("table" regclass)
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
CREATE FUNCTION pghistory._is_harmless_type(type_id oid)
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
CREATE FUNCTION pghistory._is_harmless_cast(from_type oid, to_type oid)
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
CREATE FUNCTION pghistory._is_harmless_as_json(type_id oid)
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
-- The names we give to things.

-- A name that fits: what is too long loses its end to a digest of the whole, so that no two become one.
CREATE FUNCTION pghistory._fitting_name(stem text, suffix text DEFAULT '')
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

CREATE FUNCTION pghistory._event_table_name("table" regclass, fields name[], exclude name[])
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
CREATE FUNCTION pghistory._object_columns(obj_key name[])
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
CREATE FUNCTION pghistory._other_key_columns(obj_key name[])
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
CREATE FUNCTION pghistory._is_reserved_name(field name)
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
CREATE FUNCTION pghistory._trigger_function_name(event_table regclass, operation text, level text)
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
CREATE FUNCTION pghistory._trigger_name(
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
CREATE FUNCTION pghistory._field(image text, field name)
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
CREATE FUNCTION pghistory._wrapped(items text[], indent integer)
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
CREATE FUNCTION pghistory._rendered(template text, texts jsonb)
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
-- Objects: rows named by their key, given as text, or as a JSON object where the key has several columns.

CREATE FUNCTION pghistory._object_identity(obj_key name[], obj text)
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
CREATE FUNCTION pghistory._identity_text("table" regclass, identity jsonb)
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
CREATE FUNCTION pghistory._event_identity_text(
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
CREATE FUNCTION pghistory._json_text(type_id oid, expression text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN pghistory._is_harmless_as_json(type_id) THEN format('to_jsonb(%s)', expression)
                ELSE format('CASE WHEN %1$s IS NOT NULL THEN to_jsonb(format(''%%s'', %1$s)) END', expression) END
$function$;

-- The SQL expression for the key of an event's object as text.
CREATE FUNCTION pghistory._key_text(relation regclass, columns name[], obj_key name[], alias text)
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
CREATE FUNCTION pghistory._same_object_text(
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

CREATE FUNCTION pghistory._qualified(alias text, columns name[])
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT ARRAY(SELECT format('%s.%I', alias, name) FROM unnest(columns) WITH ORDINALITY AS c(name, position)
                  ORDER BY position)
$function$;

-- what outlives the code; who and why; the one door to the registry
-- The tables that outlive the code: contexts and the registry. They are no members of the extension, so that
-- pg_dump carries them as what they are and DROP EXTENSION leaves them; one function creates or upgrades them,
-- on first use.

-- What there is of them, and whose it is.
CREATE FUNCTION pghistory._state_relations(OUT relation regclass, OUT is_trusted boolean)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN QUERY
    SELECT c.oid::regclass,
           c.relowner = p.proowner OR (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = c.relowner)
      FROM pg_proc AS p
           CROSS JOIN unnest(ARRAY['context_part', 'context', 'event_table', 'event_column', 'tracker',
                                   'capture_key']) AS n(name)
           JOIN pg_class AS c ON c.oid = to_regclass('pghistory.' || n.name)
     WHERE p.oid = 'pghistory._ensure_state()'::regprocedure;
END
$function$;

-- Are all of them there, and the extension's owner's? A restore makes them one by one.
CREATE FUNCTION pghistory._has_state()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (SELECT count(*) = 6 AND bool_and(s.is_trusted) FROM pghistory._state_relations() AS s);
END
$function$;

-- Are they as this version makes them?
CREATE FUNCTION pghistory._state_is_current()
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN pghistory._has_state()
       AND EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = to_regclass('pghistory.tracker') AND attname = 'since_empty')
       AND EXISTS (SELECT FROM pg_attribute
                    WHERE attrelid = to_regclass('pghistory.event_column') AND attname = 'rewrites');
END
$function$;

-- Makes the extension's owner the owner of what somebody else restored or prepared under our names. What could run
-- code of his when we write to it is refused.
CREATE FUNCTION pghistory._take_over_state()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this record;
    grantee text;
BEGIN
    FOR this IN SELECT c.oid, c.relkind, c.relowner::regrole AS owner, s.relation
                  FROM pghistory._state_relations() AS s JOIN pg_class AS c ON c.oid = s.relation
                 WHERE NOT s.is_trusted
    LOOP
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = this.oid AND NOT tgisinternal)
           OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = this.oid AND rulename <> '_RETURN')
           OR EXISTS (SELECT FROM pg_index
                       WHERE indrelid = this.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL))
           OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = this.oid AND contype NOT IN ('p', 'u', 'f', 'n'))
           OR EXISTS (SELECT FROM pg_constraint
                       WHERE contype = 'f' AND this.oid IN (conrelid, confrelid)
                         AND NOT (conrelid IN (SELECT s.relation FROM pghistory._state_relations() AS s)
                                  AND confrelid IN (SELECT s.relation FROM pghistory._state_relations() AS s)))
           OR EXISTS (SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                       WHERE a.attrelid = this.oid AND a.attnum > 0 AND NOT a.attisdropped
                         AND t.typnamespace <> 'pg_catalog'::regnamespace)
           OR EXISTS (SELECT FROM pg_attrdef WHERE adrelid = this.oid)
           OR EXISTS (SELECT FROM pg_policy WHERE polrelid = this.oid)
           OR EXISTS (SELECT FROM pg_inherits WHERE this.oid IN (inhrelid, inhparent))
           OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = this.oid)
           OR this.relkind <> (CASE WHEN this.relation = to_regclass('pghistory.context') THEN 'v' ELSE 'r' END)
           OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        THEN
            RAISE EXCEPTION '% belongs to role % and cannot be taken over', this.relation, this.owner
                USING ERRCODE = 'insufficient_privilege',
                      HINT = 'Look at it, and let a superuser drop what is not as pghistory made it, or the table.';
        END IF;
        EXECUTE format('ALTER %s %s OWNER TO CURRENT_USER',
                       CASE this.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, this.relation);
        -- Rights that he gave are not ours; those that we give come next.
        FOR grantee IN
            SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
              FROM (SELECT relacl FROM pg_class WHERE oid = this.oid
                    UNION ALL
                    SELECT attacl FROM pg_attribute WHERE attrelid = this.oid) AS rights(acl)
                   CROSS JOIN LATERAL aclexplode(rights.acl) AS a
             WHERE a.grantee <> current_user::regrole
        LOOP
            EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', this.relation, grantee);
        END LOOP;
    END LOOP;
END
$function$;

CREATE FUNCTION pghistory._ensure_state()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF pghistory._state_is_current() THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('pghistory._ensure_state', 0));
    IF pghistory._state_is_current() THEN
        RETURN;
    END IF;
    PERFORM pghistory._take_over_state();

    CREATE TABLE IF NOT EXISTS pghistory.context_part (
        part bigint GENERATED ALWAYS AS IDENTITY,
        id uuid NOT NULL,
        xid xid8 NOT NULL,
        created_at timestamp with time zone NOT NULL,
        metadata jsonb NOT NULL,
        session jsonb,
        PRIMARY KEY (id, part)
    );
    CREATE INDEX IF NOT EXISTS context_part_xid_idx ON pghistory.context_part (xid);
    COMMENT ON TABLE pghistory.context_part IS
        'What each transaction knew of its context when it wrote events. A transaction adds rows of its own and '
        'changes nobody else''s, so that transactions with one context never wait for each other. Read '
        'pghistory.context instead.';
    COMMENT ON COLUMN pghistory.context_part.session IS
        'What pghistory.capture() asked to be kept about the transaction.';

    CREATE OR REPLACE VIEW pghistory.context AS
        SELECT id,
               COALESCE(jsonb_object_agg(key, value ORDER BY part) FILTER (WHERE key IS NOT NULL), '{}')
                   AS metadata,
               min(created_at) AS created_at,
               max(created_at) AS updated_at
          FROM pghistory.context_part
               LEFT JOIN LATERAL (
                   SELECT key, value FROM jsonb_each(metadata)
                    UNION ALL
                   SELECT 'session', session WHERE session IS NOT NULL) AS fact ON true
         GROUP BY id;
    COMMENT ON VIEW pghistory.context IS
        'One row for each context that had an event: its metadata, accumulated over all its transactions, '
        'later keys winning.';

    CREATE TABLE IF NOT EXISTS pghistory.event_table (
        event_table regclass PRIMARY KEY,
        "table" regclass,
        table_schema name NOT NULL,
        table_name name NOT NULL,
        origin text NOT NULL,
        obj_key name[] NOT NULL,
        obj_key_numbers smallint[] NOT NULL,
        obj_key_given boolean NOT NULL,
        obj_fk text,
        context text NOT NULL,
        append_only boolean NOT NULL,
        foreign_until bigint NOT NULL,
        by_hand text
    );
    COMMENT ON TABLE pghistory.event_table IS
        'The registry of event tables: whose events each one holds, how they name the object and the context. The '
        'table is null once it has been dropped; its events stay.';
    COMMENT ON COLUMN pghistory.event_table.origin IS
        'The server and table that the attribute numbers in the registry belong to.';
    COMMENT ON COLUMN pghistory.event_table.foreign_until IS
        'The last event that was written on another server: transaction ids up to it mean nothing here.';
    COMMENT ON COLUMN pghistory.event_table.obj_key_given IS
        'False where the key is the primary key, and follows it.';

    COMMENT ON COLUMN pghistory.event_table.by_hand IS
        'The function that create_event() calls.';

    CREATE TABLE IF NOT EXISTS pghistory.event_column (
        event_table regclass NOT NULL REFERENCES pghistory.event_table ON DELETE CASCADE,
        column_name name NOT NULL,
        table_column_name name NOT NULL,
        table_column_number smallint NOT NULL,
        added_after bigint,
        added_at timestamp with time zone,
        added_xid xid8,
        missing_value text,
        PRIMARY KEY (event_table, column_name)
    );
    ALTER TABLE pghistory.event_column
        ADD COLUMN IF NOT EXISTS rewrites jsonb,
        ADD COLUMN IF NOT EXISTS unreadable_until bigint;
    COMMENT ON TABLE pghistory.event_column IS
        'The registry of the columns of event tables: which column of the tracked table each one holds.';
    COMMENT ON COLUMN pghistory.event_column.added_after IS
        'The last event before the table got this column; null where it had it from the start.';
    COMMENT ON COLUMN pghistory.event_column.missing_value IS
        'What rows that were there when the table got this column have in it.';
    COMMENT ON COLUMN pghistory.event_column.rewrites IS
        'When DDL statements gave rows other values in this column without an event: after which event, at what time, '
        'in which transaction.';
    COMMENT ON COLUMN pghistory.event_column.unreadable_until IS
        'The last event whose value could not become what the column holds now.';

    CREATE TABLE IF NOT EXISTS pghistory.tracker (
        "table" regclass NOT NULL,
        label text NOT NULL,
        ordinal bigint GENERATED ALWAYS AS IDENTITY,
        kind text NOT NULL,
        fields name[],
        field_numbers smallint[],
        exclude name[],
        exclude_numbers smallint[],
        condition text,
        condition_is_row_level boolean NOT NULL,
        condition_columns jsonb NOT NULL,
        condition_objects jsonb NOT NULL,
        condition_is_void boolean NOT NULL,
        event_table regclass NOT NULL REFERENCES pghistory.event_table,
        level text NOT NULL,
        since timestamp with time zone NOT NULL,
        since_xid xid8 NOT NULL,
        PRIMARY KEY ("table", label)
    );
    ALTER TABLE pghistory.tracker
        ADD COLUMN IF NOT EXISTS since_event bigint,
        ADD COLUMN IF NOT EXISTS since_empty boolean;
    COMMENT ON TABLE pghistory.tracker IS
        'The registry of trackers, as pghistory.track() was told. Read pghistory.trackers() instead.';
    COMMENT ON COLUMN pghistory.tracker.since IS
        'From when on the tracker has recorded what it records now.';
    COMMENT ON COLUMN pghistory.tracker.since_event IS 'The last event in its event table before that.';
    COMMENT ON COLUMN pghistory.tracker.since_empty IS
        'True where the table had no rows then: every row has an event.';
    COMMENT ON COLUMN pghistory.tracker.condition_columns IS
        'The columns that the condition names: number, name and type.';
    COMMENT ON COLUMN pghistory.tracker.condition_objects IS
        'The functions, types, operators and collations that the condition names.';
    COMMENT ON COLUMN pghistory.tracker.condition_is_void IS
        'True once DDL took away what the condition needs: events are written as if there were none.';

    CREATE TABLE IF NOT EXISTS pghistory.capture_key (
        key text PRIMARY KEY
    );
    COMMENT ON TABLE pghistory.capture_key IS 'What pghistory.capture() keeps about each transaction.';

    -- The registry is no secret; contexts are. Whoever owns the database can dump both.
    GRANT SELECT ON pghistory.event_table, pghistory.event_column, pghistory.tracker, pghistory.capture_key
       TO PUBLIC;
    GRANT SELECT ON SEQUENCE pghistory.tracker_ordinal_seq, pghistory.context_part_part_seq TO pg_database_owner;
    GRANT SELECT ON pghistory.context_part, pghistory.context TO pg_database_owner;
END
$function$;

-- False where the functions were installed as plain SQL.
CREATE FUNCTION pghistory._extension_is_installed()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pghistory')
$function$;

CREATE FUNCTION pghistory._is_event_table("table" regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pghistory.event_table AS e WHERE e.event_table = _is_event_table."table");
END
$function$;

CREATE FUNCTION pghistory._is_tracked("table" regclass)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pghistory.tracker AS t WHERE t."table" = _is_tracked."table");
END
$function$;
-- Contexts: who and why. The protocol is two settings; everything here reads or writes them.

-- Permits to write one event by hand: given by create_event() and used at once. Those of transactions that are over
-- go with the next.
CREATE UNLOGGED TABLE IF NOT EXISTS pghistory._permit (
    xid xid8 NOT NULL,
    event_table regclass NOT NULL,
    label text NOT NULL,
    used boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS _permit_xid_idx ON pghistory._permit (xid);

-- The two settings, as far as they can be read.
CREATE FUNCTION pghistory._read_context(OUT id uuid, OUT metadata jsonb, OUT problem text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    BEGIN
        id := NULLIF(current_setting('pghistory.context_id', true), '');
    EXCEPTION WHEN OTHERS THEN
        problem := 'pghistory.context_id is not a uuid';
    END;
    BEGIN
        metadata := NULLIF(current_setting('pghistory.context_metadata', true), '');
    EXCEPTION WHEN OTHERS THEN
        problem := concat_ws('; ', problem, 'pghistory.context_metadata is not JSON');
    END;
    IF jsonb_typeof(metadata) <> 'object' THEN
        problem := concat_ws('; ', problem, 'pghistory.context_metadata is not a JSON object');
        metadata := NULL;
    END IF;
    metadata := COALESCE(metadata, '{}');
END
$function$;

-- Once for a statement, however many rows it writes.
CREATE FUNCTION pghistory._warn_of_context(problem text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    this_warning CONSTANT text := concat(statement_timestamp(), ' ', problem);
BEGIN
    IF current_setting('pghistory.warned', true) IS DISTINCT FROM this_warning THEN
        PERFORM set_config('pghistory.warned', this_warning, true);
        RAISE WARNING 'context of the event could not be read: %', problem
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The event was written with what could be read. See pghistory.set_context().';
    END IF;
END
$function$;

-- Is pghistory.capture() on? The body is replaced with the answer, so that planning a write settles the question;
-- null sends to the table.
CREATE FUNCTION pghistory._capturing()
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$ SELECT NULL::boolean $function$;

CREATE FUNCTION pghistory._settle_capturing()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    answer CONSTANT boolean := EXISTS (SELECT FROM pghistory.capture_key);
BEGIN
    IF pghistory._capturing() IS DISTINCT FROM answer THEN
        EXECUTE format('CREATE OR REPLACE FUNCTION pghistory._capturing() '
                       'RETURNS boolean LANGUAGE sql STABLE AS %L',
                       format(' SELECT %s ', answer::text));
    END IF;
END
$function$;

-- What pghistory.capture() can tell of a transaction.
CREATE FUNCTION pghistory._session_facts()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT jsonb_build_object(
               'session_user', session_user,
               'current_user', COALESCE(NULLIF(current_setting('pghistory.writer', true), ''), session_user),
               'application_name', current_setting('application_name'),
               'client_addr', host(inet_client_addr()),
               'client_port', inet_client_port(),
               'backend_pid', pg_backend_pid(),
               'database', current_database(),
               'transaction_start', transaction_timestamp(),
               'query', current_query())
$function$;

CREATE FUNCTION pghistory._captured_facts()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT jsonb_object_agg(f.key, f.value)
      FROM jsonb_each(pghistory._session_facts()) AS f JOIN pghistory.capture_key AS k ON k.key = f.key
$function$;

-- The id of the context that a transaction gets from us when it has none of its own.
CREATE FUNCTION pghistory._transaction_context_id()
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT md5(concat_ws(' ', current_database(), pg_current_xact_id(), transaction_timestamp(),
                         pg_backend_pid()))::uuid
$function$;

-- The context of the event that is being written; its first event in a transaction writes it down.
CREATE FUNCTION pghistory._attach_context()
 RETURNS uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    settings CONSTANT text := concat(current_setting('pghistory.context_id', true), ' ',
                                     current_setting('pghistory.context_metadata', true));
    capturing boolean := pghistory._capturing();
    active record;
    facts jsonb;
BEGIN
    -- What was attached last is remembered in a setting that a rollback takes back together with the row. A writer
    -- can forge it; where transactions must not stay anonymous, the table is asked.
    IF capturing = false AND current_setting('pghistory.attached', true) = settings
       AND settings ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12} '
    THEN
        RETURN left(settings, 36);
    END IF;

    active := pghistory._read_context();
    IF active.problem IS NOT NULL THEN
        PERFORM pghistory._warn_of_context(active.problem);
    END IF;
    -- Where a restore left our tables to another role, what he put on them must not run here.
    IF NOT pghistory._has_state() THEN
        PERFORM pghistory._warn_of_context('the tables of pghistory are not the extension owner''s; call refresh()');
        RETURN active.id;
    END IF;
    capturing := COALESCE(capturing, EXISTS (SELECT FROM pghistory.capture_key));
    IF capturing THEN
        facts := pghistory._captured_facts();
        -- What is kept is what was true of the transaction's first event, as long as the same role writes.
        facts := COALESCE((SELECT p.session FROM pghistory.context_part AS p
                            WHERE p.xid = pg_current_xact_id()
                              AND p.session -> 'current_user' IS NOT DISTINCT FROM facts -> 'current_user'
                            ORDER BY p.part LIMIT 1),
                          facts);
        active.id := COALESCE(active.id, pghistory._transaction_context_id());
        active.metadata := active.metadata - 'session';
        IF EXISTS (SELECT FROM pghistory.context_part AS p
                    WHERE p.xid = pg_current_xact_id() AND p.id = active.id AND p.session = facts
                      AND p.metadata = active.metadata)
        THEN
            RETURN active.id;
        END IF;
    END IF;

    -- A part is written for an event: by a trigger, or with a permit. What is added later needs one that is there.
    IF active.id IS NOT NULL
       AND (pg_trigger_depth() > 0
            OR EXISTS (SELECT FROM pghistory._permit WHERE xid = pg_current_xact_id() AND used)
            OR EXISTS (SELECT FROM pghistory.context_part AS p
                        WHERE p.xid = pg_current_xact_id() AND p.id = active.id))
    THEN
        INSERT INTO pghistory.context_part (id, xid, created_at, metadata, session)
        VALUES (active.id, pg_current_xact_id(), transaction_timestamp(), active.metadata, facts);
        IF active.problem IS NULL THEN
            PERFORM set_config('pghistory.attached', settings, true);
        END IF;
    END IF;
    RETURN active.id;
END
$function$;

-- What generated functions call for events that refer to their context. It has no settings of its own, so that
-- PostgreSQL puts its text into theirs: without a context it costs next to nothing.
CREATE FUNCTION pghistory._context_id()
 RETURNS uuid
 LANGUAGE sql
AS $function$
    SELECT CASE WHEN pg_catalog.current_setting('pghistory.context_id', true) OPERATOR(pg_catalog.<>) ''
                  OR COALESCE(pghistory._capturing(), true)
                THEN pghistory._attach_context()
           END
$function$;

-- The same for events that hold their context themselves.
CREATE FUNCTION pghistory._read_inline_context(OUT id uuid, OUT metadata jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    active CONSTANT record := pghistory._read_context();
    facts jsonb;
BEGIN
    IF active.problem IS NOT NULL THEN
        PERFORM pghistory._warn_of_context(active.problem);
    END IF;
    id := active.id;
    metadata := active.metadata;
    IF COALESCE(pghistory._capturing(), true) AND pghistory._has_state() THEN
        facts := pghistory._captured_facts();
    END IF;
    IF facts IS NOT NULL THEN
        id := COALESCE(id, pghistory._transaction_context_id());
        metadata := metadata || jsonb_build_object('session', facts);
    END IF;
END
$function$;

CREATE FUNCTION pghistory._inline_context_id()
 RETURNS uuid
 LANGUAGE sql
AS $function$
    SELECT CASE WHEN pg_catalog.current_setting('pghistory.context_id', true) OPERATOR(pg_catalog.<>) ''
                  OR COALESCE(pghistory._capturing(), true)
                THEN (pghistory._read_inline_context()).id
           END
$function$;

CREATE FUNCTION pghistory._inline_context()
 RETURNS jsonb
 LANGUAGE sql
AS $function$
    SELECT CASE WHEN pg_catalog.current_setting('pghistory.context_id', true) OPERATOR(pg_catalog.<>) ''
                  OR pg_catalog.current_setting('pghistory.context_metadata', true) OPERATOR(pg_catalog.<>) ''
                  OR COALESCE(pghistory._capturing(), true)
                THEN (pghistory._read_inline_context()).metadata
           END
$function$;

-- The context of an event, for whoever knows the event: what is known of the whole context, and the session of the
-- transaction that wrote it.
CREATE FUNCTION pghistory._context_of_event(context_id uuid, xid xid8)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM pghistory.context_part AS p
                    WHERE p.id = context_id AND p.xid = _context_of_event.xid)
       OR NOT pghistory._has_state()
    THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT c.metadata || COALESCE(
                   (SELECT jsonb_build_object('session', p.session) FROM pghistory.context_part AS p
                     WHERE p.id = context_id AND p.xid = _context_of_event.xid AND p.session IS NOT NULL
                     ORDER BY p.part LIMIT 1),
                   '{}')
          FROM pghistory.context AS c WHERE c.id = context_id);
END
$function$;

-- Metadata must be an object; null is none.
CREATE FUNCTION pghistory._checked_metadata(metadata jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF jsonb_typeof(metadata) <> 'object' THEN
        RAISE EXCEPTION 'context metadata is %, not an object', jsonb_typeof(metadata)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give a JSON object, such as {"user": 1, "url": "/signup"}.';
    END IF;
    RETURN COALESCE(metadata, '{}');
END
$function$;

CREATE FUNCTION pghistory.set_context(
    metadata jsonb DEFAULT '{}', id uuid DEFAULT NULL, is_local boolean DEFAULT true)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    added CONSTANT jsonb := pghistory._checked_metadata(metadata);
    active CONSTANT record := pghistory._read_context();
    had_events CONSTANT boolean := starts_with(current_setting('pghistory.attached', true), concat(active.id, ' '));
BEGIN
    IF active.id IS NULL OR active.id <> id THEN
        id := COALESCE(id, gen_random_uuid());
        metadata := added;
    ELSE
        id := active.id;
        metadata := active.metadata || added;
    END IF;
    PERFORM set_config('pghistory.context_id', id::text, is_local),
            set_config('pghistory.context_metadata', metadata::text, is_local);
    IF had_events AND id = active.id THEN
        PERFORM pghistory._attach_context();
    END IF;
    RETURN id;
END
$function$;
COMMENT ON FUNCTION pghistory.set_context(jsonb, uuid, boolean) IS
    'Starts a context, or adds metadata (a JSON object; later keys win) to the one that is active, and returns its '
    'id. With is_local it lasts for the transaction; without, for the session: do not use that '
    'on pooled connections.';

CREATE FUNCTION pghistory.add_context(metadata jsonb)
 RETURNS uuid
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    added CONSTANT jsonb := pghistory._checked_metadata(metadata);
    active CONSTANT record := pghistory._read_context();
BEGIN
    IF active.id IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN pghistory.set_context(added, active.id);
END
$function$;
COMMENT ON FUNCTION pghistory.add_context(jsonb) IS
    'Adds metadata (a JSON object; later keys win) to the active context and returns its id; without an active '
    'context does nothing and returns null. What is added after the last event is kept if the context had an event '
    'in this transaction.';

CREATE FUNCTION pghistory.clear_context()
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT set_config('pghistory.context_id', '', false), set_config('pghistory.context_metadata', '', false);
    SELECT
$function$;
COMMENT ON FUNCTION pghistory.clear_context() IS
    'Ends the active context, also one that was set for the session: later events have none.';

CREATE FUNCTION pghistory.current_context(OUT id uuid, OUT metadata jsonb)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT c.id, CASE WHEN c.id IS NOT NULL THEN c.metadata END FROM pghistory._read_context() AS c
$function$;
COMMENT ON FUNCTION pghistory.current_context() IS
    'The id and the metadata of the active context; both null without one.';
-- The one door to the registry. Functions that run as their caller put what they ask for into a view; its first
-- trigger checks, as the caller, that he may, and its second does it, as the owner of the extension. A function
-- could not do both: a SECURITY DEFINER function cannot see who called it, and an ordinary one may not write.

CREATE VIEW pghistory._request AS
    SELECT NULL::text AS action, NULL::regclass AS "table", NULL::regclass AS event_table, NULL::jsonb AS details
     WHERE false;

-- What comes through the door is of the form that track() and its fellows give it: somebody who uses it himself can
-- write nonsense about his own tables, but none that keeps others from theirs.
CREATE FUNCTION pghistory._check_details(
    action text, "table" regclass, event_table regclass, details jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    is_well_formed boolean;
    function regprocedure;
BEGIN
    is_well_formed := COALESCE(
        CASE
        WHEN action IN ('save event table', 'save columns', 'note rewrite', 'save tracker', 'restart trackers',
                        'save function') THEN
            event_table <> "table"
            AND NOT pghistory._is_event_table("table") AND NOT pghistory._is_tracked(event_table)
            AND (SELECT c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
                   FROM pg_class AS c WHERE c.oid = event_table)
            AND (SELECT c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
                   FROM pg_class AS c WHERE c.oid = "table")
        ELSE true
        END
        AND CASE action
        WHEN 'save event table' THEN
            (SELECT array_position(d.obj_key, NULL) IS NULL AND array_position(d.obj_key_numbers, NULL) IS NULL
                    AND cardinality(d.obj_key) = cardinality(d.obj_key_numbers)
                    AND d.obj_key <@ ARRAY(SELECT c.name FROM pghistory._columns("table") AS c)
                    AND d.context IN ('reference', 'inline', 'none')
                    AND COALESCE(d.obj_fk IN ('cascade', 'restrict', 'set null'), true)
               FROM jsonb_to_record(details)
                        AS d(obj_key name[], obj_key_numbers smallint[], context text, obj_fk text))
        WHEN 'save columns' THEN
            NOT EXISTS (SELECT FROM jsonb_to_recordset(details)
                            AS d(column_name name, table_column_name name, table_column_number smallint,
                                 added_after bigint)
                         WHERE d.column_name IS NULL OR d.table_column_name IS NULL OR d.table_column_number IS NULL)
        WHEN 'save tracker' THEN
            (SELECT d.kind IN ('snapshot', 'after_insert', 'after_insert_or_update', 'before_update', 'after_update',
                               'before_delete', 'before_truncate', 'history', 'event')
                    AND d.level IN ('auto', 'row', 'statement') AND d.label <> ''
                    AND array_position(d.fields, NULL) IS NULL AND array_position(d.exclude, NULL) IS NULL
                    AND NOT EXISTS (SELECT FROM jsonb_to_recordset(d.condition_columns)
                                        AS c(number smallint, name name, type oid)
                                     WHERE c.number IS NULL OR c.name IS NULL OR c.type IS NULL)
                    AND NOT EXISTS (SELECT FROM jsonb_to_recordset(d.condition_objects)
                                        AS o(class text, id oid, schema oid, name text)
                                     WHERE o.id IS NULL
                                        OR COALESCE(o.class NOT IN ('pg_proc', 'pg_type', 'pg_operator',
                                                                    'pg_collation'), true))
               FROM jsonb_to_record(details) AS d(kind text, level text, label text, fields name[], exclude name[],
                                                  condition_columns jsonb, condition_objects jsonb))
        ELSE true
        END,
        false);
    IF action = 'save function' AND details ->> 'by_hand' IS NOT NULL THEN
        function := to_regprocedure((details ->> 'by_hand') || '(text, text)');
        is_well_formed := is_well_formed AND EXISTS (
            SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
             WHERE p.oid = function AND p.proowner = pghistory._owner(event_table)
               AND format('%I.%I', n.nspname, p.proname) = details ->> 'by_hand');
    END IF;
    IF NOT is_well_formed THEN
        RAISE EXCEPTION 'malformed request "%"', action
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The registry is written by pghistory.track() and its fellows.';
    END IF;
END
$function$;

CREATE FUNCTION pghistory._check_request()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NEW.action = 'permit event' THEN
        IF NOT (has_table_privilege(NEW."table", 'INSERT, UPDATE, DELETE')
                OR has_any_column_privilege(NEW."table", 'INSERT, UPDATE'))
        THEN
            RAISE EXCEPTION 'permission denied to write events of table %', NEW."table"
                USING ERRCODE = 'insufficient_privilege',
                      HINT = 'Whoever may insert, update or delete rows of the table may write its events by hand.';
        END IF;
        PERFORM set_config('pghistory.writer', current_user, true);
    ELSIF NEW.action = 'forget dropped tables' THEN
        NULL;  -- whoever notices
    ELSIF NOT COALESCE(pg_has_role(pghistory._owner(NEW."table"), 'USAGE'), false) THEN
        RAISE EXCEPTION 'must be owner of table %', NEW."table"
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Only its owner decides what is recorded about a table.';
    ELSIF NEW.event_table IS NOT NULL
          AND NOT (NEW.action = 'forget event table' AND pghistory._owner(NEW.event_table) IS NULL)
          AND NOT COALESCE(pg_has_role(pghistory._owner(NEW.event_table), 'USAGE'), false)
    THEN
        RAISE EXCEPTION 'must be owner of event table %', NEW.event_table
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Events go to a table of your own, or of a role that you are a member of.';
    END IF;
    IF NEW.action <> 'permit event' THEN
        PERFORM pghistory._check_details(NEW.action, NEW."table", NEW.event_table, NEW.details);
    END IF;
    RETURN NEW;
END
$function$;

-- From when on can a tracker that is being made know all that happens to its table? From when the table is locked; or
-- from the start of this transaction, if that made the table.
CREATE FUNCTION pghistory._tracking_since("table" regclass)
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN t.xmin = pg_current_xact_id()::xid THEN transaction_timestamp() ELSE clock_timestamp() END
      FROM pg_class AS c JOIN pg_type AS t ON t.oid = c.reltype
     WHERE c.oid = "table"
$function$;

-- Do two definitions of a tracker record the same events?
CREATE FUNCTION pghistory._records_the_same(one jsonb, other jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT bool_and(one -> key IS NOT DISTINCT FROM other -> key)
      FROM unnest(ARRAY['kind', 'fields', 'exclude', 'event_table']) AS key
   HAVING (one ->> 'condition' IS NULL) = (other ->> 'condition' IS NULL)
$function$;

-- Tables that were dropped where nothing told us. After a restore such an entry may name another table, by chance:
-- that one has another name.
CREATE FUNCTION pghistory._forget_dropped_tables()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    WITH gone AS (
        SELECT e.event_table
          FROM pghistory.event_table AS e
         WHERE e."table" IS NOT NULL
           AND (pghistory._table_name(e."table") IS NULL
                OR e.origin <> pghistory._origin(e."table")
                   AND pghistory._table_name(e."table") <> format('%I.%I', e.table_schema, e.table_name))
    ), untracked AS (
        DELETE FROM pghistory.tracker AS t USING gone AS g WHERE t.event_table = g.event_table
    )
    UPDATE pghistory.event_table AS e
       SET "table" = NULL, by_hand = NULL
      FROM gone AS g
     WHERE e.event_table = g.event_table;
    DELETE FROM pghistory.tracker AS t
     WHERE NOT EXISTS (SELECT FROM pghistory.event_table AS e
                        WHERE e.event_table = t.event_table AND e."table" = t."table");
END
$function$;

CREATE FUNCTION pghistory._apply_request()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    details CONSTANT jsonb := NEW.details;
BEGIN
    PERFORM pghistory._ensure_state();
    CASE NEW.action
    WHEN 'prepare' THEN
        PERFORM pghistory._settle_capturing();
    WHEN 'forget dropped tables' THEN
        PERFORM pghistory._forget_dropped_tables();
    WHEN 'save event table' THEN
        -- Trackers of a table that is gone, where nothing told us.
        DELETE FROM pghistory.tracker AS t WHERE t.event_table = NEW.event_table AND t."table" <> NEW."table";
        -- On another server the ids of transactions mean something else.
        IF (SELECT split_part(e.origin, '/', 1) <> split_part(pghistory._origin(NEW."table"), '/', 1)
              FROM pghistory.event_table AS e WHERE e.event_table = NEW.event_table)
        THEN
            UPDATE pghistory.tracker AS t SET since_xid = '0' WHERE t.event_table = NEW.event_table;
            UPDATE pghistory.event_column AS c
               SET added_xid = NULL,
                   rewrites = (SELECT COALESCE(jsonb_agg(r - 'xid' ORDER BY position), '[]')
                                 FROM jsonb_array_elements(c.rewrites) WITH ORDINALITY AS r(r, position))
             WHERE c.event_table = NEW.event_table;
        END IF;
        INSERT INTO pghistory.event_table AS e
            (event_table, "table", table_schema, table_name, origin, obj_key, obj_key_numbers, obj_key_given,
             obj_fk, context, append_only, foreign_until)
        SELECT NEW.event_table, NEW."table", n.nspname, c.relname, pghistory._origin(NEW."table"),
               d.obj_key, d.obj_key_numbers, d.obj_key_given, d.obj_fk, d.context, d.append_only, 0
          FROM jsonb_to_record(details)
                   AS d(obj_key name[], obj_key_numbers smallint[], obj_key_given boolean, obj_fk text,
                        context text, append_only boolean),
               pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = NEW."table"
        ON CONFLICT (event_table) DO UPDATE
           SET "table" = EXCLUDED."table", table_schema = EXCLUDED.table_schema, table_name = EXCLUDED.table_name,
               origin = EXCLUDED.origin, obj_key = EXCLUDED.obj_key, obj_key_numbers = EXCLUDED.obj_key_numbers,
               obj_key_given = EXCLUDED.obj_key_given, obj_fk = EXCLUDED.obj_fk, context = EXCLUDED.context,
               append_only = EXCLUDED.append_only,
               foreign_until = CASE WHEN split_part(e.origin, '/', 1) = split_part(EXCLUDED.origin, '/', 1)
                                    THEN e.foreign_until ELSE COALESCE(pghistory._last_event(e.event_table), 0) END
         WHERE to_jsonb(e) - ARRAY['by_hand', 'foreign_until']
               IS DISTINCT FROM to_jsonb(EXCLUDED) - ARRAY['by_hand', 'foreign_until'];
    WHEN 'save function' THEN
        UPDATE pghistory.event_table SET by_hand = details ->> 'by_hand' WHERE event_table = NEW.event_table;
    WHEN 'save columns' THEN
        WITH changed AS (
            DELETE FROM pghistory.event_column AS c
             WHERE c.event_table = NEW.event_table
               AND NOT EXISTS (SELECT FROM jsonb_to_recordset(details)
                                   AS d(column_name name, table_column_name name, table_column_number smallint)
                                WHERE (d.column_name, d.table_column_name, d.table_column_number)
                                      = (c.column_name, c.table_column_name, c.table_column_number))
            RETURNING *
        )
        INSERT INTO pghistory.event_column
            (event_table, column_name, table_column_name, table_column_number, added_after, added_at, added_xid,
             missing_value, rewrites, unreadable_until)
        SELECT NEW.event_table, d.column_name, d.table_column_name, d.table_column_number,
               COALESCE(c.added_after, d.added_after),
               CASE WHEN c.added_after IS NOT NULL THEN c.added_at
                    WHEN d.added_after IS NOT NULL THEN transaction_timestamp() END,
               CASE WHEN c.added_after IS NOT NULL THEN c.added_xid
                    WHEN d.added_after IS NOT NULL THEN pg_current_xact_id() END,
               COALESCE(c.missing_value, d.missing_value),
               c.rewrites, c.unreadable_until
          FROM jsonb_to_recordset(details)
                   AS d(column_name name, table_column_name name, table_column_number smallint, added_after bigint,
                        missing_value text)
               LEFT JOIN changed AS c
                 ON CASE WHEN pghistory._origin(NEW."table") = (SELECT e.origin FROM pghistory.event_table AS e
                                                                 WHERE e.event_table = NEW.event_table)
                         THEN c.table_column_number = d.table_column_number
                         ELSE c.column_name = d.column_name END
        ON CONFLICT DO NOTHING;
    WHEN 'note rewrite' THEN
        UPDATE pghistory.event_column AS c
           SET rewrites = CASE WHEN d.is_rewritten
                               THEN COALESCE(c.rewrites, '[]') || jsonb_build_object(
                                        'after', d.last_event, 'at', transaction_timestamp(),
                                        'xid', pg_current_xact_id()::text)
                               ELSE c.rewrites END,
               unreadable_until = CASE WHEN d.is_unreadable THEN d.last_event ELSE c.unreadable_until END
          FROM jsonb_to_recordset(details)
                   AS d(table_column_number smallint, last_event bigint, is_rewritten boolean, is_unreadable boolean)
         WHERE c.event_table = NEW.event_table AND c.table_column_number = d.table_column_number;
    WHEN 'restart trackers' THEN
        UPDATE pghistory.tracker AS t
           SET since = pghistory._tracking_since(NEW."table"), since_xid = pg_current_xact_id(),
               since_event = COALESCE((details ->> 'since_event')::bigint, 0),
               since_empty = pghistory._is_unused(NEW."table")
         WHERE t.event_table = NEW.event_table AND t."table" = NEW."table";
    WHEN 'save tracker' THEN
        INSERT INTO pghistory.tracker AS t
            ("table", label, kind, fields, field_numbers, exclude, exclude_numbers, condition,
             condition_is_row_level, condition_columns, condition_objects, condition_is_void, event_table, level,
             since, since_xid, since_event, since_empty)
        SELECT NEW."table", d.label, d.kind, d.fields, d.field_numbers, d.exclude, d.exclude_numbers, d.condition,
               d.condition_is_row_level, d.condition_columns, d.condition_objects, d.condition_is_void,
               NEW.event_table, d.level, pghistory._tracking_since(NEW."table"), pg_current_xact_id(),
               COALESCE((details ->> 'since_event')::bigint, 0), pghistory._is_unused(NEW."table")
          FROM jsonb_to_record(details)
                   AS d(label text, kind text, fields name[], field_numbers smallint[], exclude name[],
                        exclude_numbers smallint[], condition text, condition_is_row_level boolean,
                        condition_columns jsonb, condition_objects jsonb, condition_is_void boolean, level text)
        ON CONFLICT ("table", label) DO UPDATE
           SET kind = EXCLUDED.kind, fields = EXCLUDED.fields, field_numbers = EXCLUDED.field_numbers,
               exclude = EXCLUDED.exclude, exclude_numbers = EXCLUDED.exclude_numbers,
               condition = EXCLUDED.condition, condition_is_row_level = EXCLUDED.condition_is_row_level,
               condition_columns = EXCLUDED.condition_columns, condition_objects = EXCLUDED.condition_objects,
               condition_is_void = EXCLUDED.condition_is_void,
               event_table = EXCLUDED.event_table, level = EXCLUDED.level,
               (since, since_xid, since_event, since_empty) = (
                   SELECT k.since, k.since_xid, k.since_event, k.since_empty
                     FROM (VALUES (true, t.since, t.since_xid, t.since_event, t.since_empty),
                                  (false, EXCLUDED.since, EXCLUDED.since_xid, EXCLUDED.since_event,
                                   EXCLUDED.since_empty))
                              AS k(same, since, since_xid, since_event, since_empty)
                    WHERE k.same = COALESCE(details ? 'since'
                                            OR pghistory._records_the_same(to_jsonb(t), to_jsonb(EXCLUDED)), false))
         WHERE to_jsonb(t) - ARRAY['ordinal', 'since', 'since_xid', 'since_event', 'since_empty']
               IS DISTINCT FROM
               to_jsonb(EXCLUDED) - ARRAY['ordinal', 'since', 'since_xid', 'since_event', 'since_empty'];
    WHEN 'remove tracker' THEN
        DELETE FROM pghistory.tracker WHERE "table" = NEW."table" AND label = details ->> 'label';
    WHEN 'forget event table' THEN
        DELETE FROM pghistory.tracker WHERE event_table = NEW.event_table AND "table" = NEW."table";
        DELETE FROM pghistory.event_table WHERE event_table = NEW.event_table;
    WHEN 'permit event' THEN
        DELETE FROM pghistory._permit WHERE xid < pg_snapshot_xmin(pg_current_snapshot());
        INSERT INTO pghistory._permit (xid, event_table, label)
        SELECT pg_current_xact_id(), t.event_table, t.label
          FROM pghistory.tracker AS t
         WHERE t."table" = NEW."table" AND t.label = details ->> 'label';
    END CASE;
    RETURN NEW;
END
$function$;

CREATE TRIGGER "1 check" INSTEAD OF INSERT ON pghistory._request
    FOR EACH ROW EXECUTE FUNCTION pghistory._check_request();
CREATE TRIGGER "2 apply" INSTEAD OF INSERT ON pghistory._request
    FOR EACH ROW EXECUTE FUNCTION pghistory._apply_request();

-- Takes the permit that create_event() was given for one event, or refuses.
CREATE FUNCTION pghistory._use_permit(event_table text, label text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    UPDATE pghistory._permit AS p
       SET used = true
     WHERE p.ctid = (SELECT q.ctid FROM pghistory._permit AS q
                      WHERE q.xid = pg_current_xact_id() AND NOT q.used
                        AND q.event_table = _use_permit.event_table::regclass
                        AND q.label = _use_permit.label
                      LIMIT 1);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'events are written by hand with pghistory.create_event() only'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Call pghistory.create_event().';
    END IF;
END
$function$;

-- what is tracked
-- Refusals: what track() and its fellows do not accept, said before anything is done.

CREATE FUNCTION pghistory._check_not_null(argument text, is_null boolean)
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

CREATE FUNCTION pghistory._check_choice(argument text, value text, choices text[])
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
CREATE FUNCTION pghistory._check_event_table_choices(
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

CREATE FUNCTION pghistory._check_owner("table" regclass)
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
CREATE FUNCTION pghistory._check_trackable("table" regclass)
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
CREATE FUNCTION pghistory._checked_fields("table" regclass, fields text[])
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
CREATE FUNCTION pghistory._checked_key("table" regclass, obj_key text[])
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
CREATE FUNCTION pghistory._check_foreign_key(
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
-- Conditions: parsed by PostgreSQL when track() is called, and kept as the text that PostgreSQL makes of them, in
-- which every name is qualified.

-- The four changes. Over named fields they are plain comparisons by image; over the tracked fields, whichever these
-- are when an event is written, they are placeholders that the trigger function fills in.
CREATE FUNCTION pghistory._row_of(image text, fields text[])
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('ROW(%s)', string_agg(pghistory._field(image, field), ', ' ORDER BY position))
      FROM unnest(fields) WITH ORDINALITY AS f(field, position)
$function$;

CREATE FUNCTION pghistory._change_of(change text, fields text[])
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN fields = '{}' THEN NULL
           WHEN change IN ('any_change', 'all_dont_change') THEN
               format('pg_catalog.record_image_%s(%s, %s)', CASE change WHEN 'any_change' THEN 'ne' ELSE 'eq' END,
                      pghistory._row_of('old', fields), pghistory._row_of('new', fields))
           ELSE
               (SELECT format('(%s)',
                           string_agg(format('pg_catalog.record_image_%s(%s, %s)',
                                             CASE change WHEN 'all_change' THEN 'ne' ELSE 'eq' END,
                                             pghistory._row_of('old', ARRAY[field]),
                                             pghistory._row_of('new', ARRAY[field])),
                                      CASE change WHEN 'all_change' THEN ' AND ' ELSE ' OR ' END ORDER BY position))
                  FROM unnest(fields) WITH ORDINALITY AS f(field, position))
           END
$function$;

CREATE FUNCTION pghistory._tracked_any_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *<> new; END $function$;

CREATE FUNCTION pghistory._tracked_all_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *<> new; END $function$;

CREATE FUNCTION pghistory._tracked_any_dont_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *= new; END $function$;

CREATE FUNCTION pghistory._tracked_all_dont_change(old record, new record)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$ BEGIN RETURN old *= new; END $function$;

CREATE FUNCTION pghistory.any_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('any_change', fields), 'pghistory._tracked_any_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.any_change(text[]) IS
    'The text of a condition for track(): true when the update changed any of the fields; '
    'without arguments, any of the tracked fields.';

CREATE FUNCTION pghistory.all_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('all_change', fields), 'pghistory._tracked_all_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.all_change(text[]) IS
    'The text of a condition for track(): true when the update changed every one of the fields; '
    'without arguments, every tracked field.';

CREATE FUNCTION pghistory.any_dont_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('any_dont_change', fields), 'pghistory._tracked_any_dont_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.any_dont_change(text[]) IS
    'The text of a condition for track(): true when the update left any of the fields as it was; '
    'without arguments, any of the tracked fields.';

CREATE FUNCTION pghistory.all_dont_change(VARIADIC fields text[] DEFAULT '{}')
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(pghistory._change_of('all_dont_change', fields), 'pghistory._tracked_all_dont_change(old, new)')
$function$;
COMMENT ON FUNCTION pghistory.all_dont_change(text[]) IS
    'The text of a condition for track(): true when the update left every one of the fields as it was; '
    'without arguments, every tracked field.';

-- The trigger function of the scratch trigger that conditions are parsed in.
CREATE FUNCTION pghistory._parse_only()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN NULL;
END
$function$;

-- Which rows there are for the operations of a kind: a condition may name only those that all of them have.
CREATE FUNCTION pghistory._condition_events(kind text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE kind
           WHEN 'snapshot' THEN 'INSERT OR UPDATE'
           WHEN 'after_insert_or_update' THEN 'INSERT OR UPDATE'
           WHEN 'after_insert' THEN 'INSERT'
           WHEN 'before_update' THEN 'UPDATE'
           WHEN 'after_update' THEN 'UPDATE'
           WHEN 'before_delete' THEN 'DELETE'
           WHEN 'before_truncate' THEN 'DELETE'
           WHEN 'history' THEN 'INSERT OR DELETE OR UPDATE'
           END
$function$;

-- A parse tree without what says only where and how it was written.
CREATE FUNCTION pghistory._meaning(tree pg_node_tree)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT regexp_replace(tree::text, ':(location|list_start|list_end|[a-z_]*format) -?[0-9]+', '', 'g')
$function$;

-- An object that a condition may name, as PostgreSQL writes it there; null once it is gone.
CREATE FUNCTION pghistory._object_text(class text, id oid)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('%I.%s', n.nspname, o.name)
      FROM (SELECT p.pronamespace AS namespace, quote_ident(p.proname) AS name FROM pg_proc AS p
             WHERE class = 'pg_proc' AND p.oid = id
            UNION ALL
            SELECT e.typnamespace, quote_ident(e.typname)
              FROM pg_type AS t
                   JOIN pg_type AS e
                     ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
             WHERE class = 'pg_type' AND t.oid = id
            UNION ALL
            SELECT p.oprnamespace, p.oprname FROM pg_operator AS p WHERE class = 'pg_operator' AND p.oid = id
            UNION ALL
            SELECT c.collnamespace, quote_ident(c.collname) FROM pg_collation AS c
             WHERE class = 'pg_collation' AND c.oid = id
           ) AS o
           JOIN pg_namespace AS n ON n.oid = o.namespace
$function$;

-- The functions, types, operators and collations that the condition of a trigger names,
-- beyond PostgreSQL's own and ours.
CREATE FUNCTION pghistory._objects_named(trigger_id oid)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(jsonb_agg(jsonb_build_object('class', class, 'id', id, 'schema', namespace,
                                                 'name', pghistory._object_text(class, id))), '[]')
      FROM (SELECT d.class, d.id,
                   COALESCE((SELECT pronamespace FROM pg_proc WHERE oid = d.id AND d.class = 'pg_proc'),
                            (SELECT typnamespace FROM pg_type WHERE oid = d.id AND d.class = 'pg_type'),
                            (SELECT oprnamespace FROM pg_operator WHERE oid = d.id AND d.class = 'pg_operator'),
                            (SELECT collnamespace FROM pg_collation WHERE oid = d.id AND d.class = 'pg_collation')
                   ) AS namespace
              FROM (SELECT refclassid::regclass::text AS class, refobjid AS id
                      FROM pg_depend
                     WHERE classid = 'pg_trigger'::regclass AND objid = trigger_id
                    UNION
                    -- an attribute of a composite type is recorded as a column of its relation
                    SELECT 'pg_type', c.reltype
                      FROM pg_depend AS r JOIN pg_trigger AS t ON t.oid = r.objid
                           JOIN pg_class AS c ON c.oid = r.refobjid AND c.oid <> t.tgrelid
                     WHERE r.classid = 'pg_trigger'::regclass AND r.objid = trigger_id
                       AND r.refclassid = 'pg_class'::regclass) AS d) AS o
     WHERE namespace <> 'pghistory'::regnamespace
$function$;

-- Does a condition ask what is another inside of a SECURITY DEFINER function: the current user, role or schema?
CREATE FUNCTION pghistory._depends_on_role(tree pg_node_tree)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT tree::text ~ 'SQLVALUEFUNCTION :op (9|10|11|14) '
        OR EXISTS (SELECT FROM regexp_matches(tree::text, ':funcid ([0-9]+) ', 'g') AS called(id)
                               JOIN pg_proc AS p ON p.oid = called.id[1]::oid
                    WHERE p.pronamespace = 'pg_catalog'::regnamespace
                      AND p.proname IN ('current_user', 'current_schema', 'current_schemas', 'getpgusername'))
$function$;

-- A literal with a backslash is read differently where standard_conforming_strings is off, unless it is an E''
-- literal; a column named by a word of PL/pgSQL is read as that word, unless it is quoted.
CREATE FUNCTION pghistory._portable_condition(condition text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(CASE WHEN starts_with(token[1], '''') AND strpos(token[1], E'\\') > 0
                           THEN 'E' || replace(token[1], E'\\', E'\\\\')
                           WHEN token[1] ~ '^(old|new)[.][a-z_]'
                           THEN pghistory._field(left(token[1], 3), substr(token[1], 5))
                           ELSE token[1] END, '' ORDER BY position)
      FROM regexp_matches(
               condition,
               $re$(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|$re$
               || $re$(?:old|new)\.(?:[[:alnum:]_$]+|"(?:[^"]|"")*")|[[:alnum:]_$]+|.)$re$,
               'g')
               WITH ORDINALITY AS t(token, position)
$function$;

-- The condition of a trigger as PostgreSQL writes it, under settings that leave nothing to those of the reader.
CREATE FUNCTION pghistory._deparsed_condition(
    trigger_id oid, before_condition text, after_condition text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET quote_all_identifiers TO 'off'
 SET standard_conforming_strings TO 'on'
AS $function$
DECLARE
    definition CONSTANT text := pg_get_triggerdef(trigger_id);
BEGIN
    RETURN pghistory._portable_condition(
        substr(definition, length(before_condition) + 1,
               length(definition) - length(before_condition) - length(after_condition)));
END
$function$;

-- The condition as PostgreSQL writes it, its parse tree, and what it names. The trigger it is parsed in
-- is gone at once.
CREATE FUNCTION pghistory._parse_condition(
    "table" regclass, events text, condition text, path text,
    OUT deparsed text, OUT tree pg_node_tree, OUT objects jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name("table");
    before_condition CONSTANT text :=
        format('CREATE TRIGGER "!pghistory condition" AFTER %s ON %s FOR EACH ROW WHEN (', events, relation);
    after_condition CONSTANT text := ') EXECUTE FUNCTION pghistory._parse_only()';
    own_path CONSTANT text := current_setting('search_path');
BEGIN
    PERFORM set_config('search_path', path, true);
    EXECUTE pg_catalog.concat(before_condition, condition, E'\n', after_condition);
    PERFORM pg_catalog.set_config('search_path', own_path, true);
    SELECT pghistory._deparsed_condition(t.oid, before_condition, after_condition), t.tgqual,
           pghistory._objects_named(t.oid)
      INTO deparsed, tree, objects
      FROM pg_trigger AS t
     WHERE t.tgrelid = "table" AND t.tgname = '!pghistory condition';
    EXECUTE format('DROP TRIGGER "!pghistory condition" ON %s', relation);
END
$function$;

-- Is the text one expression? In parentheses, as it will be used, several statements or a second clause would not
-- do; bare, text that closes the parentheses and opens them again would not. Nothing is run: a cursor is opened
-- and closed.
CREATE FUNCTION pghistory._check_single_expression("table" regclass, condition text, path text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    rows CONSTANT text := format('FROM ONLY %1$s AS old, ONLY %1$s AS new', pghistory._table_name("table"));
    expression refcursor;
BEGIN
    PERFORM set_config('search_path', path, true);
    OPEN expression FOR EXECUTE pg_catalog.concat('SELECT (', condition, E'\n) ', rows);
    CLOSE expression;
    OPEN expression FOR EXECUTE pg_catalog.concat('SELECT ', condition, E'\n ', rows);
    CLOSE expression;
END
$function$;

-- The condition as it is kept, the columns it names, and whether only a row-level trigger can have what it names.
-- `path` is the search_path of the session that gave it.
CREATE FUNCTION pghistory._normalised_condition(
    "table" regclass, kind text, condition text, path text,
    OUT text text, OUT columns jsonb, OUT objects jsonb, OUT is_row_level boolean)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    events CONSTANT text := pghistory._condition_events(kind);
    first record;
    second record;
    code text;
    reason text;
BEGIN
    is_row_level := false;
    columns := '[]';
    objects := '[]';
    IF condition IS NULL THEN
        RETURN;
    ELSIF events IS NULL THEN
        RAISE EXCEPTION 'kind "%" takes no condition', kind
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Its events are written only by create_event(): decide there.';
    END IF;
    BEGIN
        PERFORM pghistory._check_single_expression("table", condition, path);
        first := pghistory._parse_condition("table", events, condition, path);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, reason = MESSAGE_TEXT;
        RAISE EXCEPTION 'condition of kind "%" is not accepted: %', kind, reason
            USING ERRCODE = code,
                  DETAIL = format('The condition is: %s', condition),
                  HINT = 'A condition is one boolean SQL expression over the columns of OLD (update, delete, '
                         'truncate) and NEW (insert, update), without subqueries.';
    END;
    BEGIN
        second := pghistory._parse_condition("table", events, first.deparsed, 'pg_catalog, pg_temp');
        IF pghistory._depends_on_role(first.tree) THEN
            reason := 'it asks for the current user or schema, '
                      'and events are written as the owner of the event table';
        ELSIF first.tree::text ~ ':consttype (24|2202|2203|2204|2205|2206|3734|3769|4089|4096|4191) ' THEN
            reason := 'it has a constant that stands for an object, such as a regclass';
        ELSIF second.deparsed <> first.deparsed
              OR pghistory._meaning(second.tree) <> pghistory._meaning(first.tree)
        THEN
            reason := 'PostgreSQL would read it differently';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
    END;
    IF reason IS NOT NULL THEN
        RAISE EXCEPTION 'condition cannot be kept without changing its meaning: %', reason
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = format('It would be kept as: %s', first.deparsed),
                  HINT = 'Write it with function calls and plain comparisons, such as pghistory.any_change().';
    END IF;
    text := first.deparsed;
    objects := first.objects;
    SELECT COALESCE(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type', a.atttypid)
                              ORDER BY a.attnum), '[]')
      INTO columns
      FROM pg_attribute AS a
     WHERE a.attrelid = "table" AND a.attnum > 0
       AND a.attnum IN (SELECT m[1]::smallint
                          FROM regexp_matches(first.tree::text, ':varattno ([0-9]+) ', 'g') AS m);
    -- Transition tables have neither whole rows of the table's type nor system columns. The placeholders for
    -- changes name whole rows, but are not evaluated as they stand.
    is_row_level := pghistory._meaning(first.tree) ~ ':varattno -'
        OR (SELECT count(*) FROM regexp_matches(pghistory._meaning(first.tree), ':varattno 0 ', 'g'))
           > 2 * (SELECT count(*)
                    FROM regexp_matches(text, 'pghistory[.]_tracked_[a-z_]+[(]old[.][*], new[.][*][)]', 'g'));
END
$function$;

-- The condition after something it names was renamed: {"old.email": "old.mail", "public.mood": "app.mood"}.
-- PostgreSQL writes every name with two parts; what stands in a literal is left alone.
CREATE FUNCTION pghistory._renamed_condition(condition text, renames jsonb)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(COALESCE(renames ->> token[1], token[1]), '' ORDER BY position)
      FROM regexp_matches(
               condition,
               $re$(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|(?:"(?:[^"]|"")*"|[[:alnum:]_$]+)$re$
               || $re$(?:\.(?:"(?:[^"]|"")*"|[[:alnum:]_$]+|[-+*/<>=~!@#%^&|`?]+))?|.)$re$,
               'g') WITH ORDINALITY AS t(token, position)
$function$;

-- What a condition names, brought up to date.
CREATE FUNCTION pghistory._renamed_columns("table" regclass, columns jsonb, same_origin boolean)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type', a.atttypid)
                              ORDER BY a.attnum), '[]')
      FROM jsonb_to_recordset(columns) AS k(number smallint, name name)
           JOIN pg_attribute AS a ON a.attrelid = "table" AND a.attnum > 0 AND NOT a.attisdropped
                                 AND CASE WHEN same_origin THEN a.attnum = k.number ELSE a.attname = k.name END
$function$;

CREATE FUNCTION pghistory._renamed_objects(objects jsonb, same_origin boolean)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(jsonb_agg(jsonb_build_object('class', k.class, 'id', o.id, 'schema', o.schema,
                                                 'name', pghistory._object_text(k.class, o.id))), '[]')
      FROM jsonb_to_recordset(objects) AS k(class text, id oid, schema oid, name text)
           CROSS JOIN LATERAL (
               SELECT k.id, k.schema WHERE same_origin
                UNION ALL
               SELECT p.oid, p.pronamespace FROM pg_proc AS p
                WHERE NOT same_origin AND k.class = 'pg_proc' AND p.oid = to_regproc(k.name)
                UNION ALL
               SELECT t.oid, t.typnamespace FROM pg_type AS t
                WHERE NOT same_origin AND k.class = 'pg_type' AND t.oid = to_regtype(k.name)
           ) AS o
$function$;

-- Does a kept condition still mean something, after what it names has changed? It comes from the registry: what
-- closes the parentheses it stands in, or ends the statement, is not given to the parser.
CREATE FUNCTION pghistory._still_parses("table" regclass, kind text, condition text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    token text;
    depth integer := 0;
BEGIN
    FOR token IN
        SELECT m[1] FROM regexp_matches(
            condition, $re$(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--|/[*]|.)$re$, 'g') AS m
    LOOP
        depth := depth + CASE token WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        IF depth < 0 OR token IN (';', '--', '/*', '$') THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN condition IS NULL
        OR depth = 0 AND (pghistory._parse_condition("table", pghistory._condition_events(kind), condition,
                                                     'pg_catalog, pg_temp')).deparsed = condition;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END
$function$;
-- Event tables: what they consist of, making them, and taking over one that is there.

-- The columns of an event table, in order. `source` is the tracked column that one holds, if any; one that is not
-- `required` may be missing from a table that is taken over.
CREATE FUNCTION pghistory._event_columns(
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
CREATE FUNCTION pghistory._type_text(type_id oid, type_modifier integer, collation_id oid)
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
CREATE FUNCTION pghistory._copy_storage(event_table regclass, field name, "table" regclass, source name)
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
CREATE FUNCTION pghistory._refuse_change()
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
CREATE FUNCTION pghistory._set_append_only(event_table regclass, append_only boolean)
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
CREATE FUNCTION pghistory._set_foreign_key(
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
CREATE FUNCTION pghistory._create_event_indexes(
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

CREATE FUNCTION pghistory._create_event_table(
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
CREATE FUNCTION pghistory._unwritable(event_table regclass, written name[])
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
CREATE FUNCTION pghistory._misfit(
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
CREATE FUNCTION pghistory._parsed_event_table(
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
CREATE FUNCTION pghistory._tracked_fields("table" regclass, fields name[], exclude name[])
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
-- The text of generated functions. What is written here is what people read under \sf.

-- What each tracker of a table wants written, operation by operation, and at which level.
CREATE FUNCTION pghistory._operations(
    "table" regclass,
    OUT event_table regclass,
    OUT label text,
    OUT ordinal bigint,
    OUT operation text,
    OUT level text,
    OUT image text,
    OUT code text,
    OUT only_changes boolean,
    OUT condition text,
    OUT fields name[])
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH operation_of_kind(kind, operation, image, code, only_changes) AS (
        VALUES ('snapshot', 'insert', 'new', 'I', false),
               ('snapshot', 'update', 'new', 'U', true),
               ('after_insert', 'insert', 'new', 'I', false),
               ('after_insert_or_update', 'insert', 'new', 'I', false),
               ('after_insert_or_update', 'update', 'new', 'U', false),
               ('before_update', 'update', 'old', 'B', false),
               ('after_update', 'update', 'new', 'U', false),
               ('before_delete', 'delete', 'old', 'D', false),
               ('before_truncate', 'truncate', 'old', 'T', false),
               ('history', 'insert', 'new', 'I', false),
               ('history', 'update', 'new', 'U', true),
               ('history', 'delete', 'old', 'D', false),
               ('history', 'truncate', 'old', 'T', false)
    )
    SELECT t.event_table, t.label, t.ordinal, o.operation,
           CASE
           WHEN o.operation = 'truncate' THEN 'statement'
           WHEN t.level = 'row' OR t.condition_is_row_level THEN 'row'
           WHEN t.level = 'auto' AND o.operation = 'update' THEN 'row'
           WHEN pghistory._row_level_reason(t."table", o.operation) IS NOT NULL THEN 'row'
           ELSE 'statement'
           END,
           o.image, o.code, o.only_changes, CASE WHEN NOT t.condition_is_void THEN t.condition END,
           pghistory._tracked_fields(t."table", t.fields, t.exclude)
      FROM pghistory.tracker AS t JOIN operation_of_kind AS o USING (kind)
     WHERE t."table" = _operations."table"
     ORDER BY t.ordinal;
END
$function$;

-- Did the update change any of the fields? By image, fixed-size columns first: large values are read last.
CREATE FUNCTION pghistory._change_text("table" regclass, fields name[], level text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN level = 'row' AND (fields = '{}' OR count(*) FILTER (WHERE name <> ALL (fields)) = 0)
           THEN 'old.* *<> new.*'
           ELSE format('ROW(%s)::record *<> ROW(%s)::record',
                       string_agg(pghistory._field('old', name), ', ' ORDER BY fixed_size DESC, number)
                           FILTER (WHERE fields = '{}' OR name = ANY (fields)),
                       string_agg(pghistory._field('new', name), ', ' ORDER BY fixed_size DESC, number)
                           FILTER (WHERE fields = '{}' OR name = ANY (fields)))
           END
      FROM pghistory._columns("table")
$function$;

-- A kept condition, its placeholders for changes of the tracked fields filled in.
CREATE FUNCTION pghistory._condition_text(condition text, "table" regclass, fields name[])
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    compared CONSTANT name[] := CASE WHEN fields = '{}' THEN pghistory._tracked_fields("table", NULL, NULL)
                                     ELSE fields END;
    change text;
BEGIN
    FOREACH change IN ARRAY ARRAY['any_change', 'all_change', 'any_dont_change', 'all_dont_change'] LOOP
        condition := replace(condition, format('pghistory._tracked_%s(old.*, new.*)', change),
                             pghistory._change_of(change, compared));
    END LOOP;
    RETURN condition;
END
$function$;

-- One INSERT of an event: from a table expression, or of one row where there is none.
CREATE FUNCTION pghistory._insert_text(
    event_table regclass, columns text[], expressions text[], source text, indent integer)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    margin CONSTANT text := repeat(' ', indent);
BEGIN
    RETURN concat(
        margin, 'INSERT INTO ', pghistory._table_name(event_table), E'\n',
        margin, '    (', pghistory._wrapped(columns, indent + 5), E')\n',
        CASE WHEN source IS NULL
             THEN concat(margin, E'VALUES\n', margin, '    (', pghistory._wrapped(expressions, indent + 5), ')')
             ELSE concat(margin, 'SELECT ', pghistory._wrapped(expressions, indent + 7), E'\n', source)
        END);
END
$function$;

-- The columns of an event and what goes into them. `label` is an SQL expression; `code` is the operation's letter.
CREATE FUNCTION pghistory._event_text(
    event_table regclass, label text, operation text, image text, code text, fields name[], level text,
    OUT columns text[], OUT expressions text[])
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    -- A row that exists no longer cannot be referred to: with a foreign key the object's key is the new one.
    key_image text;
    other_image text;
    call CONSTANT text := CASE level WHEN 'statement' THEN '(SELECT pghistory.%s())' ELSE 'pghistory.%s()' END;
    object_columns name[];
    other_columns name[];
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _event_text.event_table;
    key_image := CASE WHEN operation = 'update' AND registered.obj_fk IS NOT NULL THEN 'new' ELSE image END;
    other_image := CASE key_image WHEN 'new' THEN 'old' ELSE 'new' END;
    object_columns := pghistory._object_columns(registered.obj_key);
    other_columns := pghistory._other_key_columns(registered.obj_key);

    columns := ARRAY['pgh_created_at', 'pgh_label', 'pgh_operation', 'pgh_xid'];
    expressions := ARRAY['now()', label, quote_literal(code), 'pg_current_xact_id()'];

    columns := columns || ARRAY(SELECT quote_ident(c) FROM unnest(object_columns) AS c);
    expressions := expressions || ARRAY(SELECT pghistory._field(key_image, k) FROM unnest(registered.obj_key) AS k);

    IF operation = 'update'
       AND (SELECT count(*) FROM pg_attribute
             WHERE attrelid = event_table AND attname = ANY (other_columns) AND NOT attisdropped)
           = cardinality(other_columns)
    THEN
        columns := columns || ARRAY(SELECT quote_ident(c) FROM unnest(other_columns) AS c);
        expressions := expressions || ARRAY(
            SELECT format('CASE WHEN %s THEN %s END',
                          format('ROW(%s)::record *<> ROW(%s)::record',
                                 (SELECT string_agg(pghistory._field('old', f), ', ')
                                    FROM unnest(registered.obj_key) AS f),
                                 (SELECT string_agg(pghistory._field('new', f), ', ')
                                    FROM unnest(registered.obj_key) AS f)),
                          pghistory._field(other_image, k))
              FROM unnest(registered.obj_key) AS k);
    END IF;

    CASE registered.context
    WHEN 'reference' THEN
        columns := columns || 'pgh_context_id'::text;
        expressions := expressions || format(call, '_context_id');
    WHEN 'inline' THEN
        columns := columns || ARRAY['pgh_context_id', 'pgh_context'];
        expressions := expressions || ARRAY[format(call, '_inline_context_id'), format(call, '_inline_context')];
    ELSE
        NULL;
    END CASE;

    columns := columns || ARRAY(
        SELECT quote_ident(c.column_name) FROM pghistory.event_column AS c
         WHERE c.event_table = _event_text.event_table AND c.table_column_name = ANY (fields)
         ORDER BY c.table_column_number);
    expressions := expressions || ARRAY(
        SELECT pghistory._field(image, c.table_column_name) FROM pghistory.event_column AS c
         WHERE c.event_table = _event_text.event_table AND c.table_column_name = ANY (fields)
         ORDER BY c.table_column_number);
END
$function$;

-- What generated functions begin with. The columns stand there so that the text changes when their types do: sessions
-- keep plans for the types that there were.
CREATE FUNCTION pghistory._header_text("table" regclass, event_table regclass)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    columns CONSTANT text[] := ARRAY(
        SELECT translate(format('%I %s', c.name, pghistory._type_text(c.type_id, c.type_modifier, c.collation_id)),
                         E'\n\r', '  ')
          FROM pghistory._columns("table") AS c ORDER BY c.number);
BEGIN
    RETURN format(E'\n-- Written by pghistory: events of %s go to %s. Change it with pghistory.track().\n'
                  '-- Columns: %s\n',
                  translate(pghistory._table_name("table"), E'\n\r', '  '),
                  translate(pghistory._table_name(event_table), E'\n\r', '  '),
                  replace(pghistory._wrapped(columns, 3), E'\n', E'\n--'));
END
$function$;

-- What the function of one trigger does: what every tracker of this event table wants written for the operation; or
-- only that something happened, without the values.
CREATE FUNCTION pghistory._trigger_statements(
    "table" regclass, event_table regclass, operation text, level text, with_values boolean)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    body text := '';
    this record;
    event record;
    change text;
    condition text;
    wanted text;
    is_partitioned CONSTANT boolean := (SELECT relkind = 'p' FROM pg_class WHERE oid = "table");
BEGIN
    FOR this IN SELECT * FROM pghistory._operations("table") AS o
                 WHERE (o.event_table, o.operation, o.level)
                       = (_trigger_statements.event_table, _trigger_statements.operation, _trigger_statements.level)
    LOOP
        event := pghistory._event_text(event_table, quote_literal(this.label), operation, this.image, this.code,
                                       CASE WHEN with_values THEN this.fields ELSE '{}' END, level);
        change := CASE WHEN this.only_changes THEN pghistory._change_text("table", this.fields, level) END;
        condition := '(' || pghistory._condition_text(this.condition, "table", this.fields) || ')';
        wanted := concat_ws(' AND ', change, condition);

        IF level = 'row' AND wanted = '' THEN
            body := concat(body, pghistory._insert_text(
                               event_table, event.columns, event.expressions, NULL, 4), E';\n');
        ELSIF level = 'row' THEN
            body := concat(body, '    IF ', wanted, E' THEN\n',
                           pghistory._insert_text(event_table, event.columns, event.expressions, NULL, 8),
                           E';\n    END IF;\n');
        ELSIF operation = 'truncate' AND is_partitioned THEN
            -- The trigger is on each partition: which one is being truncated is known when it fires.
            body := concat(body, '    EXECUTE concat(',
                           quote_literal(E'\n' || pghistory._insert_text(
                               event_table, event.columns, event.expressions, '      FROM ONLY ', 4)),
                           E',\n        format(''%I.%I'', TG_TABLE_SCHEMA, TG_TABLE_NAME), ',
                           quote_literal(concat(' AS old', E'\n     WHERE ' || NULLIF(wanted, ''))), E');\n');
        ELSIF operation = 'truncate' THEN
            body := concat(body, pghistory._insert_text(
                               event_table, event.columns, event.expressions,
                               concat('      FROM ONLY ', pghistory._table_name("table"), ' AS old',
                                      E'\n     WHERE ' || NULLIF(wanted, '')), 4), E';\n');
        ELSIF operation <> 'update' THEN
            body := concat(body, pghistory._insert_text(
                               event_table, event.columns, event.expressions,
                               concat('      FROM ', this.image, '_rows AS ', this.image,
                                      E'\n     WHERE ' || NULLIF(wanted, '')), 4), E';\n');
        ELSE
            -- The two transition tables are paired by their order. A full join cannot be planned as a nested loop,
            -- whatever the first statement of the session made the planner think of their size, as long as no
            -- filter turns it into another join; one row needs no join at all.
            body := concat(body,
                E'    IF EXISTS (SELECT FROM new_rows OFFSET 1) THEN\n',
                pghistory._insert_text(
                    event_table, event.columns, event.expressions,
                    concat(E'          FROM (SELECT row_number() OVER () AS pgh_row, * FROM old_rows) AS old\n',
                           '               FULL JOIN (SELECT row_number() OVER () AS pgh_row, * FROM new_rows)',
                           E' AS new USING (pgh_row)\n',
                           '         WHERE COALESCE(',
                           concat_ws(' AND ', 'new.pgh_row IS NOT NULL', NULLIF(wanted, '')), ', false)'),
                    8),
                E';\n    ELSE\n',
                pghistory._insert_text(
                    event_table, event.columns, event.expressions,
                    concat('          FROM old_rows AS old, new_rows AS new',
                           E'\n         WHERE ' || NULLIF(wanted, '')),
                    8),
                E';\n    END IF;\n');
        END IF;
    END LOOP;
    RETURN body;
END
$function$;

-- The body of the function of one trigger. An event is a little wider than its row: where that may not fit a page,
-- it is written without its values rather than failing the write.
CREATE FUNCTION pghistory._trigger_body(
    "table" regclass, event_table regclass, operation text, level text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    statements text := pghistory._trigger_statements("table", event_table, operation, level, true);
BEGIN
    IF pghistory._may_not_fit("table") THEN
        statements := concat(
            E'    BEGIN\n', statements,
            E'    EXCEPTION WHEN program_limit_exceeded THEN\n',
            E'        RAISE WARNING ''an event was too wide, and was written without its values''\n',
            E'            USING ERRCODE = ''program_limit_exceeded'',\n',
            E'                  DETAIL = SQLERRM,\n',
            E'                  HINT = ''Leave out columns with fields or exclude.'';\n',
            pghistory._trigger_statements("table", event_table, operation, level, false),
            E'    END;\n');
    END IF;
    IF operation = 'truncate' THEN
        statements := concat(
            E'    BEGIN\n', statements,
            E'    EXCEPTION WHEN insufficient_privilege THEN\n',
            E'        RAISE WARNING ''the rows that go are not recorded: %'', SQLERRM\n',
            E'            USING ERRCODE = ''insufficient_privilege'',\n',
            E'                  HINT = ''See pghistory.verify().'';\n',
            E'    END;\n');
    END IF;
    IF operation = 'truncate'
       AND (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = "table")
    THEN
        statements := concat(
            E'    IF row_security_active(TG_RELID) THEN\n',
            E'        RAISE WARNING ''rows that policies hide from the owner of the event table are not recorded''\n',
            E'            USING ERRCODE = ''insufficient_privilege'',\n',
            E'                  HINT = ''See pghistory.verify().'';\n',
            E'    END IF;\n',
            statements);
    END IF;
    RETURN concat(pghistory._header_text("table", event_table),
                  CASE WHEN level = 'statement' THEN E'#variable_conflict use_column\n' END,
                  E'BEGIN\n', statements, E'    RETURN NULL;\nEND\n');
END
$function$;

-- The body of the function that create_event() calls, with the row as text: were it of any type that the writer
-- likes, its casts would be his, and run as the owner; were it of the table's own, the table could not be dropped.
CREATE FUNCTION pghistory._by_hand_body("table" regclass, event_table regclass)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    body text := '';
    this record;
    event record;
BEGIN
    FOR this IN SELECT array_agg(t.label ORDER BY t.ordinal) AS labels,
                       pghistory._tracked_fields(t."table", t.fields, t.exclude) AS fields
                  FROM pghistory.tracker AS t
                 WHERE t."table" = _by_hand_body."table" AND t.event_table = _by_hand_body.event_table
                 GROUP BY 2
                 ORDER BY min(t.ordinal)
    LOOP
        event := pghistory._event_text(event_table, 'label', 'by hand', 'new', 'S', this.fields, 'row');
        body := concat(body, '    WHEN ',
                       (SELECT string_agg(quote_literal(l), ', ' ORDER BY position)
                          FROM unnest(this.labels) WITH ORDINALITY AS labels(l, position)),
                       E' THEN\n',
                       pghistory._insert_text(event_table, event.columns, event.expressions, NULL, 8),
                       E'\n        RETURNING pgh_id INTO event_id;\n');
    END LOOP;
    RETURN concat(pghistory._header_text("table", event_table),
                  format(E'DECLARE\n    new %1$s := "row"::%1$s;\n    event_id bigint;\nBEGIN\n',
                         pghistory._table_name("table")),
                  format(E'    PERFORM pghistory._use_permit(%L, label);\n', pghistory._table_name(event_table)),
                  E'    CASE label\n', body, E'    END CASE;\n    RETURN event_id;\nEND\n');
END
$function$;
-- Triggers and functions: what should be there, what is there, and making the one the other.

CREATE FUNCTION pghistory._is_generated(function oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_proc WHERE oid = function AND starts_with(prosrc, E'\n-- Written by pghistory: '))
$function$;

-- A name for a generated function that is free, or taken by that function already: one of the event table's owner,
-- or, where that changed hands, one that a trigger of the table calls. In a schema where others may create functions
-- too, somebody's may stand in the way.
CREATE FUNCTION pghistory._own_function_name(
    "table" regclass, function_schema name, wanted name, arguments oidvector, function_owner regrole)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    candidate name := wanted;
    number integer := 1;
BEGIN
    WHILE EXISTS (SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
                   WHERE n.nspname = function_schema AND p.proname = candidate AND p.proargtypes = arguments
                     AND NOT (pghistory._is_generated(p.oid)
                              AND (p.proowner = function_owner
                                   OR pg_has_role(p.proowner, 'USAGE')
                                      AND (EXISTS (SELECT FROM pg_trigger AS t
                                                    WHERE t.tgfoid = p.oid AND t.tgrelid = "table")
                                           OR EXISTS (SELECT FROM pghistory.event_table AS e
                                                       WHERE e."table" = _own_function_name."table"
                                                         AND to_regprocedure(e.by_hand || '(text, text)') = p.oid)))))
    LOOP
        number := number + 1;
        candidate := pghistory._fitting_name(wanted, format('_%s', number));
    END LOOP;
    RETURN format('%I.%I', function_schema, candidate);
END
$function$;

-- Where the trigger for an operation goes. Row-level triggers of a partitioned table are cloned to its partitions
-- by PostgreSQL; TRUNCATE fires the triggers of each partition it empties, and those only.
CREATE FUNCTION pghistory._trigger_relations("table" regclass, operation text, OUT relation regclass)
 RETURNS SETOF regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.relation
      FROM pghistory._partition_tree("table") AS t JOIN pg_class AS c ON c.oid = t.relation
     WHERE CASE WHEN operation <> 'truncate' THEN t.relation = "table"
                -- foreign tables have no TRUNCATE triggers before PostgreSQL 16
                ELSE t.is_leaf AND (c.relkind <> 'f' OR current_setting('server_version_num')::integer >= 160000)
           END;
END
$function$;

CREATE FUNCTION pghistory._trigger_definition(
    trigger_name name, relation regclass, operation text, level text, with_rows boolean, function text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('CREATE TRIGGER %I %s %s ON %s%s FOR EACH %s EXECUTE FUNCTION %s()',
                  trigger_name,
                  CASE WHEN operation = 'truncate' THEN 'BEFORE' ELSE 'AFTER' END,
                  upper(operation),
                  pghistory._table_name(relation),
                  CASE WHEN with_rows AND level = 'statement' AND operation <> 'truncate'
                       THEN ' REFERENCING'
                            || CASE WHEN operation IN ('update', 'delete') THEN ' OLD TABLE AS old_rows' ELSE '' END
                            || CASE WHEN operation IN ('update', 'insert') THEN ' NEW TABLE AS new_rows' ELSE '' END
                       ELSE '' END,
                  upper(level),
                  function)
$function$;

-- Notes who writes, for capture('current_user'): a SECURITY DEFINER function cannot see that, so that this one,
-- which runs as the writer, fires right before.
CREATE FUNCTION pghistory._note_writer()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM set_config('pghistory.writer', current_user, true);
    RETURN NULL;
END
$function$;

-- The triggers that the trackers of a table need, on it and on its partitions, and the functions these call.
CREATE FUNCTION pghistory._desired_triggers(
    "table" regclass,
    OUT relation regclass,
    OUT trigger_name name,
    OUT event_table regclass,
    OUT operation text,
    OUT function text,
    OUT body text,
    OUT definition text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    notes_writer CONSTANT boolean := EXISTS (SELECT FROM pghistory.capture_key WHERE key = 'current_user');
    this record;
    own_function text;
    own_body text;
BEGIN
    FOR this IN
        SELECT o.event_table, o.operation, o.level, n.nspname, c.relowner::regrole AS owner,
               e.context <> 'none' AS has_context
          FROM (SELECT DISTINCT o.event_table, o.operation, o.level FROM pghistory._operations("table") AS o) AS o
               JOIN pghistory.event_table AS e ON e.event_table = o.event_table
               JOIN pg_class AS c ON c.oid = o.event_table
               JOIN pg_namespace AS n ON n.oid = c.relnamespace
         ORDER BY o.event_table::text, o.operation, o.level
    LOOP
        event_table := this.event_table;
        operation := this.operation;
        own_function := pghistory._own_function_name(
            "table", this.nspname, pghistory._trigger_function_name(event_table, this.operation, this.level), '',
            this.owner);
        own_body := pghistory._trigger_body("table", event_table, this.operation, this.level);
        FOR relation IN
            SELECT t.relation FROM pghistory._trigger_relations("table", this.operation) AS t
        LOOP
            trigger_name := pghistory._trigger_name("table", event_table, this.operation, this.level);
            function := own_function;
            body := own_body;
            definition := pghistory._trigger_definition(
                trigger_name, relation, this.operation, this.level, true, function);
            RETURN NEXT;
            IF notes_writer AND this.has_context THEN
                trigger_name := pghistory._trigger_name("table", event_table, this.operation, this.level, true);
                function := 'pghistory._note_writer';
                body := NULL;
                definition := pghistory._trigger_definition(
                    trigger_name, relation, this.operation, this.level, false, function);
                RETURN NEXT;
            END IF;
        END LOOP;
    END LOOP;
END
$function$;

-- The triggers of ours that are on a table and its partitions. Those that PostgreSQL cloned are its business.
CREATE FUNCTION pghistory._actual_triggers(
    "table" regclass,
    OUT relation regclass, OUT trigger_name name, OUT function oid, OUT enabled "char", OUT definition text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.tgrelid::regclass, t.tgname, t.tgfoid, t.tgenabled, pg_get_triggerdef(t.oid)
      FROM pghistory._partition_tree("table") AS p JOIN pg_trigger AS t ON t.tgrelid = p.relation
     WHERE NOT t.tgisinternal AND t.tgparentid = 0
       AND (pghistory._is_generated(t.tgfoid) OR t.tgfoid = 'pghistory._note_writer()'::regprocedure);
END
$function$;

-- May anybody but its owner call a function, or attach it to a table of his own?
CREATE FUNCTION pghistory._is_open_to_all(function oid)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_proc AS p
                               CROSS JOIN LATERAL aclexplode(COALESCE(p.proacl, acldefault('f', p.proowner))) AS a
                    WHERE p.oid = function AND a.grantee = 0)
$function$;

-- The settings of a generated function. TRUNCATE reads the table, and is not to fail where the writer switched
-- row_security off.
CREATE FUNCTION pghistory._function_settings(operation text)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT ARRAY['search_path=pg_catalog, pg_temp']
           || CASE WHEN operation = 'truncate' THEN ARRAY['row_security=on'] ELSE '{}' END
$function$;

-- Lets DROP EXTENSION take a generated function along. This locks the extension until the transaction ends; while
-- another one holds it, the function goes without: DROP EXTENSION takes its trigger in any case.
CREATE FUNCTION pghistory._depend_on_extension(signature text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '1ms'
AS $function$
BEGIN
    IF pghistory._extension_is_installed() THEN
        EXECUTE format('ALTER FUNCTION %s DEPENDS ON EXTENSION pghistory', signature);
    END IF;
EXCEPTION WHEN lock_not_available THEN
    NULL;
END
$function$;

-- Creates or replaces a generated function, for its owner: whoever could attach a trigger function to a table of his
-- own could write events with it.
CREATE FUNCTION pghistory._ensure_function(
    function text, arguments text, result text, settings text[], body text, function_owner regrole)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    signature CONSTANT text := format('%s(%s)', function, arguments);
    this pg_proc;
BEGIN
    SELECT * INTO this FROM pg_proc WHERE oid = to_regprocedure(
        format('%s(%s)', function, CASE WHEN arguments <> '' THEN 'text, text' ELSE '' END));
    IF this.prosrc = body AND this.prosecdef AND this.proowner = function_owner
       AND this.proconfig = settings
       AND (result <> 'trigger' OR NOT pghistory._is_open_to_all(this.oid))
       AND this.prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
    THEN
        RETURN;
    END IF;
    EXECUTE format(
        E'CREATE OR REPLACE FUNCTION %s\n RETURNS %s\n LANGUAGE plpgsql\n SECURITY DEFINER\n'
        ' SET search_path TO ''pg_catalog'', ''pg_temp''%s\nAS %L',
        signature, result,
        CASE WHEN 'row_security=on' = ANY (settings) THEN E'\n SET row_security TO ''on''' ELSE '' END, body);
    IF result = 'trigger' THEN
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
    END IF;
    PERFORM pghistory._depend_on_extension(signature);
    IF function_owner <> COALESCE(this.proowner, current_user::regrole::oid) THEN
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', signature, function_owner);
    END IF;
END
$function$;

CREATE FUNCTION pghistory._drop_function(function oid)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF pghistory._is_generated(function)
       AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = function)
    THEN
        EXECUTE format('DROP FUNCTION %s', function::regprocedure);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- the event table went to another owner, and its old functions did not
END
$function$;

-- Drops what is left of the functions of an event table that nothing writes to any more.
CREATE FUNCTION pghistory._drop_generated_functions(event_table regclass)
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._drop_function(p.oid)
      FROM pg_class AS e
           CROSS JOIN unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS operation
           CROSS JOIN unnest(ARRAY['row', 'statement']) AS level
           JOIN pg_proc AS p ON p.pronamespace = e.relnamespace AND p.pronargs = 0
                            AND p.proname = pghistory._trigger_function_name(e.oid, operation, level)
     WHERE e.oid = event_table
$function$;

-- Makes the triggers and functions of a table, and of what it is partitioned with, what its trackers need.
CREATE FUNCTION pghistory._apply_triggers("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    family CONSTANT regclass[] := ARRAY(
        SELECT t.relation FROM pghistory._partition_tree(pghistory._partition_root("table")) AS t
         WHERE EXISTS (SELECT FROM pghistory.tracker AS r WHERE r."table" = t.relation));
    wanted CONSTANT jsonb := COALESCE(
        (SELECT jsonb_agg(to_jsonb(d)) FROM unnest(family) AS f, pghistory._desired_triggers(f) AS d), '[]');
    desired record;
    actual record;
    stale oid[] := '{}';
    function oid;
BEGIN
    FOR actual IN
        SELECT a.* FROM pghistory._actual_triggers(pghistory._partition_root("table")) AS a
         WHERE NOT EXISTS (
               SELECT FROM jsonb_to_recordset(wanted) AS d(relation regclass, trigger_name name, definition text)
                WHERE d.relation = a.relation AND d.trigger_name = a.trigger_name
                  AND d.definition = a.definition)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', actual.trigger_name, pghistory._table_name(actual.relation));
        stale := stale || actual.function;
    END LOOP;
    -- A partition that was detached has kept the triggers that are not cloned.
    FOR actual IN
        SELECT t.tgrelid::regclass AS relation, t.tgname AS trigger_name, t.tgfoid AS function
          FROM pghistory.event_table AS e
               JOIN pg_class AS c ON c.oid = e.event_table
               JOIN pg_proc AS p ON p.pronamespace = c.relnamespace AND pghistory._is_generated(p.oid)
                                AND p.proname = pghistory._trigger_function_name(
                                        e.event_table, 'truncate', 'statement')
               JOIN pg_trigger AS t ON t.tgfoid = p.oid
         WHERE e."table" = ANY (family)
           AND t.tgrelid NOT IN (
               SELECT r.relation
                 FROM pghistory._partition_tree(pghistory._partition_root(_apply_triggers."table")) AS r)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', actual.trigger_name, pghistory._table_name(actual.relation));
        stale := stale || actual.function;
    END LOOP;
    FOR desired IN
        SELECT * FROM jsonb_to_recordset(wanted)
            AS d(relation regclass, trigger_name name, event_table regclass, operation text, function text, body text,
                 definition text)
    LOOP
        IF desired.body IS NOT NULL THEN
            PERFORM pghistory._ensure_function(
                desired.function, '', 'trigger', pghistory._function_settings(desired.operation), desired.body,
                pghistory._owner(desired.event_table));
        END IF;
        IF NOT EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = desired.relation AND tgname = desired.trigger_name)
        THEN
            EXECUTE desired.definition;
            IF pghistory._extension_is_installed() THEN
                EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION pghistory',
                               desired.trigger_name, pghistory._table_name(desired.relation));
            END IF;
        END IF;
    END LOOP;
    FOREACH function IN ARRAY stale LOOP
        PERFORM pghistory._drop_function(function);
    END LOOP;
END
$function$;

-- Triggers of ours that do not fire, those among them that PostgreSQL cloned to partitions.
CREATE FUNCTION pghistory._disabled_triggers(
    "table" regclass, OUT relation regclass, OUT trigger_name name)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN QUERY
    SELECT t.tgrelid::regclass, t.tgname
      FROM pghistory._partition_tree("table") AS p JOIN pg_trigger AS t ON t.tgrelid = p.relation
     -- before PostgreSQL 15 clones count as internal
     WHERE (NOT t.tgisinternal OR t.tgparentid <> 0) AND t.tgenabled IN ('D', 'R')
       AND (pghistory._is_generated(t.tgfoid) OR t.tgfoid = 'pghistory._note_writer()'::regprocedure);
END
$function$;

-- Switches the triggers of a table on again, where somebody switched them off.
CREATE FUNCTION pghistory._enable_triggers("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    disabled record;
BEGIN
    FOR disabled IN SELECT * FROM pghistory._disabled_triggers("table") LOOP
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I',
                       pghistory._table_name(disabled.relation), disabled.trigger_name);
    END LOOP;
END
$function$;

-- The function through which create_event() writes to an event table.
CREATE FUNCTION pghistory._apply_by_hand("table" regclass, event_table regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    wanted text;
BEGIN
    SELECT e.by_hand, tn.nspname AS table_schema, en.nspname AS event_schema, ec.relname,
           ec.relowner::regrole AS owner
      INTO registered
      FROM pghistory.event_table AS e
           JOIN pg_class AS tc ON tc.oid = e."table" JOIN pg_namespace AS tn ON tn.oid = tc.relnamespace
           JOIN pg_class AS ec ON ec.oid = e.event_table JOIN pg_namespace AS en ON en.oid = ec.relnamespace
     WHERE e.event_table = _apply_by_hand.event_table;
    IF EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = _apply_by_hand.event_table) THEN
        wanted := pghistory._own_function_name(
            "table", registered.table_schema,
            pghistory._fitting_name(
                CASE WHEN registered.event_schema = registered.table_schema THEN registered.relname::text
                     ELSE format('%s_%s', registered.event_schema, registered.relname) END,
                '_by_hand'),
            ARRAY['text'::regtype, 'text'::regtype]::oidvector, registered.owner);
        PERFORM pghistory._ensure_function(
            wanted, 'label text, "row" text', 'bigint', pghistory._function_settings('by hand'),
            pghistory._by_hand_body("table", event_table), registered.owner);
    END IF;
    IF registered.by_hand IS DISTINCT FROM wanted THEN
        PERFORM pghistory._drop_function(to_regprocedure(registered.by_hand || '(text, text)'));
        INSERT INTO pghistory._request
        VALUES ('save function', "table", event_table, jsonb_build_object('by_hand', wanted));
    END IF;
END
$function$;
-- Following the user's DDL: the event table, its columns and the triggers become what the table has become.

-- A column whose values are kept for nobody any more says so in its comment, which follows it wherever it goes.
CREATE FUNCTION pghistory._mark_kept(event_table regclass, field name, source name)
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
CREATE FUNCTION pghistory._keep_dropped(event_table regclass, field name)
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
CREATE FUNCTION pghistory._set_aside(event_table regclass, field name)
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
CREATE FUNCTION pghistory._ensure_column(
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
CREATE FUNCTION pghistory._retype_column(
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
CREATE FUNCTION pghistory._rename_columns(event_table regclass, renames jsonb)
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
CREATE FUNCTION pghistory._current_names(
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
CREATE FUNCTION pghistory._may_compute(query text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT COALESCE(query !~* '^[[:space:]]*ALTER[[:space:]]+TABLE[[:>:]]' OR query ~* '[[:<:]]USING[[:>:]]'
                    OR query ~ ';[[:space:]]*[^[:space:]]', true)
$function$;

-- Does it say that it computes those of one of these columns? That leaves no trace in the catalogs if the type stays.
CREATE FUNCTION pghistory._computes(query text, columns name[])
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
CREATE FUNCTION pghistory._is_rewritten(
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
CREATE FUNCTION pghistory._follow_columns("table" regclass, event_table regclass, same_origin boolean)
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
CREATE FUNCTION pghistory._note_rewrites("table" regclass, event_table regclass, doubtful jsonb)
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
CREATE FUNCTION pghistory._was_constant(
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
CREATE FUNCTION pghistory._is_lost("table" regclass, event_table regclass, obj_key name[])
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
CREATE FUNCTION pghistory._fill_key("table" regclass, event_table regclass, obj_key name[])
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
CREATE FUNCTION pghistory._follow_foreign_key("table" regclass, event_table regclass)
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
CREATE FUNCTION pghistory._follow_key("table" regclass, event_table regclass, same_origin boolean)
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
CREATE FUNCTION pghistory._condition_renames(
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

CREATE FUNCTION pghistory._column_numbers("table" regclass, names name[])
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
CREATE FUNCTION pghistory._follow_trackers("table" regclass, event_table regclass, same_origin boolean)
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
CREATE FUNCTION pghistory._restore_own_columns("table" regclass, event_table regclass, context text)
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
CREATE FUNCTION pghistory._follow_event_table("table" regclass, event_table regclass)
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
CREATE FUNCTION pghistory._follow_registry("table" regclass)
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
CREATE FUNCTION pghistory._follow_table("table" regclass)
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
-- Tracking: what people call.

-- Writes down what the event table consists of, whose events it holds, and how.
CREATE FUNCTION pghistory._register_event_table(
    "table" regclass, event_table regclass, fields name[], obj_key name[], obj_key_given boolean, obj_fk text,
    context text, append_only boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    held jsonb;
    wanted jsonb := jsonb_build_object(
        'obj_key', obj_key, 'obj_key_given', obj_key_given, 'obj_fk', obj_fk, 'context', context,
        'append_only', append_only,
        'obj_key_numbers', ARRAY(SELECT c.number FROM unnest(obj_key) WITH ORDINALITY AS k(field, position)
                                        JOIN pghistory._columns("table") AS c ON c.name = k.field
                                  ORDER BY k.position));
BEGIN
    SELECT * INTO registered
      FROM pghistory.event_table AS e
     WHERE e.event_table = _register_event_table.event_table;
    IF NOT FOUND OR registered."table" IS DISTINCT FROM "table"
       OR NOT to_jsonb(registered) @> wanted OR registered.obj_fk IS DISTINCT FROM obj_fk
    THEN
        INSERT INTO pghistory._request VALUES ('save event table', "table", event_table, wanted);
    END IF;

    -- What is mapped already stays mapped: several trackers write to one event table.
    SELECT COALESCE(jsonb_agg(to_jsonb(c) - 'event_table' ORDER BY c.table_column_number, c.column_name), '[]')
      INTO held
      FROM pghistory.event_column AS c
     WHERE c.event_table = _register_event_table.event_table;
    SELECT COALESCE(jsonb_agg(to_jsonb(m) ORDER BY m.table_column_number, m.column_name), '[]')
      INTO wanted
      FROM (SELECT e.name AS column_name, c.name AS table_column_name, c.number AS table_column_number
              FROM pghistory._event_columns("table", fields, obj_key, context) AS e
                   JOIN pghistory._columns("table") AS c ON c.name = e.source
             UNION
            SELECT h.column_name, h.table_column_name, h.table_column_number
              FROM jsonb_to_recordset(held)
                       AS h(column_name name, table_column_name name, table_column_number smallint)) AS m;
    IF wanted <> held THEN
        INSERT INTO pghistory._request VALUES ('save columns', "table", event_table, wanted);
    END IF;
END
$function$;

CREATE FUNCTION pghistory._register_tracker(
    "table" regclass, label text, kind text, fields name[], exclude name[], condition record, event_table regclass,
    level text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered jsonb := (SELECT to_jsonb(t) - 'ordinal' - 'table' FROM pghistory.tracker AS t
                          WHERE t."table" = _register_tracker."table" AND t.label = _register_tracker.label);
    wanted jsonb := jsonb_build_object(
        'label', label, 'kind', kind, 'level', level, 'event_table', event_table,
        'condition', condition.text, 'condition_columns', condition.columns, 'condition_objects', condition.objects,
        'condition_is_row_level', condition.is_row_level, 'condition_is_void', false,
        'fields', fields, 'exclude', exclude,
        'field_numbers', CASE WHEN fields IS NOT NULL THEN
            ARRAY(SELECT c.number FROM pghistory._columns("table") AS c
                   WHERE c.name = ANY (fields) ORDER BY c.number) END,
        'exclude_numbers', CASE WHEN exclude IS NOT NULL THEN
            ARRAY(SELECT c.number FROM pghistory._columns("table") AS c
                   WHERE c.name = ANY (exclude) ORDER BY c.number) END);
BEGIN
    IF registered IS DISTINCT FROM wanted THEN
        INSERT INTO pghistory._request
        VALUES ('save tracker', "table", event_table,
                wanted || jsonb_build_object('since_event', pghistory._last_event(event_table)));
    END IF;
END
$function$;

-- Adds what an event table of ours lacks for these fields.
CREATE FUNCTION pghistory._add_missing_columns(
    "table" regclass, event_table regclass, fields name[], obj_key name[], context text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    missing record;
BEGIN
    FOR missing IN
        SELECT * FROM pghistory._event_columns("table", fields, obj_key, context) AS c
         WHERE c.source IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_attribute
                            WHERE attrelid = event_table AND attname = c.name AND NOT attisdropped)
    LOOP
        PERFORM pghistory._ensure_column(
            event_table, missing.name, missing.type_id, missing.type_modifier, missing.collation_id);
        PERFORM pghistory._copy_storage(event_table, missing.name, "table", missing.source);
    END LOOP;
END
$function$;

-- The event table for a tracker: the one it has, the one named, or the one of the default name; made where
-- it is not there.
CREATE FUNCTION pghistory._find_event_table(
    "table" regclass, label text, event_table text, fields name[], exclude name[], obj_key name[], obj_fk text,
    context text, append_only boolean)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked CONSTANT name[] := pghistory._tracked_fields("table", fields, exclude);
    parsed record;
    found_table regclass;
    present regclass := (SELECT t.event_table FROM pghistory.tracker AS t
                          WHERE t."table" = _find_event_table."table" AND t.label = _find_event_table.label);
    problem text;
BEGIN
    parsed := pghistory._parsed_event_table(
        COALESCE(event_table, quote_ident(pghistory._event_table_name("table", fields, exclude))), "table");
    found_table := to_regclass(format('%I.%I', parsed.event_schema, parsed.event_name));

    IF present IS NOT NULL AND event_table IS NOT NULL AND found_table IS DISTINCT FROM present THEN
        RAISE EXCEPTION 'events labelled "%" of table % go to %', label, pghistory._table_name("table"),
                pghistory._table_name(present)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Leave out event_table, or call untrack() for the label first.';
    END IF;
    found_table := COALESCE(present, found_table);

    IF found_table IS NULL THEN
        RETURN pghistory._create_event_table("table", parsed.event_schema, parsed.event_name, tracked, obj_key,
                                             obj_fk, context, append_only);
    END IF;
    IF NOT pg_has_role(pghistory._owner(found_table), 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', pghistory._table_name(found_table)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Events go to a table of your own, or of a role that you are a member of. '
                         'Give another event_table.';
    END IF;
    -- One that this table had before, or that a dropped table of its name left, is brought up to date.
    IF EXISTS (SELECT FROM pghistory.event_table AS e
                WHERE e.event_table = found_table
                  AND (e."table" = _find_event_table."table"
                       OR pghistory._table_name(e."table") IS NULL
                          AND format('%I.%I', e.table_schema, e.table_name)
                              = pghistory._table_name(_find_event_table."table")))
    THEN
        PERFORM pghistory._follow_event_table("table", found_table);
        -- Another tracker's gets no columns for this one.
        IF present IS NOT NULL
           OR NOT EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = found_table)
        THEN
            PERFORM pghistory._add_missing_columns("table", found_table, tracked, obj_key, context);
        END IF;
    END IF;
    problem := pghistory._misfit(found_table, "table", tracked, obj_key, context, append_only);
    IF problem IS NULL THEN
        -- What holds for the event table as a whole is changed by its only tracker, or by none.
        SELECT CASE WHEN e.obj_fk IS DISTINCT FROM _find_event_table.obj_fk
                    THEN format('its events have obj_fk %s', COALESCE(quote_literal(e.obj_fk), 'null'))
                    WHEN e.append_only <> _find_event_table.append_only
                    THEN format('it is %sappend-only', CASE WHEN e.append_only THEN '' ELSE 'not ' END)
               END
          INTO problem
          FROM pghistory.event_table AS e
         WHERE e.event_table = found_table
           AND EXISTS (SELECT FROM pghistory.tracker AS t
                        WHERE t.event_table = found_table AND t.label <> _find_event_table.label);
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'table % cannot hold these events: %', pghistory._table_name(found_table), problem
            USING ERRCODE = CASE WHEN present IS NULL AND event_table IS NULL THEN 'duplicate_table'
                                 ELSE 'invalid_table_definition' END,
                  HINT = CASE WHEN present IS NOT NULL
                              THEN 'Call untrack() for the label first, or use another label.'
                              ELSE 'Give another name as event_table.' END;
    END IF;
    RETURN found_table;
END
$function$;

-- level => 'statement' is taken at its word, or refused.
CREATE FUNCTION pghistory._check_statement_level(
    "table" regclass, kind text, condition_is_row_level boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    reason text := CASE WHEN condition_is_row_level
                        THEN 'its condition names whole rows or system columns'
                        ELSE pghistory._row_level_reason(
                            "table",
                            CASE WHEN kind IN ('after_insert', 'before_delete') THEN 'insert' ELSE 'update' END)
                   END;
BEGIN
    IF reason IS NOT NULL AND kind NOT IN ('before_truncate', 'event') THEN
        RAISE EXCEPTION 'statement-level triggers on table % would lose or misorder events: %',
                pghistory._table_name("table"), reason
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Use level => ''auto'' or level => ''row''.';
    END IF;
END
$function$;

CREATE FUNCTION pghistory._lock("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF (SELECT relkind <> 'f' FROM pg_class WHERE oid = "table") THEN
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', pghistory._table_name("table"));
    END IF;
END
$function$;

-- track(), with the search_path of the session that called it, which conditions are read with.
CREATE FUNCTION pghistory._track(
    "table" regclass, label text, kind text, fields text[], condition text, exclude text[], event_table text,
    obj_key text[], obj_fk text, context text, append_only boolean, level text, partition_by text,
    retention interval, path text)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    kept_fields name[];
    kept_exclude name[];
    key name[];
    kept record;
    target regclass;
BEGIN
    PERFORM pghistory._check_not_null('kind', kind IS NULL);
    PERFORM pghistory._check_not_null('level', level IS NULL);
    PERFORM pghistory._check_choice('kind', kind, ARRAY['snapshot', 'after_insert', 'after_insert_or_update',
        'before_update', 'after_update', 'before_delete', 'before_truncate', 'history', 'event']);
    PERFORM pghistory._check_choice('level', level, ARRAY['auto', 'row', 'statement']);
    PERFORM pghistory._check_event_table_choices(fields, exclude, obj_fk, context, append_only);
    PERFORM pghistory._check_trackable("table");
    IF partition_by IS NOT NULL OR retention IS NOT NULL THEN
        RAISE EXCEPTION '% is not there yet',
                CASE WHEN partition_by IS NOT NULL THEN 'partition_by' ELSE 'retention' END
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Leave it out: events are kept in one table until you delete them.';
    END IF;
    IF label = '' THEN
        RAISE EXCEPTION 'label must not be empty'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Name the event in the words of your application, such as ''user.create''.';
    END IF;
    IF obj_fk IS NOT NULL AND kind IN ('before_delete', 'before_truncate', 'history') THEN
        RAISE EXCEPTION 'events of kind "%" outlive their object, and obj_fk would not let them', kind
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Leave out obj_fk.';
    END IF;

    label := COALESCE(label, (SELECT format('%s.%s', relname, kind) FROM pg_class WHERE oid = "table"));
    kept_fields := pghistory._checked_fields("table", fields);
    kept_exclude := NULLIF(pghistory._checked_fields("table", exclude), '{}');
    key := pghistory._checked_key("table", obj_key);
    PERFORM pghistory._check_foreign_key("table", key, obj_fk, append_only);

    -- One at a time for a table. The first request of all makes the registry.
    PERFORM pghistory._lock("table");
    INSERT INTO pghistory._request VALUES ('prepare', "table");
    kept := pghistory._normalised_condition("table", kind, condition, path);
    IF level = 'statement' THEN
        PERFORM pghistory._check_statement_level("table", kind, kept.is_row_level);
    END IF;

    target := pghistory._find_event_table(
        "table", label, event_table, kept_fields, kept_exclude, key, obj_fk, context, append_only);
    IF kind IN ('before_truncate', 'history')
       AND NOT has_table_privilege(pghistory._owner(target), "table", 'SELECT')
    THEN
        RAISE EXCEPTION 'role %, who owns the event table, may not read table %', pghistory._owner(target),
                pghistory._table_name("table")
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Recording a TRUNCATE reads the rows that are about to go: grant SELECT on the table.';
    END IF;
    PERFORM pghistory._register_event_table(
        "table", target, pghistory._tracked_fields("table", kept_fields, kept_exclude), key, obj_key IS NOT NULL,
        obj_fk, context, append_only);
    PERFORM pghistory._register_tracker(
        "table", label, kind, kept_fields, kept_exclude, kept, target, level);
    PERFORM pghistory._set_append_only(target, append_only);
    PERFORM pghistory._set_foreign_key(target, "table", key, obj_fk);
    PERFORM pghistory._apply_triggers("table");
    PERFORM pghistory._enable_triggers("table");
    PERFORM pghistory._apply_by_hand("table", target);
    RETURN target;
END
$function$;

CREATE FUNCTION pghistory.track(
    "table" regclass,
    label text DEFAULT NULL,
    kind text DEFAULT 'snapshot',
    fields text[] DEFAULT NULL,
    condition text DEFAULT NULL,
    exclude text[] DEFAULT NULL,
    event_table text DEFAULT NULL,
    obj_key text[] DEFAULT NULL,
    obj_fk text DEFAULT NULL,
    context text DEFAULT 'reference',
    append_only boolean DEFAULT false,
    level text DEFAULT 'auto',
    partition_by text DEFAULT NULL,
    retention interval DEFAULT NULL)
 RETURNS regclass
 LANGUAGE plpgsql
AS $function$
BEGIN
    -- Not pinned, to see the caller's search_path; all that is called from here on is.
    RETURN pghistory._track("table", label, kind, fields, condition, exclude, event_table, obj_key, obj_fk, context,
                            append_only, level, partition_by, retention, pg_catalog.current_setting('search_path'));
END
$function$;
COMMENT ON FUNCTION pghistory.track(
    regclass, text, text, text[], text, text[], text, text[], text, text, boolean, text, text, interval) IS
    'Records what happens to the rows of a table from now on, as events with this label, and returns the event '
    'table. Kinds: snapshot, after_insert, after_insert_or_update, before_update, after_update, before_delete, '
    'before_truncate, history, event. fields or exclude choose the columns (fields => ''{}'' only that something '
    'happened), condition the rows: an SQL boolean over OLD and NEW. event_table names where events go, obj_key '
    'the columns that name the object (by default the primary key; ''{}'' none); obj_fk (cascade, restrict, '
    'set null) makes that a real foreign key. context is reference (events refer to pghistory.context), inline '
    '(they hold it) or none. append_only refuses changes of events. level is auto, row or statement. The same '
    'call again changes nothing; another definition for the same label replaces the tracker.';

CREATE FUNCTION pghistory.create_event_table(
    "table" regclass,
    name text DEFAULT NULL,
    fields text[] DEFAULT NULL,
    exclude text[] DEFAULT NULL,
    obj_key text[] DEFAULT NULL,
    obj_fk text DEFAULT NULL,
    context text DEFAULT 'reference',
    append_only boolean DEFAULT false)
 RETURNS regclass
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    kept_fields name[];
    kept_exclude name[];
    key name[];
    parsed record;
BEGIN
    PERFORM pghistory._check_event_table_choices(fields, exclude, obj_fk, context, append_only);
    PERFORM pghistory._check_trackable("table");
    kept_fields := pghistory._checked_fields("table", fields);
    kept_exclude := NULLIF(pghistory._checked_fields("table", exclude), '{}');
    key := pghistory._checked_key("table", obj_key);
    PERFORM pghistory._check_foreign_key("table", key, obj_fk, append_only);
    parsed := pghistory._parsed_event_table(
        COALESCE(name, quote_ident(pghistory._event_table_name("table", kept_fields, kept_exclude))), "table");
    RETURN pghistory._create_event_table(
        "table", parsed.event_schema, parsed.event_name,
        pghistory._tracked_fields("table", kept_fields, kept_exclude), key, obj_fk, context, append_only);
END
$function$;
COMMENT ON FUNCTION pghistory.create_event_table(regclass, text, text[], text[], text[], text, text, boolean) IS
    'Creates an event table for a table and tracks nothing yet: add columns, indexes or constraints of your own, '
    'then call track() with its name as event_table and the same choices.';

-- Removes the events of one label, or the event table once no tracker writes to it.
CREATE FUNCTION pghistory._drop_events("table" regclass, event_table regclass, label text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name(event_table);
    append_only CONSTANT boolean := (SELECT e.append_only FROM pghistory.event_table AS e
                                      WHERE e.event_table = _drop_events.event_table);
BEGIN
    IF NOT EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = _drop_events.event_table) THEN
        INSERT INTO pghistory._request VALUES ('forget event table', "table", event_table);
        EXECUTE format('DROP TABLE %s', relation);
    ELSE
        IF NOT pghistory._is_trusted(event_table)
           AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = event_table AND NOT tgisinternal
                                                AND tgname <> '!pghistory append-only')
        THEN
            RAISE EXCEPTION 'deleting events of % would run the triggers of another role', relation
                USING ERRCODE = 'insufficient_privilege',
                      HINT = format('Let role %s call untrack().', pghistory._owner(event_table));
        END IF;
        PERFORM pghistory._set_append_only(event_table, false);
        EXECUTE format('DELETE FROM %s WHERE pgh_label = $1', relation) USING label;
        PERFORM pghistory._set_append_only(event_table, append_only);
    END IF;
END
$function$;

CREATE FUNCTION pghistory.untrack(
    "table" regclass, label text DEFAULT NULL, drop_events boolean DEFAULT false)
 RETURNS integer
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    this record;
    removed jsonb := '[]';
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_not_null('drop_events', drop_events IS NULL);
    PERFORM pghistory._check_owner("table");
    PERFORM pghistory._lock("table");
    IF pghistory._has_state() THEN
        FOR this IN SELECT t.label, t.event_table FROM pghistory.tracker AS t
                     WHERE t."table" = untrack."table" AND t.label = COALESCE(untrack.label, t.label)
        LOOP
            INSERT INTO pghistory._request
            VALUES ('remove tracker', "table", NULL, jsonb_build_object('label', this.label));
            removed := removed || to_jsonb(this);
        END LOOP;
    END IF;
    IF removed = '[]' AND label IS NOT NULL THEN
        RAISE EXCEPTION 'table % has no tracker "%"', pghistory._table_name("table"), label
            USING ERRCODE = 'undefined_object',
                  HINT = 'See pghistory.trackers() for those it has.';
    END IF;
    IF removed <> '[]' THEN
        PERFORM pghistory._apply_triggers("table");
    END IF;
    FOR this IN SELECT r.event_table::regclass, r.label
                  FROM jsonb_to_recordset(removed) AS r(event_table text, label text)
    LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class WHERE oid = this.event_table);
        PERFORM pghistory._apply_by_hand("table", this.event_table);
        IF drop_events THEN
            PERFORM pghistory._drop_events("table", this.event_table, this.label);
        END IF;
    END LOOP;
    RETURN jsonb_array_length(removed);
END
$function$;
COMMENT ON FUNCTION pghistory.untrack(regclass, text, boolean) IS
    'Removes one tracker of a table, or all of them, and returns how many. '
    'Events stay unless drop_events says otherwise.';

-- Are the triggers of a tracker there, and do they fire?
CREATE FUNCTION pghistory._tracker_status("table" regclass, label text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN bool_or(a.trigger_name IS NULL) THEN 'missing'
                WHEN bool_or(a.enabled = 'D') THEN 'disabled'
                ELSE 'active' END
      FROM pghistory._operations("table") AS o
           LEFT JOIN pghistory._actual_triggers("table") AS a
                  ON a.trigger_name = pghistory._trigger_name("table", o.event_table, o.operation, o.level)
     WHERE o.label = _tracker_status.label
$function$;

-- The call of track() that would make a tracker again.
CREATE FUNCTION pghistory._definition("table" regclass, label text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('SELECT pghistory.track(%s)', concat_ws(', ',
               quote_literal(pghistory._table_name(t."table")),
               quote_literal(t.label),
               'kind => ' || quote_literal(NULLIF(t.kind, 'snapshot')),
               'fields => ' || quote_literal(t.fields),
               'condition => ' || quote_literal(t.condition),
               'exclude => ' || quote_literal(t.exclude),
               'event_table => ' || quote_literal(pghistory._table_name(t.event_table)),
               CASE WHEN e.obj_key_given THEN 'obj_key => ' || quote_literal(e.obj_key) END,
               'obj_fk => ' || quote_literal(e.obj_fk),
               'context => ' || quote_literal(NULLIF(e.context, 'reference')),
               CASE WHEN e.append_only THEN 'append_only => true' END,
               'level => ' || quote_literal(NULLIF(t.level, 'auto'))))
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = _definition."table" AND t.label = _definition.label
$function$;

CREATE FUNCTION pghistory.trackers()
 RETURNS TABLE("table" regclass, label text, kind text, fields text[], exclude text[], condition text,
     event_table regclass, obj_key text[], obj_fk text, context text, append_only boolean, level text,
     partition_by text, retention interval, status text, definition text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
BEGIN
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT t."table", t.label, t.kind, t.fields::text[], t.exclude::text[], t.condition, t.event_table,
           e.obj_key::text[], e.obj_fk, e.context, e.append_only, t.level, NULL::text, NULL::interval,
           pghistory._tracker_status(t."table", t.label), pghistory._definition(t."table", t.label)
      FROM pghistory.tracker AS t
           JOIN pghistory.event_table AS e USING (event_table)
           JOIN pg_class AS c ON c.oid = t."table"
     ORDER BY pghistory._table_name(t."table"), t.ordinal;
END
$function$;
COMMENT ON FUNCTION pghistory.trackers() IS
    'What is tracked: one row for each tracker, its status (active, disabled, missing) and the track() call that '
    'would make it again.';
-- Events written by hand.

-- The table among this one and those it is a partition or a child of that has the label.
CREATE FUNCTION pghistory._table_with_label("table" regclass, label text)
 RETURNS regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
BEGIN
    IF pghistory._has_state() THEN
        WITH RECURSIVE ancestor AS (
            SELECT "table"::oid AS relation, 0 AS distance
            UNION
            SELECT i.inhparent, a.distance + 1 FROM ancestor AS a JOIN pg_inherits AS i ON i.inhrelid = a.relation
        )
        SELECT t."table" INTO tracked
          FROM ancestor AS a JOIN pghistory.tracker AS t ON t."table" = a.relation
         WHERE t.label = _table_with_label.label
         ORDER BY a.distance
         LIMIT 1;
    END IF;
    IF tracked IS NULL THEN
        RAISE EXCEPTION 'table % has no tracker "%"', pghistory._table_name("table"), label
            USING ERRCODE = 'undefined_object',
                  HINT = 'Register the label first: SELECT pghistory.track(table, label, kind => ''event'').';
    END IF;
    RETURN tracked;
END
$function$;

CREATE FUNCTION pghistory.create_event(record anyelement, label text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
 SET "IntervalStyle" TO 'postgres'
 SET extra_float_digits TO '1'
 SET xmloption TO 'content'
AS $function$
DECLARE
    "table" regclass := (SELECT NULLIF(typrelid, 0) FROM pg_type WHERE oid = pg_typeof(record));
    tracked regclass;
    function text;
    event_id bigint;
BEGIN
    IF "table" IS NULL THEN
        RAISE EXCEPTION 'create_event() needs a row of a tracked table, not %', pg_typeof(record)
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Give the table''s row itself: '
                         'SELECT pghistory.create_event(u, ''user.login'') FROM users AS u WHERE ...';
    END IF;
    PERFORM pghistory._check_not_null('record', record IS NOT DISTINCT FROM NULL);
    PERFORM pghistory._check_not_null('label', label IS NULL);
    tracked := pghistory._table_with_label("table", label);
    -- It is called by the name that the catalog has for it, and only if it runs as the owner of the event table.
    SELECT format('%I.%I', n.nspname, p.proname) INTO function
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
           JOIN pg_class AS c ON c.oid = e.event_table
           JOIN pg_proc AS p ON p.oid = to_regprocedure(e.by_hand || '(text, text)')
                            AND p.prosecdef AND p.proowner = c.relowner
           JOIN pg_namespace AS n ON n.oid = p.pronamespace
     WHERE t."table" = tracked AND t.label = create_event.label;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the function that writes events of table % is missing', pghistory._table_name(tracked)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Its owner can call pghistory.refresh().';
    END IF;
    INSERT INTO pghistory._request VALUES ('permit event', tracked, NULL, jsonb_build_object('label', label));
    -- The row as text, by output functions: casts could be anybody's.
    EXECUTE format('SELECT %s($1, format(''%%s'', ROW(%s)))', function,
                   (SELECT string_agg(format('($2).%I', a.attname), ', ' ORDER BY a.attnum)
                      FROM pg_attribute AS a
                     WHERE a.attrelid = tracked AND a.attnum > 0 AND NOT a.attisdropped))
       INTO event_id
      USING label, record;
    RETURN event_id;
END
$function$;
COMMENT ON FUNCTION pghistory.create_event(anyelement, text) IS
    'Writes one event with this label from a row of a tracked table, and returns its pgh_id. Whoever may insert, '
    'update or delete rows of the table may write its events by hand.';

CREATE FUNCTION pghistory.create_event("table" regclass, obj text, label text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    key name[];
    identity jsonb;
    event_id bigint;
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_not_null('obj', obj IS NULL);
    PERFORM pghistory._check_not_null('label', label IS NULL);
    tracked := pghistory._table_with_label("table", label);
    SELECT e.obj_key INTO key
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = tracked AND t.label = create_event.label;
    IF key = '{}' THEN
        RAISE EXCEPTION 'events of table % do not name their object', pghistory._table_name(tracked)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Give the row itself: '
                         'SELECT pghistory.create_event(t, label) FROM the_table AS t WHERE ...';
    END IF;
    identity := pghistory._object_identity(key, obj);
    EXECUTE format('SELECT pghistory.create_event(t, $1) FROM %s AS t WHERE %s',
                   pghistory._table_name("table"), pghistory._identity_text("table", identity))
       INTO event_id USING label;
    IF event_id IS NULL THEN
        RAISE EXCEPTION 'table % has no row %', pghistory._table_name("table"), obj
            USING ERRCODE = 'no_data_found',
                  HINT = 'obj is the key as text, or a JSON object for a key of several columns.';
    END IF;
    RETURN event_id;
END
$function$;
COMMENT ON FUNCTION pghistory.create_event(regclass, text, text) IS
    'Writes one event with this label from the row of a tracked table that has this key (as text, or a JSON object '
    'for a key of several columns), and returns its pgh_id.';

-- looking and going back
-- Looking at events.

-- The columns of an event table that hold its table's, as SQL expressions over an event.
CREATE FUNCTION pghistory._data_text(event_table regclass, alias text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    followed text;
    others text;
BEGIN
    SELECT string_agg(CASE WHEN pghistory._is_harmless_as_json(a.atttypid)
                           THEN format('%s.%I AS %I', alias, a.attname, m.table_column_name)
                           ELSE format('%s AS %I', pghistory._json_text(a.atttypid, format('%s.%I', alias, a.attname)),
                                       m.table_column_name) END,
                      ', ' ORDER BY m.table_column_number)
      INTO followed
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name AND NOT a.attisdropped
     WHERE m.event_table = _data_text.event_table;
    -- What dropped columns held, and columns of the user's own: where they hold something.
    SELECT string_agg(format('(%L, %s)', a.attname,
                             pghistory._json_text(a.atttypid, format('%s.%I', alias, a.attname))),
                      ', ' ORDER BY a.attnum)
      INTO others
      FROM pg_attribute AS a
     WHERE a.attrelid = event_table AND a.attnum > 0 AND NOT a.attisdropped
       AND NOT pghistory._is_reserved_name(a.attname)
       AND NOT EXISTS (SELECT FROM pghistory.event_column AS m
                        WHERE m.event_table = _data_text.event_table
                          AND a.attname IN (m.column_name, m.table_column_name));
    RETURN concat_ws(' || ',
        CASE WHEN followed IS NULL THEN '''{}''::jsonb'
             ELSE format('(SELECT to_jsonb(d) FROM (SELECT %s) AS d)', followed) END,
        'COALESCE((SELECT jsonb_object_agg(o.field, o.value) FROM (VALUES ' || others
        || ') AS o(field, value) WHERE o.value IS NOT NULL), ''{}'')');
END
$function$;

-- The value of a column before an event, as an SQL expression over the event before it: where the table got the column
-- between the two, it is what the column was added with.
CREATE FUNCTION pghistory._previous_value_text(
    event_table regclass, field name, added_after bigint, missing_value text, alias text, next_alias text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN missing_value IS NULL THEN format('%s.%I', alias, field)
                ELSE format('CASE WHEN %1$s.pgh_id OPERATOR(pg_catalog.<=) %3$s '
                            'AND %2$s.pgh_id OPERATOR(pg_catalog.>) %3$s THEN %4$L::%5$s ELSE %1$s.%6$I END',
                            alias, next_alias, added_after, missing_value,
                            (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
                              WHERE a.attrelid = event_table AND a.attname = field),
                            field) END
$function$;

-- What changed from one event (p) to the next (e), as an SQL expression: {"field": [old, new]}, compared by image.
CREATE FUNCTION pghistory._diff_text(event_table regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN count(*) = 0 THEN '''{}''::jsonb'
                ELSE format('COALESCE((SELECT jsonb_object_agg(c.field, jsonb_build_array(c.old, c.new)) '
                            'FROM (VALUES %s) AS c(field, differs, old, new) WHERE c.differs), ''{}'')',
                            string_agg(format('(%L, record_image_ne(ROW(%s), ROW(%s)), %s, %s)',
                                              m.table_column_name, v.old, v.new,
                                              pghistory._json_text(a.atttypid, v.old),
                                              pghistory._json_text(a.atttypid, v.new)),
                                       ', ' ORDER BY m.table_column_number)) END
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name AND NOT a.attisdropped
           CROSS JOIN LATERAL (SELECT pghistory._previous_value_text(
                                          m.event_table, m.column_name, m.added_after, m.missing_value, 'p', 'e'),
                                      format('e.%I', m.column_name)) AS v(old, new)
     WHERE m.event_table = _diff_text.event_table
$function$;

-- Have keys changed among the events? Before-images name the key that the object then got as its other key.
CREATE FUNCTION pghistory._has_moves(event_table regclass, obj_key name[], operation text DEFAULT NULL)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    other CONSTANT name := (pghistory._other_key_columns(obj_key))[1];
    has_moves boolean := false;
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = event_table AND attname = other AND NOT attisdropped) THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s AS e WHERE e.%I IS NOT NULL%s)',
                       pghistory._table_name(event_table), other, ' AND e.pgh_operation = ' || quote_literal(operation))
           INTO has_moves;
    END IF;
    RETURN has_moves;
END
$function$;

-- The key that an object had before event e, as SQL expressions: an update may have given it another.
CREATE FUNCTION pghistory._key_before_text(event_table regclass, obj_key name[])
 RETURNS text[]
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE WHEN pghistory._has_moves(event_table, obj_key, 'U') THEN
        ARRAY(SELECT format('CASE WHEN e.pgh_operation = ''U'' THEN COALESCE(e.%I, e.%I) ELSE e.%I END',
                            k.other, k.held, k.held)
                FROM unnest(pghistory._object_columns(obj_key), pghistory._other_key_columns(obj_key)) WITH ORDINALITY
                         AS k(held, other, position)
               ORDER BY k.position)
        ELSE pghistory._qualified('e', pghistory._object_columns(obj_key)) END
$function$;

-- The pgh_id of an object's event before event e, among those that meet a condition over p, as an SQL expression.
CREATE FUNCTION pghistory._previous_event_text(event_table regclass, obj_key name[], wanted text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    others CONSTANT name[] := pghistory._other_key_columns(obj_key);
    relation CONSTANT text := pghistory._table_name(event_table);
    key_before CONSTANT text[] := pghistory._key_before_text(event_table, obj_key);
    previous text;
BEGIN
    previous := format('(SELECT p.pgh_id FROM %s AS p WHERE %s AND p.pgh_id < e.pgh_id AND %s '
                       'ORDER BY p.pgh_id DESC LIMIT 1)',
                       relation, wanted,
                       pghistory._same_object_text(event_table, obj_key,
                                                   pghistory._qualified('p', pghistory._object_columns(obj_key)),
                                                   key_before));
    IF pghistory._has_moves(event_table, obj_key, 'B') THEN
        previous := format(
            'GREATEST(%s, (SELECT p.pgh_id FROM %s AS p WHERE %s AND p.pgh_id < e.pgh_id AND p.pgh_operation = ''B'' '
            'AND p.%I IS NOT NULL AND %s ORDER BY p.pgh_id DESC LIMIT 1))',
            previous, relation, wanted, others[1],
            pghistory._same_object_text(event_table, obj_key, pghistory._qualified('p', others), key_before));
    END IF;
    RETURN previous;
END
$function$;

-- The query for the events of one event table that meet a condition over e, newest first.
CREATE FUNCTION pghistory._events_query(event_table regclass, wanted text, max_rows bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    relation CONSTANT text := pghistory._table_name(event_table);
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _events_query.event_table;
    RETURN format(
        $query$
        SELECT concat(%L, ':', e.pgh_id) AS pgh_slug, %s::oid::regclass AS pgh_event_table, e.pgh_id, e.pgh_created_at,
               e.pgh_label, e.pgh_operation, %s AS pgh_data, %s AS pgh_diff, %s AS pgh_context_id,
               %s AS pgh_context, e.pgh_xid, %s::oid::regclass AS pgh_obj_table, %s AS pgh_obj_id
          FROM (SELECT e.* FROM %s AS e WHERE %s ORDER BY e.pgh_id DESC%s) AS e%s
        $query$,
        relation, event_table::oid, pghistory._data_text(event_table, 'e'),
        CASE WHEN registered.obj_key <> '{}'
             THEN format('CASE WHEN p.pgh_id IS NOT NULL THEN %s END', pghistory._diff_text(event_table))
             ELSE 'NULL::jsonb' END,
        CASE WHEN registered.context = 'none' THEN 'NULL::uuid' ELSE 'e.pgh_context_id' END,
        CASE registered.context
            WHEN 'inline' THEN 'e.pgh_context'
            WHEN 'reference' THEN 'CASE WHEN e.pgh_context_id IS NOT NULL '
                                  'THEN pghistory._context_of_event(e.pgh_context_id, e.pgh_xid) END'
            ELSE 'NULL::jsonb' END,
        COALESCE(registered."table"::oid::text, 'NULL'),
        pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key, 'e'),
        relation, wanted, ' LIMIT ' || max_rows,
        CASE WHEN registered.obj_key <> '{}'
             THEN format(E'\n               LEFT JOIN LATERAL (SELECT p.* FROM %s AS p WHERE p.pgh_id = %s OFFSET 0) '
                         'AS p ON true',
                         relation, pghistory._previous_event_text(event_table, registered.obj_key, 'true')) END);
END
$function$;

-- What events are asked for, as an SQL condition over an event called e.
CREATE FUNCTION pghistory._events_condition(
    event_table regclass, obj text, label text, context_id uuid, since timestamp with time zone,
    until timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat_ws(' AND ', 'true',
               CASE WHEN obj IS NULL THEN NULL
                    WHEN e.obj_key = '{}' THEN 'false'
                    ELSE pghistory._event_identity_text(
                             e.event_table, e.obj_key, pghistory._object_columns(e.obj_key), obj, 'e') END,
               'e.pgh_label = ' || quote_literal(label),
               CASE WHEN context_id IS NULL THEN NULL
                    WHEN e.context = 'none' THEN 'false'
                    ELSE format('e.pgh_context_id = %L::uuid', context_id) END,
               'e.pgh_created_at >= ' || quote_literal(since) || '::timestamptz',
               'e.pgh_created_at < ' || quote_literal(until) || '::timestamptz')
      FROM pghistory.event_table AS e
     WHERE e.event_table = _events_condition.event_table
$function$;

-- Runs queries of events together, newest first.
CREATE FUNCTION pghistory._run_events(queries text[], max_rows bigint)
 RETURNS TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone,
     pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, pgh_context jsonb,
     pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF max_rows < 0 THEN
        RAISE EXCEPTION 'max_rows must not be negative'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Say how many of the newest events to return.';
    END IF;
    IF cardinality(queries) = 1 THEN
        RETURN QUERY EXECUTE queries[1];
    ELSIF cardinality(queries) > 1 THEN
        RETURN QUERY EXECUTE format(
            'SELECT * FROM (%s) AS e ORDER BY e.pgh_created_at DESC, e.pgh_event_table, e.pgh_id DESC%s',
            array_to_string(queries, ' UNION ALL '), ' LIMIT ' || max_rows);
    END IF;
END
$function$;

CREATE FUNCTION pghistory.events(
    "table" regclass DEFAULT NULL, obj text DEFAULT NULL, label text DEFAULT NULL, context_id uuid DEFAULT NULL,
    since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL,
    max_rows bigint DEFAULT NULL)
 RETURNS TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone,
     pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, pgh_context jsonb,
     pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
BEGIN
    IF obj IS NOT NULL AND "table" IS NULL THEN
        RAISE EXCEPTION 'object "%" is named without its table', obj
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the table too, as in pghistory.events(''users'', ''42'').';
    END IF;
    IF pghistory._has_state() THEN
        -- Of all tables, those that the caller may read; of one, that one, or the error that says why not.
        RETURN QUERY
        SELECT *
          FROM pghistory._run_events(
                   ARRAY(SELECT pghistory._events_query(
                                    e.event_table,
                                    pghistory._events_condition(e.event_table, events.obj, events.label,
                                                                events.context_id, events.since, events.until),
                                    events.max_rows)
                           FROM pghistory.event_table AS e JOIN pg_class AS c ON c.oid = e.event_table
                          WHERE e."table" = events."table"
                             OR events."table" IS NULL AND has_table_privilege(e.event_table, 'SELECT')
                          ORDER BY pghistory._table_name(e.event_table)),
                   events.max_rows);
    END IF;
END
$function$;
COMMENT ON FUNCTION pghistory.events(
    regclass, text, text, uuid, timestamp with time zone, timestamp with time zone, bigint) IS
    'Events, newest first: of a table, of an object (its key as text, or a JSON object for a key of several columns), '
    'with a label, of a context, of a time (since is included, until is not), the newest max_rows of them. pgh_diff is '
    '{"field": [old, new]} against the object''s previous event in that event table, null for its first. Without a '
    'table: of all event tables that the caller may read.';

-- The keys that an object has had, in these columns of its table, as rows of text: what foreign keys point, or
-- pointed, at.
CREATE FUNCTION pghistory._values_of_object("table" regclass, obj text, columns name[])
 RETURNS SETOF text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    key CONSTANT name[] := COALESCE((SELECT e.obj_key FROM pghistory.event_table AS e
                                      WHERE e."table" = _values_of_object."table" AND e.obj_key <> '{}' LIMIT 1),
                                    pghistory._primary_key("table"), columns);
    this record;
    list text;
BEGIN
    list := (SELECT string_agg(format('format(''%%s'', t.%I)', field), ', ' ORDER BY position)
               FROM unnest(columns) WITH ORDINALITY AS c(field, position));
    RETURN QUERY EXECUTE format(
        'SELECT ARRAY[%s] FROM %s AS t WHERE %s', list, pghistory._table_name("table"),
        pghistory._identity_text("table", pghistory._object_identity(key, obj)));
    FOR this IN
        SELECT e.event_table,
               string_agg(format('format(''%%s'', e.%I)', m.column_name), ', ' ORDER BY c.position) AS list,
               pghistory._event_identity_text(
                             e.event_table, e.obj_key, pghistory._object_columns(e.obj_key), obj, 'e') AS wanted
          FROM pghistory.event_table AS e
               JOIN pghistory.event_column AS m ON m.event_table = e.event_table
               JOIN unnest(columns) WITH ORDINALITY AS c(field, position) ON c.field = m.table_column_name
         WHERE e."table" = _values_of_object."table" AND e.obj_key <> '{}'
         GROUP BY e.event_table, e.obj_key
        HAVING count(*) = cardinality(columns)
    LOOP
        RETURN QUERY EXECUTE format('SELECT DISTINCT ARRAY[%s] FROM %s AS e WHERE %s', this.list,
                                    pghistory._table_name(this.event_table), this.wanted);
    END LOOP;
END
$function$;

-- The condition that an event of a table is about a row whose foreign key points, or pointed, at one of these values.
CREATE FUNCTION pghistory._referring_condition(
    event_table regclass, "table" regclass, columns name[], pointed_at text[])
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    values_text text;
    from_event text;
    from_row text;
    held text;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _referring_condition.event_table;
    SELECT string_agg(format('(%s)', v.row), ', ') INTO values_text
      FROM (SELECT string_agg(format('%L::%s', pointed_at[i][c.position],
                                     format_type((pghistory._base_type(t.type_id, -1)).type_id, -1)),
                              ', ' ORDER BY c.position) AS row
              FROM generate_subscripts(pointed_at, 1) AS i
                   CROSS JOIN unnest(columns) WITH ORDINALITY AS c(field, position)
                   JOIN pghistory._columns("table") AS t ON t.name = c.field
             GROUP BY i) AS v;
    -- as it is now
    IF registered.obj_key <> '{}' THEN
        held := (SELECT string_agg(format('e.%I', h), ', ' ORDER BY position)
                   FROM unnest(pghistory._object_columns(registered.obj_key)) WITH ORDINALITY AS k(h, position));
        from_row := format('ROW(%s) IN (SELECT %s FROM %s AS t JOIN (VALUES %s) AS v(%s) ON %s)', held,
            (SELECT string_agg(format('t.%I', field), ', ' ORDER BY position)
               FROM unnest(registered.obj_key) WITH ORDINALITY AS k(field, position)),
            pghistory._table_name("table"), values_text,
            (SELECT string_agg('v' || position, ', ' ORDER BY position)
               FROM unnest(columns) WITH ORDINALITY AS c(field, position)),
            (SELECT string_agg(format('t.%I %s v.v%s', c.field, pghistory._equality_operator(t.type_id), c.position),
                               ' AND ')
               FROM unnest(columns) WITH ORDINALITY AS c(field, position)
                    JOIN pghistory._columns("table") AS t ON t.name = c.field));
    END IF;
    -- as events say it was
    SELECT format(CASE WHEN registered.obj_key = '{}' THEN 'EXISTS (SELECT FROM (VALUES %2$s) AS v(%3$s) WHERE %5$s)'
                       ELSE 'ROW(%1$s) IN (SELECT %1$s FROM %4$s AS e JOIN (VALUES %2$s) AS v(%3$s) ON %5$s)' END,
                  held, values_text, string_agg('v' || c.position, ', ' ORDER BY c.position),
                  pghistory._table_name(_referring_condition.event_table),
                  string_agg(format('e.%I %s v.v%s', a.attname, pghistory._equality_operator(a.atttypid), c.position),
                             ' AND '))
      INTO from_event
      FROM unnest(columns) WITH ORDINALITY AS c(field, position)
           JOIN pghistory.event_column AS m
             ON m.event_table = _referring_condition.event_table AND m.table_column_name = c.field
           JOIN pg_attribute AS a ON a.attrelid = m.event_table AND a.attname = m.column_name
    HAVING count(*) = cardinality(columns);
    RETURN COALESCE('(' || concat_ws(' OR ', from_row, from_event) || ')', 'false');
END
$function$;

CREATE FUNCTION pghistory.references(
    "table" regclass, obj text, label text DEFAULT NULL, context_id uuid DEFAULT NULL,
    since timestamp with time zone DEFAULT NULL, until timestamp with time zone DEFAULT NULL,
    max_rows bigint DEFAULT NULL)
 RETURNS TABLE(pgh_slug text, pgh_event_table regclass, pgh_id bigint, pgh_created_at timestamp with time zone,
     pgh_label text, pgh_operation "char", pgh_data jsonb, pgh_diff jsonb, pgh_context_id uuid, pgh_context jsonb,
     pgh_xid xid8, pgh_obj_table regclass, pgh_obj_id text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
DECLARE
    this record;
    pointed_at text[];
    condition text;
    conditions jsonb := '{}';
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_not_null('obj', obj IS NULL);
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    FOR this IN SELECT e.event_table FROM pghistory.event_table AS e JOIN pg_class AS c ON c.oid = e.event_table
                 WHERE e."table" = "references"."table" AND e.obj_key <> '{}'
    LOOP
        conditions := conditions || jsonb_build_object(
            this.event_table::oid,
            pghistory._events_condition(this.event_table, obj, NULL, NULL, NULL, NULL));
    END LOOP;
    FOR this IN
        SELECT e.event_table, e."table" AS referring, f.columns, f.referred
          FROM pghistory._foreign_keys_to("table") AS f
               JOIN pghistory.event_table AS e ON e."table" = f.referring
               JOIN pg_class AS c ON c.oid = e.event_table
    LOOP
        pointed_at := ARRAY(SELECT DISTINCT v FROM pghistory._values_of_object("table", obj, this.referred) AS v
                             WHERE array_position(v, NULL) IS NULL);
        CONTINUE WHEN pointed_at = '{}';
        condition := pghistory._referring_condition(this.event_table, this.referring, this.columns, pointed_at);
        conditions := conditions || jsonb_build_object(
            this.event_table::oid, concat_ws(' OR ', conditions ->> this.event_table::oid::text, condition));
    END LOOP;
    RETURN QUERY
    SELECT *
      FROM pghistory._run_events(
               ARRAY(SELECT pghistory._events_query(
                                k.event_table::oid::regclass,
                                format('(%s) AND %s', k.condition,
                                       pghistory._events_condition(
                                           k.event_table::oid::regclass, NULL, "references".label,
                                           "references".context_id, "references".since, "references".until)),
                                "references".max_rows)
                       FROM jsonb_each_text(conditions) AS k(event_table, condition)
                      ORDER BY k.event_table::oid),
               "references".max_rows);
END
$function$;
COMMENT ON FUNCTION pghistory.references(
    regclass, text, text, uuid, timestamp with time zone, timestamp with time zone, bigint) IS
    'Events of an object, as events() returns them, and of every tracked row whose foreign key points, or pointed, '
    'at it.';
-- History: which events can tell what a table was like, from when on, and the texts of the queries over them.

-- The table that a row type belongs to.
CREATE FUNCTION pghistory._table_of_type(type_id regtype)
 RETURNS regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    "table" regclass := (SELECT c.oid FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
                          WHERE t.oid = type_id AND c.relkind IN ('r', 'p', 'f'));
BEGIN
    IF "table" IS NULL THEN
        RAISE EXCEPTION '% is not the row type of a table', type_id
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Name the table by its row type, as in NULL::users.';
    END IF;
    RETURN "table";
END
$function$;

-- When an event counts, as an SQL expression over it: when its transaction committed, if the server keeps that and the
-- transaction was one of this server's; otherwise when it began.
CREATE FUNCTION pghistory._time_text(event_table regclass, alias text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    -- Of transactions further back than ids reach the server knows nothing.
    horizon CONSTANT numeric := GREATEST(pg_snapshot_xmax(pg_current_snapshot())::text::numeric - 2147483648, 3);
BEGIN
    SELECT e.foreign_until,
           split_part(e.origin, '/', 1) = split_part(pghistory._origin(e."table"), '/', 1) AS is_here
      INTO registered
      FROM pghistory.event_table AS e WHERE e.event_table = _time_text.event_table;
    IF current_setting('track_commit_timestamp') = 'off' OR NOT registered.is_here THEN
        RETURN format('%s.pgh_created_at', alias);
    END IF;
    RETURN format('CASE WHEN %1$s.pgh_id > %2$s AND %1$s.pgh_xid >= %3$L::xid8 '
                  'THEN COALESCE(pg_xact_commit_timestamp(%1$s.pgh_xid::xid), %1$s.pgh_created_at) '
                  'ELSE %1$s.pgh_created_at END', alias, registered.foreign_until, horizon);
END
$function$;

-- Had the transaction happened by a time that wrote an event? As an SQL condition over the event.
CREATE FUNCTION pghistory._happened_text(event_table regclass, alias text, at timestamp with time zone)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET "DateStyle" TO 'ISO'
AS $function$
    SELECT concat_ws(' AND ', format('%s.pgh_created_at <= %L::timestamptz', alias, at),
                     CASE WHEN t.time <> format('%s.pgh_created_at', alias)
                          THEN format('(%s) <= %L::timestamptz', t.time, at) END)
      FROM pghistory._time_text(event_table, alias) AS t(time)
$function$;

-- Had a transaction happened by a time that we wrote down: the one between this event and the next?
CREATE FUNCTION pghistory._had_happened(
    event_table regclass, after_event bigint, xid xid8, began timestamp with time zone, at timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    had_happened boolean;
BEGIN
    EXECUTE format('SELECT %s FROM (SELECT $1 + 1 AS pgh_id, $2 AS pgh_xid, $3 AS pgh_created_at) AS e',
                   pghistory._happened_text(event_table, 'e', at))
       INTO had_happened USING after_event, xid, began;
    RETURN had_happened;
END
$function$;

-- Which events can tell what a table was like: those of trackers that record every row, without a condition, with all
-- columns, in one event table that names the object. After-images say what a row became, before-images what it was.
-- `labels` has the label to read for each operation's letter; `missing` says what nothing records. It is complete if
-- TRUNCATE has been recorded as long as the rest.
CREATE FUNCTION pghistory._history_sources(
    "table" regclass,
    OUT event_table regclass,
    OUT image text,
    OUT labels jsonb,
    OUT since timestamp with time zone,
    OUT since_xid xid8,
    OUT since_event bigint,
    OUT is_complete boolean,
    OUT since_empty boolean,
    OUT missing text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    WITH needed(image, operation, code, is_optional) AS (
        VALUES ('before', 'insert', 'I', false), ('before', 'update', 'B', false), ('before', 'delete', 'D', false),
               ('before', 'truncate', 'T', true),
               ('after', 'insert', 'I', false), ('after', 'update', 'U', false), ('after', 'delete', 'D', false),
               ('after', 'truncate', 'T', true)
    ), recorded AS (
        SELECT t.event_table, t.label, t.since, t.since_xid, COALESCE(t.since_event, 0) AS since_event,
               COALESCE(t.since_empty, false) AS since_empty, o.operation, o.code,
               -- one that is void now narrowed what was written before
               CASE WHEN t.condition IS NOT NULL THEN 'with a condition'
                    WHEN e.obj_key = '{}' THEN 'without the key' END AS lack,
               'without ' || f.missing AS lack_of_columns
          FROM pghistory.tracker AS t
               JOIN pghistory.event_table AS e ON e.event_table = t.event_table
               JOIN pghistory._operations(_history_sources."table") AS o ON o.label = t.label
               CROSS JOIN LATERAL (
                   SELECT string_agg(c.name, ', ' ORDER BY c.number)
                     FROM pghistory._columns(_history_sources."table") AS c
                    WHERE c.name <> ALL (o.fields)) AS f(missing)
         WHERE t."table" = _history_sources."table"
    ), covered AS (
        -- each operation by the tracker that has been there longest
        SELECT DISTINCT ON (e.event_table, n.image, n.operation)
               e.event_table, n.image, n.operation, n.code, n.is_optional, r.label, r.since, r.since_xid, r.since_event,
               r.since_empty, l.lack
          FROM (SELECT DISTINCT t.event_table FROM pghistory.tracker AS t
                 WHERE t."table" = _history_sources."table") AS e
               CROSS JOIN needed AS n
               LEFT JOIN recorded AS r
                      ON r.event_table = e.event_table AND r.operation = n.operation AND r.code = n.code
               -- what a row was inserted with, before-images know from the next
               CROSS JOIN LATERAL (
                   SELECT COALESCE(r.lack, CASE WHEN (n.image, n.operation) <> ('before', 'insert')
                                                THEN r.lack_of_columns END)) AS l(lack)
         ORDER BY e.event_table, n.image, n.operation, (l.lack IS NOT NULL), r.since
    )
    SELECT c.event_table, c.image,
           COALESCE(jsonb_object_agg(c.code, c.label) FILTER (WHERE c.label IS NOT NULL AND c.lack IS NULL), '{}'),
           max(c.since) FILTER (WHERE c.lack IS NULL AND NOT c.is_optional),
           (array_agg(c.since_xid ORDER BY c.since DESC NULLS LAST)
                FILTER (WHERE c.lack IS NULL AND NOT c.is_optional))[1],
           max(c.since_event) FILTER (WHERE c.lack IS NULL AND NOT c.is_optional),
           bool_and(c.lack IS NULL AND c.label IS NOT NULL AND c.since_event <= (
               SELECT max(o.since_event) FROM covered AS o
                WHERE o.event_table = c.event_table AND o.image = c.image AND NOT o.is_optional))
               FILTER (WHERE c.is_optional),
           bool_and(c.since_empty) FILTER (WHERE c.lack IS NULL AND NOT c.is_optional),
           string_agg(concat(c.operation, ' (' || c.lack || ')'), ', ' ORDER BY c.operation)
               FILTER (WHERE (c.label IS NULL OR c.lack IS NOT NULL) AND NOT c.is_optional)
      FROM covered AS c
     GROUP BY c.event_table, c.image
$function$;

-- The refusal for a table whose history is not kept, or null where it is.
CREATE FUNCTION pghistory._check_history_is_kept("table" regclass)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    root CONSTANT regclass := pghistory._partition_root("table");
    advice CONSTANT text := format('From when SELECT pghistory.track(%L, kind => ''history'') is called on, '
                                   'it can be told.', pghistory._table_name("table"));
    missing text;
BEGIN
    IF NOT pghistory._is_tracked("table") THEN
        RAISE EXCEPTION 'table % is not tracked', pghistory._table_name("table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = CASE WHEN root <> "table" AND pghistory._is_tracked(root)
                              THEN format('It is a partition: ask for %s.', pghistory._table_name(root))
                              ELSE advice END;
    END IF;
    SELECT s.missing INTO missing FROM pghistory._history_sources("table") AS s
     -- what is recorded, if only in part, comes nearest
     ORDER BY s.missing IS NOT NULL,
              (SELECT count(*) FROM regexp_matches(s.missing, '(insert|update|delete)(, |$)', 'g')),
              length(s.missing), s.image
     LIMIT 1;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the events of table % do not tell what it was like', pghistory._table_name("table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Of every row, with all columns and its key, nothing records: %s.', missing),
                  HINT = advice;
    END IF;
END
$function$;

-- The source for a table at a time, or the refusal that says from when on it can be told.
CREATE FUNCTION pghistory._history_source(
    "table" regclass, at timestamp with time zone, OUT event_table regclass, OUT image text, OUT labels jsonb,
    OUT since_event bigint, OUT is_complete boolean, OUT since_empty boolean)
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    source record;
    earliest timestamp with time zone;
BEGIN
    PERFORM pghistory._check_history_is_kept("table");
    FOR source IN SELECT * FROM pghistory._history_sources("table") AS s
                   WHERE s.missing IS NULL ORDER BY s.since, s.image
    LOOP
        IF pghistory._had_happened(source.event_table, source.since_event, source.since_xid, source.since, at) THEN
            event_table := source.event_table;
            image := source.image;
            labels := source.labels;
            since_event := source.since_event;
            is_complete := source.is_complete;
            since_empty := source.since_empty;
            RETURN;
        END IF;
        -- with commit timestamps, from when the tracking was committed
        EXECUTE format('SELECT LEAST($4, GREATEST($3, %s)) '
                       'FROM (SELECT $1 + 1 AS pgh_id, $2 AS pgh_xid, $3 AS pgh_created_at) AS e',
                       pghistory._time_text(source.event_table, 'e'))
           INTO earliest USING source.since_event, source.since_xid, source.since, earliest;
    END LOOP;
    RAISE EXCEPTION 'the history of table % does not reach back to %', pghistory._table_name("table"), at
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = format('It can be told from %s on.', earliest);
END
$function$;

-- What an event leaves open: the row was there before it, and nothing says what it was like.
CREATE FUNCTION pghistory._refuse_to_guess(event_table regclass, event_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    obj text;
    began timestamp with time zone;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _refuse_to_guess.event_table;
    EXECUTE format('SELECT %s, e.pgh_created_at FROM %s AS e WHERE e.pgh_id = $1',
                   pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key,
                                       'e'),
                   pghistory._table_name(event_table))
       INTO obj, began USING event_id;
    RAISE EXCEPTION 'what row % of table % was like before % is not known', obj,
            pghistory._table_name(registered."table"), began
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('Event %s:%s is the first of it, or the one before is gone.',
                              pghistory._table_name(event_table), event_id),
              HINT = 'pghistory.backfill() gives every row a first event, from which on it is known.';
END
$function$;

-- What a missing row leaves open: when it went.
CREATE FUNCTION pghistory._refuse_vanished(event_table regclass, event_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    obj text;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _refuse_vanished.event_table;
    EXECUTE format('SELECT %s FROM %s AS e WHERE e.pgh_id = $1',
                   pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key,
                                       'e'),
                   pghistory._table_name(event_table))
       INTO obj USING event_id;
    RAISE EXCEPTION 'when row % of table % went is not known', obj, pghistory._table_name(registered."table")
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('Nothing was recorded of it after event %s:%s, and it is not there any more.',
                              pghistory._table_name(event_table), event_id),
              HINT = 'TRUNCATE is recorded by kind ''history'' and ''before_truncate''; '
                     'partitions that are dropped or detached are not.';
END
$function$;

-- What a transaction leaves open in which two rows had the same key for a while.
CREATE FUNCTION pghistory._refuse_to_choose(event_table regclass, event_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    registered record;
    obj text;
BEGIN
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = _refuse_to_choose.event_table;
    EXECUTE format('SELECT %s FROM %s AS e WHERE e.pgh_id = $1',
                   pghistory._key_text(event_table, pghistory._object_columns(registered.obj_key), registered.obj_key,
                                       'e'),
                   pghistory._table_name(event_table))
       INTO obj USING event_id;
    RAISE EXCEPTION 'which of two rows stayed that were row % of table % is not known', obj,
            pghistory._table_name(registered."table")
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('The transaction of event %s:%s had two rows under one key before it ended.',
                              pghistory._table_name(event_table), event_id),
              HINT = 'Earlier and later times can be told.';
END
$function$;

-- The same of one column, whose values a DDL statement changed without an event.
CREATE FUNCTION pghistory._refuse_to_guess_value("table" regclass, field name, at timestamp with time zone)
 RETURNS boolean
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION 'what column "%" of table % held at % is not known', field, pghistory._table_name("table"), at
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'It was added with a default that was computed for each row, or got a type that the old values '
                       'cannot become or that was computed from them.',
              HINT = format('Earlier and later times can be told; or look at the events: pghistory.events(%L).',
                            pghistory._table_name("table"));
END
$function$;

-- The columns of a table as they were, as SQL expressions over an event e that holds the row, or over the row t of
-- today. Without a time: as the event has them.
CREATE FUNCTION pghistory._past_columns(
    "table" regclass, event_table regclass, at timestamp with time zone, from_event boolean, later_event text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    relation CONSTANT text := pghistory._table_name("table");
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                                 WHERE e.event_table = _past_columns.event_table);
    -- the row of today that is about the same object
    today CONSTANT text := format('FROM %s AS t WHERE %s', relation,
                                  pghistory._same_object_text(
                                      event_table, obj_key, pghistory._qualified('t', obj_key),
                                      pghistory._qualified('e', pghistory._object_columns(obj_key))));
    is_past CONSTANT text := CASE WHEN at IS NOT NULL THEN pghistory._happened_text(event_table, 'e', at) END;
    this record;
    rewritten record;
    nothing text;
    refusal text;
    value text;
    expressions text[] := '{}';
BEGIN
    FOR this IN
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type_text,
               h.atttypid <> a.atttypid AS is_other_type, m.*
          FROM pg_attribute AS a
               LEFT JOIN pghistory.event_column AS m
                      ON m.event_table = _past_columns.event_table AND m.table_column_number = a.attnum
               LEFT JOIN pg_attribute AS h ON h.attrelid = m.event_table AND h.attname = m.column_name
         WHERE a.attrelid = "table" AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
         ORDER BY a.attnum
    LOOP
        -- a null of the column's type, also where that is a domain that refuses it
        nothing := format('(NULL::%s).%I', relation, this.attname);
        -- (a CASE of a domain's values alone is of that domain)
        refusal := format('CASE WHEN pghistory._refuse_to_guess_value(%s::oid, %L, %L) THEN %s ELSE %4$s END',
                          "table"::oid, this.attname, at, nothing);
        -- The last time that its values changed without an event, of those that had happened; the first of the others.
        SELECT max(r.after) FILTER (WHERE r.had_happened) AS until,
               min(r.after) FILTER (WHERE NOT r.had_happened) AS since
          INTO rewritten
          FROM (SELECT r.after, pghistory._had_happened(_past_columns.event_table, r.after, r.xid, r.at,
                                                        _past_columns.at) AS had_happened
                  FROM jsonb_to_recordset(this.rewrites) AS r(after bigint, xid xid8, at timestamp with time zone)
                 WHERE _past_columns.at IS NOT NULL) AS r;
        value := format(CASE WHEN this.is_other_type THEN 'CASE WHEN e.%1$I IS NOT NULL THEN e.%1$I::%2$s ELSE %3$s END'
                             ELSE 'e.%1$I' END, this.column_name, this.type_text, nothing);
        IF this.added_after IS NOT NULL THEN
            value := format('CASE WHEN e.pgh_id <= %s THEN %s ELSE %s END', this.added_after,
                            CASE WHEN at IS NOT NULL AND this.missing_value IS NOT NULL
                                 THEN format('%L::%s', this.missing_value, this.type_text) ELSE nothing END, value);
        END IF;
        IF at IS NOT NULL AND this.added_after IS NOT NULL
           AND NOT pghistory._had_happened(event_table, this.added_after, this.added_xid, this.added_at, at)
        THEN
            value := nothing;
        ELSIF NOT from_event THEN
            value := CASE WHEN rewritten.since IS NULL THEN format('t.%I', this.attname) ELSE refusal END;
        ELSIF at IS NULL AND this.unreadable_until IS NOT NULL THEN
            value := format('CASE WHEN e.pgh_id > %s THEN %s ELSE %s END', this.unreadable_until, value, refusal);
        ELSIF COALESCE(rewritten.until, rewritten.since, this.unreadable_until) IS NOT NULL THEN
            value := concat(
                format('CASE WHEN e.pgh_id > %s', GREATEST(rewritten.until, this.unreadable_until, 0)),
                -- what an event found that had not happened is of its own time
                CASE WHEN rewritten.since IS NOT NULL
                     THEN format(' AND (%s OR e.pgh_id <= %s)', is_past, rewritten.since) END,
                format(' THEN %s ', value),
                -- the row of today has it, if nothing happened to it since
                CASE WHEN rewritten.since IS NULL
                     THEN format('WHEN %s AND NOT (%s) AND EXISTS (SELECT %s) THEN (SELECT t.%I %s) ',
                                 is_past, later_event, today, this.attname, today) END,
                'ELSE ', refusal, ' END');
        END IF;
        expressions := expressions || format('%s AS %I', value, this.attname);
    END LOOP;
    RETURN array_to_string(expressions, ', ');
END
$function$;

-- The list of a table's columns, virtual generated ones among them, over its other columns.
CREATE FUNCTION pghistory._row_columns("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT string_agg(CASE WHEN a.attgenerated = 'v'
                           THEN (SELECT format('(%s)::%s', pg_get_expr(d.adbin, d.adrelid),
                                               format_type(a.atttypid, a.atttypmod))
                                   FROM pg_attrdef AS d
                                  WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
                           ELSE quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
      FROM pg_attribute AS a
     WHERE a.attrelid = "table" AND a.attnum > 0 AND NOT a.attisdropped
$function$;

-- Refuses a key that rows may share.
CREATE FUNCTION pghistory._check_unique_key("table" regclass, obj_key name[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index AS i
         WHERE i.indrelid = "table" AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
           AND ARRAY(SELECT a.attname FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, position)
                                           JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
                                                                  AND a.attnotnull
                      WHERE k.position <= i.indnkeyatts) <@ obj_key
           AND i.indnkeyatts = (SELECT count(*) FROM pg_attribute AS a
                                 WHERE a.attrelid = i.indrelid AND a.attnotnull
                                   AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])))
    THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'events of table % do not tell its rows apart', pghistory._table_name("table")
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('They name the object by %s, which no unique constraint guards.',
                              array_to_string(obj_key, ', ')),
              HINT = 'Give the table a primary key or a unique constraint on columns that are not null.';
END
$function$;

-- The condition that an event is one of the source's, after it began to know all.
CREATE FUNCTION pghistory._recorded_text(source record, alias text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN (SELECT format('(%s%s)', alias || '.pgh_id > ' || NULLIF(source.since_event, 0) || ' AND ',
                          CASE count(*) WHEN 1 THEN min(of_label) ELSE format('(%s)', string_agg(of_label, ' OR ')) END)
              FROM (SELECT format('%1$s.pgh_operation = ANY (%2$L::"char"[]) AND %1$s.pgh_label = %3$L', alias,
                                  array_agg(code ORDER BY strpos('IU', code) DESC, code), label) AS of_label
                      FROM jsonb_each_text(source.labels) AS l(code, label)
                     GROUP BY label) AS o);
END
$function$;

-- The condition that it was written by backfill(), or by hand: which counts for rows to which nothing had happened.
-- Before-images do without.
CREATE FUNCTION pghistory._snapshot_text(source record, alias text)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    RETURN CASE source.image WHEN 'after' THEN
               format('(%1$s.pgh_id > %2$s AND %1$s.pgh_operation = ''S'' AND %1$s.pgh_label = ANY (%3$L::text[]))',
                      alias, source.since_event, ARRAY(SELECT DISTINCT value FROM jsonb_each_text(source.labels)))
           ELSE 'false' END;
END
$function$;

-- The texts that queries over history are made of: {name}s in their templates.
CREATE FUNCTION pghistory._history_texts("table" regclass, source record, at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    event_table CONSTANT regclass := source.event_table;
    key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e WHERE e.event_table = source.event_table);
    held CONSTANT name[] := pghistory._object_columns(key);
    others CONSTANT name[] := pghistory._other_key_columns(key);
    has_moves CONSTANT boolean := pghistory._has_moves(event_table, key);
    relation_kind CONSTANT "char" := (SELECT relkind FROM pg_class WHERE oid = "table");
    is_moved CONSTANT text := CASE WHEN has_moves THEN
        format('(e.%I IS NOT NULL AND NOT (%s))', others[1],
               pghistory._same_object_text(event_table, key, pghistory._qualified('e', held),
                                           pghistory._qualified('e', others)))
        ELSE 'false' END;
BEGIN
    RETURN jsonb_build_object(
        'events', pghistory._table_name(event_table),
        'event table', format('%s::oid', event_table::oid),
        'rows', concat(CASE WHEN relation_kind <> 'p' THEN 'ONLY ' END, pghistory._table_name("table")),
        'key', (SELECT string_agg(quote_ident(h), ', ' ORDER BY position)
                  FROM unnest(held) WITH ORDINALITY AS k(h, position)),
        'k.key', array_to_string(pghistory._qualified('k', held), ', '),
        'e.key', array_to_string(pghistory._qualified('e', held), ', '),
        'w.key', array_to_string(pghistory._qualified('w', held), ', '),
        'e.key is known', format('e.%I IS NOT NULL', held[1]),
        'other key', (SELECT string_agg(format('e.%I AS %I', CASE WHEN has_moves THEN o ELSE h END, h), ', '
                                        ORDER BY position)
                        FROM unnest(others, held) WITH ORDINALITY AS k(o, h, position)),
        'g.key', array_to_string(pghistory._qualified('g', held), ', '),
        'e is g', pghistory._same_object_text(event_table, key, pghistory._qualified('e', held),
                                              pghistory._qualified('g', held)),
        'recorded g', pghistory._recorded_text(source, 'g'),
        'past g', pghistory._happened_text(event_table, 'g', at),
        'e is k', pghistory._same_object_text(event_table, key, pghistory._qualified('e', held),
                                              pghistory._qualified('k', held)),
        'm is k', pghistory._same_object_text(event_table, key, pghistory._qualified('m', held),
                                              pghistory._qualified('k', held)),
        'n is k', pghistory._same_object_text(event_table, key, pghistory._qualified('n', held),
                                              pghistory._qualified('k', held)),
        'l is k', pghistory._same_object_text(event_table, key, pghistory._qualified('l', held),
                                              pghistory._qualified('k', held)),
        'l is e', pghistory._same_object_text(event_table, key, pghistory._qualified('l', held),
                                              pghistory._qualified('e', held)),
        't is k', pghistory._same_object_text(event_table, key, pghistory._qualified('t', key),
                                              pghistory._qualified('k', held)),
        'recorded', pghistory._recorded_text(source, 'e'),
        'snapshot', pghistory._snapshot_text(source, 'e'),
        'past', format('(%s)', pghistory._happened_text(event_table, 'e', at)),
        'has moves', has_moves,
        'moved', is_moved,
        -- After-images name the key that a row got, before-images the one that it had.
        'e came', CASE source.image WHEN 'after' THEN format('(e.pgh_operation = ''I'' OR %s)', is_moved)
                                    ELSE '(e.pgh_operation = ''I'')' END,
        'e went', CASE source.image WHEN 'after' THEN '(e.pgh_operation IN (''D'', ''T''))'
                                    ELSE format('(e.pgh_operation IN (''D'', ''T'') OR %s)', is_moved) END,
        'moves', CASE source.image WHEN 'after' THEN '-1' ELSE '1' END,
        'e is like g', COALESCE(
            (SELECT format('ROW(%s)::record *= ROW(%s)::record',
                           string_agg(format('e.%I', m.column_name), ', ' ORDER BY m.table_column_number),
                           string_agg(format('g.%I', m.column_name), ', ' ORDER BY m.table_column_number))
               FROM pghistory.event_column AS m
              WHERE m.event_table = source.event_table AND m.table_column_name <> ALL (key)), 'false'),
        -- Rows that were emptied or dropped without an event are missed when they should be there.
        'may vanish', NOT source.is_complete OR relation_kind <> 'r',
        'past columns', pghistory._past_columns(
            "table", event_table, at, true,
            format('EXISTS (SELECT FROM %s AS l WHERE %s AND %s AND l.pgh_id > e.pgh_id)',
                   pghistory._table_name(event_table), pghistory._recorded_text(source, 'l'),
                   pghistory._same_object_text(event_table, key, pghistory._qualified('l', held),
                                               pghistory._qualified('e', held)))),
        'present columns', pghistory._past_columns("table", event_table, at, false, NULL));
END
$function$;
-- The table as it was.
--
-- A row is looked for under its key. Its events, in the order of pgh_id, are those that came under the key and those
-- that left it: by being deleted, or by an update that gave the row another key. Times are not in that order, since a
-- transaction that began earlier may write later; what counts is the last event, in that order, of the transactions
-- that had happened.

-- Does it pay to look up each object's last event by the index, rather than to read all events once?
CREATE FUNCTION pghistory._has_many_events("table" regclass, event_table regclass, obj_key name[])
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT pghistory._has_index(event_table, pghistory._object_columns(obj_key) || 'pgh_id'::name)
       AND (SELECT bool_and(pghistory._equality_operator(a.atttypid) = 'OPERATOR(pg_catalog.=)')
              FROM pg_attribute AS a
             WHERE a.attrelid = event_table AND a.attname = ANY (pghistory._object_columns(obj_key)))
       AND (SELECT e.reltuples > 8 * GREATEST(
                       (SELECT sum(GREATEST(c.reltuples, 0)) FROM pghistory._partition_tree("table") AS p
                                                                  JOIN pg_class AS c ON c.oid = p.relation), 1)
              FROM pg_class AS e WHERE e.oid = event_table)
$function$;

-- The key of one object, as a query.
CREATE FUNCTION pghistory._keys_text(event_table regclass, obj text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                             WHERE e.event_table = _keys_text.event_table);
BEGIN
    RETURN (SELECT format('SELECT %s', string_agg(
                       format('%L::%s AS %I', i.value, format_type((pghistory._base_type(a.atttypid, -1)).type_id, -1),
                              k.held), ', ' ORDER BY k.position))
              FROM jsonb_each_text(pghistory._object_identity(obj_key, obj)) AS i
                   JOIN unnest(obj_key, pghistory._object_columns(obj_key)) WITH ORDINALITY AS k(field, held, position)
                     ON k.field = i.key
                   JOIN pg_attribute AS a ON a.attrelid = event_table AND a.attname = k.held);
END
$function$;

-- The template of the walk from key to key by the index, as common table expression.
CREATE FUNCTION pghistory._walk_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT $sql$
walk AS (
    (SELECT {e.key} FROM {events} AS e WHERE {e.key is known} ORDER BY {e.key} LIMIT 1)
    UNION ALL
    SELECT n.*
      FROM walk AS w
           CROSS JOIN LATERAL (SELECT {e.key} FROM {events} AS e
                                WHERE ROW({e.key}) > ROW({w.key}) AND {e.key is known}
                                ORDER BY {e.key} LIMIT 1) AS n
)$sql$
$function$;

-- The template of the common table expressions that know, of each key, the last event that had happened and the next.
-- With after-images the next one only matters where none had. `moved` has what left keys (after-images) or came to
-- them (before-images) by updates that gave rows another key. The keys to look at are those of one object; or of all,
-- one after the other by the index, where such a walk pays; or else all events are read once.
CREATE FUNCTION pghistory._known_keys_template(image text, look_at text, has_moves boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(
        CASE WHEN look_at = 'walk' THEN pghistory._walk_template() || ',' END, $sql$
moved AS MATERIALIZED (
    SELECT {other key}, e.pgh_id, e.pgh_xid, {past} AS is_past FROM {events} AS e WHERE {moved} AND {recorded}
), moved_key AS (
    SELECT {key}, max(pgh_id) FILTER (WHERE is_past) AS last_moved, min(pgh_id) AS first_moved FROM moved GROUP BY {key}
),$sql$,
        CASE WHEN look_at <> 'events' THEN concat($sql$
known AS MATERIALIZED (
    SELECT {k.key}, l.last_id, m.last_moved, COALESCE(l.last_operation IN ('D', 'T'), false) AS last_went,
           CASE WHEN {next matters} THEN
               (SELECT e.pgh_id FROM {events} AS e
                 WHERE {e is k} AND ({recorded} OR {snapshot})
                   AND e.pgh_id > COALESCE(GREATEST(l.last_id, m.last_moved), 0)
                 ORDER BY e.pgh_id LIMIT 1) END AS next_id,
           CASE WHEN m.first_moved IS NOT NULL THEN
               (SELECT min(n.pgh_id) FROM moved AS n
                 WHERE {n is k} AND n.pgh_id > COALESCE(GREATEST(l.last_id, m.last_moved), 0)) END AS next_moved
      FROM ($sql$, CASE look_at WHEN 'walk' THEN 'SELECT {key} FROM walk UNION SELECT {key} FROM moved'
                                ELSE '{object}' END, $sql$) AS k
           LEFT JOIN moved_key AS m ON {m is k}
           LEFT JOIN LATERAL (
               SELECT e.pgh_id AS last_id, e.pgh_operation AS last_operation FROM {events} AS e
                WHERE {e is k} AND {recorded} AND {past} ORDER BY e.pgh_id DESC LIMIT 1) AS l ON true
)$sql$)
        ELSE concat($sql$
happened AS MATERIALIZED ($sql$,
            CASE WHEN has_moves THEN $sql$
    SELECT {key}, max(last_id) AS last_id, max(last_gone) AS last_gone, max(last_moved) AS last_moved,
           min(first_id) AS first_id, min(first_moved) AS first_moved
      FROM ($sql$ END, $sql$
    SELECT {e.key}, max(e.pgh_id) FILTER (WHERE {recorded} AND {past}) AS last_id,
           max(e.pgh_id) FILTER (WHERE e.pgh_operation IN ('D', 'T') AND {recorded} AND {past}) AS last_gone,
           NULL::bigint AS last_moved, min(e.pgh_id) AS first_id, NULL::bigint AS first_moved
      FROM {events} AS e
     WHERE ({recorded} OR {snapshot}) AND {e.key is known}
     GROUP BY {e.key}$sql$,
            CASE WHEN has_moves THEN $sql$
            UNION ALL
            SELECT {key}, NULL, NULL, last_moved, NULL, first_moved FROM moved_key) AS k
     GROUP BY {key}$sql$ END, $sql$
), known AS MATERIALIZED ($sql$,
            CASE image WHEN 'after' THEN $sql$
    SELECT {k.key}, k.last_id, k.last_moved, COALESCE(k.last_id = k.last_gone, false) AS last_went,
           k.first_id AS next_id, k.first_moved AS next_moved
      FROM happened AS k$sql$
            ELSE $sql$
    SELECT {k.key}, k.last_id, k.last_moved, min(e.pgh_id) AS next_id,
           CASE WHEN k.first_moved IS NOT NULL THEN
               (SELECT min(n.pgh_id) FROM moved AS n
                 WHERE {n is k} AND n.pgh_id > COALESCE(GREATEST(k.last_id, k.last_moved), 0)) END AS next_moved
      FROM happened AS k
           LEFT JOIN {events} AS e
                  ON {e is k} AND {recorded} AND e.pgh_id > COALESCE(GREATEST(k.last_id, k.last_moved), 0)
     GROUP BY {k.key}, k.last_id, k.last_moved, k.first_moved$sql$ END, $sql$
)$sql$) END)
$function$;

-- The template of how many rows had a key after an event: as many as have it today, less those that came since, and
-- those that went. One or none; the order of events within a transaction does not matter to it.
CREATE FUNCTION pghistory._rows_after_template(event_id text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT replace($sql$(EXISTS (SELECT FROM {rows} AS t WHERE {t is k})::integer
        - (SELECT count(*) FILTER (WHERE {e came}) - count(*) FILTER (WHERE {e went}) FROM {events} AS e
            WHERE {e is k} AND {recorded} AND e.pgh_id > $after$)
        - {moves} * (SELECT count(*) FROM moved AS m WHERE {m is k} AND m.pgh_id > $after$))$sql$,
        '$after$', event_id)
$function$;

-- The template of the rows that after-images tell: what its last event made of a row or, if none had happened, what the
-- first one found.
CREATE FUNCTION pghistory._told_rows_template(may_vanish boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat($sql$
SELECT {past columns}
  FROM known AS k LEFT JOIN {events} AS e ON e.pgh_id = COALESCE(k.last_id, k.next_id)
 WHERE CASE
       WHEN COALESCE(k.last_id, k.last_moved) IS NULL THEN
            CASE WHEN COALESCE(k.next_id, k.next_moved) IS NULL THEN false
                 WHEN COALESCE(k.next_moved < k.next_id, k.next_id IS NULL)
                 THEN pghistory._refuse_to_guess({event table}, k.next_moved)
                 WHEN e.pgh_operation IN ('S', 'D', 'T') THEN true
                 WHEN NOT {e came} THEN pghistory._refuse_to_guess({event table}, e.pgh_id)
                 -- perhaps in the place of a row that left in the same transaction
                 WHEN NOT EXISTS (SELECT FROM {events} AS l
                                   WHERE {l is e} AND l.pgh_xid = e.pgh_xid AND l.pgh_operation IN ('D', 'T'))
                      AND NOT EXISTS (SELECT FROM moved AS m WHERE {m is k} AND m.pgh_xid = e.pgh_xid)
                      OR $sql$, pghistory._rows_after_template('0'), $sql$ = 0
                 THEN false
                 ELSE pghistory._refuse_to_guess({event table}, e.pgh_id) END
       WHEN COALESCE(k.last_moved > k.last_id, k.last_id IS NULL) OR e.pgh_operation IN ('D', 'T') THEN false$sql$,
        CASE WHEN may_vanish THEN $sql$
       WHEN COALESCE(
                (SELECT n.came AND NOT EXISTS (SELECT FROM {events} AS l
                                                WHERE {l is k} AND l.pgh_xid = n.pgh_xid AND l.pgh_id > n.pgh_id
                                                  AND l.pgh_operation IN ('D', 'T'))
                               AND NOT EXISTS (SELECT FROM moved AS m
                                                WHERE {m is k} AND m.pgh_xid = n.pgh_xid AND m.pgh_id > n.pgh_id)
                   FROM ((SELECT e.pgh_id, e.pgh_xid, {e came} AS came FROM {events} AS e
                           WHERE {e is k} AND {recorded} AND e.pgh_id > k.last_id ORDER BY e.pgh_id LIMIT 1)
                         UNION ALL
                         SELECT m.pgh_id, m.pgh_xid, false FROM moved AS m WHERE {m is k} AND m.pgh_id > k.last_id) AS n
                  ORDER BY n.pgh_id LIMIT 1),
                NOT EXISTS (SELECT FROM {rows} AS t WHERE {t is k}))
       THEN pghistory._refuse_vanished({event table}, e.pgh_id)$sql$ END, $sql$
       ELSE true END$sql$)
$function$;

-- The template of the rows that one transaction put in the place of others, when its events have the newcomer before
-- the one that left. If nothing happened since, it is the row of today.
CREATE FUNCTION pghistory._replaced_rows_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat($sql$
SELECT {past columns}
  FROM known AS k
       JOIN {events} AS g ON g.pgh_id = GREATEST(k.last_id, k.last_moved)
       CROSS JOIN LATERAL (
           SELECT min(n.pgh_id) FILTER (WHERE n.is_of_key) AS event_id, min(n.pgh_id) AS any_id
             FROM (SELECT e.pgh_id, true AS is_of_key FROM {events} AS e
                    WHERE {e is k} AND {recorded} AND e.pgh_id > g.pgh_id
                   UNION ALL
                   SELECT m.pgh_id, false FROM moved AS m WHERE {m is k} AND m.pgh_id > g.pgh_id) AS n) AS n
       CROSS JOIN LATERAL (
           SELECT e.* FROM {events} AS e
            WHERE {e is k} AND {recorded}
              AND (e.pgh_id = n.event_id AND n.event_id = n.any_id AND e.pgh_operation IN ('D', 'T')
                   OR e.pgh_xid = g.pgh_xid AND e.pgh_id < g.pgh_id AND e.pgh_operation IN ('I', 'U'))
            ORDER BY e.pgh_id DESC LIMIT 1) AS e
 WHERE (k.last_went OR COALESCE(k.last_moved > k.last_id, k.last_id IS NULL))
   AND n.any_id IS NOT NULL
   AND EXISTS (SELECT FROM {events} AS e
                WHERE {e is k} AND {recorded} AND e.pgh_xid = g.pgh_xid AND e.pgh_id < g.pgh_id AND {e came})
   AND CASE WHEN $sql$, pghistory._rows_after_template('g.pgh_id'), $sql$ <> 1 THEN false
            -- if the newcomer looks like the one that left, it may be the same one, come and gone again
            WHEN e.pgh_id < g.pgh_id AND {e is like g}
                 AND (SELECT {e is like g} FROM {events} AS e
                       WHERE {e is k} AND {recorded} AND e.pgh_id < g.pgh_id AND e.pgh_xid <> g.pgh_xid
                       ORDER BY e.pgh_id DESC LIMIT 1) IS NOT TRUE
            THEN pghistory._refuse_to_choose({event table}, e.pgh_id)
            ELSE true END$sql$)
$function$;

-- The template of the query over after-images: rows of which nothing tells are what they are today.
CREATE FUNCTION pghistory._after_images_template(may_vanish boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(pghistory._told_rows_template(may_vanish), E'\nUNION ALL', pghistory._replaced_rows_template(), $sql$
UNION ALL
SELECT {present columns}
  FROM {rows} AS t
 WHERE {t is wanted}
   AND NOT EXISTS (SELECT FROM known AS k
                    WHERE {t is k} AND COALESCE(k.last_id, k.last_moved, k.next_id, k.next_moved) IS NOT NULL
                      AND NOT (COALESCE(k.last_id, k.last_moved) IS NOT NULL
                               AND (k.last_went OR COALESCE(k.last_moved > k.last_id, k.last_id IS NULL))
                               AND NOT EXISTS (SELECT FROM {events} AS e WHERE {e is k} AND {recorded}
                                                  AND e.pgh_id > GREATEST(k.last_id, k.last_moved))
                               AND NOT EXISTS (SELECT FROM moved AS m
                                                WHERE {m is k} AND m.pgh_id > GREATEST(k.last_id, k.last_moved))))$sql$)
$function$;

-- How many events say that a row went, if there are as many rows as came and did not go: then none of these events
-- was removed, and no row came without one. Otherwise null.
CREATE FUNCTION pghistory._balanced_departures(texts jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    departures bigint;
BEGIN
    EXECUTE pghistory._rendered($sql$
        SELECT e.departures
          FROM (SELECT count(*) AS moves, count(NULLIF(e.pgh_operation, 'I')) AS departures
                  FROM {events} AS e WHERE e.pgh_operation <> 'U' AND {recorded}) AS e
         WHERE e.moves - 2 * e.departures = (SELECT count(*) FROM {rows} AS t)$sql$, texts)
       INTO departures;
    RETURN departures;
END
$function$;

-- The template of the query over after-images, with its common table expressions, where every row has an event and none
-- ever changed its key: a row is what its last event made of it. Only those that went are looked at again. What is
-- sorted are the columns that matter.
CREATE FUNCTION pghistory._complete_images_template(look_at text, departures bigint)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(
        'WITH RECURSIVE ' || NULLIF(concat_ws(E',\n',
            CASE look_at WHEN 'walk' THEN pghistory._walk_template() END,
            CASE WHEN departures > 0 THEN $sql$
moved AS MATERIALIZED (
    SELECT {other key}, e.pgh_id, e.pgh_xid FROM {events} AS e WHERE false
), known AS MATERIALIZED (
    SELECT {g.key}, g.pgh_id AS last_id, NULL::bigint AS last_moved, true AS last_went
      FROM {events} AS g
     WHERE g.pgh_operation IN ('D', 'T') AND {recorded g} AND {past g}
       AND EXISTS (SELECT FROM {events} AS e
                    WHERE {e is g} AND {recorded} AND e.pgh_xid = g.pgh_xid AND e.pgh_id < g.pgh_id AND {e came})
       AND NOT EXISTS (SELECT FROM {events} AS e WHERE {e is g} AND {recorded} AND {past} AND e.pgh_id > g.pgh_id)
)$sql$ END), ''), $sql$
SELECT {row columns} FROM ($sql$,
        CASE look_at WHEN 'walk' THEN $sql$
SELECT {past columns}
  FROM walk AS k
       CROSS JOIN LATERAL (SELECT e.* FROM {events} AS e WHERE {e is k} AND {past} AND {recorded}
                            ORDER BY e.pgh_id DESC LIMIT 1) AS e
 WHERE $sql$
        ELSE $sql$
SELECT {past columns}
  FROM (SELECT DISTINCT ON ({e.key}) {e.key}, {e.others} FROM {events} AS e
         WHERE {past} AND {recorded} AND {e.key is known}
         ORDER BY {e.key}, e.pgh_id DESC) AS e
 WHERE $sql$ END, $sql$e.pgh_operation NOT IN ('D', 'T')$sql$,
        CASE WHEN departures > 0 THEN concat($sql$
UNION ALL$sql$, pghistory._replaced_rows_template(), $sql$
UNION ALL
SELECT {present columns}
  FROM {rows} AS t JOIN known AS k ON {t is k}
 WHERE NOT EXISTS (SELECT FROM {events} AS e WHERE {e is k} AND {recorded} AND e.pgh_id > k.last_id)$sql$) END, $sql$
) AS past$sql$)
$function$;

-- The template of the query over before-images: a row is what its next event found, or what it is today.
CREATE FUNCTION pghistory._before_images_template(may_vanish boolean)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat($sql$
SELECT {past columns}
  FROM known AS k JOIN {events} AS e ON e.pgh_id = k.next_id
 WHERE COALESCE(k.next_moved > k.next_id, true) AND e.pgh_operation <> 'I'
UNION ALL
-- One transaction put a row in the place of another, and its events have the newcomer before the one that left.
SELECT {past columns}
  FROM known AS k
       JOIN {events} AS g ON g.pgh_id = LEAST(k.next_id, k.next_moved)
       CROSS JOIN LATERAL (
           SELECT e.* FROM {events} AS e
            WHERE {e is k} AND {recorded}
              AND (e.pgh_id = k.last_id AND e.pgh_operation = 'I'
                   OR e.pgh_xid = g.pgh_xid AND e.pgh_id > g.pgh_id AND e.pgh_operation <> 'I')
            ORDER BY e.pgh_id LIMIT 1) AS e
 WHERE (g.pgh_operation = 'I' OR g.pgh_id = k.next_moved)
   AND CASE WHEN $sql$, pghistory._rows_after_template('COALESCE(GREATEST(k.last_id, k.last_moved), 0)'), $sql$ <> 1
            THEN false
            -- if the one that left looks like the newcomer, it may be the same one, come and gone again
            WHEN e.pgh_id > g.pgh_id AND g.pgh_operation = 'I' AND {e is like g}
            THEN pghistory._refuse_to_choose({event table}, e.pgh_id)
            ELSE true END
UNION ALL
SELECT {present columns}
  FROM {rows} AS t
 WHERE {t is wanted}
   AND NOT EXISTS (SELECT FROM known AS k WHERE {t is k} AND COALESCE(k.next_id, k.next_moved) IS NOT NULL)$sql$,
        CASE WHEN may_vanish THEN $sql$
UNION ALL
SELECT {past columns}
  FROM known AS k
       JOIN {events} AS e ON e.pgh_id = GREATEST(k.last_id, k.last_moved)
       LEFT JOIN {events} AS g ON g.pgh_id = LEAST(k.next_id, k.next_moved)
 WHERE CASE
       WHEN e.pgh_id = k.last_id AND {e went} THEN false
       WHEN g.pgh_id IS NULL AND EXISTS (SELECT FROM {rows} AS t WHERE {t is k}) THEN false
       WHEN g.pgh_id = k.next_id AND g.pgh_operation <> 'I' THEN false
       WHEN EXISTS (SELECT FROM {events} AS l
                     WHERE {l is k} AND l.pgh_xid = g.pgh_xid AND l.pgh_id > g.pgh_id AND l.pgh_operation <> 'I')
       THEN false
       ELSE pghistory._refuse_vanished({event table}, e.pgh_id) END$sql$ END)
$function$;

-- The query that gives a table, or one object of it, as it was.
CREATE FUNCTION pghistory._as_of_query("table" regclass, at timestamp with time zone, obj text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    source record;
    key name[];
    look_at text;
    texts jsonb;
    departures bigint;
BEGIN
    source := pghistory._history_source("table", at);
    key := (SELECT e.obj_key FROM pghistory.event_table AS e WHERE e.event_table = source.event_table);
    PERFORM pghistory._check_unique_key("table", key);
    look_at := CASE WHEN obj IS NOT NULL THEN 'object'
                    WHEN pghistory._has_many_events("table", source.event_table, key) THEN 'walk'
                    ELSE 'events' END;
    texts := pghistory._history_texts("table", source, at) || jsonb_build_object(
        'object', CASE WHEN obj IS NOT NULL THEN pghistory._keys_text(source.event_table, obj) END,
        'row columns', pghistory._row_columns("table"),
        'next matters', CASE source.image WHEN 'after' THEN 'COALESCE(l.last_id, m.last_moved) IS NULL' ELSE 'true' END,
        't is wanted', CASE WHEN obj IS NULL THEN 'true'
                            ELSE pghistory._identity_text("table", pghistory._object_identity(key, obj)) END);
    IF source.image = 'after' AND source.since_empty AND obj IS NULL AND NOT (texts -> 'has moves')::boolean
       AND NOT (texts -> 'may vanish')::boolean
    THEN
        departures := pghistory._balanced_departures(texts);
    END IF;
    IF departures IS NOT NULL THEN
        texts := texts || jsonb_build_object('e.others', (
            SELECT string_agg(format('e.%I', a.attname), ', ' ORDER BY a.attnum)
              FROM pg_attribute AS a
             WHERE a.attrelid = source.event_table AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attname <> ALL (pghistory._object_columns(key))
               AND (a.attname IN ('pgh_id', 'pgh_operation')
                    OR strpos(texts ->> 'past columns', format('e.%I', a.attname)) > 0)));
        RETURN pghistory._rendered(pghistory._complete_images_template(look_at, departures), texts);
    END IF;
    RETURN pghistory._rendered(
        concat('WITH RECURSIVE',
               pghistory._known_keys_template(source.image, look_at, (texts -> 'has moves')::boolean),
               E'\nSELECT {row columns} FROM (',
               CASE source.image WHEN 'after' THEN pghistory._after_images_template((texts -> 'may vanish')::boolean)
                                 ELSE pghistory._before_images_template((texts -> 'may vanish')::boolean) END,
               ') AS past'),
        texts);
END
$function$;

CREATE FUNCTION pghistory.as_of(rowtype anyelement, at timestamp with time zone, obj text DEFAULT NULL)
 RETURNS SETOF anyelement
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
 SET jit TO off
AS $function$
DECLARE
    said text;
    detail text;
    hint text;
BEGIN
    PERFORM pghistory._check_not_null('at', at IS NULL);
    RETURN QUERY EXECUTE pghistory._as_of_query(pghistory._table_of_type(pg_typeof(rowtype)), at, obj);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- without the text of the query, in which nobody would find it
    GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    IF detail = '' THEN
        RAISE EXCEPTION USING MESSAGE = said, HINT = hint, ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RAISE EXCEPTION USING MESSAGE = said, DETAIL = detail, HINT = hint, ERRCODE = 'object_not_in_prerequisite_state';
END
$function$;
COMMENT ON FUNCTION pghistory.as_of(anyelement, timestamp with time zone, text) IS
    'The rows of a table as they were at a time, or the one with this key (as text, or a JSON object for a key of '
    'several columns): SELECT * FROM pghistory.as_of(NULL::users, ''2026-01-01''). With all transactions that had '
    'committed by then, if the server keeps commit timestamps, otherwise with all that had begun. If what is kept '
    'cannot answer, it says so.';
-- One object through time: from its last event back, also under keys that it had before.

-- The template of the query over after-images: a version is what an event made of the object, until the next event or
-- until it left the key.
CREATE FUNCTION pghistory._after_versions_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT $sql$
WITH RECURSIVE line AS (
    SELECT e.* FROM {events} AS e
     WHERE e.pgh_id = COALESCE((SELECT e.pgh_id FROM {events} AS e WHERE {e is wanted} AND {recorded}
                                 ORDER BY e.pgh_id DESC LIMIT 1),
                               (SELECT min(e.pgh_id) FROM {events} AS e WHERE {e is wanted} AND {snapshot}))
    UNION ALL
    SELECT p.*
      FROM line AS e
           CROSS JOIN LATERAL (
               SELECT p.* FROM {events} AS p
                WHERE p.pgh_id = COALESCE({previous}, (SELECT min(s.pgh_id) FROM {events} AS s
                                                        WHERE {s is e} AND {snapshot s} AND s.pgh_id < e.pgh_id))
               OFFSET 0) AS p
     WHERE e.pgh_operation <> 'S'
), dated AS (
    SELECT e.*, {time} AS began, lag(e.pgh_id) OVER w IS NULL AS is_first,
           min({time}) OVER (w ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_began,
           lead(e.pgh_id) OVER w AS next_id
      FROM line AS e
    WINDOW w AS (ORDER BY e.pgh_id)
)
SELECT CASE WHEN v.began < v.ended OR v.ended IS NULL THEN tstzrange(v.began, v.ended) ELSE 'empty' END,
       CASE WHEN NOT v.is_found THEN v.pgh_label END, CASE WHEN NOT v.is_found THEN v.pgh_context_id END, v.version
  FROM (
    SELECT e.pgh_id, e.pgh_label, {context_id} AS pgh_context_id, past.version,
           f.is_found,
           CASE WHEN e.is_first AND e.pgh_operation IN ('S', 'D', 'T') THEN {since} ELSE e.began END AS began,
           CASE WHEN f.is_found THEN e.began
                ELSE LEAST(e.next_began, (SELECT min({time of m}) FROM {events} AS m
                                           WHERE {m left e} AND m.pgh_id > e.pgh_id
                                             AND m.pgh_id < COALESCE(e.next_id, 9223372036854775807))) END AS ended
      FROM dated AS e
           CROSS JOIN LATERAL (SELECT e.pgh_operation IN ('D', 'T') AS is_found) AS f
           CROSS JOIN LATERAL (SELECT ROW({row columns})::{row type} FROM (SELECT {past columns}) AS past)
               AS past(version)
     WHERE e.pgh_operation IN ('I', 'U') OR e.is_first
    UNION ALL
    SELECT 0, NULL, NULL, ROW({row columns})::{row type}, false, {since}, NULL
      FROM (SELECT {present columns} FROM {rows} AS t WHERE {t is wanted} AND NOT EXISTS (SELECT FROM line)) AS past
    ) AS v
 ORDER BY v.pgh_id$sql$
$function$;

-- The template of the query over before-images: a version is what the next event found, or the row of today.
CREATE FUNCTION pghistory._before_versions_template()
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT $sql$
WITH RECURSIVE line AS (
    SELECT e.* FROM {events} AS e
     WHERE e.pgh_id = (SELECT e.pgh_id FROM {events} AS e WHERE ({e is wanted} OR {e came to wanted}) AND {recorded}
                        ORDER BY e.pgh_id DESC LIMIT 1)
    UNION ALL
    SELECT p.*
      FROM line AS e CROSS JOIN LATERAL (SELECT p.* FROM {events} AS p WHERE p.pgh_id = {previous} OFFSET 0) AS p
), dated AS (
    SELECT e.*, {context_id} AS context_id, {time} AS ended,
           max({time}) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS began
      FROM line AS e
    WINDOW w AS (ORDER BY e.pgh_id)
)
SELECT CASE WHEN v.began < v.ended OR v.ended IS NULL THEN tstzrange(v.began, v.ended) ELSE 'empty' END,
       v.label, v.context_id, v.version
  FROM (
    SELECT e.pgh_id, lag(e.pgh_label) OVER w AS label, lag(e.context_id) OVER w AS context_id,
           e.pgh_operation <> 'I' AS is_found, past.version,
           COALESCE(e.began, {since}) AS began, e.ended
      FROM dated AS e CROSS JOIN LATERAL (SELECT ROW({row columns})::{row type} FROM (SELECT {past columns}) AS past)
               AS past(version)
    WINDOW w AS (ORDER BY e.pgh_id)
    UNION ALL
    SELECT 9223372036854775807, l.pgh_label, l.context_id, true, past.version, COALESCE(l.ended, {since}), NULL
      FROM (SELECT ROW({row columns})::{row type} AS version
              FROM (SELECT {present columns} FROM {rows} AS t WHERE {t is wanted}) AS past) AS past
           LEFT JOIN (SELECT * FROM dated ORDER BY pgh_id DESC LIMIT 1) AS l ON true
    ) AS v
 WHERE v.is_found
 ORDER BY v.pgh_id$sql$
$function$;

-- When a transaction counts that we wrote down: the one between this event and the next.
CREATE FUNCTION pghistory._time_of(
    event_table regclass, after_event bigint, xid xid8, began timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    "time" timestamp with time zone;
BEGIN
    EXECUTE format('SELECT %s FROM (SELECT $1 + 1 AS pgh_id, $2 AS pgh_xid, $3 AS pgh_created_at) AS e',
                   pghistory._time_text(event_table, 'e'))
       INTO "time" USING after_event, xid, began;
    RETURN "time";
END
$function$;

CREATE FUNCTION pghistory.versions(rowtype anyelement, obj text)
 RETURNS TABLE(valid tstzrange, label text, context_id uuid, version anyelement)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
 SET "DateStyle" TO 'ISO'
AS $function$
DECLARE
    "table" CONSTANT regclass := pghistory._table_of_type(pg_typeof(rowtype));
    source record;
    registered record;
    others name[];
    texts jsonb;
    held name[];
    moves boolean;
BEGIN
    PERFORM pghistory._check_not_null('obj', obj IS NULL);
    PERFORM pghistory._check_history_is_kept("table");
    SELECT * INTO source FROM pghistory._history_sources("table") AS s
     WHERE s.missing IS NULL ORDER BY s.since, s.image LIMIT 1;
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = source.event_table;
    PERFORM pghistory._check_unique_key("table", registered.obj_key);
    texts := pghistory._history_texts("table", source, NULL);
    moves := (texts -> 'has moves')::boolean;
    others := pghistory._other_key_columns(registered.obj_key);
    held := pghistory._object_columns(registered.obj_key);
    texts := texts || jsonb_build_object(
        'e is wanted', pghistory._event_identity_text(source.event_table, registered.obj_key, held, obj, 'e'),
        'e came to wanted', CASE WHEN moves THEN
            pghistory._event_identity_text(source.event_table, registered.obj_key, others, obj, 'e') ELSE 'false' END,
        't is wanted', pghistory._identity_text("table", pghistory._object_identity(registered.obj_key, obj)),
        'previous', pghistory._previous_event_text(source.event_table, registered.obj_key,
                                                   pghistory._recorded_text(source, 'p')),
        's is e', pghistory._same_object_text(source.event_table, registered.obj_key, pghistory._qualified('s', held),
                                              pghistory._key_before_text(source.event_table, registered.obj_key)),
        'snapshot s', pghistory._snapshot_text(source, 's'),
        'm left e', CASE WHEN moves THEN
            concat(pghistory._recorded_text(source, 'm'), ' AND ',
                   pghistory._same_object_text(source.event_table, registered.obj_key,
                                               pghistory._qualified('m', others), pghistory._qualified('e', held)))
            ELSE 'false' END,
        'time', pghistory._time_text(source.event_table, 'e'),
        'time of m', pghistory._time_text(source.event_table, 'm'),
        'context_id', CASE WHEN registered.context = 'none' THEN 'NULL::uuid' ELSE 'e.pgh_context_id' END,
        'since', format('%L::timestamptz', pghistory._time_of(source.event_table, source.since_event, source.since_xid,
                                                              source.since)),
        'row columns', pghistory._row_columns("table"),
        'row type', pghistory._table_name("table"));
    RETURN QUERY EXECUTE pghistory._rendered(
        CASE source.image WHEN 'after' THEN pghistory._after_versions_template()
                          ELSE pghistory._before_versions_template() END, texts);
END
$function$;
COMMENT ON FUNCTION pghistory.versions(anyelement, text) IS
    'Every version of the object that has this key (as text, or a JSON object for a key of several columns), or had it '
    'last, oldest first, also under keys that it had before: when it was valid, the label and the context of the event '
    'that made it, and the row: SELECT valid, (version).* FROM pghistory.versions(NULL::users, ''42'').';
-- First events for rows that were there before they were tracked.

-- The tracker whose label backfilled events get when none is named: one that knows the table at any time, or else the
-- first that knows of inserts, or of anything.
CREATE FUNCTION pghistory._backfill_label("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT t.label
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = _backfill_label."table"
     ORDER BY EXISTS (SELECT FROM pghistory._history_sources(_backfill_label."table") AS s
                       WHERE s.missing IS NULL AND s.labels ->> 'I' = t.label) DESC,
              e.obj_key <> '{}' DESC,
              t.kind IN ('history', 'snapshot', 'after_insert_or_update', 'after_insert') DESC,
              t.ordinal
     LIMIT 1
$function$;

-- Writes the events of one stretch of a table's storage, or of all of it, and says how many. The rows are locked
-- against being changed, and against being filled by somebody else, before it is seen, in a snapshot of its own,
-- which of them still have no event.
CREATE FUNCTION pghistory._backfill_pages(
    relation regclass, event_table regclass, label text, event_columns text[], expressions text[], pages int8range)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                                 WHERE e.event_table = _backfill_pages.event_table);
    has_no_event CONSTANT text := format(
        'NOT EXISTS (SELECT FROM %s AS e WHERE %s AND e.pgh_label = %L)', pghistory._table_name(event_table),
        pghistory._same_object_text(event_table, obj_key,
                                    pghistory._qualified('e', pghistory._object_columns(obj_key)),
                                    pghistory._qualified('t', obj_key)),
        label);
    is_foreign CONSTANT boolean := (SELECT relkind = 'f' FROM pg_class WHERE oid = relation);
    these tid[];
    written bigint;
BEGIN
    IF NOT is_foreign THEN
        EXECUTE format('SELECT array_agg(s.ctid) FROM (SELECT t.ctid FROM ONLY %s AS t '
                       'WHERE t.ctid >= $1 AND t.ctid < $2 AND %s FOR NO KEY UPDATE OF t) AS s',
                       pghistory._table_name(relation), has_no_event)
           INTO these
          USING format('(%s,0)', lower(pages))::tid, format('(%s,0)', LEAST(upper(pages), 4294967295))::tid;
    END IF;
    EXECUTE format('%s WHERE %s AND %s',
                   pghistory._insert_text(event_table, event_columns, expressions,
                                          format('FROM ONLY %s AS t', pghistory._table_name(relation)), 0),
                   CASE WHEN is_foreign THEN 'true' ELSE 't.ctid = ANY ($1)' END, has_no_event)
      USING these;
    GET DIAGNOSTICS written = ROW_COUNT;
    RETURN written;
END
$function$;

CREATE FUNCTION pghistory.backfill(
    "table" regclass, label text DEFAULT NULL, pages int8range DEFAULT NULL)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    pages_at_once CONSTANT bigint := 1000;
    tracked regclass;
    tracker record;
    event record;
    this record;
    stretch bigint;
    written bigint := 0;
BEGIN
    PERFORM pghistory._check_not_null('"table"', "table" IS NULL);
    PERFORM pghistory._check_owner("table");
    IF pghistory._has_state() THEN
        label := COALESCE(label, pghistory._backfill_label("table"),
                          pghistory._backfill_label(pghistory._partition_root("table")));
    END IF;
    IF label IS NULL THEN
        RAISE EXCEPTION 'table % is not tracked', pghistory._table_name("table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Call pghistory.track() first.';
    END IF;
    tracked := pghistory._table_with_label("table", label);
    SELECT t.event_table, e.obj_key, pghistory._tracked_fields(tracked, t.fields, t.exclude) AS fields INTO tracker
      FROM pghistory.tracker AS t JOIN pghistory.event_table AS e USING (event_table)
     WHERE t."table" = tracked AND t.label = backfill.label;
    IF tracker.obj_key = '{}' THEN
        RAISE EXCEPTION 'events of table % do not name their object', pghistory._table_name(tracked)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Which rows have an event cannot be told: '
                         'give the table a primary key, or track() an obj_key.';
    ELSIF pages IS NOT NULL AND (SELECT relkind <> 'r' FROM pg_class WHERE oid = "table") THEN
        RAISE EXCEPTION 'table % has no pages of its own', pghistory._table_name("table")
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Name one of its partitions, or leave out pages.';
    END IF;
    IF isempty(pages) THEN
        RETURN 0;
    END IF;
    -- These are events by hand: their context is written down with a permit.
    INSERT INTO pghistory._request VALUES ('permit event', tracked, NULL, jsonb_build_object('label', label));
    PERFORM pghistory._use_permit(pghistory._table_name(tracker.event_table), label);
    event := pghistory._event_text(tracker.event_table, quote_literal(label), 'by hand', 't', 'S', tracker.fields,
                                   'statement');
    FOR this IN
        SELECT p.relation, CASE WHEN c.relkind = 'f' THEN 1 ELSE pg_relation_size(p.relation)
                                                                / current_setting('block_size')::bigint END AS size
          FROM pghistory._partition_tree("table") AS p JOIN pg_class AS c ON c.oid = p.relation
         WHERE p.is_leaf ORDER BY p.relation::oid
    LOOP
        FOR stretch IN SELECT generate_series(COALESCE(lower(pages), 0),
                                              LEAST(upper(pages), this.size) - 1,
                                              CASE WHEN this.size = 1 THEN 1 ELSE pages_at_once END)
        LOOP
            written := written + pghistory._backfill_pages(
                this.relation, tracker.event_table, label, event.columns, event.expressions,
                int8range(stretch, LEAST(stretch + pages_at_once, upper(pages))));
        END LOOP;
    END LOOP;
    RETURN written;
END
$function$;
COMMENT ON FUNCTION pghistory.backfill(regclass, text, int8range) IS
    'Writes an event (operation S) for each row of a tracked table that has none with that label yet, and returns '
    'how many; by default with the label of the tracker that knows the table at any time. It can be called again, '
    'and while others write. With pages, only for rows stored in these pages of the table, or of a partition of it: '
    'for batches that commit.';
-- Putting one object back to what an event says.

-- The columns of a table that a statement may give values: those of the event that it had then. Generated ones are not
-- written; an identity that is always generated is written in an INSERT only.
CREATE FUNCTION pghistory._writable_columns(
    "table" regclass,
    event_table regclass,
    event_id bigint,
    OUT number smallint,
    OUT name name,
    OUT held name,
    OUT type_text text,
    OUT is_updatable boolean)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT a.attnum, a.attname, m.column_name, format_type(a.atttypid, a.atttypmod), a.attidentity <> 'a'
      FROM pghistory.event_column AS m
           JOIN pg_attribute AS a ON a.attrelid = _writable_columns."table" AND a.attnum = m.table_column_number
     WHERE m.event_table = _writable_columns.event_table AND a.attgenerated = '' AND NOT a.attisdropped
       AND COALESCE(m.added_after, -1) < event_id
     ORDER BY a.attnum
$function$;

-- Where the rows of a table are: not in those that inherit from it.
CREATE FUNCTION pghistory._rows_text("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT concat(CASE WHEN relkind <> 'p' THEN 'ONLY ' END, pghistory._table_name("table"))
      FROM pg_class WHERE oid = "table"
$function$;

-- The key under which an object is now that had this one after an event: updates since may have given it others.
CREATE FUNCTION pghistory._key_of_today(event_table regclass, obj text, after_event bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    obj_key CONSTANT name[] := (SELECT e.obj_key FROM pghistory.event_table AS e
                                 WHERE e.event_table = _key_of_today.event_table);
    held CONSTANT name[] := pghistory._object_columns(obj_key);
    others CONSTANT name[] := pghistory._other_key_columns(obj_key);
    step record;
BEGIN
    WHILE pghistory._has_moves(event_table, obj_key) LOOP
        EXECUTE format(
            $query$
            SELECT e.pgh_id, CASE WHEN e.pgh_operation = 'U' THEN %5$s WHEN e.pgh_operation = 'B' THEN %6$s END AS obj
              FROM %1$s AS e
             WHERE e.pgh_id > $1
               AND (%2$s AND (e.pgh_operation IN ('D', 'T') OR e.pgh_operation = 'B' AND e.%4$I IS NOT NULL)
                    OR %3$s AND e.pgh_operation = 'U')
             ORDER BY e.pgh_id LIMIT 1
            $query$,
            pghistory._table_name(event_table),
            pghistory._event_identity_text(event_table, obj_key, held, obj, 'e'),
            pghistory._event_identity_text(event_table, obj_key, others, obj, 'e'),
            others[1],
            pghistory._key_text(event_table, held, obj_key, 'e'),
            pghistory._key_text(event_table, others, obj_key, 'e'))
           INTO step USING after_event;
        EXIT WHEN step.obj IS NULL;
        obj := step.obj;
        after_event := step.pgh_id;
    END LOOP;
    RETURN obj;
END
$function$;

-- Runs a statement that writes to a table of the user's, under the search_path that its triggers expect.
CREATE FUNCTION pghistory._write_event(statement text, event anyelement, search_path text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    result jsonb;
BEGIN
    PERFORM set_config('search_path', search_path, true);
    EXECUTE statement INTO result USING event;
    RETURN result;
END
$function$;

CREATE FUNCTION pghistory._revert(event anyelement, search_path text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    source CONSTANT regclass := (SELECT t.typrelid FROM pg_type AS t WHERE t.oid = pg_typeof(event));
    registered record;
    columns record;
    given record;
    missing text;
    obj text;
    identity text;
    result jsonb;
BEGIN
    IF source IS NULL OR NOT pghistory._is_event_table(source) THEN
        RAISE EXCEPTION 'revert() needs an event, not %', pg_typeof(event)
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Give a row of an event table: '
                         'SELECT pghistory.revert(e) FROM users_event AS e WHERE pgh_id = 7.';
    END IF;
    PERFORM pghistory._check_not_null('event', event IS NOT DISTINCT FROM NULL);
    SELECT * INTO registered FROM pghistory.event_table AS e WHERE e.event_table = source;
    IF pghistory._table_name(registered."table") IS NULL THEN
        RAISE EXCEPTION 'table %.% was dropped', quote_ident(registered.table_schema),
                quote_ident(registered.table_name)
            USING ERRCODE = 'undefined_table',
                  HINT = 'Create it again and track it; then it takes its events over.';
    END IF;
    EXECUTE format('SELECT ($1).pgh_id AS id, ($1).pgh_label AS label, ($1).pgh_operation AS operation, %s AS obj '
                   'FROM (SELECT ($1).*) AS e',
                   pghistory._key_text(source, pghistory._object_columns(registered.obj_key), registered.obj_key, 'e'))
       INTO given USING event;
    SELECT string_agg(c.name, ', ' ORDER BY c.number) INTO missing
      FROM pghistory._columns(registered."table") AS c
     WHERE NOT EXISTS (SELECT FROM pghistory.event_column AS m
                        WHERE m.event_table = source AND m.table_column_number = c.number)
        OR c.name <> ALL (COALESCE((SELECT pghistory._tracked_fields(t."table", t.fields, t.exclude)
                                      FROM pghistory.tracker AS t
                                     WHERE t.event_table = source AND t.label = given.label), ARRAY[c.name]));
    IF missing IS NOT NULL OR given.obj IS NULL THEN
        RAISE EXCEPTION 'event %:% does not hold the whole row', pghistory._table_name(source), given.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It is without %s.', COALESCE(missing, 'the key')),
                  HINT = 'Rows can be put back to events that hold every column and name their object.';
    END IF;

    -- A before-image is of the row as it was when its key was still the one before.
    obj := pghistory._key_of_today(source, given.obj, given.id - CASE WHEN given.operation = 'B' THEN 1 ELSE 0 END);
    identity := pghistory._identity_text(registered."table", pghistory._object_identity(registered.obj_key, obj));
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.number) AS names,
           string_agg(format('($1).%I::%s', c.held, c.type_text), ', ' ORDER BY c.number) AS "values",
           string_agg(format('%I = ($1).%I::%s', c.name, c.held, c.type_text), ', ' ORDER BY c.number)
               FILTER (WHERE c.is_updatable) AS sets
      INTO columns
      FROM pghistory._writable_columns(registered."table", source, given.id) AS c;
    result := pghistory._write_event(
        CASE WHEN columns.sets IS NULL
             THEN format('SELECT pg_catalog.to_jsonb(t) FROM %s AS t WHERE %s',
                         pghistory._rows_text(registered."table"), identity)
             ELSE format('UPDATE %s AS t SET %s WHERE %s RETURNING pg_catalog.to_jsonb(t)',
                         pghistory._rows_text(registered."table"), columns.sets, identity) END,
        event, search_path);
    IF result IS NULL THEN
        result := pghistory._write_event(
            format('INSERT INTO %s AS t (%s) OVERRIDING SYSTEM VALUE VALUES (%s) RETURNING pg_catalog.to_jsonb(t)',
                   pghistory._table_name(registered."table"), columns.names, columns."values"),
            event, search_path);
    END IF;
    IF result IS NULL THEN
        RAISE EXCEPTION 'row % of table % was not written', obj, pghistory._table_name(registered."table")
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A trigger or a rule of the table kept it from being written.';
    END IF;
    RETURN result;
END
$function$;

CREATE FUNCTION pghistory.revert(event anyelement)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
BEGIN
    -- Not pinned, so that triggers of the table see the caller's search_path; all that is called from here on is.
    RETURN pghistory._revert(event, pg_catalog.current_setting('search_path'));
END
$function$;
COMMENT ON FUNCTION pghistory.revert(anyelement) IS
    'Puts an object back to what an event says, inserting it again if it is gone, and returns the row: SELECT '
    'pghistory.revert(e) FROM users_event AS e WHERE pgh_id = 7. Columns that the table got later stay as they are.';
-- What taking back a context or a transaction would do.

-- The tables whose history is kept, and the source that what happened to them is taken back from: before-images need
-- no look at the event before.
CREATE FUNCTION pghistory._undoable_tables(
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
CREATE FUNCTION pghistory._undo_condition(event_table regclass, context_id uuid, xid xid8, alias text)
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
CREATE FUNCTION pghistory._undo_changes_text(event_table regclass, image text, texts jsonb)
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
CREATE FUNCTION pghistory._is_concerned(texts jsonb)
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
CREATE FUNCTION pghistory._key_after_text(event_table regclass, obj_key name[], image text, alias text)
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
CREATE FUNCTION pghistory._undo_texts("table" regclass, source record, context_id uuid, xid xid8)
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
CREATE FUNCTION pghistory._undo_steps(
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
CREATE FUNCTION pghistory._depth("table" regclass)
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
CREATE FUNCTION pghistory._undo_plan(
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
CREATE FUNCTION pghistory._shown_plan(context_id uuid, xid xid8)
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

CREATE FUNCTION pghistory.undo_plan(context_id uuid)
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

CREATE FUNCTION pghistory.undo_transaction_plan(xid xid8)
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
-- Taking back what a context or a transaction did.

-- Is the row there that an event says is gone?
CREATE FUNCTION pghistory._is_there(event_id bigint, texts jsonb)
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
CREATE FUNCTION pghistory._dragging_keys(
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
CREATE FUNCTION pghistory._is_referred_to(
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
CREATE FUNCTION pghistory._write_back(statement text, search_path text, event_id bigint, previous_id bigint)
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
CREATE FUNCTION pghistory._undo_outcome(
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
CREATE FUNCTION pghistory._outcome_statement(
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
CREATE FUNCTION pghistory._are_references_back(
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
CREATE FUNCTION pghistory._undo_at_once(
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
CREATE FUNCTION pghistory._undo_statement(
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
CREATE FUNCTION pghistory._lock_for_undo(context_id uuid, xid xid8)
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
CREATE FUNCTION pghistory._refuse_undo(subject text, conflicts text[], may_force boolean)
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
CREATE FUNCTION pghistory._take_step(
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
CREATE FUNCTION pghistory._undo_one_by_one(
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
CREATE FUNCTION pghistory._undo(subject text, context_id uuid, xid xid8, force boolean, search_path text)
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
CREATE FUNCTION pghistory._undo_in_context(
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

CREATE FUNCTION pghistory.undo(context_id uuid, force boolean DEFAULT false)
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

CREATE FUNCTION pghistory.undo_transaction(xid xid8, force boolean DEFAULT false)
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

-- upkeep
-- Upkeep: finding what is wrong, and repairing it.

-- The tracked tables that the caller may look after: one, if it is named, or all.
CREATE FUNCTION pghistory._own_tracked_tables("table" regclass)
 RETURNS SETOF regclass
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF "table" IS NOT NULL THEN
        PERFORM pghistory._check_owner("table");
    END IF;
    IF pghistory._has_state() THEN
        RETURN QUERY
        SELECT DISTINCT e."table"
          FROM pghistory.event_table AS e
               JOIN pg_class AS c ON c.oid = e."table"
               LEFT JOIN pg_class AS ec ON ec.oid = e.event_table
         WHERE e."table" = COALESCE(_own_tracked_tables."table", e."table")
           AND pg_has_role(c.relowner, 'USAGE')
           AND (ec.oid IS NULL OR pg_has_role(ec.relowner, 'USAGE'));
    END IF;
END
$function$;

-- Brings one tracked table in order.
CREATE FUNCTION pghistory._repair_table("table" regclass, enable boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    guarded regclass;
BEGIN
    INSERT INTO pghistory._request VALUES ('prepare', "table");
    PERFORM pghistory._lock("table");
    PERFORM pghistory._follow_table("table");
    IF enable THEN
        PERFORM pghistory._enable_triggers("table");
        PERFORM pghistory._follow_foreign_key(_repair_table."table", e.event_table)
           FROM pghistory.event_table AS e WHERE e."table" = _repair_table."table" AND e.obj_fk IS NOT NULL;
        FOR guarded IN SELECT e.event_table FROM pghistory.event_table AS e
                        WHERE e."table" = _repair_table."table" AND e.append_only
        LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', pghistory._table_name(guarded),
                           '!pghistory append-only');
        END LOOP;
    END IF;
END
$function$;

-- The same for all that the caller may; one that cannot be brought in order does not keep the others from it.
CREATE FUNCTION pghistory._repair_tables(enable boolean)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    reason text;
BEGIN
    IF pghistory._has_state() THEN
        INSERT INTO pghistory._request VALUES ('forget dropped tables');
    END IF;
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables(NULL) LOOP
        BEGIN
            PERFORM pghistory._repair_table(tracked, enable);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'the history of table % could not be brought in order: %', tracked, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'See pghistory.verify().';
        END;
    END LOOP;
END
$function$;

CREATE FUNCTION pghistory.sync("table" regclass DEFAULT NULL)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    tracked regclass;
BEGIN
    IF "table" IS NULL THEN
        PERFORM pghistory._repair_tables(false);
    END IF;
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables("table") WHERE "table" IS NOT NULL LOOP
        PERFORM pghistory._repair_table(tracked, false);
    END LOOP;
    IF "table" IS NOT NULL AND tracked IS NULL AND pghistory._is_tracked("table") THEN
        RAISE EXCEPTION 'must be owner of the event tables of %', pghistory._table_name("table")
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Let their owner call sync().';
    END IF;
END
$function$;
COMMENT ON FUNCTION pghistory.sync(regclass) IS
    'Makes event tables and triggers follow their tables after DDL, where event triggers may not do it: one table, '
    'or all that the caller owns.';

CREATE FUNCTION pghistory.refresh()
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
BEGIN
    -- What a restore left to another role becomes the extension's owner's first.
    IF has_function_privilege('pghistory._ensure_state()', 'EXECUTE')
       AND EXISTS (SELECT FROM pghistory._state_relations())
    THEN
        PERFORM pghistory._ensure_state();
    END IF;
    PERFORM pghistory._repair_tables(true);
END
$function$;
COMMENT ON FUNCTION pghistory.refresh() IS
    'Repairs what verify() finds, on all tables that the caller owns; '
    'call it after ALTER EXTENSION pghistory UPDATE.';

-- What an event table lacks to hold what its trackers write: the columns of ours, and those of the table, which may
-- have other names there.
CREATE FUNCTION pghistory._event_table_problems("table" regclass, event_table regclass)
 RETURNS SETOF text
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH tracked AS (
        SELECT DISTINCT field
          FROM pghistory.tracker AS t
               CROSS JOIN LATERAL unnest(pghistory._tracked_fields(t."table", t.fields, t.exclude)) AS field
         WHERE t.event_table = _event_table_problems.event_table AND t."table" = _event_table_problems."table"
    ), needed AS (
        SELECT c.name, c.type_id, c.type_modifier, c.collation_id, c.required
          FROM pghistory.event_table AS e
               CROSS JOIN LATERAL pghistory._event_columns(e."table", '{}', e.obj_key, e.context) AS c
         WHERE e.event_table = _event_table_problems.event_table
        UNION ALL
        SELECT COALESCE(m.column_name, c.name), t.type_id, t.type_modifier, c.collation_id, true
          FROM tracked AS r
               JOIN pghistory._columns(_event_table_problems."table") AS c ON c.name = r.field
               CROSS JOIN LATERAL pghistory._event_type(c.type_id, c.type_modifier) AS t
               LEFT JOIN pghistory.event_column AS m
                      ON m.event_table = _event_table_problems.event_table AND m.table_column_name = c.name
         WHERE m.column_name IS NOT NULL OR NOT pghistory._is_reserved_name(c.name)
    )
    SELECT CASE WHEN a.attname IS NULL THEN format('column "%s" is missing', n.name)
                ELSE format('column "%s" is %s, not %s', n.name,
                            pghistory._type_text(a.atttypid, a.atttypmod, a.attcollation),
                            pghistory._type_text(n.type_id, n.type_modifier, n.collation_id)) END
      FROM needed AS n
           LEFT JOIN pg_attribute AS a
                  ON a.attrelid = _event_table_problems.event_table AND a.attname = n.name AND NOT a.attisdropped
     WHERE (n.required OR a.attname IS NOT NULL)
       AND NOT pghistory._holds(_event_table_problems.event_table, n.name, n.type_id, n.type_modifier,
                                n.collation_id)
    UNION ALL
    SELECT format('column "%s" should be called "%s"', m.column_name, m.table_column_name)
      FROM pghistory.event_column AS m
     WHERE m.event_table = _event_table_problems.event_table AND m.column_name <> m.table_column_name
       AND NOT pghistory._is_reserved_name(m.table_column_name);
END
$function$;

-- What is wrong with the generated function of a trigger or of create_event(), or null.
CREATE FUNCTION pghistory._function_problem(
    function text, arguments text, settings text[], body text, event_table regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT CASE
           WHEN p.oid IS NULL THEN 'function is missing'
           WHEN NOT p.prosecdef OR p.proconfig IS DISTINCT FROM settings
           THEN 'function is not SECURITY DEFINER with a pinned search_path'
           WHEN p.proowner::regrole <> pghistory._owner(event_table)
           THEN 'function does not belong to the owner of the event table'
           WHEN p.prosrc <> body THEN 'function is not what this version of pghistory writes'
           WHEN arguments = '' AND pghistory._is_open_to_all(p.oid)
           THEN 'function can be attached to tables by anybody'
           END
      FROM (SELECT to_regprocedure(format('%s(%s)', function, arguments)) AS oid) AS f
           LEFT JOIN pg_proc AS p ON p.oid = f.oid
$function$;

-- What is wrong with the tracking of one table.
CREATE FUNCTION pghistory._table_problems(
    "table" regclass, OUT object text, OUT problem text, OUT hint text)
 RETURNS SETOF record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    repair CONSTANT text := 'Call pghistory.refresh().';
    relation CONSTANT text := pghistory._table_name("table");
    this record;
BEGIN
    FOR this IN
        SELECT e.*, ec.oid IS NOT NULL AS is_there
          FROM pghistory.event_table AS e LEFT JOIN pg_class AS ec ON ec.oid = e.event_table
         WHERE e."table" = _table_problems."table"
           AND EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = e.event_table)
         ORDER BY e.event_table::text
    LOOP
        hint := repair;
        IF NOT this.is_there THEN
            object := format('event table %s', this.event_table);
            problem := 'event table is missing';
            RETURN NEXT;
            RETURN;
        END IF;
        object := format('event table %s', pghistory._table_name(this.event_table));
        FOR problem IN SELECT p FROM pghistory._event_table_problems("table", this.event_table) AS p LOOP
            RETURN NEXT;
        END LOOP;
        IF this.append_only AND NOT EXISTS (
               SELECT FROM pg_trigger AS t
                WHERE t.tgrelid = this.event_table AND t.tgname = '!pghistory append-only'
                  AND t.tgenabled IN ('A', 'O'))
        THEN
            problem := 'event table is not guarded as append-only';
            RETURN NEXT;
        END IF;
        IF this.obj_fk IS NOT NULL AND NOT EXISTS (
               SELECT FROM pg_constraint WHERE conrelid = this.event_table AND conname = 'pghistory_obj_fk')
        THEN
            problem := 'foreign key to the object is missing';
            RETURN NEXT;
        END IF;
        problem := pghistory._unwritable(this.event_table, ARRAY(
            SELECT c.name FROM pghistory._event_columns("table", '{}', this.obj_key, this.context) AS c
            UNION ALL
            SELECT m.column_name FROM pghistory.event_column AS m WHERE m.event_table = this.event_table));
        IF problem IS NOT NULL THEN
            hint := CASE WHEN problem LIKE '%must not be null%'
                         THEN 'Give the column a default, or drop its NOT NULL.'
                         WHEN problem LIKE '%is generated' THEN 'Drop its expression or its identity.'
                         ELSE repair END;
            RETURN NEXT;
            hint := repair;
        END IF;
        object := format('function %s(text, text)', this.by_hand);
        problem := pghistory._function_problem(
            this.by_hand, 'text, text', pghistory._function_settings('by hand'),
            pghistory._by_hand_body("table", this.event_table), this.event_table);
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;

    FOR this IN SELECT t.label FROM pghistory.tracker AS t
                 WHERE t."table" = _table_problems."table" AND t.condition_is_void ORDER BY t.ordinal
    LOOP
        object := format('tracker %L on %s', this.label, relation);
        problem := 'condition names what is gone or of another type: events are written without it';
        hint := 'Call pghistory.track() for it again.';
        RETURN NEXT;
    END LOOP;

    FOR this IN SELECT c.name FROM pghistory._columns("table") AS c
                 WHERE pghistory._is_reserved_name(c.name)
                   AND NOT EXISTS (SELECT FROM pghistory.event_column AS m
                                        JOIN pghistory.event_table AS e USING (event_table)
                                    WHERE e."table" = _table_problems."table" AND m.table_column_name = c.name)
    LOOP
        object := format('column %I of %s', this.name, relation);
        problem := 'column has a name that event tables need, and is not recorded';
        hint := 'Rename the column.';
        RETURN NEXT;
    END LOOP;

    IF (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = "table")
       AND EXISTS (SELECT FROM pghistory._operations("table") AS o WHERE o.operation = 'truncate')
    THEN
        object := format('table %s', relation);
        problem := 'rows that its policies hide from the event table''s owner are not recorded by TRUNCATE';
        hint := 'ALTER TABLE ... NO FORCE ROW LEVEL SECURITY, or give that role a policy for all rows.';
        RETURN NEXT;
    END IF;

    FOR this IN
        SELECT DISTINCT pghistory._owner(o.event_table) AS owner
          FROM pghistory._operations("table") AS o
         WHERE o.operation = 'truncate'
           AND NOT has_table_privilege(pghistory._owner(o.event_table), "table", 'SELECT')
    LOOP
        object := format('table %s', relation);
        problem := format('role %s, who owns the event table, may not read what TRUNCATE removes', this.owner);
        hint := 'Grant SELECT on the table to that role.';
        RETURN NEXT;
    END LOOP;

    hint := repair;
    FOR object IN SELECT format('trigger %I on %s', d.trigger_name, pghistory._table_name(d.relation))
                    FROM pghistory._disabled_triggers("table") AS d
    LOOP
        problem := 'trigger is disabled';
        RETURN NEXT;
    END LOOP;
    FOR object IN
        SELECT format('trigger %I on %s', a.trigger_name, pghistory._table_name(a.relation))
          FROM pghistory._actual_triggers("table") AS a
         WHERE a.relation = _table_problems."table"
           AND NOT EXISTS (SELECT FROM (SELECT DISTINCT t."table"
                                          FROM pghistory._partition_tree(
                                                   pghistory._partition_root(_table_problems."table")) AS p
                                               JOIN pghistory.tracker AS t ON t."table" = p.relation) AS f
                                       CROSS JOIN LATERAL pghistory._desired_triggers(f."table") AS d
                            WHERE d.relation = a.relation AND d.trigger_name = a.trigger_name)
    LOOP
        problem := 'trigger is one too many';
        RETURN NEXT;
    END LOOP;
    FOR this IN
        SELECT d.*, a.trigger_name IS NOT NULL AS is_there, a.enabled, a.definition AS actual_definition
          FROM pghistory._desired_triggers("table") AS d
               LEFT JOIN pghistory._actual_triggers("table") AS a
                      ON a.relation = d.relation AND a.trigger_name = d.trigger_name
    LOOP
        object := format('trigger %I on %s', this.trigger_name, pghistory._table_name(this.relation));
        problem := CASE WHEN NOT this.is_there THEN 'trigger is missing'
                        WHEN this.actual_definition <> this.definition
                        THEN 'trigger is not what this version of pghistory makes'
                   END;
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
        object := format('function %s()', this.function);
        problem := CASE WHEN this.body IS NOT NULL
                        THEN pghistory._function_problem(
                            this.function, '', pghistory._function_settings(this.operation), this.body,
                            this.event_table) END;
        IF problem IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$function$;

CREATE FUNCTION pghistory.verify()
 RETURNS TABLE("table" regclass, object text, problem text, hint text)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    this record;
BEGIN
    FOR object IN SELECT format('%s', s.relation) FROM pghistory._state_relations() AS s WHERE NOT s.is_trusted LOOP
        problem := 'it belongs to another role than the extension';
        hint := 'Let a superuser call pghistory.refresh().';
        RETURN NEXT;
    END LOOP;
    IF NOT pghistory._has_state() THEN
        RETURN;
    END IF;
    FOR "table" IN
        SELECT t."table" FROM pghistory.tracker AS t JOIN pg_class AS c ON c.oid = t."table"
         GROUP BY t."table" ORDER BY t."table"::text
    LOOP
        BEGIN
            FOR this IN SELECT * FROM pghistory._table_problems("table") LOOP
                object := this.object;
                problem := this.problem;
                hint := this.hint;
                RETURN NEXT;
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            object := format('table %s', pghistory._table_name("table"));
            problem := format('its tracking cannot be verified: %s', SQLERRM);
            hint := 'Call pghistory.refresh(), or track() for it again.';
            RETURN NEXT;
        END;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION pghistory.verify() IS
    'One row for each thing that is wrong with tracking, and what to do about it; no rows when all is well.';
-- Event triggers: DDL is followed as soon as it is done.

-- Is this DDL of our own making? Then whoever issued it sees to the rest. The lines of the context are in the
-- server's language, and those that quote a statement do not count.
CREATE FUNCTION pghistory._is_own_ddl(context text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT count(*) > 1 FROM regexp_matches(context, $re$^[^"»«„“”]*\mpghistory[.][a-z_]+[(]$re$, 'gn')
$function$;

-- Is a dump being restored? It brings the triggers itself, one by one, and the foreign keys of the registry
-- after them.
CREATE FUNCTION pghistory._is_restoring()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT current_setting('application_name') = 'pg_restore'
        OR current_setting('pghistory.installing', true) = 'on'
        OR NOT EXISTS (SELECT FROM pg_constraint
                        WHERE conrelid = to_regclass('pghistory.tracker') AND conname = 'tracker_event_table_fkey')
$function$;

-- A table that is a partition, a parent or a child no longer may have statement-level triggers again, and is not
-- named by the command that made it so.
CREATE FUNCTION pghistory._may_leave_row_level(
    "table" regclass, event_table regclass, others_changed boolean)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT (others_changed
            OR c.relhassubclass AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))
       AND c.relkind = 'r' AND NOT c.relispartition
       AND EXISTS (SELECT FROM pg_trigger AS t
                    WHERE t.tgrelid = c.oid
                      AND t.tgname = pghistory._trigger_name("table", event_table, 'insert', 'row'))
      FROM pg_class AS c
     WHERE c.oid = "table"
$function$;

-- What DDL touched follows it; what cannot follow is left to sync(), and never in the way of the DDL.
CREATE FUNCTION pghistory._follow_tables(tables regclass[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    tracked regclass;
    reason text;
BEGIN
    FOREACH tracked IN ARRAY tables LOOP
        BEGIN
            PERFORM pghistory._follow_table(tracked);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'the history of table % could not follow: %', tracked, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'See pghistory.verify(), and call pghistory.sync().';
            -- The table must stay writable all the same.
            PERFORM pghistory._follow_registry(tracked);
        END;
    END LOOP;
END
$function$;

-- Old values must not stand in the way of DDL on types. A column that keeps them for nobody any more becomes text
-- before its type may go or change; one of a domain becomes its base type before values are checked again. Only of
-- types that this session may change.
CREATE FUNCTION pghistory._release_types(tag text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    held record;
    reason text;
BEGIN
    IF tag NOT IN ('ALTER DOMAIN', 'ALTER TYPE', 'DROP TYPE', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP SCHEMA') THEN
        RETURN;
    END IF;
    FOR held IN
        SELECT e.event_table, a.attname, a.atttypid, a.atttypmod, a.attcollation
          FROM pghistory.event_table AS e
               JOIN pg_attribute AS a ON a.attrelid = e.event_table AND a.attnum > 0 AND NOT a.attisdropped
               JOIN pg_type AS t ON t.oid = a.atttypid AND t.typnamespace <> 'pg_catalog'::regnamespace
               JOIN pg_namespace AS n ON n.oid = t.typnamespace
         WHERE (pg_has_role(session_user, t.typowner, 'USAGE') OR pg_has_role(session_user, n.nspowner, 'USAGE'))
           AND (tag <> 'ALTER DOMAIN' OR t.typtype = 'd')
           AND (starts_with(col_description(a.attrelid, a.attnum), 'Kept by pghistory: ')
                OR tag = 'ALTER DOMAIN'
                   AND EXISTS (SELECT FROM pghistory.event_column AS c
                                WHERE c.event_table = e.event_table AND c.column_name = a.attname))
    LOOP
        CONTINUE WHEN NOT pghistory._may_rewrite(held.event_table)
                   OR NOT (tag = 'ALTER DOMAIN'
                           OR pghistory._is_trusted(held.event_table)
                           OR pghistory._is_harmless_cast(held.atttypid, 'text'::regtype));
        BEGIN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', pghistory._table_name(held.event_table),
                           held.attname,
                           CASE WHEN tag = 'ALTER DOMAIN'
                                THEN (SELECT pghistory._type_text(b.type_id, b.type_modifier, held.attcollation)
                                        FROM pghistory._base_type(held.atttypid, held.atttypmod) AS b)
                                ELSE 'text' END);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
            RAISE WARNING 'column "%" of event table % keeps its type: %', held.attname, held.event_table, reason
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Change it by hand if it stands in the way.';
        END;
    END LOOP;
END
$function$;

-- The event triggers. They run as whoever issues DDL, and must neither fail it nor ask him for rights: what they do
-- is done as the owner of the extension.

-- A restored registry has the names of columns right, and their numbers from another life: before names change, it
-- learns the numbers of this one.
CREATE FUNCTION pghistory._before_ddl()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT pghistory._has_state() OR pghistory._is_restoring() OR pghistory._is_own_ddl(context) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_control_system() AS s
                           CROSS JOIN pghistory.event_table AS e
                           LEFT JOIN pg_class AS c ON c.oid = e."table"
                WHERE e."table" IS NOT NULL
                  AND (c.oid IS NULL OR e.origin <> format('%s/%s', s.system_identifier, c.oid)))
       OR EXISTS (SELECT FROM pghistory.tracker AS t JOIN pghistory.event_table AS e ON e.event_table = t.event_table
                   WHERE e."table" IS DISTINCT FROM t."table")
    THEN
        PERFORM pghistory._forget_dropped_tables();
        PERFORM pghistory._follow_tables(ARRAY(
            SELECT DISTINCT e."table"
              FROM pghistory.event_table AS e
             WHERE e."table" IS NOT NULL AND e.origin <> pghistory._origin(e."table")
               AND EXISTS (SELECT FROM pghistory.tracker AS t WHERE t.event_table = e.event_table)));
    END IF;
    PERFORM pghistory._release_types(tg_tag);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pghistory could not prepare for this DDL: %', SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'See pghistory.verify(), and call pghistory.sync().';
END
$function$;

CREATE FUNCTION pghistory._after_ddl()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    context text;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT pghistory._has_state() OR pghistory._is_restoring() OR pghistory._is_own_ddl(context) THEN
        RETURN;
    END IF;
    PERFORM pghistory._follow_tables(ARRAY(
        WITH touched AS (
            SELECT c.classid, c.objid, r.relation, k.reltype AS row_type,
                   k.relkind = 'p' OR k.relhassubclass AS relation_has_children
              FROM pg_event_trigger_ddl_commands() AS c
                   CROSS JOIN LATERAL (
                       SELECT CASE c.classid
                              WHEN 'pg_class'::regclass THEN c.objid
                              WHEN 'pg_trigger'::regclass
                              THEN (SELECT tgrelid FROM pg_trigger AS g WHERE g.oid = c.objid)
                              END AS relation) AS r
                   LEFT JOIN pg_class AS k ON k.oid = r.relation
        )
        SELECT DISTINCT t."table"
          FROM touched AS d
               CROSS JOIN pghistory.tracker AS t
               JOIN pg_class AS tc ON tc.oid = t."table"
               LEFT JOIN pg_class AS ec ON ec.oid = t.event_table
         WHERE d.relation IN (t."table", t.event_table)
            OR CASE WHEN d.relation_has_children OR tc.relhassubclass
                    THEN pghistory._may_leave_row_level(t."table", t.event_table, d.relation_has_children) END
            OR t."table" IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = d.relation)
            OR t."table" IN (SELECT relid FROM pg_partition_tree(d.relation))
            OR t."table" IN (SELECT relid FROM pg_partition_ancestors(d.relation))
            OR t."table" IN (SELECT inhparent FROM pg_inherits WHERE inhrelid = d.relation)
            OR t."table" IN (SELECT confrelid FROM pg_constraint WHERE conrelid = d.relation AND contype = 'f')
            OR d.classid = 'pg_namespace'::regclass AND d.objid IN (tc.relnamespace, ec.relnamespace)
            OR d.classid = 'pg_extension'::regclass AND t.condition_objects <> '[]'
            OR d.classid IN ('pg_type'::regclass, 'pg_namespace'::regclass) AND EXISTS (
               SELECT FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = a.atttypid
                WHERE a.attrelid = tc.oid AND a.attnum > 0
                  AND d.objid IN (y.oid, y.typelem, y.typbasetype, y.typnamespace))
            OR EXISTS (SELECT FROM jsonb_to_recordset(t.condition_objects) AS o(class text, id text, schema text)
                        WHERE o.class = d.classid::regclass::text AND o.id = d.objid::text
                           OR o.class = 'pg_type' AND o.id = d.row_type::text
                           OR d.classid = 'pg_namespace'::regclass AND o.schema = d.objid::text)));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pghistory could not follow this DDL: %', SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'See pghistory.verify(), and call pghistory.sync().';
END
$function$;

CREATE FUNCTION pghistory._after_drop()
 RETURNS event_trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    context text;
    gone record;
BEGIN
    GET DIAGNOSTICS context = PG_CONTEXT;
    IF NOT pghistory._has_state() OR pghistory._is_restoring() OR pghistory._is_own_ddl(context) THEN
        RETURN;
    END IF;
    -- A dropped event table ends its trackers; a dropped table keeps its events.
    FOR gone IN
        SELECT e.event_table, e."table", d.objid = e.event_table::oid AS events_are_gone, e.by_hand
          FROM pg_event_trigger_dropped_objects() AS d
               JOIN pghistory.event_table AS e ON d.objid IN (e.event_table, e."table")
         WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
    LOOP
        DELETE FROM pghistory.tracker AS t WHERE t.event_table = gone.event_table;
        IF gone.events_are_gone THEN
            DELETE FROM pghistory.event_table AS e WHERE e.event_table = gone.event_table;
        ELSE
            UPDATE pghistory.event_table AS e
               SET "table" = NULL, by_hand = NULL
             WHERE e.event_table = gone.event_table;
            PERFORM pghistory._drop_generated_functions(gone.event_table);
        END IF;
        PERFORM pghistory._drop_function(to_regprocedure(gone.by_hand || '(text, text)'))
          WHERE NOT EXISTS (SELECT FROM pghistory.event_table AS e WHERE e.by_hand = gone.by_hand);
        IF EXISTS (SELECT FROM pg_class WHERE oid = gone."table") THEN
            PERFORM pghistory._follow_tables(ARRAY[gone."table"]);
        END IF;
    END LOOP;
    -- Columns, triggers, and what conditions call.
    PERFORM pghistory._follow_tables(ARRAY(
        SELECT DISTINCT t."table"
          FROM pg_event_trigger_dropped_objects() AS d
               CROSS JOIN pghistory.tracker AS t
               JOIN pg_class AS tc ON tc.oid = t."table"
         WHERE d.classid = 'pg_class'::regclass AND d.objsubid <> 0 AND d.objid IN (t."table", t.event_table)
            OR d.object_type = 'trigger' AND d.address_names[3] !~ '^! ?pghistory '
               AND to_regclass(format('%I.%I', d.address_names[1], d.address_names[2])) = t."table"
            OR CASE WHEN d.classid = 'pg_class'::regclass AND tc.relhassubclass
                    THEN pghistory._may_leave_row_level(t."table", t.event_table, false) END
            OR EXISTS (SELECT FROM jsonb_to_recordset(t.condition_objects) AS o(class text, id text)
                        WHERE o.class = d.classid::regclass::text AND o.id = d.objid::text)));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pghistory could not follow this DDL: %', SQLERRM
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'See pghistory.verify(), and call pghistory.sync().';
END
$function$;

DO $event_triggers$
DECLARE
    tags CONSTANT text := $tags$'ALTER TABLE', 'CREATE SCHEMA', 'CREATE TABLE', 'CREATE FOREIGN TABLE',
        'ALTER FOREIGN TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN',
        'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER OPERATOR', 'ALTER COLLATION', 'ALTER EXTENSION'$tags$;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'pghistory_after_ddl') THEN
        DROP EVENT TRIGGER pghistory_before_ddl;
        DROP EVENT TRIGGER pghistory_after_ddl;
        DROP EVENT TRIGGER pghistory_after_drop;
    END IF;
    EXECUTE 'CREATE EVENT TRIGGER pghistory_before_ddl ON ddl_command_start WHEN TAG IN (' || tags
            || $tags$, 'DROP TYPE', 'DROP DOMAIN', 'DROP EXTENSION', 'DROP SCHEMA') EXECUTE$tags$
            || ' FUNCTION pghistory._before_ddl()';
    EXECUTE 'CREATE EVENT TRIGGER pghistory_after_ddl ON ddl_command_end WHEN TAG IN (' || tags
            || ') EXECUTE FUNCTION pghistory._after_ddl()';
    CREATE EVENT TRIGGER pghistory_after_drop ON sql_drop
        EXECUTE FUNCTION pghistory._after_drop();
    -- also in sessions that switched triggers off: loading data, they change tables all the same
    ALTER EVENT TRIGGER pghistory_before_ddl ENABLE ALWAYS;
    ALTER EVENT TRIGGER pghistory_after_ddl ENABLE ALWAYS;
    ALTER EVENT TRIGGER pghistory_after_drop ENABLE ALWAYS;
    ALTER FUNCTION pghistory._before_ddl() SET session_replication_role TO 'origin';
    ALTER FUNCTION pghistory._after_ddl() SET session_replication_role TO 'origin';
    ALTER FUNCTION pghistory._after_drop() SET session_replication_role TO 'origin';
    COMMENT ON EVENT TRIGGER pghistory_before_ddl IS 'Prepares the history of tracked tables for DDL.';
    COMMENT ON EVENT TRIGGER pghistory_after_ddl IS 'Makes event tables and triggers follow DDL on tracked tables.';
    COMMENT ON EVENT TRIGGER pghistory_after_drop IS
        'Ends tracking where tables, event tables or what conditions name are dropped.';
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'event triggers may not be created here: call pghistory.sync() after DDL on tracked tables'
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Let a superuser install the extension to have DDL followed at once.';
END
$event_triggers$;
-- capture(): nobody stays anonymous who should not.

CREATE FUNCTION pghistory.capture(VARIADIC keys text[] DEFAULT '{}')
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET quote_all_identifiers TO 'off'
AS $function$
DECLARE
    owner CONSTANT oid := (SELECT proowner FROM pg_proc WHERE oid = 'pghistory._capturing()'::regprocedure);
    known CONSTANT text[] := ARRAY(SELECT jsonb_object_keys(pghistory._session_facts()) ORDER BY 1);
    key text;
    tracked regclass;
BEGIN
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of extension pghistory'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Ask role %s to call it.', owner::regrole);
    END IF;
    FOREACH key IN ARRAY keys LOOP
        PERFORM pghistory._check_not_null('key', key IS NULL);
        PERFORM pghistory._check_choice('key', key, known);
    END LOOP;
    PERFORM pghistory._ensure_state();
    DELETE FROM pghistory.capture_key AS k WHERE k.key <> ALL (keys);
    INSERT INTO pghistory.capture_key SELECT DISTINCT k FROM unnest(keys) AS k ON CONFLICT DO NOTHING;
    PERFORM pghistory._settle_capturing();
    -- Whether the writer's role is noted is a matter of triggers. Those on tables that the caller does not own come
    -- with their owner's refresh(), which verify() asks for.
    FOR tracked IN SELECT * FROM pghistory._own_tracked_tables(NULL) LOOP
        PERFORM pghistory._lock(tracked);
        PERFORM pghistory._apply_triggers(tracked);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION pghistory.capture(text[]) IS
    'Makes every transaction that writes events have a context whose metadata holds these facts under "session": '
    'application_name, backend_pid, client_addr, client_port, current_user (the role in force at the write), '
    'database, query (of the first event), session_user, transaction_start. Without arguments: none, as at first. '
    'For the extension''s owner.';
-- Who may call what. PUBLIC has nothing by default; all that it has is given here. What is not named is for the
-- owner of the extension: functions that act with his rights.

REVOKE ALL ON ALL ROUTINES IN SCHEMA pghistory FROM PUBLIC;

GRANT USAGE ON SCHEMA pghistory TO PUBLIC;

-- The door to the registry: a trigger checks who comes in.
GRANT INSERT ON pghistory._request TO PUBLIC;

-- The public functions. They run as their caller.
GRANT EXECUTE ON FUNCTION
    pghistory.add_context, pghistory.all_change, pghistory.all_dont_change, pghistory.any_change,
    pghistory.any_dont_change, pghistory.as_of, pghistory.backfill, pghistory.capture, pghistory.clear_context,
    pghistory.create_event(anyelement, text), pghistory.create_event(regclass, text, text),
    pghistory.create_event_table, pghistory.current_context, pghistory.events, pghistory.references,
    pghistory.refresh, pghistory.revert, pghistory.set_context, pghistory.sync, pghistory.track, pghistory.trackers,
    pghistory.undo, pghistory.undo_plan, pghistory.undo_transaction, pghistory.undo_transaction_plan,
    pghistory.untrack, pghistory.verify, pghistory.versions
    TO PUBLIC;

-- The private functions that these call, as their caller, and those that generated functions and triggers call, as
-- the owner of the event table. Whoever calls one himself does so with his own rights. Of those that run with the
-- rights of the extension's owner, _attach_context, _read_inline_context and _use_permit look at the caller's own
-- transaction only, and _context_of_event wants to be told what only an event says.

GRANT EXECUTE ON FUNCTION  -- catalog.sql
    pghistory._table_name, pghistory._owner, pghistory._columns, pghistory._last_event, pghistory._missing_value,
    pghistory._is_filled, pghistory._is_of_this_transaction, pghistory._base_type, pghistory._event_type,
    pghistory._holds, pghistory._primary_key, pghistory._key_followers, pghistory._foreign_keys_to,
    pghistory._has_row_triggers, pghistory._may_not_fit, pghistory._is_indexable, pghistory._has_index,
    pghistory._row_level_reason, pghistory._partition_tree, pghistory._partition_root,
    pghistory._equality_operator, pghistory._origin
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- trust.sql
    pghistory._is_trusted, pghistory._may_rewrite, pghistory._is_harmless_type, pghistory._is_harmless_cast,
    pghistory._is_harmless_as_json
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- names.sql
    pghistory._fitting_name, pghistory._event_table_name, pghistory._object_columns, pghistory._other_key_columns,
    pghistory._is_reserved_name, pghistory._trigger_function_name, pghistory._trigger_name, pghistory._field,
    pghistory._wrapped, pghistory._rendered
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- objects.sql
    pghistory._object_identity, pghistory._identity_text, pghistory._event_identity_text, pghistory._json_text,
    pghistory._key_text, pghistory._same_object_text, pghistory._qualified
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- state.sql
    pghistory._state_relations, pghistory._has_state, pghistory._extension_is_installed, pghistory._is_event_table,
    pghistory._is_tracked
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- context.sql
    pghistory._read_context, pghistory._capturing, pghistory._session_facts, pghistory._attach_context,
    pghistory._context_id, pghistory._read_inline_context, pghistory._inline_context_id, pghistory._inline_context,
    pghistory._context_of_event, pghistory._checked_metadata
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- requests.sql
    pghistory._check_details, pghistory._use_permit
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- checks.sql
    pghistory._check_not_null, pghistory._check_choice, pghistory._check_event_table_choices,
    pghistory._check_owner, pghistory._check_trackable, pghistory._checked_fields, pghistory._checked_key,
    pghistory._check_foreign_key
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- conditions.sql
    pghistory._row_of, pghistory._change_of, pghistory._tracked_any_change, pghistory._tracked_all_change,
    pghistory._tracked_any_dont_change, pghistory._tracked_all_dont_change, pghistory._parse_only,
    pghistory._condition_events, pghistory._meaning, pghistory._object_text, pghistory._objects_named,
    pghistory._depends_on_role, pghistory._portable_condition, pghistory._deparsed_condition,
    pghistory._parse_condition, pghistory._check_single_expression, pghistory._normalised_condition,
    pghistory._renamed_condition, pghistory._renamed_columns, pghistory._renamed_objects, pghistory._still_parses
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- event_table.sql
    pghistory._event_columns, pghistory._type_text, pghistory._copy_storage, pghistory._refuse_change,
    pghistory._set_append_only, pghistory._set_foreign_key, pghistory._create_event_indexes,
    pghistory._create_event_table, pghistory._unwritable, pghistory._misfit, pghistory._parsed_event_table,
    pghistory._tracked_fields
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- templates.sql
    pghistory._operations, pghistory._change_text, pghistory._condition_text, pghistory._insert_text,
    pghistory._event_text, pghistory._header_text, pghistory._trigger_statements, pghistory._trigger_body,
    pghistory._by_hand_body
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- triggers.sql
    pghistory._is_generated, pghistory._own_function_name, pghistory._trigger_relations,
    pghistory._trigger_definition, pghistory._note_writer, pghistory._desired_triggers, pghistory._actual_triggers,
    pghistory._is_open_to_all, pghistory._function_settings, pghistory._depend_on_extension,
    pghistory._ensure_function, pghistory._drop_function, pghistory._drop_generated_functions,
    pghistory._apply_triggers, pghistory._disabled_triggers, pghistory._enable_triggers, pghistory._apply_by_hand
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- follow.sql
    pghistory._mark_kept, pghistory._keep_dropped, pghistory._set_aside, pghistory._ensure_column,
    pghistory._retype_column, pghistory._rename_columns, pghistory._current_names, pghistory._may_compute,
    pghistory._computes, pghistory._is_rewritten, pghistory._follow_columns, pghistory._note_rewrites,
    pghistory._was_constant, pghistory._is_lost, pghistory._fill_key, pghistory._follow_foreign_key,
    pghistory._follow_key, pghistory._condition_renames, pghistory._column_numbers, pghistory._follow_trackers,
    pghistory._restore_own_columns, pghistory._follow_event_table, pghistory._follow_registry,
    pghistory._follow_table
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- track.sql
    pghistory._register_event_table, pghistory._register_tracker, pghistory._add_missing_columns,
    pghistory._find_event_table, pghistory._check_statement_level, pghistory._lock, pghistory._track,
    pghistory._drop_events, pghistory._tracker_status, pghistory._definition
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- create_event.sql
    pghistory._table_with_label
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- events.sql
    pghistory._data_text, pghistory._previous_value_text, pghistory._diff_text, pghistory._has_moves,
    pghistory._key_before_text, pghistory._previous_event_text, pghistory._events_query,
    pghistory._events_condition, pghistory._run_events, pghistory._values_of_object, pghistory._referring_condition
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- history.sql
    pghistory._table_of_type, pghistory._time_text, pghistory._happened_text, pghistory._had_happened,
    pghistory._history_sources, pghistory._check_history_is_kept, pghistory._history_source,
    pghistory._refuse_to_guess, pghistory._refuse_vanished, pghistory._refuse_to_choose,
    pghistory._refuse_to_guess_value, pghistory._past_columns, pghistory._row_columns, pghistory._check_unique_key,
    pghistory._recorded_text, pghistory._snapshot_text, pghistory._history_texts
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- as_of.sql
    pghistory._has_many_events, pghistory._keys_text, pghistory._walk_template, pghistory._known_keys_template,
    pghistory._rows_after_template, pghistory._told_rows_template, pghistory._replaced_rows_template,
    pghistory._after_images_template, pghistory._balanced_departures, pghistory._complete_images_template,
    pghistory._before_images_template, pghistory._as_of_query
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- versions.sql
    pghistory._after_versions_template, pghistory._before_versions_template, pghistory._time_of
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- backfill.sql
    pghistory._backfill_label, pghistory._backfill_pages
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- revert.sql
    pghistory._writable_columns, pghistory._rows_text, pghistory._key_of_today, pghistory._write_event,
    pghistory._revert
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- undo_plan.sql
    pghistory._undoable_tables, pghistory._undo_condition, pghistory._undo_changes_text, pghistory._is_concerned,
    pghistory._key_after_text, pghistory._undo_texts, pghistory._undo_steps, pghistory._depth,
    pghistory._undo_plan, pghistory._shown_plan
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- undo.sql
    pghistory._is_there, pghistory._dragging_keys, pghistory._is_referred_to, pghistory._write_back,
    pghistory._undo_outcome, pghistory._outcome_statement, pghistory._are_references_back, pghistory._undo_at_once,
    pghistory._undo_statement, pghistory._lock_for_undo, pghistory._refuse_undo, pghistory._take_step,
    pghistory._undo_one_by_one, pghistory._undo, pghistory._undo_in_context
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- upkeep.sql
    pghistory._own_tracked_tables, pghistory._repair_table, pghistory._repair_tables,
    pghistory._event_table_problems, pghistory._function_problem, pghistory._table_problems
    TO PUBLIC;
