-- A stub of pg_tle 1.4: its functions for keeping extensions, with their names, arguments, results, rights and
-- refusals. pg_tle itself, a library, shows CREATE EXTENSION the scripts that it keeps; this writes them to the
-- server's share folder, where it looks.
CREATE TABLE pgtle.kept (
    name text,
    fromvers text NOT NULL DEFAULT '',
    version text,
    description text,
    ext text NOT NULL,
    requires text[],
    schema text,
    kept_by name NOT NULL DEFAULT session_user,
    PRIMARY KEY (name, fromvers, version)
);
CREATE TABLE pgtle.default_version (name text PRIMARY KEY, version text NOT NULL);

CREATE FUNCTION pgtle.write(file text, content text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    path CONSTANT text := (SELECT setting FROM pg_config WHERE name = 'SHAREDIR') || '/extension/' || file;
    written oid := lo_from_bytea(0, convert_to(content, 'UTF8'));
BEGIN
    PERFORM lo_export(written, path);
    PERFORM lo_unlink(written);
END
$function$;

-- Refuses what pg_tle refuses of a name and a script.
CREATE FUNCTION pgtle.refuse(name text, ext text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
DECLARE
    path CONSTANT text :=
        (SELECT setting FROM pg_config WHERE pg_config.name = 'SHAREDIR') || '/extension/' || name || '.control';
BEGIN
    IF (pg_stat_file(path, true)).size IS NOT NULL
       AND NOT EXISTS (SELECT FROM pgtle.default_version AS d WHERE d.name = refuse.name)
    THEN
        RAISE EXCEPTION 'control file already exists for the % extension', name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF ext ~ '\$_pgtle_[io]_\$' THEN
        RAISE EXCEPTION 'invalid character in extension definition' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$function$;

CREATE FUNCTION pgtle.keep(name text, version text, description text, ext text, requires text[], schema text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pgtle.refuse(name, ext);
    BEGIN
        INSERT INTO pgtle.kept (name, version, description, ext, requires, schema)
             VALUES (name, version, description, ext, requires, schema);
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'extension "%" already installed', name USING ERRCODE = 'duplicate_object';
    END;
    INSERT INTO pgtle.default_version AS d VALUES (name, version)
        ON CONFLICT ON CONSTRAINT default_version_pkey DO UPDATE SET version = excluded.version;
    PERFORM pgtle.write(
        name || '.control',
        format(E'comment = %L\ndefault_version = %L\nrequires = %L\nrelocatable = false\nsuperuser = false\n'
               'trusted = false\n', description, version, array_to_string(requires || 'pg_tle'::text, ','))
        || CASE WHEN schema IS NOT NULL THEN format(E'schema = %L\n', schema) ELSE '' END);
    PERFORM pgtle.write(format('%s--%s.sql', name, version), ext);
    RETURN true;
END
$function$;

CREATE FUNCTION pgtle.install_extension(
    name text, version text, description text, ext text, requires text[] DEFAULT NULL)
 RETURNS boolean
 LANGUAGE sql
AS 'SELECT pgtle.keep(name, version, description, ext, requires, NULL)';

CREATE FUNCTION pgtle.install_update_path(name text, fromvers text, tovers text, ext text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pgtle.refuse(name, ext);
    BEGIN
        INSERT INTO pgtle.kept (name, fromvers, version, ext) VALUES (name, fromvers, tovers, ext);
    EXCEPTION WHEN unique_violation THEN
        RAISE EXCEPTION 'extension "%" update path "%-%" already installed', name, fromvers, tovers
            USING ERRCODE = 'duplicate_object';
    END;
    PERFORM pgtle.write(format('%s--%s--%s.sql', name, fromvers, tovers), ext);
    RETURN true;
END
$function$;

CREATE FUNCTION pgtle.available_extensions(OUT name name, OUT default_version text, OUT comment text)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 STABLE STRICT
AS $function$
    SELECT d.name, d.version, k.description
      FROM pgtle.default_version AS d JOIN pgtle.kept AS k USING (name, version) WHERE k.fromvers = '';
$function$;

CREATE FUNCTION pgtle.available_extension_versions(
    OUT name name, OUT version text, OUT superuser boolean, OUT trusted boolean, OUT relocatable boolean,
    OUT schema name, OUT requires name[], OUT comment text)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 STABLE STRICT
AS $function$
    SELECT name, version, false, false, false, schema, (requires || 'pg_tle'::text)::name[], description
      FROM pgtle.kept WHERE fromvers = '';
$function$;

CREATE FUNCTION pgtle.extension_update_paths(name name, OUT source text, OUT target text, OUT path text)
 RETURNS SETOF record
 LANGUAGE sql
 SECURITY DEFINER
 STABLE STRICT
AS $function$
    SELECT a.version, b.version, CASE WHEN p.name IS NOT NULL THEN a.version || '--' || b.version END
      FROM pgtle.kept AS a
           JOIN pgtle.kept AS b ON b.name = a.name AND b.fromvers = '' AND b.version <> a.version
           LEFT JOIN pgtle.kept AS p ON p.name = a.name AND p.fromvers = a.version AND p.version = b.version
     WHERE a.name = extension_update_paths.name::text AND a.fromvers = '';
$function$;

CREATE FUNCTION pgtle.uninstall_extension(extname text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    DELETE FROM pgtle.kept WHERE name = extname;
    DELETE FROM pgtle.default_version WHERE name = extname;
    RETURN true;
END
$function$;

CREATE ROLE pgtle_admin NOLOGIN;
REVOKE ALL ON SCHEMA pgtle FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA pgtle TO pgtle_admin;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pgtle FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgtle TO pgtle_admin;
GRANT EXECUTE ON FUNCTION pgtle.available_extensions(), pgtle.available_extension_versions(),
    pgtle.extension_update_paths(name) TO PUBLIC;
