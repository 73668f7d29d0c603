"""Writes Arrow values as DataFusion's sqllogictest runner does, so that results can be compared with ``.slt`` files."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa

NULL = "NULL"
UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_WIDE = decimal.Context(prec=400, rounding=decimal.ROUND_HALF_EVEN)


def rows(table: pa.Table) -> list[list[str]]:
    """Return the rows of a result as texts."""
    columns = [column_texts(column) for column in table.columns]
    return [list(row) for row in zip(*columns)] if columns else [[] for _ in range(table.num_rows)]


def type_letters(schema: pa.Schema) -> str:
    """Return the letters that ``.slt`` files give the types of a result's columns."""
    return "".join(_letter(field.type) for field in schema)


def _letter(kind: pa.DataType) -> str:
    checks: list[tuple[str, Callable[[pa.DataType], bool]]] = [
        ("B", pa.types.is_boolean), ("I", pa.types.is_integer), ("R", pa.types.is_floating), ("R", pa.types.is_decimal),
        ("T", pa.types.is_string), ("T", pa.types.is_large_string), ("T", pa.types.is_string_view),
        ("P", pa.types.is_timestamp), ("D", pa.types.is_date), ("D", pa.types.is_time),
    ]  # fmt: skip
    return next((letter for letter, check in checks if check(kind)), "?")


def column_texts(column: pa.ChunkedArray) -> list[str]:
    """Return the texts of a column's values."""
    write = _top_level(column.type)
    return [NULL if value is None else write(value) for value in _raw(column.combine_chunks())]


def _raw(array: pa.Array | pa.ChunkedArray) -> list:
    """Return values as Python objects without loss: times, dates and durations as integers, floats as numpy's."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in _raw(chunk)]
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _raw(array.dictionary_decode())
    if isinstance(kind, pa.BaseExtensionType):
        return _raw(array.storage)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return array.view(pa.int32()).to_pylist()
    if (
        pa.types.is_timestamp(kind)
        or pa.types.is_duration(kind)
        or pa.types.is_time64(kind)
        or pa.types.is_date64(kind)
    ):
        return array.view(pa.int64()).to_pylist()
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return _raw(array.cast(pa.large_list(kind.value_type)))
    if pa.types.is_map(kind):
        return [list(zip(*map(_raw, scalar.values.flatten()))) if scalar.is_valid else None for scalar in array]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [None if not scalar.is_valid else _raw(scalar.values) for scalar in array]
    if pa.types.is_struct(kind):
        columns = [_raw(child) for child in array.flatten()]
        valid = array.is_valid().to_pylist()
        return [tuple(c[i] for c in columns) if ok else None for i, ok in enumerate(valid)]
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        valid, values = array.is_valid().to_pylist(), array.to_numpy(zero_copy_only=False)
        return [value if ok else None for value, ok in zip(values, valid)]
    return array.to_pylist()


def _top_level(kind: pa.DataType) -> Callable[[object], str]:
    """Return how a value that is a column's own is written: numbers without trailing zeros, texts made visible."""
    if pa.types.is_dictionary(kind):
        return _top_level(kind.value_type)
    if pa.types.is_floating(kind):
        return _float
    if pa.types.is_decimal(kind):
        return lambda value: _plain(value, kind.scale)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return lambda value: value.rstrip("\n").replace("\0", "\\0") if value else "(empty)"
    return lambda value: _inner(value, kind)


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return _plain(decimal.Decimal(_digits(value)), 12)


def _digits(value: float) -> str:
    """Return the fewest digits that tell a float of its width from its neighbours."""
    return str(value) if isinstance(value, np.floating) else repr(value)


def _plain(value: decimal.Decimal, places: int) -> str:
    """Return a number rounded to some places, without an exponent and trailing zeros."""
    rounded = (
        value.quantize(decimal.Decimal(1).scaleb(-places), context=_WIDE)
        if -value.as_tuple().exponent > places
        else value
    )
    text = f"{rounded:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _inner(value: object, kind: pa.DataType) -> str:
    """Return a value as Arrow's own formatter writes it."""
    if value is None or pa.types.is_null(kind):
        return NULL
    if isinstance(kind, pa.BaseExtensionType):
        return _inner(value, kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _inner(value, kind.value_type)
    if pa.types.is_boolean(kind):
        return "true" if value else "false"
    if pa.types.is_floating(kind):
        return _arrow_float(value)
    if pa.types.is_decimal(kind):
        return f"{value:f}"
    if (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    ):
        return value.hex()
    if pa.types.is_temporal(kind) or pa.types.is_interval(kind):
        return _temporal(value, kind)
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f"{kind[i].name}: {_inner(v, kind[i].type)}" for i, v in enumerate(value)) + "}"
    if pa.types.is_map(kind):
        return "{" + ", ".join(f"{_inner(k, kind.key_type)}: {_inner(v, kind.item_type)}" for k, v in value) + "}"
    if pa.types.is_nested(kind):
        return "[" + ", ".join(_inner(item, kind.value_type) for item in value) + "]"
    return str(value)


def _arrow_float(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return {"nan": "NaN", "inf": "inf", "-inf": "-inf"}[str(float(value))]
    text = _digits(value)
    mantissa, _, exponent = text.partition("e")
    return mantissa + (f"e{int(exponent)}" if exponent else "")


def _temporal(value: object, kind: pa.DataType) -> str:
    if pa.types.is_interval(kind):
        return _interval(value)
    if pa.types.is_duration(kind):
        return _duration(value, UNITS[kind.unit])
    if pa.types.is_date32(kind):
        return _moment(value * 86_400, 0)[:-9]
    if pa.types.is_date64(kind):
        return _moment(value, 3)
    if pa.types.is_time(kind):
        return _moment(value, UNITS[kind.unit]).partition("T")[2]
    text = _moment(_local(value, kind), UNITS[kind.unit])
    return text + _offset(value, kind) if kind.tz else text


def _moment(value: int, places: int) -> str:
    """Return an instant given in units of 10 to the minus places seconds since 1970."""
    seconds, part = divmod(value, 10**places)
    days, within = divmod(seconds, 86_400)
    day = _day(days)
    fraction = f"{part:0{places}d}" if part else ""
    if places == 9 and fraction.endswith("000"):
        fraction = fraction[:6]
    if len(fraction) == 6 and fraction.endswith("000"):
        fraction = fraction[:3]
    clock = f"{within // 3600:02}:{within // 60 % 60:02}:{within % 60:02}"
    return f"{day}T{clock}" + (f".{fraction}" if fraction else "")


def _day(days: int) -> str:
    """Return a date given in days since 1970; years before 0 and after 9999 have a sign."""
    year, month, day = re.fullmatch(r"(-?\d+)-(\d+)-(\d+)", str(np.datetime64(days, "D"))).groups()
    sign = "-" if year.startswith("-") else "+" if len(year) > 4 else ""
    return f"{sign}{year.lstrip('-'):>04}-{month}-{day}"


def _zone_seconds(value: int, kind: pa.DataType) -> int:
    """Return how far the zone of a timestamp is from UTC at an instant."""
    moment = pa.scalar(value, pa.int64()).cast(pa.timestamp(kind.unit)).cast(pa.timestamp(kind.unit, kind.tz))
    local = pa.compute.local_timestamp(moment).cast(pa.int64()).as_py()
    return (local - value) // 10 ** UNITS[kind.unit]


def _local(value: int, kind: pa.DataType) -> int:
    return value + _zone_seconds(value, kind) * 10 ** UNITS[kind.unit] if kind.tz else value


def _offset(value: int, kind: pa.DataType) -> str:
    seconds = _zone_seconds(value, kind)
    if seconds == 0:
        return "Z"
    return f"{'-' if seconds < 0 else '+'}{abs(seconds) // 3600:02}:{abs(seconds) // 60 % 60:02}"


def _duration(value: int, places: int) -> str:
    seconds, part = _split(value, 10**places)
    minutes, second = _split(seconds, 60)
    hours, minute = _split(minutes, 60)
    days, hour = _split(hours, 24)
    text = f"{days} days {hour} hours {minute} mins "
    if places == 0:
        return f"{text}{second} secs"
    return f"{text}{'-' if part < 0 else ''}{abs(second) if part < 0 else second}.{abs(part):0{places}d} secs"


def _split(value: int, by: int) -> tuple[int, int]:
    """Divide as Rust does, towards zero."""
    quotient = abs(value) // by * (1 if value >= 0 else -1)
    return quotient, value - quotient * by


def _interval(value: object) -> str:
    months, days, nanoseconds = value
    parts = [f"{months} mons"] * bool(months) + [f"{days} days"] * bool(days)
    seconds, part = _split(nanoseconds, 10**9)
    minutes, second = _split(seconds, 60)
    hours, minute = _split(minutes, 60)
    parts += [f"{hours} hours"] * bool(hours) + [f"{minute} mins"] * bool(minute)
    if second or part:
        parts.append(f"{'-' if second < 0 or part < 0 else ''}{abs(second)}.{abs(part):09d} secs")
    return " ".join(parts) or "0 secs"
