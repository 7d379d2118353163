-- Tables: whatever the table, its events tell its story.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_tables;
SET search_path TO story_tables;

-- keys of several columns, also swapped in one statement
CREATE TABLE seat (room text, place integer, guest text, PRIMARY KEY (room, place) DEFERRABLE);
SELECT pghistory.track('seat', 'seat', kind => 'history');
INSERT INTO seat VALUES ('main', 1, 'ada'), ('main', 2, 'bob');
UPDATE seat SET place = 3 - place;
SELECT pgh_operation, pgh_obj_room, pgh_obj_place, pgh_other_place, guest
  FROM seat_event ORDER BY pgh_operation, guest;

-- no key at all
CREATE TABLE reading (sensor text, value integer);
SELECT pghistory.track('reading', 'reading', kind => 'history');
INSERT INTO reading VALUES ('a', 1), ('a', 1);
DELETE FROM reading;
SELECT pgh_operation, sensor, value FROM reading_event ORDER BY pgh_id;

-- partitioned: written to through the parent or a partition, of today or tomorrow
CREATE TABLE sale (year integer, amount integer) PARTITION BY LIST (year);
CREATE TABLE sale_2024 PARTITION OF sale FOR VALUES IN (2024);
SELECT pghistory.track('sale', 'sale', kind => 'history');
CREATE TABLE sale_2025 (amount integer, year integer);
ALTER TABLE sale ATTACH PARTITION sale_2025 FOR VALUES IN (2025);
INSERT INTO sale VALUES (2024, 10);
INSERT INTO sale_2025 (year, amount) VALUES (2025, 20);
UPDATE sale SET year = 2025 WHERE year = 2024;
TRUNCATE sale_2025;
SELECT pgh_operation, year, amount FROM sale_event ORDER BY pgh_id;

-- types of all sorts, and columns that fill themselves
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN word AS text NOT NULL CHECK (VALUE <> '');
CREATE TABLE thing (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feeling mood,
    name word DEFAULT 'x',
    tags text[],
    spot point,
    document json,
    width integer,
    twice integer GENERATED ALWAYS AS (width * 2) STORED,
    "What? A ""Column""" text
);
SELECT pghistory.track('thing', 'thing ''s "label" %s {}; --', kind => 'history');
INSERT INTO thing (feeling, tags, spot, document, width, "What? A ""Column""")
VALUES ('sad', '{a,b}', '(1,2)', '{"a":1}', 3, 'yes');
UPDATE thing SET document = '{"a": 1}';
UPDATE thing SET document = document, spot = spot;
SELECT pgh_label, pgh_operation, feeling, name, tags, spot, document, twice, "What? A ""Column"""
  FROM thing_event
 ORDER BY pgh_id;

-- INSERT ... ON CONFLICT, COPY, writable CTEs, cascades
CREATE TABLE customer (id integer PRIMARY KEY, name text);
CREATE TABLE invoice (id integer PRIMARY KEY, customer integer REFERENCES customer ON DELETE CASCADE);
SELECT pghistory.track('customer', 'customer', kind => 'history');
SELECT pghistory.track('invoice', 'invoice', kind => 'history');
INSERT INTO customer VALUES (1, 'Ada') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;
INSERT INTO customer VALUES (1, 'Ada L.') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;
COPY invoice FROM STDIN;
10	1
11	1
\.
WITH gone AS (DELETE FROM customer RETURNING *) INSERT INTO customer SELECT id + 1, name FROM gone;
SELECT 'customer' AS "table", pgh_operation, pgh_obj_id FROM customer_event
UNION ALL
SELECT 'invoice', pgh_operation, pgh_obj_id FROM invoice_event
 ORDER BY 1, 2, 3;

-- a real foreign key needs a key, and events that keep the row's end cannot have one
SELECT pghistory.track('reading', 'reading.tied', obj_fk => 'cascade');
SELECT pghistory.track('customer', 'customer.tied', kind => 'history', obj_fk => 'cascade');
SELECT pghistory.track('customer', 'customer.tied', obj_fk => 'cascade', append_only => true);

-- not everything is a table
CREATE VIEW rooms AS SELECT DISTINCT room FROM seat;
SELECT pghistory.track('rooms');
SELECT pghistory.track('pg_catalog.pg_class');
SELECT pghistory.track('seat_event');
CREATE TEMPORARY TABLE scratch (id integer PRIMARY KEY);
SELECT pghistory.track('scratch');
CREATE TABLE confusing (pgh_id integer PRIMARY KEY);
SELECT pghistory.track('confusing');
SELECT pghistory.track('seat', 'seat.elsewhere', event_table => 'pg_temp.seat_log');
SELECT pghistory.track('seat', 'seat.elsewhere', event_table => 'not a name');

SET client_min_messages TO warning;
DROP SCHEMA story_tables CASCADE;
