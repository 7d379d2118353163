-- capture(): nobody stays anonymous who should not.

CREATE OR REPLACE FUNCTION pghistory.capture(VARIADIC keys text[] DEFAULT '{}')
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
