"""Talking to a server over Arrow Flight."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Callable, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from . import decoding, flight_sql
from .arguments import Load, Selection
from .backend import Backend
from .batches import cut
from .encoding import EncodedFrame
from .errors import FLIGHT_ERRORS, PandasDBError, UnavailableError, UnimplementedError, from_flight
from .progress import Progress
from .retry import Retries, is_worth_a_retry, was_not_done
from .statement import is_write
from .tls import Tls

Result = TypeVar("Result")

MAX_ENDPOINTS_AT_ONCE = 4
"""Parts of one read that are fetched at the same time, where a server offers it in parts."""
REUSE_CONNECTION = "arrow-flight-reuse-connection"

# Each client has a connection of its own, so that a new one is not kept waiting for what an old one met.
_CHANNEL_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of pyarrow.flight into ours."""
    try:
        yield
    except PandasDBError:
        raise
    except FLIGHT_ERRORS as error:
        raise from_flight(error) from None


class FlightBackend(Backend):
    """A connection to a server's Arrow Flight port.

    Parameters
    ----------
    location : str
        ``grpc://host:port`` or ``grpc+tls://host:port``.
    token : str or None
        Sent as ``authorization: Bearer`` with each call.
    retries : Retries
    timeout : float or None
        Seconds that one call may take.
    tls : Tls, optional
        The certificates of a connection with TLS.
    """

    kind = "Arrow Flight"

    def __init__(
        self,
        location: str,
        token: str | None,
        retries: Retries,
        timeout: float | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._token, self._retries, self._timeout = token, retries, timeout
        self._tls = (tls or Tls()).of_flight()
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._location = location
        with _translated():
            self._client()

    def _client(self, location: str | None = None) -> Any:
        location = location or self._location
        with self._lock:
            if location not in self._clients:
                self._clients[location] = flight.connect(location, generic_options=_CHANNEL_OPTIONS, **self._tls)
            return self._clients[location]

    def _connect_anew(self) -> None:
        """Let the next call open a connection, which else would wait for longer and longer after each failure.

        Calls of other threads go on with what they have, and the last of them closes it.
        """
        with self._lock:
            self._clients.clear()

    def _options(self) -> Any:
        headers = [(b"authorization", f"Bearer {self._token}".encode())] if self._token else []
        return flight.FlightCallOptions(timeout=self._timeout, headers=headers)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _again(
        self, call: Callable[[], Result], worth_it: Callable[[PandasDBError], bool] = is_worth_a_retry
    ) -> Result:
        """Make a call, and make it again where that can help."""

        def translated() -> Result:
            try:
                with _translated():
                    return call()
            except PandasDBError as error:
                if not error.from_server:
                    self._connect_anew()
                raise

        return self._retries.run(translated, worth_it)

    # Loads

    def load(self, frame: EncodedFrame, load: Load, progress: bool | None) -> dict[str, Any]:
        """Load a frame; every attempt has the same idempotency key, so that it is stored once."""
        table = frame.table
        command = {
            "dataframe_name": load.name,
            "columns_keys": load.columns_keys,
            "external_key": load.external_key,
            "keep_last": load.keep_last,
            "idempotency_key": load.idempotency_key,
            "total_rows": table.num_rows,
        }
        descriptor = flight.FlightDescriptor.for_command(json.dumps(command).encode())
        with Progress(progress, f"load {load.name}", table.num_rows) as bar:

            def attempt() -> dict[str, Any]:
                bar.restart()
                answers = self._put(descriptor, table.schema, cut(table), bar)
                result = json.loads(answers[-1]) if answers else {}
                if result.get("state") != "committed":
                    raise UnavailableError("the server ended the load without confirming it", from_server=False)
                return dict(result)

            return self._again(attempt)

    def _put(
        self, descriptor: Any, schema: pa.Schema, batches: Iterator[pa.RecordBatch], bar: Progress | None = None
    ) -> list[bytes]:
        """Send batches and return the answers."""
        writer, reader = self._client().do_put(descriptor, schema, self._options())
        answers = []
        try:
            for batch in batches:
                writer.write_batch(batch)
                if bar is not None:
                    bar.add(batch.num_rows)
            writer.done_writing()
            while (answer := reader.read()) is not None:
                answers.append(answer.to_pybytes())
        except FLIGHT_ERRORS as error:
            raise _told_by_end(writer, from_flight(error)) from None
        except BaseException:
            # The stream ends early, and total_rows tells the server that it did.
            with suppress(*FLIGHT_ERRORS):
                writer.close()
            raise
        writer.close()
        return answers

    # Reads

    def read(self, selection: Selection, progress: bool | None) -> pa.Table:
        """Read rows, the endpoints that there are at the same time."""
        info = self._again(lambda: self._info(selection))
        total = info.total_records if info.total_records >= 0 else None
        with Progress(progress, f"get {selection.name}", total) as bar:
            return self._fetch(info, bar)

    def _fetch(self, info: Any, bar: Progress | None = None) -> pa.Table:
        endpoints = list(info.endpoints)
        if not endpoints:
            return info.schema.empty_table()
        if len(endpoints) == 1:
            return self._fetch_endpoint(endpoints[0], bar)
        with ThreadPoolExecutor(min(MAX_ENDPOINTS_AT_ONCE, len(endpoints)), "pandas-db-get") as pool:
            tables = list(pool.map(lambda endpoint: self._fetch_endpoint(endpoint, bar), endpoints))
        return pa.Table.from_batches([batch for table in tables for batch in table.to_batches()], tables[0].schema)

    def _fetch_endpoint(self, endpoint: Any, bar: Progress | None) -> pa.Table:
        def attempt() -> pa.Table:
            rows = 0
            reader = self._open(endpoint)
            if bar is None or not bar.shown:
                return reader.read_all()
            batches = []
            try:
                for chunk in _chunks(reader):
                    batches.append(chunk)
                    rows += chunk.num_rows
                    bar.add(chunk.num_rows)
            except BaseException:
                bar.add(-rows)
                raise
            return pa.Table.from_batches(batches, reader.schema)

        return self._again(attempt)

    def _open(self, endpoint: Any) -> Any:
        """Start to fetch an endpoint, from the first of its locations."""
        locations = [location.uri.decode() for location in endpoint.locations]
        here = not locations or any(uri.startswith(REUSE_CONNECTION) for uri in locations)
        return self._client(None if here else locations[0]).do_get(endpoint.ticket, self._options())

    def _info(self, selection: Selection) -> Any:
        names = None
        if selection.columns is not None:
            schema = self._client().get_schema(_descriptor(selection.command()), self._options()).schema
            names = decoding.names_of(schema, selection.columns)
        return self._client().get_flight_info(_descriptor(selection.command(names)), self._options())

    def read_parts(
        self, selection: Selection, part_rows: int | None, progress: bool | None
    ) -> Iterator[tuple[pa.Table, int, int]]:
        """Read rows in parts. A failure is mended by a retry until the first part is there, and raised later."""

        def begin() -> tuple[Any, Iterator[pa.RecordBatch], pa.RecordBatch | None]:
            info = self._info(selection)
            batches = self._batches(info)
            return info, batches, next(batches, None)

        info, batches, first = self._again(begin)
        total = info.total_records
        with Progress(progress, f"get {selection.name}", total if total >= 0 else None) as bar:
            at = 0
            for part in _regroup(first, batches, part_rows):
                bar.add(part.num_rows)
                yield part, at, total
                at += part.num_rows
            if not at:
                yield info.schema.empty_table(), 0, 0

    def _batches(self, info: Any) -> Iterator[pa.RecordBatch]:
        with _translated():
            for endpoint in info.endpoints:
                reader = self._open(endpoint)
                try:
                    yield from _chunks(reader)
                finally:
                    reader.cancel()  # Does nothing at the end; before it, tells the server to stop.

    # Everything else

    def list_dataframes(self, prefix: str) -> list[dict[str, Any]]:
        """List the datasets whose names begin with a prefix."""

        def attempt() -> list[dict[str, Any]]:
            infos = self._client().list_flights(prefix.encode(), self._options())
            return [
                {
                    "name": "/".join(segment.decode() for segment in info.descriptor.path),
                    "rows": info.total_records,
                    "bytes": info.total_bytes,
                }
                for info in infos
            ]

        return self._again(attempt)

    def delete_dataframe(self, name: str) -> None:
        """Delete a dataset."""
        self.act("delete_dataframe", {"dataframe_name": name}, again=False)

    def act(self, action: str, body: dict[str, Any], *, again: bool = True) -> list[dict[str, Any]]:
        """Do an action with a JSON body, and return its answers."""

        def attempt() -> list[dict[str, Any]]:
            return [json.loads(answer) for answer in self._act(action, json.dumps(body).encode())]

        return self._again(attempt, is_worth_a_retry if again else was_not_done)

    def _act(self, action: str, body: bytes) -> list[bytes]:
        answers = self._client().do_action(flight.Action(action, body), self._options())
        return [answer.body.to_pybytes() for answer in answers]

    # SQL

    def sql(self, query: str, params: Sequence[Any]) -> pa.Table | int:
        """Run a statement; with parameters as a prepared one."""
        writes = is_write(query)
        if params:
            batch = flight_sql.parameters(params)
            # What prepares a statement changes nothing; what runs one that writes may have, when its answer is lost.
            return self._again(lambda: self._run_prepared(query, batch), was_not_done if writes else is_worth_a_retry)
        ticket = flight.Ticket(json.dumps({"sql": query}).encode())

        def attempt() -> pa.Table:
            return self._client().do_get(ticket, self._options()).read_all()

        table = self._again(attempt, was_not_done if writes else is_worth_a_retry)
        return _count_of(table) if writes else table

    def _run_prepared(self, query: str, batch: pa.RecordBatch) -> pa.Table | int:
        answers = self._act(flight_sql.CREATE_ACTION, flight_sql.create_request(query))
        if not answers:
            raise UnimplementedError("the server did not answer to CreatePreparedStatement")
        prepared = flight_sql.read_create_result(answers[0])
        handle = prepared.handle
        try:
            if prepared.is_update:
                answers = self._bind(flight_sql.update_command(handle), batch)
                return flight_sql.read_record_count(answers[-1]) if answers else -1
            answers = self._bind(flight_sql.query_command(handle), batch)
            handle = (flight_sql.read_bound_handle(answers[-1]) if answers else None) or handle
            descriptor = flight.FlightDescriptor.for_command(flight_sql.query_command(handle))
            return self._fetch(self._client().get_flight_info(descriptor, self._options()))
        finally:
            self._forget(handle)

    def _bind(self, command: bytes, batch: pa.RecordBatch) -> list[bytes]:
        return self._put(flight.FlightDescriptor.for_command(command), batch.schema, iter([batch]))

    def _forget(self, handle: bytes) -> None:
        with suppress(*FLIGHT_ERRORS):  # It expires by itself.
            self._act(flight_sql.CLOSE_ACTION, flight_sql.close_request(handle))


def _descriptor(command: dict[str, Any]) -> Any:
    return flight.FlightDescriptor.for_command(json.dumps(command).encode())


def _chunks(reader: Any) -> Iterator[pa.RecordBatch]:
    for chunk in reader:
        if chunk.data is not None:
            yield chunk.data


def _told_by_end(writer: Any, error: PandasDBError) -> PandasDBError:
    """End a stream that failed; return the error that tells more, what writing met or what the end does."""
    try:
        writer.close()
    except FLIGHT_ERRORS as last:
        told = from_flight(last)
        if told.from_server and not error.from_server:
            return told
    return error


def _regroup(first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch], rows: int | None) -> Iterator[pa.Table]:
    """Make tables of batches: one of each, or of so many rows each but for the last."""
    if first is None:
        return
    held: list[pa.RecordBatch] = []
    count = 0
    batch: pa.RecordBatch | None = first
    while batch is not None:
        if rows is None:
            if batch.num_rows:
                yield pa.Table.from_batches([batch])
        else:
            held.append(batch)
            count += batch.num_rows
            while count >= rows:
                table = pa.Table.from_batches(held)
                yield table.slice(0, rows)
                held, count = table.slice(rows).to_batches(), count - rows
        batch = next(rest, None)
    if count:
        yield pa.Table.from_batches(held)


def _count_of(table: pa.Table) -> pa.Table | int:
    """Return the number of rows that a statement changed, which is what one that writes answers."""
    if table.num_rows == 1 and table.column_names == ["count"]:
        return int(table.column(0)[0].as_py())
    return table
