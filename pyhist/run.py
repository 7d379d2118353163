"""`pyhist run key=value -- COMMAND`: any program with a context, through libpq's own environment.

PGOPTIONS sets the two settings of the protocol for each session that the program opens.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from psycopg import pq

from pyhist.context import as_json
from pyhist.errors import HistoryError

# In PGOPTIONS, white space ends a word and a backslash escapes what follows.
_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
_SPECIAL, _ESCAPE = re.compile(r"([\s\\])"), r"\\\1"


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """The command line up to `--`, and the program behind it if it is `pyhist run`."""
    if list(arguments[:1]) != ["run"] or "--" not in arguments:
        return arguments, None
    end = list(arguments).index("--")
    return arguments[:end], arguments[end + 1 :]


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds it to the command line."""
    added = command("run", _run, "run any program with a context")
    added.usage = "pyhist run [--dsn DSN] [KEY=VALUE | KEY:=JSON ...] -- COMMAND [ARGUMENT ...]"
    added.epilog = "The exit status is the program's; 127 if it is not there."
    added.add_argument(
        "--dsn", default="", metavar="DSN", help="connection string or URI to put into its environment"
    )
    added.add_argument(
        "metadata",
        type=_pair,
        nargs="*",
        metavar="KEY=VALUE",
        help="what the context says: KEY=VALUE for a text, KEY:=JSON for a number or what else JSON has",
    )
    added.set_defaults(refuse=added.error)


def _pair(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    is_json = key.endswith(":")
    key = key.removesuffix(":")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE")
    try:
        return key, json.loads(value, parse_constant=_refuse_constant) if is_json else value
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _run(options: argparse.Namespace) -> int:
    if not options.program:
        options.refuse("-- COMMAND is missing")
    program, environment = options.program, {**os.environ, **_environment(options.dsn)}
    environment["PGOPTIONS"] = with_context(environment.get("PGOPTIONS", ""), dict(options.metadata))
    sys.stdout.flush()
    for name in ("SIGPIPE", "SIGXFSZ"):
        # Python ignores these; other programs rely on them.
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(program[0], program, environment)
    except OSError as error:
        print(f"pyhist: {program[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


def _environment(dsn: str) -> dict[str, str]:
    """The environment that makes libpq connect as a connection string says."""
    environment = {}
    for option in pq.Conninfo.parse(dsn.encode()) if dsn else ():
        if option.val is not None:
            if not option.envvar:
                raise HistoryError(
                    f"{option.keyword.decode()} cannot be handed on by the environment",
                    hint="Give it to the program itself.",
                )
            environment[option.envvar.decode()] = option.val.decode()
    return environment


def with_context(pgoptions: str, metadata: Mapping[str, Any]) -> str:
    """The value of PGOPTIONS with a context: the one that is there goes on, with more metadata."""
    active = _settings(pgoptions)
    metadata = {**_loaded(active.get("pghistory.context_metadata")), **as_json(metadata)}
    settings = {
        "pghistory.context_id": active.get("pghistory.context_id") or str(uuid4()),
        "pghistory.context_metadata": json.dumps(metadata),
    }
    added = [f"-c {name}={_SPECIAL.sub(_ESCAPE, value)}" for name, value in settings.items()]
    return " ".join([pgoptions, *added] if pgoptions else added)


def _settings(pgoptions: str) -> dict[str, str]:
    """What PGOPTIONS sets, as the server reads it."""
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORD.findall(pgoptions)]
    settings: dict[str, str] = {}
    for i, word in enumerate(words):
        if word.startswith(("-c", "--")):
            setting = word[2:] or "".join(words[i + 1 : i + 2])
            name, _, value = setting.partition("=")
            settings[name] = value
    return settings


def _loaded(metadata: str | None) -> dict[str, Any]:
    try:
        loaded = json.loads(metadata or "{}")
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}
