"""All that a database consists of, object by object, so that two databases can be compared."""

from __future__ import annotations

from lived import connect, rows

# Each query gives (object, property, value). Order of columns and of grants is no property.
_OBJECTS = (
    """SELECT 'schema ' || quote_ident(nspname), 'comment', obj_description(oid, 'pg_namespace')
         FROM pg_namespace WHERE nspname = 'pghistory'""",
    """SELECT 'function ' || oid::regprocedure, p.property, p.value
         FROM pg_proc CROSS JOIN LATERAL (VALUES
              ('definition', pg_get_functiondef(oid)), ('owner', proowner::regrole::text),
              ('comment', obj_description(oid, 'pg_proc'))) AS p(property, value)
        WHERE oid >= 16384 AND prokind <> 'a'""",
    """SELECT 'grant on function ' || p.oid::regprocedure, a.grantee::regrole::text, a.privilege_type
         FROM pg_proc AS p CROSS JOIN LATERAL aclexplode(p.proacl) AS a WHERE p.oid >= 16384""",
    """SELECT 'relation ' || oid::regclass, p.property, p.value
         FROM pg_class CROSS JOIN LATERAL (VALUES
              ('kind', relkind::text), ('persistence', relpersistence::text),
              ('owner', relowner::regrole::text),
              ('comment', obj_description(oid, 'pg_class')), ('replica identity', relreplident::text),
              ('row security', concat_ws(' ', relrowsecurity, relforcerowsecurity)),
              ('definition', CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid)
                                  WHEN relkind IN ('i', 'I') THEN pg_get_indexdef(oid) END))
              AS p(property, value)
        WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace""",
    """SELECT 'grant on relation ' || c.oid::regclass, a.grantee::regrole::text, a.privilege_type
         FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a WHERE c.oid >= 16384""",
    """SELECT format('column %s.%I', attrelid::regclass, attname), p.property, p.value
         FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
              LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              CROSS JOIN LATERAL (VALUES
              ('type', format_type(atttypid, atttypmod)), ('not null', attnotnull::text),
              ('collation', attcollation::regcollation::text), ('identity', attidentity::text),
              ('storage', concat_ws(' ', attstorage, attcompression)),
              ('default', pg_get_expr(d.adbin, d.adrelid)),
              ('grants', attacl::text),
              ('comment', col_description(attrelid, attnum))) AS p(property, value)
        WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped AND c.relkind IN ('r', 'p', 'v')""",
    """SELECT format('constraint %I on %s', conname, conrelid::regclass), 'definition',
              pg_get_constraintdef(oid)
         FROM pg_constraint WHERE oid >= 16384 AND conrelid <> 0""",
    """SELECT format('trigger %I on %s', tgname, tgrelid::regclass), p.property, p.value
         FROM pg_trigger CROSS JOIN LATERAL (VALUES
              ('definition', pg_get_triggerdef(oid)), ('enabled', tgenabled::text),
              ('comment', obj_description(oid, 'pg_trigger'))) AS p(property, value)
        WHERE NOT tgisinternal""",
    """SELECT 'event trigger ' || evtname, p.property, p.value
         FROM pg_event_trigger CROSS JOIN LATERAL (VALUES
              ('event', evtevent::text), ('function', evtfoid::regprocedure::text),
              ('enabled', evtenabled::text),
              ('tags', evttags::text), ('owner', evtowner::regrole::text),
              ('comment', obj_description(oid, 'pg_event_trigger'))) AS p(property, value)""",
    """SELECT pg_describe_object(classid, objid, objsubid), 'of extension', deptype::text
         FROM pg_depend
        WHERE refclassid = 'pg_extension'::regclass
          AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pghistory')""",
    """SELECT 'extension ' || extname, 'version', concat_ws(' ', extversion, extrelocatable, extconfig)
         FROM pg_extension WHERE extname = 'pghistory'""",
)


def catalog(dsn: str) -> dict[str, list[str]]:
    """The objects of a database that are not PostgreSQL's own, with their properties."""
    shown: dict[str, list[str]] = {}
    with connect(dsn) as connection:
        connection.execute("SET search_path TO ''")
        for query in _OBJECTS:
            for name, aspect, said in rows(connection, query):
                shown.setdefault(name, []).append(f"{aspect}: {said}")
    return {name: sorted(properties) for name, properties in shown.items()}
