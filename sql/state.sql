-- The tables that outlive the code: contexts and the registry. They are no members of the extension, so that
-- pg_dump carries them as what they are and DROP EXTENSION leaves them; one function creates or upgrades them,
-- on first use.

-- What there is of them, and whose it is.
CREATE OR REPLACE FUNCTION pghistory._state_relations(OUT relation regclass, OUT is_trusted boolean)
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
CREATE OR REPLACE FUNCTION pghistory._has_state()
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
CREATE OR REPLACE FUNCTION pghistory._state_is_current()
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
CREATE OR REPLACE FUNCTION pghistory._take_over_state()
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

CREATE OR REPLACE FUNCTION pghistory._ensure_state()
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
CREATE OR REPLACE FUNCTION pghistory._extension_is_installed()
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pghistory')
$function$;

CREATE OR REPLACE FUNCTION pghistory._is_event_table("table" regclass)
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

CREATE OR REPLACE FUNCTION pghistory._is_tracked("table" regclass)
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
