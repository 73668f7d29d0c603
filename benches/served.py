"""A server for the length of a bench, and the two calls that the benches time."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight


class Server:
    """A running ``pandas-db serve`` and a client of it."""

    def __init__(self, process: subprocess.Popen, address: str):
        self.process, self.address = process, address
        self.client = flight.connect(address)

    def peak_mib(self) -> float:
        """Return the peak resident memory of the server."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024

    def load(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], rows: int, keys: dict) -> dict:
        """Send one load and return its last result, which says that it is durable.

        Parameters
        ----------
        name : str
            The dataset.
        schema : pyarrow.Schema
        batches : iterable of pyarrow.RecordBatch
        rows : int
            How many rows the batches hold together.
        keys : dict
            The ``columns_keys`` of the load.
        """
        command = {"dataframe_name": name, "columns_keys": keys, "total_rows": rows}
        writer, reader = self.client.do_put(flight.FlightDescriptor.for_command(json.dumps(command).encode()), schema)
        last = None
        try:
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
            while (result := reader.read()) is not None:
                last = json.loads(result.to_pybytes())
        finally:
            writer.close()
        assert last["state"] == "committed" and last["total_rows"] == rows, last
        return last

    def read(self, name: str) -> flight.FlightStreamReader:
        """Start reading a dataset."""
        return self.client.do_get(flight.Ticket(json.dumps({"dataframe_name": name}).encode()))


@contextmanager
def serve(binary: str, storage: Path) -> Iterator[Server]:
    """Run a server on a storage folder; its log goes to a file beside it.

    Parameters
    ----------
    binary : str
        The path of ``pandas-db``.
    storage : Path
    """
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--http", "off", "--storage", str(storage)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PANDAS_DB_")}
    log = storage.with_name(storage.name + ".log")
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    try:
        ready = re.search(r"flight=(\S+)", process.stdout.readline().decode())
        if not ready:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        server = Server(process, ready.group(1))
        yield server
        server.client.close()
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
