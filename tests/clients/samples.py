"""The frames and tables that must come back as they went in, by name."""

from __future__ import annotations

import datetime
import decimal
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

ROWS = 6
_DAYS = [3, 0, 4, 0, 1, 3]


def with_date(table: pa.Table) -> pa.Table:
    """Add the column ``when`` of shuffled dates, for loads that are partitioned by it."""
    first = (datetime.date(2024, 1, 1) - datetime.date(1970, 1, 1)).days
    column = pa.array([first + day for day in _DAYS], pa.int32()).cast(pa.date32())
    return table.append_column(pa.field("when", pa.date32()), column)


def _column(values: list, kind: pa.DataType) -> pa.Table:
    assert len(values) == ROWS
    return pa.table({"c": pa.array(values, kind)})


def _integers(name: str) -> pa.Table:
    kind = getattr(pa, name)()
    signed, bits = name.startswith("int"), kind.bit_width
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return _column([low, high, None, 0, 1, high - 1], kind)


def _decimals(digits: int, scale: int, kind: pa.DataType) -> pa.Table:
    with decimal.localcontext(prec=100):
        most = decimal.Decimal("9" * digits).scaleb(-scale)
        least = decimal.Decimal(1).scaleb(-scale)
        return _column([most, -most, None, least, -least, decimal.Decimal(0).scaleb(-scale)], kind)


def arrow_tables() -> dict[str, pa.Table]:
    """Return a table per Arrow type and per oddity of names and metadata."""
    tables = {
        name: _integers(name) for sign in ("int", "uint") for name in (f"{sign}{bits}" for bits in (8, 16, 32, 64))
    }
    wild = [1.5, float("nan"), float("inf"), None, -0.0, float("-inf")]
    tables["float64"] = _column(wild, pa.float64())
    tables["float32"] = _column(wild, pa.float32())
    tables["float16"] = _column([None if v is None else np.float16(v) for v in wild], pa.float16())
    tables["bool"] = _column([True, False, None, True, False, None], pa.bool_())
    tables["null"] = _column([None] * ROWS, pa.null())
    words = ["", "a", None, "ünï\u0000\n", "🦀" * 50, "a longer string than twelve bytes"]
    tables["string"] = _column(words, pa.string())
    tables["large_string"] = _column(words, pa.large_string())
    tables["string_view"] = _column(words, pa.string_view())
    raw = [b"", b"a", None, b"\x00\xff", b"x" * 100, b"123456789012345"]
    tables["binary"] = _column(raw, pa.binary())
    tables["large_binary"] = _column(raw, pa.large_binary())
    tables["binary_view"] = _column(raw, pa.binary_view())
    tables["fixed_binary"] = _column([b"abc", b"\x00\x00\x00", None, b"\xff" * 3, b"xyz", b"   "], pa.binary(3))
    tables["date32"] = _column([0, -719162, 2932896, None, 1, 19723], pa.date32())
    tables["date64"] = _column([0, -86_400_000, 253402214400000, None, 86_400_000, 1704067200000], pa.date64())
    tables["time32"] = pa.table(
        {
            "s": pa.array([0, 86_399, None, 1, 2, 3], pa.time32("s")),
            "ms": pa.array([0, 86_399_999, None, 1, 2, 3], pa.time32("ms")),
        }
    )
    tables["time64"] = pa.table(
        {
            "us": pa.array([0, 86_399_999_999, None, 1, 2, 3], pa.time64("us")),
            "ns": pa.array([0, 86_399_999_999_999, None, 1, 2, 3], pa.time64("ns")),
        }
    )
    units = ("s", "ms", "us", "ns")
    ticks = [0, 1, -1, None, 1_700_000_000, 123_456_789]
    tables["timestamp"] = pa.table({unit: pa.array(ticks, pa.timestamp(unit)) for unit in units})
    zones = ("UTC", "Europe/Paris", "+05:30", "America/New_York")
    tables["timestamp_zones"] = pa.table(
        {f"{unit} {zone}": pa.array(ticks, pa.timestamp(unit, zone)) for unit in units for zone in zones}
    )
    extremes = [-(1 << 63), (1 << 63) - 1, None, 1_700_000_000_123_456_789, -1_001, 999]
    tables["timestamp_ns_remainders"] = pa.table(
        {"plain": pa.array(extremes, pa.timestamp("ns")), "zone": pa.array(extremes, pa.timestamp("ns", "UTC"))}
    )
    tables["duration"] = pa.table(
        {unit: pa.array([0, 1, -1, None, (1 << 63) - 1, 123_456_789], pa.duration(unit)) for unit in units}
    )
    tables["interval"] = _column(
        [(1, 2, 3), (0, 0, 0), None, (-1, -2, -3), (12, 40, 10**15), (0, 0, 1)], pa.month_day_nano_interval()
    )
    tables["decimal128"] = _decimals(38, 10, pa.decimal128(38, 10))
    tables["decimal256"] = _decimals(76, 30, pa.decimal256(76, 30))
    tables["decimal_small"] = _decimals(5, 2, pa.decimal128(5, 2))
    lists = [[1, None, 3], [], None, [4], [None], [5, 6]]
    tables["list"] = _column(lists, pa.list_(pa.int32()))
    tables["large_list"] = _column(lists, pa.large_list(pa.int64()))
    tables["fixed_list"] = _column([[1, 2], [None, 3], None, [4, 5], [6, 7], [8, 9]], pa.list_(pa.float32(), 2))
    point = pa.struct([pa.field("x", pa.uint8(), nullable=False), ("y", pa.string())])
    tables["struct"] = _column(
        [{"x": 1, "y": "a"}, {"x": 255, "y": None}, None, {"x": 0, "y": ""}, {"x": 1, "y": "b"}, {"x": 2, "y": "c"}],
        point,
    )
    tables["map"] = _column(
        [[("a", 1), ("b", None)], [], None, [("c", 3)], [("a", 1)], [("z", 0)]], pa.map_(pa.string(), pa.uint16())
    )
    deep = pa.list_(
        pa.struct([("when", pa.timestamp("ns", "UTC")), ("tags", pa.list_(pa.large_string())), ("n", pa.uint64())])
    )
    row = [{"when": 1_700_000_000_123_456_789, "tags": ["a", None], "n": (1 << 64) - 1}, None]
    tables["nested"] = _column([row, [], None, row * 3, [None], row], deep)
    for name, kind, ordered in (("dictionary", pa.int8(), False), ("dictionary_ordered", pa.int32(), True)):
        codes = pa.array([2, 0, None, 2, 1, 0], kind)
        tables[name] = pa.table(
            {"c": pa.DictionaryArray.from_arrays(codes, ["low", "mid", "high", "unused"], ordered=ordered)}
        )
    tables["dictionary_of_ints"] = pa.table(
        {"c": pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, None, 0, 1], pa.uint8()), pa.array([1 << 40, 7]))}
    )
    uuids = [bytes([i]) * 16 for i in range(ROWS)]
    tables["extension_uuid"] = pa.table(
        {"c": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(uuids, pa.binary(16)))}
    )
    tables["extension_json"] = pa.table(
        {"c": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'] * ROWS))}
    )
    tables["not_nullable"] = pa.table([pa.array(range(ROWS))], pa.schema([pa.field("c", pa.int64(), nullable=False)]))
    names = [
        "a b",
        "a.b",
        'quo"te',
        "new\nline",
        "A",
        "a",
        "",
        "été",
        "表",
        "tab\t",
        "back`tick",
        "back\\slash",
        "per%cent",
        "a/b",
        "__pdb_row",
        "__pdb_version",
        "select",
    ]
    tables["odd_names"] = pa.table(
        {name: pa.array([number + i for i in range(ROWS)]) for number, name in enumerate(names)}
    )
    noted = pa.schema(
        [pa.field("c", pa.int64(), metadata={"unit": "€", b"\x01": "raw"}), pa.field("d", pa.string())],
        {"owner": "ops", "": "empty key"},
    )
    tables["metadata"] = pa.table([pa.array(range(ROWS)), pa.array(["x"] * ROWS)], noted)
    return tables


def pandas_frames() -> dict[str, pd.DataFrame]:
    """Return frames whose dtypes, index and attrs pandas keeps in Arrow metadata."""
    base = pd.DataFrame({"x": range(ROWS), "s": list("abcdef"), "v": np.linspace(0, 1, ROWS)})
    frames = {"plain": base}
    frames["nullable"] = pd.DataFrame(
        {
            "i": pd.array([1, None, 3, 4, None, 6], "Int64"),
            "u": pd.array([1, None, 255, 4, None, 6], "UInt8"),
            "b": pd.array([True, None, False, True, None, False], "boolean"),
            "f": pd.array([1.5, None, 2.5, 0, None, -1], "Float32"),
            "s": pd.array(["a", None, "c", "", None, "f"], "string"),
        }
    )
    letters = ["b", None, "a", "b", "c", "a"]
    frames["categorical"] = pd.DataFrame(
        {
            "c": pd.Categorical(letters),
            "unused": pd.Categorical(letters, ["z", "c", "b", "a"]),
            "ordered": pd.Categorical(letters, ["c", "b", "a"], ordered=True),
        }
    )
    frames["categorical_of_numbers"] = pd.DataFrame(
        {"c": pd.Categorical([3, 1, 3, 2, 1, 1]), "t": pd.Categorical(pd.to_datetime(["2024-01-01", "2024-01-02"] * 3))}
    )
    frames["times"] = pd.DataFrame(
        {
            "ns": pd.to_datetime([1_700_000_000_123_456_789 + i for i in range(ROWS)], unit="ns"),
            "zone": pd.date_range("2024-03-30 22:00", periods=ROWS, freq="h", tz="Europe/Paris"),
            "delta": pd.to_timedelta([1, 2, -3, None, 5, 6], unit="ms"),
            "missing": pd.to_datetime([None, "2024-01-01", None, None, "1900-01-01", "2200-01-01"]),
        }
    )
    frames["objects"] = pd.DataFrame(
        {
            "date": [datetime.date(2024, 1, 1 + i) for i in range(ROWS)],
            "decimal": [decimal.Decimal("1.10") * i for i in range(ROWS)],
            "bytes": [b"\x00\xff"] * ROWS,
            "list": [[i, i + 1] for i in range(ROWS)],
            "dict": [{"a": i, "b": str(i)} for i in range(ROWS)],
            "mixed_none": ["a", None, "b", None, "c", "d"],
        }
    )
    frames["arrow_backed"] = pd.DataFrame(
        {
            "i": pd.array([1, None] * 3, "int32[pyarrow]"),
            "t": pd.array([1, None] * 3, pd.ArrowDtype(pa.timestamp("us", "UTC"))),
            "s": pd.array(["a", None] * 3, "string[pyarrow]"),
        }
    )
    frames["named_index"] = base.set_index("s")
    frames["unnamed_string_index"] = base.set_axis(list("uvwxyz"))
    frames["time_index"] = base.set_axis(pd.date_range("2024-01-01", periods=ROWS, freq="D", name="day"))
    frames["multi_index"] = base.set_index(["s", "x"])
    frames["multi_index_unnamed"] = base.set_axis(pd.MultiIndex.from_product([[1, 2], list("abc")]))
    frames["range_index"] = base.set_axis(pd.RangeIndex(10, 10 + 3 * ROWS, 3, name="step"))
    frames["multi_columns"] = pd.DataFrame(
        np.arange(2.0 * ROWS).reshape(ROWS, 2),
        columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["top", None]),
    )
    frames["attrs"] = base.copy()
    frames["attrs"].attrs = json.loads('{"source": "sensor 7", "scale": [1, 2], "näme": null}')
    frames["sparse_floats"] = pd.DataFrame(
        {"f": [np.nan, 1.0, np.inf, -np.inf, -0.0, 1e-308], "h": np.array([1, 2, 3, 4, 5, 6], "float16")}
    )
    return frames


def polars_frames() -> dict[str, pa.Table]:
    """Return tables as polars sends them: views, large lists, its own categoricals."""
    frame = pl.DataFrame(
        {
            "s": ["a", None, "a string longer than twelve bytes", "", "b", "c"],
            "c": pl.Series(["x", "y", "x", None, "z", "x"], dtype=pl.Categorical),
            "e": pl.Series(["lo", "hi", "lo", None, "hi", "lo"], dtype=pl.Enum(["lo", "mid", "hi"])),
            "l": [[1, 2], [], None, [3], [None], [4]],
            "t": pl.Series(range(ROWS)).cast(pl.Duration("us")),
            "d": pl.Series([decimal.Decimal("1.25")] * ROWS),
            "u": pl.Series([255, 0, None, 1, 2, 3], dtype=pl.UInt8),
        }
    )
    return {"polars": frame.to_arrow(), "polars_newest": frame.to_arrow(compat_level=pl.CompatLevel.newest())}
