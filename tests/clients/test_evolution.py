"""Loads whose schema differs from those before: columns that come and go, types that widen, what is refused."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from backends import Place
from frames import assert_tables_equal, categories, get, get_info, load, location, refused, sql, table_name
from other_readers import delta_rows, scan_delta


def column(kind: pa.DataType, *values: object) -> pa.Table:
    """Return a table of one column ``c``; values are null where none are given."""
    return pa.table({"c": pa.array(values or [None], kind)})


def read_as_delta(root: Place) -> list[dict]:
    """Return the rows that delta-rs sees, without the hidden columns, the same as polars sees."""
    table = delta_rows(root)
    shown = [name for name in table.column_names if not name.startswith("__pdb_")]
    assert table.column_names[: len(shown)] == shown, "hidden columns are the last"
    by_polars = scan_delta(root).select(shown).collect()
    assert sorted(map(str, by_polars.rows())) == sorted(
        str(tuple(row.values())) for row in table.select(shown).to_pylist()
    )
    return table.select(shown).to_pylist()


def assert_each_version_is_as_it_was(client, name: str, sent: list[pa.Table]) -> None:
    """Check that every version, from 1, is read alone with its own columns, types and metadata."""
    for number, table in enumerate(sent, 1):
        assert_tables_equal(get(client, name, version=number), table)


# Columns


def test_columns_come_and_go_and_keep_the_order_first_seen(client, name):
    sent = [
        pa.table({"a": [1], "b": ["x"]}),
        pa.table({"c": [2.5], "a": [2]}),
        pa.table({"d": pa.array([True]), "b": ["y"], "e": pa.array([0], pa.date32())}),
        pa.table({"a": [4]}),
    ]
    for table in sent:
        load(client, table, name)
    got = get(client, name)
    assert got.column_names == ["a", "b", "c", "d", "e"]
    assert got.to_pylist() == [
        {"a": None, "b": None, "c": None, "d": None, "e": None} | table.to_pylist()[0] for table in sent
    ]
    assert get_info(client, name).schema.equals(got.schema, check_metadata=True)
    assert_each_version_is_as_it_was(client, name, sent)
    assert sql(client, f"SELECT * FROM {table_name(name)} ORDER BY a NULLS FIRST").column_names == got.column_names


def test_two_versions_may_have_no_column_in_common(client, name):
    sent = [pa.table({"a": [1, 2]}), pa.table({"b": ["x"]})]
    for table in sent:
        load(client, table, name)
    assert get(client, name).to_pydict() == {"a": [1, 2, None], "b": [None, None, "x"]}
    assert_each_version_is_as_it_was(client, name, sent)


@pytest.mark.parametrize("keys", [None, {"day": "Date", "id": "ID"}], ids=["no_keys", "keys"])
def test_a_load_may_only_reorder_columns(client, name, keys):
    first = pa.table({"day": pa.array([1, 0], pa.date32()), "id": [2, 1], "s": ["b", "a"], "v": [0.5, 1.5]})
    second = first.select(["v", "id", "s", "day"])
    load(client, first, name, columns_keys=keys)
    load(client, second, name)
    assert_tables_equal(get(client, name), pa.concat_tables([first, first]))
    assert_each_version_is_as_it_was(client, name, [first, second])
    assert_tables_equal(get(client, name, use_last=True), second)


def test_a_column_of_replaced_versions_alone_is_not_shown(client, name):
    load(client, pa.table({"old": [1], "a": [1]}), name)
    load(client, pa.table({"b": [2], "a": [2]}), name, keep_last=True)
    load(client, pa.table({"a": [3], "c": [3]}), name)
    assert get(client, name).select(["a", "b", "c"]).to_pylist() == [
        {"a": 2, "b": 2, "c": None},
        {"a": 3, "b": None, "c": 3},
    ]
    assert sorted(get(client, name).column_names) == ["a", "b", "c"]
    assert get(client, name, version=1).column_names == ["old", "a"]


def test_a_key_column_may_be_missing_later(client, name):
    """Rows without the column are rows whose key is null."""
    load(client, pa.table({"day": pa.array([0, 1], pa.date32()), "x": [1, 2]}), name, columns_keys={"day": "Date"})
    load(client, pa.table({"x": [3]}), name)
    assert get(client, name)["day"].to_pylist() == [datetime.date(1970, 1, 1), datetime.date(1970, 1, 2), None]
    assert sql(client, f"SELECT x FROM {table_name(name)} WHERE day IS NULL")["x"].to_pylist() == [3]
    assert sql(client, f"SELECT x FROM {table_name(name)} WHERE day = '1970-01-02'")["x"].to_pylist() == [2]


def test_a_column_that_not_every_version_has_can_be_null(client, name):
    needed = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.int64(), nullable=False)])
    sent = [pa.table([[1], [2]], needed), pa.table([[3]], pa.schema([needed.field("x")]))]
    for table in sent:
        load(client, table, name)
    got = get(client, name)
    assert not got.schema.field("x").nullable
    assert got.schema.field("y").nullable
    assert got.to_pydict() == {"x": [1, 3], "y": [2, None]}
    assert_each_version_is_as_it_was(client, name, sent)


# Types

SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
WIDENING = [
    *((small, large) for kinds in (SIGNED, UNSIGNED) for i, small in enumerate(kinds) for large in kinds[i + 1 :]),
    (pa.uint8(), pa.int16()),
    (pa.uint16(), pa.int32()),
    (pa.uint32(), pa.int64()),
    (pa.int8(), pa.float64()),
    (pa.int16(), pa.float64()),
    (pa.int32(), pa.float64()),
    (pa.float32(), pa.float64()),
]


def limits(kind: pa.DataType) -> list:
    """Return the least, the greatest and an ordinary value of a type, and null."""
    if pa.types.is_floating(kind):
        return [-1.5, 3.4028234663852886e38, 0.25, None]
    bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
    return [-(1 << bits - 1) if signed else 0, (1 << bits - signed) - 1, 7, None]


@pytest.mark.parametrize("small, large", WIDENING, ids=lambda kind: str(kind))
@pytest.mark.parametrize("larger_first", [False, True], ids=["widened", "taken_in"])
def test_types_widen_without_loss_whichever_comes_first(server, client, name, small, large, larger_first):
    kinds = (large, small) if larger_first else (small, large)
    sent = [column(kind, *limits(kind)) for kind in kinds]
    result = load(client, sent[0], name)
    load(client, sent[1], name)
    union = get(client, name)
    assert union.schema.field("c").type == large
    expected = [value for table in sent for value in table["c"].cast(large).to_pylist()]
    assert union["c"].to_pylist() == expected
    assert_each_version_is_as_it_was(client, name, sent)
    table = table_name(name)
    assert sql(client, f"SELECT c FROM {table}").schema.field("c").type == large
    literal = "0.25" if pa.types.is_floating(small) else "7"
    hits = expected.count(float(literal))
    assert sql(client, f"SELECT count(*) AS n FROM {table} WHERE c = {literal}").to_pydict() == {"n": [hits]}
    found = [row["c"] for row in read_as_delta(location(server, result))]
    assert sorted(map(str, (None if each is None else float(each) for each in found))) == sorted(
        map(str, (None if each is None else float(each) for each in expected))
    )


ANYTHING = {
    "bool": column(pa.bool_(), True),
    "int8": column(pa.int8(), 1),
    "uint64": column(pa.uint64(), (1 << 64) - 1),
    "float16": column(pa.float16(), np.float16(1.5)),
    "float64": column(pa.float64(), float("inf")),
    "decimal": column(pa.decimal128(38, 2), decimal.Decimal("1.25")),
    "decimal256": column(pa.decimal256(76, 2), decimal.Decimal("1.25")),
    "string": column(pa.string(), "x"),
    "binary": column(pa.binary(), b"\x00"),
    "date32": column(pa.date32(), 1),
    "time64": column(pa.time64("ns"), 1),
    "timestamp": column(pa.timestamp("ns"), 1),
    "zoned": column(pa.timestamp("ms", "Europe/Paris"), 1),
    "duration": column(pa.duration("s"), 1),
    "list": column(pa.list_(pa.int8()), [1, None]),
    "struct": column(pa.struct({"a": pa.int8()}), {"a": 1}),
    "map": column(pa.map_(pa.string(), pa.int8()), [("a", 1)]),
    "dictionary": pa.table({"c": pa.array(["a", "b"]).dictionary_encode()}),
}


@pytest.mark.parametrize("null_first", [True, False], ids=["typed_later", "null_later"])
@pytest.mark.parametrize("kind", ANYTHING)
def test_a_column_of_nulls_becomes_anything(client, name, kind, null_first):
    other = ANYTHING[kind]
    nothing = pa.table({"c": pa.nulls(2), "x": [1, 2]})
    sent = [nothing, other] if null_first else [other, nothing]
    for table in sent:
        load(client, table, name)
    got = get(client, name)
    assert got.schema.field("c").type == other.schema.field("c").type
    expected = [value for table in sent for value in table["c"].to_pylist()]
    assert got["c"].to_pylist() == expected
    assert_each_version_is_as_it_was(client, name, sent)
    assert sql(client, f"SELECT count(c) AS n FROM {table_name(name)}").to_pydict() == {"n": [len(other)]}


EXACT = [0, 1, -1, 1 << 53, -(1 << 53), (1 << 53) + 2, 1 << 62, -(1 << 63), None]
INEXACT = [(1 << 53) + 1, -(1 << 53) - 1, (1 << 63) - 1, (1 << 62) + 1]


@pytest.mark.parametrize("float_first", [False, True], ids=["integers_first", "floats_first"])
def test_int64_widens_to_float64_where_every_value_is_exact(client, name, float_first):
    sent = [column(pa.int64(), *EXACT), column(pa.float64(), 0.5, None, float("nan"))]
    sent = sent[::-1] if float_first else sent
    for table in sent:
        load(client, table, name)
    got = get(client, name)
    expected = [None if value is None else float(value) for table in sent for value in table["c"].to_pylist()]
    assert_tables_equal(got, column(pa.float64(), *expected))
    assert_each_version_is_as_it_was(client, name, sent)
    assert load(client, column(pa.int64(), 5), name)["version"] == 3


@pytest.mark.parametrize("value", INEXACT)
@pytest.mark.parametrize("float_first", [False, True], ids=["integers_first", "floats_first"])
def test_an_inexact_int64_does_not_become_a_float(client, name, value, float_first):
    integers, floats = column(pa.int64(), 1, value, 2), column(pa.float64(), 0.5)
    first, second = (floats, integers) if float_first else (integers, floats)
    load(client, first, name)
    with refused("INVALID_ARGUMENT", mentions=["'c'", "Int64", "Float64"]):
        load(client, second, name)
    assert_tables_equal(get(client, name), first)
    assert load(client, first, name)["version"] == 2


def test_exactness_is_asked_of_every_version_that_can_be_read(client, name):
    """The inexact value came two versions ago; a load that would make a float of it is refused all the same."""
    for value in (1, INEXACT[0], 3):
        load(client, column(pa.int64(), value), name)
    with refused("INVALID_ARGUMENT", mentions=["'c'"]):
        load(client, column(pa.float64(), 0.5), name)
    assert get(client, name)["c"].to_pylist() == [1, INEXACT[0], 3]


def test_an_inexact_value_among_many_is_found(client, name):
    numbers = np.arange(200_000)
    numbers[123_456] = INEXACT[0]
    days = pa.array(np.arange(200_000) % 3, pa.int32()).cast(pa.date32())
    load(client, pa.table({"day": days, "c": numbers}), name, columns_keys={"day": "Date"})
    with refused("INVALID_ARGUMENT", mentions=["'c'"]):
        load(client, pa.table({"day": days.slice(0, 1), "c": [0.5]}), name)
    numbers[123_456] = 1 << 53
    load(client, pa.table({"day": days, "c": numbers}), f"{name}/exact", columns_keys={"day": "Date"})
    load(client, pa.table({"day": days.slice(0, 1), "c": [0.5]}), f"{name}/exact")
    assert get(client, f"{name}/exact")["c"].to_pylist() == [*map(float, numbers.tolist()), 0.5]


REFUSED = {
    "int_string": (column(pa.int64(), 1), column(pa.string(), "x"), ["Int64", "Utf8"]),
    "string_int": (column(pa.string(), "x"), column(pa.int32(), 1), ["Utf8", "Int32"]),
    "bool_int": (column(pa.bool_(), True), column(pa.int8(), 1), ["Boolean", "Int8"]),
    "string_binary": (column(pa.string(), "x"), column(pa.binary(), b"x"), ["Utf8", "Binary"]),
    "naive_zoned": (column(pa.timestamp("us"), 0), column(pa.timestamp("us", "UTC"), 0), ["Timestamp", "UTC"]),
    "int_date": (column(pa.int32(), 1), column(pa.date32(), 1), ["Int32", "Date32"]),
    "uint64_int64": (column(pa.uint64(), 1 << 63), column(pa.int64(), -1), ["UInt64", "Int64"]),
    "uint64_float64": (column(pa.uint64(), (1 << 64) - 1), column(pa.float64(), 0.5), ["UInt64", "Float64"]),
    "int64_float32": (column(pa.int64(), INEXACT[0]), column(pa.float32(), 0.5), ["Int64", "Float32"]),
    "duration_time": (column(pa.duration("ns"), 1), column(pa.time64("ns"), 1), ["Duration", "Time64"]),
    "list_scalar": (column(pa.list_(pa.int8()), [1]), column(pa.int8(), 1), ["List", "Int8"]),
    "struct_fields": (
        column(pa.struct({"a": pa.int8()}), {"a": 1}),
        column(pa.struct({"b": pa.string()}), {"b": "x"}),
        ["Struct"],
    ),
    "list_items": (column(pa.list_(pa.int8()), [1]), column(pa.list_(pa.string()), ["x"]), ["List", "Int8", "Utf8"]),
}


@pytest.mark.parametrize("rows", [1, 0], ids=["a_row", "no_rows"])
@pytest.mark.parametrize("first, second, words", REFUSED.values(), ids=REFUSED.keys())
def test_a_type_that_cannot_widen_is_refused_by_name(client, name, first, second, words, rows):
    """The message names the column and both types; how it spells a type is its own affair, but for case."""
    load(client, first.rename_columns(["amount"]), name)
    with refused("INVALID_ARGUMENT", mentions=["'amount'"]) as caught:
        load(client, second.rename_columns(["amount"]).slice(0, rows), name)
    message = caught.value.args[0].lower().replace("string", "utf8")
    assert all(word.lower() in message for word in words), message
    assert_tables_equal(get(client, name), first.rename_columns(["amount"]))
    assert load(client, first.rename_columns(["amount"]), name)["version"] == 2


def test_a_refused_load_leaves_no_column_behind(client, name):
    load(client, pa.table({"a": [1]}), name)
    with refused("INVALID_ARGUMENT", mentions=["'a'"]):
        load(client, pa.table({"new": ["x"], "a": ["x"]}), name)
    assert get(client, name).column_names == ["a"]
    load(client, pa.table({"new": [1.5]}), name)
    assert get(client, name).to_pydict() == {"a": [1, None], "new": [None, 1.5]}


def test_a_type_stays_taken_while_a_replaced_version_can_be_read(client, name):
    """The only live version has another type than the replaced one, which is read alone as it was."""
    load(client, column(pa.int32(), 1), name)
    load(client, column(pa.int64(), 1 << 40), name, keep_last=True)
    assert get(client, name).schema.field("c").type == pa.int64()
    assert_tables_equal(get(client, name, version=1), column(pa.int32(), 1))


# Metadata and categories


def test_the_union_has_the_metadata_of_the_newest_version(client, name):
    def table(owner: str, unit: str) -> pa.Table:
        field = pa.field("a", pa.int64(), metadata={"unit": unit})
        return pa.table([[1]], pa.schema([field], {"owner": owner}))

    sent = [table("first", "m"), table("second", "km"), pa.table({"b": [1]})]
    for table_sent in sent[:2]:
        load(client, table_sent, name)
    got = get(client, name).schema
    assert (got.metadata, got.field("a").metadata) == ({b"owner": b"second"}, {b"unit": b"km"})
    load(client, sent[2], name, external_key="k")
    got = get(client, name).schema
    assert (got.metadata, got.field("a").metadata) == (None, {b"unit": b"km"})
    assert get(client, name, external_key="NOW").schema.metadata == {b"owner": b"second"}
    assert_each_version_is_as_it_was(client, name, sent)


def test_pandas_frames_of_other_columns_are_one_frame(client, name):
    first = pd.DataFrame({"a": pd.array([1, None], "Int8"), "c": pd.Categorical(["x", "y"])}, index=["i", "j"])
    second = pd.DataFrame(
        {"c": pd.Categorical(["z", "x"]), "b": pd.to_datetime(["2024-01-01", None])}, index=["k", "l"]
    )
    for frame in (first, second):
        load(client, frame, name)
    got = get(client, name).to_pandas()
    assert list(got.columns) == ["a", "c", "b"]
    assert list(got.index) == ["i", "j", "k", "l"]
    assert list(got["c"].cat.categories) == ["x", "y", "z"]
    assert list(got["c"]) == ["x", "y", "z", "x"]
    assert got["b"].dtype == second["b"].dtype
    for number, frame in enumerate((first, second), 1):
        pd.testing.assert_frame_equal(
            get(client, name, version=number).to_pandas(), pa.Table.from_pandas(frame).to_pandas()
        )


def dictionary(
    words: list[str], codes: list[int | None], kind: pa.DataType = pa.int8(), ordered: bool = False
) -> pa.Table:
    """Return a table of one categorical column."""
    return pa.table({"c": pa.DictionaryArray.from_arrays(pa.array(codes, kind), words, ordered=ordered)})


def test_categories_are_appended_in_version_order(client, name):
    sent = [
        dictionary(["b", "a", "unused"], [1, None, 0]),
        dictionary(["c", "a"], [0, 1]),
        dictionary(["z", "b"], [1, 0]),
    ]
    for table in sent:
        load(client, table, name)
    got = get(client, name)
    assert got["c"].to_pylist() == ["a", None, "b", "c", "a", "b", "z"]
    assert categories(got["c"]) == ["b", "a", "unused", "c", "z"]
    assert list(got.to_pandas()["c"].cat.categories) == ["b", "a", "unused", "c", "z"]
    assert_each_version_is_as_it_was(client, name, sent)
    assert categories(get(client, name, use_last=True)["c"]) == ["z", "b"]


def test_more_categories_than_the_codes_can_count_are_widened(client, name):
    """Two versions of 100 categories each make 200, which int8 codes cannot name."""
    sent = [dictionary([f"{word}{i}" for i in range(100)], list(range(100))) for word in "ab"]
    for table in sent:
        load(client, table, name)
    got = get(client, name)
    assert pa.types.is_dictionary(got.schema.field("c").type)
    assert got["c"].to_pylist() == [f"{word}{i}" for word in "ab" for i in range(100)]
    assert len(got.to_pandas()["c"].cat.categories) == 200
    assert_each_version_is_as_it_was(client, name, sent)


@pytest.mark.parametrize("plain_first", [False, True])
def test_strings_and_categories_of_strings_are_joined(client, name, plain_first):
    """Either as one type, or refused with the column's name; never by changing a value."""
    sent = [dictionary(["x", "y"], [1, 0]), column(pa.string(), "new", None)]
    sent = sent[::-1] if plain_first else sent
    load(client, sent[0], name)
    try:
        load(client, sent[1], name)
    except pa.ArrowInvalid as error:
        assert "[INVALID_ARGUMENT]" in str(error) and "'c'" in str(error)
        assert_tables_equal(get(client, name), sent[0])
    else:
        assert get(client, name)["c"].to_pylist() == [value for table in sent for value in table["c"].to_pylist()]
        assert_each_version_is_as_it_was(client, name, sent)


# Other readers


def test_delta_readers_see_all_columns_of_a_table_that_grew(server, client, name):
    days = pa.array([0, 1], pa.date32())
    root = location(
        server,
        load(client, pa.table({"day": days, "x": pa.array([1, 2], pa.int8())}), name, columns_keys={"day": "Date"}),
    )
    load(client, pa.table({"x": pa.array([1 << 40], pa.int64()), "day": days.slice(0, 1), "n": pa.nulls(1)}), name)
    load(client, pa.table({"day": days, "x": [4, 5], "n": ["a", None], "f": pa.array([0.5, 1.5], pa.float32())}), name)
    load(client, pa.table({"day": days.slice(1), "f": [0.1]}), name)
    found = sorted(read_as_delta(root), key=str)
    expected = [{"day": None, "x": None, "n": None, "f": None} | row for row in get(client, name).to_pylist()]
    assert sorted(expected, key=str) == found
    assert len(found) == 6


def test_delta_readers_see_a_column_that_was_rewritten(server, client, name):
    """int64 that became float64, and float32 that became float64."""
    root = location(server, load(client, pa.table({"x": [1, 1 << 53], "f": pa.array([0.5, None], pa.float32())}), name))
    load(client, pa.table({"x": [0.5], "f": [0.1]}), name)
    assert sorted(read_as_delta(root), key=str) == sorted(
        [{"x": 1.0, "f": 0.5}, {"x": float(1 << 53), "f": None}, {"x": 0.5, "f": 0.1}], key=str
    )


def test_a_dataset_that_widened_goes_on_after_a_crash(start_server):
    server = start_server()
    sent = [column(pa.int64(), 1, None), column(pa.float64(), 0.5), column(pa.int8(), 3)]
    with server.connect() as client:
        for table in sent[:2]:
            load(client, table, "own/data")
    server.kill()
    with start_server().connect() as client:
        load(client, sent[2], "own/data")
        assert get(client, "own/data")["c"].to_pylist() == [1.0, None, 0.5, 3.0]
        assert_each_version_is_as_it_was(client, "own/data", sent)
