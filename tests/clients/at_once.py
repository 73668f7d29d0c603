"""Many callers at the same time, on one server or on several of one storage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow.flight as flight
from conftest import PATIENCE, Server
from frames import FLIGHT_ERRORS


def all_at_once(servers: list[Server], number: int, act: Callable[[flight.FlightClient, int], object]) -> list:
    """Call a function from many threads, each with a client of its own, none before all are connected."""
    start = Barrier(number, timeout=PATIENCE)

    def run(place: int) -> object:
        with servers[place % len(servers)].connect() as client:
            try:
                list(client.list_actions())  # Of the server alone: a listing is work for what is behind it.
            except FLIGHT_ERRORS:
                start.abort()  # Or the others would wait for this one.
                raise
            start.wait()
            return act(client, place)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))
