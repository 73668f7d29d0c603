"""Other kinds of frames than pandas': pyarrow tables and polars frames, given and asked for."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

TABLE = pa.table({"day": ["2024-01-01", None], "x": pa.array([1, None], pa.uint8()), "l": [[1, 2], []]})


def test_tables(client, name):
    result = client.load_dataframe(TABLE, name, columns_keys={"day": "Date"})
    assert result["columns_keys"] == {"day": "Date"}
    got = client.get_dataframe(name, as_="arrow")
    assert got.schema.equals(TABLE.schema, check_metadata=True)
    assert got.to_pylist() == TABLE.to_pylist()
    assert_frame_equal(client.get_dataframe(name), TABLE.to_pandas())
    assert pa.concat_tables(client.iter_dataframe(name, batch_rows=1, as_="arrow")).to_pylist() == TABLE.to_pylist()


def test_record_batches(client, name):
    client.load_dataframe(TABLE.to_batches()[0], name)
    assert client.get_dataframe(name, as_="arrow").to_pylist() == TABLE.to_pylist()


def test_a_table_of_many_small_batches_and_dictionaries(client, name):
    parts = [
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), words) for words in (["a", "b"], ["b", "c"])
    ]
    table = pa.table({"c": pa.chunked_array(parts * 50)})
    client.load_dataframe(table, name)
    assert client.get_dataframe(name, as_="arrow")["c"].to_pylist() == table["c"].to_pylist()


def test_polars(client, name):
    pl = pytest.importorskip("polars", minversion="1.0")
    frame = pl.DataFrame(
        {
            "s": ["a", None, "a string longer than twelve bytes"],
            "e": pl.Series(["lo", "hi", None], dtype=pl.Enum(["lo", "mid", "hi"])),
            "l": [[1, 2], [], None],
            "t": pl.Series([1, 2, 3]).cast(pl.Datetime("us", "Europe/Paris")),
            "d": pl.Series([1, 2, None]).cast(pl.Duration("ms")),
            "u": pl.Series([255, 0, None], dtype=pl.UInt8),
        }
    )
    client.load_dataframe(frame, name, columns_keys={"t": "Date"})
    got = client.get_dataframe(name, as_="polars")
    assert got.schema == frame.schema
    assert got.equals(frame)
    assert client.get_dataframe(name, as_="polars", columns=["u", "s"]).equals(frame.select("u", "s"))
    assert pl.concat(client.iter_dataframe(name, batch_rows=2, as_="polars")).equals(frame)
    assert client.sql("SELECT 1 AS one", as_="polars").to_dicts() == [{"one": 1}]
    client.load_dataframe(pd.DataFrame({"x": [1]}), f"{name}/pandas")
    assert client.get_dataframe(f"{name}/pandas", as_="polars").to_dicts() == [{"x": 1}]


def test_polars_is_not_needed(server, name):
    """Importing it is forbidden in a process of its own; asking for it says what to install."""
    code = (
        "import sys\n"
        "sys.modules['polars'] = None\n"
        "import pandas as pd\n"
        "from pandas_db_sdk import DataFrameClient\n"
        f"with DataFrameClient({server.flight!r}) as client:\n"
        f"    client.load_dataframe(pd.DataFrame({{'x': [1]}}), {name!r})\n"
        "    try:\n"
        f"        client.get_dataframe({name!r}, as_='polars')\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == 'as_="polars" needs polars: pip install polars\n'
