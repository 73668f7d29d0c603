"""Load a frame and get it back to pandas, beside deltalake doing the same, in one run.

The frame has 9 columns and 365 dates; one variant is sorted by date, one shuffled. Both sides start from the same
pandas frame and end with one, and convert to Arrow within the time. The date column that deltalake needs for
``partition_by`` is made outside it. Each load goes to a fresh folder or dataset, in turns.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import deltalake
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.testing import assert_frame_equal
from served import Server, serve

DATES = 365
KEYS = {"ts": "Date"}
BATCH_ROWS = 65_536


def make_frame(rows: int, *, shuffled: bool) -> pd.DataFrame:
    """Make the frame.

    Parameters
    ----------
    rows : int
    shuffled : bool
        Whether the dates come in no order; otherwise they rise.
    """
    random = np.random.default_rng(2024)
    seconds = random.integers(0, DATES * 86_400, rows)
    if not shuffled:
        seconds.sort()
    return pd.DataFrame(
        {
            "ts": (np.datetime64("2024-01-01", "s") + seconds).astype("datetime64[us]"),
            "order_id": np.arange(rows),
            "customer_id": random.integers(0, 50_000, rows),
            "quantity": random.integers(1, 100, rows),
            "price": random.random(rows) * 1_000,
            "discount": random.normal(size=rows),
            "status": pd.Series(["new", "paid", "sent", "returned", "lost"], dtype="str")
            .take(random.integers(0, 5, rows))
            .array,
            "reference": pd.Series(random.integers(0, 1 << 40, rows)).map("ref-{:012x}".format).astype("str"),
            "express": random.random(rows) < 0.2,
        }
    )


def time_ours(server: Server, frame: pd.DataFrame, name: str, *, check: bool) -> tuple[float, float]:
    """Return the seconds that pandas-db takes to load a frame and to give it back; the frame must be equal."""
    start = time.perf_counter()
    table = pa.Table.from_pandas(frame)
    server.load(name, table.schema, table.to_batches(BATCH_ROWS), table.num_rows, KEYS)
    loaded = time.perf_counter()
    got = server.read(name).read_all().to_pandas()
    end = time.perf_counter()
    if check:
        assert_frame_equal(got, frame)
    return loaded - start, end - loaded


def time_theirs(frame: pd.DataFrame, path: Path) -> tuple[float, float]:
    """Return the seconds that deltalake takes to write a frame and to read it; the rows come in its own order."""
    start = time.perf_counter()
    table = pa.Table.from_pandas(frame)
    converted = time.perf_counter()
    table = table.append_column("date", pc.cast(table["ts"], pa.date32()))
    write = time.perf_counter()
    deltalake.write_deltalake(path, table, partition_by=["date"])
    written = time.perf_counter()
    got = deltalake.DeltaTable(path).to_pandas()
    end = time.perf_counter()
    assert got.shape == (len(frame), 10), got.shape
    shutil.rmtree(path)
    return converted - start + written - write, end - written


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the pandas-db binary")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each side, of which the median counts")
    parser.add_argument("--max-load-ratio", type=float, help="exit 1 when ours / theirs is higher")
    parser.add_argument("--max-get-ratio", type=float, help="exit 1 when ours / theirs is higher")
    options = parser.parse_args()
    limits = {"load": options.max_load_ratio, "get": options.max_get_ratio}
    exceeded = []
    print(f"{options.rows} rows, 9 columns, {DATES} dates, median of {options.repeat}; seconds")
    print(f"{'variant':<10}{'step':<6}{'ours':>9}{'theirs':>9}{'ratio':>8}")
    with (
        tempfile.TemporaryDirectory(prefix="pandas-db-bench-") as home,
        serve(options.bin, Path(home, "ours")) as server,
    ):
        for variant in ("sorted", "shuffled"):
            frame = make_frame(options.rows, shuffled=variant == "shuffled")
            ours, theirs = [], []
            for number in range(options.repeat):
                theirs.append(time_theirs(frame, Path(home, "theirs")))
                ours.append(time_ours(server, frame, f"bench/{variant}-{number}", check=number == 0))
            for step, our_times, their_times in zip(("load", "get"), zip(*ours), zip(*theirs)):
                our, their = statistics.median(our_times), statistics.median(their_times)
                print(f"{variant:<10}{step:<6}{our:>9.3f}{their:>9.3f}{our / their:>8.3f}", flush=True)
                if limits[step] is not None and our / their > limits[step]:
                    exceeded.append(f"{variant} {step}: {our / their:.3f} is over {limits[step]}")
    print("\n".join(exceeded), end="\n" if exceeded else "")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
