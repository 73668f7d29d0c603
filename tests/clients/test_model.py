"""Random sequences of everything that changes a dataset, with reads of every kind between, against a simple model.

``PANDAS_DB_MODEL_SEQUENCES`` is how many sequences are run, and ``PANDAS_DB_MODEL_SEED`` the seed of the first; a
failing test is named by its seed and tells the steps that led there.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import backends
import pyarrow as pa
import pytest
from conftest import Server, flags
from frames import FLIGHT_ERRORS, get, list_names, load, sql, table_name
from versions import (
    act,
    compact,
    delete_dataframe,
    delete_version,
    describe,
    just_before,
    list_versions,
    named,
    set_retention,
    vacuum,
)

FIRST = int(os.environ.get("PANDAS_DB_MODEL_SEED", "0"))
SEQUENCES = int(os.environ.get("PANDAS_DB_MODEL_SEQUENCES", "40"))
KEYS = ("default", "a", "b c")
NO_ROWS = {"n": 0, "s": None}


class Restartable:
    """A server that can be ended and started again on what it left.

    Parameters
    ----------
    home : Path
        A folder of its own.
    vacuum_after : str
        Its ``--vacuum-after``.
    """

    def __init__(self, home: Path, vacuum_after: str):
        self.home, self.vacuums_at_once = home, vacuum_after == "0s"
        self._flags = flags(listen="127.0.0.1:0", http="off", storage=home / "data", vacuum_after=vacuum_after)
        self._starts = 0
        self._start()

    def _start(self) -> None:
        self._starts += 1
        self.server = Server(["serve", *self._flags], self.home / "data", self.home / f"stderr-{self._starts}.log")
        self.client = self.server.connect()

    def restart(self, crash: bool) -> None:
        """End the server, as a crash or as an operator does, and start it again."""
        self.close(crash)
        self._start()

    def close(self, crash: bool = False) -> None:
        """End the server."""
        self.client.close()
        if self.server.process.poll() is None:
            if crash:
                self.server.kill()
            else:
                assert self.server.stop() == 0, self.server.errors()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Restartable]]:
    """A server that keeps what ended for a week, and one that vacuums it at once."""
    started = [Restartable(tmp_path_factory.mktemp(f"model-{after}"), after) for after in ("7d", "0s")]
    yield started
    for each in started:
        each.close()


@dataclass
class Version:
    """A version as the model knows it; ``gone`` once a vacuum must have removed it."""

    key: str
    rows: list[tuple[int, str | None]]
    state: str = "live"
    gone: bool = False


@dataclass
class Dataset:
    """A dataset as the model knows it.

    Attributes
    ----------
    versions : dict of int to Version
        Every version ever made.
    moments : list of (str, list of int)
        Instants, and the versions that were live then.
    keep : int or None
        How many versions of a key are kept.
    repeats : dict of str to tuple
        For each idempotency key the arguments of its load and the version that it made.
    """

    versions: dict[int, Version] = field(default_factory=dict)
    moments: list[tuple[str, list[int]]] = field(default_factory=list)
    keep: int | None = None
    repeats: dict[str, tuple] = field(default_factory=dict)

    def live(self, key: str | None = None, last: bool = False) -> list[int]:
        """Return the numbers of the live versions."""
        found = [
            number
            for number, version in self.versions.items()
            if version.state == "live" and key in (None, version.key)
        ]
        return found[-1:] if last else found

    def rows(self, numbers: list[int]) -> list[tuple[int, str | None]]:
        """Return the rows of some versions, in order."""
        return [row for number in numbers for row in self.versions[number].rows]

    def end(self, numbers: list[int], state: str) -> None:
        """End versions."""
        for number in numbers:
            self.versions[number].state = state

    def expire(self) -> list[int]:
        """Apply the retention and return what it ended."""
        if self.keep is None:
            return []
        ended = sorted(number for key in KEYS for number in self.live(key)[: -self.keep])
        self.end(ended, "expired")
        return ended


class Sequence:
    """One random sequence on one dataset.

    Parameters
    ----------
    home : Restartable
    seed : int
    """

    def __init__(self, home: Restartable, seed: int):
        self.home, self.random = home, random.Random(seed)
        self.name = f"model/seed {seed}"
        self.dataset: Dataset | None = None
        self.steps: list[str] = []
        self._values = 0

    @property
    def client(self):
        """The client of the server as it runs now."""
        return self.home.client

    def run(self) -> None:
        """Do the steps, with reads after each and every kind of read at the end."""
        changes = {
            self.load: 45,
            self.repeat: 5,
            self.delete: 12,
            self.retain: 8,
            self.compact: 13,
            self.vacuum: 9,
            self.drop: 2,
            self.restart: 1,
        }
        self.load()
        for _ in range(self.random.randint(8, 16)):
            (change,) = self.random.choices(list(changes), list(changes.values()))
            change()
            for read in self.random.sample(self.reads(), 3):
                read()
        for read in self.reads():
            read()
        if self.dataset is not None:
            self.drop()

    # Steps

    def load(self) -> None:
        """Load a few rows under some key."""
        number = self.random.randint(0, 6)
        rows = [(self._values + i, self.random.choice([None, "u", "v", f"w{self._values}"])) for i in range(number)]
        self._values += number
        days = [self.random.choice([0, 0, 1, None]) for _ in rows]
        table = pa.table(
            {
                "day": pa.array(days, pa.int32()).cast(pa.date32()),
                "x": pa.array([x for x, _ in rows], pa.int64()),
                "c": pa.array([c for _, c in rows], pa.string()).dictionary_encode(),
            }
        )
        key, keep_last = self.random.choice(KEYS), self.random.random() < 0.25
        repeat_key = f"step {len(self.steps)}" if self.random.random() < 0.3 else None
        columns_keys = {"day": "Date"} if self.dataset is None else self.random.choice([None, {"day": "Date"}])
        arguments = (table, {"columns_keys": columns_keys, "external_key": key, "keep_last": keep_last})
        self.steps.append(f"load {len(rows)} rows, key {key!r}, keep_last={keep_last}, idempotency_key={repeat_key!r}")
        self.dataset = self.dataset or Dataset()
        dataset, before = self.dataset, self.dataset.live()
        result = self.send(arguments, repeat_key)
        version = len(dataset.versions) + 1
        assert (result["version"], result.get("duplicate", False)) == (version, False)
        if keep_last:
            dataset.end(dataset.live(key), "replaced")
        dataset.versions[version] = Version(key, rows)
        dataset.expire()
        dataset.moments += [(just_before(result), before), (result["created_at"], dataset.live())]
        if repeat_key:
            dataset.repeats[repeat_key] = (arguments, version)

    def send(self, arguments: tuple, repeat_key: str | None) -> dict:
        """Send a load."""
        table, options = arguments
        return load(self.client, table, self.name, **options, idempotency_key=repeat_key)

    def repeat(self) -> None:
        """Repeat a load that had an idempotency key."""
        if self.dataset is None or not self.dataset.repeats:
            return
        repeat_key = self.random.choice(list(self.dataset.repeats))
        self.steps.append(f"repeat the load of {repeat_key!r}")
        arguments, version = self.dataset.repeats[repeat_key]
        result = self.send(arguments, repeat_key)
        assert (result["version"], result["duplicate"]) == (version, True)

    def delete(self) -> None:
        """Delete a version, which may have ended before, or not be there."""
        if self.dataset is None:
            return
        number = self.random.randint(1, len(self.dataset.versions) + 1)
        self.steps.append(f"delete version {number}")
        answer = self.ask(lambda: delete_version(self.client, self.name, number))
        if number in self.dataset.live():
            assert answer == {"dataframe_name": self.name, "version": number}
            self.dataset.end([number], "deleted")
        else:
            assert answer == "NOT_FOUND"

    def retain(self) -> None:
        """Set or clear how many versions are kept."""
        if self.dataset is None:
            return
        self.dataset.keep = self.random.choice([None, 1, 2, 3])
        self.steps.append(f"keep {self.dataset.keep} versions")
        told = set_retention(self.client, self.name, keep_versions=self.dataset.keep)
        assert sorted(told["expired"]) == self.dataset.expire()

    def compact(self) -> None:
        """Compact."""
        if self.dataset is not None:
            self.steps.append("compact")
            told = compact(self.client, self.name)
            assert told["chunks_after"] <= told["chunks_before"]

    def vacuum(self) -> None:
        """Vacuum; what ended is gone where it is not kept for a week."""
        if self.dataset is None:
            return
        self.steps.append("vacuum")
        told = vacuum(self.client, self.name)
        if not self.home.vacuums_at_once:
            assert told["versions_removed"] == 0
        elif backends.name() != "aws":
            # Nodes that share DynamoDB wait for the reads of one that was killed, as long as those could run.
            for version in self.dataset.versions.values():
                version.gone = version.gone or version.state != "live"

    def drop(self) -> None:
        """Delete the dataset."""
        if self.dataset is not None:
            self.steps.append("delete the dataset")
            assert delete_dataframe(self.client, self.name) == {"dataframe_name": self.name}
            self.dataset = None
            self.read_nothing()

    def restart(self) -> None:
        """Restart the server."""
        crash = self.random.random() < 0.5
        self.steps.append("crash" if crash else "restart")
        self.home.restart(crash)

    # Reads

    def reads(self) -> list[Callable[[], None]]:
        """Return every kind of read."""
        if self.dataset is None:
            return [self.read_nothing] * 3
        return [
            self.read_union,
            self.read_key,
            self.read_last,
            self.read_last_of_key,
            self.read_version,
            self.read_moment,
            self.read_moment_of_key,
            self.sum_union,
            self.sum_key,
            self.sum_last,
            self.sum_version,
            self.sum_moment,
            self.read_records,
            self.read_versions_table,
            self.read_description,
        ]

    def ask(self, read: Callable[[], object]) -> object:
        """Return what a call gives, or the code with which it is refused."""
        try:
            return read()
        except FLIGHT_ERRORS as error:
            code = re.search(r"\[([A-Z_]+)\] \S", str(error))
            assert code, f"no code in brackets in {error}"
            return code.group(1)

    def expect(self, numbers: list[int] | None, *codes: str, **fields) -> None:
        """Check that a get gives the rows of some versions, or is refused with a code; None must be."""
        assert self.dataset is not None
        self.steps.append(f"  get {fields}")
        got = self.ask(lambda: get(self.client, self.name, **fields))
        if isinstance(got, pa.Table):
            assert numbers is not None, f"{fields} should be refused"
            found = list(zip(got["x"].to_pylist(), got["c"].to_pylist()))
            assert found == self.dataset.rows(numbers), f"{fields} should be versions {numbers}"
        else:
            assert got in codes, f"{fields} is refused with {got}"

    def expect_sum(self, source: str, numbers: list[int] | None, *codes: str) -> None:
        """As expect, for a SQL query that counts and sums."""
        assert self.dataset is not None
        self.steps.append(f"  sum of {source}")
        query = f"SELECT count(*) AS n, sum(x) AS s FROM {source}"
        got = self.ask(lambda: sql(self.client, query).to_pylist())
        if isinstance(got, str):
            assert got in codes, f"{source} is refused with {got}"
        else:
            assert numbers is not None, f"{source} should be refused"
            values = [x for x, _ in self.dataset.rows(numbers)]
            assert got == [{"n": len(values), "s": sum(values)} if values else NO_ROWS], f"versions {numbers}"

    def some_key(self, last: bool = False) -> tuple[str, list[int] | None, list[str]]:
        """Return a key, its live versions, and the codes with which reading it may be refused."""
        key = self.random.choice(KEYS)
        versions = [version for version in self.dataset.versions.values() if version.key == key]
        if not versions:
            return key, None, ["NOT_FOUND"]
        live = self.dataset.live(key, last)
        return key, live, ["NOT_FOUND"] if not live and self.home.vacuums_at_once else []

    def some_version(self) -> tuple[int, list[int] | None, list[str]]:
        """Return a number, the versions it gives, and the codes with which reading it may be refused."""
        number = self.random.randint(1, len(self.dataset.versions) + 1)
        version = self.dataset.versions.get(number)
        if version is None or version.gone:
            return number, None, ["NOT_FOUND"]
        return number, [number], ["NOT_FOUND"] if version.state != "live" and self.home.vacuums_at_once else []

    def some_moment(self) -> tuple[str, list[int], list[str]]:
        """Return an instant, what was live then, and the codes with which reading it may be refused."""
        moment, live = self.random.choice(self.dataset.moments)
        return moment, live, ["INVALID_ARGUMENT"] if self.home.vacuums_at_once else []

    def read_nothing(self) -> None:
        """Check that there is no dataset."""
        for read in (
            lambda: get(self.client, self.name),
            lambda: get(self.client, self.name, version=1),
            lambda: act(self.client, "list_versions", self.name),
            lambda: describe(self.client, self.name),
        ):
            assert self.ask(read) == "NOT_FOUND"
        assert self.name not in list_names(self.client, self.name)

    def read_union(self) -> None:
        """Read the union."""
        self.expect(self.dataset.live())

    def read_key(self) -> None:
        """Read a key."""
        key, live, codes = self.some_key()
        self.expect(live, *codes, external_key=key)

    def read_last(self) -> None:
        """Read the newest version."""
        self.expect(self.dataset.live(last=True), use_last=True)

    def read_last_of_key(self) -> None:
        """Read the newest version of a key."""
        key, live, codes = self.some_key(last=True)
        self.expect(live, *codes, external_key=key, use_last=True)

    def read_version(self) -> None:
        """Read one version."""
        number, numbers, codes = self.some_version()
        self.expect(numbers, *codes, version=number)

    def read_moment(self) -> None:
        """Read the union as of an instant."""
        moment, live, codes = self.some_moment()
        self.expect(live, *codes, as_of=moment)

    def read_moment_of_key(self) -> None:
        """Read a key as of an instant."""
        moment, live, codes = self.some_moment()
        key, known, more_codes = self.some_key()
        of_key = [number for number in live if self.dataset.versions[number].key == key]
        self.expect(None if known is None else of_key, *codes, *more_codes, as_of=moment, external_key=key)

    def sum_union(self) -> None:
        """Sum the union."""
        self.expect_sum(table_name(self.name), self.dataset.live())

    def sum_key(self) -> None:
        """Sum a key, or the newest version of it."""
        last = self.random.random() < 0.5
        key, live, codes = self.some_key(last)
        self.expect_sum(named(self.name, f"@key={key}@last" if last else f"@key={key}"), live, *codes)

    def sum_last(self) -> None:
        """Sum the newest version."""
        self.expect_sum(named(self.name, "@last"), self.dataset.live(last=True))

    def sum_version(self) -> None:
        """Sum one version, named in either way."""
        number, numbers, codes = self.some_version()
        by_clause = f"{table_name(self.name)} VERSION AS OF {number}"
        self.expect_sum(self.random.choice([named(self.name, f"@version={number}"), by_clause]), numbers, *codes)

    def sum_moment(self) -> None:
        """Sum the union as of an instant, named in either way."""
        moment, live, codes = self.some_moment()
        by_clause = f"{table_name(self.name)} TIMESTAMP AS OF '{moment}'"
        self.expect_sum(self.random.choice([named(self.name, f"@as_of={moment}"), by_clause]), live, *codes)

    def check_states(self, found: dict[int, str]) -> None:
        """Check the states of versions; those that ended may be vacuumed where that is done at once."""
        known = {number: version for number, version in self.dataset.versions.items() if not version.gone}
        must = {n: v.state for n, v in known.items() if v.state == "live" or not self.home.vacuums_at_once}
        assert {number: found.get(number) for number in must} == must
        assert all(number in known and known[number].state == state for number, state in found.items()), found

    def read_records(self) -> None:
        """List the versions."""
        records = list_versions(self.client, self.name, include_replaced=True)
        assert [record["version"] for record in records] == sorted(record["version"] for record in records)
        self.check_states({record["version"]: record["state"] for record in records})
        live = list_versions(self.client, self.name)
        assert [record["version"] for record in live] == self.dataset.live()
        for record in live:
            version = self.dataset.versions[record["version"]]
            assert (record["external_key"], record["rows"]) == (version.key, len(version.rows))

    def read_versions_table(self) -> None:
        """Ask for the versions in SQL."""
        table = sql(self.client, f"SELECT version, state FROM {named(self.name, '$versions')}").to_pylist()
        assert len({row["version"] for row in table}) == len(table)
        self.check_states({row["version"]: row["state"] for row in table})

    def read_description(self) -> None:
        """Ask for the sums and the retention."""
        told, live = describe(self.client, self.name), self.dataset.live()
        assert (told["versions"], told["rows"]) == (len(live), len(self.dataset.rows(live)))
        assert told["retention"] == ({} if self.dataset.keep is None else {"keep_versions": self.dataset.keep})


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEQUENCES))
def test_a_random_sequence_reads_as_the_model_says(servers, seed):
    sequence = Sequence(servers[seed % 2], seed)
    try:
        sequence.run()
    except (AssertionError, *FLIGHT_ERRORS) as error:
        steps = "\n".join(sequence.steps)
        raise AssertionError(f"{error}\nPANDAS_DB_MODEL_SEED={seed}, after these steps:\n{steps}") from error
