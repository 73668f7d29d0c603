"""`UPDATE`: place, version, key, type and category of rows that change."""

from __future__ import annotations

import pyarrow as pa
import pytest
from frames import (
    assert_tables_equal,
    categories,
    get,
    load,
    refused,
    sql,
    table_name,
)
from samples import arrow_tables
from versions import (
    compact,
    delete_version,
    just_before,
    list_versions,
    named,
    vacuum,
)
from writes import DAY, newest, people, versions, write

# UPDATE


def test_updated_rows_keep_their_place_version_and_key(client, name):
    load(client, people(3, 1), name, external_key="a")
    load(client, people(2), name, external_key="b")
    statement = f"UPDATE {table_name(name)} SET x = x * 10, s = upper(s) || CAST(id AS VARCHAR) WHERE id <> 1"
    assert write(client, statement) == 2
    got = get(client, name)
    assert got.to_pydict() == {"id": [3, 1, 2], "s": ["S33", "s1", "S22"], "x": [7.5, 0.25, 5.0]}
    assert get(client, name, external_key="a")["s"].to_pylist() == ["S33", "s1"]
    assert get(client, name, version=2)["x"].to_pylist() == [5.0]
    assert get(client, name, use_last=True)["id"].to_pylist() == [2]
    before = get(client, name, as_of=just_before(newest(client, name)))
    assert before["s"].to_pylist() == ["s3", "s1", "s2"]
    assert versions(client, name) == [(1, "a", 2), (2, "b", 1), (3, "default", 0)]


def test_expressions_see_the_row_as_it_was(client, name):
    load(client, pa.table({"a": [1, 2], "b": [10, 20]}), name)
    assert write(client, f"UPDATE {table_name(name)} SET a = b, b = a") == 2
    assert get(client, name).to_pydict() == {"a": [10, 20], "b": [1, 2]}


def test_an_update_may_take_from_other_tables_and_queries(client, name):
    load(client, people(1, 2, 3), name)
    load(client, pa.table({"k": [1, 3], "v": ["one", "three"]}), f"{name}-other")
    other = table_name(f"{name}-other")
    assert write(client, f"UPDATE {table_name(name)} AS t SET s = o.v FROM {other} AS o WHERE t.id = o.k") == 2
    assert get(client, name)["s"].to_pylist() == ["one", "s2", "three"]
    assert write(client, f"UPDATE {table_name(name)} AS t SET s = (SELECT max(v) FROM {other} o WHERE o.k = t.id)") == 3
    assert get(client, name)["s"].to_pylist() == ["one", None, "three"]
    assert write(client, f"UPDATE {table_name(name)} SET x = (SELECT sum(x) FROM {table_name(name)})") == 3
    assert get(client, name)["x"].to_pylist() == [1.5] * 3


def test_one_statement_has_one_instant(client, name):
    load(client, pa.table({"id": list(range(500)), "at": pa.nulls(500, pa.timestamp("us", "UTC"))}), name)
    load(client, pa.table({"id": list(range(500)), "at": pa.nulls(500, pa.timestamp("us", "UTC"))}), name)
    write(client, f'UPDATE {table_name(name)} SET "at" = now()')
    assert len(set(get(client, name)["at"].to_pylist())) == 1


def test_a_row_keeps_to_the_type_of_its_version(client, name):
    load(client, pa.table({"n": pa.array([1], pa.int32())}), name)
    load(client, pa.table({"n": pa.array([2], pa.int64())}), name)
    with refused("INVALID_ARGUMENT", mentions=["'n'", "5000000000", "version 1"]):
        write(client, f"UPDATE {table_name(name)} SET n = 5000000000 WHERE n = 1")
    assert write(client, f"UPDATE {table_name(name)} SET n = 5000000000 WHERE n = 2") == 1
    assert get(client, name)["n"].to_pylist() == [1, 5_000_000_000]
    assert get(client, name, version=1).schema.field("n").type == pa.int32()
    load(client, pa.table({"n": pa.array([0.5])}), name)
    with refused("INVALID_ARGUMENT", mentions=["1.5", "version 1"]):
        write(client, f"UPDATE {table_name(name)} SET n = n + 0.5 WHERE n = 1")


def test_a_column_that_came_later_can_be_set_in_older_rows(client, name):
    first = pa.table({"a": [1, 2]})
    load(client, first, name)
    load(client, pa.table({"a": [3], "b": ["x"]}), name)
    write(client, f"UPDATE {table_name(name)} SET b = 'late' WHERE a = 1")
    assert get(client, name).to_pydict() == {"a": [1, 2, 3], "b": ["late", None, "x"]}
    assert_tables_equal(get(client, name, version=1), first)


def test_rows_move_to_the_partition_of_their_new_key(client, name):
    frame = pa.table(
        {
            "day": pa.array([DAY(2024, 1, 1), DAY(2024, 1, 1), DAY(2024, 1, 2), None]),
            "id": [1, 2, 3, 4],
            "s": ["a", "b", "c", "d"],
        }
    )
    load(client, frame, name, columns_keys={"day": "Date", "id": "ID"})
    assert write(client, f"UPDATE {table_name(name)} SET day = '2024-02-03' WHERE id IN (1, 4)") == 2
    write(client, f"UPDATE {table_name(name)} SET id = 1000, s = 'moved' WHERE id = 2")
    write(client, f"UPDATE {table_name(name)} SET day = NULL WHERE id = 3")
    got = get(client, name)
    assert got.to_pydict() == {
        "day": [DAY(2024, 2, 3), DAY(2024, 1, 1), None, DAY(2024, 2, 3)],
        "id": [1, 1000, 3, 4],
        "s": ["a", "moved", "c", "d"],
    }
    partitions = sql(client, f"SELECT partition, rows FROM {named(name, '$chunks')} ORDER BY 1").to_pylist()
    assert [tuple(each.values()) for each in partitions] == [
        ("day/2024-01-01/id/from_1000_to_1000", 1),
        ("day/2024-02-03/id/from_1_to_4", 2),
        ("day/__null__/id/from_3_to_3", 1),
    ]
    assert sql(client, f"SELECT s FROM {table_name(name)} WHERE day = '2024-02-03' ORDER BY s")["s"].to_pylist() == [
        "a",
        "d",
    ]
    assert get(client, name, as_of=just_before(list_versions(client, name)[1])).to_pydict() == frame.to_pydict()


def test_new_categories_are_known_to_every_version_that_has_them(client, name):
    first = pa.table({"id": [1, 2], "c": pa.DictionaryArray.from_arrays([0, 1], ["b", "a"])})
    second = pa.table({"id": [3], "c": pa.DictionaryArray.from_arrays([0], ["z"])})
    load(client, first, name, external_key="one")
    load(client, second, name, external_key="two")
    write(client, f"UPDATE {table_name(name)} SET c = 'new' WHERE id = 1")
    write(client, f"UPDATE {table_name(name)} SET c = 'a' WHERE id = 3")
    got = get(client, name)
    assert got["c"].to_pylist() == ["new", "a", "a"]
    assert categories(got["c"]) == ["b", "a", "z", "new"]
    assert categories(get(client, name, version=1)["c"]) == ["b", "a", "new"]
    assert categories(get(client, name, version=2)["c"]) == ["z", "a"]
    assert_tables_equal(get(client, name, version=1, as_of=None), get(client, name, external_key="one"))
    assert_tables_equal(get(client, name, external_key="one", as_of=just_before(list_versions(client, name)[2])), first)


def test_new_categories_outlive_the_version_that_brought_them(start_server):
    with start_server(vacuum_after="0s").connect() as client:
        name = "categories/outlive"
        load(
            client,
            pa.table({"id": [1, 2], "c": pa.DictionaryArray.from_arrays([0, 1], ["b", "a"])}),
            name,
            external_key="k",
        )
        write(client, f"UPDATE {table_name(name)} SET c = 'category ' || lpad(CAST(id AS VARCHAR), 5, '0')")
        delete_version(client, name, 2)
        vacuum(client, name)
        assert [each["version"] for each in list_versions(client, name, include_replaced=True)] == [1]
        assert get(client, name)["c"].to_pylist() == ["category 00001", "category 00002"]
        assert categories(get(client, name)["c"]) == ["b", "a", "category 00001", "category 00002"]
    with start_server(vacuum_after="0s").connect() as client:
        assert get(client, name, version=1)["c"].to_pylist() == ["category 00001", "category 00002"]


def test_more_categories_than_the_keys_number(client, name):
    few = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), [f"c{n}" for n in range(100)])
    load(client, pa.table({"id": list(range(100)), "c": few}), name)
    write(client, f"UPDATE {table_name(name)} SET c = 'd' || c WHERE id < 60")
    got = get(client, name, version=1)["c"]
    assert got.to_pylist() == [f"dc{n}" if n < 60 else f"c{n}" for n in range(100)]
    assert len(categories(got)) == 160


@pytest.mark.parametrize("how", ["insert", "update"])
def test_more_new_categories_than_the_keys_number(client, name, how):
    one = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["first"])
    load(client, pa.table({"id": pa.array([0], pa.int64()), "c": one}), name)
    texts = "'text ' || CAST(value AS VARCHAR)"
    if how == "insert":
        query = f"SELECT value, {texts} FROM range(1, 20000) ORDER BY value"
        write(client, f"INSERT INTO {table_name(name)} {query}")
        got = get(client, name, version=2)
    else:
        write(client, f"INSERT INTO {table_name(name)} (id) SELECT value FROM range(1, 20000) ORDER BY value")
        write(client, f"UPDATE {table_name(name)} SET c = 'text ' || CAST(id AS VARCHAR) WHERE id > 0")
        got = get(client, name, version=2)
    assert got["c"].to_pylist() == [f"text {number}" for number in range(1, 20_000)]
    assert got["c"].type == pa.dictionary(pa.int16(), pa.string())
    assert get(client, name)["c"].to_pylist()[:2] == ["first", "text 1"]


# Types


SAMPLES = {key: table for key, table in arrow_tables().items() if table.num_rows > 1 and table.num_columns}


def numbered(table: pa.Table) -> pa.Table:
    """Return a table with a column that numbers its rows before the others."""
    return table.add_column(0, "row number", pa.array(range(table.num_rows), pa.int64()))


@pytest.mark.parametrize("sample", SAMPLES)
def test_columns_that_are_not_set_are_not_touched(client, name, sample):
    sent = numbered(SAMPLES[sample])
    load(client, sent, name)
    middle = sent.num_rows // 2
    write(client, f'UPDATE {table_name(name)} SET "row number" = -1 WHERE "row number" = {middle}')
    write(client, f'DELETE FROM {table_name(name)} WHERE "row number" = 0')
    numbers = [-1 if row == middle else row for row in range(sent.num_rows)]
    expected = sent.set_column(0, sent.schema.field(0), pa.array(numbers)).slice(1)
    assert_tables_equal(get(client, name), expected)
    assert_tables_equal(get(client, name, version=1), expected)
    compact(client, name)
    assert_tables_equal(get(client, name), expected)


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_type_comes_through_sql_exactly_or_is_refused(client, name, sample):
    sent = numbered(SAMPLES[sample])
    load(client, sent, name)
    columns = ['"' + field.replace('"', '""') + '"' for field in sent.column_names[1:]]
    try:
        write(client, f"UPDATE {table_name(name)} SET " + ", ".join(f"{c} = {c}" for c in columns))
    except Exception as error:
        assert "[INVALID_ARGUMENT] column '" in str(error) and "does not fit the type" in str(error), error
        pytest.skip(f"refused: {error}")
    assert_tables_equal(get(client, name), sent)
    copied = f'SELECT * FROM {table_name(name)} ORDER BY "row number"'
    assert write(client, f"INSERT INTO {table_name(name)} {copied}") == sent.num_rows
    last = get(client, name, use_last=True)
    assert last.schema.equals(sent.schema, check_metadata=True)
    assert_tables_equal(decoded(last), decoded(sent))


def decoded(table: pa.Table) -> pa.Table:
    """Return a table with the values of its categories: inserted rows have those alone that are used."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = pa.field(field.name, field.type.value_type, field.nullable, field.metadata)
            table = table.set_column(place, plain, table.column(place).cast(field.type.value_type))
    return table
