"""Uploads over REST: values, bodies in every form and bad ones, repeats, and clients that go away."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse

import pyarrow as pa
import pytest
from frames import (
    CALL_SECONDS,
    LOADS,
    ROWS,
    assert_absent,
    counted,
    get,
    list_names,
)
from frames_matrix import MOST
from rest import records, upload_body

MIB = 1 << 20


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
