"""Frames of every kind that the pandas at hand has, above all those that Arrow alone does not bring through."""

from __future__ import annotations

import datetime
import decimal
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa

PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
ROWS = 6
NANOSECONDS = [1_700_000_000_123_456_789 + row for row in range(ROWS)]
PARIS = zoneinfo.ZoneInfo("Europe/Paris")


def objects(values: list) -> pd.Series:
    """Return values as a column of objects that pandas and NumPy do not look into."""
    boxed = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        boxed[position] = value
    return pd.Series(boxed, dtype=object)


def _numbers() -> dict[str, pd.DataFrame]:
    kinds = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    return {
        "integers": pd.DataFrame(
            {kind: np.array([np.iinfo(kind).min, np.iinfo(kind).max, 0, 1, 2, 3], kind) for kind in kinds}
        ),
        "floats": pd.DataFrame(
            {kind: np.array([1.5, np.nan, np.inf, -np.inf, -0.0, 6e-8], kind) for kind in ("float32", "float64")}
        ),
        "float16": pd.DataFrame({"h": np.array([1.5, np.nan, np.inf, -0.0, 2, 3], "float16")}),
        "booleans": pd.DataFrame({"b": [True, False] * 3}),
        "nullable": pd.DataFrame(
            {
                "i": pd.array([1, None, 3, 4, None, 6], "Int64"),
                "u": pd.array([1, None, 255, 4, None, 6], "UInt8"),
                "b": pd.array([True, None, False] * 2, "boolean"),
                "f": pd.array([1.5, None, 2.5, 0, None, -1], "Float32"),
            }
        ),
        "complex": pd.DataFrame(
            {
                "c": np.array([1j, complex(np.nan, 1), complex(-0.0, np.inf), 0, 1, 2 - 3j]),
                "half": np.array([1j, 0.5, -1, 2, 3, 4], "complex64"),
                "x": range(ROWS),
            }
        ),
    }


def _sparse() -> dict[str, pd.DataFrame]:
    def sparse(values, kind) -> pd.DataFrame:
        return pd.DataFrame({"s": pd.arrays.SparseArray(values, dtype=kind), "x": range(ROWS)})

    return {
        "sparse_floats": sparse([np.nan, 1.5, np.nan, np.inf, 0.0, np.nan], pd.SparseDtype(float)),
        "sparse_floats_filled_with_zero": sparse([0.0, 1.5, np.nan, 0.0, -1.0, 0.0], pd.SparseDtype(float, 0.0)),
        "sparse_integers": sparse([0, 0, 7, 0, 0, -7], pd.SparseDtype("int16", 0)),
        "sparse_integers_filled_with_nine": sparse([9, 0, 9, 9, 0, -7], pd.SparseDtype(int, 9)),
        "sparse_booleans": sparse([False, True, False, False, True, False], pd.SparseDtype(bool, False)),
        "sparse_complex": sparse(np.array([0, 1j, 0, 2, 0, 0]), pd.SparseDtype(complex, 0)),
    }


def _text() -> dict[str, pd.DataFrame]:
    words = ["", None, "a", "ünï\x00\n", None, "🦀" * 40]
    frames = {
        "text": pd.DataFrame({"s": ["", "b", "a", "ünï\x00\n", "c", "🦀" * 40]}),
        "text_as_objects": pd.DataFrame({"s": objects(words)}),
        "text_with_nan": pd.DataFrame({"s": objects(["a", np.nan, "", np.nan, "b", "c"])}),
        "text_with_na": pd.DataFrame({"s": objects(["a", pd.NA, "", pd.NA, "b", "c"])}),
        "text_with_three_missing_values": pd.DataFrame({"s": objects(["a", np.nan, None, pd.NaT, pd.NA, np.nan])}),
    }
    if PANDAS >= (3, 0):  # Before, text is an object by default, and half a surrogate pair an error.
        frames["text_half_a_surrogate_pair"] = pd.DataFrame({"s": objects(["\ud83e", "b", None, "c", "d", "e"])})
    for storage in ("python", "pyarrow"):
        frames[f"string_{storage}"] = pd.DataFrame({"s": pd.array(words, pd.StringDtype(storage)), "x": range(ROWS)})
        if PANDAS >= (3, 0):
            kind = pd.StringDtype(storage, na_value=np.nan)
            frames[f"str_{storage}"] = pd.DataFrame({"s": pd.array(words, kind), "x": range(ROWS)})
    return frames


def _times() -> dict[str, pd.DataFrame]:
    hours = pd.date_range("2024-03-30 22:00", periods=ROWS, freq="h" if PANDAS >= (2, 2) else "H", tz="Europe/Paris")
    frames = {
        "instants": pd.DataFrame({"t": pd.to_datetime(NANOSECONDS, unit="ns"), "n": pd.to_datetime([None] * ROWS)}),
        "zones": pd.DataFrame(
            {"paris": hours, "utc": hours.tz_convert("UTC"), "tokyo": hours.tz_convert("Asia/Tokyo")}
        ),
        "durations": pd.DataFrame({"d": pd.to_timedelta([1, -2, None, 4, 5, 1 << 60], unit="ns")}),
        "periods": pd.DataFrame({"p": pd.Series(pd.period_range("2024-01", periods=ROWS, freq="M"))}),
        "intervals": pd.DataFrame({"i": pd.arrays.IntervalArray.from_breaks(range(ROWS + 1), closed="left")}),
    }
    if PANDAS >= (2, 0):
        frames["instants_in_other_units"] = pd.DataFrame(
            {unit: np.array([0, 1, -1, 10**9, 5, 6], f"M8[{unit}]") for unit in ("s", "ms", "us")}
        )
    return frames


def _categories() -> dict[str, pd.DataFrame]:
    codes = [2, 0, -1, 1, 0, 2]

    def category(values, ordered: bool = False) -> pd.DataFrame:
        return pd.DataFrame({"c": pd.Categorical.from_codes(codes, values, ordered=ordered), "x": range(ROWS)})

    return {
        "categories": category(["b", "a", "c", "never"]),
        "categories_ordered": category(["low", "mid", "high"], ordered=True),
        "categories_of_integers": category([1 << 40, -7, 0]),
        "categories_of_floats": category([1.5, -0.0, np.inf]),
        "categories_of_zoned_instants": category(pd.date_range("2024-01-01", periods=3, tz="Europe/Paris")),
        "categories_of_instants": category(pd.to_datetime(["2024-01-01", "2023-01-01", "2025-01-01"])),
        "categories_of_intervals": category(pd.interval_range(0, 3)),
        "categories_of_mixed_kinds": category(pd.Index(["a", 1, 2.5], dtype=object)),
        "categories_of_nobody": pd.DataFrame({"c": pd.Categorical([None] * ROWS, ["a", "b"])}),
        "categories_none": pd.DataFrame({"c": pd.Categorical([None] * ROWS)}),
    }


def _arrow() -> dict[str, pd.DataFrame]:
    days = [datetime.date(2024, 1, 1), None] * 3
    columns = {
        "int32": ([1, None, 3, -4, 0, None], pa.int32()),
        "int64_beyond_floats": ([(1 << 62) + 1, None, 3, -4, 0, None], pa.int64()),
        "bool": ([True, None, False] * 2, pa.bool_()),
        "date32": (days, pa.date32()),
        "timestamp": ([datetime.datetime(2024, 3, 31, 1), None] * 3, pa.timestamp("us", "Europe/Paris")),
        "duration": ([datetime.timedelta(milliseconds=-5), None] * 3, pa.duration("ms")),
        "decimal": ([decimal.Decimal("-12.340"), None] * 3, pa.decimal128(38, 3)),
        "large_string": (["a", None] * 3, pa.large_string()),
        "binary": ([b"\x00", None] * 3, pa.binary()),
        "dictionary": (["a", None, "b"] * 2, pa.dictionary(pa.int8(), pa.string())),
        "list": ([[1, None], None, []] * 2, pa.list_(pa.int16())),
        "struct": ([{"a": 1, "b": ["x"]}, None] * 3, pa.struct({"a": pa.int8(), "b": pa.list_(pa.string())})),
    }
    frames = {}
    for word, (values, kind) in columns.items():
        array = pa.array(values, kind)
        frames[f"arrow_{word}"] = pd.DataFrame(
            {"c": pd.ArrowDtype(kind).__from_arrow__(pa.chunked_array([array])), "x": range(ROWS)}
        )
    return frames


def _objects() -> dict[str, pd.DataFrame]:
    time = datetime.time
    columns = {
        "integers": [1, 2, None, 4, 5, -6],
        "integers_large": [(1 << 64) - 1, 0, 1, 2, 3, 4],
        "integers_huge": [1 << 100, -(1 << 100), 0, None, 1, 2],
        "floats": [1.5, np.nan, None, -0.0, np.inf, 2.0],
        "booleans": [True, None, False, None, True, False],
        "dates": [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None, datetime.date(1970, 1, 1), None, None],
        "times": [time(0), time(23, 59, 59, 999_999), None, time(12, 0, 0, 1), time(1), None],
        "datetimes": [datetime.datetime(2024, 1, 1, 1, 2, 3, 4), None, datetime.datetime(1, 1, 1)] * 2,
        "datetimes_of_zones": [datetime.datetime(2024, 1, 1, tzinfo=PARIS), None, datetime.datetime(2024, 7, 1)] * 2,
        "timestamps": [pd.Timestamp(NANOSECONDS[0]), pd.NaT, pd.Timestamp("2024-01-01", tz="UTC")] * 2,
        "timedeltas": [datetime.timedelta(days=-1, microseconds=1), None] * 3,
        "decimals": [decimal.Decimal("1.10"), decimal.Decimal("-2"), None, decimal.Decimal("1e20")] + [None] * 2,
        "decimals_not_a_number": [decimal.Decimal("NaN"), decimal.Decimal("Infinity"), None, decimal.Decimal(1)] * 1
        + [None] * 2,
        "bytes": [b"", b"\x00\xff", None, b"x" * 300, b"a", b"b"],
        "complex": [1j, 2 + 0j, None, 1j, 1j, 0j],
        "lists": [[1, 2], [], None, [3], [4, 5, 6], [7]],
        "lists_of_mixed_kinds": [[1, "a"], [], None, [None, 2.5], [[1], {"k": (1, 2)}], [7]],
        "tuples": [(1, 2), (), None, (3,), (4, 5, 6), (7,)],
        "sets": [{1, 2}, set(), None, {3}, frozenset({4}), {"a"}],
        "arrays": [np.array([1.5, np.nan]), np.array([]), None, np.array([2.5]), np.array([0.0]), None],
        "arrays_of_two_dimensions": [np.arange(4, dtype="int16").reshape(2, 2), None, np.zeros((0, 3), "int16")] * 2,
        "dicts": [{"a": 1, "b": "x"}, {"a": 2, "b": ""}, None] * 2,
        "dicts_of_unlike_keys": [{"a": 1}, {"b": {"c": [1, None]}}, None, {}, {1: 2}, {"$set": [1]}],
        "numbers_and_text": [1, "one", 2.5, None, True, b"raw"],
        "integers_and_floats": [1, 2.5, 3, None, 4.0, np.nan],
        "booleans_and_integers": [True, 1, False, 0, None, 2],
        "periods": [pd.Period("2024-01", "M"), pd.Period("2024-01-01", "D"), None, None, None, None],
        "intervals": [pd.Interval(0, 1), pd.Interval(0.5, 1.5, "both"), None, None, None, None],
        "missing_values": [None, np.nan, pd.NA, pd.NaT, None, np.nan],
        "all_none": [None] * ROWS,
        "all_nan": [np.nan] * ROWS,
    }
    return {
        f"objects_{kind}": pd.DataFrame({"c": objects(values), "x": range(ROWS)}) for kind, values in columns.items()
    }


def _labels() -> dict[str, pd.DataFrame]:
    def labelled(columns) -> pd.DataFrame:
        return pd.DataFrame(np.arange(3.0 * ROWS).reshape(ROWS, 3), columns=columns)

    twins = pd.DataFrame([[1, "a", 2.5]] * ROWS, columns=["a", "a", "a"])
    mixed = pd.DataFrame({0: range(ROWS), 1: list("abcdef"), 2: [1j] * ROWS})
    mixed.columns = pd.Index(["a", "a.1", "a"])
    return {
        "labels_repeated": twins,
        "labels_repeated_beside_their_numbers": mixed,
        "labels_range": labelled(None),
        "labels_integers": labelled(pd.Index([7, 0, -1])),
        "labels_integers_named": labelled(pd.Index([1, 2, 3], name="lag")),
        "labels_integers_repeated": labelled(pd.Index([1, 1, 1])),
        "labels_named": labelled(pd.Index(["a", "b", "c"], name="measure")),
        "labels_floats": labelled(pd.Index([0.5, 1.5, 1e30])),
        "labels_number_and_its_spelling": labelled(pd.Index([1, "1", 1.0], dtype=object)),
        "labels_mixed": labelled(pd.Index([1, "a", None], dtype=object)),
        "labels_tuples": labelled(pd.Index([("a", 1), "b", ("c",)], dtype=object, tupleize_cols=False)),
        "labels_timestamps": labelled(pd.date_range("2024-01-01", periods=3, name="day")),
        "labels_zoned_timestamps": labelled(pd.date_range("2024-01-01", periods=3, tz="Europe/Paris")),
        "labels_durations": labelled(pd.to_timedelta([1, 2, 3], unit="D")),
        "labels_periods": labelled(pd.period_range("2024-01", periods=3, freq="M")),
        "labels_categories": labelled(pd.CategoricalIndex(["lo", "mid", "hi"], name="level")),
        "labels_booleans": labelled(pd.Index([True, False, "True"], dtype=object)),
        "labels_multi": labelled(pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")], names=["top", None])),
        "labels_multi_of_numbers": labelled(pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)])),
        "labels_multi_repeated": labelled(pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 1)], names=[0, 1])),
        "labels_named_by_a_tuple": labelled(pd.Index(["a", "b", "c"], name=("x", 1))),
    }


def _indexes() -> dict[str, pd.DataFrame]:
    hour = "h" if PANDAS >= (2, 2) else "H"
    indexes = {
        "range": pd.RangeIndex(10, 10 - 2 * ROWS, -2, name="down"),
        "integers": pd.Index([5, -1, 3, 3, 1 << 40, 0], name="key"),
        "text": pd.Index(list("uvwxyz"), name="word"),
        "text_with_missing": pd.Index(objects(["a", None, "", np.nan, "ü", "b"]), name="word"),
        "days": pd.date_range("2024-01-01", periods=ROWS, freq="D", name="day"),
        "hours_across_a_change_of_clocks": pd.date_range(
            "2024-10-26 23:00", periods=ROWS, freq=hour, tz="UTC"
        ).tz_convert("Europe/Paris"),
        "months": pd.date_range("2024-01-31", periods=ROWS, freq="ME" if PANDAS >= (2, 2) else "M"),
        "durations": pd.timedelta_range("1h", periods=ROWS, freq=hour),
        "periods": pd.period_range("2024-01", periods=ROWS, freq="M", name="month"),
        "intervals": pd.interval_range(0, ROWS, closed="left", name="bin"),
        "categories": pd.CategoricalIndex(list("cabbac"), categories=list("zcba"), ordered=True, name="grade"),
        "mixed": pd.Index([1, "a", None, (1, 2), 2.5, b"x"], dtype=object, name="any", tupleize_cols=False),
        "named_by_a_number": pd.Index(range(3, 3 + ROWS), name=0),
        "named_by_a_tuple": pd.Index(range(3, 3 + ROWS), name=("a", 1)),
        "named_as_a_column": pd.Index(range(3, 3 + ROWS), name="x"),
        "multi": pd.MultiIndex.from_product([[1, 2], list("abc")], names=["n", None]),
        "multi_of_many_kinds": pd.MultiIndex.from_arrays(
            [
                list("aabbcc"),
                pd.date_range("2024-01-01", periods=ROWS),
                pd.Categorical(list("xyzxyz")),
                [1.5, np.nan] * 3,
            ],
            names=["letter", "when", None, 3],
        ),
        "multi_of_one_level": pd.MultiIndex.from_arrays([list("abcabc")], names=["only"]),
        "multi_with_missing": pd.MultiIndex.from_arrays(
            [["a", None, "b"] * 2, pd.to_datetime(["2024-01-01", None] * 3)]
        ),
    }
    if PANDAS >= (2, 0):
        indexes |= {
            "complex": pd.Index([1j, 2, 3, 4, 5, 6], name="c"),
            "nullable_integers": pd.Index(pd.array([1, None, 3, 4, None, 6], "Int16"), name="n"),
            "string": pd.Index(pd.array(["a", None, "b", "c", "d", "e"], "string[python]"), name="s"),
        }
    frame = pd.DataFrame({"x": range(ROWS), "s": list("abcdef")})
    return {f"index_{kind}": frame.set_axis(index, axis=0) for kind, index in indexes.items()}


def _whole() -> dict[str, pd.DataFrame]:
    base = pd.DataFrame({"x": range(ROWS), "s": list("abcdef")})
    attrs = base.copy()
    attrs.attrs = {"source": "sensor 7", "scale": [1, 2.5, None, True], "näme": {"deep": {}}}
    exact = base.copy()
    exact.attrs = {"when": pd.Timestamp("2024-01-01", tz="UTC"), 1: (1, 2), "array": [np.nan, b"\x00", 1j]}
    everything = pd.concat(
        [
            pd.DataFrame({"a": [1j] * ROWS, "b": pd.arrays.SparseArray([0, 0, 1, 0, 0, 2])}),
            pd.DataFrame({"a": objects([1, "x", None, np.nan, b"", (1,)]), ("t", 1): pd.Categorical(list("abcabc"))}),
            pd.DataFrame({0: pd.array(["a", None] * 3, "string[python]"), "z": range(ROWS)}),
        ],
        axis=1,
    )
    everything.index = pd.MultiIndex.from_arrays([[1j, 1, 2, 3, 4, 5], list("aabbcc")], names=["a", 0])
    everything.attrs = {"note": "all at once"}
    return {
        "attrs": attrs,
        "attrs_that_json_lacks": exact,
        "everything_at_once": everything,
        "no_rows": base.iloc[:0],
        "no_rows_of_special_kinds": everything.iloc[:0].set_axis(everything.index[:0].remove_unused_levels(), axis=0),
        "no_rows_of_categories": pd.DataFrame({"c": pd.Categorical([], ["a", "b"], ordered=True), "x": []}),
        "one_row": base.iloc[:1],
        "no_columns": pd.DataFrame(index=pd.Index(list("uvwxyz"), name="only")),
        "many_columns": pd.DataFrame({f"c{number}": [number] * ROWS for number in range(300)}),
        "only_special_columns": pd.DataFrame({"c": [1j] * ROWS}),
    }


def frames() -> dict[str, pd.DataFrame]:
    """Return every frame by name."""
    groups = [
        _numbers(), _sparse(), _text(), _times(), _categories(), _arrow(), _objects(), _labels(), _indexes(), _whole()
    ]  # fmt: skip
    joined = {name: frame for group in groups for name, frame in group.items()}
    assert len(joined) == sum(map(len, groups)), "two frames have one name"
    return joined
