"""The matrix of frames that must come back as they went in: what ``samples`` has, and every kind that pandas knows."""

from __future__ import annotations

import datetime
import decimal
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa
from samples import ROWS, arrow_tables, pandas_frames, polars_frames

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
HALF_PAST = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))
ODD_MINUTE = datetime.timezone(datetime.timedelta(minutes=1))
MOST = (1 << 63) - 1
UNITS = ("s", "ms", "us", "ns")

# Frames whose columns' labels are no strings get key columns that Arrow spells as it spells their labels.
KEY_NAMES = {
    "multi_columns": ("('when', '')", "('id', '')"),
    "columns_multi_three_levels": ("('when', '', '')", "('id', '', '')"),
    "columns_multi_of_numbers": ("('when', '0')", "('id', '0')"),
    "columns_integers": ("1001", "1002"),
    "columns_integers_named": ("1001", "1002"),
    "columns_multi_over_multi_index": ("('when', '')", "('id', '')"),
    "empty_multi_columns": ("('when', '')", "('id', '')"),
    "no_columns_no_rows": ("1001", "1002"),
    "no_columns_but_a_range_index": ("1001", "1002"),
    "no_columns_but_an_index": ("1001", "1002"),
    "columns_floats": ("1001.5", "1002.5"),
    "columns_datetimes": ("2030-01-01 00:00:00", "2030-01-02 00:00:00"),
    "columns_zoned_datetimes": ("2030-01-01 00:00:00+00:00", "2030-01-02 00:00:00+00:00"),
    "columns_timedeltas": ("1001 days 00:00:00", "1002 days 00:00:00"),
}


def _base(index: pd.Index | None = None) -> pd.DataFrame:
    return pd.DataFrame({"x": range(ROWS), "s": list("abcdef")}, index=index)


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _indexes() -> dict[str, pd.Index]:
    hours = pd.date_range("2024-10-26 23:00", periods=ROWS, freq="h", tz="UTC")
    days = [datetime.date(2024, 1, 31 - i) for i in range(ROWS)]
    return {
        "range_downwards": pd.RangeIndex(10, 10 - 2 * ROWS, -2),
        "integers_unsorted": pd.Index([5, -1, 3, 3, 1 << 40, 0], name="key"),
        "uint8": pd.Index([255, 0, 1, 2, 3, 4], dtype="uint8"),
        "uint64": pd.Index([(1 << 64) - 1, 0, 1, 2, 3, 4], dtype="uint64", name="u"),
        "floats": pd.Index([1.5, np.nan, np.inf, -np.inf, 0.0, 1e300], name="f"),
        "booleans": pd.Index([True, False, True, True, False, False]),
        "strings_with_missing": pd.Index(["a", None, "", "a", "ü", None], name="word"),
        "bytes": pd.Index([b"a", b"", b"\x00\xff", b"a", b"b", b"c"], dtype=object),
        "dates": pd.Index(days, name="date"),
        "decimals": pd.Index([decimal.Decimal(i) / 4 for i in range(ROWS)], name="price"),
        "datetimes_with_frequency": pd.date_range("1677-09-22", periods=ROWS, freq="ME", name="month"),
        "datetimes_in_seconds": pd.DatetimeIndex(np.array([0, -1, 1, 10**10, -(10**10), 5], "M8[s]")),
        "datetimes_with_missing": pd.DatetimeIndex(
            ["2024-01-01", None, "1900-01-01", None, "2200-01-01", "2024-01-01"]
        ),
        "datetimes_across_a_change_of_clocks": hours.tz_convert(PARIS),
        "datetimes_fixed_offset": hours.tz_convert(HALF_PAST),
        "timedeltas": pd.to_timedelta([0, 1, -1, None, MOST, -MOST], unit="ns"),
        "periods": pd.period_range("2024-01", periods=ROWS, freq="M", name="month"),
        "intervals": pd.interval_range(0, ROWS, closed="left", name="bin"),
        "categories": pd.CategoricalIndex(list("cabbac"), categories=list("zcba"), ordered=True, name="grade"),
        "nullable_integers": pd.Index(pd.array([1, None, 3, 4, None, 6], "Int16"), name="n"),
        "arrow_dates": pd.Index(pd.array([*days[:5], None], pd.ArrowDtype(pa.date32())), name="d"),
        "repeated_labels": pd.Index(["a", "a", "b", "b", "a", "a"], name="label"),
        "named_as_a_column": pd.Index(range(3, 3 + ROWS), name="x"),
        "named_by_a_number": pd.Index(range(3, 3 + ROWS), name=0),
        "named_with_the_empty_string": pd.Index(range(3, 3 + ROWS), name=""),
        "multi_of_many_kinds": pd.MultiIndex.from_arrays(
            [
                list("aabbcc"),
                hours.tz_convert(PARIS),
                pd.Categorical(list("xyzxyz"), ["z", "y", "x", "w"], ordered=True),
                [1.5, np.nan, 2.5, 1.5, np.nan, 2.5],
            ],
            names=["letter", "when_", None, "f"],
        ),
        "multi_repeated": pd.MultiIndex.from_arrays([[1, 1, 2, 2, 1, 1], list("aaabbb")], names=["n", "n2"]),
        "multi_with_missing": pd.MultiIndex.from_arrays(
            [["a", None, "b"] * 2, pd.to_datetime(["2024-01-01", None] * 3)]
        ),
        "multi_of_periods_and_intervals": pd.MultiIndex.from_arrays(
            [pd.period_range("2024-01-01", periods=ROWS, freq="D"), pd.interval_range(0.0, ROWS)], names=["p", "i"]
        ),
        "multi_of_one_level": pd.MultiIndex.from_arrays([list("abcabc")], names=["only"]),
    }


def _columns() -> dict[str, pd.DataFrame]:
    def labelled(columns) -> pd.DataFrame:
        return pd.DataFrame(np.arange(3.0 * ROWS).reshape(ROWS, 3), columns=columns)

    frames = {
        "integers": labelled(pd.Index([7, 0, -1])),
        "integers_named": labelled(pd.Index([1, 2, 3], name="lag")),
        "named": labelled(pd.Index(["a", "b", "c"], name="measure")),
        "floats": labelled(pd.Index([0.5, 1.5, 1e30])),
        "datetimes": labelled(pd.date_range("2024-01-01", periods=3, name="day")),
        "zoned_datetimes": labelled(pd.date_range("2024-01-01", periods=3, tz="UTC")),
        "timedeltas": labelled(pd.to_timedelta([1, 2, 3], unit="D")),
        "categories": labelled(pd.CategoricalIndex(["lo", "mid", "hi"], name="level")),
        "multi_three_levels": labelled(
            pd.MultiIndex.from_tuples([("a", "x", ""), ("a", "y", "k"), ("b", "x", "k")], names=["top", None, "low"])
        ),
        "multi_of_numbers": labelled(pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["s", "n"])),
    }
    frames["multi_over_multi_index"] = labelled(pd.MultiIndex.from_product([["a"], ["x", "y", "z"]])).set_axis(
        pd.MultiIndex.from_product([[1, 2], list("abc")], names=["n", None])
    )
    return {f"columns_{name}": frame for name, frame in frames.items()}


def _odd_names() -> dict[str, pd.DataFrame]:
    names = {
        "spaces": [" ", "  ", " lead", "trail ", "a b"],
        "dots_and_quotes": ["a.b", ".", "..", '"', '""', "'", "`", 'x"; DROP TABLE y; --'],
        "control_characters": ["new\nline", "carriage\rreturn", "tab\t", "bell\x07", "\x00", "nul\x00inside"],
        "only_case": ["value", "Value", "VALUE", "vALUE", "ß", "SS", "ẞ", "ı", "I", "i"],
        "empty": ["", "column", "column_2"],
        "non_ascii": ["größe", "gro\u0308ße", "größe_2", "表", "🦀", "\u202egnol", "\u00a0"],
        "hidden": ["__pdb_row", "__pdb_load", "__pdb_version", "__pdb_", "__pdb_ns_x", "column__pdb_row"],
        "hidden_in_capitals": ["__PDB_ROW", "__Pdb_Load", "__PDB_VERSION"],
        "of_arrow": ["__index_level_0__", "__index_level_1__", "None", "index", "level_0"],
        "of_sql": ["select", "*", "count(*)", "$1", "?", "default", "NULL", "@last", "t.x"],
        "of_paths": ["a/b", "../x", "from_1_to_2", "__null__", "a%2Fb", "a=b", "con", "~"],
        "long": ["x" * 1_000, "ü" * 500, "x" * 999],
        "many": [f"c{i}" for i in range(300)],
    }
    return {
        f"names_{kind}": pd.DataFrame(
            {each: [number + row for row in range(ROWS)] for number, each in enumerate(words)}
        )
        for kind, words in names.items()
    }


def _categories() -> dict[str, pd.DataFrame]:
    codes = [2, 0, -1, 1, 0, 2]

    def category(values, ordered: bool = False) -> pd.DataFrame:
        return pd.DataFrame({"c": pd.Categorical.from_codes(codes, values, ordered=ordered), "x": range(ROWS)})

    dates = [datetime.date(2024, 3, 1), datetime.date(2023, 1, 1), datetime.date(2025, 1, 1)]
    frames = {
        "ordered": category(["low", "mid", "high"], ordered=True),
        "unused": category(["b", "a", "c", "never", "", "not once"]),
        "of_integers": category([1 << 40, -7, 0], ordered=True),
        "of_floats": category([1.5, -0.0, np.inf]),
        "of_booleans": pd.DataFrame({"c": pd.Categorical([True, None, False] * 2)}),
        "of_dates": category(dates),
        "of_datetimes": category(pd.to_datetime(dates)),
        "of_zoned_datetimes": category(pd.to_datetime(dates).tz_localize(PARIS)),
        "of_nanoseconds": category(pd.to_datetime([MOST, 1, -1], unit="ns")),
        "of_timedeltas": category(pd.to_timedelta([3, 1, 2], unit="h")),
        "all_missing": pd.DataFrame({"c": pd.Categorical([None] * ROWS, ["a", "b"])}),
        "none_at_all": pd.DataFrame({"c": pd.Categorical([None] * ROWS, pd.Index([], dtype="str"))}),
        "many": pd.DataFrame({"c": pd.Categorical([f"v{i}" for i in range(ROWS)], [f"v{i}" for i in range(40_000)])}),
    }
    return {f"categories_{kind}": frame for kind, frame in frames.items()}


def _instants() -> dict[str, pd.DataFrame]:
    ends = [pd.Timestamp.min, pd.Timestamp.max, pd.NaT, pd.Timestamp(0), pd.Timestamp(-1), pd.Timestamp(1)]
    frames = {"ns_whole_range": pd.DataFrame({"t": pd.Series(ends, dtype="M8[ns]")})}
    frames["ns_whole_range_utc"] = pd.DataFrame({"t": pd.Series(ends, dtype="M8[ns]").dt.tz_localize("UTC")})
    negative = [-1, -999, -1_000, -1_001, -1_000_000_001, -(10**18) - 1]
    frames["ns_before_1970"] = pd.DataFrame({"t": np.array(negative, "M8[ns]"), "d": np.array(negative, "m8[ns]")})
    far = {"s": 9_000_000_000_000, "ms": 9_000_000_000_000_000, "us": 9_000_000_000_000_000_000, "ns": MOST}
    ticks = {unit: [0, 1, -1, None, most, -most] for unit, most in far.items()}
    for unit in UNITS:
        column = pd.Series(np.array([-(1 << 63) if tick is None else tick for tick in ticks[unit]], f"M8[{unit}]"))
        frames[f"instants_{unit}"] = pd.DataFrame({"t": column, "x": range(ROWS)})
        spans = [0, 1, -1, -(1 << 63), MOST, -MOST]
        frames[f"timedelta_{unit}"] = pd.DataFrame({"d": pd.Series(np.array(spans, f"m8[{unit}]")), "x": range(ROWS)})
    moments = pd.Series(pd.to_datetime([1_711_846_799_123_456_789 + i * 3_600 * 10**9 for i in range(ROWS)], unit="ns"))
    zones = {
        "utc": "UTC",
        "paris": PARIS,
        "fixed_offset": HALF_PAST,
        "odd_minute": ODD_MINUTE,
        "named": "America/St_Johns",
    }
    for word, zone in zones.items():
        frames[f"zone_{word}"] = pd.DataFrame(
            {unit: moments.dt.as_unit(unit).dt.tz_localize("UTC").dt.tz_convert(zone) for unit in UNITS}
        )
    frames["zone_of_each_its_own"] = pd.DataFrame(
        {f"z{i}": moments.dt.tz_localize("UTC").dt.tz_convert(zone) for i, zone in enumerate(zones.values())}
    )
    return frames


def _nullable() -> dict[str, pd.DataFrame]:
    frames = {}
    for signed, word in ((True, "Int"), (False, "UInt")):
        for bits in (8, 16, 32, 64):
            low, high = _limits(bits, signed)
            values = pd.array([low, None, high, 0, None, 1], f"{word}{bits}")
            frames[f"nullable_{word}{bits}"] = pd.DataFrame({"n": values, "x": range(ROWS)})
    for bits in (32, 64):
        values = pd.array([1.5, None, np.inf, -0.0, None, 1e-30], f"Float{bits}")
        frames[f"nullable_Float{bits}"] = pd.DataFrame({"f": values})
    frames["nullable_boolean"] = pd.DataFrame({"b": pd.array([True, None, False, None, True, False], "boolean")})
    frames["nullable_all_missing"] = pd.DataFrame(
        {kind: pd.array([None] * ROWS, kind) for kind in ("Int8", "UInt64", "Float32", "boolean", "string")}
    )
    words = ["", None, "a", "ünï\x00\n", None, "🦀" * 40]
    for storage in ("python", "pyarrow"):
        frames[f"strings_in_{storage}"] = pd.DataFrame({"s": pd.array(words, pd.StringDtype(storage))})
        kept = pd.array(words, pd.StringDtype(storage, na_value=np.nan))
        frames[f"strings_with_nan_in_{storage}"] = pd.DataFrame({"s": kept})
    frames["strings_as_objects"] = pd.DataFrame({"s": pd.Series(words, dtype=object)})
    return frames


def _arrow_columns() -> dict[str, pd.DataFrame]:
    days = [datetime.date(2024, 1, 1), None] * 3
    columns = {
        "int64": ([1, None, MOST, -MOST, 0, None], pa.int64()),
        "uint64": ([(1 << 64) - 1, None, 0, 1, 2, 3], pa.uint64()),
        "float16": ([np.float16(1.5), None] * 3, pa.float16()),
        "bool": ([True, None, False] * 2, pa.bool_()),
        "date32": (days, pa.date32()),
        "date64": (days, pa.date64()),
        "time64_ns": ([datetime.time(23, 59, 59, 999_999), None] * 3, pa.time64("ns")),
        "timestamp_ns_paris": ([datetime.datetime(2024, 3, 31, 1), None] * 3, pa.timestamp("ns", "Europe/Paris")),
        "duration_ms": ([datetime.timedelta(milliseconds=-5), None] * 3, pa.duration("ms")),
        "decimal": ([decimal.Decimal("-12.340"), None] * 3, pa.decimal128(38, 3)),
        "large_string": (["a", None] * 3, pa.large_string()),
        "binary": ([b"\x00", None] * 3, pa.binary()),
        "dictionary": (["a", None, "b"] * 2, pa.dictionary(pa.int8(), pa.string())),
        "list": ([[1, None], None, []] * 2, pa.list_(pa.int16())),
        "struct": ([{"a": 1, "b": ["x"]}, None] * 3, pa.struct({"a": pa.int8(), "b": pa.list_(pa.string())})),
        "map": ([[("k", 1)], None, []] * 2, pa.map_(pa.string(), pa.int32())),
        "null": ([None] * ROWS, pa.null()),
    }
    return {
        f"arrow_{word}": pd.DataFrame({"c": pd.array(pa.array(values, kind), pd.ArrowDtype(kind)), "x": range(ROWS)})
        for word, (values, kind) in columns.items()
    }


def _objects() -> dict[str, pd.DataFrame]:
    with decimal.localcontext(prec=100):
        wide = {digits: decimal.Decimal("9" * digits).scaleb(-9) for digits in (38, 76)}
        decimals = {digits: [most, -most, None, decimal.Decimal(0), most, None] for digits, most in wide.items()}
    time = datetime.time
    columns = {
        "dates": [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None, datetime.date(1970, 1, 1)] + [None] * 2,
        "times": [time(0), time(23, 59, 59, 999_999), None, time(12, 0, 0, 1), time(1), None],
        "decimals_38_digits": decimals[38],
        "decimals_76_digits": decimals[76],
        "bytes": [b"", b"\x00\xff", None, b"x" * 300, b"a", b"b"],
        "lists": [[1, 2], [], None, [3], [4, 5, 6], [7]],
        "lists_of_lists": [[[1], []], [], None, [[2, 3], [4]], [[]], [[5]]],
        "lists_of_strings": [["a", None], [], None, ["ü"], [""], ["b", "c"]],
        "lists_of_datetimes": [[pd.Timestamp(1), None], [], None, [pd.Timestamp.max], [pd.Timestamp.min], []],
        "numpy_arrays": [np.array([1.5, np.nan]), np.array([]), None, np.array([2.5]), np.array([0.0]), None],
        "arrays_of_instants": [np.array([MOST, -MOST, -(1 << 63)], "M8[ns]"), None, np.array([], "M8[ns]")] * 2,
        "dicts": [{"a": 1, "b": "x"}, {"a": None, "b": ""}, None, {"a": 3, "b": None}, {"a": 4, "b": "y"}, None],
        "dicts_of_dicts": [{"o": {"i": [1, 2]}}, {"o": {"i": []}}, None, {"o": None}, {"o": {"i": None}}, None],
        "lists_of_dicts": [[{"a": 1, "t": pd.Timestamp(5)}], [], None, [{"a": 2, "t": None}, None], [], None],
        "booleans_with_missing": [True, None, False, None, True, False],
        "strings_with_nan": ["a", np.nan, "b", None, "", "c"],
        "timedeltas": [datetime.timedelta(days=-1, microseconds=1), None] * 3,
        "all_none": [None] * ROWS,
    }
    frames = {
        f"objects_{kind}": pd.DataFrame({"c": pd.Series(values, dtype=object)}) for kind, values in columns.items()
    }
    frames["all_nan"] = pd.DataFrame({"f": [np.nan] * ROWS, "h": np.full(ROWS, np.nan, "float32")})
    frames["all_nat"] = pd.DataFrame({"t": np.full(ROWS, "NaT", "M8[ns]"), "d": np.full(ROWS, "NaT", "m8[s]")})
    frames["all_null_of_each_kind"] = pd.DataFrame(
        {"n": [None] * ROWS, "f": [np.nan] * ROWS, "s": pd.Series([None] * ROWS, dtype="str")}
    )
    frames["numpy_float16"] = pd.DataFrame({"h": np.array([65504, -65504, 6e-8, np.nan, np.inf, -0.0], "float16")})
    frames["numpy_float32"] = pd.DataFrame(
        {"f": np.array([3.4028235e38, 1e-45, np.nan, -np.inf, -0.0, 0.1], "float32")}
    )
    frames["numpy_float64"] = pd.DataFrame({"f": [1.7976931348623157e308, 5e-324, np.nan, -np.inf, -0.0, 0.1]})
    for signed, word in ((True, "int"), (False, "uint")):
        frames[f"numpy_{word}"] = pd.DataFrame(
            {
                f"{word}{bits}": np.array([*_limits(bits, signed), 0, 1, 2, 3], f"{word}{bits}")
                for bits in (8, 16, 32, 64)
            }
        )
    return frames


def _pandas_extensions() -> dict[str, pd.DataFrame]:
    frames = {}
    for frequency in ("Y", "Q-NOV", "M", "W-WED", "D", "h", "min", "s", "ms", "us", "ns"):
        periods = pd.Series(pd.period_range("2024-02-28", periods=ROWS, freq=frequency)).mask(
            [False, True] + [False] * 4
        )
        frames[f"periods_{frequency}"] = pd.DataFrame({"p": periods, "x": range(ROWS)})
    for closed in ("left", "right", "both", "neither"):
        frames[f"intervals_{closed}"] = pd.DataFrame(
            {
                "i": pd.arrays.IntervalArray.from_breaks(range(ROWS + 1), closed=closed),
                "f": pd.arrays.IntervalArray.from_breaks(np.arange(ROWS + 1) / 4, closed=closed),
            }
        )
    frames["intervals_of_datetimes"] = pd.DataFrame(
        {
            "i": pd.interval_range(pd.Timestamp("2024-01-01"), periods=ROWS, freq="h"),
            "z": pd.interval_range(pd.Timestamp("2024-01-01", tz=PARIS), periods=ROWS, freq="D"),
        }
    )
    frames["intervals_with_missing"] = pd.DataFrame(
        {"i": pd.arrays.IntervalArray.from_tuples([(0.0, 1.0), np.nan, (1.0, 2.5), np.nan, (0.0, 9.0), (3.0, 4.0)])}
    )
    return frames


def _attrs() -> dict[str, pd.DataFrame]:
    frames = {}
    for kind, attrs in {
        "nested": {"a": {"b": [1, 2.5, None, True]}, "": "empty", "näme": "wért"},
        "long": {"text": "x" * 100_000},
    }.items():
        frames[f"attrs_{kind}"] = _base()
        frames[f"attrs_{kind}"].attrs = attrs
    return frames


def _empty() -> dict[str, pd.DataFrame | pa.Table]:
    kinds = [
        "int8", "uint64", "float16", "float64", "bool", "str", "object", "category", "M8[s]", "M8[ns]", "m8[ms]",
        "Int64", "UInt8", "Float32", "boolean", "string", "datetime64[ns, Europe/Paris]", "period[M]",
        "interval[int64, left]", "int32[pyarrow]",
    ]  # fmt: skip
    frames = {f"empty_{kind}": pd.DataFrame({"c": pd.Series([], dtype=kind)}) for kind in kinds}
    frames["empty_all_kinds"] = pd.DataFrame({kind: pd.Series([], dtype=kind) for kind in kinds})
    frames["empty_datetime_index"] = _base(pd.date_range("2024-01-01", periods=ROWS, name="t")).iloc[:0]
    frames["empty_multi_index"] = _base().set_index(["s", "x"]).assign(v=1.5).iloc[:0]
    frames["empty_multi_columns"] = pd.DataFrame(
        columns=pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")], names=["top", "low"]), dtype="float64"
    )
    frames["one_row"] = _base().iloc[:1]
    frames["no_columns_no_rows"] = pd.DataFrame()
    frames["no_columns_but_a_range_index"] = pd.DataFrame(index=pd.RangeIndex(ROWS))
    frames["no_columns_but_an_index"] = pd.DataFrame(index=pd.Index(list("uvwxyz"), name="only"))
    return frames


def _arrow_only() -> dict[str, pa.Table]:
    words = pa.array(["a", None, "b", "b", "a", "a string of more than twelve bytes"])
    lists = pa.array([[1, None], [], None, [2], [3, 4], [None]], pa.list_(pa.int32()))

    def codes(kind: pa.DataType, values: pa.Array, ordered: bool = False) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1, 0, 0], kind), values, ordered=ordered)

    two_deep = pa.struct([("k", pa.dictionary(pa.int8(), pa.string())), ("t", pa.timestamp("ns", "Europe/Paris"))])
    inside = [
        {"k": "a", "t": 5},
        {"k": "b", "t": -MOST},
        None,
        {"k": None, "t": None},
        {"k": "a", "t": 1},
        {"k": "a", "t": 2},
    ]
    tensor = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    columns = {
        "run_end_encoded": pa.compute.run_end_encode(pa.array([7, 7, 7, None, None, 8])),
        "run_end_encoded_strings": pa.compute.run_end_encode(words, pa.int16()),
        "list_view": pa.array([[1, None], [], None, [2], [3, 4], [None]], pa.list_view(pa.int32())),
        "large_list_view": pa.array([["a"], [], None, ["b"], [None], []], pa.large_list_view(pa.string())),
        "list_of_views": pa.array([["a" * 20], [], None, ["b"], [None], []], pa.list_(pa.string_view())),
        "fixed_list_of_lists": pa.array([[[1], []], None, [None, [2, 3]]] * 2, pa.list_(pa.list_(pa.uint8()), 2)),
        "fixed_binary_16": pa.array([bytes([i]) * 16 for i in range(5)] + [None], pa.binary(16)),
        "map_of_lists": pa.array(
            [[("a", [1, 2]), ("b", None)], [], None] * 2, pa.map_(pa.string(), pa.list_(pa.int8()))
        ),
        "map_with_integer_keys": pa.array(
            [[(1, "x")], [(1, "y"), (2, None)], None] * 2, pa.map_(pa.int64(), pa.string())
        ),
        "struct_in_list_in_struct": pa.array(
            [{"rows": [{"n": 1, "u": (1 << 64) - 1}, None]}, {"rows": []}, None] * 2,
            pa.struct([("rows", pa.list_(pa.struct([("n", pa.int8()), ("u", pa.uint64())])))]),
        ),
        "struct_of_a_dictionary_and_ns": pa.array(inside, two_deep),
        "struct_names_only_case": pa.array([{"a": 1, "A": 2}, None] * 3, pa.struct({"a": pa.int8(), "A": pa.int8()})),
        "struct_without_fields": pa.array([{}, None] * 3, pa.struct([])),
        "list_of_nulls": pa.array([[None], [], None] * 2, pa.list_(pa.null())),
        "nested_decimals": pa.array([[decimal.Decimal("9" * 76)], [], None] * 2, pa.list_(pa.decimal256(76, 0))),
        "nested_times": pa.array([[datetime.time(1, 2, 3, 4)], [], None] * 2, pa.list_(pa.time64("ns"))),
        "nested_durations": pa.array([{"d": -1}, None, {"d": 10**13}] * 2, pa.struct({"d": pa.duration("s")})),
        "dictionary_of_large_strings": codes(pa.int16(), pa.array(["x", "y", "unused"], pa.large_string())),
        "dictionary_uint64_codes": codes(pa.uint64(), pa.array(["x", "y"]), ordered=True),
        "dictionary_of_decimals": codes(pa.int8(), pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.25")])),
        "dictionary_of_bytes": codes(pa.int8(), pa.array([b"\x00", b"\xff"])),
        "dictionary_of_instants": codes(pa.int8(), pa.array([1, -1], pa.timestamp("ns", "UTC"))),
        "dictionary_with_a_null_value": codes(pa.int8(), pa.array(["x", None])),
        "decimal32": pa.array([decimal.Decimal("-9.99"), None] * 3, pa.decimal32(9, 2)),
        "decimal64": pa.array([decimal.Decimal("9" * 18), None] * 3, pa.decimal64(18, 0)),
        "decimal_negative_scale": pa.array([decimal.Decimal(12_000), None] * 3, pa.decimal128(5, -3)),
        "decimal256_no_fraction": pa.array([decimal.Decimal("-" + "9" * 76), None] * 3, pa.decimal256(76, 0)),
        "timestamp_odd_zones": pa.array([0, 1, -1, None, 5, 6], pa.timestamp("ns", "-11:45")),
        "timestamp_far_away": pa.array([9_000_000_000_000, -9_000_000_000_000, None, 0, 1, 2], pa.timestamp("s")),
        "uuid": pa.array([bytes([i]) * 16 for i in range(5)] + [None], pa.uuid()),
        "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None, -1, 5, 0], pa.int8())),
        "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "point", "gis"), pa.array([b"\x01", None] * 3)),
        "tensor": pa.ExtensionArray.from_storage(tensor, pa.array([[1, 2, 3, 4], None] * 3, tensor.storage_type)),
        "list_of_uuids": pa.ListArray.from_arrays(
            [0, 1, 1, 2, 3, 4, 4], pa.array([bytes([i]) * 16 for i in range(4)], pa.uuid())
        ),
    }
    tables = {f"arrow_only_{kind}": pa.table({"c": column, "x": range(ROWS)}) for kind, column in columns.items()}
    unknown = {"ARROW:extension:name": "acme.temperature", "ARROW:extension:metadata": '{"scale": "K"}'}
    item = pa.field("inner", pa.int16(), metadata={"unit": "m"}, nullable=False)
    noted = pa.schema(
        [
            pa.field("t", pa.float64(), metadata=unknown),
            pa.field("l", pa.list_(item), metadata={b"\xc3\xbc": b""}),
            pa.field("s", pa.struct([pa.field("f", pa.string(), metadata={"deep": "yes"})]), nullable=False),
        ],
        {"": "", "long": "y" * 70_000, "pandas_db": "mine"},
    )
    values = [[1.5, None] * 3, [[1, 2], None, []] * 2, [{"f": "a"}] * ROWS]
    tables["arrow_only_metadata_at_every_level"] = pa.table(
        [pa.array(each, field.type) for each, field in zip(values, noted)], noted
    )
    tables["arrow_only_chunks_of_many_sizes"] = pa.table(
        {"c": pa.chunked_array([lists.slice(0, 1), lists[:0], lists[1:]])}
    )
    return tables


def matrix() -> dict[str, pd.DataFrame | pa.Table]:
    """Return every frame of the matrix by name."""
    indexed = {f"index_{kind}": _base(index) for kind, index in _indexes().items()}
    groups = [
        arrow_tables(),
        polars_frames(),
        pandas_frames(),
        indexed,
        _columns(),
        _odd_names(),
        _categories(),
        _instants(),
        _nullable(),
    ]
    groups += [_arrow_columns(), _objects(), _pandas_extensions(), _attrs(), _empty(), _arrow_only()]
    joined = {name: frame for group in groups for name, frame in group.items()}
    assert len(joined) == sum(map(len, groups)), "two frames have one name"
    return joined


def with_keys(sample: str, table: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """Add a Date key before the columns of a table and an ID key behind them; return it and its columns_keys."""
    date_name, id_name = KEY_NAMES.get(sample, ("when", "id"))
    first = (datetime.date(2024, 1, 1) - datetime.date(1970, 1, 1)).days
    rows = range(table.num_rows)
    dates = pa.array([first + (3, 0, 4, 0, 1, 3)[row % 6] for row in rows], pa.int32()).cast(pa.date32())
    ids = pa.array([(500, -3, 9, None, 500, 7)[row % 6] for row in rows], pa.int32())
    keyed = table.add_column(0, pa.field(date_name, pa.date32()), dates).append_column(
        pa.field(id_name, pa.int32()), ids
    )
    return keyed, {date_name: "Date", id_name: "ID"}
