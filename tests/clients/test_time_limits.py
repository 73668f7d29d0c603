"""A statement whose time is up, or whose caller went away, gives its threads back whatever it computes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pyarrow.flight as flight
import pytest
from conftest import Server
from frames import FLIGHT_ERRORS, sql

# Each would compute for hours. Few of their pairs of rows are kept, if any, so that they hand nothing over meanwhile.
ENDLESS = {
    "nested loops": "SELECT count(*) FROM generate_series(1, 2000000) a(x), generate_series(1, 2000000) b(y) "
    "WHERE a.x + b.y = 3",
    "one key for all": "SELECT count(*) FROM generate_series(1, 2000000) a(x) JOIN generate_series(1, 2000000) b(y) "
    "ON a.x % 1 = b.y % 1 AND a.x + b.y = 3",
    "cross join": "SELECT max(a.x) FROM generate_series(1, 2000000) a(x) CROSS JOIN generate_series(1, 2000000) b(y)",
    "recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
}


@pytest.mark.parametrize("query", ENDLESS.values(), ids=ENDLESS)
def test_threads_are_given_back(start_server: Callable[..., Server], query: str) -> None:
    """As many endless queries as there are threads, twice: with their threads lost, nothing else would be answered."""
    with start_server(query_timeout="1s").connect() as client:
        for _ in range(2 * (os.cpu_count() or 1)):
            with pytest.raises(FLIGHT_ERRORS, match=r"\[DEADLINE_EXCEEDED\]"):
                sql(client, query)
        assert sql(client, "SELECT 1 AS one").to_pydict() == {"one": [1]}


def test_a_statement_that_writes_gives_its_threads_back(start_server: Callable[..., Server]) -> None:
    """What it reads is endless; nothing of it is stored."""
    with start_server(query_timeout="1s").connect() as client:
        for _ in range(2 * (os.cpu_count() or 1)):
            with pytest.raises(FLIGHT_ERRORS, match=r"\[DEADLINE_EXCEEDED\]"):
                sql(client, f"CREATE TABLE counted AS {ENDLESS['nested loops']}")
        assert sql(client, "SELECT 1 AS one").to_pydict() == {"one": [1]}
        with pytest.raises(FLIGHT_ERRORS, match=r"\[NOT_FOUND\]"):
            sql(client, "SELECT * FROM counted")


def test_a_cancelled_fetch_gives_its_thread_back(start_server: Callable[..., Server]) -> None:
    """The client ends its calls before there is a first row."""
    with start_server().connect() as client:
        for _ in range(2 * (os.cpu_count() or 1)):
            reader = client.do_get(flight.Ticket(b'{"sql": "' + ENDLESS["nested loops"].encode() + b'"}'))
            reader.cancel()
        assert sql(client, "SELECT 1 AS one").to_pydict() == {"one": [1]}
