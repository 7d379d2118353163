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
