"""A pandas frame as an Arrow table from which an equal frame can be made.

pyarrow alone brings most frames through, by the metadata key ``pandas``; those are sent as pyarrow makes them. What it
does not bring through goes along in our own key (see ``metadata``): at a field, how to turn the column back and what
its label is; at the schema, what the labels, the index and ``attrs`` were.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

from . import columns, indexes, labels, metadata, portable
from .columns import Encoded
from .metadata import Spec

_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class EncodedFrame:
    """A frame as it is sent.

    Attributes
    ----------
    table : pyarrow.Table
    names : list of (label, str)
        The label of each column of the frame, and the name of the column that holds it.
    index_names : list of (label, str)
        The same for the levels of the index that are columns of the table.
    """

    table: pa.Table
    names: list[tuple[Hashable, str]]
    index_names: list[tuple[Hashable, str]]


@dataclass
class _Table:
    """A table that is being put together."""

    fields: list[pa.Field] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)

    def add(self, name: str, array: Any, spec: Spec) -> None:
        self.fields.append(metadata.field(name, array.type, spec))
        self.arrays.append(array)

    def add_missing(self, name: str, column: Encoded | None) -> None:
        """Add which missing value each null of a column was, where there are several."""
        if column is not None and column.beside is not None:
            taken = {each.name for each in self.fields}
            self.add(labels.unused(f"{name}.missing", taken), column.beside, {"missing_of": name})


def encode(frame: pd.DataFrame) -> EncodedFrame:
    """Return a frame as it is sent.

    Raises
    ------
    ValueError
        Naming what cannot be brought through: a column and a value, a label, or a key of ``attrs``.
    """
    names = labels.column_names(frame.columns)
    encoded = [_encode_column(frame, position) for position in range(len(names))]
    levels = None if indexes.is_plain(frame.index) else indexes.encode(frame.index, "the index")
    about = _about(frame, levels is not None)
    plain = [position for position, column in enumerate(encoded) if column is None or column.array is None]
    rest = _to_arrow(_rest_of(frame, plain, names, levels is not None), frame, plain)
    pairs: list[tuple[Hashable, str]] = list(zip(frame.columns, names))
    if (not about and all(column is None for column in encoded)) or not (names or levels or rest.num_columns):
        # A table without columns has rows all the same, and loses them when it is altered.
        return EncodedFrame(rest, pairs, list(zip(frame.index.names, rest.column_names[len(names) :])))
    table = _Table()
    for position, (label, name) in enumerate(pairs):
        column = encoded[position]
        spec = dict(column.spec) if column else {}
        if "labels" in about:
            spec.update(name=name, label=indexes.dump_label(label), position=position)
        own = column is not None and column.array is not None
        table.add(name, column.array if column and own else rest.column(plain.index(position)), spec)
    for name, column in zip(names, encoded):
        table.add_missing(name, column)
    index_names = _add_index(table, frame.index, levels, rest, len(plain))
    told = dict(rest.schema.metadata or {})
    if about:
        told[metadata.KEY] = metadata.pack({"form": metadata.FORM, **about})
    built = pa.Table.from_arrays(table.arrays, schema=pa.schema(table.fields, metadata=told))
    return EncodedFrame(built, pairs, index_names)


def _encode_column(frame: pd.DataFrame, position: int) -> Encoded | None:
    return columns.encode(frame.iloc[:, position], f"column {portable.shown(frame.columns[position])}")


def _add_index(
    table: _Table, index: pd.Index, levels: list[Encoded] | None, rest: pa.Table, width: int
) -> list[tuple[Hashable, str]]:
    """Add the columns of the index, those that pyarrow made or ours."""
    if levels is None:
        for position in range(width, rest.num_columns):
            table.add(rest.column_names[position], rest.column(position), {})
        return list(zip(index.names, rest.column_names[width:]))
    taken = {each.name for each in table.fields}
    names: list[str] = []
    for number, level in enumerate(levels):
        # The name that pyarrow would give it, so that versions whose levels differ in kind go together.
        name = index.names[number]
        if type(name) is not str or name in taken:
            name = f"__index_level_{number}__"
        names.append(name if name not in taken else labels.unused(name, taken))
        taken.add(names[-1])
        table.add(names[-1], level.array, {**level.spec, "level": number})
    for name, level in zip(names, levels):
        table.add_missing(name, level)
    return list(zip(index.names, names))


def _about(frame: pd.DataFrame, own_index: bool) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if not labels.are_plain(frame.columns):
        about["labels"] = labels.about(frame.columns)
    if own_index:
        about["index"] = indexes.about(frame.index)
    elif indexes.freq(frame.index):
        about["freq"] = indexes.freq(frame.index)
    if frame.attrs:
        about["attrs"] = _dump_attrs(frame.attrs)
    return about


def _dump_attrs(attrs: dict[Hashable, Any]) -> Any:
    for key, value in attrs.items():
        try:
            portable.dump({key: value})
        except (TypeError, RecursionError) as error:
            raise ValueError(f"attrs[{key!r}] cannot be stored: {error}; take it out of df.attrs") from error
    return portable.dump(dict(attrs))


def _rest_of(frame: pd.DataFrame, plain: list[int], names: list[str], own_index: bool) -> pd.DataFrame:
    """Return the part of a frame that pyarrow converts."""
    spelled = labels.are_spelled_by_pyarrow(frame.columns, names)
    told_by_pyarrow = portable.dump(dict(frame.attrs)) == frame.attrs
    rest: pd.DataFrame = frame if len(plain) == len(names) else frame.iloc[:, plain]
    if spelled and not own_index and told_by_pyarrow:
        return rest
    rest = rest.copy(deep=False)
    if not told_by_pyarrow:
        rest.attrs = {}
    if not spelled:
        rest.columns = pd.Index([names[position] for position in plain])
    if own_index:
        rest.index = pd.RangeIndex(len(frame))
    return rest


def _to_arrow(rest: pd.DataFrame, frame: pd.DataFrame, plain: list[int]) -> pa.Table:
    try:
        return pa.Table.from_pandas(rest)
    except _REFUSALS as error:
        for position in plain:
            series = frame.iloc[:, position]
            try:
                pa.array(series.array, from_pandas=True)
            except _REFUSALS as cause:
                label = portable.shown(frame.columns[position])
                raise ValueError(f"column {label} of dtype {series.dtype} cannot be stored: {cause}") from cause
        raise ValueError(f"the frame cannot be stored: {error}") from error
