"""What the tests do, as verbs: load a frame, get it, ask in SQL, compare, expect a refusal."""

from __future__ import annotations

import json
import queue
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from backends import Place

FLIGHT_ERRORS = (pa.ArrowException, flight.FlightError, grpc.RpcError)

LOADS = "pandas_db_loads_total"
ROWS = "pandas_db_rows_loaded_total"
BYTES = "pandas_db_bytes_loaded_total"
CHUNKS_CONSIDERED = "pandas_db_chunks_considered_total"
CHUNKS_PRUNED = "pandas_db_chunks_pruned_total"
CHUNKS_READ = "pandas_db_chunks_read_total"
CALL_SECONDS = "pandas_db_call_duration_seconds"
MEMORY = "pandas_db_resident_memory_bytes"


def as_table(frame: pd.DataFrame | pa.Table) -> pa.Table:
    """Return the Arrow table that pandas itself would send."""
    return pa.Table.from_pandas(frame) if isinstance(frame, pd.DataFrame) else frame


def put(
    client: flight.FlightClient, descriptor: flight.FlightDescriptor, frame, *, batch_rows: int = 65_536
) -> list[dict]:
    """Send a frame in one DoPut.

    Parameters
    ----------
    client : flight.FlightClient
    descriptor : flight.FlightDescriptor
    frame : pandas.DataFrame or pyarrow.Table
    batch_rows : int
        The most rows in one message.

    Returns
    -------
    list of dict
        Every LoadResult that arrived, in order.
    """
    table = as_table(frame)
    results = []
    writer, reader = client.do_put(descriptor, table.schema)
    try:
        writer.write_table(table, max_chunksize=batch_rows)
        writer.done_writing()
        while (buffer := reader.read()) is not None:
            results.append(json.loads(buffer.to_pybytes()))
    finally:
        writer.close()
    return results


def load_descriptor(name: str, *, as_json: bool = False, **options) -> flight.FlightDescriptor:
    """Return the descriptor of a LoadDataframe; options that are None are left out."""
    command = {"dataframe_name": name} | {key: value for key, value in options.items() if value is not None}
    return flight.FlightDescriptor.for_command(
        json.dumps(command).encode() if as_json else wire.load_dataframe(command)
    )


def load(
    client: flight.FlightClient,
    frame: pd.DataFrame | pa.Table,
    name: str,
    *,
    columns_keys: dict[str, str] | None = None,
    external_key: str | None = None,
    keep_last: bool | None = None,
    idempotency_key: str | None = None,
    total_rows: int | None = ...,
    as_json: bool = False,
    batch_rows: int = 65_536,
) -> dict:
    """Load a frame as a new version of a dataset.

    Parameters
    ----------
    client : flight.FlightClient
    frame : pandas.DataFrame or pyarrow.Table
    name : str
        The dataset.
    columns_keys, external_key, keep_last, idempotency_key
        As in LoadDataframe; None leaves the field out.
    total_rows : int or None
        By default the rows of the frame; None leaves it out.
    as_json : bool
        Send the command as JSON, not as protobuf.
    batch_rows : int
        The most rows in one message.

    Returns
    -------
    dict
        The last LoadResult, which says that the version is committed.
    """
    table = as_table(frame)
    descriptor = load_descriptor(
        name,
        as_json=as_json,
        columns_keys=columns_keys,
        external_key=external_key,
        keep_last=keep_last,
        idempotency_key=idempotency_key,
        total_rows=table.num_rows if total_rows is ... else total_rows,
    )
    last = put(client, descriptor, table, batch_rows=batch_rows)[-1]
    assert last["state"] == "committed"
    return last


def get_command(name: str, *, as_json: bool = False, **fields) -> bytes:
    """Return a GetDataframe as bytes, for a ticket or a command descriptor."""
    command = {"dataframe_name": name, **fields}
    return json.dumps(command).encode() if as_json else wire.get_dataframe(command)


def get(client: flight.FlightClient, name: str, *, as_json: bool = False, **fields) -> pa.Table:
    """Read a dataset with one DoGet; keyword arguments are the fields of GetDataframe."""
    return client.do_get(flight.Ticket(get_command(name, as_json=as_json, **fields))).read_all()


def get_info(client: flight.FlightClient, name: str) -> flight.FlightInfo:
    """Return the FlightInfo of a dataset, asked for by path."""
    return client.get_flight_info(flight.FlightDescriptor.for_path(*name.split("/")))


def list_names(client: flight.FlightClient, prefix: str = "") -> list[str]:
    """Return the names that ListFlights gives, in its order."""
    infos = client.list_flights(criteria=prefix.encode())
    return ["/".join(segment.decode() for segment in info.descriptor.path) for info in infos]


def sql(client: flight.FlightClient, query: str) -> pa.Table:
    """Run a query as Flight SQL does: GetFlightInfo, then DoGet of each endpoint; the schemas must agree."""
    info = client.get_flight_info(flight.FlightDescriptor.for_command(wire.statement(query)))
    assert info.endpoints, "a query has an endpoint, also when it has no rows"
    parts = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    for part in parts:
        assert part.schema.equals(info.schema, check_metadata=True), f"{part.schema} is not {info.schema}"
    return pa.concat_tables(parts)


def sql_by_ticket(client: flight.FlightClient, query: str) -> pa.Table:
    """Run a query with one DoGet of the JSON ticket."""
    return client.do_get(flight.Ticket(json.dumps({"sql": query}).encode())).read_all()


def table_name(name: str) -> str:
    """Return the quoted SQL name of a dataset: all segments but the last are its schema."""
    *schema, table = name.split("/")
    return f'"{"/".join(schema) or "public"}"."{table}"'


def location(server, result: dict) -> Place:
    """Return the root of a dataset as it is stored: the Delta table that holds the first chunk of a load."""
    path = result["chunks"][0]["path"]
    roots = [log.parent for log in server.storage.rglob("_delta_log") if (log.parent / path).is_file()]
    assert len(roots) == 1, f"{path} should be below one Delta table, not {roots}"
    return roots[0]


def metrics(server) -> dict[str, float]:
    """Return the server's Prometheus metrics: sample name to the sum over its labels."""
    sums: dict[str, float] = {}
    with urllib.request.urlopen(server.http + "/metrics") as response:
        for line in response.read().decode().splitlines():
            if line and not line.startswith("#"):
                sample, value = re.fullmatch(r"([A-Za-z_:][\w:]*)(?:\{.*\})? (\S+)(?: \d+)?", line).groups()
                sums[sample] = sums.get(sample, 0.0) + float(value)
    return sums


@contextmanager
def counted(server) -> Iterator[dict[str, float]]:
    """Collect by how much each metric rose inside the block; filled when the block ends."""
    before, rise = metrics(server), {}
    yield rise
    rise.update({sample: value - before.get(sample, 0.0) for sample, value in metrics(server).items()})


@contextmanager
def refused(*codes: str, mentions: tuple[str, ...] | list[str] = ()) -> Iterator[pytest.ExceptionInfo]:
    """Expect a Flight error with one of these codes.

    Parameters
    ----------
    *codes : str
        Names of gRPC codes; the message must begin with the one that was returned, in brackets.
    mentions : sequence of str
        What the message must also hold.
    """
    with pytest.raises(FLIGHT_ERRORS) as caught:
        yield caught
    error = caught.value
    if isinstance(error, grpc.RpcError):
        message = error.details()
        assert message.startswith(f"[{error.code().name}] "), f"{error.code().name}: {message}"
    else:
        message = error.args[0]
    found = re.search(r"\[([A-Z_]+)\] \S", message)
    assert found, f"no code in brackets in: {message!r}"
    assert found.group(1) in codes, message
    for words in mentions:
        assert words in message, f"{words!r} is not in {message!r}"


def assert_absent(client: flight.FlightClient, name: str) -> None:
    """Check that a dataset does not exist for any reader."""
    with refused("NOT_FOUND"):
        get(client, name)
    with refused("NOT_FOUND"):
        get_info(client, name)
    assert name not in list_names(client, name)


def _comparable(value: object) -> object:
    """Make a value comparable with ==: NaN equal to NaN, 0.0 unlike -0.0."""
    if isinstance(value, float) or type(value).__name__ == "float16":
        return repr(float(value))
    if isinstance(value, dict):
        return [(key, _comparable(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    return value


def _values(column: pa.ChunkedArray) -> list:
    """Return the values of a column in a form in which == means that nothing was lost."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _values(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_time32(kind):
        return column.cast(pa.int32()).to_pylist()
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind) and not pa.types.is_date32(kind):
        return column.cast(pa.int64()).to_pylist()
    return [_comparable(value) for value in column.to_pylist()]


def assert_tables_equal(got: pa.Table, sent: pa.Table) -> None:
    """Check that a table came back as it went in: schema with all metadata, every value, categories, row order."""
    assert got.schema.equals(sent.schema, check_metadata=True), (
        f"schema differs\n--- got\n{got.schema.to_string(truncate_metadata=False)}"
        f"\n--- sent\n{sent.schema.to_string(truncate_metadata=False)}"
    )
    assert got.num_rows == sent.num_rows
    for position, field in enumerate(sent.schema):
        assert _values(got.column(position)) == _values(sent.column(position)), (
            f"values of column {field.name!r} differ"
        )
        if pa.types.is_dictionary(field.type) and sent.num_rows:  # Without rows no dictionary is sent.
            assert categories(got.column(position)) == categories(sent.column(position)), (
                f"categories of {field.name!r}"
            )


def categories(column: pa.ChunkedArray) -> list:
    """Return the dictionary of a dictionary column, unused values included, in the order first seen."""
    return list(dict.fromkeys(value for chunk in column.chunks for value in chunk.dictionary.to_pylist()))


class OpenLoad:
    """A DoPut that is under way.

    Parameters
    ----------
    client : flight.FlightClient
    descriptor : flight.FlightDescriptor
    batch : pyarrow.RecordBatch
        What each write sends.
    """

    def __init__(self, client: flight.FlightClient, descriptor: flight.FlightDescriptor, batch: pa.RecordBatch):
        self.batch = batch
        self.rows = 0
        self.results: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self.writer, self._reader = client.do_put(descriptor, batch.schema)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while (buffer := self._reader.read()) is not None:
                self.results.put(json.loads(buffer.to_pybytes()))
        except FLIGHT_ERRORS:
            pass  # The writer raises the same error.
        self.results.put(None)

    def write(self) -> None:
        """Send the batch once."""
        self.writer.write_batch(self.batch)
        self.rows += self.batch.num_rows

    def write_until_progress(self, most_bytes: int = 1 << 30) -> dict:
        """Send batches until the server reports that it has some, and return that report."""
        for _ in range(most_bytes // self.batch.nbytes):
            self.write()
            if not self.results.empty():
                result = self.results.get()
                assert result is not None, "the server ended the load"
                return result
        pytest.fail(f"no progress after {most_bytes} bytes")

    def finish(self) -> dict:
        """End the stream and return the last LoadResult."""
        self.writer.done_writing()
        last = None
        while (result := self.results.get(timeout=120)) is not None:
            last = result
        self.writer.close()
        return last
