-- Conditions: which rows leave events.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_conditions;
SET search_path TO story_conditions;

CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL, owner text, note text);

SELECT pghistory.track('account', 'overdrawn', kind => 'after_update',
                       condition => 'NEW.balance < 0 AND OLD.balance >= 0');
SELECT pghistory.track('account', 'moved', kind => 'after_update',
                       condition => pghistory.any_change('owner', 'balance'));
SELECT pghistory.track('account', 'swapped', kind => 'after_update',
                       condition => pghistory.all_change('owner', 'balance'));
SELECT pghistory.track('account', 'rich', kind => 'before_delete', condition => 'OLD.balance > 100');

INSERT INTO account VALUES (1, 10, 'ada'), (2, 200, 'bob');
UPDATE account SET note = 'nothing to see';
UPDATE account SET balance = balance - 20;
UPDATE account SET balance = balance - 1, owner = 'eve' WHERE id = 1;
DELETE FROM account;
SELECT pgh_label, pgh_operation, id, balance, owner FROM account_event ORDER BY pgh_id;

-- Conditions are kept as PostgreSQL reads them when track() is called: every name with its schema.
CREATE FUNCTION is_odd(value integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT value % 2 = 1';
SELECT pghistory.track('account', 'odd', kind => 'after_insert', condition => 'is_odd(new.id)');
SELECT condition FROM pghistory.trackers() WHERE "table" = 'account'::regclass AND label = 'odd';
SET search_path TO pg_catalog;
INSERT INTO story_conditions.account VALUES (3, 0), (4, 0);
SET search_path TO story_conditions;
SELECT pgh_label, id FROM account_event WHERE pgh_label = 'odd';

-- What it does not accept is said at once.
SELECT pghistory.track('account', 'c', kind => 'after_insert', condition => 'OLD.balance > 0');
SELECT pghistory.track('account', 'c', kind => 'history', condition => 'NEW.balance > 0');
SELECT pghistory.track('account', 'c', condition => 'NEW.balance');
SELECT pghistory.track('account', 'c', condition => 'NEW.balance > (SELECT 1)');
SELECT pghistory.track('account', 'c', condition => 'true); DROP TABLE account; --');
SELECT pghistory.track('account', 'c', kind => 'event', condition => 'true');
SELECT count(*) FROM pghistory.trackers() WHERE "table" = 'account'::regclass AND label = 'c';

SET client_min_messages TO warning;
DROP SCHEMA story_conditions CASCADE;
