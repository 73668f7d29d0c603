"""What kind of statement a text of SQL is, by its first words."""

from __future__ import annotations

import re
from collections.abc import Iterator

WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "DROP", "TRUNCATE", "ALTER", "REPLACE"})
_READS = frozenset({"SELECT", "VALUES", "TABLE", "FROM"})

_TOKEN = re.compile(
    r"""
      (?P<skip> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` )
    | (?P<word> [^\W\d]\w* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def is_write(query: str) -> bool:
    """Return whether a statement changes data; one that does must not be sent twice when its answer is lost."""
    words = _top_level_words(query)
    first = next(words, "")
    if first != "WITH":
        return first in WRITES
    return next((word for word in words if word in WRITES or word in _READS), "") in WRITES


def _top_level_words(query: str) -> Iterator[str]:
    """Yield the words outside of quotes, comments and brackets, in capitals."""
    depth, started = 0, False
    for token in _TOKEN.finditer(query):
        text = token[0]
        if token.lastgroup == "other":
            depth += (text == "(") - (text == ")")
        elif token.lastgroup == "word" and (depth <= 0 or not started):
            # A query may stand in brackets as a whole.
            started = True
            yield text.upper()
