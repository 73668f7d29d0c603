"""Reads, deletions and SQL over REST: options, names, types that JSON lacks, other formats."""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import json
import urllib.parse

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import (
    assert_absent,
    load,
    table_name,
)
from frames_matrix import MOST
from pandas.testing import assert_frame_equal
from rest import ARROW, PARQUET, records

# Reads


def test_options_of_a_read_are_those_of_flight(upload, rest, name):
    for number in range(1, 4):
        created = upload([{"a": number, "b": "x"}, {"a": number * 10, "b": "y"}], name).json["created_at"]
        if number == 2:
            then = created

    def values(query: str) -> list:
        return [row["a"] for row in records(rest, name, query)]

    assert values("?use_last=true") == values("?use_last=True") == [3, 30]
    assert values("?version=2") == [2, 20]
    assert values("?as_of=" + urllib.parse.quote(then)) == [1, 10, 2, 20]
    assert values("?filter=" + urllib.parse.quote_plus("a > 5 AND b = 'y'")) == [10, 20, 30]
    assert records(rest, name, "?columns=b&columns=a&version=1")[0] == {"b": "x", "a": 1}
    assert [list(row) for row in records(rest, name, "?columns=b&columns=a&version=1")] == [["b", "a"]] * 2


@pytest.mark.parametrize(
    "query",
    [
        "use_last=maybe",
        "use_last",
        "version=x",
        "version=99999999999999999999",
        "version=1&version=2",
        "external_keys=k",
        "external_key=",
        "as_of=soon",
        "columns=zz",
        "filter=a%20%3E",
    ],
)
def test_bad_options_are_refused(upload, rest, name, query):
    upload([{"a": 1}], name)
    answer = rest("GET", f"/dataframes/{name}?{query}")
    assert answer.status == 400 and answer.error.startswith("[INVALID_ARGUMENT] "), answer


def test_what_is_not_there_is_not_found(upload, rest, name):
    upload([{"a": 1}], name)
    for path in (f"/dataframes/{name}/none", f"/dataframes/{name}?version=9", f"/dataframes/{name}?external_key=none"):
        answer = rest("GET", path)
        assert answer.status == 404 and answer.error.startswith("[NOT_FOUND] "), answer


def test_names_with_slashes_spaces_and_letters_of_any_script(upload, rest, name):
    wanted = f"{name}/größe 大小/x.y-z"
    assert upload([{"a": 1}], wanted).status == 200
    for path in (urllib.parse.quote(wanted), urllib.parse.quote(wanted, safe="")):
        assert rest("GET", f"/dataframes/{path}").json == [{"a": 1}]
    decomposed = urllib.parse.quote(wanted.replace("ö", "o\u0308"))
    assert rest("GET", f"/dataframes/{decomposed}").json == [{"a": 1}]
    for path in ("a//b", "a/", "%ff", "..%2F..%2Fetc", "public/x", "a%00b", "."):
        answer = rest("GET", f"/dataframes/{path}")
        assert answer.status in (400, 404) and answer.error.startswith("[INVALID_ARGUMENT] "), (path, answer)


def test_a_dataset_may_be_called_upload(upload, rest):
    assert upload([{"a": 1}], "upload").status == 200
    assert rest("GET", "/dataframes/upload").json == [{"a": 1}]
    assert rest("DELETE", "/dataframes/upload").status == 200
    assert rest("GET", "/dataframes/upload").status == 404


def test_delete_ends_a_dataset(upload, rest, client, name):
    upload([{"a": 1}], name)
    assert rest("DELETE", f"/dataframes/{name}?x=1").status == 400
    answer = rest("DELETE", f"/dataframes/{name}")
    assert (answer.status, answer.json) == (200, {"df_name": name, "deleted": True})
    assert_absent(client, name)
    assert rest("DELETE", f"/dataframes/{name}").status == 404
    upload([{"b": 2}], name)
    assert records(rest, name) == [{"b": 2}]


def test_types_that_json_lacks_come_as_documented(rest, client, name):
    zone = datetime.timezone(datetime.timedelta(hours=2))
    table = pa.table(
        {
            "nan": pa.array([float("nan"), float("inf"), 1.5]),
            "date": pa.array([datetime.date(2024, 1, 1), None, None]),
            "time": pa.array([datetime.time(1, 2, 3, 500_000), None, None]),
            "ns": pa.array([1_704_067_200_123_456_789, None, None], pa.timestamp("ns")),
            "zoned": pa.array([datetime.datetime(2024, 1, 1, tzinfo=zone), None, None], pa.timestamp("s", "+02:00")),
            "paris": pa.array([1_719_784_800, None, None], pa.timestamp("s", "Europe/Paris")),
            "duration": pa.array([datetime.timedelta(seconds=1, milliseconds=500), None, None], pa.duration("ms")),
            "decimal": pa.array([decimal.Decimal("12345678901234567890.12"), None, None], pa.decimal128(38, 2)),
            "binary": pa.array([b"\x00\xff\xfe", None, b""]),
            "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
            "uint64": pa.array([2 * MOST + 1, None, 0], pa.uint64()),
            "half": pa.array([np.float16(1.5), None, np.float16(0)], pa.float16()),
            "category": pa.array(["b", "a", None]).dictionary_encode(),
            "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
            "blobs": pa.array([[b"a"], None, []]),
        }
    )
    load(client, table, name)
    answer = rest("GET", f"/dataframes/{name}")
    [row, _, last] = json.loads(answer.body, parse_float=decimal.Decimal)
    assert row == {
        "nan": None,
        "date": "2024-01-01",
        "time": "01:02:03.500",
        "ns": "2024-01-01T00:00:00.123456789",
        "zoned": "2024-01-01T00:00:00+02:00",
        "paris": "2024-07-01T00:00:00+02:00",
        "duration": "PT1.5S",
        "decimal": decimal.Decimal("12345678901234567890.12"),
        "binary": base64.b64encode(b"\x00\xff\xfe").decode(),
        "fixed": base64.b64encode(b"ab").decode(),
        "uint64": 2 * MOST + 1,
        "half": decimal.Decimal("1.5"),
        "category": "b",
        "map": {"k": 1},
        "blobs": ["YQ=="],
    }
    assert (last["nan"], last["category"], last["map"]) == (decimal.Decimal("1.5"), None, {})


def test_a_frame_comes_as_arrow_csv_or_parquet_too(rest, client, name):
    frame = pd.DataFrame({"v": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    load(client, frame, name)
    arrow = rest("GET", f"/dataframes/{name}", Accept=ARROW)
    assert arrow.headers["content-type"] == ARROW
    assert_frame_equal(pa.ipc.open_stream(arrow.body).read_pandas(), frame)
    parquet = rest("GET", f"/dataframes/{name}", Accept=PARQUET)
    assert_frame_equal(pd.read_parquet(io.BytesIO(parquet.body)), frame)
    assert rest("GET", f"/dataframes/{name}", Accept="text/csv").body == b"v,key\n1,x\n2,y\n"


# SQL


def test_sql_gives_records_or_what_accept_names(upload, rest, name):
    upload([{"a": 1, "b": "x"}, {"a": 2, "b": None}], name)
    query = {"sql": f"SELECT b, a * 2 AS twice FROM {table_name(name)} ORDER BY a"}
    expected = [{"b": "x", "twice": 2}, {"b": None, "twice": 4}]
    answer = rest("POST", "/sql", query)
    assert (answer.status, answer.headers["content-type"], answer.json) == (200, "application/json", expected)
    assert rest("POST", "/sql", query, Accept="*/*").json == expected
    assert rest("POST", "/sql", query, Accept="image/png").json == expected
    csv = rest("POST", "/sql", query, Accept="text/csv")
    assert (csv.headers["content-type"], csv.body) == ("text/csv", b"b,twice\nx,2\n,4\n")
    arrow = rest("POST", "/sql", query, Accept=f"application/json;q=0.5, {ARROW}")
    assert pa.ipc.open_stream(arrow.body).read_all().to_pylist() == expected
    parquet = rest("POST", "/sql", query, Accept=PARQUET)
    assert pq.read_table(io.BytesIO(parquet.body)).to_pylist() == expected


def test_sql_without_rows_is_a_whole_answer(rest):
    query = {"sql": "SELECT 1 AS x WHERE false"}
    assert rest("POST", "/sql", query).json == []
    assert rest("POST", "/sql", query, Accept="text/csv").body == b"x\n"
    assert pa.ipc.open_stream(rest("POST", "/sql", query, Accept=ARROW).body).read_all().num_rows == 0
    assert pq.read_table(io.BytesIO(rest("POST", "/sql", query, Accept=PARQUET).body)).num_rows == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'["SELECT 1"]',
        b"SELECT 1",
        b'{"sql": 1}',
        b'{"sql": "SELECT 1", "x": 1}',
        b'{"query": "SELECT 1"}',
        b'{"sql": "SELEC 1"}',
        b'{"sql": "SELECT x"}',
        b'{"sql": "COPY a TO 1"}',
        b'{"sql": "SELECT 1; SELECT 2"}',
    ],
)
def test_bad_statements_are_refused(rest, body):
    answer = rest("POST", "/sql", body)
    assert answer.status == 400 and answer.error.startswith("[INVALID_ARGUMENT] "), answer


def test_sql_that_writes_tells_how_many_rows(rest, name):
    table = table_name(name)
    created = rest("POST", "/sql", {"sql": f"CREATE TABLE {table} AS SELECT 1 AS a UNION ALL SELECT 2"})
    assert created.json == [{"count": 2}]
    assert rest("POST", "/sql", {"sql": f"DELETE FROM {table} WHERE a = 1"}).json == [{"count": 1}]
    assert records(rest, name) == [{"a": 2}]
    again = rest("POST", "/sql", {"sql": f"CREATE TABLE {table} (a INT)"})
    assert again.status == 409 and again.error.startswith("[ALREADY_EXISTS] "), again


def test_an_unknown_table_is_not_found(rest):
    assert rest("POST", "/sql", {"sql": 'SELECT * FROM no."such table"'}).status == 404
