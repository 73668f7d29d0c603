"""Random sequences of loads and of statements that write, against DuckDB, which runs the same statements on one table.

``PANDAS_DB_MODEL_SEQUENCES`` is how many sequences are run, and ``PANDAS_DB_MODEL_SEED`` the seed of the first; a
failing test is named by its seed and tells the steps that led there.
"""

from __future__ import annotations

import datetime
import math
import os
import random
from collections import Counter
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from conftest import Server
from frames import FLIGHT_ERRORS, get, load, sql, table_name
from versions import compact, delete_version, describe, list_versions, named, vacuum
from writes import write

FIRST = int(os.environ.get("PANDAS_DB_MODEL_SEED", "0"))
SEQUENCES = int(os.environ.get("PANDAS_DB_MODEL_SEQUENCES", "8"))
STEPS = 20
COLUMNS = ("id", "day", "x", "s")
KEYS = ("default", "a")
EPOCH = datetime.date(2024, 1, 1)
CATEGORIES = ["c0", "c1", "c2"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A server that keeps what ended for a week, and one that vacuums it at once; chunks are small."""
    started = []
    for after in ("7d", "0s"):
        home = tmp_path_factory.mktemp(f"write-model-{after}")
        flags = ["--listen", "127.0.0.1:0", "--http", "off", "--vacuum-after", after, "--chunk-rows", "7"]
        started.append(Server(["serve", *flags, "--storage", str(home / "data")], home / "data", home / "stderr.log"))
    yield started
    for each in started:
        assert each.stop() == 0, each.errors()


def told(row: tuple) -> str:
    """Return a row as a text that is the same for the same values."""
    return str(tuple("NaN" if isinstance(value, float) and math.isnan(value) else value for value in row))


def bag(rows: list[tuple]) -> Counter:
    """Return rows without their order."""
    return Counter(map(told, rows))


class Sequence:
    """One random sequence.

    Parameters
    ----------
    server : Server
    seed : int
    vacuums_at_once : bool
        Whether the server deletes at a vacuum what has just ended.
    """

    def __init__(self, server: Server, seed: int, vacuums_at_once: bool):
        self.random, self.vacuums_at_once = random.Random(seed), vacuums_at_once
        self.client, self.name = server.connect(), f"write-model/{seed}"
        self.keys = self.random.choice([None, {"day": "Date"}, {"id": "ID"}, {"day": "Date", "id": "ID"}])
        self.oracle = duckdb.connect()
        self.oracle.execute("CREATE TABLE t (version BIGINT, id BIGINT, day DATE, x DOUBLE, s VARCHAR)")
        self.live: dict[int, str] = {}  # Version to key.
        self.newest = self.noted = 0
        self.moments: list[tuple[str, Counter]] = []
        self.steps: list[str] = []

    def run(self) -> None:
        """Make the changes, and read after each."""
        self.load()
        self.check()
        for _ in range(STEPS):
            changes = [self.load, self.update, self.update, self.delete, self.insert, self.merge, self.merge]
            self.random.choice([*changes, self.keep_last, self.compact, self.vacuum, self.end_version, self.copy])()
            self.check()

    # Changes

    def rows(self) -> pa.Table:
        """Return some rows."""
        count = self.random.randint(0, 20)
        pick = self.random.choice
        return pa.table(
            {
                "id": pa.array([self.random.randint(0, 30) for _ in range(count)], pa.int64()),
                "day": pa.array([pick([None, *self.days()]) for _ in range(count)], pa.date32()),
                "x": pa.array([pick([None, math.nan, -1.5, 0.0, 2.0, 1e300]) for _ in range(count)], pa.float64()),
                "s": pa.DictionaryArray.from_arrays(
                    pa.array([pick([None, 0, 1, 2]) for _ in range(count)], pa.int8()), CATEGORIES
                ),
            }
        )

    def days(self) -> list[datetime.date]:
        return [EPOCH + datetime.timedelta(days=day) for day in range(4)]

    def load(self, keep_last: bool = False) -> None:
        """Load a frame."""
        frame, key = self.rows(), self.random.choice(KEYS)
        self.steps.append(f"load {frame.num_rows} rows under {key}, keep_last={keep_last}")
        keys = None if self.newest else self.keys
        result = load(self.client, frame, self.name, external_key=key, keep_last=keep_last, columns_keys=keys)
        if keep_last:
            for number in [number for number, of in self.live.items() if of == key]:
                self.forget(number)
        self.newest += 1
        assert result["version"] == self.newest
        self.live[self.newest] = key
        plain = frame.set_column(3, "s", frame["s"].cast(pa.string()))
        self.oracle.register("frame", plain)
        self.oracle.execute(f"INSERT INTO t SELECT {self.newest}, * FROM frame")

    def keep_last(self) -> None:
        """Load a frame in place of those of its key."""
        self.load(keep_last=True)

    def forget(self, number: int) -> None:
        """Note the end of a version."""
        del self.live[number]
        self.oracle.execute(f"DELETE FROM t WHERE version = {number}")

    def end_version(self) -> None:
        """Delete a version."""
        if self.live:
            number = self.random.choice(list(self.live))
            self.steps.append(f"delete version {number}")
            delete_version(self.client, self.name, number)
            self.forget(number)

    def compact(self) -> None:
        """Merge chunks."""
        self.steps.append("compact")
        compact(self.client, self.name)

    def vacuum(self) -> None:
        """Delete what has ended."""
        self.steps.append("vacuum")
        vacuum(self.client, self.name)
        if self.vacuums_at_once:
            self.moments.clear()

    def statement(self, ours: str, theirs: str | None = None) -> None:
        """Run a statement on both sides; what is inserted belongs to the next version."""
        theirs = (theirs or ours).format(t="t", version=self.newest + 1)
        ours = ours.format(t=table_name(self.name), version="")
        self.steps.append(ours)
        (expected,) = self.oracle.execute(theirs).fetchall()[0]
        assert write(self.client, ours) == expected, "rows that were written"
        if expected:
            self.newest += 1
            self.live[self.newest] = "default"

    def condition(self, of: str = "{t}") -> str:
        """Return a condition on rows of a table."""
        pick, day = self.random.choice, self.random.choice(self.days())
        number = self.random.randint(0, 30)
        own = "" if of == "{t}" else f"{of}."
        return pick(
            [
                f"{own}id % 3 = {number % 3}",
                f"{own}id BETWEEN {number} AND {number + 8}",
                f"{own}x > 1",
                f"{own}x IS NULL OR {own}s = 'c1'",
                f"{own}day = DATE '{day}'",
                f"{own}day IS NULL AND {own}id > {number}",
                f"NOT ({own}x < 1)",
                f"{own}s IN ('c2', 'u3', 'new')",
                f"{own}id IN (SELECT o.id FROM {{t}} AS o WHERE o.x = 2)",
                f"{own}id = (SELECT max(o.id) FROM {{t}} AS o)",
                "true",
            ]
        )

    def assignments(self, of: str = "") -> str:
        """Return what a SET says."""
        day = self.random.choice(self.days())
        every = [
            f"x = {of}x + 1",
            "x = NULL",
            "x = CAST('NaN' AS DOUBLE)",
            f"s = 'u' || CAST({of}id % 5 AS VARCHAR)",
            f"s = upper({of}s)",
            f"day = DATE '{day}'",
            "day = NULL",
            f"id = {of}id + 7",
            f"id = {of}id",
        ]
        chosen: dict[str, str] = {}
        for each in self.random.sample(every, self.random.randint(1, 3)):
            chosen.setdefault(each.split(" ")[0], each)
        return ", ".join(chosen.values())

    def update(self) -> None:
        """Update rows."""
        self.statement(f"UPDATE {{t}} SET {self.assignments()} WHERE {self.condition()}")

    def delete(self) -> None:
        """Delete rows, rarely all."""
        if self.random.random() < 0.1:
            self.statement("DELETE FROM {t}")
        else:
            self.statement(f"DELETE FROM {{t}} WHERE {self.condition()} AND id % 2 = {self.random.randint(0, 1)}")

    def insert(self) -> None:
        """Insert values."""
        number, day = self.random.randint(0, 30), self.random.choice(self.days())
        values = [f"({number}, DATE '{day}', 0.5, 'new')", f"({number + 1}, NULL, NULL, NULL)"]
        ours = "INSERT INTO {t} (id, day, x, s) VALUES " + ", ".join(values)
        theirs = "INSERT INTO {t} VALUES " + ", ".join(value.replace("(", "({version}, ", 1) for value in values)
        self.statement(ours, theirs)

    def copy(self) -> None:
        """Insert what a query gives."""
        where = f"WHERE {self.condition()} AND id % 4 = 1"
        self.statement(
            f"INSERT INTO {{t}} SELECT id + 1, day, x, s FROM {{t}} {where}",
            f"INSERT INTO {{t}} SELECT {{version}}, id + 1, day, x, s FROM {{t}} {where}",
        )

    def merge(self) -> None:
        """Merge a source that has one row for each id."""
        first, step = self.random.randint(0, 10), self.random.randint(1, 4)
        ids = range(first, first + 12 * step, step)
        source = "(VALUES " + ", ".join(f"({id}, {id / 2}, 'm{id % 3}')" for id in ids) + ") AS n(k, v, w)"
        clauses = [f"WHEN MATCHED AND {self.condition('o')} THEN UPDATE SET {self.assignments('o.')}"]
        clauses.append(
            self.random.choice(
                [
                    "WHEN MATCHED AND n.v > 5 THEN DELETE",
                    "WHEN MATCHED THEN UPDATE SET s = n.w, x = n.v",
                    "WHEN NOT MATCHED BY SOURCE AND o.id % 5 = 0 THEN DELETE",
                    "WHEN NOT MATCHED BY SOURCE AND o.x = 2 THEN UPDATE SET x = o.x * 2, s = 'alone'",
                ]
            )
        )
        both = "\n".join(clauses)
        if "(SELECT" in both:
            both = both.replace(clauses[0], "WHEN MATCHED AND o.id % 2 = 0 THEN DELETE")
        day = self.random.choice(self.days())
        inserts = (
            "WHEN NOT MATCHED AND n.v < 4 THEN INSERT ({more}id, day, x, s) VALUES ({number}n.k, DATE '"
            + str(day)
            + "', n.v, n.w)\n"
            "WHEN NOT MATCHED AND n.v > 8 THEN INSERT ({more}id, s) VALUES ({number}n.k, 'far')"
        )
        begin = f"MERGE INTO {{t}} AS o USING {source} ON o.id = n.k\n{both}\n"
        self.statement(
            begin + inserts.format(more="", number=""),
            begin + inserts.format(more="version, ", number="{version}, "),
        )

    # Reads

    def expected(self, where: str = "true") -> Counter:
        """Return the rows that the model has."""
        return bag(self.oracle.execute(f"SELECT id, day, x, s FROM t WHERE {where}").fetchall())

    def found(self, **fields) -> Counter:
        """Return the rows that a get gives."""
        table = get(self.client, self.name, **fields)
        assert tuple(table.column_names) == COLUMNS
        return bag(list(zip(*(column.to_pylist() for column in table.columns))))

    def check(self) -> None:
        """Read in every way."""
        assert self.found() == self.expected(), "the union"
        records = list_versions(self.client, self.name)
        counts = dict(self.oracle.execute("SELECT version, count(*) FROM t GROUP BY version").fetchall())
        assert {each["version"]: each["rows"] for each in records} == {n: counts.get(n, 0) for n in self.live}
        assert describe(self.client, self.name)["rows"] == sum(counts.values())
        if self.live:
            number = self.random.choice(list(self.live))
            assert self.found(version=number) == self.expected(f"version = {number}"), f"version {number}"
        key = self.random.choice(KEYS)
        if key in self.live.values():
            of_key = ", ".join(str(number) for number, of in self.live.items() if of == key)
            assert self.found(external_key=key) == self.expected(f"version IN ({of_key})"), f"key {key}"
        query = "SELECT count(*), sum(id), count(x), min(day), max(s) FROM {} WHERE " + self.condition("o")
        if "(SELECT" not in query:
            ours = sql(self.client, query.format(table_name(self.name) + " AS o"))
            (theirs,) = self.oracle.execute(query.format("t AS o")).fetchall()
            assert tuple(column.to_pylist()[0] for column in ours.columns) == theirs, query
        every = list_versions(self.client, self.name, include_replaced=True)
        if every and every[-1]["version"] == self.newest > self.noted:
            self.moments.append((every[-1]["created_at"], self.expected()))
        self.noted = self.newest
        if self.moments and not self.vacuums_at_once:
            self.check_moment()

    def check_moment(self) -> None:
        """Read the union of an earlier moment."""
        moment, rows = self.random.choice(self.moments)
        assert self.found(as_of=moment) == rows, f"as of {moment}"
        count = f"SELECT count(*) AS n FROM {named(self.name, f'@as_of={moment}')}"
        assert sql(self.client, count)["n"].to_pylist() == [sum(rows.values())]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEQUENCES))
def test_a_random_sequence_gives_what_duckdb_gives(servers: list[Server], seed: int):
    sequence = Sequence(servers[seed % 2], seed, vacuums_at_once=seed % 2 == 1)
    try:
        sequence.run()
    except (AssertionError, *FLIGHT_ERRORS, duckdb.Error) as error:
        steps = "\n".join(sequence.steps)
        raise AssertionError(f"{error}\nPANDAS_DB_MODEL_SEED={seed}, after these steps:\n{steps}") from error
    finally:
        sequence.client.close()
        sequence.oracle.close()
