"""DataFusion's own ``.slt`` files, run through the Flight port.

The files come with the crate of DataFusion's test runner, in the version that the server is built with. What is left
out is said, with a reason each, in ``tests/sql/slt/left_out.txt`` (files and records) and in ``slt_run.REFUSED`` and
``slt_run.NOT_BUILT`` (kinds of statements, and what depends on them). A record that should fail passes when it is
refused with a client's error; the words of the message are ours. ``PANDAS_DB_SLT_FILES`` runs those files alone whose
names hold it. Where a query has no ORDER BY the order of its rows is not compared.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import conftest
import pyarrow.flight as flight
import pytest
import slt_records
from slt_run import FileRun, LeftOut, Tally

LEFT_OUT = LeftOut(Path(__file__).parents[1] / "sql" / "slt" / "left_out.txt")
ONLY = os.environ.get("PANDAS_DB_SLT_FILES", "")
SHARDS = 12
FLOOR = 15_300  # Records that pass, at least, when all files are run.

tallies: list[Tally] = []


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files."""
    return slt_records.unpack(tmp_path_factory.mktemp("slt"))


@pytest.fixture(scope="module")
def empty() -> Iterator[flight.FlightClient]:
    """A client of a server that these files have for themselves, in memory: they make thousands of small tables."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="pandas-db-slt-", dir=memory) as folder:
        for server in conftest.serve(Path(folder)):
            with server.connect() as client:
                yield client


def files(root: Path) -> list[str]:
    """Return the names of all files but those that only serve others."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.slt"))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_records(root, empty, shard, capsys):
    tally = Tally()
    for file in files(root)[shard::SHARDS]:
        if ONLY not in file:
            continue
        records = slt_records.read(root, file)
        reason = LEFT_OUT.whole(file)
        if reason is not None:
            tally.left_out[reason] += len(records)
        else:
            tally.add(FileRun(empty, LEFT_OUT).run(records))
    tallies.append(tally)
    with capsys.disabled():
        print(f" {tally.passed} passed, {tally.left_out.total()} left out, {len(tally.failed)} failed", end="")
    shown = "\n\n".join(f"{place} {problem}" for place, problem in list(tally.failed.items())[:20])
    assert not tally.failed, f"{len(tally.failed)} records failed\n{shown}"
    assert not tally.needless, f"left out although they pass: {tally.needless}"


def test_as_many_records_as_before_pass(capsys):
    if ONLY or len(tallies) < SHARDS:
        pytest.skip("not all files were run")
    total = Tally()
    for tally in tallies:
        total.add(tally)
    with capsys.disabled():
        reasons = "\n".join(f"{count:7} {reason}" for reason, count in total.left_out.most_common())
        print(f"\n{total.passed:7} records passed\n{reasons}\n{len(total.failed):7} failed", end="")
    assert total.passed >= FLOOR


def test_every_reason_has_its_place(root):
    """A line of the list that names no record would go unnoticed."""
    known = {record.place for file in files(root) for record in slt_records.read(root, file)}
    known |= set(files(root)) | {f"{folder.relative_to(root)}/*" for folder in root.rglob("*") if folder.is_dir()}
    assert not (set(LEFT_OUT.reasons) | LEFT_OUT.unordered) - known
