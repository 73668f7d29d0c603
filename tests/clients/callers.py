"""Callers with credentials: their clients, every call that a server takes, and the users file."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import conftest
import flight_sql as fs
import grpc
import pyarrow as pa
import pyarrow.flight as flight
import wire
from wire import text


def bearer(token: str) -> str:
    """Return the header of a bearer token."""
    return f"Bearer {token}"


def basic(user: str, password: str) -> str:
    """Return the header of a user and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _Header(flight.ClientMiddlewareFactory):
    def __init__(self, value: str):
        self.value = value

    def start_call(self, info: object) -> flight.ClientMiddleware:
        value = self.value

        class Middleware(flight.ClientMiddleware):
            def sending_headers(self) -> dict[str, str]:
                return {"authorization": value}

        return Middleware()


@contextmanager
def client_of(location: str, header: str, **options) -> Iterator[flight.FlightClient]:
    """Open a client that sends an authorization header with each call."""
    with flight.connect(location, middleware=[_Header(header)], **options) as client:
        yield client


def raw_of(location: str, header: str | None) -> fs.RawSql:
    """Return a raw client that sends an authorization header, or none."""
    return fs.RawSql(location, headers=[] if header is None else [("authorization", header)])


def handshake(raw: fs.RawSql, *payloads: bytes) -> tuple[str, bytes]:
    """Shake hands; return the authorization header of the answer, and its payload."""
    requests = iter([text(2, payload) for payload in payloads])
    call = raw.channel.stream_stream(wire._SERVICE + "Handshake")(requests, metadata=raw.headers)
    (reply,) = list(call)
    header = dict(call.initial_metadata())["authorization"]
    return header, dict(wire.fields(reply)).get(2, b"")


def basic_payload(user: str, password: str) -> bytes:
    """Return the BasicAuth message of older clients."""
    return text(2, user) + text(3, password)


def _flights(raw: fs.RawSql, request: bytes = b"") -> list[bytes]:
    return list(raw.channel.unary_stream(wire._SERVICE + "ListFlights")(request, metadata=raw.headers))


def _get(raw: fs.RawSql, ticket: bytes) -> list[bytes]:
    return list(raw.channel.unary_stream(wire._SERVICE + "DoGet")(text(1, ticket), metadata=raw.headers))


def _exchange(raw: fs.RawSql) -> list[bytes]:
    return list(raw.channel.stream_stream(wire._SERVICE + "DoExchange")(iter([b""]), metadata=raw.headers))


FRAME = pa.table({"x": [1]})

METADATA_COMMANDS = (
    "CommandGetCatalogs",
    "CommandGetDbSchemas",
    "CommandGetTables",
    "CommandGetTableTypes",
    "CommandGetSqlInfo",
    "CommandGetXdbcTypeInfo",
    "CommandGetPrimaryKeys",
    "CommandGetExportedKeys",
    "CommandGetImportedKeys",
    "CommandGetCrossReference",
)


def _body(name: str) -> bytes:
    return json.dumps({"dataframe_name": name}).encode()


def flight_calls(name: str) -> dict[str, Callable[[fs.RawSql], object]]:
    """Return every call of Flight and Flight SQL, by name, on a dataset of one segment."""
    query = f"SELECT * FROM {name}"
    frame = json.dumps({"dataframe_name": name}).encode()
    put = wire.command_descriptor(json.dumps({"dataframe_name": name}).encode())
    calls: dict[str, Callable[[fs.RawSql], object]] = {
        "ListFlights": _flights,
        "GetFlightInfo": lambda raw: raw.query_info(frame),
        "GetFlightInfo sql": lambda raw: raw.query_info(fs.statement(query)),
        "PollFlightInfo": lambda raw: raw.poll(wire.command_descriptor(fs.statement(query))),
        "GetSchema": lambda raw: raw.schema(frame),
        "DoGet": lambda raw: _get(raw, frame),
        "DoGet sql": lambda raw: _get(raw, json.dumps({"sql": query}).encode()),
        "DoPut": lambda raw: list(
            raw.put_call(wire.flight_data(put if not n else None, *m) for n, m in enumerate(wire.ipc_messages(FRAME)))
        ),
        "DoPut update": lambda raw: raw.execute_update(fs.update(f"INSERT INTO {name} VALUES (2)")),
        "DoExchange": _exchange,
        "ListActions": lambda raw: raw.actions(),
        "CreatePreparedStatement": lambda raw: raw.prepare(query),
        "ClosePreparedStatement": lambda raw: raw.close(b"x"),
        "BeginTransaction": lambda raw: raw.action("BeginTransaction", fs.command("ActionBeginTransactionRequest")),
        "SetSessionOptions": lambda raw: raw.set_options(schema="public"),
        "GetSessionOptions": lambda raw: raw.get_options(),
        "CloseSession": lambda raw: raw.action("CloseSession"),
        "CancelFlightInfo": lambda raw: raw.action("CancelFlightInfo"),
        "unknown action": lambda raw: raw.action("no_such_action"),
    }
    for action in ("list_versions", "describe_dataframe", "delete_version", "set_retention", "compact", "vacuum"):
        calls[action] = lambda raw, action=action: raw.action(action, _body(name))
    for command in METADATA_COMMANDS:
        message = fs.command(command)
        calls[f"{command} info"] = lambda raw, message=message: raw.query_info(message)
        calls[f"{command} rows"] = lambda raw, message=message: _get(raw, message)
    calls["delete_dataframe"] = lambda raw: raw.action("delete_dataframe", _body(name))
    return calls


def code_of(call: Callable[[fs.RawSql], object], raw: fs.RawSql) -> str:
    """Run a call; return OK, or the name of its code."""
    try:
        call(raw)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def http(
    server: conftest.Server, method: str, path: str, header: str | None, body: bytes | None = None
) -> tuple[int, str]:
    """Send a request; return the status and the body of the answer."""
    headers = {} if header is None else {"Authorization": header}
    request = urllib.request.Request(server.http + path, data=body, method=method, headers=headers)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=conftest.PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def http_calls(name: str) -> list[tuple[str, str, bytes | None]]:
    """Return every route that touches data: method, path, body."""
    upload = {"dataframe": '[{"x": 1}]', "dataframe_name": name, "columns_keys": {}, "external_key": "NOW"}
    return [
        ("GET", "/dataframes", None),
        ("POST", "/dataframes/upload", json.dumps(upload | {"keep_last": False}).encode()),
        ("GET", f"/dataframes/{name}", None),
        ("POST", "/sql", json.dumps({"sql": f"SELECT * FROM {name}"}).encode()),
        ("DELETE", f"/dataframes/{name}", None),
    ]


def user(*arguments: str, password: str | None = None) -> subprocess.CompletedProcess:
    """Run ``pandas-db user``; the password goes in on stdin."""
    return subprocess.run(
        [conftest.binary(), "user", *arguments],
        env=conftest.clean_environment(),
        input=None if password is None else password + "\n",
        stdin=subprocess.DEVNULL if password is None else None,
        capture_output=True,
        text=True,
        timeout=conftest.PATIENCE,
    )


def add_user(file: Path, name: str, password: str, *options: str) -> None:
    """Add a user to the file, as an operator does."""
    ended = user("add", name, "--users-file", str(file), *options, password=password)
    assert ended.returncode == 0, ended.stderr
