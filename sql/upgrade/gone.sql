-- What released versions had and this one has no more, for the upgrade scripts:
-- DROP FUNCTION IF EXISTS pghistory._name(argument types);
DROP FUNCTION IF EXISTS pghistory._retype_column(regclass, name, oid, integer, oid);
DROP FUNCTION IF EXISTS pghistory._fill_key(regclass, regclass, name[]);
DROP FUNCTION IF EXISTS pghistory._follow_columns(regclass, regclass, boolean);
DROP FUNCTION IF EXISTS pghistory._is_balanced(jsonb);
DROP FUNCTION IF EXISTS pghistory._complete_images_template(text);
