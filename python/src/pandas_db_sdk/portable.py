"""Python values as JSON and back, exactly: what a label, an attribute or a mixed column can hold.

Text, numbers, booleans, None, lists and dicts with text keys are themselves. All else is an object with one key that
begins with ``$`` and tells what it is.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import zoneinfo
from typing import Any, Callable

import numpy as np
import pandas as pd

NUMPY_KINDS = "biufcmMSU"


def dumps(value: Any) -> str:
    """Return a value as compact JSON.

    Raises
    ------
    TypeError
        Naming a value that there is no exact form for.
    """
    return json.dumps(dump(value), separators=(",", ":"), allow_nan=False)


def loads(text: str) -> Any:
    """Return the value that :func:`dumps` was given."""
    return load(json.loads(text))


def dump(value: Any) -> Any:
    """Return a value as something that JSON has.

    Raises
    ------
    TypeError
        Naming a value that there is no exact form for.
    """
    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [dump(item) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: dump(item) for key, item in value.items()}
        return {"$dict": [[dump(key), dump(item)] for key, item in value.items()]}
    if value is pd.NA:
        return {"$missing": "NA"}
    if value is pd.NaT:
        return {"$missing": "NaT"}
    if isinstance(value, np.ndarray) and kind is np.ndarray and value.dtype.kind in NUMPY_KINDS:
        return {"$array": [value.dtype.str, list(value.shape), _encode(np.ascontiguousarray(value).tobytes())]}
    if isinstance(value, np.generic) and value.dtype.kind in NUMPY_KINDS:
        return {"$numpy": [value.dtype.str, _encode(value.tobytes())]}
    if kind in _DUMPS:
        tag, payload = _DUMPS[kind]
        return {tag: payload(value)}
    raise TypeError(f"{shown(value)} of type {kind.__module__}.{kind.__qualname__} has no exact form in JSON")


def load(value: Any) -> Any:
    """Return the value that :func:`dump` was given."""
    if isinstance(value, list):
        return [load(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, payload),) = value.items()
        if tag in _LOADS:
            return _LOADS[tag](payload)
    return {key: load(item) for key, item in value.items()}


def shown(value: Any, *, quoted: bool = True) -> str:
    """Return a value fit for a message."""
    value = value.item() if isinstance(value, np.generic) else value
    text = repr(value) if quoted else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _zone_name(zone: Any) -> Any:
    """Return a time zone as a name, or as seconds from UTC."""
    if zone is None:
        return None
    if zone is datetime.timezone.utc:
        return "utc"
    if isinstance(zone, datetime.timezone):
        offset = zone.utcoffset(None)
        if zone == datetime.timezone(offset) and zone.tzname(None) == datetime.timezone(offset).tzname(None):
            return offset.total_seconds()
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(name, str):
        return f"{type(zone).__module__.partition('.')[0]}:{name}"
    raise TypeError(f"the time zone {zone!r} has no name")


def _zone(name: Any) -> Any:
    if name is None:
        return None
    if name == "utc":
        return datetime.timezone.utc
    if isinstance(name, (int, float)):
        return datetime.timezone(datetime.timedelta(seconds=name))
    library, _, key = name.partition(":")
    if library == "pytz":
        try:
            import pytz  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            return zoneinfo.ZoneInfo(key)
        return pytz.timezone(key)
    return zoneinfo.ZoneInfo(key)


def _dump_datetime(value: datetime.datetime) -> Any:
    if value.tzinfo is None:
        return [value.isoformat(), None, value.fold]
    return [value.replace(tzinfo=None).isoformat(), _zone_name(value.tzinfo), value.fold]


def _load_datetime(payload: Any) -> datetime.datetime:
    text, zone, fold = payload
    moment = datetime.datetime.fromisoformat(text).replace(fold=fold)
    found = _zone(zone)
    if hasattr(found, "localize"):  # pytz, which has a zone object for each offset of a zone.
        return found.localize(moment, is_dst=not fold)  # type: ignore[no-any-return]
    return moment.replace(tzinfo=found)


def _dump_timestamp(value: pd.Timestamp) -> Any:
    return [getattr(value, "unit", "ns"), int(value.asm8.astype("int64")), _zone_name(value.tzinfo)]


def _load_timestamp(payload: Any) -> pd.Timestamp:
    unit, ticks, zone = payload
    moment: pd.Timestamp = pd.Timestamp(np.datetime64(ticks, unit))
    if zone is not None:
        moment = moment.tz_localize("UTC").tz_convert(_zone(zone))
    return moment


def _dump_timedelta(value: pd.Timedelta) -> Any:
    return [getattr(value, "unit", "ns"), int(value.asm8.astype("int64"))]


def _load_array(payload: Any) -> Any:
    dtype, shape, raw = payload
    return np.frombuffer(base64.b64decode(raw), dtype=dtype).reshape(shape).copy()


def _load_scalar(payload: Any) -> Any:
    dtype, raw = payload
    return np.frombuffer(base64.b64decode(raw), dtype=dtype)[0]


_DUMPS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    tuple: ("$tuple", lambda value: [dump(item) for item in value]),
    set: ("$set", lambda value: [dump(item) for item in value]),
    frozenset: ("$frozenset", lambda value: [dump(item) for item in value]),
    bytes: ("$bytes", _encode),
    complex: ("$complex", lambda value: [dump(value.real), dump(value.imag)]),
    decimal.Decimal: ("$decimal", str),
    datetime.date: ("$date", lambda value: value.isoformat()),
    datetime.time: ("$time", lambda value: [value.replace(tzinfo=None).isoformat(), _zone_name(value.tzinfo)]),
    datetime.datetime: ("$datetime", _dump_datetime),
    datetime.timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    pd.Timestamp: ("$timestamp", _dump_timestamp),
    pd.Timedelta: ("$pandas_timedelta", _dump_timedelta),
    pd.Period: ("$period", lambda value: [value.ordinal, value.freqstr]),
    pd.Interval: ("$interval", lambda value: [dump(value.left), dump(value.right), value.closed]),
}

_LOADS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$dict": lambda payload: {load(key): load(item) for key, item in payload},
    "$missing": lambda payload: pd.NA if payload == "NA" else pd.NaT,
    "$array": _load_array,
    "$numpy": _load_scalar,
    "$tuple": lambda payload: tuple(load(item) for item in payload),
    "$set": lambda payload: {load(item) for item in payload},
    "$frozenset": lambda payload: frozenset(load(item) for item in payload),
    "$bytes": base64.b64decode,
    "$complex": lambda payload: complex(load(payload[0]), load(payload[1])),
    "$decimal": decimal.Decimal,
    "$date": datetime.date.fromisoformat,
    "$time": lambda payload: datetime.time.fromisoformat(payload[0]).replace(tzinfo=_zone(payload[1])),
    "$datetime": _load_datetime,
    "$timedelta": lambda payload: datetime.timedelta(*payload),
    "$timestamp": _load_timestamp,
    "$pandas_timedelta": lambda payload: pd.Timedelta(np.timedelta64(payload[1], payload[0])),
    "$period": lambda payload: pd.Period(ordinal=payload[0], freq=payload[1]),
    "$interval": lambda payload: pd.Interval(load(payload[0]), load(payload[1]), payload[2]),
}
