-- Events by hand: what happens to a row without changing it.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_events;
SET search_path TO story_events;

CREATE TABLE users (id integer PRIMARY KEY, username text);
CREATE TABLE seat (room text, place integer, PRIMARY KEY (room, place));
INSERT INTO users VALUES (1, 'ada'), (2, 'bob');
INSERT INTO seat VALUES ('main', 12);

-- Register the label, then write its events: by key, or from the row itself.
SELECT pghistory.track('users', 'user.login', kind => 'event');
SELECT pghistory.create_event('users', '1', 'user.login');
SELECT pghistory.create_event(u, 'user.login') FROM users AS u WHERE username = 'bob';
UPDATE users SET username = 'bobby' WHERE id = 2;
SELECT pgh_id, pgh_label, pgh_operation, pgh_obj_id, username FROM users_event ORDER BY pgh_id;

-- A key of several columns is a JSON object.
SELECT pghistory.track('seat', 'seat.taken', kind => 'event');
SELECT pghistory.create_event('seat', '{"room": "main", "place": 12}', 'seat.taken');
SELECT pgh_obj_room, pgh_obj_place FROM seat_event;

-- They have the context that is active.
BEGIN;
SELECT pghistory.set_context('{"from": "phone"}', 'bbbbbbbb-0000-4000-8000-000000000001');
SELECT pghistory.create_event('users', '1', 'user.login');
COMMIT;
SELECT pgh_id, pgh_context_id FROM users_event ORDER BY pgh_id DESC LIMIT 1;

-- What is not there is refused.
SELECT pghistory.create_event('users', '1', 'user.logout');
SELECT pghistory.create_event('users', '3', 'user.login');
SELECT pghistory.create_event('seat', 'main', 'seat.taken');
SELECT pghistory.create_event(1, 'user.login');

-- Who may not write to the table may not write its events; nor may anybody behind the back of create_event().
SET client_min_messages TO warning;
DROP ROLE IF EXISTS regress_pghistory_reader;
RESET client_min_messages;
CREATE ROLE regress_pghistory_reader;
GRANT USAGE ON SCHEMA story_events TO regress_pghistory_reader;
GRANT SELECT ON users TO regress_pghistory_reader;
SET ROLE regress_pghistory_reader;
SELECT pghistory.create_event('users', '1', 'user.login');
SELECT users_event_by_hand('user.login', u::text) FROM users AS u;
SELECT count(*) FROM users_event;
RESET ROLE;
SELECT count(*) FROM users_event;

SET client_min_messages TO warning;
DROP SCHEMA story_events CASCADE;
DROP ROLE regress_pghistory_reader;
