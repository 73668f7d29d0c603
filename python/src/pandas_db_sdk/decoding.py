"""An Arrow table as the pandas frame that was sent, or as pyarrow makes it where a table was sent."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from . import columns, indexes, labels, metadata, portable
from .columns import DEFAULT_STRING


def decode(table: pa.Table) -> pd.DataFrame:
    """Return the frame that a table is, whoever sent it."""
    specs = [metadata.spec_of(described) for described in table.schema]
    about = metadata.about_of(table.schema)
    if about is None and not any(specs):
        return _to_pandas(table)
    about = about or {}
    names = table.column_names
    own = [at for at, spec in enumerate(specs) if spec.keys() & {"kind", "level", "missing_of"}]
    beside = {specs[at]["missing_of"]: table.column(at) for at in own if "missing_of" in specs[at]}
    special = {
        at: columns.decode(table.column(at), specs[at], beside.get(names[at]))
        for at in own
        if "kind" in specs[at] and "level" not in specs[at]
    }
    frame = _join(table, special, _rest_of(table, [at for at in range(len(names)) if at not in set(own)]))
    if "index" in about:
        levels = [at for at in own if "level" in specs[at]]
        if len(levels) == len(about["index"]["names"]):
            levels.sort(key=lambda at: int(specs[at]["level"]))
            found = [indexes.decode(table.column(at), specs[at], beside.get(names[at])) for at in levels]
            frame.index = indexes.build(found, about["index"])
    indexes.restore_freq(frame.index, about.get("freq"))
    shown = [(names[at], specs[at]) for at in _shown(table)]
    found_labels = labels.of_columns(shown, about.get("labels"))
    if found_labels is not None:
        frame.columns = found_labels
    if "attrs" in about:
        frame.attrs = portable.load(about["attrs"])
    return frame


def decode_part(table: pa.Table, first_row: int, total_rows: int) -> pd.DataFrame:
    """Return a part of a frame, with the part of the frame's index that belongs to it.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of the frame that follow one another.
    first_row : int
        The place of the first of them.
    total_rows : int
        Rows of the whole frame.
    """
    frame = decode(table)
    if not isinstance(frame.index, pd.RangeIndex) or metadata.index_names(table.schema):
        return frame
    told = metadata.index_range(table.schema)
    start, step = first_row, 1
    if told and len(range(told["start"], told["stop"], told["step"])) == total_rows:
        start, step = told["start"] + first_row * told["step"], told["step"]
    frame.index = pd.RangeIndex(start, start + len(frame) * step, step, name=frame.index.name)
    return frame


def names_of(schema: pa.Schema, wanted: Sequence[Hashable]) -> list[str]:
    """Return the names of the columns that hold these labels, and of those that belong to them, as the index does.

    Raises
    ------
    ValueError
        Naming a label that there is no column for.
    """
    specs = {described.name: metadata.spec_of(described) for described in schema}
    by_label: dict[Hashable, list[str]] = {}
    for name, spec in specs.items():
        if not spec.keys() & {"missing_of", "level"}:
            by_label.setdefault(labels.label_of(name, spec), []).append(name)
    names: list[str] = []
    for label in wanted:
        spelled = labels.arrow_name(label)
        found = by_label.get(label) or ([spelled] if spelled in specs else [])
        if not found:
            known = ", ".join(map(repr, by_label))
            raise ValueError(f"columns: there is no column {label!r}; the columns are: {known[:1_000]}")
        names += found
    names += [name for name in metadata.index_names(schema) if name in specs]
    names += [name for name, spec in specs.items() if "level" in spec]
    names += [name for name, spec in specs.items() if spec.get("missing_of") in names]
    return list(dict.fromkeys(names))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        told = metadata.index_range(table.schema)  # Of another number of rows, which pyarrow then forgets.
        if told and told["name"] is not None:
            frame.index.name = told["name"]
    return frame


def _shown(table: pa.Table) -> list[int]:
    """Return the positions of the columns that are columns of the frame."""
    indexed = set(metadata.index_names(table.schema))
    return [
        at
        for at, described in enumerate(table.schema)
        if described.name not in indexed and not metadata.spec_of(described).keys() & {"level", "missing_of"}
    ]


def _rest_of(table: pa.Table, positions: list[int]) -> pd.DataFrame:
    """Return the columns that pyarrow turns back, and the index where it does."""
    part = table.select(positions)
    about = metadata.pandas_of(part.schema)
    if about:
        kept = set(part.column_names)
        # pyarrow reads what is told of columns that are not there, and stumbles over some of it.
        about["columns"] = [each for each in about.get("columns", []) if _told_name(each) in kept]
        about["column_indexes"] = [each for each in about.get("column_indexes", []) if _is_text(each)]
        part = part.replace_schema_metadata({**part.schema.metadata, metadata.PANDAS_KEY: metadata.pack(about)})
    if part.num_columns:
        return _to_pandas(part)
    told = metadata.index_range(table.schema)
    index = pd.RangeIndex(told["start"], told["stop"], told["step"], name=told["name"]) if told else pd.RangeIndex(0)
    frame: pd.DataFrame = pd.DataFrame(index=index if len(index) == table.num_rows else pd.RangeIndex(table.num_rows))
    return frame


def _told_name(column: dict[str, Any]) -> Any:
    return column.get("field_name") or column.get("name")


def _is_text(level: dict[str, Any]) -> bool:
    is_name = level.get("name") is None or isinstance(level["name"], str)
    return is_name and level.get("pandas_type") in ("unicode", "string", "empty")


def _join(table: pa.Table, special: dict[int, Any], rest: pd.DataFrame) -> pd.DataFrame:
    """Put our columns between those that pyarrow turned back."""
    if not special:
        return rest
    plain = iter(range(rest.shape[1]))
    shown = _shown(table)
    joined: dict[int, pd.Series] = {}
    for at in shown:
        if at in special:
            joined[at] = pd.Series(special[at], index=rest.index, dtype=special[at].dtype, copy=False)
        else:
            joined[at] = rest.iloc[:, next(plain)]
    frame: pd.DataFrame = pd.DataFrame(joined, index=rest.index, copy=False)
    name = rest.columns.name
    frame.columns = pd.Index([table.column_names[at] for at in shown], dtype=DEFAULT_STRING, name=name)
    return frame
