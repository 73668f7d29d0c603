"""Columns of Python objects: to Arrow where Arrow has them exactly, else to JSON, and back.

A missing value is null in Arrow, but pandas has several: None, NaN, NA and NaT. Where a column has one of them its
name goes with the column; where it has more, a column beside it tells which.
"""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
from typing import Any, Callable

import numpy as np
import pandas as pd
import pyarrow as pa

from . import portable
from .metadata import Spec

MISSING: tuple[Any, ...] = (None, np.nan, pd.NA, pd.NaT)
"""The missing values; a marker is a position in here."""

JSON = pa.struct([("json", pa.string())])
"""Values as JSON: a type of its own, so that no version's text or dicts are taken for it."""

# What infer_dtype says of values that Arrow surely gives back as they are.
_EXACT = {"boolean", "bytes", "floating"}


def encode(values: np.ndarray, where: str) -> tuple[pa.Array, Spec, pa.Array | None]:
    """Return an array of objects as Arrow, how to turn it back, and the markers of its missing values if they differ.

    Parameters
    ----------
    values : numpy.ndarray
        Of dtype object.
    where : str
        What a message calls the column.

    Raises
    ------
    ValueError
        Naming the column and a value that has no exact form.
    """
    missing, markers = _find_missing(values)
    kind = "empty" if missing.all() else pd.api.types.infer_dtype(values, skipna=True)
    if kind == "floating":  # NaN is a value here.
        missing = missing & (markers != 1)
    kinds = np.unique(markers[missing]) if missing.any() else np.zeros(0, np.int8)
    spec: Spec = {"kind": "object", "missing": int(kinds[0]) if len(kinds) == 1 else 0}
    beside = pa.array(markers, mask=~missing) if len(kinds) > 1 else None
    of, array = _encode_present(values, missing, kind, where)
    return array, {**spec, "of": of}, beside


def is_text_with_none(values: np.ndarray) -> bool:
    """Return whether objects are all text or None, which pyarrow brings through by itself before pandas 3."""
    is_text = pd.api.types.infer_dtype(values, skipna=True) == "string"
    return is_text and all(value is None for value in values[pd.isna(values)])


def decode(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None) -> np.ndarray:
    """Return what :func:`encode` was given."""
    # The newest version may have had no values, and so nothing to tell of their kind.
    of = "json" if column.type == JSON else spec.get("of", "")
    restore = _RESTORE.get(of, pa.ChunkedArray.to_pylist)
    items = restore(column)
    values = np.empty(len(items), dtype=object)
    values[:] = items if isinstance(items, np.ndarray) else _boxed(items)
    marker = spec.get("missing", 0)
    if column.null_count and (marker or beside is not None):
        missing = column.is_null().to_numpy()
        values[missing] = MISSING[marker]
        if beside is not None:
            found = beside.fill_null(marker).to_numpy()
            for each in range(len(MISSING)):
                values[missing & (found == each)] = MISSING[each]
    return values


def _boxed(items: list[Any]) -> np.ndarray:
    """Return items as an array of objects that NumPy does not look into."""
    boxed = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        boxed[position] = item
    return boxed


def _find_missing(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    missing = pd.isna(values)
    markers = np.zeros(len(values), np.int8)
    for position in np.flatnonzero(missing):
        value = values[position]
        if value is None:
            continue
        if value is pd.NA or value is pd.NaT:
            markers[position] = 2 if value is pd.NA else 3
        elif isinstance(value, float):
            markers[position] = 1
        else:  # A missing value of another type, such as Decimal("NaN"), is a value.
            missing[position] = False
    return missing, markers


def _encode_present(values: np.ndarray, missing: np.ndarray, kind: str, where: str) -> tuple[str, pa.Array]:
    if kind == "empty":  # A type that every other widens.
        return "item", pa.nulls(len(values))
    if kind == "string":
        try:
            return "string", pa.array(values, pa.string(), mask=missing)
        except (UnicodeError, pa.ArrowException, TypeError):  # Half a surrogate pair, or more than 2 GiB.
            return _encode_json(values, missing, where)
    for of in _candidates(values, missing, kind):
        array = _arrow(values, missing, kind)
        if array is None or array.type == JSON:
            break
        if kind in _EXACT or _same_values(values, missing, _RESTORE[of](pa.chunked_array([array]))):
            return of, array
    return _encode_json(values, missing, where)


def _candidates(values: np.ndarray, missing: np.ndarray, kind: str) -> list[str]:
    """Return in which ways the values could come back, by the first of them."""
    first = values[int(np.argmin(missing))] if len(values) and not missing.all() else None
    if kind in ("integer", "boolean", "bytes", "floating", "decimal", "date", "time"):
        return ["item"]
    if isinstance(first, np.ndarray):
        return ["array"]
    if isinstance(first, pd.Timestamp):
        return ["timestamp"]
    if isinstance(first, pd.Timedelta):
        return ["pandas_timedelta"]
    if isinstance(first, tuple):
        return ["tuple"]
    if isinstance(first, (list, dict, datetime.datetime, datetime.timedelta)):
        return ["item"]
    return []


def _arrow(values: np.ndarray, missing: np.ndarray, kind: str) -> pa.Array | None:
    types = (pa.int64(), pa.uint64()) if kind == "integer" else (pa.float64(),) if kind == "floating" else (None,)
    # pyarrow takes no mask with nested values; None is null to it anyway.
    present = [None if absent else value for value, absent in zip(values, missing)]
    for each in types:
        try:
            array = pa.array(present, each, from_pandas=False)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
        if isinstance(array, pa.Array) and array.null_count == missing.sum():
            return array
    return None


def _encode_json(values: np.ndarray, missing: np.ndarray, where: str) -> tuple[str, pa.Array]:
    texts: list[str | None] = [None] * len(values)
    for row in np.flatnonzero(~missing):
        try:
            texts[row] = portable.dumps(values[row])
        except (TypeError, ValueError, RecursionError) as error:
            value = values[row]
            raise ValueError(
                f"{where}: row {row} holds {portable.shown(value)} of type {type(value).__name__}, which has no exact "
                f"form in Arrow or JSON ({portable.shown(error, quoted=False)}); convert the column, for example with "
                ".astype(str), or leave it out"
            ) from error
    return "json", pa.StructArray.from_arrays([pa.array(texts, pa.string())], ["json"], mask=pa.array(missing))


def _same_values(values: np.ndarray, missing: np.ndarray, back: Any) -> bool:
    return all(missing[row] or same(values[row], back[row]) for row in range(len(values)))


def same(sent: Any, back: Any) -> bool:
    """Return whether a value is another in type and content; a NumPy number is the Python number of its value."""
    if isinstance(sent, np.ndarray) or isinstance(back, np.ndarray):
        return (
            type(sent) is type(back)
            and sent.dtype == back.dtype
            and sent.shape == back.shape
            and all(map(same, sent.ravel().tolist(), back.ravel().tolist()))
        )
    if isinstance(sent, (list, tuple)):
        return type(sent) is type(back) and len(sent) == len(back) and all(map(same, sent, back))
    if isinstance(sent, dict):
        return (
            type(sent) is type(back)
            and list(sent) == list(back)
            and all(same(item, back[key]) for key, item in sent.items())
        )
    if isinstance(sent, np.generic):
        sent = sent.item()
    if isinstance(sent, float) and isinstance(back, float):
        return (math.isnan(sent) and math.isnan(back)) or (sent == back)
    if type(sent) is not type(back) and not _both_integers(sent, back):
        return False
    if isinstance(sent, decimal.Decimal) and sent.is_nan():
        return bool(back.is_nan())
    if isinstance(sent, (datetime.datetime, datetime.time)):
        return bool(sent == back) and str(sent.tzinfo) == str(back.tzinfo)
    return sent is back or bool(sent == back)


def _both_integers(one: Any, other: Any) -> bool:
    integers = isinstance(one, numbers.Integral) and isinstance(other, numbers.Integral)
    return integers and not isinstance(one, bool) and not isinstance(other, bool)


def _each(convert: Callable[[Any], Any]) -> Callable[[pa.ChunkedArray], list[Any]]:
    return lambda column: [None if item is None else convert(item) for item in column.to_pylist()]


_RESTORE: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    "string": lambda column: column.to_numpy(),
    "item": pa.ChunkedArray.to_pylist,
    "array": lambda column: np.asarray(column.to_pandas(), dtype=object),
    "tuple": _each(tuple),
    "timestamp": _each(pd.Timestamp),
    "pandas_timedelta": _each(pd.Timedelta),
    "json": _each(lambda item: portable.loads(item["json"])),
}
