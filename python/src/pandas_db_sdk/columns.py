"""A column as Arrow and back, with what Arrow alone would not give back as it was.

A column that pyarrow and pandas bring through by themselves is left to them. For every other one there is a *spec*, a
small JSON object that goes along in the metadata of its field and says how to turn the column back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import pandas as pd
import pyarrow as pa

from . import objects, portable
from .metadata import Spec

PANDAS_3 = int(pd.__version__.partition(".")[0]) >= 3
DEFAULT_STRING = pd.Series([], dtype="str").dtype
"""The dtype of text that nobody chose: object before pandas 3."""


@dataclass(frozen=True)
class Encoded:
    """A column as it is sent.

    Attributes
    ----------
    array : pyarrow.Array or None
        None where pyarrow's own conversion of the column is the right one.
    spec : dict
        How to turn it back.
    beside : pyarrow.Array or None
        Which missing value each null was, where there are several.
    """

    array: pa.Array | None
    spec: Spec
    beside: pa.Array | None = None


def encode(series: pd.Series, where: str) -> Encoded | None:
    """Return a column as it is sent, or None where pyarrow alone brings it through.

    Parameters
    ----------
    series : pandas.Series
    where : str
        What a message calls the column.

    Raises
    ------
    ValueError
        Naming the column and a value, when the column cannot be brought through.
    """
    dtype: Any = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        return _encode_sparse(series, where)
    if isinstance(dtype, pd.StringDtype):
        return _encode_string(dtype)
    if isinstance(dtype, pd.ArrowDtype):
        return Encoded(_arrow_array(series), {"kind": "arrow"})
    if isinstance(dtype, pd.CategoricalDtype):
        return _encode_category(series, where)
    if isinstance(dtype, np.dtype) and dtype.kind == "c":
        return _encode_complex(series.to_numpy(), where)
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return _encode_objects(series.to_numpy(), where)
    return None


def decode(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None = None) -> Any:
    """Return the values of a column as :func:`encode` was given them.

    Where the column is no longer of the type that the spec was written for, because a version widened it, the values
    are those that pyarrow makes of it.
    """
    turn = _DECODE.get(spec.get("kind", ""))
    if turn is None:
        return pyarrow_values(column)
    try:
        return turn(column, spec, beside)
    except (KeyError, TypeError, ValueError, NotImplementedError, pa.ArrowException):
        return pyarrow_values(column)


def pyarrow_values(column: pa.ChunkedArray) -> Any:
    """Return what pyarrow makes of a column."""
    return pa.table({"c": column}).to_pandas()["c"].array


# Each kind


def _encode_complex(values: np.ndarray, where: str) -> Encoded:
    if values.dtype.itemsize > 16:
        raise ValueError(f"{where}: {values.dtype} is wider than any type of Arrow; use complex128")
    parts = [pa.array(np.ascontiguousarray(part)) for part in (values.real, values.imag)]
    return Encoded(
        pa.StructArray.from_arrays(parts, names=["real", "imag"]), {"kind": "complex", "dtype": str(values.dtype)}
    )


def _decode_complex(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None) -> np.ndarray:
    values = np.empty(len(column), spec["dtype"])
    whole = column.combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    at = 0
    for chunk in chunks:
        part = values[at : at + len(chunk)]
        part.real = chunk.field("real").to_numpy(zero_copy_only=False)
        part.imag = chunk.field("imag").to_numpy(zero_copy_only=False)
        if chunk.null_count:
            part[chunk.is_null().to_numpy(zero_copy_only=False)] = np.nan
        at += len(chunk)
    return values


def _encode_sparse(series: pd.Series, where: str) -> Encoded:
    sparse: Any = series.array
    dtype: Any = series.dtype
    dense = pd.Series(sparse.to_dense())
    inner = encode(dense, where)
    array = inner.array if inner and inner.array is not None else pa.array(dense, from_pandas=False)
    spec = {
        "kind": "sparse",
        "subtype": str(dtype.subtype),
        "fill": _dump_fill(dtype.fill_value, where),
        "form": sparse.kind,
        "inner": inner.spec if inner else None,
    }
    return Encoded(array, spec, inner.beside if inner else None)


def _dump_fill(value: Any, where: str) -> Any:
    try:
        return portable.dump(value)
    except TypeError as error:
        raise ValueError(f"{where}: the fill value of the sparse column: {error}") from error


def _decode_sparse(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None) -> Any:
    fill = portable.load(spec["fill"])
    inner = spec["inner"]
    dense = np.asarray(decode(column, inner, beside) if inner else pyarrow_values(column))
    dtype = pd.SparseDtype(spec["subtype"], fill)
    if column.null_count and dense.dtype.kind == "f" and dtype.subtype.kind in "iub":
        dtype = pd.SparseDtype(dense.dtype, np.nan)  # Another version lacks the column, and so it has holes.
    return pd.arrays.SparseArray(
        dense.astype(dtype.subtype), fill_value=dtype.fill_value, dtype=dtype, kind=spec["form"]
    )


def _encode_string(dtype: Any) -> Encoded | None:
    if dtype == DEFAULT_STRING:
        return None
    missing = getattr(dtype, "na_value", pd.NA)
    return Encoded(None, {"kind": "string", "storage": dtype.storage, "missing": "NA" if missing is pd.NA else "nan"})


def _decode_string(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None) -> Any:
    dtype: Any
    if spec["missing"] == "NA":
        dtype = pd.StringDtype(spec["storage"])
    elif PANDAS_3:
        dtype = pd.StringDtype(spec["storage"], na_value=np.nan)
    else:  # As pandas had it before there was this dtype.
        return pyarrow_values(column)
    if not PANDAS_3:
        column = column.cast(pa.string())
    return dtype.__from_arrow__(column)


def _arrow_array(series: pd.Series) -> Any:
    array: Any = series.array
    return array.__arrow_array__()


def _decode_arrow(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None) -> Any:
    dtype: Any = pd.ArrowDtype(column.type)
    return dtype.__from_arrow__(column)


def _encode_category(series: pd.Series, where: str) -> Encoded | None:
    categories = series.cat.categories
    ordered = bool(series.cat.ordered)
    if len(series) and len(categories) and _is_plain_dictionary(categories):
        return None
    spec: Spec = {"kind": "category", "dtype": str(categories.dtype), "ordered": ordered}
    inner = encode(pd.Series(categories), f"{where}, its categories")
    if _is_dictionary(categories, inner):
        values = pa.array(categories, from_pandas=True)
        spec["inner"] = inner.spec if inner else None
        if not len(series):  # No dictionary is sent without rows.
            spec["none"] = _dump_labels(categories, where)
    else:
        spec["labels"] = _dump_labels(categories, where)
        values = pa.array(_spell(categories), pa.string())
    codes = series.cat.codes.to_numpy()
    array = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), values, ordered=ordered)
    return Encoded(array, spec)


def _is_plain_dictionary(categories: pd.Index) -> bool:
    """Return whether pyarrow alone brings categories through."""
    dtype: Any = categories.dtype
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return bool(dtype == DEFAULT_STRING) and objects.is_text_with_none(categories.to_numpy())
    return bool(dtype == DEFAULT_STRING) or (isinstance(dtype, np.dtype) and dtype.kind in "iufb")


def _is_dictionary(categories: pd.Index, inner: Encoded | None) -> bool:
    """Return whether categories can be the dictionary themselves, and need not be spelled."""
    if isinstance(categories.dtype, (pd.PeriodDtype, pd.IntervalDtype)):
        return False
    return inner is None or inner.array is None


def _dump_labels(labels: pd.Index, where: str) -> list[Any]:
    try:
        return [portable.dump(label) for label in labels]
    except TypeError as error:
        raise ValueError(f"{where}, its categories: {error}") from error


def _spell(labels: pd.Index) -> list[str]:
    """Return labels as text for other readers, each unlike the others."""
    spelled = [str(label) for label in labels]
    return spelled if len(set(spelled)) == len(spelled) else [portable.dumps(label) for label in labels]


def _decode_category(column: pa.ChunkedArray, spec: Spec, beside: pa.ChunkedArray | None) -> Any:
    if "labels" in spec:
        categories = pd.Index([portable.load(label) for label in spec["labels"]], dtype=spec["dtype"])
        known = {word: code for code, word in enumerate(_spell(categories))}
        if not len(column):
            return pd.Categorical([], categories=categories, ordered=spec["ordered"])
        codes, words = _codes(column)
        # A word that is not known is a category of another version; then all are their spellings.
        positions = np.array([*(known[word] for word in words.to_pylist()), -1], dtype=np.int64)
        return pd.Categorical.from_codes(positions[codes], categories=categories, ordered=spec["ordered"])
    if not len(column) and "none" in spec:
        categories = pd.Index([portable.load(label) for label in spec["none"]], dtype=spec["dtype"])
        return pd.Categorical([], categories=categories, ordered=spec["ordered"])
    codes, words = _codes(column)
    values = decode(words, spec["inner"]) if spec["inner"] else pyarrow_values(words)
    categories = pd.Index(values)
    if str(categories.dtype) != spec["dtype"]:
        categories = categories.astype(spec["dtype"])
    return pd.Categorical.from_codes(codes, categories=categories, ordered=column.type.ordered)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.ChunkedArray]:
    """Return the codes of a dictionary column, -1 for null, and its dictionary."""
    column = column.unify_dictionaries()
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in column.chunks])
    return codes, pa.chunked_array([column.chunk(0).dictionary])


def _encode_objects(values: np.ndarray, where: str) -> Encoded | None:
    if not PANDAS_3 and objects.is_text_with_none(values):
        return None
    array, spec, beside = objects.encode(values, where)
    return Encoded(array, spec, beside)


_DECODE: dict[str, Callable[[pa.ChunkedArray, Spec, pa.ChunkedArray | None], Any]] = {
    "arrow": _decode_arrow,
    "category": _decode_category,
    "complex": _decode_complex,
    "object": objects.decode,
    "sparse": _decode_sparse,
    "string": _decode_string,
}
