"""The REST API: the first SDK's client against it, and everything that a plain HTTP client can meet."""

from __future__ import annotations

import base64
import datetime
import decimal
import gzip
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import (
    CALL_SECONDS,
    LOADS,
    ROWS,
    assert_absent,
    counted,
    get,
    list_names,
    load,
    location,
    metrics,
    table_name,
)
from frames_matrix import MOST
from pandas.testing import assert_frame_equal
from rest import Answer, FirstClient, call, upload_body

MIB = 1 << 20
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def rest(server):
    """A function that makes a call to the shared server."""
    return lambda *words, **headers: call(server.http, *words, **headers)


@pytest.fixture
def upload(rest):
    """A function that uploads a frame, a list of records, or text, and returns the answer."""

    def post(frame, name: str, *, key: str | None = None, **options) -> Answer:
        headers = {"Idempotency_Key": key} if key else {}
        return rest("POST", "/dataframes/upload", upload_body(frame, name, **options), **headers)

    return post


@pytest.fixture
def first(server) -> FirstClient:
    """The first SDK's client of the shared server."""
    return FirstClient(server.http + "/", "a-token-of-another-time")


def records(rest, name: str, query: str = "") -> list[dict]:
    """Read the rows of a dataset."""
    answer = rest("GET", f"/dataframes/{urllib.parse.quote(name)}{query}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
    return answer.json


# The first SDK


def test_the_first_example_of_its_readme(first, name):
    df = pd.DataFrame({"date": ["2024-01-01", "2024-01-02"], "id": [1, 2], "value": [100, 200]})
    metadata = first.load_dataframe(df=df, dataframe_name=name, columns_keys={"date": "Date"})
    chunks = metadata.pop("chunks")
    assert metadata.pop("created_at") and metadata.pop("chunks_total") == 2
    assert metadata == {
        "df_name": name,
        "columns_keys": {"date": "Date"},
        "external_key": "NOW",
        "keep_last": False,
        "total_rows": 2,
        "version": 1,
    }
    assert [(chunk["rows"], chunk["number"]) for chunk in chunks] == [(1, 1), (1, 2)]
    assert [chunk["path"].rsplit("/", 1)[0] for chunk in chunks] == ["date/2024-01-01", "date/2024-01-02"]
    assert_frame_equal(first.get_dataframe(name), df)


def test_versions_keys_and_keep_last(first, name):
    def values(**options):
        return first.get_dataframe(name, **options)["v"].tolist()

    for value, options in [
        (1, {}),
        (2, {"external_key": "k"}),
        (3, {"external_key": "NOW"}),
        (4, {"external_key": "k", "keep_last": True}),
    ]:
        metadata = first.load_dataframe(pd.DataFrame({"v": [value]}), name, **options)
        assert (metadata["version"], metadata["external_key"]) == (value, options.get("external_key", "NOW"))
    assert values() == [1, 3, 4]
    assert values(external_key="k") == [4]
    assert values(external_key="NOW") == values(external_key="default") == [1, 3]
    assert values(use_last=True) == [4]
    assert values(external_key="NOW", use_last=True) == [3]
    first.load_dataframe(pd.DataFrame({"v": [5]}), name, keep_last=True)
    assert values() == [4, 5]


def test_listing_by_prefix(first, name):
    for suffix, rows in [("a", 1), ("b/c", 2)]:
        first.load_dataframe(pd.DataFrame({"v": range(rows)}), f"{name}/{suffix}")
    listed = first.list_dataframes(prefix=name + "/")["dataframes"]
    assert [(each["name"], each["versions"], each["rows"]) for each in listed] == [
        (f"{name}/a", 1, 1),
        (f"{name}/b/c", 1, 2),
    ]
    for each in listed:
        assert each["bytes"] > 0
        written = datetime.datetime.fromisoformat(each["updated_at"])
        assert written.tzinfo and each.keys() == {"name", "versions", "rows", "bytes", "updated_at"}
    assert {each["name"] for each in first.list_dataframes()["dataframes"]} >= {f"{name}/a", f"{name}/b/c"}


def test_its_errors_hold_the_message(first, name):
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        first.get_dataframe(name)
    with pytest.raises(RuntimeError, match="'v' mixes kinds"):
        first.load_dataframe(pd.DataFrame({"v": [1, "a"]}), name)
    first.load_dataframe(pd.DataFrame({"v": [1]}), name)
    with pytest.raises(RuntimeError, match="NOT_FOUND.*external_key"):
        first.get_dataframe(name, external_key="none")


def test_times_that_pandas_writes_as_milliseconds(first, client, name):
    """The first SDK sends timestamps as integers; where one is a key, it is a time again."""
    times = pd.to_datetime(["2024-01-01T10:00", "2024-01-02T11:30:00.5", None, "1950-06-01"], format="ISO8601")
    frame = pd.DataFrame({"t": times, "other": times, "v": [1, 2, 3, 4]})
    metadata = first.load_dataframe(frame, name, columns_keys={"t": "Date"})
    folders = {chunk["path"].rsplit("/", 1)[0] for chunk in metadata["chunks"]}
    assert folders == {"t/2024-01-01", "t/2024-01-02", "t/1950-06-01", "t/__null__"}
    got = first.get_dataframe(name)
    assert got["t"].isna().tolist() == [False, False, True, False]
    assert got["t"].dropna().tolist() == ["2024-01-01T10:00:00", "2024-01-02T11:30:00.500", "1950-06-01T00:00:00"]
    assert got["other"][0] == 1704103200000, "elsewhere nothing tells that it is a time"
    # The keys of the dataset count where a load gives none.
    first.load_dataframe(frame.head(1), name)
    assert get(client, name)["t"].type == pa.timestamp("ms")
    with pytest.raises(RuntimeError, match="'t' .*20240101.*ISO 8601"):
        first.load_dataframe(pd.DataFrame({"t": [20240101]}), name)


def test_a_large_frame_is_the_same_over_rest_and_flight(first, client, name):
    """The round trip of 200,000 rows."""
    random = np.random.default_rng(5)
    rows = 200_000
    frame = pd.DataFrame(
        {
            "day": (np.datetime64("2024-01-01") + random.integers(0, 60, rows)).astype(str),
            "id": random.integers(-(1 << 53), 1 << 53, rows),
            "x": random.normal(0, 1e6, rows).round(4),
            "text": random.choice(["", "ä", 'a longer text with "quotes" and, commas\n', "🦀"], rows),
            "flag": random.random(rows) < 0.5,
        }
    )
    frame.loc[random.integers(0, rows, 1_000), ["x", "text"]] = None
    load(client, frame, name + "/flight", columns_keys={"day": "Date"})
    first.load_dataframe(frame, name + "/rest", columns_keys={"day": "Date"})
    flight, rest = [get(client, f"{name}/{way}").to_pandas() for way in ("flight", "rest")]
    assert_frame_equal(rest, flight, check_dtype=False)
    over_flight = first.get_dataframe(name + "/flight")
    over_rest = first.get_dataframe(name + "/rest")
    assert_frame_equal(over_rest, over_flight)
    assert_frame_equal(over_rest, frame, check_dtype=False)


# Uploads


@pytest.mark.parametrize(
    "values, kind",
    [
        ([1, None, -2], pa.int64()),
        ([1, 2.5, None], pa.float64()),
        ([1e300, -0.0], pa.float64()),
        ([True, False, None], pa.bool_()),
        (["a", "", None, 'ü\u0000\n"\\🦀'], pa.string()),
        ([None, None], pa.null()),
        ([MOST, -MOST - 1], pa.int64()),
        ([MOST + 1, 0, 2 * MOST + 1], pa.uint64()),
        ([[1, 2], [], None], pa.list_(pa.int64())),
        ([[["a"], None], [[]]], pa.list_(pa.list_(pa.string()))),
        ([{"b": 1, "a": {"x": None}}, None], pa.struct([("b", pa.int64()), ("a", pa.struct([("x", pa.null())]))])),
        (["2024-01-01", "2024-01-01T00:00:00Z"], pa.string()),
    ],
)
def test_values_of_every_kind_go_in_and_come_out(upload, rest, client, name, values, kind):
    sent = [{"c": value, "row": row} for row, value in enumerate(values)]
    answer = upload(sent, name)
    assert answer.status == 200, answer
    assert get(client, name).schema.field("c").type == kind
    assert records(rest, name) == sent


def test_columns_come_in_the_order_first_seen(upload, rest, name):
    sent = [{"z": 1, "a": {"y": [{"c": 1.5}]}}, {"m": 3, "a": {"x": True}, "z": 5}, {}]
    assert upload(sent, name).status == 200
    got = records(rest, name)
    assert [list(row) for row in got] == [["z", "a", "m"]] * 3
    assert [row["a"] for row in got] == [{"y": [{"c": 1.5}], "x": None}, {"y": None, "x": True}, None]
    assert got[2] == {"z": None, "a": None, "m": None}


def test_frames_without_rows_or_columns(upload, rest, client, name):
    assert upload("[]", name + "/none").json["total_rows"] == 0
    assert records(rest, name + "/none") == []
    assert upload("[{}, {}]", name + "/rows").json["total_rows"] == 2
    assert records(rest, name + "/rows") == [{}, {}]


def test_the_body_may_come_in_any_form_of_json(server, rest, name):
    text = json.dumps([{"é": "🦀\n"}])
    for number, body in enumerate(
        [
            json.dumps({"dataframe_name": f"{name}/0", "dataframe": text}, ensure_ascii=False),
            json.dumps(
                {"keep_last": None, "dataframe": text, "dataframe_name": f"{name}/1", "external_key": None}, indent=3
            ),
            '{"data\\u0066rame": "[{\\"\\u00e9\\": \\"\\ud83e\\udd80\\\\n\\"}]", "dataframe_name": "%s/2"}' % name,
        ]
    ):
        answer = rest("POST", "/dataframes/upload", body.encode(), Content_Type="text/plain")
        assert answer.status == 200, answer
        assert records(rest, f"{name}/{number}") == [{"é": "🦀\n"}]


def test_a_body_may_arrive_in_small_pieces(server, rest, name):
    body = json.dumps(upload_body([{"n": n, "s": 'ü\\"' * 3} for n in range(300)], name), ensure_ascii=False).encode()
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.http).netloc, timeout=60)
    connection.request("POST", "/dataframes/upload", iter([body[at : at + 7] for at in range(0, len(body), 7)]))
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    assert len(records(rest, name)) == 300


@pytest.mark.parametrize(
    "body, mentions",
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b'{"dataframe_name": "a"}', "dataframe"),
        (b'{"dataframe": "[]"}', "dataframe_name"),
        (b'{"dataframe": [], "dataframe_name": "a"}', "string"),
        (b'{"dataframe": "[]", "dataframe_name": "a"', "EOF"),
        (b'{"dataframe": "[]", "dataframe_name": "a", "frame": 1}', "frame"),
        (b'{"dataframe": "[]", "dataframe_name": "../a"}', "dataframe_name"),
        (b'{"dataframe": "[]", "dataframe_name": "a", "keep_last": 1}', "keep_last"),
        (b'{"dataframe": "[]", "dataframe_name": "a", "external_key": "x@y"}', "external_key"),
        (b'{"dataframe": "[{\\"a\\": 1}]", "dataframe_name": "a", "columns_keys": {"b": "ID"}}', "'b'"),
        (b'{"dataframe": "[{\\"a\\": 1}]", "dataframe_name": "a", "columns_keys": {"a": "Id"}}', "'Id'"),
        (b'{"dataframe": "[{\\"a\\": \\"x\\"}]", "dataframe_name": "a", "columns_keys": {"a": "Date"}}', "'a'"),
        (b'{"dataframe": "{}", "dataframe_name": "a"}', "array"),
        (b'{"dataframe": "[1]", "dataframe_name": "a"}', "record 0"),
        (b'{"dataframe": "[{\\"a\\": NaN}]", "dataframe_name": "a"}', "JSON"),
        (b'{"dataframe": "[{\\"a\\": 1}] []", "dataframe_name": "a"}', "trailing"),
        (b'{"dataframe": "[{\\"a\\": \\"\xff\\"}]", "dataframe_name": "a"}', "JSON"),
        (b'{"dataframe": "[{\\"a\\": 1, \\"a\\": \\"x\\"}]", "dataframe_name": "a"}', "'a'"),
        (b'{"dataframe": "[{\\"\\": 1}]", "dataframe_name": "public"}', "public"),
    ],
)
def test_bad_bodies_are_refused_with_what_is_wrong(rest, client, body, mentions):
    answer = rest("POST", "/dataframes/upload", body)
    assert answer.status == 400
    assert answer.error.startswith("[INVALID_ARGUMENT] ") and mentions in answer.error, answer.error
    assert "a" not in list_names(client, "a")[:1]


def test_a_repeat_with_the_same_key_stores_nothing(upload, rest, server, name):
    assert "duplicate" not in upload([{"v": 1}], name, key="job 1").json
    with counted(server) as rise:
        again = upload([{"v": 1}], name, key="job 1")
    assert again.json["duplicate"] is True and again.json["version"] == 1
    assert rise[LOADS] == 0
    assert records(rest, name) == [{"v": 1}]
    other = upload([{"v": 2}], name, key="job 1")
    assert other.status == 400 and "idempotency_key" in other.error
    assert upload([{"v": 2}], name, key="a@b").status == 400


def test_uploads_count_as_loads(upload, rest, server, name):
    with counted(server) as rise:
        upload([{"v": 1}, {"v": 2}], name)
        records(rest, name)
    assert (rise[LOADS], rise[ROWS], rise["pandas_db_rows_sent_total"]) == (1, 2, 2)
    assert rise[CALL_SECONDS + "_count"] >= 2
    page = rest("GET", "/metrics").body.decode()
    assert 'call="http_upload",outcome="ok"' in page and 'call="http_get",outcome="ok"' in page


def test_a_client_that_goes_away_leaves_nothing(server, rest, client, name):
    body = json.dumps(upload_body([{"v": n} for n in range(1_000)], name)).encode()
    address = urllib.parse.urlsplit(server.http)
    with socket.create_connection((address.hostname, address.port)) as raw:
        head = f"POST /dataframes/upload HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body[: len(body) // 2])
    assert_absent(client, name)
    assert rest("POST", "/dataframes/upload", body).json["version"] == 1


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


# What every path has


@pytest.mark.parametrize("path", ["/", "/nope", "/dataframes/", "/dataframe", "/sql/x", "/healthz/x"])
def test_unknown_paths_are_told_in_json(rest, path):
    answer = rest("GET", path)
    assert answer.status == 404 and "openapi.json" in answer.error


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("PUT", "/dataframes/a", {"GET", "HEAD", "DELETE"}),
        ("DELETE", "/dataframes", {"GET", "HEAD"}),
        ("GET", "/sql", {"POST"}),
        ("PATCH", "/dataframes/upload", {"GET", "HEAD", "DELETE", "POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_methods_that_are_not_taken_are_told_in_json(rest, method, path, allowed):
    answer = rest(method, path, b"{}")
    assert answer.status == 405 and method in answer.error
    assert set(answer.headers["allow"].split(",")) == allowed


def test_pages_of_any_origin_may_call(rest, upload, name):
    asked = rest("OPTIONS", "/dataframes/upload", Origin="https://x.example", Access_Control_Request_Method="POST")
    assert asked.status == 204 and asked.body == b""
    assert asked.headers["access-control-allow-origin"] == "*"
    assert {"POST", "DELETE"} <= set(asked.headers["access-control-allow-methods"].split(", "))
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    for answer in (upload([{"a": 1}], name), rest("GET", "/nope"), rest("PUT", "/sql"), rest("GET", "/healthz")):
        assert answer.headers["access-control-allow-origin"] == "*"


def test_a_body_must_not_be_compressed(rest, name):
    body = gzip.compress(json.dumps(upload_body([], name)).encode())
    answer = rest("POST", "/dataframes/upload", body, Content_Encoding="gzip")
    assert answer.status == 400 and "Content-Encoding" in answer.error


# Limits


def test_a_body_over_the_limit_is_too_large(start_server):
    server = start_server(http_body_limit="1MiB")
    fitting = upload_body([{"a": "x" * 900_000}], "a")
    assert call(server.http, "POST", "/dataframes/upload", fitting).status == 200
    for body in (b"x" * (MIB + 1), json.dumps(upload_body([{"a": "x" * 3 * MIB}], "b")).encode()):
        answer = call(server.http, "POST", "/dataframes/upload", body)
        assert answer.status == 413 and "--http-body-limit" in answer.error
    pieces = http.client.HTTPConnection(urllib.parse.urlsplit(server.http).netloc, timeout=60)
    # Its length is not told beforehand.
    pieces.request("POST", "/sql", iter([b"x" * 100_000] * 20))
    assert pieces.getresponse().status == 413
    pieces.close()
    assert call(server.http, "GET", "/dataframes/b").status == 404


def test_a_load_over_a_limit_is_too_large(start_server):
    server = start_server(max_partitions=3)
    rows = [{"d": f"2024-01-0{day}"} for day in range(1, 6)]
    answer = call(server.http, "POST", "/dataframes/upload", upload_body(rows, "a", columns_keys={"d": "Date"}))
    assert answer.status == 413 and answer.error.startswith("[RESOURCE_EXHAUSTED] "), answer
    assert call(server.http, "GET", "/dataframes/a").status == 404


def test_a_query_over_the_memory_is_told_to_slow_down(start_server):
    server = start_server(memory_limit="20MiB", spill_limit="1MiB")
    query = "SELECT a.value, count(*) FROM generate_series(1, 3000000) a GROUP BY a.value ORDER BY 2, 1"
    answer = call(server.http, "POST", "/sql", {"sql": query})
    assert answer.status == 429 and answer.error.startswith("[RESOURCE_EXHAUSTED] "), answer
    assert answer.headers["retry-after"]


def test_a_query_over_the_time_is_unavailable(start_server):
    server = start_server(query_timeout="1s")
    query = "SELECT max(sha512(CAST(value AS VARCHAR))) FROM generate_series(1, 100000000000)"
    answer = call(server.http, "POST", "/sql", {"sql": query})
    assert answer.status == 503 and answer.error.startswith("[DEADLINE_EXCEEDED] "), answer


def test_a_body_that_does_not_come_is_given_up(start_server):
    server = start_server(query_timeout="1s")
    address = urllib.parse.urlsplit(server.http)
    with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
        raw.sendall(b"POST /dataframes/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert raw.recv(65_536).startswith(b"HTTP/1.1 503 ")


def test_damaged_data_is_an_internal_error(start_server):
    server = start_server()
    with server.connect() as client:
        result = load(client, pa.table({"a": [1, 2, 3]}), "a")
        chunk = location(server, result) / result["chunks"][0]["path"]
        chunk.write_bytes(b"PAR1 is all that is left of it PAR1")
        answer = call(server.http, "GET", "/dataframes/a")
    assert answer.status == 500, answer
    assert str(server.storage) not in answer.error


class OpenRead:
    """A GET whose answer is taken piece by piece.

    Parameters
    ----------
    server : Server
    path : str
    """

    def __init__(self, server, path: str):
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.http).netloc, timeout=120)
        self.connection.request("GET", path)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def take(self) -> bytes:
        """Return the next mebibyte; nothing at the end."""
        return self.answer.read(MIB)

    def rest(self) -> tuple[int, bytes]:
        """Take all that is left, and return how much it was and its end."""
        size, last = 0, b""
        while piece := self.take():
            size, last = size + len(piece), piece
        self.connection.close()
        return size, last


def load_floats(server, rows: int, versions: int) -> None:
    """Load versions of random floats, about 190 bytes a row as JSON, as ``a``."""
    random = np.random.default_rng(3)
    with server.connect() as client:
        for _ in range(versions):
            load(client, pa.table({f"v{i}": random.random(rows) for i in range(10)}), "a")


def until(condition) -> None:
    """Ask the server again and again until a condition holds."""
    for _ in range(100_000):
        if condition():
            return
    pytest.fail("it did not come to be")


def calls_running(server) -> float:
    """Return how many calls the server is at work on."""
    return metrics(server)["pandas_db_calls_running"]


def test_a_large_read_stays_within_bounds(start_server):
    """A read that is larger than the memory it may take, by a client that takes it piece by piece."""
    server = start_server(memory_limit=128 * MIB)
    load_floats(server, 300_000, 6)
    before = server.peak_bytes()
    size, last = OpenRead(server, "/dataframes/a").rest()
    assert size > 400 * MIB and last.endswith(b"}]\n")
    assert server.peak_bytes() - before < 300 * MIB, f"{(server.peak_bytes() - before) // MIB} MiB more"


def test_a_client_that_leaves_ends_its_read(start_server):
    server = start_server()
    load_floats(server, 200_000, 1)
    read = OpenRead(server, "/dataframes/a")
    assert read.take().startswith(b'[{"v0":')
    assert calls_running(server) == 1
    read.connection.close()
    until(lambda: calls_running(server) == 0)
    assert 'call="http_get",outcome="CANCELLED"' in server.fetch("/metrics")[1]


def test_a_client_that_takes_nothing_is_cut_off_when_the_time_is_up(start_server):
    server = start_server(query_timeout="5s")
    # Much more than the system holds of what was sent and not taken.
    load_floats(server, 20_000, 15)
    read = OpenRead(server, "/dataframes/a")
    until(lambda: calls_running(server) == 0)
    assert 'call="http_get",outcome="DEADLINE_EXCEEDED"' in server.fetch("/metrics")[1]
    with pytest.raises(http.client.IncompleteRead):
        read.rest()


def test_sigterm_lets_a_running_read_finish_and_refuses_new_calls(start_server):
    server = start_server()
    load_floats(server, 200_000, 1)
    read = OpenRead(server, "/dataframes/a")
    server.signal(signal.SIGTERM)
    until(lambda: call(server.http, "GET", "/dataframes").status == 503)
    assert call(server.http, "POST", "/sql", {"sql": "SELECT 1"}).error.startswith("[UNAVAILABLE] ")
    size, last = read.rest()
    assert size > 30 * MIB and last.endswith(b"}]\n")
    assert server.wait() == (0, "")


def test_a_body_waits_on_disk_and_not_in_memory(start_server):
    """The frame is received and looked at to its end; what a load holds of its rows is the same as over Flight."""
    server = start_server(http_body_limit="300MiB")
    rows = [{"n": n, "s": "x" * 4_000} for n in range(16_000)]
    before = server.peak_bytes()
    answer = call(server.http, "POST", "/dataframes/upload", upload_body([*rows, {"n": "no number"}], "a"))
    assert answer.status == 400 and "'n' mixes kinds" in answer.error and "record 16000" in answer.error
    assert server.peak_bytes() - before < 30 * MIB, f"{(server.peak_bytes() - before) // MIB} MiB more"
    assert call(server.http, "POST", "/dataframes/upload", upload_body(rows, "a")).json["total_rows"] == 16_000


# The document


def test_the_document_is_of_this_version_and_names_every_path(rest):
    document = rest("GET", "/openapi.json").json
    manifest = (Path(__file__).resolve().parents[2] / "Cargo.toml").read_text()
    assert f'\nversion = "{document["info"]["version"]}"\n' in manifest
    for path, methods in document["paths"].items():
        for method in ("get", "post", "delete"):
            answer = rest(method.upper(), path.replace("{name}", "no/such"), b"{}" if method == "post" else None)
            assert (answer.status == 405) == (method not in methods), (method, path)


def test_the_server_keeps_to_its_document(start_server, tmp_path):
    """Hundreds of requests that schemathesis makes up from the document, good ones and bad ones."""
    server = start_server(http_body_limit="1MiB")
    (tmp_path / "schemathesis.toml").write_text(
        # Whether a string is a frame, a statement, a condition or a column is more than a schema can say.
        "\n".join(
            f'[[operations]]\ninclude-operation-id = "{operation}"\n'
            'checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 404]\n'
            for operation in ("uploadDataframe", "runSql", "getDataframe", "getDataframeNamedUpload")
        )
    )
    ended = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", tmp_path / "schemathesis.toml", "run", server.http + "/openapi.json"),
            *("--seed", "20240101", "--max-examples", "40", "--no-color", "--generation-deterministic"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-2_000:]
