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
CREATE OR REPLACE FUNCTION pghistory._read_context(OUT id uuid, OUT metadata jsonb, OUT problem text)
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
CREATE OR REPLACE FUNCTION pghistory._warn_of_context(problem text)
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
CREATE OR REPLACE FUNCTION pghistory._capturing()
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$ SELECT NULL::boolean $function$;

CREATE OR REPLACE FUNCTION pghistory._settle_capturing()
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
CREATE OR REPLACE FUNCTION pghistory._session_facts()
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

CREATE OR REPLACE FUNCTION pghistory._captured_facts()
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT jsonb_object_agg(f.key, f.value)
      FROM jsonb_each(pghistory._session_facts()) AS f JOIN pghistory.capture_key AS k ON k.key = f.key
$function$;

-- The id of the context that a transaction gets from us when it has none of its own.
CREATE OR REPLACE FUNCTION pghistory._transaction_context_id()
 RETURNS uuid
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT md5(concat_ws(' ', current_database(), pg_current_xact_id(), transaction_timestamp(),
                         pg_backend_pid()))::uuid
$function$;

-- The context of the event that is being written; its first event in a transaction writes it down.
CREATE OR REPLACE FUNCTION pghistory._attach_context()
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
CREATE OR REPLACE FUNCTION pghistory._context_id()
 RETURNS uuid
 LANGUAGE sql
AS $function$
    SELECT CASE WHEN pg_catalog.current_setting('pghistory.context_id', true) OPERATOR(pg_catalog.<>) ''
                  OR COALESCE(pghistory._capturing(), true)
                THEN pghistory._attach_context()
           END
$function$;

-- The same for events that hold their context themselves.
CREATE OR REPLACE FUNCTION pghistory._read_inline_context(OUT id uuid, OUT metadata jsonb)
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

CREATE OR REPLACE FUNCTION pghistory._inline_context_id()
 RETURNS uuid
 LANGUAGE sql
AS $function$
    SELECT CASE WHEN pg_catalog.current_setting('pghistory.context_id', true) OPERATOR(pg_catalog.<>) ''
                  OR COALESCE(pghistory._capturing(), true)
                THEN (pghistory._read_inline_context()).id
           END
$function$;

CREATE OR REPLACE FUNCTION pghistory._inline_context()
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
CREATE OR REPLACE FUNCTION pghistory._context_of_event(context_id uuid, xid xid8)
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
CREATE OR REPLACE FUNCTION pghistory._checked_metadata(metadata jsonb)
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

CREATE OR REPLACE FUNCTION pghistory.set_context(
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

CREATE OR REPLACE FUNCTION pghistory.add_context(metadata jsonb)
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

CREATE OR REPLACE FUNCTION pghistory.clear_context()
 RETURNS void
 LANGUAGE sql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT set_config('pghistory.context_id', '', false), set_config('pghistory.context_metadata', '', false);
    SELECT
$function$;
COMMENT ON FUNCTION pghistory.clear_context() IS
    'Ends the active context, also one that was set for the session: later events have none.';

CREATE OR REPLACE FUNCTION pghistory.current_context(OUT id uuid, OUT metadata jsonb)
 RETURNS record
 LANGUAGE sql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
    SELECT c.id, CASE WHEN c.id IS NOT NULL THEN c.metadata END FROM pghistory._read_context() AS c
$function$;
COMMENT ON FUNCTION pghistory.current_context() IS
    'The id and the metadata of the active context; both null without one.';
