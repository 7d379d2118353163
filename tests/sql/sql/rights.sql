-- Rights: who may do what. Nobody here is a superuser.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
DROP ROLE IF EXISTS regress_pghistory_owner, regress_pghistory_writer, regress_pghistory_stranger;
RESET client_min_messages;
CREATE ROLE regress_pghistory_owner;
CREATE ROLE regress_pghistory_writer;
CREATE ROLE regress_pghistory_stranger;
CREATE SCHEMA story_rights AUTHORIZATION regress_pghistory_owner;
GRANT USAGE ON SCHEMA story_rights TO PUBLIC;
SET search_path TO story_rights;

-- The owner of a table tracks it. Event table and functions are his.
SET ROLE regress_pghistory_owner;
CREATE TABLE letter (id integer PRIMARY KEY, body text);
GRANT SELECT, INSERT, UPDATE, DELETE ON letter TO regress_pghistory_writer;
SELECT pghistory.track('letter', 'letter', kind => 'history');
RESET ROLE;
SELECT relname, relowner::regrole FROM pg_class WHERE oid = 'letter_event'::regclass;
SELECT proname, proowner::regrole, prosecdef, proconfig
  FROM pg_proc WHERE pronamespace = 'story_rights'::regnamespace ORDER BY proname COLLATE "C";

-- A writer's changes are recorded. He needs no right on the events, and has none.
SET ROLE regress_pghistory_writer;
INSERT INTO letter VALUES (1, 'Dear');
UPDATE letter SET body = 'Dear all' WHERE id = 1;
SELECT count(*) FROM letter_event;
INSERT INTO letter_event (pgh_label) VALUES ('forged');
UPDATE letter_event SET body = NULL;
DELETE FROM letter_event;
SELECT count(*) FROM pghistory.context;

-- Nor does he decide what is recorded.
SELECT pghistory.track('letter', 'mine');
SELECT pghistory.untrack('letter');
SELECT pghistory.sync('letter');
\set VERBOSITY terse
SELECT pghistory.capture('session_user');
\set VERBOSITY default
INSERT INTO pghistory._request VALUES ('remove tracker', 'letter', NULL, '{"label": "letter"}');
RESET ROLE;

-- The owner of a table cannot have events go to a table of somebody else.
SET ROLE regress_pghistory_owner;
CREATE TABLE audit (pgh_note text);
RESET ROLE;
ALTER TABLE audit OWNER TO regress_pghistory_stranger;
SET ROLE regress_pghistory_owner;
SELECT pghistory.track('letter', 'other', event_table => 'audit');
INSERT INTO pghistory._request VALUES ('forget event table', 'letter', 'audit');
INSERT INTO pghistory._request VALUES ('save tracker', 'letter', 'letter_event', '{"label": 7}');

-- Whom he grants it, may read.
GRANT SELECT ON letter_event TO regress_pghistory_stranger;
SET ROLE regress_pghistory_stranger;
SELECT pgh_operation, pgh_obj_id, body FROM letter_event ORDER BY pgh_id;

-- append_only stops the owner too, until he takes it off.
SET ROLE regress_pghistory_owner;
SELECT pghistory.track('letter', 'letter', kind => 'history', append_only => true);
UPDATE letter_event SET body = NULL;
DELETE FROM letter_event;
TRUNCATE letter_event;
SELECT pghistory.track('letter', 'letter', kind => 'history', append_only => false);
DELETE FROM letter_event WHERE pgh_operation = 'I';
SELECT pgh_operation, body FROM letter_event ORDER BY pgh_id;

-- What a superuser tracks belongs to the table's owner all the same.
CREATE TABLE parcel (id integer PRIMARY KEY);
RESET ROLE;
SELECT pghistory.track('parcel', 'parcel');
SELECT relowner::regrole FROM pg_class WHERE oid = 'parcel_event'::regclass;

-- Nor does a superuser run what the owner put there.
SET ROLE regress_pghistory_owner;
SELECT pghistory.track('letter', 'letter.new', kind => 'after_insert');
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE WARNING ''caught %'', current_user; RETURN OLD; END';
CREATE TRIGGER trap BEFORE DELETE ON letter_event FOR EACH STATEMENT EXECUTE FUNCTION trap();
RESET ROLE;
SELECT pghistory.untrack('letter', 'letter.new', drop_events => true);
SET ROLE regress_pghistory_owner;
SELECT pghistory.untrack('letter', 'letter.new', drop_events => true);
RESET ROLE;

SET client_min_messages TO warning;
DROP SCHEMA story_rights CASCADE;
DROP ROLE regress_pghistory_owner, regress_pghistory_writer, regress_pghistory_stranger;
