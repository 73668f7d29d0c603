"""Stream a large load and a large get, and tell the peak resident memory of the server.

The frame is made while it is sent and dropped while it is read, so that neither side ever holds it. In one variant
its dates are sorted, in one spread over the year, and one has no keys at all, so that its chunks are as large as they
get. Each variant has a server of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from served import serve

MIB = 1 << 20
DATES = 365
BATCH_ROWS = 65_536
KEYS = {"sorted": {"day": "Date"}, "shuffled": {"day": "Date"}, "unkeyed": {}}


def make_batch(number: int, batches: int, *, shuffled: bool) -> pa.RecordBatch:
    """Make one batch of the frame: dates, the row's number, strings of few values, and floats that do not compress."""
    random = np.random.default_rng(number)
    day = random.integers(0, DATES, BATCH_ROWS) if shuffled else np.full(BATCH_ROWS, number * DATES // batches)
    columns = {
        "day": pa.array(day.astype("int32")).cast(pa.date32()),
        "row": np.arange(number * BATCH_ROWS, (number + 1) * BATCH_ROWS),
        "place": pa.DictionaryArray.from_arrays(
            random.integers(0, 4, BATCH_ROWS), ["north", "south", "east", "west"]
        ).cast(pa.string()),
    }
    return pa.record_batch(columns | {f"v{i}": random.random(BATCH_ROWS) for i in range(6)})


def make_batches(batches: int, *, shuffled: bool) -> Iterator[pa.RecordBatch]:
    """Make the frame, batch by batch."""
    for number in range(batches):
        yield make_batch(number, batches, shuffled=shuffled)


def measure(binary: str, batches: int, variant: str) -> Iterator[tuple[str, int, float]]:
    """Load and read the frame on a new server; yield each step with the bytes that it moved and the peak in MiB."""
    shuffled = variant != "sorted"
    first = make_batch(0, batches, shuffled=shuffled)
    rows = batches * BATCH_ROWS
    with tempfile.TemporaryDirectory(prefix="pandas-db-bench-") as home, serve(binary, Path(home, "data")) as server:
        server.load("bench/memory", first.schema, make_batches(batches, shuffled=shuffled), rows, KEYS[variant])
        yield "load", batches * first.nbytes, server.peak_mib()
        next_row = received = 0
        for chunk in server.read("bench/memory"):
            places = chunk.data.column("row").to_numpy()
            assert (places == np.arange(next_row, next_row + len(places))).all(), "rows are out of order"
            next_row += len(places)
            received += chunk.data.nbytes
        assert next_row == rows, f"{next_row} of {rows} rows came back"
        yield "get", received, server.peak_mib()


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the pandas-db binary")
    parser.add_argument("--gb", type=float, default=3.0, help="Arrow bytes of the frame, in units of 10^9")
    parser.add_argument("--max-mib", type=float, default=1024, help="exit 1 when the peak is higher")
    options = parser.parse_args()
    batches = max(1, round(options.gb * 1e9 / make_batch(0, 1, shuffled=True).nbytes))
    exceeded = []
    for variant in KEYS:
        for step, moved, peak in measure(options.bin, batches, variant):
            print(f"{variant:<9} {step:<5} {moved // MIB} MiB sent or read, peak {peak:.0f} MiB", flush=True)
            if peak > options.max_mib:
                exceeded.append(f"{variant} {step}: {peak:.0f} MiB is over {options.max_mib:.0f}")
    print("\n".join(exceeded), end="\n" if exceeded else "")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
