-- From 1.5 on an extension has a schema.
DROP FUNCTION pgtle.install_extension(text, text, text, text, text[]);

CREATE FUNCTION pgtle.install_extension(
    name text, version text, description text, ext text, requires text[] DEFAULT NULL, schema text DEFAULT NULL)
 RETURNS boolean
 LANGUAGE sql
AS 'SELECT pgtle.keep(name, version, description, ext, requires, schema)';

REVOKE EXECUTE ON FUNCTION pgtle.install_extension(text, text, text, text, text[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgtle.install_extension(text, text, text, text, text[], text) TO pgtle_admin;
