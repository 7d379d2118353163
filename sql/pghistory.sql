-- pghistory: the history of rows, kept inside PostgreSQL.
--
-- The table of contents. `make build` puts these files together as the script that CREATE EXTENSION runs;
-- `psql -1 -f sql/pghistory.sql` installs the same without CREATE EXTENSION. A file calls only what
-- stands above it.

-- the ground
\ir schema.sql
\ir catalog.sql
\ir trust.sql
\ir names.sql
\ir objects.sql

-- what outlives the code; who and why; the one door to the registry
\ir state.sql
\ir context.sql
\ir requests.sql

-- what is tracked
\ir checks.sql
\ir conditions.sql
\ir event_table.sql
\ir templates.sql
\ir triggers.sql
\ir follow.sql
\ir track.sql
\ir create_event.sql

-- looking and going back
\ir events.sql
\ir history.sql
\ir as_of.sql
\ir versions.sql
\ir backfill.sql
\ir revert.sql
\ir undo_plan.sql
\ir undo.sql

-- upkeep
\ir upkeep.sql
\ir event_triggers.sql
\ir capture.sql
\ir privileges.sql
