"""`pandas-db import-legacy`: folders as the first pandas-db left them, loaded version by version."""

from __future__ import annotations

import gzip
import os
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import conftest
import pandas as pd
import pyarrow as pa
import pytest
from frames import assert_absent, get, list_names, refused
from versions import list_versions


class Bucket:
    """A folder with the layout of the first pandas-db.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()

    def write(self, path: str, text: str, at: datetime | None = None) -> None:
        """Write a file; what ends in ``.gz`` is compressed."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(text.encode()) if path.endswith(".gz") else text.encode())
        if at:
            os.utime(file, (at.timestamp(), at.timestamp()))

    def default(self, name: str, time: str, *parts: pd.DataFrame | str, keep_last: bool = False) -> str:
        """Add a version without a key, stored at ``time`` (a date and a time with a space between)."""
        day, clock = time.split(" ")
        folder = f"{name}/external_key/default/{day}"
        return self._version(folder, clock, parts, datetime.fromisoformat(time).replace(tzinfo=UTC), keep_last)

    def keyed(self, name: str, key: str, time: str, *parts: pd.DataFrame | str, keep_last: bool = False) -> str:
        """Add a version with a key, whose files were written at ``time``."""
        at = datetime.fromisoformat(time).replace(tzinfo=UTC)
        return self._version(f"{name}/external_key/{key}", str(uuid.uuid4()), parts, at, keep_last)

    def _version(self, parent: str, version: str, parts: tuple, at: datetime, keep_last: bool) -> str:
        for number, part in enumerate(parts):
            text = part if isinstance(part, str) else part.to_csv(index=False)
            written = datetime.fromtimestamp(at.timestamp() + number / 1_000, UTC)
            self.write(f"{parent}/{version}/{uuid.uuid4()}.csv.gz", text, written)
        if keep_last:
            self.write(f"{parent}/last_key.txt", version)
        return f"{parent}/{version}"


def frame(*values: object) -> pd.DataFrame:
    """Make a frame of one column."""
    return pd.DataFrame({"v": list(values)})


def versions(client, name: str) -> list[tuple[int, str, str]]:
    """Return number, key and state of each version."""
    known = list_versions(client, name, include_replaced=True)
    return [(each["version"], each["external_key"], each["state"]) for each in known]


@pytest.fixture
def bucket(tmp_path) -> Bucket:
    """An empty bucket of a test's own."""
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def run(server, bucket, name):
    """A function that imports the bucket below the test's name, and returns what was printed and said."""

    def run(*options: str, expect: int = 0, source: str | None = None, address: str = "") -> tuple[str, str]:
        words = ["import-legacy", source or str(bucket.folder), "--name-prefix", name]
        ended = subprocess.run(
            [conftest.binary(), *words, "--server", address or server.flight, *options],
            env=conftest.clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=conftest.PATIENCE,
        )
        assert ended.returncode == expect, ended
        assert "\r" not in ended.stdout + ended.stderr and "panicked" not in ended.stderr
        return ended.stdout, ended.stderr

    return run


def table(printed: str) -> list[list[str]]:
    """Return the cells of the lines after the names of the columns."""
    return [line.split() for line in printed.splitlines()[1:] if not line.startswith("no part")]


def test_versions_come_under_their_names_and_keys_in_order(run, bucket, client, name):
    bucket.default("shop/prices", "2024-03-02 08:00:00", frame(3), keep_last=True)
    bucket.default("shop/prices", "2024-03-01 09:00:00", frame(2))
    bucket.keyed("shop/prices", "monday", "2024-03-01 08:00:00", frame(1))
    bucket.keyed("shop/prices", "monday", "2024-03-03 08:00:00", frame(4))
    bucket.default("shop/prices", "2024-03-02 09:00:00", frame(5))
    bucket.default("single", "2024-01-01 00:00:00", frame("a"))
    printed, said = run()
    assert said == ""
    assert table(printed) == [
        [f"{name}/shop/prices", "5", "5", "0", "0"],
        [f"{name}/single", "1", "1", "0", "0"],
    ]
    assert versions(client, f"{name}/shop/prices") == [
        (1, "monday", "live"),
        (2, "default", "replaced"),
        (3, "default", "live"),
        (4, "default", "live"),
        (5, "monday", "live"),
    ]
    assert get(client, f"{name}/shop/prices")["v"].to_pylist() == [1, 3, 5, 4]
    assert get(client, f"{name}/shop/prices", external_key="monday", use_last=True)["v"].to_pylist() == [4]
    assert get(client, f"{name}/single")["v"].to_pylist() == ["a"]


def test_a_second_run_loads_what_is_new_alone(run, bucket, client, name):
    bucket.default("a", "2024-03-01 08:00:00", frame(1))
    bucket.keyed("a", "k", "2024-03-01 09:00:00", frame(2), keep_last=True)
    run()
    printed, _ = run()
    assert table(printed) == [[f"{name}/a", "0", "0", "2", "0"]]
    bucket.default("a", "2024-03-02 08:00:00", frame(3), frame(4))
    printed, _ = run()
    assert table(printed) == [[f"{name}/a", "1", "2", "2", "0"]]
    assert get(client, f"{name}/a")["v"].to_pylist() == [1, 2, 3, 4]


def test_the_parts_of_a_version_are_one_load(run, bucket, client, name):
    """Parts in the order in which they were written; the types fit the values of all of them."""
    day = ["2024-01-01", "2024-01-02"]
    parts = [
        pd.DataFrame({"n": [1, 2], "x": [1, 2], "day": day, "flag": [True, False], "text": ["a", None]}),
        pd.DataFrame({"n": [3, 4], "x": [2.5, None], "day": day, "flag": [True, None], "text": ['ü,"\n', "5"]}),
        pd.DataFrame({"n": [5], "x": [None], "day": [None], "flag": [None], "text": [None]}),
    ]
    bucket.default("a", "2024-03-01 08:00:00", *parts)
    run()
    assert versions(client, f"{name}/a") == [(1, "default", "live")]
    got = get(client, f"{name}/a")
    assert got.schema.types == [pa.int64(), pa.float64(), pa.date32(), pa.bool_(), pa.string()]
    assert got["n"].to_pylist() == [1, 2, 3, 4, 5]
    assert got["x"].to_pylist() == [1, 2, 2.5, None, None]
    assert got["text"].to_pylist() == ["a", None, 'ü,"\n', "5", None]


def test_a_column_has_one_type_in_all_versions(run, bucket, client, name):
    """Told from each version alone they would contradict each other."""
    bucket.default("a", "2024-03-01 08:00:00", pd.DataFrame({"code": [1, 2], "x": [1, 2], "t": ["2024-01-01"] * 2}))
    bucket.default("a", "2024-03-02 08:00:00", pd.DataFrame({"x": [0.5], "code": ["B7"], "t": ["2024-01-01 10:00:00"]}))
    bucket.default("a", "2024-03-03 08:00:00", pd.DataFrame({"code": [None], "new": [True]}))
    run()
    got = get(client, f"{name}/a")
    assert got.column_names == ["code", "x", "t", "new"]
    assert got["code"].to_pylist() == ["1", "2", "B7", None]
    assert got["x"].to_pylist() == [1.0, 2.0, 0.5, None]
    assert pa.types.is_timestamp(got["t"].type)


def test_a_large_version(run, bucket, client, name):
    """Three parts of 100,000 rows, as the first pandas-db cut them."""
    whole = pd.DataFrame({"n": range(300_000), "text": "a text that repeats"})
    bucket.default("a", "2024-03-01 08:00:00", *(whole[at : at + 100_000] for at in range(0, 300_000, 100_000)))
    run()
    assert get(client, f"{name}/a").to_pandas().equals(whole.astype({"text": "str"}))


def test_frames_without_rows(run, bucket, client, name):
    bucket.default("a", "2024-03-01 08:00:00", "v,w\n")
    run()
    got = get(client, f"{name}/a")
    assert (got.num_rows, got.column_names) == (0, ["v", "w"])


def test_a_dry_run_loads_nothing_and_needs_no_server(run, bucket, client, name):
    bucket.default("a", "2024-03-01 08:00:00", frame(1), frame(2))
    bucket.keyed("b/c", "k", "2024-03-02 08:00:00", frame(1), keep_last=True)
    bucket.write("b/c/notes.txt", "mine")
    printed, said = run("--dry-run", address="grpc://127.0.0.1:1")
    assert said == ""
    [first, second, stranger] = printed.splitlines()[1:]
    assert first.split()[:4] == [f"{name}/a", "default", "2024-03-01T08:00:00.000000Z", "2"]
    assert second.split()[:4] == [f"{name}/b/c", "k", "2024-03-02T08:00:00.000000Z", "1"] and second.endswith("yes")
    assert stranger == "no part of a version: b/c/notes.txt"
    assert list_names(client, name) == []


def test_a_version_that_cannot_be_read_stops_its_dataset_alone(run, bucket, client, name):
    good = bucket.default("bad", "2024-03-01 08:00:00", frame(1))
    cut = bucket.default("bad", "2024-03-02 08:00:00", frame(2))
    bucket.default("bad", "2024-03-03 08:00:00", frame(3))
    bucket.default("good", "2024-03-01 08:00:00", frame(1))
    [file] = (bucket.folder / cut).iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    printed, said = run(expect=1)
    assert f"{cut}: [INVALID_ARGUMENT] cannot read {cut}/{file.name}" in said
    assert "error: [INVALID_ARGUMENT] 3 versions of 1 datasets were left out" in said
    assert table(printed) == [[f"{name}/bad", "0", "0", "0", "3"], [f"{name}/good", "1", "1", "0", "0"]]
    assert_absent(client, f"{name}/bad")
    file.write_bytes(whole)
    printed, _ = run()
    assert table(printed) == [[f"{name}/bad", "3", "3", "0", "0"], [f"{name}/good", "0", "0", "1", "0"]]
    assert get(client, f"{name}/bad")["v"].to_pylist() == [1, 2, 3]
    assert good


def test_parts_with_other_columns_are_refused(run, bucket, client, name):
    bucket.default("a", "2024-03-01 08:00:00", frame(1), pd.DataFrame({"w": [1]}))
    _, said = run(expect=1)
    assert "its columns are w, those of the first file v" in said
    assert_absent(client, f"{name}/a")


@pytest.mark.parametrize("dry", [True, False])
def test_names_and_keys_that_cannot_be_are_told(run, bucket, client, name, dry):
    bucket.default("what?", "2024-03-01 08:00:00", frame(1))
    bucket.keyed("a", "x@y", "2024-03-01 08:00:00", frame(1))
    bucket.default("good", "2024-03-01 08:00:00", frame(1))
    _, said = run(*(["--dry-run"] if dry else []), expect=1)
    assert "what?: [INVALID_ARGUMENT] bad dataframe_name" in said and "'x@y'" in said
    assert list_names(client, name) == ([] if dry else [f"{name}/good"])


def test_files_that_belong_to_no_version_are_told(run, bucket, client, name):
    bucket.default("a", "2024-03-01 08:00:00", frame(1))
    for path in ("README.md", "a/external_key/k/not-a-uuid/x.csv.gz", "b/data/day/2024-01-01/x.csv.gz"):
        bucket.write(path, "v\n1\n")
    printed, _ = run()
    assert [line for line in printed.splitlines() if line.startswith("no part of a version: ")] == [
        "no part of a version: README.md",
        "no part of a version: a/external_key/k/not-a-uuid/x.csv.gz",
        "no part of a version: b/data/day/2024-01-01/x.csv.gz",
    ]
    assert list_names(client, name) == [f"{name}/a"]


def test_what_was_replaced_and_vacuumed_does_not_come_back(start_server, bucket):
    server = start_server(vacuum_after="0s")
    bucket.default("a", "2024-03-01 08:00:00", frame(1))
    bucket.default("a", "2024-03-01 09:00:00", frame(2), keep_last=True)
    for loaded in ("2", "0"):
        command = [conftest.binary(), "import-legacy", bucket.folder, "--server", server.flight]
        ended = subprocess.run(command, env=conftest.clean_environment(), capture_output=True, text=True, check=True)
        assert table(ended.stdout)[0][1] == loaded
        vacuum = [conftest.binary(), "vacuum", "a", "--server", server.flight]
        subprocess.run(vacuum, env=conftest.clean_environment(), capture_output=True, check=True)
    with server.connect() as client:
        assert get(client, "a")["v"].to_pylist() == [2]
        with refused("NOT_FOUND"):
            get(client, "a", version=1)


@pytest.mark.parametrize(
    "source, mentions",
    [("s3://No_Bucket/x", "s3://bucket"), ("/no/such/folder", "no folder"), ("gopher://x", "gopher")],
)
def test_places_that_cannot_be_opened(run, source, mentions):
    printed, said = run(expect=1, source=source)
    assert printed == "" and mentions in said and len(said.splitlines()) == 1


def test_an_empty_folder_is_no_failure(run):
    printed, said = run()
    assert table(printed) == [] and said == ""
