"""A read that a server offers in several parts: they are fetched at the same time, and come in their order."""

from __future__ import annotations

import json
import threading

import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from pandas.testing import assert_frame_equal

from pandas_db_sdk import DataFrameClient

VERSIONS = 6
TOGETHER = 3


class Parts(flight.FlightServerBase):
    """A node before the real server that offers each live version of a dataset as an endpoint.

    Parameters
    ----------
    behind : str
        The address of the real server.
    locations : list of str
        Where it says that each part is, besides on its own connection.
    """

    def __init__(self, behind: str, locations: list):
        super().__init__("grpc://127.0.0.1:0")
        self.behind, self.locations = behind, locations
        self.together = threading.Barrier(TOGETHER)
        self.met = 0

    def get_flight_info(self, context, descriptor):
        name = json.loads(descriptor.command)["dataframe_name"]
        endpoints = [
            flight.FlightEndpoint(json.dumps({"dataframe_name": name, "version": version}).encode(), self.locations)
            for version in range(1, VERSIONS + 1)
        ]
        with flight.connect(self.behind) as client:
            info = client.get_flight_info(flight.FlightDescriptor.for_path(*name.split("/")))
        return flight.FlightInfo(info.schema, descriptor, endpoints, info.total_records, info.total_bytes)

    def do_get(self, context, ticket):
        self.together.wait(timeout=60)  # Each waits for others: one after the other they would never come.
        self.met += 1
        with flight.connect(self.behind) as client:
            return flight.RecordBatchStream(client.do_get(ticket).read_all())


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("locations", [[], ["arrow-flight-reuse-connection://?"]], ids=["none", "reuse"])
def test_endpoints_are_fetched_together_and_joined_in_order(server, client, name, locations, progress):
    frames = [pd.DataFrame({"x": [number] * 1_000, "c": [number * 1j] * 1_000}) for number in range(VERSIONS)]
    for frame in frames:
        client.load_dataframe(frame, name)
    with Parts(server.flight, locations) as node, DataFrameClient(f"grpc://127.0.0.1:{node.port}") as split:
        got = split.get_dataframe(name, progress=progress)
        assert node.met == VERSIONS
    assert_frame_equal(got, pd.concat(frames, ignore_index=True))


def test_parts_may_be_on_other_servers(server, client, name):
    """The node says that the real server has them, and is asked for none."""
    for number in range(VERSIONS):
        client.load_dataframe(pd.DataFrame({"x": [number]}), name)
    with Parts(server.flight, [server.flight]) as node, DataFrameClient(f"grpc://127.0.0.1:{node.port}") as split:
        assert split.get_dataframe(name)["x"].tolist() == list(range(VERSIONS))
        assert [part["x"].tolist() for part in split.iter_dataframe(name)] == [[number] for number in range(VERSIONS)]
        assert node.met == 0


def test_no_endpoint_is_an_empty_frame(server, client, name):
    client.load_dataframe(pd.DataFrame({"x": [1]}), name)

    class Empty(Parts):
        def get_flight_info(self, context, descriptor):
            info = super().get_flight_info(context, descriptor)
            return flight.FlightInfo(info.schema, descriptor, [], 0, 0)

    with Empty(server.flight, []) as node, DataFrameClient(f"grpc://127.0.0.1:{node.port}") as split:
        got = split.get_dataframe(name)
        assert got.shape == (0, 1)
        assert pa.types.is_int64(split.get_dataframe(name, as_="arrow").schema.field("x").type)


def test_the_token_goes_with_every_call(server, client, name, monkeypatch):
    """As ``authorization: Bearer``, from the argument or from PANDAS_DB_TOKEN."""
    seen = []

    class Reader(flight.ServerMiddlewareFactory):
        def start_call(self, info, headers):
            seen.append(headers.get("authorization"))

    class Node(flight.FlightServerBase):
        def list_flights(self, context, criteria):
            return iter(())

        def list_actions(self, context):
            return []

        def do_action(self, context, action):
            return iter(())

    with Node("grpc://127.0.0.1:0", middleware={"read": Reader()}) as node:
        address = f"grpc://127.0.0.1:{node.port}"
        with DataFrameClient(address, "secret") as one:
            one.list_dataframes()
            one.delete_dataframe("a")
        monkeypatch.setenv("PANDAS_DB_TOKEN", "from the environment")
        with DataFrameClient(address) as one:
            one.list_dataframes()
            assert "secret" not in repr(one)
        monkeypatch.delenv("PANDAS_DB_TOKEN")
        with DataFrameClient(address) as one:
            one.list_dataframes()
    assert seen == [["Bearer secret"], ["Bearer secret"], ["Bearer from the environment"], None]
