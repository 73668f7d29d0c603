"""Every kind of SQL statement, by every way to send it, with the least right that it wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import flight_sql as fs
import wire
from rights import COLUMN, KEY, Access, Call
from wire import text

READ, WRITE, ADMIN, CALLER = Access.READ, Access.WRITE, Access.ADMIN, Access.CALLER


def table(name: str) -> str:
    """Return the SQL name of a dataset."""
    schema, last = name.rsplit("/", 1)
    return f'"{schema}"."{last}"'


def _with_suffix(name: str, suffix: str) -> str:
    return table(name)[:-1] + suffix + '"'


@dataclass(frozen=True)
class Statement:
    """A statement about one dataset, by a function of its name; the other fields are those of a call."""

    sql: Callable[[str], str]
    access: Access
    creates: bool = False
    lists: bool = False
    takes_absence: bool = False
    answers: tuple[str, ...] = ("OK",)


SELECT = Statement(lambda name: f"SELECT * FROM {table(name)}", READ)
INSERT = Statement(lambda name: f"INSERT INTO {table(name)} VALUES (1)", WRITE)
DROP = Statement(lambda name: f"DROP TABLE {table(name)}", ADMIN)

QUERIES = {
    "join": Statement(lambda name: f"SELECT a.* FROM (VALUES (1)) v(x), {table(name)} a", READ),
    "subquery": Statement(lambda name: f"SELECT 1 WHERE EXISTS (SELECT 1 FROM {table(name)})", READ),
    "with": Statement(lambda name: f"WITH a AS (SELECT * FROM {table(name)}) SELECT * FROM a", READ),
    "catalog": Statement(lambda name: f"SELECT * FROM pandas_db.{table(name)}", READ),
    "last": Statement(lambda name: f"SELECT * FROM {_with_suffix(name, '@last')}", READ),
    "key": Statement(lambda name: f"SELECT * FROM {_with_suffix(name, f'@key={KEY}')}", READ),
    "version": Statement(lambda name: f"SELECT * FROM {_with_suffix(name, '@version=1')}", READ),
    "versions": Statement(lambda name: f"SELECT * FROM {_with_suffix(name, '$versions')}", READ),
    "chunks": Statement(lambda name: f"SELECT * FROM {_with_suffix(name, '$chunks')}", READ),
    "explain": Statement(lambda name: f"EXPLAIN SELECT * FROM {table(name)}", READ),
    "explain analyze": Statement(lambda name: f"EXPLAIN ANALYZE SELECT * FROM {table(name)}", READ),
    "show columns": Statement(lambda name: f"SHOW COLUMNS FROM {table(name)}", READ),
    "show tables": Statement(lambda name: "SHOW TABLES", CALLER, lists=True),
    "tables": Statement(lambda name: "SELECT * FROM information_schema.tables", CALLER, lists=True),
    "columns": Statement(lambda name: "SELECT * FROM information_schema.columns", CALLER, lists=True),
}
WRITES = {
    "insert select": Statement(lambda name: f"INSERT INTO {table(name)} SELECT * FROM {table(name)}", WRITE),
    "update": Statement(lambda name: f'UPDATE {table(name)} SET "{COLUMN}" = 1', WRITE),
    "delete": Statement(lambda name: f"DELETE FROM {table(name)}", WRITE),
    "merge": Statement(
        lambda name: (
            f'MERGE INTO {table(name)} t USING (SELECT 1 AS x) s ON t."{COLUMN}" = s.x '
            f'WHEN NOT MATCHED THEN INSERT ("{COLUMN}") VALUES (s.x)'
        ),
        WRITE,
    ),
    "create": Statement(
        lambda name: f"CREATE TABLE {table(name)} AS SELECT 1 AS x", WRITE, creates=True, answers=("ALREADY_EXISTS",)
    ),
    "create if": Statement(lambda name: f"CREATE TABLE IF NOT EXISTS {table(name)} (x BIGINT)", WRITE, creates=True),
    "replace": Statement(lambda name: f"CREATE OR REPLACE TABLE {table(name)} AS SELECT 1 AS x", ADMIN, creates=True),
    "drop if": Statement(lambda name: f"DROP TABLE IF EXISTS {table(name)}", ADMIN, takes_absence=True),
}
# Ways to send a statement. Each takes the caller and the SQL.
AS_QUERY = {
    "fetch": lambda caller, sql: caller.fetch(fs.statement(sql)),
    "ticket JSON": lambda caller, sql: caller.flight("DoGet", text(1, json.dumps({"sql": sql}))),
    "ticket Any": lambda caller, sql: caller.flight("DoGet", text(1, fs.statement(sql))),
    "poll": lambda caller, sql: caller.flight("PollFlightInfo", wire.command_descriptor(fs.statement(sql))),
    "prepared query": lambda caller, sql: caller.fetch(fs.prepared_query(caller.prepare(sql))),
    "POST /sql": lambda caller, sql: caller.http("POST", "/sql", {"sql": sql}),
}
AS_UPDATE = {
    "DoPut": lambda caller, sql: caller.flight("DoPut", put(fs.update(sql))),
    "prepared update": lambda caller, sql: caller.flight("DoPut", put(fs.prepared_update(caller.prepare(sql)))),
}
FEW_WAYS = ("fetch", "POST /sql", "DoPut")


def put(command: bytes) -> bytes:
    """Return the message of a DoPut that has a command and no rows."""
    return wire.flight_data(wire.command_descriptor(command))


def statement_calls() -> Iterator[Call]:
    """Yield the calls."""
    ways = AS_QUERY | AS_UPDATE
    chosen = [("select", SELECT, AS_QUERY), ("insert", INSERT, ways), ("drop", DROP, ways)]
    chosen += [(label, each, {way: AS_QUERY[way] for way in FEW_WAYS[:2]}) for label, each in QUERIES.items()]
    chosen += [(label, each, {way: ways[way] for way in FEW_WAYS}) for label, each in WRITES.items()]
    for label, each, ways_of in chosen:
        for way, send in ways_of.items():
            yield Call(
                f"{label} by {way}",
                each.access,
                lambda caller, name, send=send, each=each: send(caller, each.sql(name)),
                each.creates,
                each.lists,
                each.takes_absence,
                each.answers,
            )
