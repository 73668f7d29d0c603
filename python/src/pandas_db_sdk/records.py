"""Frames as JSON arrays of records, which is what the REST API carries, and back."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from . import convert, decoding, labels, portable


@dataclass(frozen=True)
class Records:
    """A frame as it is sent.

    Attributes
    ----------
    text : str
        The JSON array.
    rows : int
    names, index_names : list of (label, str)
        As those of :class:`~pandas_db_sdk.encoding.EncodedFrame`; the index is not sent.
    """

    text: str
    rows: int
    names: list[tuple[Hashable, str]]
    index_names: list[tuple[Hashable, str]] = field(default_factory=list)


def encode(frame: Any) -> Records:
    """Return a frame as records.

    Missing values and infinities are null, dates and times ISO 8601, durations too. The index, and which type numbers
    were of, are lost; Arrow Flight keeps them.

    Raises
    ------
    ValueError
        When two columns have one name, or JSON has nothing for a value; the message names the column and the value.
    """
    if not isinstance(frame, pd.DataFrame):
        frame = decoding.decode(convert.to_encoded(frame).table)
    names = [labels.arrow_name(label) for label in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"a JSON record has one value for a name, but there are several columns {repeated[0]!r}")
    columns = [_column(frame.iloc[:, position], name) for position, name in enumerate(names)]
    rows = [dict(zip(names, row)) for row in zip(*columns)] if columns else [{}] * len(frame)
    text = json.dumps(rows, allow_nan=False, separators=(",", ":"))
    return Records(text, len(frame), list(zip(frame.columns, names)))


def decode(records: list[dict[str, Any]], form: str) -> Any:
    """Return records as the kind of frame that was asked for."""
    if form == "pandas":
        return pd.DataFrame(records)
    table = pa.Table.from_pylist(records)
    return convert.from_table(table, form)


def _column(series: pd.Series, name: str) -> list[Any]:
    values = series.astype(object).tolist()
    return [_value(value, name, row) for row, value in enumerate(values)]


def _value(value: Any, name: str, row: int) -> Any:
    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        return [_value(item, name, row) for item in value.tolist()]
    if isinstance(value, np.generic):
        return _value(value.item(), name, row)
    if isinstance(value, (list, tuple)):
        return [_value(item, name, row) for item in value]
    if isinstance(value, dict):
        return {str(key): _value(item, name, row) for key, item in value.items()}
    if isinstance(value, (datetime.date, datetime.time, pd.Timedelta)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return pd.Timedelta(value).isoformat()
    if isinstance(value, decimal.Decimal):
        return _value(float(value), name, row)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (pd.Period, pd.Interval)):
        return str(value)
    raise ValueError(
        f"column {name!r}: row {row} holds {portable.shown(value)} of type {kind.__name__}, which JSON has nothing "
        "for; convert the column, or give a grpc:// api_url"
    )
