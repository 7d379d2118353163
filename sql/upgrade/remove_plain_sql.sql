-- Removes what plain SQL installed, and leaves every event, every context, the registry, and tables that can be
-- written: what DROP EXTENSION does where pghistory is an extension. After it, in the same transaction,
-- CREATE EXTENSION and pghistory.refresh() go on with what is there, and no write goes unrecorded.
DO $remove$
DECLARE
    path CONSTANT text := pg_catalog.current_setting('search_path');
    ours oid[];
    this record;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF to_regprocedure('pghistory._ensure_state()') IS NULL THEN
        RAISE EXCEPTION 'pghistory is not installed in this database'
            USING ERRCODE = 'undefined_object',
                  HINT = 'There is nothing to remove.';
    ELSIF EXISTS (SELECT FROM pg_extension WHERE extname = 'pghistory') THEN
        RAISE EXCEPTION 'pghistory is an extension in this database, not plain SQL'
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Use DROP EXTENSION pghistory to remove it.';
    END IF;
    FOR this IN SELECT e.evtname FROM pg_event_trigger AS e JOIN pg_proc AS p ON p.oid = e.evtfoid
                 WHERE p.pronamespace = 'pghistory'::regnamespace
    LOOP
        EXECUTE format('DROP EVENT TRIGGER %I', this.evtname);
    END LOOP;
    -- Told by their text, as pghistory._is_generated() tells them: nothing that is there is run, whoever put it there.
    ours := ARRAY(SELECT oid FROM pg_proc
                   WHERE pronamespace = 'pghistory'::regnamespace
                      OR starts_with(prosrc, E'\n-- Written by pghistory: '));
    FOR this IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
                 WHERE tgfoid = ANY (ours) AND NOT tgisinternal AND tgparentid = 0
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', this.tgname, this.relation);
    END LOOP;
    DROP VIEW IF EXISTS pghistory._request;
    DROP TABLE IF EXISTS pghistory._permit;
    -- All at once, since some need others; what somebody else made of them is told, and stops this.
    EXECUTE 'DROP ROUTINE ' || (SELECT string_agg(function::regprocedure::text, ', ') FROM unnest(ours) AS function);
    PERFORM set_config('search_path', path, true);
END
$remove$;
