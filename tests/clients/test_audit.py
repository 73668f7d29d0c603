"""`--audit-log`: one line for each call, with who, what, which dataset, how much and how it ended."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import callers
import pyarrow as pa
import pytest
from callers import add_user, basic, client_of, code_of, flight_calls, http, raw_of
from frames import get, list_names, load, refused, sql
from test_serve import assert_refuses_to_start

ANN = ("ann", "correct horse battery")
FRAME = pa.table({"x": [1, 2, 3]})


def lines(path: Path) -> list[dict]:
    """Return the lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def audited(start_server, tmp_path):
    """A server with users and an audit log, and where that is."""
    users = tmp_path / "users.toml"
    add_user(users, *ANN, "--tenant", "acme")
    log = tmp_path / "audit.log"
    return start_server(auth="users", users_file=users, audit_log=log), log


def test_each_call_leaves_a_line(audited):
    server, log = audited
    with client_of(server.flight, basic(*ANN)) as ann:
        load(ann, FRAME, "sales/eu")
        get(ann, "sales/eu")
        sql(ann, "SELECT * FROM sales.eu WHERE x > 1")
        sql(ann, "INSERT INTO sales.eu VALUES (4)")
        list_names(ann)
        with refused("NOT_FOUND"):
            get(ann, "sales/us")
    with raw_of(server.flight, basic(*ANN)) as raw:
        raw.action("compact", b'{"dataframe_name": "sales/eu"}')
    http(server, "GET", "/dataframes/sales/eu", basic(*ANN))
    http(server, "DELETE", "/dataframes/sales/eu", basic(*ANN))
    with raw_of(server.flight, basic(ANN[0], "a wrong password")) as raw:
        assert code_of(lambda raw: raw.actions(), raw) == "UNAUTHENTICATED"
    assert server.stop() == 0
    found = lines(log)
    by_ann = [line for line in found if line["user"] == "ann"]
    assert all(line["tenant"] == "acme" and line["seconds"] >= 0 for line in by_ann)
    assert len({line["id"] for line in found}) == len(found)

    def only(call: str, **fields: object) -> dict:
        matching = [line for line in found if line["call"] == call]
        matching = [line for line in matching if all(line.get(key) == value for key, value in fields.items())]
        assert len(matching) == 1, f"{call} {fields}: {found}"
        return matching[0]

    loaded = only("do_put", version=1)
    assert (loaded["datasets"], loaded["rows"], loaded["outcome"]) == (["sales/eu"], 3, "ok")
    assert loaded["bytes"] > 0
    assert only("do_get", datasets=["sales/eu"], rows=3)["bytes"] > 0
    assert only("do_get", datasets=["sales/eu"], rows=2)["outcome"] == "ok"
    assert only("get_flight_info", version=2)["rows"] == 1
    assert only("list_flights")["datasets"] == ["sales/eu"]
    assert only("do_get", outcome="NOT_FOUND")["datasets"] == ["sales/us"]
    assert only("do_action", action="compact")["datasets"] == ["sales/eu"]
    assert only("http_get")["rows"] == 4
    assert only("http_delete")["datasets"] == ["sales/eu"]
    refusal = only("list_actions", outcome="UNAUTHENTICATED")
    assert (refusal["user"], refusal["tenant"]) == (None, None)
    assert ANN[1] not in log.read_text() and "a wrong password" not in log.read_text()


def test_every_call_of_flight_and_rest_is_there_once(audited):
    server, log = audited
    calls = flight_calls("data")
    with raw_of(server.flight, basic(*ANN)) as raw:
        for call in calls.values():
            code_of(call, raw)
    for method, path, body in callers.http_calls("data"):
        http(server, method, path, basic(*ANN), body)
    assert server.stop() == 0
    assert len(lines(log)) == len(calls) + len(callers.http_calls("data"))


def test_a_log_goes_on_after_a_restart_and_is_its_owners_alone(start_server, tmp_path):
    log = tmp_path / "audit.log"
    for count in (1, 2):
        server = start_server(audit_log=log)
        with server.connect() as client:
            list_names(client)
        assert server.stop() == 0
        assert [line["user"] for line in lines(log)] == ["local"] * count
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_log_on_stderr(start_server):
    server = start_server(audit_log="stderr", env={"RUST_LOG": "off"})
    with server.connect() as client:
        list_names(client)
    assert server.stop() == 0
    (line,) = server.errors().splitlines()
    assert json.loads(line)["call"] == "list_flights"


def test_a_log_that_cannot_be_opened_stops_the_start(tmp_path):
    place = tmp_path / "no-such-folder" / "audit.log"
    assert_refuses_to_start(["--listen", "127.0.0.1:0", "--audit-log", str(place)], tmp_path, "--audit-log")
