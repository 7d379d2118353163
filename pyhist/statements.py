"""What the text of statements tells: which of them may write, and where they begin.

Nothing here understands SQL. It knows quotes, comments and the ends of statements as psql does, and reads
first words. Texts are bytes in the client's encoding, in all of which the characters that matter here are
ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

# What may run a trigger or a function; and nothing that must not run in a transaction (VACUUM, CREATE INDEX
# CONCURRENTLY ...) or must come first in one (SET TRANSACTION ...).
_MAY_WRITE = re.compile(
    rb"""(?: INSERT | UPDATE | DELETE | MERGE | TRUNCATE | COPY | WITH | SELECT | VALUES | TABLE
           | CALL | DO | EXECUTE | EXPLAIN | DECLARE | FETCH | MOVE | REFRESH | CREATE \s+ (?: (?: GLOBAL |
           LOCAL | TEMP | TEMPORARY | UNLOGGED ) \s+ )* (?: TABLE | MATERIALIZED )
         ) (?! [\w$] )""",
    re.IGNORECASE | re.VERBOSE,
)
_COPY = re.compile(rb"COPY(?![\w$])", re.IGNORECASE)
_ROUTINE = re.compile(rb"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE)\b")
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_TOKEN = re.compile(
    rb"""(?P<space> \s+ | --[^\r\n]* )
       | (?P<comment> /\* )
       | (?P<quoted> [eE] ' (?: [^'\\] | \\. | '' )* (?: ' | \Z )
                   | ' (?: [^'] | '' )* (?: ' | \Z ) | " (?: [^"] | "" )* (?: " | \Z ) | (?P<dollars> \$ (?:
                   [A-Za-z_\x80-\xff] [\w\x80-\xff]* )? \$ ) .*? (?: (?P=dollars) | \Z ) )
       | (?P<word> [A-Za-z_\x80-\xff] [\w$\x80-\xff]* )
       | (?P<semicolon> ; )
       | (?P<opening> [(\[] )
       | (?P<closing> [)\]] )
       | (?P<other> \$?\d+ | . )""",
    re.DOTALL | re.VERBOSE,
)
_LINE = re.compile(r"^LINE \d+: .*\n *\^$", re.MULTILINE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_REMEMBERED = 256  # texts whose statements are remembered: a program sends the same ones again and again
_LONGEST_REMEMBERED = 4096  # bytes, as psycopg has it for queries
_WIDTH, _RIGHT = 60, 10  # characters that libpq shows of a line, and after the place


@dataclass(frozen=True)
class Statement:
    """One statement of a text.

    Attributes:
        start: offset of its first byte that is neither space nor comment.
        may_write: whether it may change a table, itself or by a function that it calls.
        is_copy: whether it is a COPY, which has a protocol of its own.
    """

    start: int
    may_write: bool
    is_copy: bool


def statements(text: bytes) -> Sequence[Statement]:
    """The statements in a text, in order; empty ones are none."""
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else _found(text)


@lru_cache(_REMEMBERED)
def _remembered(text: bytes) -> Sequence[Statement]:
    return _found(text)


def _found(text: bytes) -> Sequence[Statement]:
    found: list[Statement] = []
    start: int | None = None
    words: list[bytes] = []
    depth = blocks = 0
    is_single = b";" not in text.rstrip(b"; \t\r\n")
    for kind, position, end in _tokens(text):
        if kind == "semicolon" and not depth and not blocks:
            start, words = None, []
            continue
        if start is None:
            start = position
        if kind == "opening":
            depth += 1
        elif kind == "closing":
            depth = max(depth - 1, 0)
        elif not words:
            found.append(
                Statement(start, bool(_MAY_WRITE.match(text, position)), bool(_COPY.match(text, position)))
            )
            if is_single:
                break
            words.append(text[position:end].upper())
        elif kind == "word" and not depth:
            # The body of a routine in standard SQL: BEGIN ATOMIC ... END.
            word = text[position:end].upper()
            words.append(word)
            if (word == b"BEGIN" or (word == b"CASE" and blocks)) and _ROUTINE.match(b" ".join(words[:4])):
                blocks += 1
            elif word == b"END" and blocks:
                blocks -= 1
    return tuple(found)


def _tokens(text: bytes) -> Iterator[tuple[str | None, int, int]]:
    """Kind, start and end of everything in the text but space and comments."""
    position = 0
    while match := _TOKEN.match(text, position):
        end = match.end()
        if match.lastgroup == "comment":
            end = _comment_end(text, end)
        elif match.lastgroup != "space":
            yield match.lastgroup, position, end
        position = end


def _comment_end(text: bytes, position: int) -> int:
    """Where a comment ends whose text begins at the position: comments nest."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(text, position)):
        depth += 1 if edge[0] == b"/*" else -1
        position = edge.end()
    return len(text) if depth else position


@dataclass(frozen=True)
class Script:
    """A text with something put in front of those of its statements that may write.

    Attributes:
        text: as it was written.
        inserted: what is put in, a statement with its semicolon.
        places: the offsets in the text where it is.
    """

    text: bytes
    inserted: bytes
    places: tuple[int, ...]

    @property
    def sent(self) -> bytes:
        """What the server gets."""
        edges = (0, *self.places, len(self.text))
        return self.inserted.join(self.text[begin:end] for begin, end in pairwise(edges))

    def original(self, position: int, encoding: str) -> int:
        """The position in `text` of a position in `sent`; both count characters from 1."""
        places = [len(self.text[:place].decode(encoding, "replace")) for place in self.places]
        sent_places = [place + i * len(self.inserted) for i, place in enumerate(places)]
        return position - len(self.inserted) * sum(place < position for place in sent_places)


def scripted(text: bytes, inserted: bytes, found: Iterable[Statement]) -> Script:
    """The text with something in front of what may write, unless what is just before it had that."""
    places: list[int] = []
    had = False
    for statement in found:
        if statement.may_write and not had:
            places.append(statement.start)
        had = statement.may_write
    return Script(text, inserted, tuple(places))


def relocated(message: str, text: str, position: int) -> str:
    """An error's message with the place in it that the position, counted from 1, has in the text.

    It is shown as libpq shows it: the line, or as much of it as fits, and a caret below.
    """
    place = position - 1
    begin = max(text.rfind("\n", 0, place), text.rfind("\r", 0, place)) + 1
    number = len(_LINE_END.findall(text[:begin])) + 1
    line_end = _LINE_END.search(text, place)
    end = full_end = line_end.start() if line_end else len(text)
    full_begin = begin
    if end - begin > _WIDTH:
        if begin + _WIDTH >= place + _RIGHT:
            end = begin + _WIDTH
        else:
            end = min(end, place + _RIGHT)
            begin = max(begin, end - _WIDTH)
    head = f"LINE {number}: {'...' if begin > full_begin else ''}"
    shown = f"{head}{text[begin:end]}{'...' if end < full_end else ''}".replace("\t", " ")
    return _LINE.sub(lambda _: f"{shown}\n{' ' * (len(head) + place - begin)}^", message, count=1)
