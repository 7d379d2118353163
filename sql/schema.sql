-- The schema. It is no member of the extension, so that what people keep in it outlives DROP EXTENSION.

-- Bodies name tables that are made on first use; a test checks them all once these are there.
SET LOCAL check_function_bodies TO off;

DO $schema$
DECLARE
    schema_owner oid := (SELECT nspowner FROM pg_catalog.pg_namespace WHERE nspname = 'pghistory');
    this_role oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user);
BEGIN
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
END
$schema$;

COMMENT ON SCHEMA pghistory IS 'The history of rows: see pghistory.track().';
