"""The labels of a frame's columns: as names of Arrow columns, which are text and unlike one another, and back."""

from __future__ import annotations

import base64
from collections.abc import Container, Hashable
from typing import Any

import pandas as pd
import pyarrow as pa

from . import indexes, metadata, objects, portable
from .columns import DEFAULT_STRING
from .metadata import Spec


def arrow_name(label: Hashable) -> str:
    """Return a label as pyarrow spells it when it makes it the name of a column."""
    if isinstance(label, str):
        return label
    if isinstance(label, tuple):
        return str(tuple(map(arrow_name, label)))
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    return str(label)


def column_names(labels: pd.Index) -> list[str]:
    """Return a name for each label: its own spelling, with a number behind it where that is taken."""
    spelled = [arrow_name(label) for label in labels]
    taken = set(spelled)
    if len(taken) == len(spelled):
        return spelled
    names: list[str] = []
    seen = set()
    for name in spelled:
        if name in seen:
            name = unused(name, taken)
            taken.add(name)
        seen.add(name)
        names.append(name)
    return names


def unused(name: str, taken: Container[str]) -> str:
    """Return a name with the first number behind it that makes it one that is not taken."""
    number = 1
    while f"{name}.{number}" in taken:
        number += 1
    return f"{name}.{number}"


def are_plain(labels: pd.Index) -> bool:
    """Return whether pyarrow alone brings labels through."""
    return (
        not isinstance(labels, pd.MultiIndex)
        and bool(labels.dtype == DEFAULT_STRING)
        and labels.is_unique
        and (labels.name is None or type(labels.name) is str)
        and all(type(label) is str for label in labels)
    )


def are_spelled_by_pyarrow(labels: pd.Index, names: list[str]) -> bool:
    """Return whether pyarrow makes these names of labels by itself, and tells other readers what they were."""
    if not isinstance(labels, pd.MultiIndex) and labels.inferred_type.startswith("mixed"):
        return False
    return [arrow_name(label) for label in labels] == names


def about(labels: pd.Index) -> dict[str, Any]:
    """Return the labels whole, for the metadata of the schema: a range, or a table whose columns are the levels."""
    if isinstance(labels, pd.RangeIndex):
        return {
            "range": [labels.start, labels.stop, labels.step],
            "names": [indexes.dump_label(labels.name)],
            "multi": False,
        }
    for label in labels:  # A label that cannot be stored is better named than its level.
        indexes.dump_label(label)
    levels = indexes.encode(labels, "the column labels")
    fields: list[pa.Field] = []
    arrays: list[Any] = []
    for number, level in enumerate(levels):
        arrays.append(level.array)
        fields.append(metadata.field(str(number), arrays[-1].type, level.spec))
        if level.beside is not None:
            fields.append(metadata.field(f"{number}.missing", level.beside.type, {"missing_of": str(number)}))
            arrays.append(level.beside)
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    return {**indexes.about(labels), "levels": _to_base64(table)}


def whole(told: dict[str, Any]) -> pd.Index:
    """Return the labels that :func:`about` was given."""
    if "range" in told:
        start, stop, step = told["range"]
        counted: pd.Index = pd.RangeIndex(start, stop, step, name=portable.load(told["names"][0]))
        return counted
    table = _from_base64(told["levels"])
    specs = {described.name: metadata.spec_of(described) for described in table.schema}
    beside = {spec["missing_of"]: table[name] for name, spec in specs.items() if "missing_of" in spec}
    levels = [
        indexes.decode(table[name], spec, beside.get(name)) for name, spec in specs.items() if "missing_of" not in spec
    ]
    return indexes.build(levels, told)


def of_columns(shown: list[tuple[str, Spec]], told: dict[str, Any] | None) -> pd.Index | None:
    """Return the labels of columns by their names and specs; None where the names are the labels.

    Parameters
    ----------
    shown : list of (str, dict)
        The columns, in order.
    told : dict or None
        The labels whole, as the newest version has them.
    """
    if told is None and not any("label" in spec for _, spec in shown):
        return None
    labels = [label_of(name, spec) for name, spec in shown]
    found: pd.Index
    if told is None:
        found = pd.Index(labels, tupleize_cols=False)
        return found
    known = whole(told)
    positions = [spec.get("position", -1) for _, spec in shown]
    if _are_at(list(known), positions, labels):
        found = known if positions == list(range(len(known))) else known.take(positions)
    elif told["multi"] and all(isinstance(label, tuple) and len(label) == known.nlevels for label in labels):
        found = pd.MultiIndex.from_tuples(labels, names=known.names)
    else:
        found = pd.Index(labels, name=known.name, tupleize_cols=False)
    return found


def label_of(name: str, spec: Spec) -> Any:
    """Return the label of one column; one that was given another name since has that."""
    return portable.load(spec["label"]) if "label" in spec and spec.get("name") == name else name


def _are_at(known: list[Any], positions: list[int], labels: list[Any]) -> bool:
    """Return whether labels stand where they say; those of another version need not."""
    return all(0 <= at < len(known) and objects.same(known[at], label) for at, label in zip(positions, labels))


def _to_base64(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _from_base64(text: str) -> pa.Table:
    return pa.ipc.open_stream(base64.b64decode(text)).read_all()
