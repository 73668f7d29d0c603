"""Load a frame and get it back through the Python SDK, beside the bare calls of pyarrow.flight, in one run.

Both sides start from the same pandas frame and end with one, and talk to the same server. Each load goes to a fresh
dataset; the sides take turns, and which of them begins changes each time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
from frame_roundtrip import BATCH_ROWS, DATES, KEYS, make_frame
from pandas.testing import assert_frame_equal
from pandas_db_sdk.client import DataFrameClient
from served import Server, serve


def time_sdk(client: DataFrameClient, frame: pd.DataFrame, name: str) -> tuple[float, float, pd.DataFrame]:
    """Return the seconds that the SDK takes to load a frame and to get it, and what it got."""
    start = time.perf_counter()
    client.load_dataframe(frame, name, columns_keys=KEYS, progress=False)
    loaded = time.perf_counter()
    got = client.get_dataframe(name, progress=False)
    return loaded - start, time.perf_counter() - loaded, got


def time_bare(server: Server, frame: pd.DataFrame, name: str) -> tuple[float, float, pd.DataFrame]:
    """Return the seconds that the bare calls take for the same, and what they got."""
    start = time.perf_counter()
    table = pa.Table.from_pandas(frame)
    server.load(name, table.schema, table.to_batches(BATCH_ROWS), table.num_rows, KEYS)
    loaded = time.perf_counter()
    got = server.read(name).read_all().to_pandas()
    return loaded - start, time.perf_counter() - loaded, got


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the pandas-db binary")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=7, help="runs of each side, of which the median counts")
    parser.add_argument("--max-ratio", type=float, help="exit 1 when SDK / bare of a step is higher")
    options = parser.parse_args()
    exceeded = []
    print(f"{options.rows} rows, 9 columns, {DATES} dates, median of {options.repeat}; seconds")
    print(f"{'step':<6}{'sdk':>9}{'bare':>9}{'ratio':>8}")
    frame = make_frame(options.rows, shuffled=False)
    with (
        tempfile.TemporaryDirectory(prefix="pandas-db-bench-") as home,
        serve(options.bin, Path(home, "data")) as server,
        DataFrameClient(server.address) as client,
    ):
        taken: dict[str, list[tuple[float, float]]] = {"sdk": [], "bare": []}
        for number in range(options.repeat):
            sides = [("sdk", time_sdk, client), ("bare", time_bare, server)]
            for side, measure, connection in sides if number % 2 else reversed(sides):
                load, get, got = measure(connection, frame, f"bench/{side}-{number}")
                taken[side].append((load, get))
                if not number:
                    assert_frame_equal(got, frame)
        for position, step in enumerate(("load", "get")):
            sdk, bare = (statistics.median(run[position] for run in taken[side]) for side in ("sdk", "bare"))
            print(f"{step:<6}{sdk:>9.3f}{bare:>9.3f}{sdk / bare:>8.3f}", flush=True)
            if options.max_ratio is not None and sdk / bare > options.max_ratio:
                exceeded.append(f"{step}: {sdk / bare:.3f} is over {options.max_ratio}")
    print("\n".join(exceeded), end="\n" if exceeded else "")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
