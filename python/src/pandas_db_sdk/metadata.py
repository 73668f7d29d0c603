"""What goes along with a table in its Arrow metadata: our key, and pandas' own as pyarrow writes it.

Ours is ``pandas_db``. At a field it is the *spec* of a column, at the schema it is *about* the frame. Both are JSON
objects. What stands there and is neither is somebody else's, and is left alone.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

KEY = b"pandas_db"
PANDAS_KEY = b"pandas"
FORM = 1
"""The version of what is in there; a later one is not read."""

Spec = dict[str, Any]


def pack(content: dict[str, Any]) -> bytes:
    """Return JSON as metadata holds it."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def field(name: str, kind: pa.DataType, spec: Spec) -> pa.Field:
    """Return a field with a spec, if there is anything in it."""
    return pa.field(name, kind, metadata={KEY: pack(spec)} if spec else None)


def spec_of(described: pa.Field) -> Spec:
    """Return the spec of a field; empty where there is none."""
    return _parse((described.metadata or {}).get(KEY)) or {}


def about_of(schema: pa.Schema) -> dict[str, Any] | None:
    """Return what our key tells about a frame; None where there is nothing of ours."""
    about = _parse((schema.metadata or {}).get(KEY))
    return about if about and about.get("form") == FORM else None


def pandas_of(schema: pa.Schema) -> dict[str, Any]:
    """Return what pandas' own key tells; empty where there is nothing."""
    return _parse((schema.metadata or {}).get(PANDAS_KEY)) or {}


def index_names(schema: pa.Schema) -> list[str]:
    """Return the names of the columns that pyarrow makes the index."""
    return [name for name in pandas_of(schema).get("index_columns", []) if isinstance(name, str)]


def index_range(schema: pa.Schema) -> dict[str, Any] | None:
    """Return the index that is no column but a range: its ``start``, ``stop``, ``step`` and ``name``."""
    for each in pandas_of(schema).get("index_columns", []):
        if isinstance(each, dict) and each.get("kind") == "range":
            return each
    return None


def _parse(text: bytes | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
