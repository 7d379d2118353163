-- Tracking: name a table, and its changes leave events.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_tracking;
SET search_path TO story_tracking;

CREATE TABLE users (id integer PRIMARY KEY, username text NOT NULL, email text);

-- Nothing is tracked that nobody asked for.
SELECT count(*) FROM pghistory.trackers() WHERE "table" = 'users'::regclass;

-- The event table is named after the table, and has its columns behind ours.
SELECT pghistory.track('users', 'user', kind => 'history');
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null
  FROM pg_attribute
 WHERE attrelid = 'users_event'::regclass AND attnum > 0
 ORDER BY attnum;

-- Every change leaves an event.
INSERT INTO users VALUES (1, 'ada', 'ada@example.org'), (2, 'bob', NULL);
UPDATE users SET email = 'ada@example.com' WHERE id = 1;
DELETE FROM users WHERE id = 2;
SELECT pgh_id, pgh_label, pgh_operation, pgh_obj_id, id, username, email FROM users_event ORDER BY pgh_id;

-- What changes nothing leaves none: the same values, no rows, what is rolled back.
UPDATE users SET email = email;
UPDATE users SET email = 'nobody' WHERE id = 3;
BEGIN;
DELETE FROM users;
ROLLBACK;
SELECT count(*) FROM users_event;

-- An update of the key is one event, which has the other key beside it.
UPDATE users SET id = 7 WHERE id = 1;
SELECT pgh_operation, pgh_obj_id, pgh_other_id, id FROM users_event WHERE pgh_id > 4;

-- TRUNCATE leaves an event for every row.
INSERT INTO users VALUES (8, 'eve');
TRUNCATE users;
SELECT pgh_operation, pgh_obj_id, username FROM users_event WHERE pgh_id > 6 ORDER BY pgh_obj_id;

-- All that runs when a row is written can be read.
\sf users_event_update_row
\sf users_event_delete_statement

-- The same call again changes nothing; the same label with another definition replaces it.
SELECT pghistory.track('users', 'user', kind => 'history');
SELECT label, kind, event_table, status FROM pghistory.trackers() WHERE "table" = 'users'::regclass;
SELECT pghistory.track('users', 'user', kind => 'after_insert');
SELECT label, kind, event_table, status FROM pghistory.trackers() WHERE "table" = 'users'::regclass;

-- trackers() has the call that would make a tracker again.
SELECT definition FROM pghistory.trackers() WHERE "table" = 'users'::regclass;

-- A label cannot move to another event table.
SELECT pghistory.track('users', 'user', kind => 'after_insert', event_table => 'elsewhere');

-- Some columns only; later columns are not among them. The name of the event table says which.
SELECT pghistory.track('users', 'user.name', fields => ARRAY['username', 'id']);
SELECT pghistory.track('users', 'user.no_email', exclude => ARRAY['email']);
SELECT pghistory.track('users', 'user.touched', kind => 'after_update', fields => '{}');

-- untrack() removes a tracker, or all, and keeps the events unless asked.
SELECT pghistory.untrack('users', 'user.name');
SELECT pghistory.untrack('users', 'user.name');
SELECT to_regclass('users_id_username_event');
SELECT pghistory.untrack('users', 'user.no_email', drop_events => true);
SELECT to_regclass('users_without_email_event');
SELECT pghistory.untrack('users');
INSERT INTO users VALUES (9, 'zoe');
SELECT count(*) FROM users_event WHERE id = 9;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'users'::regclass;

SET client_min_messages TO warning;
DROP SCHEMA story_tracking CASCADE;
