-- Who may call what. PUBLIC has nothing by default; all that it has is given here. What is not named is for the
-- owner of the extension: functions that act with his rights.

REVOKE ALL ON ALL ROUTINES IN SCHEMA pghistory FROM PUBLIC;

GRANT USAGE ON SCHEMA pghistory TO PUBLIC;

-- The door to the registry: a trigger checks who comes in.
GRANT INSERT ON pghistory._request TO PUBLIC;

-- The public functions. They run as their caller.
GRANT EXECUTE ON FUNCTION
    pghistory.add_context, pghistory.all_change, pghistory.all_dont_change, pghistory.any_change,
    pghistory.any_dont_change, pghistory.as_of, pghistory.backfill, pghistory.capture, pghistory.clear_context,
    pghistory.create_event(anyelement, text), pghistory.create_event(regclass, text, text),
    pghistory.create_event_table, pghistory.current_context, pghistory.events, pghistory.references,
    pghistory.refresh, pghistory.revert, pghistory.set_context, pghistory.sync, pghistory.track, pghistory.trackers,
    pghistory.undo, pghistory.undo_plan, pghistory.undo_transaction, pghistory.undo_transaction_plan,
    pghistory.untrack, pghistory.verify, pghistory.versions
    TO PUBLIC;

-- The private functions that these call, as their caller, and those that generated functions and triggers call, as
-- the owner of the event table. Whoever calls one himself does so with his own rights. Of those that run with the
-- rights of the extension's owner, _attach_context, _read_inline_context and _use_permit look at the caller's own
-- transaction only, and _context_of_event wants to be told what only an event says.

GRANT EXECUTE ON FUNCTION  -- catalog.sql
    pghistory._table_name, pghistory._owner, pghistory._columns, pghistory._last_event, pghistory._missing_value,
    pghistory._is_filled, pghistory._is_of_this_transaction, pghistory._base_type, pghistory._event_type,
    pghistory._holds, pghistory._primary_key, pghistory._key_followers, pghistory._foreign_keys_to,
    pghistory._has_row_triggers, pghistory._may_not_fit, pghistory._is_indexable, pghistory._has_index,
    pghistory._row_level_reason, pghistory._partition_tree, pghistory._partition_root,
    pghistory._equality_operator, pghistory._origin
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- trust.sql
    pghistory._is_trusted, pghistory._may_rewrite, pghistory._is_harmless_type, pghistory._is_harmless_cast,
    pghistory._is_harmless_as_json
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- names.sql
    pghistory._fitting_name, pghistory._event_table_name, pghistory._object_columns, pghistory._other_key_columns,
    pghistory._is_reserved_name, pghistory._trigger_function_name, pghistory._trigger_name, pghistory._field,
    pghistory._wrapped, pghistory._rendered
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- objects.sql
    pghistory._object_identity, pghistory._identity_text, pghistory._event_identity_text, pghistory._json_text,
    pghistory._key_text, pghistory._same_object_text, pghistory._qualified
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- state.sql
    pghistory._state_relations, pghistory._has_state, pghistory._extension_is_installed, pghistory._is_event_table,
    pghistory._is_tracked
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- context.sql
    pghistory._read_context, pghistory._capturing, pghistory._session_facts, pghistory._attach_context,
    pghistory._context_id, pghistory._read_inline_context, pghistory._inline_context_id, pghistory._inline_context,
    pghistory._context_of_event, pghistory._checked_metadata
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- requests.sql
    pghistory._check_details, pghistory._use_permit
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- checks.sql
    pghistory._check_not_null, pghistory._check_choice, pghistory._check_event_table_choices,
    pghistory._check_owner, pghistory._check_trackable, pghistory._checked_fields, pghistory._checked_key,
    pghistory._check_foreign_key
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- conditions.sql
    pghistory._row_of, pghistory._change_of, pghistory._tracked_any_change, pghistory._tracked_all_change,
    pghistory._tracked_any_dont_change, pghistory._tracked_all_dont_change, pghistory._parse_only,
    pghistory._condition_events, pghistory._meaning, pghistory._object_text, pghistory._objects_named,
    pghistory._depends_on_role, pghistory._portable_condition, pghistory._deparsed_condition,
    pghistory._parse_condition, pghistory._check_single_expression, pghistory._normalised_condition,
    pghistory._renamed_condition, pghistory._renamed_columns, pghistory._renamed_objects, pghistory._still_parses
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- event_table.sql
    pghistory._event_columns, pghistory._type_text, pghistory._copy_storage, pghistory._refuse_change,
    pghistory._set_append_only, pghistory._set_foreign_key, pghistory._create_event_indexes,
    pghistory._create_event_table, pghistory._unwritable, pghistory._misfit, pghistory._parsed_event_table,
    pghistory._tracked_fields
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- templates.sql
    pghistory._operations, pghistory._change_text, pghistory._condition_text, pghistory._insert_text,
    pghistory._event_text, pghistory._header_text, pghistory._trigger_statements, pghistory._trigger_body,
    pghistory._by_hand_body
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- triggers.sql
    pghistory._is_generated, pghistory._own_function_name, pghistory._trigger_relations,
    pghistory._trigger_definition, pghistory._note_writer, pghistory._desired_triggers, pghistory._actual_triggers,
    pghistory._is_open_to_all, pghistory._function_settings, pghistory._depend_on_extension,
    pghistory._ensure_function, pghistory._drop_function, pghistory._drop_generated_functions,
    pghistory._apply_triggers, pghistory._disabled_triggers, pghistory._enable_triggers, pghistory._apply_by_hand
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- follow.sql
    pghistory._mark_kept, pghistory._keep_dropped, pghistory._set_aside, pghistory._ensure_column,
    pghistory._retype_column, pghistory._rename_columns, pghistory._current_names, pghistory._may_compute,
    pghistory._computes, pghistory._is_rewritten, pghistory._follow_columns, pghistory._note_rewrites,
    pghistory._was_constant, pghistory._is_lost, pghistory._fill_key, pghistory._follow_foreign_key,
    pghistory._follow_key, pghistory._condition_renames, pghistory._column_numbers, pghistory._follow_trackers,
    pghistory._restore_own_columns, pghistory._follow_event_table, pghistory._follow_registry,
    pghistory._follow_table
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- track.sql
    pghistory._register_event_table, pghistory._register_tracker, pghistory._add_missing_columns,
    pghistory._find_event_table, pghistory._check_statement_level, pghistory._lock, pghistory._track,
    pghistory._drop_events, pghistory._tracker_status, pghistory._definition
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- create_event.sql
    pghistory._table_with_label
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- events.sql
    pghistory._data_text, pghistory._previous_value_text, pghistory._diff_text, pghistory._has_moves,
    pghistory._key_before_text, pghistory._previous_event_text, pghistory._events_query,
    pghistory._events_condition, pghistory._run_events, pghistory._values_of_object, pghistory._referring_condition
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- history.sql
    pghistory._table_of_type, pghistory._time_text, pghistory._happened_text, pghistory._had_happened,
    pghistory._history_sources, pghistory._check_history_is_kept, pghistory._history_source,
    pghistory._refuse_to_guess, pghistory._refuse_vanished, pghistory._refuse_to_choose,
    pghistory._refuse_to_guess_value, pghistory._past_columns, pghistory._row_columns, pghistory._check_unique_key,
    pghistory._recorded_text, pghistory._snapshot_text, pghistory._history_texts
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- as_of.sql
    pghistory._has_many_events, pghistory._keys_text, pghistory._walk_template, pghistory._known_keys_template,
    pghistory._rows_after_template, pghistory._told_rows_template, pghistory._replaced_rows_template,
    pghistory._after_images_template, pghistory._balanced_departures, pghistory._complete_images_template,
    pghistory._before_images_template, pghistory._as_of_query
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- versions.sql
    pghistory._after_versions_template, pghistory._before_versions_template, pghistory._time_of
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- backfill.sql
    pghistory._backfill_label, pghistory._backfill_pages
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- revert.sql
    pghistory._writable_columns, pghistory._rows_text, pghistory._key_of_today, pghistory._write_event,
    pghistory._revert
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- undo_plan.sql
    pghistory._undoable_tables, pghistory._undo_condition, pghistory._undo_changes_text, pghistory._is_concerned,
    pghistory._key_after_text, pghistory._undo_texts, pghistory._undo_steps, pghistory._depth,
    pghistory._undo_plan, pghistory._shown_plan
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- undo.sql
    pghistory._is_there, pghistory._dragging_keys, pghistory._is_referred_to, pghistory._write_back,
    pghistory._undo_outcome, pghistory._outcome_statement, pghistory._are_references_back, pghistory._undo_at_once,
    pghistory._undo_statement, pghistory._lock_for_undo, pghistory._refuse_undo, pghistory._take_step,
    pghistory._undo_one_by_one, pghistory._undo, pghistory._undo_in_context
    TO PUBLIC;

GRANT EXECUTE ON FUNCTION  -- upkeep.sql
    pghistory._own_tracked_tables, pghistory._repair_table, pghistory._repair_tables,
    pghistory._event_table_problems, pghistory._function_problem, pghistory._table_problems
    TO PUBLIC;
