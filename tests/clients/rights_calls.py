"""Every call that a server takes, with the least right that it wants: the one table of what is allowed.

The tests hold the keys of these tables against what the server and the protocol say there is, so that a method, a
command, an action or a route which is not classified here fails them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import flight_sql as fs
import wire
from rights import COLUMN, IDEMPOTENCY_KEY, KEY, VALUE, Access, Answer, Call, Caller
from rights_stage import FRAME
from rights_statements import INSERT, SELECT, put, statement_calls
from wire import number, text

READ, WRITE, ADMIN, CALLER, OPEN = Access.READ, Access.WRITE, Access.ADMIN, Access.CALLER, Access.OPEN
NOT_TAKEN = ("INVALID_ARGUMENT", "UNIMPLEMENTED")
OURS = "type.googleapis.com/pandas_db.v1."

# Methods of FlightService

_HANDLE_METHODS = ("GetFlightInfo", "PollFlightInfo", "GetSchema", "DoGet", "DoPut")


def _frame_command(name: str) -> dict:
    return {"dataframe_name": name}


def _load_command(name: str, **fields: object) -> dict:
    return {"dataframe_name": name, **fields}


def rows_after(descriptor: bytes) -> list[bytes]:
    """Return the messages of a DoPut that has rows."""
    messages = wire.ipc_messages(FRAME)
    return [wire.flight_data(None if at else descriptor, *message) for at, message in enumerate(messages)]


def _descriptor(command: bytes) -> bytes:
    return wire.command_descriptor(command)


def _asked_three_ways(method: str) -> list[Call]:
    """Return the calls of a method that takes a descriptor of a dataset."""
    forms: dict[str, Callable[[str], bytes]] = {
        "path": lambda name: wire.path_descriptor(*name.split("/")),
        "JSON": lambda name: _descriptor(json.dumps(_frame_command(name)).encode()),
        "Any": lambda name: _descriptor(wire.get_dataframe(_frame_command(name))),
    }
    return [
        Call(f"{method} {form}", READ, lambda caller, name, make=make: caller.flight(method, make(name)))
        for form, make in forms.items()
    ]


def _gets() -> list[Call]:
    forms: dict[str, Callable[[str], bytes]] = {
        "JSON": lambda name: json.dumps(_frame_command(name)).encode(),
        "Any": lambda name: wire.get_dataframe(_frame_command(name)),
        "version": lambda name: json.dumps(_frame_command(name) | {"version": 1}).encode(),
        "key": lambda name: json.dumps(_frame_command(name) | {"external_key": KEY}).encode(),
        "filter": lambda name: json.dumps(_frame_command(name) | {"filter": f"{COLUMN} > 0"}).encode(),
    }
    return [
        Call(f"DoGet {form}", READ, lambda caller, name, make=make: caller.flight("DoGet", text(1, make(name))))
        for form, make in forms.items()
    ]


def _puts() -> list[Call]:
    forms: dict[str, Callable[[str], bytes]] = {
        "path": lambda name: wire.path_descriptor(*name.split("/")),
        "JSON": lambda name: _descriptor(json.dumps(_load_command(name)).encode()),
        "Any": lambda name: _descriptor(wire.load_dataframe(_load_command(name, keep_last=True, external_key=KEY))),
        "repeat": lambda name: _descriptor(
            wire.load_dataframe(_load_command(name, external_key=KEY, idempotency_key=IDEMPOTENCY_KEY))
        ),
    }
    return [
        Call(
            f"DoPut {form}",
            WRITE,
            lambda caller, name, make=make: caller.flight("DoPut", *rows_after(make(name))),
            creates=True,
        )
        for form, make in forms.items()
    ]


METHODS: dict[str, list[Call]] = {
    "Handshake": [Call("Handshake", CALLER, lambda caller, name: caller.flight("Handshake", text(2, b"")))],
    "ListFlights": [
        Call("ListFlights", CALLER, lambda caller, name: caller.flight("ListFlights", b""), lists=True),
        Call(
            "ListFlights prefix", CALLER, lambda caller, name: caller.flight("ListFlights", text(1, name)), lists=True
        ),
    ],
    "GetFlightInfo": _asked_three_ways("GetFlightInfo"),
    "PollFlightInfo": _asked_three_ways("PollFlightInfo"),
    "GetSchema": _asked_three_ways("GetSchema"),
    "DoGet": _gets(),
    "DoPut": _puts(),
    "DoExchange": [
        Call(
            "DoExchange",
            CALLER,
            lambda caller, name: caller.flight("DoExchange", *rows_after(wire.path_descriptor(*name.split("/")))),
            answers=("UNIMPLEMENTED",),
        )
    ],
    "DoAction": [
        Call("DoAction unknown", CALLER, lambda caller, name: caller.ours("own", name), answers=("UNIMPLEMENTED",))
    ],
    "ListActions": [Call("ListActions", CALLER, lambda caller, name: caller.flight("ListActions", b""))],
}


# Commands of Flight SQL


@dataclass(frozen=True)
class Command:
    """A message of Flight SQL: the right that it wants where it is asked for, and where it is put; None: not taken."""

    make: Callable[[Caller, str], bytes]
    asked: Access | None = None
    put: Access | None = None
    lists: bool = False
    rows: bool = False
    creates: bool = False
    answers: tuple[str, ...] = ("OK",)


def _plain(command: str, message: bytes = b"") -> Callable[[Caller, str], bytes]:
    return lambda caller, name: fs.command(command, message)


def _keys(command: str) -> Callable[[Caller, str], bytes]:
    return lambda caller, name: fs.keys(command, name.rsplit("/", 1)[1], name.rsplit("/", 1)[0])


def _ingest(mode: str, **options: object) -> Callable[[Caller, str], bytes]:
    def make(_: Caller, name: str) -> bytes:
        schema, last = name.rsplit("/", 1)
        return fs.ingest(last, schema=schema, mode=fs.MODES[mode], **options)

    return make


COMMANDS: dict[str, list[Command]] = {
    "CommandGetSqlInfo": [Command(_plain("CommandGetSqlInfo"), CALLER)],
    "CommandGetXdbcTypeInfo": [Command(_plain("CommandGetXdbcTypeInfo"), CALLER)],
    "CommandGetCatalogs": [Command(_plain("CommandGetCatalogs"), CALLER)],
    "CommandGetDbSchemas": [Command(_plain("CommandGetDbSchemas"), CALLER)],
    "CommandGetTables": [
        Command(_plain("CommandGetTables"), CALLER, lists=True),
        Command(_plain("CommandGetTables", number(5, True)), CALLER, lists=True),
        Command(lambda caller, name: fs.tables(None, *name.rsplit("/", 1), (), True), CALLER, lists=True),
    ],
    "CommandGetTableTypes": [Command(_plain("CommandGetTableTypes"), CALLER)],
    "CommandGetPrimaryKeys": [Command(_keys("CommandGetPrimaryKeys"), CALLER)],
    "CommandGetExportedKeys": [Command(_keys("CommandGetExportedKeys"), CALLER)],
    "CommandGetImportedKeys": [Command(_keys("CommandGetImportedKeys"), CALLER)],
    "CommandGetCrossReference": [
        Command(lambda caller, name: fs.cross_reference(*[name.rsplit("/", 1)[1]] * 2), CALLER)
    ],
    "CommandStatementQuery": [Command(lambda caller, name: fs.statement(SELECT.sql(name)), READ)],
    "CommandStatementSubstraitPlan": [Command(_plain("CommandStatementSubstraitPlan"))],
    # A ticket, which only DoGet takes: `_ticket_calls`.
    "TicketStatementQuery": [],
    "CommandPreparedStatementQuery": [
        Command(lambda caller, name: fs.prepared_query(caller.prepare(SELECT.sql(name))), READ)
    ],
    "CommandStatementUpdate": [Command(lambda caller, name: fs.update(INSERT.sql(name)), put=WRITE)],
    "CommandPreparedStatementUpdate": [
        Command(lambda caller, name: fs.prepared_update(caller.prepare(INSERT.sql(name))), put=WRITE)
    ],
    "CommandStatementIngest": [
        Command(_ingest("append"), put=WRITE, rows=True),
        Command(_ingest("create"), put=WRITE, rows=True, creates=True, answers=("ALREADY_EXISTS",)),
        Command(_ingest("create_append"), put=WRITE, rows=True, creates=True),
        Command(_ingest("create_append", options={"external_key": KEY}), put=WRITE, rows=True, creates=True),
        Command(_ingest("replace"), put=ADMIN, rows=True, creates=True),
    ],
}
# A statement must be prepared first, which tells as much as reading does.
_PREPARED = {"CommandPreparedStatementQuery": READ, "CommandPreparedStatementUpdate": READ}


def _command_calls() -> Iterator[Call]:
    for title, commands in COMMANDS.items():
        for at, command in enumerate(commands):
            for method in _HANDLE_METHODS:
                wanted = command.put if method == "DoPut" else command.asked
                access, answers = (wanted, command.answers) if wanted else (CALLER, NOT_TAKEN)
                yield Call(
                    f"{method} {title} {at}",
                    max(access, _PREPARED.get(title, OPEN)),
                    lambda caller, name, method=method, command=command: _send(method, command, caller, name),
                    creates=command.creates and wanted is not None,
                    lists=command.lists and method == "DoGet",
                    # Binding no values to a statement that wants none is a matter of form.
                    answers=answers if title != "CommandPreparedStatementQuery" or wanted else ("OK", *NOT_TAKEN),
                )


def _send(method: str, command: Command, caller: Caller, name: str) -> Answer:
    message = command.make(caller, name)
    if method == "DoGet":
        return caller.flight(method, text(1, message))
    if method == "DoPut":
        return caller.flight(method, *(rows_after(_descriptor(message)) if command.rows else [put(message)]))
    return caller.flight(method, _descriptor(message))


# Actions


def _any(message: str, **fields: bytes) -> Callable[[str], bytes]:
    return lambda name: wire.pack_any(OURS + message, text(1, name) + b"".join(fields.values()))


def _ours(kind: str, access: Access, message: str, fields: dict[str, int] | None = None) -> list[Call]:
    """Return the calls of one of our own actions: its body in JSON, and in an Any, where numbers are field 2."""
    fields = fields or {}
    packed = _any(message, **{key: number(2, value) for key, value in fields.items()})
    return [
        Call(f"{kind} JSON", access, lambda caller, name: caller.ours(kind, name, **fields)),
        Call(f"{kind} Any", access, lambda caller, name: caller.action(kind, packed(name))),
    ]


def _cancel(caller: Caller, name: str) -> Answer:
    return caller.action("CancelFlightInfo", text(1, caller.info(fs.statement(SELECT.sql(name))).raw))


def _cancel_query(caller: Caller, name: str) -> Answer:
    info = caller.info(fs.statement(SELECT.sql(name))).raw
    return caller.action("CancelQuery", fs.command("ActionCancelQueryRequest", text(1, info)))


def _renew(caller: Caller, name: str) -> Answer:
    return caller.action("RenewFlightEndpoint", text(1, caller.info(fs.statement(SELECT.sql(name))).endpoints[0]))


def _prepare(caller: Caller, name: str) -> Answer:
    body = fs.command("ActionCreatePreparedStatementRequest", text(1, SELECT.sql(name)))
    return caller.action("CreatePreparedStatement", body)


def _close(caller: Caller, name: str) -> Answer:
    handle = caller.prepare(SELECT.sql(name))
    return caller.action("ClosePreparedStatement", fs.command("ActionClosePreparedStatementRequest", text(1, handle)))


def _set_options(caller: Caller, name: str) -> Answer:
    option = text(1, "schema") + text(2, fs.write_option(name.rsplit("/", 1)[0]))
    return caller.action("SetSessionOptions", text(1, option))


ACTIONS: dict[str, list[Call]] = {
    "list_versions": _ours("list_versions", READ, "ListVersions"),
    "describe_dataframe": _ours("describe_dataframe", READ, "DescribeDataframe"),
    "delete_version": _ours("delete_version", WRITE, "DeleteVersion", {"version": 1}),
    "delete_dataframe": _ours("delete_dataframe", ADMIN, "DeleteDataframe"),
    "set_retention": _ours("set_retention", ADMIN, "SetRetention", {"keep_versions": 3}),
    "compact": _ours("compact", ADMIN, "Compact"),
    "vacuum": _ours("vacuum", ADMIN, "Vacuum"),
    "CreatePreparedStatement": [Call("CreatePreparedStatement", READ, _prepare)],
    "ClosePreparedStatement": [Call("ClosePreparedStatement", READ, _close)],
    "CancelFlightInfo": [Call("CancelFlightInfo", READ, _cancel)],
    "CancelQuery": [Call("CancelQuery", READ, _cancel_query)],
    "RenewFlightEndpoint": [Call("RenewFlightEndpoint", READ, _renew)],
    "SetSessionOptions": [Call("SetSessionOptions", CALLER, _set_options)],
    "GetSessionOptions": [Call("GetSessionOptions", CALLER, lambda caller, name: caller.action("GetSessionOptions"))],
    "CloseSession": [Call("CloseSession", CALLER, lambda caller, name: caller.action("CloseSession"))],
}
# Actions of Flight SQL that are not offered (contract, section 5).
NOT_OFFERED = ("BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint", "CreatePreparedSubstraitPlan")


def _not_offered() -> Iterator[Call]:
    for kind in NOT_OFFERED:
        body = fs.command(f"Action{kind}Request")
        yield Call(
            kind, CALLER, lambda caller, name, kind=kind, body=body: caller.action(kind, body), answers=NOT_TAKEN
        )


def _ticket_calls() -> Iterator[Call]:
    """A ticket where no ticket is taken."""
    for method in _HANDLE_METHODS:
        if method != "DoGet":
            make = Command(lambda caller, name: caller.info(fs.statement(SELECT.sql(name))).tickets[0])
            run = lambda caller, name, method=method, make=make: _send(method, make, caller, name)  # noqa: E731
            yield Call(f"{method} TicketStatementQuery", READ, run, answers=NOT_TAKEN)


# Routes of the REST API, by method and path as openapi.json names them.


def _upload(name: str) -> dict:
    return {"dataframe": json.dumps([{COLUMN: VALUE}]), "dataframe_name": name, "columns_keys": {}, "keep_last": False}


def _of_nobody(method: str) -> list[Call]:
    """Return the one call of a route to a dataset named upload, which nobody has."""
    path = "/dataframes/upload"
    return [Call(f"{method} {path}", CALLER, lambda caller, name: caller.http(method, path), answers=("NOT_FOUND",))]


ROUTES: dict[tuple[str, str], list[Call]] = {
    ("post", "/dataframes/upload"): [
        Call(
            "POST /dataframes/upload",
            WRITE,
            lambda caller, name: caller.http("POST", "/dataframes/upload", _upload(name)),
            creates=True,
        ),
        Call(
            "POST /dataframes/upload repeat",
            WRITE,
            lambda caller, name: caller.http("POST", "/dataframes/upload", _upload(name), Idempotency_Key="over_http"),
            creates=True,
        ),
    ],
    ("get", "/dataframes/upload"): _of_nobody("GET"),
    ("delete", "/dataframes/upload"): _of_nobody("DELETE"),
    ("get", "/dataframes"): [
        Call("GET /dataframes", CALLER, lambda caller, name: caller.http("GET", "/dataframes"), lists=True),
        Call(
            "GET /dataframes prefix",
            CALLER,
            lambda caller, name: caller.http("GET", f"/dataframes?prefix={name}"),
            lists=True,
        ),
        Call("HEAD /dataframes", CALLER, lambda caller, name: caller.http("HEAD", "/dataframes")),
    ],
    ("get", "/dataframes/{name}"): [
        Call(f"GET /dataframes/name{query}", READ, lambda caller, name, query=query: _get_rows(caller, name, query))
        for query in ("", "?use_last=true", f"?external_key={KEY}", "?version=1", "?columns=" + COLUMN)
    ]
    + [
        Call(
            "GET /dataframes/name%2F",
            READ,
            lambda caller, name: caller.http("GET", "/dataframes/" + name.replace("/", "%2F")),
        ),
        Call("HEAD /dataframes/name", READ, lambda caller, name: caller.http("HEAD", f"/dataframes/{name}")),
    ],
    ("delete", "/dataframes/{name}"): [
        Call("DELETE /dataframes/name", ADMIN, lambda caller, name: caller.http("DELETE", f"/dataframes/{name}"))
    ],
    # Each kind of statement is sent there too: `rights_statements`.
    ("post", "/sql"): [
        Call("POST /sql", READ, lambda caller, name: caller.http("POST", "/sql", {"sql": SELECT.sql(name)})),
    ],
    ("get", "/openapi.json"): [
        Call("GET /openapi.json", OPEN, lambda caller, name: caller.http("GET", "/openapi.json"))
    ],
    ("get", "/healthz"): [Call("GET /healthz", OPEN, lambda caller, name: caller.http("GET", "/healthz"))],
    ("get", "/readyz"): [Call("GET /readyz", OPEN, lambda caller, name: caller.http("GET", "/readyz"))],
    ("get", "/metrics"): [Call("GET /metrics", OPEN, lambda caller, name: caller.http("GET", "/metrics"))],
}


def _get_rows(caller: Caller, name: str, query: str) -> Answer:
    return caller.http("GET", f"/dataframes/{name}{query}")


def every_call() -> list[Call]:
    """Return all calls of all tables."""
    tables = [*METHODS.values(), *ACTIONS.values(), *ROUTES.values()]
    generated = [*_command_calls(), *_ticket_calls(), *_not_offered(), *statement_calls()]
    calls = [call for calls in tables for call in calls] + generated
    assert len({call.about for call in calls}) == len(calls)
    return calls
