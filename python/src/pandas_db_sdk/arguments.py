"""What callers ask for, checked: the arguments that both ways of talking to a server have."""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

KEY_KINDS = ("Date", "ID")
FORMS = ("pandas", "arrow", "polars")
DEFAULT_KEY = "NOW"


@dataclass(frozen=True)
class Load:
    """A frame to load, but for the frame."""

    name: str
    columns_keys: dict[Hashable, str]
    external_key: str
    keep_last: bool
    idempotency_key: str


@dataclass(frozen=True)
class Selection:
    """Which rows and columns of a dataset to read."""

    name: str
    external_key: str | None = None
    use_last: bool = False
    version: int | None = None
    as_of: str | None = None
    columns: list[Hashable] | None = None
    filter: str | None = None

    def command(self, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the GetDataframe of this, with these columns of the table."""
        fields: dict[str, Any] = {
            "external_key": self.external_key,
            "use_last": self.use_last or None,
            "version": self.version,
            "as_of": self.as_of,
            "columns": columns,
            "filter": self.filter,
        }
        return {"dataframe_name": self.name, **{key: value for key, value in fields.items() if value is not None}}


def check_name(name: Any) -> str:
    """Check that a dataset's name is text; what else it must be the server says."""
    return check_text("dataframe_name", name)


def check_text(what: str, value: Any) -> str:
    """Check that an argument is text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{what} must be a str that is not empty, not {value!r}")
    return value


def check_optional_text(what: str, value: Any) -> str | None:
    """Check that an argument is text or None."""
    return None if value is None else check_text(what, value)


def check_bool(what: str, value: Any) -> bool:
    """Check that an argument is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{what} must be True or False, not {value!r}")
    return bool(value)


def check_progress(value: Any) -> bool | None:
    """Check the argument ``progress``."""
    return None if value is None else check_bool("progress", value)


def check_number(what: str, value: Any, least: int) -> int:
    """Check that an argument is an integer that is large enough."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{what} must be an integer of at least {least}, not {value!r}")
    return int(value)


def check_optional_number(what: str, value: Any, least: int) -> int | None:
    """Check that an argument is None or an integer that is large enough."""
    return None if value is None else check_number(what, value, least)


def check_form(value: Any) -> str:
    """Check the argument ``as_``."""
    if value not in FORMS:
        raise ValueError(f"as_ must be one of {', '.join(map(repr, FORMS))}, not {value!r}")
    return str(value)


def check_columns_keys(keys: Any) -> dict[Hashable, str]:
    """Check the argument ``columns_keys``."""
    if keys is None:
        return {}
    if not isinstance(keys, Mapping):
        raise ValueError(f"columns_keys must be a dict of column to 'Date' or 'ID', not {keys!r}")
    for column, kind in keys.items():
        if kind not in KEY_KINDS:
            raise ValueError(f"columns_keys[{column!r}] must be 'Date' or 'ID', not {kind!r}")
    return dict(keys)


def check_columns(columns: Any) -> list[Hashable] | None:
    """Check the argument ``columns``."""
    if columns is None:
        return None
    if isinstance(columns, (str, bytes)) or not isinstance(columns, (Sequence, pd.Index, np.ndarray)):
        raise ValueError(f"columns must be a list of column labels, not {columns!r}")
    if not len(columns):
        raise ValueError("columns is empty; name at least one column, or leave it out for all")
    return list(columns)


def check_as_of(moment: str | datetime.datetime | None) -> str | None:
    """Check the argument ``as_of`` and return it as ISO 8601."""
    if moment is None or (isinstance(moment, str) and moment):
        return moment
    if isinstance(moment, datetime.datetime) and not pd.isna(moment):
        if moment.tzinfo is None:
            raise ValueError(f"as_of is {moment!r}, which has no time zone; give one, for example tzinfo=timezone.utc")
        return moment.isoformat()
    raise ValueError(f"as_of must be an ISO 8601 str or a datetime with a time zone, not {moment!r}")
