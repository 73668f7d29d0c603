"""What a statement held is free soon after its end, however it ends: threads, memory, files on disk.

Each test begins a statement that would take far longer than anybody waits, ends it once it is seen to hold what the
test is about, and asks the server again and again until all of it is given back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import flight_sql as fs
import grpc
import pyarrow as pa
import pytest
import wire
from conftest import Server
from frames import FLIGHT_ERRORS, load, metrics, sql
from test_time_limits import ENDLESS

RUNNING, MEMORY, SPILLED = "pandas_db_calls_running", "pandas_db_query_memory_bytes", "pandas_db_spilled_bytes"
LOOKS = 20  # Looks at the server between two looks at its threads, which count hundredths of a second.
PATIENCE = 30

SERIES = "generate_series(1, 200000000) t(v)"
SPILLING = {
    "sort": f"SELECT v, (v * 7919) % 1000003 AS k FROM {SERIES} ORDER BY k, v",
    "aggregate": f"SELECT k, count(*) FROM (SELECT v % 50000017 AS k FROM {SERIES}) GROUP BY k ORDER BY 2",
}
MEMORY_HOLDING = {
    "hash join": f"SELECT count(*) FROM (SELECT * FROM {SERIES} LIMIT 500000) a JOIN {SERIES.replace('t(v)', 'b(w)')} "
    "ON a.v % 1000 = b.w % 1000 AND a.v + b.w = 3",
}
ENDS = ["time_limit", "CancelFlightInfo", "cancelled_call", "closed_connection"]


class Watch:
    """What a server holds.

    Parameters
    ----------
    server : Server
    spill_folder : Path
        Where its queries spill.
    """

    def __init__(self, server: Server, spill_folder: Path):
        self.server, self.spill_folder = server, spill_folder
        self.memory_before = metrics(server).get(MEMORY)
        assert self.memory_before is not None, "the memory of queries is among the metrics"

    def files(self) -> list[Path]:
        """Return the files of queries on disk."""
        return [path for path in self.spill_folder.rglob("*") if path.is_file()]

    def ticks(self) -> int:
        """Return the processor time of the threads that queries compute on."""
        used = 0
        for stat in Path(f"/proc/{self.server.pid}/task").glob("*/stat"):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            if name.startswith("query"):
                user, system = rest.split()[11:13]
                used += int(user) + int(system)
        return used

    def wait_for(self, what: str, is_so: Callable[[dict[str, float]], bool]) -> None:
        """Look at the server again and again until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not is_so(metrics(self.server)):
            assert time.monotonic() < deadline, f"{what}: {metrics(self.server)}, {self.files()}"

    def _is_at_rest(self, held: dict[str, float]) -> bool:
        if held[RUNNING] or held[MEMORY] > self.memory_before or held[SPILLED] or self.files():
            return False
        before = self.ticks()
        for _ in range(LOOKS):
            metrics(self.server)
        return self.ticks() == before

    def wait_for_rest(self) -> float:
        """Wait until nothing of the statement is left, and return after how many seconds that was."""
        began = time.monotonic()
        self.wait_for("something is not given back", self._is_at_rest)
        return time.monotonic() - began


@pytest.fixture
def watched(start_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Watch]:
    """A function that starts a server which spills early, and watches it."""

    def start(**settings: object) -> Watch:
        folder = tmp_path / "spill"
        return Watch(start_server(spill_dir=folder, memory_limit="64MiB", **settings), folder)

    return start


def get_call(raw: fs.RawSql, ticket: bytes) -> grpc.Call:
    """Start a DoGet that can be cancelled."""
    return raw.channel.unary_stream(wire._SERVICE + "DoGet")(wire.text(1, ticket))


def drain(call: Iterator[bytes], into: list[str]) -> threading.Thread:
    """Read a result to its end in the background; note how it ends."""

    def read() -> None:
        try:
            for _ in call:
                pass
            into.append("OK")
        except grpc.RpcError as error:
            into.append(error.code().name)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def end(how: str, raw: fs.RawSql, info: fs.Info, call: grpc.Call) -> None:
    """End a fetch; its time limit ends it by itself."""
    match how:
        case "CancelFlightInfo":
            raw.action("CancelFlightInfo", wire.text(1, info.raw))
        case "cancelled_call":
            call.cancel()
        case "closed_connection":
            raw.channel.close()


OUTCOMES = {
    "time_limit": {"DEADLINE_EXCEEDED"},
    "CancelFlightInfo": {"CANCELLED"},
    "cancelled_call": {"CANCELLED"},
    "closed_connection": {"CANCELLED", "UNAVAILABLE"},
}


def fetch_and_end(watch: Watch, how: str, query: str, holds: Callable[[dict[str, float]], bool]) -> float:
    """Begin to fetch, wait until the query holds something, end it, and wait until nothing is left of it."""
    with fs.raw_sql(watch.server.flight) as raw:
        if how == "time_limit":
            assert raw.set_options(query_timeout="8s") == {}
        info = raw.query_info(fs.statement(query))
        call = get_call(raw, info.tickets[0])
        outcome: list[str] = []
        reading = drain(call, outcome)
        watch.wait_for("the query holds nothing", holds)
        end(how, raw, info, call)
        reading.join(PATIENCE)
        assert outcome and outcome[0] in OUTCOMES[how]
    seconds = watch.wait_for_rest()
    with watch.server.connect() as client:
        assert sql(client, "SELECT 1 AS one").to_pydict() == {"one": [1]}
    return seconds


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("query", SPILLING.values(), ids=SPILLING)
def test_files_on_disk_are_deleted(watched: Callable[..., Watch], query: str, how: str) -> None:
    watch = watched()

    def spills(held: dict[str, float]) -> bool:
        return held[SPILLED] > 0 and bool(watch.files())

    fetch_and_end(watch, how, query, spills)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("query", MEMORY_HOLDING.values(), ids=MEMORY_HOLDING)
def test_memory_is_given_back(watched: Callable[..., Watch], query: str, how: str) -> None:
    watch = watched()
    fetch_and_end(watch, how, query, lambda held: held[MEMORY] > watch.memory_before)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("query", ENDLESS.values(), ids=ENDLESS)
def test_threads_come_to_rest(watched: Callable[..., Watch], query: str, how: str) -> None:
    watch = watched()
    before = watch.ticks()
    fetch_and_end(watch, how, query, lambda _: watch.ticks() > before)


def test_a_prepared_statement_gives_back_what_it_holds(watched: Callable[..., Watch]) -> None:
    watch = watched()
    with fs.raw_sql(watch.server.flight) as raw:
        prepared = raw.prepare(SPILLING["sort"].replace("7919", "$1"))
        handle = raw.bind(prepared.handle, pa.table({"p": pa.array([7919], pa.int64())}))
        info = raw.query_info(fs.prepared_query(handle))
        call = get_call(raw, info.tickets[0])
        outcome: list[str] = []
        reading = drain(call, outcome)
        watch.wait_for("it does not spill", lambda held: held[SPILLED] > 0)
        call.cancel()
        reading.join(PATIENCE)
        assert outcome == ["CANCELLED"]
    watch.wait_for_rest()


WRITES = {
    "insert": f"INSERT INTO t SELECT k FROM ({SPILLING['sort']})",
    "create": f"CREATE TABLE made AS {SPILLING['sort']}",
    "update": f"UPDATE t SET x = (SELECT count(*) FROM ({SPILLING['aggregate']}))",
    "delete": f"DELETE FROM t WHERE x > ({ENDLESS['nested loops']})",
}


@pytest.mark.parametrize("how", ["time_limit", "cancelled_call", "closed_connection"])
@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES)
def test_a_write_gives_back_what_it_holds(watched: Callable[..., Watch], statement: str, how: str) -> None:
    """And nothing of it is stored."""
    watch = watched()
    with watch.server.connect() as client:
        load(client, pa.table({"x": pa.array([1, 2, 3], pa.int64())}), "t")
        before = watch.ticks()
        with fs.raw_sql(watch.server.flight) as raw:
            if how == "time_limit":
                assert raw.set_options(query_timeout="8s") == {}
            call = raw.put_call([wire.flight_data(wire.command_descriptor(fs.update(statement)))])
            outcome: list[str] = []
            reading = drain(call, outcome)
            watch.wait_for("it computes nothing", lambda _: watch.ticks() > before + 20)
            if how == "cancelled_call":
                call.cancel()
            elif how == "closed_connection":
                raw.channel.close()
            reading.join(PATIENCE)
            assert outcome and outcome[0] in OUTCOMES[how]
        watch.wait_for_rest()
        assert sql(client, "SELECT x FROM t ORDER BY x").to_pydict() == {"x": [1, 2, 3]}
        with pytest.raises(FLIGHT_ERRORS, match=r"\[NOT_FOUND\]"):
            sql(client, "SELECT * FROM made")


# What a planner is asked for here is within the limits, and keeps it busy for long enough to be interrupted.
HARD_TO_PLAN = {
    "operators": "SELECT * FROM (SELECT value AS a, value AS b FROM generate_series(1, 3)) WHERE "
    + " OR ".join(f"a BETWEEN {i} AND {i + 1}" for i in range(880)),
    "joins": "SELECT * FROM " + ", ".join(f"(SELECT 1 AS a{i}, 2 AS b{i}, 3 AS c{i}) t{i}" for i in range(60)),
    "windows": "SELECT "
    + ", ".join(f"sum(value + {i}) OVER (PARTITION BY value + {i}) AS s{i}" for i in range(200))
    + " FROM generate_series(1, 3)",
}


@pytest.mark.parametrize("call_name", ["GetFlightInfo", "GetSchema", "CreatePreparedStatement"])
@pytest.mark.parametrize("query", HARD_TO_PLAN.values(), ids=HARD_TO_PLAN)
def test_planning_ends_with_its_call(watched: Callable[..., Watch], query: str, call_name: str) -> None:
    """As many calls as there are threads, so that none is left for what comes after."""
    watch = watched()
    with fs.raw_sql(watch.server.flight) as raw:
        if call_name == "CreatePreparedStatement":
            body = fs.command("ActionCreatePreparedStatementRequest", wire.text(1, query))
            request, method = wire.text(1, call_name) + wire.text(2, body), raw.channel.unary_stream
            start = lambda: method(wire._SERVICE + "DoAction")(request)  # noqa: E731
        else:
            request = wire.command_descriptor(fs.statement(query))
            start = lambda: raw.channel.unary_unary(wire._SERVICE + call_name).future(request)  # noqa: E731
        before = watch.ticks()
        calls = [start() for _ in range(4)]
        watch.wait_for("nothing is planned", lambda held: held[RUNNING] == len(calls) and watch.ticks() > before)
        for call in calls:
            call.cancel()
    watch.wait_for_rest()


@pytest.mark.parametrize("query", HARD_TO_PLAN.values(), ids=HARD_TO_PLAN)
def test_planning_ends_with_its_time(watched: Callable[..., Watch], query: str) -> None:
    watch = watched(query_timeout="200ms")
    with watch.server.connect() as client, pytest.raises(FLIGHT_ERRORS, match=r"\[DEADLINE_EXCEEDED\]"):
        sql(client, query)
    watch.wait_for_rest()
