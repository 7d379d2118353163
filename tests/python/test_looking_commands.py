"""The commands that look back and go back."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from commands import on_terminal, result

import pyhist

Run = Callable[..., tuple[int, str, str]]
Connection = psycopg.Connection[Any]
DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def conn(database: str) -> Iterator[Connection]:
    """A connection to a database with three users, one of whom was changed and one deleted, and their orders."""
    with closing(pyhist.Connection.connect(database, autocommit=True)) as conn:
        conn.execute(
            """CREATE TABLE users (id integer PRIMARY KEY, name text, balance numeric(8,2));
               CREATE TABLE orders (id integer, line integer, user_id integer REFERENCES users ON DELETE CASCADE,
                                    PRIMARY KEY (id, line))"""
        )
        pyhist.track(conn, "users", pyhist.History("user"))
        pyhist.track(conn, "orders", pyhist.History("order"))
        conn.execute("INSERT INTO users VALUES (1, 'ann', 1.50), (2, 'bob', 2), (3, 'eve', 3)")
        conn.execute("INSERT INTO orders VALUES (1, 1, 1), (1, 2, 2)")
        with pyhist.context(user="carol", url="/users/1"):
            conn.execute("UPDATE users SET name = 'ann b.', balance = 10 WHERE id = 1")
        conn.execute("DELETE FROM users WHERE id = 3")
        yield conn


@pytest.fixture
def run(database: str, conn: Connection, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `run("log", "users")` for the exit status, the output and the errors of a command."""
    return lambda *arguments: result(capsys, *arguments, "--dsn", database)


def lines(said: tuple[int, str, str]) -> list[Any]:
    """What a successful command printed as JSON, line by line."""
    status, out, err = said
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def moment(conn: Connection) -> str:
    """A time that is later than what has happened, and earlier than what will."""
    found = conn.execute("SELECT clock_timestamp()").fetchone()
    assert found
    return str(found[0].isoformat())


def context_of(conn: Connection) -> UUID:
    """The id of the only context with a user."""
    found = conn.execute("SELECT id FROM pghistory.context WHERE metadata ? 'user'").fetchone()
    assert found
    return UUID(str(found[0]))


def users(conn: Connection) -> list[tuple[Any, ...]]:
    return conn.execute("SELECT id, name FROM users ORDER BY id").fetchall()


# log


def test_log_shows_what_happened_newest_first(conn: Connection, run: Run) -> None:
    status, out, err = run("log", "users")
    assert (status, err) == (0, "")
    shown = re.sub(DATE, "<time>", out).replace(str(context_of(conn)), "<context>")
    assert shown.splitlines() == [
        "<time>  delete    users 3  user  public.users_event:5",
        "    id: 3, name: eve, balance: 3.00",
        "<time>  update    users 1  user  public.users_event:4",
        "    name: ann -> ann b., balance: 1.50 -> 10.00",
        "    context <context>  url: /users/1, user: carol",
        "<time>  insert    users 3  user  public.users_event:3",
        "    id: 3, name: eve, balance: 3.00",
        "<time>  insert    users 2  user  public.users_event:2",
        "    id: 2, name: bob, balance: 2.00",
        "<time>  insert    users 1  user  public.users_event:1",
        "    id: 1, name: ann, balance: 1.50",
    ]


def test_log_asks_for_what_events_asks_for(conn: Connection, run: Run) -> None:
    def slugs(*arguments: str) -> list[str]:
        return [event["slug"].removeprefix("public.") for event in lines(run("log", *arguments, "--json"))]

    assert len(slugs()) == 7
    assert slugs("users", "3") == ["users_event:5", "users_event:3"]
    assert slugs("orders", '{"line": 2, "id": 1}') == ["orders_event:2"]
    assert slugs("users", "1", "--references") == ["users_event:4", "orders_event:1", "users_event:1"]
    assert slugs("--label", "order") == ["orders_event:2", "orders_event:1"]
    assert slugs("--context", str(context_of(conn))) == ["users_event:4"]
    assert slugs("users", "--limit", "2") == ["users_event:5", "users_event:4"]
    assert len(slugs("users", "--limit", "all")) == 5
    (update,) = pyhist.events(conn, context_id=context_of(conn))
    assert slugs("users", "--since", update.created_at.isoformat()) == ["users_event:5", "users_event:4"]
    assert len(slugs("users", "--until", update.created_at.isoformat())) == 3


def test_an_event_as_json_has_all_its_fields(conn: Connection, run: Run) -> None:
    (event,) = lines(run("log", "--context", str(context_of(conn)), "--json"))
    (recorded,) = pyhist.events(conn, context_id=context_of(conn))
    created_at = datetime.fromisoformat(event.pop("created_at"))
    assert (created_at, created_at.utcoffset() is not None) == (recorded.created_at, True)
    assert event == {
        "id": 4,
        "label": "user",
        "operation": "U",
        "data": {"id": 1, "name": "ann b.", "balance": 10.00},
        "diff": {"name": ["ann", "ann b."], "balance": [1.5, 10.0]},
        "context": {"user": "carol", "url": "/users/1"},
        "context_id": str(context_of(conn)),
        "xid": recorded.xid,
        "table": "users",
        "event_table": "users_event",
        "object": "1",
        "slug": "public.users_event:4",
    }
    _, out, _ = run("log", "users", "1", "--json")
    assert '"balance": [1.50, 10.00]' in out


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_times_are_in_the_users_zone(
    conn: Connection, run: Run, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    conn.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    event = next(pyhist.events(conn, "users"))
    assert event.created_at.utcoffset() not in (None, timedelta(0))
    local = f"{event.created_at:%Y-%m-%d %H:%M:%S}"
    assert run("log", "users", "--limit", "1")[1].startswith(f"{local}  delete")
    (shown,) = lines(run("log", "users", "--limit", "1", "--json"))
    assert shown["created_at"] == event.created_at.isoformat()
    # Times that are given are read in it, too.
    assert len(lines(run("log", "users", "--until", local, "--json"))) < 5
    second = event.created_at + timedelta(seconds=1)
    assert len(lines(run("log", "users", "--until", f"{second:%Y-%m-%d %H:%M:%S}", "--json"))) == 5


def test_a_zone_that_the_server_does_not_know_is_passed_over(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Mars/Crater")
    assert len(lines(run("log", "users", "--json"))) == 5


def test_log_fits_into_a_terminal_and_has_colours_there(conn: Connection, database: str) -> None:
    conn.execute("UPDATE users SET name = repeat('long ', 100) WHERE id = 1")
    status, out = on_terminal("log", "users", "1", "--dsn", database, columns=70)
    assert status == 0
    assert "\033[33mupdate  \033[0m  \033[1musers 1\033[0m" in out
    assert re.search("name: \033\\[31mann b.\033\\[0m -> \033\\[32m(long )+.*\\.\\.\\.\033\\[0m\n", out)
    plain = re.sub("\033\\[\\d+m", "", out)
    assert max(map(len, plain.splitlines())) <= 70
    assert on_terminal("log", "users", "1", "--dsn", database, columns=70, NO_COLOR="1") == (0, plain)


def test_a_terminal_shows_fifty_events_unless_told_otherwise(conn: Connection, database: str) -> None:
    conn.execute("INSERT INTO users SELECT generate_series(10, 69)")

    def shown(*arguments: str) -> tuple[int, bool]:
        status, out = on_terminal("log", *arguments, "--dsn", database, NO_COLOR="1")
        assert status == 0
        return len(re.findall(rf"^{DATE}  ", out, re.MULTILINE)), "There are older events" in out

    assert shown() == (50, True)
    assert shown("--limit", "2") == (2, True)
    assert shown("--limit", "all") == (67, False)
    status, out = on_terminal("log", "--json", "--dsn", database)
    assert (status, len(out.splitlines())) == (0, 67)


def test_what_a_terminal_would_obey_is_not_sent_to_it(conn: Connection, database: str, run: Run) -> None:
    conn.execute("UPDATE users SET name = E'\\x1b]0;title\\x07\\n' WHERE id = 1")
    _, out = on_terminal("log", "users", "1", "--limit", "1", "--dsn", database, NO_COLOR="1")
    assert "\033" not in out
    assert r"name: ann b. -> \x1b]0;title\x07\n" in out
    assert lines(run("log", "users", "1", "--json"))[0]["data"]["name"] == "\x1b]0;title\x07\n"


def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(conn: Connection, database: str) -> None:
    conn.execute("INSERT INTO users SELECT generate_series(10, 5000)")
    log = [sys.executable, "-m", "pyhist", "log", "--json", "--dsn", database]
    with subprocess.Popen(log, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        assert json.loads(running.stdout.readline())["table"] == "users"
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 1


# diff


def test_diff_shows_what_changed_field_by_field(conn: Connection, run: Run) -> None:
    status, out, _ = run("diff", "users", "1")
    shown = re.sub(DATE, "<time>", out).replace(str(context_of(conn)), "<context>")
    assert status == 0
    assert re.sub(r"transaction \d+", "transaction <xid>", shown).splitlines() == [
        "<time>  update    users 1  user  public.users_event:4",
        "    transaction <xid>",
        "    context <context>  url: /users/1, user: carol",
        "    name     ann -> ann b.",
        "    balance  1.50 -> 10.00",
        "<time>  insert    users 1  user  public.users_event:1",
        "    transaction <xid>",
        "    id       1",
        "    name     ann",
        "    balance  1.50",
    ]
    assert run("diff", "users", "1", "--limit", "1")[1] in out
    assert run("diff", "users", "1", "--json") == run("log", "users", "1", "--json")


def test_diff_compares_a_table_at_two_times(conn: Connection, run: Run) -> None:
    begin = moment(conn)
    conn.execute("UPDATE users SET name = 'bob b.' WHERE id = 2; UPDATE users SET name = 'x' WHERE id = 1")
    conn.execute("DELETE FROM users WHERE id = 1; INSERT INTO users VALUES (4, 'dan')")
    end = moment(conn)
    conn.execute("DELETE FROM users")
    assert run("diff", "users", "--from", begin, "--to", end) == (
        0,
        "delete    users 1\n"
        "    id       1\n"
        "    name     ann b.\n"
        "    balance  10.00\n"
        "update    users 2\n"
        "    name  bob -> bob b.\n"
        "insert    users 4\n"
        "    id       4\n"
        "    name     dan\n"
        "    balance  null\n",
        "",
    )
    deleted, updated, inserted = lines(run("diff", "users", "--from", begin, "--to", end, "--json"))
    assert updated == {
        "table": "users",
        "obj": "2",
        "action": "UPDATE",
        "changes": {"name": ["bob", "bob b."]},
        "before": {"id": 2, "name": "bob", "balance": 2.0},
        "after": {"id": 2, "name": "bob b.", "balance": 2.0},
    }
    assert (deleted["changes"], deleted["before"]["name"], deleted["after"]) == (None, "ann b.", None)
    assert (inserted["obj"], inserted["action"], inserted["before"]) == ("4", "INSERT", None)
    assert lines(run("diff", "users", "2", "--from", begin, "--to", end, "--json")) == [updated]
    assert [found["obj"] for found in lines(run("diff", "users", "--from", end, "--json"))] == ["2", "4"]
    assert run("diff", "users", "--from", begin, "--to", begin) == (0, "", "")


def test_diff_of_two_times_names_objects_by_all_of_their_key(conn: Connection, run: Run) -> None:
    begin = moment(conn)
    conn.execute("DELETE FROM orders WHERE line = 2")
    (deleted,) = lines(run("diff", "orders", "--from", begin, "--json"))
    assert deleted["obj"] == '{"id": 1, "line": 2}'
    assert lines(run("diff", "orders", '{"id": 1, "line": 2}', "--from", begin, "--json")) == [deleted]


def test_a_value_that_looks_different_is_different(conn: Connection, run: Run) -> None:
    conn.execute("CREATE TABLE amounts (id integer PRIMARY KEY, amount numeric, raw json)")
    pyhist.track(conn, "amounts", pyhist.History("amount"))
    conn.execute("""INSERT INTO amounts VALUES (1, 1.0, '{"a":\n1.50}')""")
    begin = moment(conn)
    conn.execute("UPDATE amounts SET amount = 1.00")
    _, out, _ = run("diff", "amounts", "--from", begin, "--json")
    assert '"changes": {"amount": [1.0, 1.00]}' in out
    assert '"before": {"id": 1, "amount": 1.0, "raw": {"a": 1.50}}' in out


def test_tables_of_any_name_can_be_compared(conn: Connection, run: Run) -> None:
    name, key = '"100%s ""odd"" table"', '"%s ""odd"" key"'
    conn.execute(f"CREATE TABLE {name} ({key} integer PRIMARY KEY)")
    pyhist.track(conn, name, pyhist.History("odd"))
    begin = moment(conn)
    conn.execute(f"INSERT INTO {name} VALUES (1)")
    assert run("diff", name, "--from", begin)[1] == f'insert    {name} 1\n    %s "odd" key  1\n'


def test_two_times_of_a_table_without_key_cannot_be_compared(conn: Connection, run: Run) -> None:
    conn.execute("CREATE TABLE notes (note text)")
    pyhist.track(conn, "notes", pyhist.Snapshot("note"))
    status, out, err = run("diff", "notes", "--from", "yesterday")
    assert (status, out) == (1, "")
    assert err.startswith("pyhist: no tracker of notes names its rows HINT: ")


# as-of


def test_as_of_shows_a_table_as_it_was(conn: Connection, run: Run) -> None:
    now = moment(conn)
    conn.execute("TRUNCATE users CASCADE")
    assert run("as-of", "users", now) == (
        0,
        "id  name    balance\n--  ------  -------\n1   ann b.  10.00\n2   bob     2.00\n",
        "",
    )
    ann = {"id": 1, "name": "ann b.", "balance": 10.0}
    assert lines(run("as-of", "users", now, "--json"))[0] == ann
    assert '"balance": 10.00' in run("as-of", "users", now, "--json")[1]
    assert lines(run("as-of", "users", now, "1", "--json")) == [ann]
    assert lines(run("as-of", "users", now, "--where", "name LIKE 'ann%' -- only 100% her", "--json")) == [
        ann
    ]
    assert lines(run("as-of", "orders", now, '{"id": 1, "line": 2}', "--json")) == [
        {"id": 1, "line": 2, "user_id": 2}
    ]
    assert run("as-of", "users", "now") == (0, "No rows.\n", "")


def test_as_of_does_not_guess(run: Run) -> None:
    status, out, err = run("as-of", "users", "2001-01-01")
    assert (status, out) == (1, "")
    assert re.match("pyhist: the history of table public.users does not reach back .* HINT: ", err)


def test_large_tables_come_in_parts(conn: Connection, run: Run) -> None:
    conn.execute("INSERT INTO users SELECT generate_series(10, 2507)")
    _, out, _ = run("as-of", "users", "now")
    assert len(re.findall("^id ", out, re.MULTILINE)) == 3
    assert len(re.findall(r"^\d", out, re.MULTILINE)) == 2500


def test_a_table_too_wide_for_the_terminal_has_a_line_for_each_column(
    conn: Connection, database: str
) -> None:
    now = moment(conn)
    status, out = on_terminal("as-of", "users", now, "1", "--dsn", database, columns=25)
    assert (status, out) == (0, "id       1\nname     ann b.\nbalance  10.00\n")
    conn.execute("UPDATE users SET name = repeat('x', 100) WHERE id = 1")
    status, out = on_terminal("as-of", "users", "now", "1", "--dsn", database, columns=40)
    assert status == 0
    assert out.splitlines()[2] == f"1   {'x' * 24}...  10.00"


# revert


def test_revert_puts_a_row_back(conn: Connection, run: Run) -> None:
    assert run("revert", "users_event:1") == (
        0,
        "The row is what it was in users_event:1:\n    id       1\n    name     ann\n    balance  1.50\n",
        "",
    )
    status, out, _ = run("revert", "public.users_event:5", "--json")
    assert status == 0
    assert out == '{"event": "public.users_event:5", "row": {"id": 3, "name": "eve", "balance": 3.00}}\n'
    assert users(conn) == [(1, "ann"), (2, "bob"), (3, "eve")]


@pytest.mark.parametrize(
    ("slug", "message"),
    [
        ("users_event:99", "there is no event users_event:99 HINT: "),
        ("nobody_event:1", 'relation "nobody_event" does not exist HINT: '),
        ("users_event", '"users_event" does not name an event HINT: '),
        ("users_event:1; DROP TABLE users", "does not name an event HINT: "),
        ("users_event e; DROP TABLE users --:1", "pyhist: "),
    ],
)
def test_revert_takes_the_name_of_an_event_only(conn: Connection, run: Run, slug: str, message: str) -> None:
    before = users(conn)
    status, out, err = run("revert", slug)
    assert (status, out) == (1, "")
    assert message in err
    assert users(conn) == before


# undo


def test_undo_takes_back_what_a_context_did_and_says_how_to_have_it_again(conn: Connection, run: Run) -> None:
    context_id = context_of(conn)
    status, out, err = run("undo", str(context_id))
    assert (status, err) == (0, "")
    assert out.startswith(f"1 change of context {context_id} taken back.\nTo have it again: pyhist undo ")
    assert users(conn) == [(1, "ann"), (2, "bob")]
    (event,) = pyhist.events(conn, "users", max_rows=1)
    again = out.split()[-1]
    assert str(event.context_id) == again
    assert event.context == {"undo": {"context_id": str(context_id)}}
    done = run("undo", again, "--json")
    assert lines(done) == [{"undone": 1, "context_id": lines(done)[0]["context_id"]}]
    assert users(conn) == [(1, "ann b."), (2, "bob")]


def test_undo_takes_back_a_transaction(conn: Connection, run: Run) -> None:
    (deleted,) = (event for event in pyhist.events(conn, "users") if event.operation == "D")
    status, out, _ = run("undo", "--transaction", str(deleted.xid))
    assert (status, out.splitlines()[0]) == (0, f"1 change of transaction {deleted.xid} taken back.")
    assert users(conn) == [(1, "ann b."), (2, "bob"), (3, "eve")]


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(conn: Connection, run: Run) -> None:
    context_id = context_of(conn)
    status, out, _ = run("undo", str(context_id), "--dry-run")
    assert status == 0
    heads, _, row = out.splitlines()
    assert heads.split() == ["step", "action", "row", "changes", "takes", "back", "conflict"]
    assert re.match(r"1     UPDATE  users 1  .*name: ann b\. -> ann.*  public.users_event:4$", row)
    (step,) = lines(run("undo", str(context_id), "--dry-run", "--json"))
    assert step == {
        "step": 1,
        "table": "users",
        "obj": "1",
        "action": "UPDATE",
        "event": "public.users_event:4",
        "changes": {"name": ["ann b.", "ann"], "balance": [10.0, 1.5]},
        "conflict": None,
    }
    assert users(conn) == [(1, "ann b."), (2, "bob")]
    xid = next(pyhist.events(conn, context_id=context_id)).xid
    assert lines(run("undo", "--transaction", str(xid), "--dry-run", "--json")) == [step]


def test_undo_refuses_where_rows_changed_since_unless_it_is_forced(conn: Connection, run: Run) -> None:
    conn.execute("UPDATE users SET name = 'ann c.' WHERE id = 1")
    context_id = str(context_of(conn))
    status, out, err = run("undo", context_id)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("pyhist: ")
    assert "users" in err
    assert users(conn)[0] == (1, "ann c.")
    status, out, _ = run("undo", context_id, "--dry-run")
    assert (status, "users_event:6" in out) == (1, True)
    assert run("undo", context_id, "--dry-run", "--force")[0] == 0
    assert run("undo", context_id, "--force")[0] == 0
    assert users(conn)[0] == (1, "ann")


# backfill


@pytest.fixture
def untold(conn: Connection) -> Connection:
    """Where rows of two tables, one of them partitioned, have no events yet."""
    conn.execute(
        """CREATE TABLE plain (id integer PRIMARY KEY, filler text);
           INSERT INTO plain SELECT n, repeat('x', 1000) FROM generate_series(1, 100) AS n;
           CREATE TABLE parts (id integer PRIMARY KEY) PARTITION BY RANGE (id);
           CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (500);
           CREATE TABLE high PARTITION OF parts FOR VALUES FROM (500) TO (1000);
           INSERT INTO parts SELECT generate_series(1, 999)"""
    )
    pyhist.track(conn, "plain", pyhist.History("plain"))
    pyhist.track(conn, "parts", pyhist.History("part"))
    return conn


def test_backfill_writes_an_event_for_each_row_that_has_none(untold: Connection, run: Run) -> None:
    untold.execute("UPDATE parts SET id = 0 WHERE id = 999")
    assert run("backfill", "parts") == (0, "998 events of parts written.\n", "")
    assert run("backfill", "parts") == (0, "0 events of parts written.\n", "")
    assert run("backfill", "plain", "plain", "--json") == (0, '{"written": 100}\n', "")
    assert {event.operation for event in pyhist.events(untold, "plain")} == {"S"}


@pytest.mark.parametrize("table", ["plain", "parts"])
def test_backfill_commits_in_batches(untold: Connection, run: Run, table: str) -> None:
    status, out, _ = run("backfill", table, "--batch-pages", "1")
    assert (status, out.split()[0]) == (0, {"plain": "100", "parts": "999"}[table])
    found = untold.execute(
        f"SELECT count(DISTINCT pgh_xid), count(*), count(DISTINCT pgh_obj_id) FROM {table}_event"
    ).fetchone()
    assert found == ({"plain": (15, 100, 100), "parts": (6, 999, 999)}[table])


def test_backfill_shows_its_progress_on_a_terminal(untold: Connection, database: str) -> None:
    status, out = on_terminal("backfill", "plain", "--batch-pages", "5", "--dsn", database)
    assert status == 0
    shown = re.sub(r"\d+ s left", "<time> left", out).split("\r\033[K")[1:]
    assert shown == [
        "[--------------------]   0%  0 events",
        "[######--------------]  33%  35 events  <time> left",
        "[#############-------]  67%  70 events  <time> left",
        "[####################] 100%  100 events",
        "[####################] 100%  100 events",
        "100 events of plain written.\n",
    ]


def test_an_interrupted_backfill_says_so_and_can_be_called_again(
    untold: Connection, database: str, run: Run, connect: Callable[..., Connection]
) -> None:
    other = connect(autocommit=False)
    other.execute("LOCK TABLE plain_event")
    command = [
        sys.executable,
        "-m",
        "pyhist",
        "backfill",
        "plain",
        "--dsn",
        f"{database} application_name=it",
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what runs in the background of a shell may have been told to ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'it' AND wait_event_type = 'Lock'"
        while not untold.execute(waiting).fetchall():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.communicate() == ("", "pyhist: interrupted\n")
    assert running.returncode == 130
    other.rollback()
    assert run("backfill", "plain") == (0, "100 events of plain written.\n", "")


# All of them


@pytest.mark.parametrize(
    "arguments",
    [
        ("log", "nobody"),
        ("log", "--since", "sometime"),
        ("diff", "nobody", "1"),
        ("diff", "nobody", "--from", "now"),
        ("as-of", "nobody", "now"),
        ("as-of", "users", "sometime"),
        ("as-of", "users", "now", "--where", "wrong = 1"),
        ("undo", str(uuid4())),
        ("undo", str(uuid4()), "--dry-run"),
        ("undo", "--transaction", "4000000000"),
        ("backfill", "nobody"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_goes_wrong_is_one_line_on_standard_error(
    run: Run, arguments: tuple[str, ...], options: tuple[str, ...]
) -> None:
    status, out, err = run(*arguments, *options)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("pyhist: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("log", "--references"),
        ("log", "users", "--references"),
        ("log", "--limit", "0"),
        ("log", "--context", "wrong"),
        ("diff", "users"),
        ("diff", "users", "1", "--to", "now"),
        ("as-of", "users"),
        ("undo",),
        ("undo", str(uuid4()), "--transaction", "1"),
        ("backfill", "users", "--batch-pages", "0"),
    ],
)
def test_wrong_usage_is_told(
    run: Run, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: pyhist {arguments[0]}")
