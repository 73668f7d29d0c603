"""Flight SQL's sessions, cancelling, polling, renewing and the list of actions, on the wire."""

from __future__ import annotations

import conftest
import flight_sql as fs
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import wire
from frames import load, metrics, refused, sql, table_name

INVALID_NAME, INVALID_VALUE = 1, 2
ENDLESS = "SELECT a.value * b.value AS x FROM generate_series(1, 30000) a, generate_series(1, 30000) b"
RUNNING = "pandas_db_calls_running"
STANDARD_ACTIONS = {
    "CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "RenewFlightEndpoint", "SetSessionOptions",
    "GetSessionOptions", "CloseSession",
}  # fmt: skip
OUR_ACTIONS = {
    "list_versions",
    "describe_dataframe",
    "delete_dataframe",
    "delete_version",
    "set_retention",
    "compact",
    "vacuum",
}


@pytest.fixture
def raw(server):
    """A client without a library, and so with a connection of its own."""
    with fs.raw_sql(server.flight) as client:
        yield client


def test_all_actions_are_told(raw):
    told = raw.actions()
    assert STANDARD_ACTIONS | OUR_ACTIONS <= set(told)
    assert all(told.values()), "each says what it takes"


# Options


def test_a_session_begins_with_the_defaults(raw):
    options = raw.get_options()
    assert (options["catalog"], options["schema"]) == ("pandas_db", "public")


def test_options_are_set_and_erased_one_by_one(raw):
    assert raw.set_options(schema="sales/eu") == {}
    assert raw.set_options(catalog="pandas_db") == {}
    assert raw.get_options()["schema"] == "sales/eu"
    assert raw.set_options(schema=None) == {}
    assert raw.get_options()["schema"] == "public"


def test_the_schema_is_that_of_bare_names(client, raw, name):
    load(client, pa.table({"x": [1]}), f"{name}/data")
    query = "SELECT x FROM data"
    with refused("NOT_FOUND"):
        raw.query_info(fs.statement(query))
    assert raw.set_options(schema=name) == {}
    info = raw.query_info(fs.statement(query))
    assert client.do_get(flight.Ticket(info.tickets[0])).read_all().to_pydict() == {"x": [1]}
    assert raw.prepare(query).dataset_schema.names == ["x"]
    with refused("NOT_FOUND"):
        client.get_flight_info(flight.FlightDescriptor.for_command(fs.statement(query)))
    assert raw.action("CloseSession")
    with refused("NOT_FOUND"):
        raw.query_info(fs.statement(query))


@pytest.mark.parametrize(
    "option, value, error",
    [
        ("colour", "red", INVALID_NAME),
        ("datafusion.execution.batch_size", "1", INVALID_NAME),
        ("", "x", INVALID_NAME),
        ("catalog", "other", INVALID_VALUE),
        ("catalog", 7, INVALID_VALUE),
        ("schema", "a//b", INVALID_VALUE),
        ("schema", ["a"], INVALID_VALUE),
        ("schema", True, INVALID_VALUE),
        ("endpoints", 0, INVALID_VALUE),
        ("endpoints", 1_000_000, INVALID_VALUE),
        ("endpoints", 1.5, INVALID_VALUE),
        ("query_timeout", "-1", INVALID_VALUE),
        ("query_timeout", "soon", INVALID_VALUE),
    ],
)
def test_an_option_that_cannot_be_set_is_told(raw, option, value, error):
    before = raw.get_options()
    assert raw.set_options(**{option: value}) == {option: error}
    assert raw.get_options() == before


def test_some_options_may_be_set_and_others_not(raw):
    assert raw.set_options(schema="sales", colour="red") == {"colour": INVALID_NAME}
    assert raw.get_options()["schema"] == "sales"


def test_a_session_is_of_its_connection(server, raw):
    assert raw.set_options(schema="sales") == {}
    with fs.raw_sql(server.flight) as other:
        assert other.get_options()["schema"] == "public"


def cookie(raw: fs.RawSql, kind: str, body: bytes = b"") -> str | None:
    """Call an action, and return the cookie that its answer sets."""
    call = raw.channel.unary_stream(wire._SERVICE + "DoAction")(
        wire.text(1, kind) + wire.text(2, body), metadata=raw.headers
    )
    list(call)
    headers = [value for key, value in [*call.initial_metadata(), *call.trailing_metadata()] if key == "set-cookie"]
    return headers[0].split(";")[0] if headers else None


def set_schema(schema: str) -> bytes:
    """Make the body of a SetSessionOptions."""
    return wire.text(1, wire.text(1, "schema") + wire.text(2, fs.write_option(schema)))


def test_a_cookie_carries_the_session_to_any_connection_and_server(start_server):
    first, second = start_server(), start_server()
    with fs.raw_sql(first.flight) as raw:
        found = cookie(raw, "SetSessionOptions", set_schema("sales"))
    assert found
    for server in (first, second):
        with fs.raw_sql(server.flight, headers=[("cookie", f"other=1; {found}")]) as raw:
            assert raw.get_options()["schema"] == "sales"
        with fs.raw_sql(server.flight) as raw:
            assert raw.get_options()["schema"] == "public"


def test_asking_makes_no_session(raw):
    assert cookie(raw, "GetSessionOptions") is None


def test_a_forged_cookie_is_refused(server, raw):
    name, _, value = cookie(raw, "SetSessionOptions", set_schema("sales")).partition("=")
    middle = len(value) // 2
    for bad in (value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :], value[:-6], "x"):
        with (
            fs.raw_sql(server.flight, headers=[("cookie", f"{name}={bad}")]) as forger,
            refused("INVALID_ARGUMENT", "UNAUTHENTICATED"),
        ):
            forger.get_options()


def test_a_session_may_be_closed_always(raw):
    for _ in range(2):
        (result,) = raw.action("CloseSession")
        assert dict(wire.fields(result)) == {1: 1}


@pytest.mark.parametrize(
    "kind",
    [
        "SetSessionOptions",
        "CancelFlightInfo",
        "RenewFlightEndpoint",
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "CancelQuery",
    ],
)
@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\xff", b"hello"], ids=["tag", "cut", "text"])
def test_a_damaged_body_is_refused(raw, kind, body):
    with refused("INVALID_ARGUMENT"):
        raw.action(kind, body)


# Endpoints


def test_a_result_comes_through_several_endpoints_when_asked_for(client, raw, name):
    table = pa.table({"day": pa.array([i % 40 for i in range(4_000)], pa.int32()).cast(pa.date32()), "x": range(4_000)})
    load(client, table, name, columns_keys={"day": "Date"})
    query = f"SELECT x, day FROM {table_name(name)} WHERE x % 2 = 0"
    assert len(raw.query_info(fs.statement(query)).tickets) == 1
    assert raw.set_options(endpoints=4) == {}
    info = raw.query_info(fs.statement(query))
    assert 1 < len(info.tickets) <= 4 and not info.locations
    parts = [client.do_get(flight.Ticket(ticket)).read_all() for ticket in info.tickets]
    assert all(part.schema.equals(info.schema) for part in parts)
    assert sorted(value for part in parts for value in part["x"].to_pylist()) == list(range(0, 4_000, 2))
    ordered = raw.query_info(fs.statement(query + " ORDER BY x DESC"))
    found = [v for ticket in ordered.tickets for v in client.do_get(flight.Ticket(ticket)).read_all()["x"].to_pylist()]
    assert found == list(range(3_998, -1, -2))
    assert ordered.ordered or len(ordered.tickets) == 1


@pytest.mark.parametrize("others", ["VALUES (7), (8)", "SELECT 7", "SELECT version FROM {}"])
def test_rows_that_are_in_no_chunk_come_once(client, raw, name, others):
    table = pa.table({"day": pa.array([i % 40 for i in range(400)], pa.int32()).cast(pa.date32()), "x": range(400)})
    load(client, table, name, columns_keys={"day": "Date"})
    query = f"SELECT x FROM {table_name(name)} UNION ALL {others.format(table_name(name + '$versions'))}"
    expected = sorted(sql(client, query)["x"].to_pylist())
    assert raw.set_options(endpoints=4) == {}
    info = raw.query_info(fs.statement(query))
    found = [v for ticket in info.tickets for v in client.do_get(flight.Ticket(ticket)).read_all()["x"].to_pylist()]
    assert sorted(found) == expected


# Cancelling


def cancel(raw: fs.RawSql, info: bytes) -> int:
    """Cancel a FlightInfo, and return the status."""
    (result,) = raw.action("CancelFlightInfo", wire.text(1, info))
    return dict(wire.fields(result)).get(1, 0)


@pytest.mark.parametrize("kind", ["CancelFlightInfo", "CancelQuery"])
def test_a_query_that_is_cancelled_ends(server, raw, kind):
    info = raw.query_info(fs.statement(ENDLESS))
    stream = raw.get(info.tickets[0])
    next(stream)
    with fs.raw_sql(server.flight) as other:
        if kind == "CancelFlightInfo":
            assert cancel(other, info.raw) in (fs.CANCELLED, fs.CANCELLING)
        else:
            (result,) = other.action(kind, fs.command("ActionCancelQueryRequest", wire.text(1, info.raw)))
            assert fs.unpacked(result, "ActionCancelQueryResult")[1] in (fs.CANCELLED, fs.CANCELLING)
    with refused("CANCELLED"):
        for _ in stream:
            pass


def test_a_query_that_is_cancelled_before_it_is_fetched_is_not_run(raw):
    info = raw.query_info(fs.statement(ENDLESS))
    assert cancel(raw, info.raw) in (fs.CANCELLED, fs.CANCELLING)
    with refused("CANCELLED", "NOT_FOUND"):
        list(raw.get(info.tickets[0]))
    assert cancel(raw, info.raw) in (fs.CANCELLED, fs.CANCELLING)


def test_cancelling_one_query_leaves_others(client, raw):
    one, other = raw.query_info(fs.statement(ENDLESS)), raw.query_info(fs.statement("SELECT 1 AS x"))
    cancel(raw, one.raw)
    assert client.do_get(flight.Ticket(other.tickets[0])).read_all().to_pydict() == {"x": [1]}


def test_a_client_that_goes_away_ends_its_query(start_server):
    """The gauge of running calls goes back to none."""
    server = start_server()
    with fs.raw_sql(server.flight) as leaving:
        info = leaving.query_info(fs.statement(ENDLESS))
        call = leaving.channel.unary_stream(wire._SERVICE + "DoGet")(wire.text(1, info.tickets[0]))
        next(call)
        assert metrics(server)[RUNNING] == 1
        call.cancel()
    assert any(metrics(server)[RUNNING] == 0 for _ in range(10_000)), "each look asks the server anew"


def test_a_time_limit_of_the_session_ends_a_query(raw):
    assert raw.set_options(query_timeout="50ms") == {}
    with refused("DEADLINE_EXCEEDED"):
        for ticket in raw.query_info(fs.statement(ENDLESS + " ORDER BY x")).tickets:
            list(raw.get(ticket))


# Polling and renewing


def test_polling_gives_the_whole_result(client, raw, name):
    load(client, pa.table({"x": [1, 2, 3]}), name)
    poll = raw.poll(wire.command_descriptor(fs.statement(f"SELECT x FROM {table_name(name)} ORDER BY x")))
    assert 2 not in poll, "without a descriptor the query is complete"
    info = fs.read_info(poll[1])
    assert client.do_get(flight.Ticket(info.tickets[0])).read_all().to_pydict() == {"x": [1, 2, 3]}
    by_path = fs.read_info(raw.poll(wire.path_descriptor(*name.split("/")))[1])
    assert client.do_get(flight.Ticket(by_path.tickets[0])).read_all().num_rows == 3
    handle = raw.prepare("SELECT 1 AS x").handle
    assert fs.read_info(raw.poll(wire.command_descriptor(fs.prepared_query(handle)))[1]).schema.names == ["x"]
    assert fs.read_info(raw.poll(wire.command_descriptor(fs.tables()))[1]).schema.names[0] == "catalog_name"


def test_polling_for_nothing_is_refused(raw):
    with refused("INVALID_ARGUMENT", "NOT_FOUND"):
        raw.poll(b"")
    with refused("NOT_FOUND"):
        raw.poll(wire.path_descriptor("no", "such", "dataset"))


def test_an_endpoint_is_renewed(client, raw, name):
    load(client, pa.table({"x": [1]}), name)
    for descriptor in (
        wire.command_descriptor(fs.statement(f"SELECT x FROM {table_name(name)}")),
        wire.path_descriptor(*name.split("/")),
    ):
        info = fs.read_info(raw._unary("GetFlightInfo", descriptor))
        (renewed,) = raw.action("RenewFlightEndpoint", wire.text(1, info.endpoints[0]))
        ticket = dict(wire.fields(dict(wire.fields(renewed))[1]))[1]
        assert client.do_get(flight.Ticket(ticket)).read_all().to_pydict() == {"x": [1]}
        assert dict(wire.fields(renewed)).get(3), "it says until when it is good"


def test_a_forged_endpoint_is_not_renewed(raw):
    with refused("INVALID_ARGUMENT"):
        raw.action("RenewFlightEndpoint", wire.text(1, wire.text(1, wire.text(1, b"forged"))))


def test_an_endpoint_tells_until_when_it_is_good(raw):
    """By that clients know that they may fetch it again."""
    info = raw.query_info(fs.statement("SELECT 1"))
    assert dict(wire.fields(info.endpoints[0])).get(3)


def test_what_a_client_set_is_gone_with_the_server(start_server):
    server = start_server()
    with fs.raw_sql(server.flight) as raw:
        raw.set_options(schema="sales")
    assert server.stop() == 0
    assert server not in conftest._running
    with fs.raw_sql(start_server().flight) as raw:
        assert raw.get_options()["schema"] == "public"
