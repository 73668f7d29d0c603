"""Limits of the REST API: large bodies and answers, slow clients, clients that leave, and the end of the server."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import urllib.parse

import numpy as np
import pyarrow as pa
import pytest
from frames import (
    load,
    location,
    metrics,
)
from rest import call, upload_body

MIB = 1 << 20


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
