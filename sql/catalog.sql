-- What PostgreSQL's catalogs say. Nothing else reads them for tables, columns, keys and triggers.

CREATE OR REPLACE FUNCTION pghistory._table_name("table" regclass)
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

CREATE OR REPLACE FUNCTION pghistory._owner("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._columns(
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
CREATE OR REPLACE FUNCTION pghistory._last_event(event_table regclass)
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
CREATE OR REPLACE FUNCTION pghistory._missing_value("table" regclass, number smallint)
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
CREATE OR REPLACE FUNCTION pghistory._is_filled("table" regclass, number smallint)
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
CREATE OR REPLACE FUNCTION pghistory._is_of_this_transaction("table" regclass, number smallint)
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
CREATE OR REPLACE FUNCTION pghistory._base_type(
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
CREATE OR REPLACE FUNCTION pghistory._event_type(INOUT type_id oid, INOUT type_modifier integer)
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
CREATE OR REPLACE FUNCTION pghistory._holds(
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

CREATE OR REPLACE FUNCTION pghistory._primary_key("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._key_followers("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._foreign_keys_to(
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
CREATE OR REPLACE FUNCTION pghistory._has_row_triggers("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._may_not_fit("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._is_indexable(type_id oid, method name)
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
CREATE OR REPLACE FUNCTION pghistory._has_index("table" regclass, fields name[])
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
CREATE OR REPLACE FUNCTION pghistory._row_level_reason("table" regclass, operation text)
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
CREATE OR REPLACE FUNCTION pghistory._is_unused("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._partition_tree("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._partition_root("table" regclass)
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
CREATE OR REPLACE FUNCTION pghistory._equality_operator(type_id oid)
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
CREATE OR REPLACE FUNCTION pghistory._origin("table" regclass)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT format('%s/%s', system_identifier, "table"::oid) FROM pg_control_system()
$function$;
