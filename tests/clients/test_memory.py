"""The server's memory does not grow with the frame: a scaled-down form of `benches/memory.py`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from frames import get_command, load_descriptor

MIB = 1 << 20
SENT = 700 * MIB
MEMORY_LIMIT = 128 * MIB
MOST_RESIDENT = 640 * MIB  # Less than what is sent, so a server that holds the frame fails.
BATCH_ROWS = 32_768
DATES = 365


def batch(number: int, batches: int, *, shuffled: bool) -> pa.RecordBatch:
    """Make one batch of a frame of incompressible floats whose dates are sorted or spread over the year."""
    random = np.random.default_rng(number)
    day = random.integers(0, DATES, BATCH_ROWS) if shuffled else np.full(BATCH_ROWS, number * DATES // batches)
    columns = {
        "day": pa.array(day.astype("int32")).cast(pa.date32()),
        "row": np.arange(BATCH_ROWS) + number * BATCH_ROWS,
    }
    return pa.record_batch(columns | {f"v{i}": random.random(BATCH_ROWS) for i in range(10)})


@pytest.mark.parametrize(
    "keys, shuffled",
    [({"day": "Date"}, False), ({"day": "Date"}, True), (None, False)],
    ids=["dates_sorted", "dates_shuffled", "no_keys"],
)
def test_a_load_and_a_read_stay_within_bounds(start_server, keys, shuffled):
    server = start_server(memory_limit=MEMORY_LIMIT)
    size = batch(0, 1, shuffled=shuffled).nbytes
    batches = SENT // size + 1
    with server.connect() as client:
        writer, reader = client.do_put(
            load_descriptor("own/data", columns_keys=keys, total_rows=batches * BATCH_ROWS),
            batch(0, 1, shuffled=shuffled).schema,
        )
        for number in range(batches):
            writer.write_batch(batch(number, batches, shuffled=shuffled))
        writer.done_writing()
        while reader.read() is not None:
            pass
        writer.close()
        assert server.peak_bytes() < MOST_RESIDENT, f"after the load: {server.peak_bytes() // MIB} MiB"
        rows = 0
        for chunk in client.do_get(flight.Ticket(get_command("own/data"))):
            place = chunk.data.column("row").to_numpy()
            assert place[0] == rows and place[-1] == rows + len(place) - 1, (
                "rows come in the order in which they were sent"
            )
            rows += len(place)
    assert rows == batches * BATCH_ROWS
    assert server.peak_bytes() < MOST_RESIDENT, f"after the read: {server.peak_bytes() // MIB} MiB"
