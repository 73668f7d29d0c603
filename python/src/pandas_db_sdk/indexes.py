"""An index as columns of Arrow and back, where pyarrow alone does not bring it through."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from . import columns, objects, portable
from .columns import DEFAULT_STRING, Encoded
from .metadata import Spec


def is_plain(index: pd.Index) -> bool:
    """Return whether pyarrow alone brings an index through, but for its frequency."""
    if not all(name is None or type(name) is str for name in index.names):
        return False
    if isinstance(index, pd.RangeIndex):
        return True
    if isinstance(index, pd.MultiIndex) and index.nlevels == 1:
        return False
    return all(map(_is_plain_level, _levels(index)))


def _levels(index: pd.Index) -> list[pd.Index]:
    """Return the values of each level; pandas takes a number for the name of a level first."""
    nameless = index.set_names([None] * index.nlevels)
    return [nameless.get_level_values(number) for number in range(index.nlevels)]


def _is_plain_level(level: pd.Index) -> bool:
    dtype: Any = level.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return columns.encode(pd.Series(level), "the index") is None
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return bool(dtype == DEFAULT_STRING) and objects.is_text_with_none(level.to_numpy())
    if isinstance(dtype, (pd.ArrowDtype, pd.SparseDtype)) or hasattr(level.array, "_mask"):
        return False
    return bool(dtype == DEFAULT_STRING) or getattr(dtype, "kind", "") in "iufbMm"


def encode(index: pd.Index, what: str) -> list[Encoded]:
    """Return each level as it is sent; each has an array, and in its spec its dtype.

    Raises
    ------
    ValueError
        Naming the level and a value that has no exact form.
    """
    encoded = []
    for number, values in enumerate(_levels(index)):
        series = pd.Series(values, index=range(len(values)), dtype=values.dtype)
        level = columns.encode(series, f"level {number} of {what}") or Encoded(None, {})
        array = pa.array(series, from_pandas=True) if level.array is None else level.array
        encoded.append(Encoded(array, {**level.spec, "dtype": str(values.dtype)}, level.beside))
    return encoded


def decode(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None = None) -> pd.Index:
    """Return a level as :func:`encode` was given it."""
    values = columns.decode(column, spec, beside)
    level: pd.Index = pd.Index(values, dtype=values.dtype, tupleize_cols=False)
    if str(level.dtype) == spec.get("dtype", str(level.dtype)):
        return level
    with suppress(TypeError, ValueError):  # A version may have widened it, or this pandas have no such dtype.
        level = level.astype(spec["dtype"])
    return level


def about(index: pd.Index) -> dict[str, Any]:
    """Return what else it takes to put levels together.

    Raises
    ------
    ValueError
        Naming a name of a level that has no exact form.
    """
    return {
        "names": [dump_label(name) for name in index.names],
        "multi": isinstance(index, pd.MultiIndex),
        "freq": freq(index),
    }


def build(levels: list[pd.Index], told: dict[str, Any]) -> pd.Index:
    """Put levels together."""
    names = [portable.load(name) for name in told["names"]]
    index: pd.Index
    index = pd.MultiIndex.from_arrays(levels, names=names) if told["multi"] else levels[0].rename(names[0])
    restore_freq(index, told["freq"])
    return index


def freq(index: pd.Index) -> str | None:
    """Return the frequency of an index of instants or durations."""
    return index.freqstr if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None


def restore_freq(index: pd.Index, told: str | None) -> None:
    """Set a frequency, where an index still has it."""
    if told and isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        settable: Any = index
        try:
            settable.freq = told
        except ValueError:  # These are not all of the rows, or those of several versions.
            return


def dump_label(label: Any) -> Any:
    """Return a label or a name as JSON.

    Raises
    ------
    ValueError
        Naming it, when it has no exact form.
    """
    try:
        return portable.dump(label)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"the label {portable.shown(label)} cannot be stored: {error}") from error
