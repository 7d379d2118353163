-- Kinds: when an event is written, and with which values.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_kinds;
SET search_path TO story_kinds;

CREATE TABLE price (product text PRIMARY KEY, amount numeric NOT NULL, note text);

SELECT DISTINCT pghistory.track('price', kind => k)
  FROM unnest(ARRAY['snapshot', 'after_insert', 'after_insert_or_update', 'before_update', 'after_update',
                    'before_delete', 'before_truncate', 'history', 'event']) AS k;

CREATE VIEW recorded AS
    SELECT pgh_label, string_agg(concat(pgh_operation, ' ', product, ' ', amount), ', ' ORDER BY pgh_id) AS events
      FROM price_event
     GROUP BY pgh_label;

-- insert
INSERT INTO price VALUES ('tea', 4);
SELECT * FROM recorded ORDER BY pgh_label COLLATE "C";

-- an update that changes nothing, and one that does: the stored value counts, not equality
TRUNCATE price_event;
UPDATE price SET amount = 4;
SELECT * FROM recorded ORDER BY pgh_label COLLATE "C";
TRUNCATE price_event;
UPDATE price SET amount = 4.0;
SELECT * FROM recorded ORDER BY pgh_label COLLATE "C";

-- delete
TRUNCATE price_event;
DELETE FROM price;
SELECT * FROM recorded ORDER BY pgh_label COLLATE "C";

-- truncate
INSERT INTO price VALUES ('coffee', 6);
TRUNCATE price_event;
TRUNCATE price;
SELECT * FROM recorded ORDER BY pgh_label COLLATE "C";

-- a snapshot of some fields looks for changes of these only
DROP VIEW recorded;
SELECT pghistory.untrack('price', drop_events => true);
SELECT pghistory.track('price', 'amount', fields => ARRAY['amount']);
INSERT INTO price VALUES ('cocoa', 3);
UPDATE price SET note = 'bitter' WHERE product = 'cocoa';
UPDATE price SET amount = 5 WHERE product = 'cocoa';
SELECT pgh_operation, pgh_obj_id, amount FROM price_amount_event ORDER BY pgh_id;

-- no such kind
SELECT pghistory.track('price', kind => 'sometimes');

SET client_min_messages TO warning;
DROP SCHEMA story_kinds CASCADE;
