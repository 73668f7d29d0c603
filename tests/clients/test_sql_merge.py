"""`MERGE`: which clause counts for which row."""

from __future__ import annotations

import pyarrow as pa
from frames import (
    get,
    load,
    refused,
    table_name,
)
from versions import (
    just_before,
)
from writes import newest, people, rows, versions, write


def test_merge_updates_deletes_and_inserts(client, name):
    load(client, people(1, 2, 3, 4), name, external_key="a")
    load(client, pa.table({"k": [2, 3, 5, 6], "v": ["two", None, "five", None]}), f"{name}-source")
    statement = f"""
        MERGE INTO {table_name(name)} AS t USING {table_name(name + "-source")} AS s ON t.id = s.k
        WHEN MATCHED AND s.v IS NULL THEN DELETE
        WHEN MATCHED THEN UPDATE SET s = s.v, x = t.x + s.k
        WHEN NOT MATCHED AND s.v IS NOT NULL THEN INSERT (id, s) VALUES (s.k, s.v)
        WHEN NOT MATCHED BY TARGET THEN INSERT VALUES (s.k, 'none', -1)
        WHEN NOT MATCHED BY SOURCE AND t.id = 1 THEN UPDATE SET s = 'alone'
        WHEN NOT MATCHED BY SOURCE THEN DELETE
    """
    assert write(client, statement) == 6
    assert rows(client, name) == [(1, "alone", 0.25), (2, "two", 2.5), (5, "five", None), (6, "none", -1.0)]
    assert versions(client, name) == [(1, "a", 2), (2, "default", 2)]
    assert get(client, name, use_last=True)["id"].to_pylist() == [5, 6]
    assert get(client, name, as_of=just_before(newest(client, name)))["id"].to_pylist() == [1, 2, 3, 4]
    assert write(client, statement.replace("WHEN NOT MATCHED BY SOURCE THEN DELETE", "")) == 5


def test_the_first_clause_that_holds_counts(client, name):
    load(client, people(1, 2, 3), name)
    statement = f"""
        MERGE INTO {table_name(name)} t USING (SELECT * FROM {table_name(name)}) s ON t.id = s.id
        WHEN MATCHED AND t.id = 1 THEN UPDATE SET s = 'first', x = 10 / t.id
        WHEN MATCHED AND t.id <= 2 THEN UPDATE SET s = 'second'
        WHEN MATCHED AND 10 / (t.id - 3) > 0 THEN UPDATE SET s = 'never'
    """
    with refused("INVALID_ARGUMENT"):
        write(client, statement)
    assert write(client, statement.replace("t.id - 3", "t.id - 4")) == 2
    assert rows(client, name) == [(1, "first", 10.0), (2, "second", 0.5), (3, "s3", 0.75)]


def test_a_row_of_the_source_may_match_several_rows_but_not_the_other_way(client, name):
    load(client, pa.table({"id": [1, 1, 2], "s": ["a", "b", "c"]}), name)
    source = "(VALUES (1, 'x'), (3, 'y')) AS s(k, v)"
    matched = f"MERGE INTO {table_name(name)} AS t USING {source} ON t.id = s.k WHEN MATCHED THEN UPDATE SET s = s.v"
    assert write(client, matched) == 2
    assert get(client, name)["s"].to_pylist() == ["x", "x", "c"]
    with refused("INVALID_ARGUMENT", mentions=["several"]):
        write(client, matched.replace("(3, 'y')", "(1, 'y')"))
    once = matched.replace("(3, 'y')", "(1, NULL)").replace("WHEN MATCHED", "WHEN MATCHED AND s.v IS NOT NULL")
    assert write(client, once) == 2, "rows that no clause is for do not count"


def test_merge_without_a_match_only_inserts(client, name):
    load(client, people(1), name)
    statement = (
        f"MERGE INTO {table_name(name)} AS t USING (SELECT 2 AS id, 'n' AS s, 0.5 AS x) n ON t.id = n.id"
        " WHEN NOT MATCHED THEN INSERT ROW"
    )
    assert write(client, statement) == 1
    assert write(client, statement) == 0
    assert get(client, name).to_pydict() == {"id": [1, 2], "s": ["s1", "n"], "x": [0.25, 0.5]}
    assert len(versions(client, name)) == 2


def test_a_random_source_is_the_same_for_all_clauses(client, name):
    load(client, pa.table({"k": list(range(200)), "n": [0] * 200}), name)
    statement = f"""
        MERGE INTO {table_name(name)} t USING (SELECT value AS k FROM range(0, 400) WHERE random() < 0.5) s ON t.k = s.k
        WHEN MATCHED THEN UPDATE SET n = 1
        WHEN NOT MATCHED THEN INSERT VALUES (s.k, 2)
        WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = 3
    """
    count = write(client, statement)
    got = get(client, name).to_pydict()
    assert sorted(set(got["k"])) == sorted(got["k"]), "no row twice"
    assert got["n"].count(0) == 0 and count == len(got["n"])
