"""The kinds of frames that callers give and ask for."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
import pyarrow as pa

from . import decoding, encoding, labels
from .encoding import EncodedFrame


def to_encoded(frame: Any) -> EncodedFrame:
    """Return any frame as it is sent.

    Raises
    ------
    ValueError
        When it is no frame, or cannot be stored exactly.
    """
    if isinstance(frame, pd.DataFrame):
        return encoding.encode(frame)
    if is_polars(frame):
        frame = _from_polars(frame)
    elif isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if not isinstance(frame, pa.Table):
        kind = type(frame)
        raise ValueError(
            "df must be a pandas DataFrame, a polars DataFrame or a pyarrow Table, "
            f"not {kind.__module__}.{kind.__qualname__}"
        )
    return EncodedFrame(frame, [(name, name) for name in frame.column_names], [])


def from_table(table: pa.Table, form: str) -> Any:
    """Return a table as the kind of frame that was asked for."""
    if form == "arrow":
        return table
    if form == "polars":
        return _to_polars(table)
    return decoding.decode(table)


def is_polars(frame: Any) -> bool:
    """Return whether something is a polars DataFrame, without importing polars."""
    kind = type(frame)
    return kind.__module__.partition(".")[0] == "polars" and kind.__name__ == "DataFrame"


def _from_polars(frame: Any) -> pa.Table:
    import polars

    return frame.to_arrow(compat_level=polars.CompatLevel.newest())


def _to_polars(table: pa.Table) -> Any:
    try:
        import polars
    except ImportError as error:
        raise ImportError('as_="polars" needs polars: pip install polars') from error
    return polars.from_arrow(table)


def resolve_keys(encoded: EncodedFrame, keys: dict[Hashable, str]) -> dict[str, str]:
    """Return ``columns_keys`` by the names of the table's columns.

    Raises
    ------
    ValueError
        Naming a column that there is not, or that there is more than once.
    """
    return {_name_of(encoded, label): kind for label, kind in keys.items()}


def _name_of(encoded: EncodedFrame, label: Hashable) -> str:
    known: list[tuple[Hashable, str]] = [*encoded.names, *encoded.index_names]
    for pairs in (encoded.names, encoded.index_names):
        found = [name for each, name in pairs if type(each) is type(label) and each == label]
        if len(found) > 1:
            raise ValueError(
                f"columns_keys: there are {len(found)} columns {label!r}; give the key column a label of its own"
            )
        if found:
            return found[0]
    spelled = labels.arrow_name(label)
    if any(name == spelled for _, name in known):
        return spelled
    shown = ", ".join(repr(each) for each, _ in known if each is not None)
    raise ValueError(f"columns_keys: there is no column {label!r}; the columns are: {shown[:1_000]}")


def labels_of_keys(encoded: EncodedFrame, keys: dict[str, str]) -> dict[Hashable, str]:
    """Return a server's ``columns_keys`` by the labels of the frame's columns."""
    known = {name: label for label, name in (*encoded.index_names, *encoded.names) if label is not None}
    return {known.get(name, name): kind for name, kind in keys.items()}
