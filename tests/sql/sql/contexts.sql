-- Contexts: who and why.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_contexts;
SET search_path TO story_contexts;

CREATE TABLE note (id integer PRIMARY KEY, body text);
SELECT pghistory.track('note', 'note', kind => 'history');

CREATE VIEW recorded AS
    SELECT pgh_id, pgh_operation, body, metadata
      FROM note_event LEFT JOIN pghistory.context ON context.id = pgh_context_id;

-- Without a context events are written all the same.
INSERT INTO note VALUES (1, 'a');

-- A context lasts for the transaction. Later keys win, for all its events.
BEGIN;
SELECT pghistory.set_context('{"user": "ada", "step": 1}', 'aaaaaaaa-0000-4000-8000-000000000001');
UPDATE note SET body = 'b' WHERE id = 1;
SELECT pghistory.add_context('{"step": 2}');
UPDATE note SET body = 'c' WHERE id = 1;
SELECT * FROM pghistory.current_context();
COMMIT;
SELECT * FROM pghistory.current_context();
UPDATE note SET body = 'd' WHERE id = 1;
SELECT * FROM recorded ORDER BY pgh_id;

-- Nothing is added to a context that is not there; what is added after the last event is kept.
SELECT pghistory.add_context('{"user": "nobody"}');
BEGIN;
SELECT pghistory.set_context('{"user": "bob"}', 'aaaaaaaa-0000-4000-8000-000000000002');
UPDATE note SET body = 'e' WHERE id = 1;
SELECT pghistory.add_context('{"done": true}');
COMMIT;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;

-- Cleared, it is over.
BEGIN;
SELECT pghistory.set_context('{"user": "eve"}', 'aaaaaaaa-0000-4000-8000-000000000003');
SELECT pghistory.clear_context();
UPDATE note SET body = 'f' WHERE id = 1;
COMMIT;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;

-- A context goes on in other transactions.
BEGIN;
SELECT pghistory.set_context('{"again": true}', 'aaaaaaaa-0000-4000-8000-000000000001');
UPDATE note SET body = 'g' WHERE id = 1;
COMMIT;
SELECT metadata FROM pghistory.context WHERE id = 'aaaaaaaa-0000-4000-8000-000000000001';

-- The protocol is two settings, whoever sets them.
BEGIN;
SELECT set_config('pghistory.context_id', 'aaaaaaaa-0000-4000-8000-000000000004', true),
       set_config('pghistory.context_metadata', '{"url": "/notes/1"}', true);
UPDATE note SET body = 'h' WHERE id = 1;
COMMIT;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;

-- What rolls back to a savepoint takes nothing with it.
BEGIN;
SELECT pghistory.set_context('{"user": "zoe"}', 'aaaaaaaa-0000-4000-8000-000000000005');
SAVEPOINT before;
UPDATE note SET body = 'lost' WHERE id = 1;
ROLLBACK TO before;
UPDATE note SET body = 'i' WHERE id = 1;
COMMIT;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;

-- What cannot be read never fails a write, and is said once for a statement.
INSERT INTO note VALUES (2, 'x'), (3, 'y');
BEGIN;
SET LOCAL pghistory.context_id = 'somebody';
UPDATE note SET body = 'z';
COMMIT;
SELECT pgh_operation, count(*) FROM recorded WHERE body = 'z' AND metadata IS NULL GROUP BY pgh_operation;
BEGIN;
SET LOCAL pghistory.context_id = 'aaaaaaaa-0000-4000-8000-000000000006';
SET LOCAL pghistory.context_metadata = '["not", "an", "object"]';
DELETE FROM note WHERE id = 2;
COMMIT;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;

-- What we are asked to set must make sense.
SELECT pghistory.set_context('[1]');

-- inline: each event keeps the context as it was then. none: no context at all.
CREATE TABLE page (id integer PRIMARY KEY);
SELECT pghistory.track('page', 'page.inline', context => 'inline', event_table => 'page_inline');
SELECT pghistory.track('page', 'page.none', context => 'none', event_table => 'page_none');
BEGIN;
SELECT pghistory.set_context('{"step": 1}', 'aaaaaaaa-0000-4000-8000-000000000007');
INSERT INTO page VALUES (1);
SELECT pghistory.add_context('{"step": 2}');
INSERT INTO page VALUES (2);
COMMIT;
SELECT id, pgh_context_id, pgh_context FROM page_inline ORDER BY pgh_id;
SELECT count(*) FROM pghistory.context WHERE id = 'aaaaaaaa-0000-4000-8000-000000000007';
SELECT attname FROM pg_attribute WHERE attrelid = 'page_none'::regclass AND attname LIKE 'pgh_context%';

-- capture(): nobody stays anonymous, whatever he says.
SELECT pghistory.capture('application_name');
SET application_name = 'story';
UPDATE note SET body = 'seen' WHERE id = 1;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;
BEGIN;
SELECT pghistory.set_context('{"session": "a lie", "user": "ada"}', 'aaaaaaaa-0000-4000-8000-000000000008');
UPDATE note SET body = 'seen again' WHERE id = 1;
COMMIT;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;
SELECT pghistory.capture('shoe_size');
SELECT pghistory.capture();
UPDATE note SET body = 'unseen' WHERE id = 1;
SELECT * FROM recorded ORDER BY pgh_id DESC LIMIT 1;

SET client_min_messages TO warning;
DROP SCHEMA story_contexts CASCADE;
