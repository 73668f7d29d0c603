"""Loads and reads through a proxy that cuts connections: what was loaded is there once, what was read is whole."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from pandas_db_sdk import (
    AbortedError,
    DataFrameClient,
    InternalError,
    InvalidArgumentError,
    PandasDBError,
    ResourceExhaustedError,
    UnavailableError,
)
from pandas_db_sdk.retry import LONGEST_WAIT_SECONDS, Retries, back_off, is_worth_a_retry, was_not_done
from proxy import Proxy

RANDOM = np.random.default_rng(5)
FRAME = pd.DataFrame({"id": np.arange(200_000), "v": RANDOM.random(200_000), "w": RANDOM.random(200_000)})


@pytest.mark.parametrize("after", [0, 100, 3_000, 1_000_000, 4_500_000])
@pytest.mark.parametrize("cuts", [1, 3])
def test_a_load_whose_connection_is_cut_is_stored_once(server, client, name, after, cuts):
    with Proxy(server.flight, cuts=cuts, after_sent=after) as proxy, DataFrameClient(proxy.url) as cut:
        result = cut.load_dataframe(FRAME, name, columns_keys={"id": "ID"})
        assert (proxy.cut, proxy.connections) == (cuts, cuts + 1)
    assert result["version"] == 1
    assert len(client.list_versions(name, include_replaced=True)) == 1
    assert_frame_equal(client.get_dataframe(name), FRAME)


@pytest.mark.parametrize("after", [0, 60, 200])
def test_a_load_whose_answers_are_lost_is_stored_once(server, client, name, after):
    """Wherever it is cut, nobody knows whether the server stored the load; the key makes the repeat safe."""
    with Proxy(server.flight, cuts=2, after_received=after) as proxy, DataFrameClient(proxy.url) as cut:
        cut.load_dataframe(FRAME, name, keep_last=True)
        assert proxy.cut == 2
    assert len(client.list_versions(name, include_replaced=True)) == 1
    assert_frame_equal(client.get_dataframe(name), FRAME)


@pytest.mark.parametrize("after", [0, 100, 2_000, 1_000_000, 4_000_000])
def test_a_read_whose_connection_is_cut_is_whole(server, client, name, after):
    client.load_dataframe(FRAME, name)
    with Proxy(server.flight, cuts=2, after_received=after) as proxy, DataFrameClient(proxy.url) as cut:
        assert_frame_equal(cut.get_dataframe(name), FRAME)
        assert proxy.cut == 2
        assert_frame_equal(cut.get_dataframe(name, columns=["v"], progress=True), FRAME[["v"]])


def test_an_iteration_is_mended_before_its_first_part(server, client, name):
    client.load_dataframe(FRAME, name)
    with Proxy(server.flight, cuts=2, after_received=100) as proxy, DataFrameClient(proxy.url) as cut:
        assert_frame_equal(pd.concat(cut.iter_dataframe(name)), FRAME)
        assert proxy.cut == 2


def test_an_iteration_that_breaks_later_says_so(server, client, name):
    """What was handed over cannot be taken back, so nothing is begun anew."""
    frame = pd.DataFrame({"v": RANDOM.random(3_000_000)})
    client.load_dataframe(frame, name)
    with Proxy(server.flight, cuts=1, after_received=8_000_000) as proxy, DataFrameClient(proxy.url) as cut:
        parts = cut.iter_dataframe(name)
        first = next(parts)
        assert_frame_equal(first, frame[: len(first)])
        with pytest.raises(PandasDBError) as caught:
            list(parts)
        assert not caught.value.from_server
        assert (proxy.cut, proxy.connections) == (1, 1)


def test_the_attempts_end(server, name):
    waits = []
    with Proxy(server.flight, cuts=100, after_sent=50) as proxy, DataFrameClient(proxy.url) as cut:
        cut._backend._retries = Retries(3, waits.append)
        with pytest.raises(PandasDBError) as caught:
            cut.load_dataframe(FRAME, name)
    assert not caught.value.from_server
    assert len(waits) == 2


def test_a_wrong_load_is_not_repeated(server, name):
    with Proxy(server.flight, cuts=0) as proxy, DataFrameClient(proxy.url) as client:
        waited = []
        client._backend._retries = Retries(5, waited.append)
        with pytest.raises(InvalidArgumentError):
            client.load_dataframe(FRAME, name, columns_keys={"v": "ID"})
        assert waited == []


def test_a_server_that_starts_late_is_waited_for(start_server, tmp_path):
    """The load begins while nobody listens; the server starts on the same port during the waits."""
    first = start_server()
    address = first.flight
    assert first.stop() == 0
    started = []

    def wait(_: float) -> None:
        if not started:
            started.append(start_server(listen=address.partition("://")[2]))

    with DataFrameClient(address) as client:
        client._backend._retries = Retries(50, wait)
        assert client.load_dataframe(FRAME[:10], "late")["version"] == 1
        assert_frame_equal(client.get_dataframe("late"), FRAME[:10])


def test_a_server_that_restarts_between_calls(start_server):
    first = start_server()
    address = first.flight.partition("://")[2]
    with DataFrameClient(first.flight) as client:
        client.load_dataframe(FRAME[:10], "kept")
        assert first.stop() == 0
        start_server(listen=address)
        assert_frame_equal(client.get_dataframe("kept"), FRAME[:10])


def test_many_writers_of_one_dataset_all_succeed(server, client, name):
    failures = []

    def write(number: int) -> None:
        try:
            with DataFrameClient(server.flight) as own:
                own.load_dataframe(pd.DataFrame({f"c{number}": [number]}), name, external_key=str(number))
        except PandasDBError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(client.list_versions(name)) == 8


def test_an_interrupted_load_leaves_nothing(server, client, name):
    """Ctrl-C ends the stream cleanly, and the number of rows tells the server that it is not whole."""
    code = (
        "import sys, pandas as pd, pandas_db_sdk.flight_backend as backend\n"
        "from pandas_db_sdk import DataFrameClient\n"
        "def cut(table):\n"
        "    yield table.to_batches()[0].slice(0, 10)\n"
        "    raise KeyboardInterrupt\n"
        "backend.cut = cut\n"
        f"with DataFrameClient({server.flight!r}) as client:\n"
        f"    client.load_dataframe(pd.DataFrame({{'x': range(1000)}}), {name!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "KeyboardInterrupt" in ended.stderr
    assert name not in {each["name"] for each in client.list_dataframes(name) if each["rows"]}


def test_waits_grow_to_a_limit_and_differ():
    for attempt in range(1, 40):
        waits = [back_off(attempt) for _ in range(50)]
        most = min(LONGEST_WAIT_SECONDS, 0.1 * 2 ** (attempt - 1))
        assert all(most / 2 <= wait <= most for wait in waits)
        assert len(set(waits)) > 1


@pytest.mark.parametrize(
    ("error", "again", "never_done"),
    [
        (UnavailableError("the storage did not answer as it should; retry later"), True, False),
        (UnavailableError("failed to connect to all addresses", from_server=False), True, True),
        (UnavailableError("Socket closed", from_server=False), True, False),
        (AbortedError("another writer was first; retry"), True, True),
        (ResourceExhaustedError("the storage is full; free space and retry"), True, False),
        (ResourceExhaustedError("too many calls; slow down"), True, False),
        (ResourceExhaustedError("a record batch unfolds to more than 5 bytes; send smaller batches"), False, False),
        (ResourceExhaustedError("the query needs more memory than --memory-limit allows; narrow it"), False, False),
        (InternalError("Stream removed", from_server=False), True, False),
        (InternalError("a defect"), False, False),
        (InvalidArgumentError("wrong"), False, False),
    ],
)
def test_which_failures_are_worth_a_retry(error, again, never_done):
    assert is_worth_a_retry(error) is again
    assert was_not_done(error) is never_done


def test_messages_stay_below_four_mebibytes(server, client, name):
    """The rows of a batch do, whatever they are like; a single row and a dictionary may be larger."""
    wide = pd.DataFrame({"text": ["x" * 300_000] * 40 + ["y"] * 100_000, "n": range(100_040)})
    category = pd.DataFrame({"c": pd.Categorical([f"category {row % 50_000}" for row in range(300_000)])})
    for frame in (wide, category):
        client.load_dataframe(frame, f"{name}/{frame.columns[0]}")
        assert_frame_equal(client.get_dataframe(f"{name}/{frame.columns[0]}"), frame)
