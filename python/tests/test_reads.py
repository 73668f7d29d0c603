"""What a read selects, in whole and in parts, from one thread and from many."""

from __future__ import annotations

import datetime
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from pandas_db_sdk import DataFrameClient, InvalidArgumentError

BASE = pd.DataFrame({"day": ["2024-01-01", "2024-01-02", "2024-01-03"], "item": [1, 2, 3], "price": [9.5, 3.25, 9.75]})


@pytest.fixture
def history(client, name):
    """A dataset of four versions: two without a key, and one of ``monday`` that replaced another."""
    results = [
        client.load_dataframe(BASE.assign(price=1.0), name, columns_keys={"day": "Date"}),
        client.load_dataframe(BASE.assign(price=2.0), name, external_key="monday", keep_last=True),
        client.load_dataframe(BASE.assign(price=3.0), name, external_key="monday", keep_last=True),
        client.load_dataframe(BASE.assign(price=4.0), name),
    ]
    assert [result["version"] for result in results] == [1, 2, 3, 4]
    return results


@pytest.mark.parametrize(
    ("options", "prices"),
    [
        ({}, [1.0, 3.0, 4.0]),
        ({"external_key": "monday"}, [3.0]),
        ({"external_key": "NOW"}, [1.0, 4.0]),
        ({"external_key": "default", "use_last": True}, [4.0]),
        ({"use_last": True}, [4.0]),
        ({"version": 2}, [2.0]),
        ({"version": np.int64(1)}, [1.0]),
    ],
)
def test_which_versions(client, name, history, options, prices):
    expected = pd.concat([BASE.assign(price=price) for price in prices], ignore_index=True)
    assert_frame_equal(client.get_dataframe(name, **options), expected)
    assert_frame_equal(pd.concat(client.iter_dataframe(name, **options)), expected)


def test_as_of(client, name, history):
    for number, prices in enumerate([[1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 3.0, 4.0]]):
        told = history[number]["created_at"]
        moment = datetime.datetime.fromisoformat(told.replace("Z", "+00:00"))
        expected = pd.concat([BASE.assign(price=price) for price in prices], ignore_index=True)
        for as_of in (
            told,
            moment,
            pd.Timestamp(moment),
            moment.astimezone(datetime.timezone(datetime.timedelta(hours=5))),
        ):
            assert_frame_equal(client.get_dataframe(name, as_of=as_of), expected)


def test_columns_and_filter(client, name, history):
    got = client.get_dataframe(name, columns=["price", "day"], filter="item = 2 AND price > 1")
    assert list(got.columns) == ["price", "day"]
    assert got["price"].tolist() == [3.0, 4.0]
    assert got.index.equals(pd.RangeIndex(2))


def test_an_index_comes_along_with_columns(client, name):
    frame = BASE.set_index(["day", "item"]).assign(other="x")
    client.load_dataframe(frame, name)
    assert_frame_equal(client.get_dataframe(name, columns=["price"]), frame[["price"]])
    assert_frame_equal(client.get_dataframe(name, columns=["price"], filter="item > 1"), frame[["price"]].iloc[1:])


def test_repeated_labels_come_together(client, name):
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    client.load_dataframe(frame, name)
    assert_frame_equal(client.get_dataframe(name, columns=["a"]), frame[["a"]])


def test_a_named_range_of_two_versions_counts_on(client, name):
    frame = pd.DataFrame({"x": range(3)}, index=pd.RangeIndex(5, 8, name="n"))
    client.load_dataframe(frame, name)
    assert_frame_equal(client.get_dataframe(name), frame)
    client.load_dataframe(frame, name)
    assert_frame_equal(client.get_dataframe(name), pd.DataFrame({"x": [0, 1, 2] * 2}, index=pd.RangeIndex(6, name="n")))


def test_a_dataset_whose_versions_are_all_gone_is_empty(client, name):
    client.load_dataframe(BASE, name)
    client.delete_version(name, 1)
    assert_frame_equal(client.get_dataframe(name), BASE.iloc[:0], check_index_type=False)
    [part] = client.iter_dataframe(name)
    assert part.shape == (0, 3)


@pytest.mark.parametrize("batch_rows", [1, 1_000, 99_999, 100_000, 250_000, 1_000_000])
def test_parts_have_the_rows_asked_for(client, name, batch_rows):
    frame = pd.DataFrame({"x": np.arange(250_000), "s": [f"row {row % 100}" for row in range(250_000)]})
    rows = 3_000 if batch_rows == 1 else len(frame)
    client.load_dataframe(frame[:rows], name)
    parts = list(client.iter_dataframe(name, batch_rows=batch_rows))
    assert [len(part) for part in parts] == [min(batch_rows, rows - at) for at in range(0, rows, batch_rows)]
    assert_frame_equal(pd.concat(parts), frame[:rows])


def test_parts_carry_on_the_range_of_the_frame(client, name):
    frame = pd.DataFrame({"x": range(10)}, index=pd.RangeIndex(100, 80, -2, name="down"))
    client.load_dataframe(frame, name)
    for at, part in enumerate(client.iter_dataframe(name, batch_rows=3)):
        assert_frame_equal(part, frame.iloc[3 * at : 3 * at + 3])


def test_an_iteration_that_is_given_up_ends_the_read(client, name, server):
    client.load_dataframe(pd.DataFrame({"x": np.random.default_rng(1).random(2_000_000)}), name)
    parts = client.iter_dataframe(name)
    next(parts)
    parts.close()
    assert_frame_equal(client.get_dataframe(name, filter="x < 0"), pd.DataFrame({"x": []}), check_index_type=False)


def test_wrong_arguments_of_an_iteration_are_found_at_once(client):
    with pytest.raises(ValueError, match="version"):
        client.iter_dataframe("a", version=-1)


def test_an_iteration_takes_bounded_memory(client, server, name):
    """160 MB come in parts of 4 MB at most; the process grows by far less."""
    rows, loads = 5_000_000, 4
    frame = pd.DataFrame({"x": np.random.default_rng(1).random(rows)})
    for _ in range(loads):
        client.load_dataframe(frame, name)
    code = (
        "import resource, sys\n"
        "from pandas_db_sdk import DataFrameClient\n"
        f"with DataFrameClient({server.flight!r}) as client:\n"
        f"    next(iter(client.iter_dataframe({name!r}, version=1, filter='x < 0.001')))\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"    rows = sum(len(part) for part in client.iter_dataframe({name!r}))\n"
        "    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read, kib = map(int, ended.stdout.split())
    assert read == rows * loads
    assert kib < 64 * 1024, f"{kib} KiB"


def test_a_client_is_shared_by_threads(client, name):
    def work(number: int) -> None:
        mine = f"{name}/{number % 5}"
        frame = BASE.assign(item=number)
        client.load_dataframe(frame, mine, external_key=str(number))
        assert_frame_equal(client.get_dataframe(mine, external_key=str(number)), frame)
        assert client.sql("SELECT 1 AS one")["one"].tolist() == [1]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert len(client.list_dataframes(f"{name}/")) == 5


def test_a_closed_client_opens_again(server, name):
    client = DataFrameClient(server.flight)
    client.load_dataframe(BASE, name)
    client.close()
    assert_frame_equal(client.get_dataframe(name), BASE)
    client.close()
    client.close()


def test_filters_see_the_names_of_the_columns(client, name):
    client.load_dataframe(pd.DataFrame({0: [1, 2], ("t", 1): [3, 4]}), name)
    assert client.get_dataframe(name, filter="\"0\" = 2 AND \"('t', '1')\" = 4")[0].tolist() == [2]
    with pytest.raises(InvalidArgumentError, match="nope"):
        client.get_dataframe(name, filter="nope = 1")
