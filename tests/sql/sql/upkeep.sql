-- Upkeep: the table changes, and its history goes on.
\set SHOW_CONTEXT never
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS pghistory;
RESET client_min_messages;
CREATE SCHEMA story_upkeep;
SET search_path TO story_upkeep;

CREATE TABLE film (id integer PRIMARY KEY, title varchar(10) NOT NULL, year integer);
SELECT pghistory.track('film', 'film', kind => 'history');
INSERT INTO film VALUES (1, 'Metropolis', 1927);

-- Columns come, go, and change name and type.
ALTER TABLE film ADD COLUMN director text;
ALTER TABLE film RENAME COLUMN title TO name;
ALTER TABLE film ALTER COLUMN name TYPE text;
ALTER TABLE film DROP COLUMN year;
UPDATE film SET director = 'Fritz Lang';
SELECT pgh_operation, id, name, director, year FROM film_event ORDER BY pgh_id;

-- A dropped name that comes back as something else is another column.
ALTER TABLE film ADD COLUMN year text;
UPDATE film SET year = 'MCMXXVII';
SELECT pgh_operation, year, year__1 FROM film_event ORDER BY pgh_id;

-- The table is renamed and moved; its events stay where they were.
CREATE SCHEMA story_cinema;
ALTER TABLE film RENAME TO movie;
ALTER TABLE movie SET SCHEMA story_cinema;
DELETE FROM story_cinema.movie;
SELECT "table", event_table, status FROM pghistory.trackers() WHERE label = 'film';
SELECT pgh_operation, name FROM film_event ORDER BY pgh_id DESC LIMIT 1;

-- All is well, until somebody breaks something; refresh() repairs it.
SELECT problem FROM pghistory.verify();
ALTER TABLE story_cinema.movie DISABLE TRIGGER ALL;
SELECT DISTINCT problem, hint FROM pghistory.verify();
SELECT pghistory.refresh();
SELECT problem FROM pghistory.verify();

-- A condition stands in the way of no DDL. Without what it names, its events are written as if there were none.
SELECT pghistory.track('story_cinema.movie', 'movie.old', kind => 'after_insert', condition => $$NEW.year < '1930'$$);
ALTER TABLE story_cinema.movie DROP COLUMN year;
INSERT INTO story_cinema.movie VALUES (9, 'Die Nibelungen');
SELECT pgh_label, name FROM story_cinema.movie_event;
SELECT problem, hint FROM pghistory.verify();
SELECT pghistory.untrack('story_cinema.movie', 'movie.old', drop_events => true);

-- What cannot follow is said, and stands in the way of no DDL either: here the event table has no room for a column.
CREATE TABLE narrow (id integer PRIMARY KEY);
SELECT pghistory.track('narrow', 'narrow');
SELECT format('ALTER TABLE narrow_event %s', string_agg(format('ADD filler_%s integer', n), ', ')) AS widen
  FROM generate_series(1, 1600 - (SELECT count(*) FROM pg_attribute
                                   WHERE attrelid = 'narrow_event'::regclass AND attnum > 0)) AS n
\gset
:widen;
ALTER TABLE narrow ADD COLUMN straw integer;
INSERT INTO narrow VALUES (1, 2);
SELECT id FROM narrow_event;
SELECT pghistory.refresh();
DROP TABLE narrow_event, narrow;

-- Nor does a registry that somebody has damaged.
BEGIN;
ALTER TABLE pghistory.tracker RENAME COLUMN condition_objects TO lost;
ALTER TABLE pghistory.event_table RENAME COLUMN origin TO gone;
ALTER TABLE story_cinema.movie ADD COLUMN minutes integer;
INSERT INTO story_cinema.movie VALUES (10, 'Spione');
ROLLBACK;

-- A dropped table keeps its events, and a new one of the name takes them over.
DROP TABLE story_cinema.movie;
SELECT count(*) FROM film_event;
CREATE TABLE story_cinema.movie (id integer PRIMARY KEY, name text);
SELECT pghistory.track('story_cinema.movie', 'film', kind => 'history', event_table => 'story_upkeep.film_event');
INSERT INTO story_cinema.movie VALUES (2, 'M');
SELECT pgh_operation, name FROM film_event ORDER BY pgh_id DESC LIMIT 1;

-- Who drops the event table ends its trackers, and writes go on.
DROP TABLE film_event;
INSERT INTO story_cinema.movie VALUES (3, 'Fury');
SELECT count(*) FROM pghistory.trackers() WHERE label = 'film';

-- The data outlives the code.
SELECT pghistory.track('story_cinema.movie', 'movie', kind => 'history');
INSERT INTO story_cinema.movie VALUES (4, 'Scarlet');
DROP EXTENSION pghistory;
INSERT INTO story_cinema.movie VALUES (5, 'Unseen');
CREATE EXTENSION pghistory;
SELECT pghistory.refresh();
INSERT INTO story_cinema.movie VALUES (6, 'Moonfleet');
SELECT pgh_operation, name FROM story_cinema.movie_event ORDER BY pgh_id;
SELECT * FROM pghistory.verify();

SET client_min_messages TO warning;
DROP SCHEMA story_upkeep, story_cinema CASCADE;
