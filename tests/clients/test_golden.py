"""Golden files of everything that is stored, so that no change of a format goes unseen.

A fixed history is made through the Flight port, and what it leaves on disk is compared with ``tests/golden``. What
differs from run to run stands there as a numbered placeholder. With ``PANDAS_DB_UPDATE_GOLDEN=1`` the files are written
anew; the run fails then, so that nothing passes on files that nobody has looked at.
"""

from __future__ import annotations

import base64
import datetime
import difflib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
import wire
from conftest import Server
from frames import (
    assert_tables_equal,
    get,
    get_command,
    get_info,
    list_names,
    load,
    location,
    refused,
    sql,
    table_name,
)
from versions import (
    compact,
    delete_dataframe,
    delete_version,
    describe,
    frame,
    list_versions,
    set_retention,
    vacuum,
    values,
)
from writes import write

pytestmark = pytest.mark.local_only("the names and the bytes of files are held against golden ones")
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
UPDATE = "PANDAS_DB_UPDATE_GOLDEN"
NAME = "golden/sales"
KEYS = {"sold on": "Date", "id": "ID"}
FORMAT_VERSION = 1
LOAD_COLUMN = "__pdb_load"

# Each is a commit; the update moves a row to another partition, and brings a category and nanoseconds.
STATEMENTS = {
    "update": "UPDATE {} SET \"sold on\" = DATE '2024-01-09', c = 'fresh',"
    " t = TIMESTAMP '2024-01-09T00:00:00.000000007' WHERE id = 8",
    "insert": "INSERT INTO {} (\"sold on\", id, s) VALUES (DATE '2024-01-10', 20, 'inserted')",
    "delete": "DELETE FROM {} WHERE id = 9",
    "merge": "MERGE INTO {} AS o USING (VALUES (5, 5.0), (20, NULL), (21, 2.5)) AS n(k, v) ON o.id = n.k"
    " WHEN MATCHED AND n.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET x = n.v"
    " WHEN NOT MATCHED THEN INSERT (\"sold on\", id, x) VALUES (DATE '2024-01-11', n.k, n.v)",
}

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
JWT = re.compile(rb"eyJ[\w-]+\.[\w-]+\.[\w-]+")
RELEASE = re.compile(r"\d+\.\d+\.\d+\S*")
SHOWN_VALUES = 4  # Of a list longer than this, only the ends are shown.


# What differs from run to run


class Placeholders:
    """Puts numbered placeholders where values differ from run to run; equal values get equal ones.

    Instants are known from the commits and version records that begin them: what another place says of the same instant
    in another unit gets its number too. What is no known instant, load or size stays, and so shows as a difference.
    """

    def __init__(self) -> None:
        self._ulids: dict[str, int] = {}
        self._instants: dict[int, int] = {}  # By microseconds.
        self._loads: dict[int, int] = {}
        self._sizes: dict[str, int] = {}

    def learn(self, record: dict) -> None:
        """Number the instants and loads of a commit's record, in the order of its versions."""
        for version in record.get("versions", []):
            self._instant(micros(version["created_at"]))
            self._loads.setdefault(version["load_id"], version["version"])
        self._instant(micros(record["at"]))

    def put(self, value: object, key: str = "") -> object:
        """Return a JSON value with placeholders; ``key`` is what it stands under."""
        if isinstance(value, dict):
            value = value | self._size(value) | self._bounds_of_loads(value)
            return {name: self.put(value[name], name) for name in sorted(value)}
        if isinstance(value, list):
            return [self.put(item, key) for item in value]
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(value, key)
        return value

    def text(self, text: str) -> str:
        """Return a text with placeholders for its ULIDs."""
        return ULID.sub(lambda found: f"<ulid {self._ulids.setdefault(found[0], len(self._ulids) + 1)}>", text)

    def _text(self, text: str, key: str) -> object:
        if key in ("clientVersion", "engineInfo", "created_by"):
            return RELEASE.sub("<release>", text)
        if INSTANT.fullmatch(text) and micros(text) in self._instants:
            return f"<instant {self._instants[micros(text)]}>"
        if text[:1] in ("{", "["):
            return {"<JSON as text>": self.put(json.loads(text), key)}
        return self.text(text)

    def _number(self, number: int, key: str) -> object:
        if number in self._loads:
            return f"<load of version {self._loads[number]}>"
        if key in ("modificationTime", "deletionTimestamp", "createdTime"):
            same = [place for known, place in self._instants.items() if known // 1_000 == number]
            return f"<instant {same[-1]} in ms>" if same else number
        if key.endswith("_micros"):
            return f"<instant {self._instant(number)} in us>"
        if key == "timestamp":  # Delta's own clock, which is read a little later: whether it agrees is chance.
            return "<time of writing in ms>"
        return number

    def _instant(self, number: int) -> int:
        return self._instants.setdefault(number, len(self._instants) + 1)

    def _size(self, action: dict) -> dict:
        """Sizes are told by whose they are: two files may have the same by chance."""
        if "path" not in action or "size" not in action:
            return {}
        path, size = action["path"], action["size"]
        return {"size": f"<size of {path}>"} if self._sizes.setdefault(path, size) == size else {}

    def _bounds_of_loads(self, value: dict) -> dict:
        """Return other bounds where there are several loads: which of them has the smallest number is chance."""
        if value.keys() >= {"minValues", "maxValues"}:
            ends = {"min": value["minValues"].get(LOAD_COLUMN), "max": value["maxValues"].get(LOAD_COLUMN)}
            ends = self._bounds_of_loads(ends)
            return {f"{end}Values": value[f"{end}Values"] | {LOAD_COLUMN: told} for end, told in ends.items()}
        low, high = value.get("min"), value.get("max")
        if low in self._loads and high in self._loads and low < high:
            return {"min": "<the smallest of its loads>", "max": "<the greatest of its loads>"}
        return {}


def micros(instant: str) -> int:
    """Return an ISO 8601 instant as microseconds since 1970."""
    return (datetime.datetime.fromisoformat(instant) - EPOCH) // datetime.timedelta(microseconds=1)


# What is stored, in words


def read_commit(path: Path) -> list[dict]:
    """Return the actions of a commit, with what they hold as Arrow streams told in words.

    Those on files come in the order of their folders, each removal before the addition that takes its place: a commit
    is a set, in which chunks that are rewritten at the same time stand in any order.
    """
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    actions.sort(key=place_of_action)
    for version in record_of(actions).get("versions", []):
        version["schema"] = {"<Arrow stream in base64>": tell_stream(base64.b64decode(version["schema"]))}
        categories = version.get("categories", {})
        if "inline" in categories:
            categories["inline"] = {"<Arrow stream in base64>": tell_stream(base64.b64decode(categories["inline"]))}
    return actions


def place_of_action(action: dict) -> tuple[bool, str, bool]:
    """Return what an action is sorted by; those that are not on files stay where they are, before them."""
    ((kind, fields),) = action.items()
    on_file = kind in ("add", "remove")
    return on_file, ULID.sub("", fields["path"]) if on_file else "", kind == "add"


def record_of(actions: list[dict]) -> dict:
    """Return the record that a commit's actions hold."""
    (info,) = (action["commitInfo"] for action in actions if "commitInfo" in action)
    return info["pandasDb"]


def tell_metadata(metadata: dict | None) -> dict:
    """Return key-value metadata as text."""
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}


def tell_stream(stream: bytes) -> dict:
    """Tell the messages, the schema and the rows of an Arrow IPC stream."""
    messages = list(pa.ipc.MessageReader.open_stream(stream))
    table = pa.ipc.open_stream(stream).read_all()
    return {
        "messages": [f"{message.type}, {message.metadata_version.name}" for message in messages],
        "fields": [tell_field(field) for field in table.schema],
        "metadata": tell_metadata(table.schema.metadata),
        "rows": [[tell_values(value) for value in row.values()] for row in table.to_pylist()],
    }


def tell_field(field: pa.Field) -> dict:
    """Tell a field of an Arrow schema."""
    told = {"name": field.name, "type": str(field.type), "nullable": field.nullable}
    return told | {"metadata": tell_metadata(field.metadata)} if field.metadata else told


def tell_values(found: object) -> object:
    """Return a list with its middle left out."""
    if not isinstance(found, list) or len(found) <= SHOWN_VALUES:
        return found
    return [found[0], f"<{len(found) - 2} more>", found[-1]]


def tell_chunk(path: Path) -> dict:
    """Tell the form of a Parquet file, but for how its pages are encoded."""
    file = pq.ParquetFile(path)
    metadata, group = file.metadata, file.metadata.row_group(0)
    return {
        "created_by": metadata.created_by,
        "format_version": metadata.format_version,
        "key_value_metadata": tell_metadata(metadata.metadata),
        "rows_of_row_groups": [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)],
        "schema": str(file.schema).splitlines()[1:],
        "columns": [tell_column(group.column(place)) for place in range(metadata.num_columns)],
    }


def tell_column(column: pq.ColumnChunkMetaData) -> dict:
    """Tell the form of a column of a Parquet file."""
    told = {
        "name": column.path_in_schema,
        "compression": column.compression,
        "column_index": column.has_column_index,
        "offset_index": column.has_offset_index,
        "statistics": None,
    }
    if column.is_stats_set:
        statistics = column.statistics
        known = {"nulls": statistics.null_count, "distinct": statistics.distinct_count}
        ends = {"min": statistics.min, "max": statistics.max} if statistics.has_min_max else {}
        told["statistics"] = known | {
            end: value if isinstance(value, (int, float)) else str(value) for end, value in ends.items()
        }
    return told


def query_versions(server: Server, query: str) -> list[dict]:
    """Query the version store as another program does that opens the file."""
    connection = sqlite3.connect(f"file:{server.storage}/versions.db?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(query)]
    finally:
        connection.close()


def tell_ticket(info: flight.FlightInfo, asked: float) -> dict:
    """Tell what a ticket says, without a look at its signature; ``asked`` is when it was asked for, in seconds."""
    (endpoint,) = info.endpoints
    parts = JWT.search(endpoint.ticket.ticket)[0].split(b".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + b"==")) for part in parts[:2])
    lasts = 24 * 3_600
    assert int(asked) + lasts <= claims["exp"] <= time.time() + lasts
    claims["exp"] = f"<time of signing in s + {lasts}>"
    is_whole = JWT.fullmatch(endpoint.ticket.ticket) is not None
    return {"ticket": "the token" if is_whole else "a message that holds the token", "header": header, "claims": claims}


# The history


def sales(first_id: int, *, days: list[int], category_names: list[str], x: pa.Array) -> pa.Table:
    """Return a frame with a date and an id, two names equal but for case, categories, nanoseconds and metadata."""
    rows = len(days)
    nanos = [1_700_000_000_000_000_001 + 1_000_000_000 * row if days[row] == 0 else 1_000 for row in range(rows)]
    words = [None if row == 1 else f"word {row}" for row in range(rows)]
    codes = pa.array([row % 2 for row in range(rows)], pa.int16())
    table = pa.table(
        {
            "sold on": pa.array([19_723 + day for day in days], pa.int32()).cast(pa.date32()),
            "id": pa.array([first_id + row for row in range(rows)], pa.int64()),
            "s": pa.array(words),
            "S": pa.array(words, pa.large_string()),
            "c": pa.DictionaryArray.from_arrays(codes, category_names),
            "t": pa.array(nanos, pa.timestamp("ns")),
            "x": x,
        }
    )
    described = table.schema.field("x").with_metadata({"unit": "EUR", "source": "till"})
    schema = table.schema.set(table.schema.get_field_index("x"), described)
    return table.cast(schema.with_metadata({"owner": "ops", "note": "fixed"}))


def tiny(number: int) -> pa.Table:
    """Return a frame of one row, of the same date whatever its id."""
    return sales(number, days=[1], category_names=["a"], x=pa.array([number / 4]))


class Recording:
    """What a server stores while it makes the history.

    Parameters
    ----------
    server : Server
        A server without data, that vacuums what has ended at once and does nothing by itself.

    Attributes
    ----------
    commits : dict of str to list of dict
        The actions of each commit as stored, by its kind.
    texts : dict of str to str
        What the golden files are to say, by their names.
    """

    def __init__(self, server: Server):
        self.commits: dict[str, list[dict]] = {}
        self.texts: dict[str, str] = {}
        self._server = server
        self._placeholders = Placeholders()
        self._root = Path()
        with server.connect() as client:
            self._make(client)
        assert server.stop() == 0, server.errors()
        stored = (path.relative_to(server.storage).as_posix() for path in server.storage.rglob("*") if path.is_file())
        stored = (path for path in stored if not path.startswith("versions.db-"))  # What SQLite has beside a file.
        self._note("files.json", sorted(self._placeholders.text(path) for path in stored))

    def _make(self, client: flight.FlightClient) -> None:
        """Make the history. Nothing is read before the vacuum, which would spare what a read still needs."""
        first = sales(1, days=[0, 0, 1], category_names=["b", "a", "unused"], x=pa.array([1, -2, 3]))
        result = load(client, first, NAME, columns_keys=KEYS)
        self._root = location(self._server, result)
        self._note_commit("load_first")
        self._note("chunk_of_a_load.json", tell_chunk(self._root / result["chunks"][0]["path"]))

        names = [f"category {number:04}" for number in range(2_000)]
        load(client, sales(4, days=[0], category_names=names, x=pa.array([4])), NAME, external_key="k")
        self._note_commit("load_with_many_categories")
        (file,) = (self._root / "_pandas_db").iterdir()
        self._note("categories.json", tell_stream(file.read_bytes()))

        again = sales(5, days=[0], category_names=["z"], x=pa.array([None], pa.int64()))
        load(client, again, NAME, external_key="k", keep_last=True, idempotency_key="once")
        self._note_commit("load_that_replaces")

        wider = sales(6, days=[0], category_names=["a"], x=pa.array([6.5])).append_column("more", pa.array([True]))
        load(client, wider, NAME)
        self._note_commit("load_that_adds_and_widens_columns")

        delete_version(client, NAME, 1)
        self._note_commit("delete_version")
        set_retention(client, NAME, keep_versions=1, keep_seconds=86_400)
        self._note_commit("set_retention")
        load(client, tiny(7).drop_columns(["S", "c"]), NAME)
        self._note_commit("load_of_fewer_columns")
        set_retention(client, NAME, keep_versions=1)
        self._note_commit("set_retention_that_ends_versions")
        load(client, tiny(8), NAME)
        self._note_commit("load_under_retention")
        load(client, tiny(9), NAME, external_key="tiny")
        self._note_commit("load_of_another_key")

        assert compact(client, NAME)["chunks_after"] == 2
        merged = self._note_commit("compact")
        (add,) = (action["add"] for action in merged if "add" in action)
        self._note("chunk_of_a_merge.json", tell_chunk(self._root / unquote(add["path"])))
        assert vacuum(client, NAME)["versions_removed"] > 0
        self._note_commit("vacuum")

        self._note("tickets.json", self._tickets(client))
        dataset = query_versions(self._server, "select * from dataset")
        set_retention(client, NAME)
        self._note_commit("set_retention_that_keeps_all")
        for kind, statement in STATEMENTS.items():
            write(client, statement.format(table_name(NAME)))
            self._note_commit(kind)
        delete_dataframe(client, NAME)
        self._note_commit("delete_dataframe")
        self._note("version_store.json", self._version_store() | {"a row of dataset": dataset})

    def _tickets(self, client: flight.FlightClient) -> dict:
        asked = time.time()
        command = get_command(NAME, external_key="k", columns=["s", "x"], filter="x > 1", use_last=True)
        query = f"SELECT s FROM {table_name(NAME)}"
        infos = {
            "of a path": get_info(client, NAME),
            "of a GetDataframe": client.get_flight_info(flight.FlightDescriptor.for_command(command)),
            "of a statement": client.get_flight_info(flight.FlightDescriptor.for_command(wire.statement(query))),
        }
        return {what: tell_ticket(info, asked) for what, info in infos.items()}

    def _version_store(self) -> dict:
        pragmas = {name: f"pragma {name}" for name in ("user_version", "application_id", "encoding", "journal_mode")}
        return {
            "pragmas": {name: query_versions(self._server, query)[0][name] for name, query in pragmas.items()},
            "schema": [
                row | {"sql": row["sql"] and row["sql"].splitlines()}
                for row in query_versions(self._server, "select name, sql from sqlite_master order by name")
            ],
            "a row of forgotten": query_versions(self._server, "select * from forgotten"),
        }

    def _note_commit(self, kind: str) -> list[dict]:
        """Note the one commit that was made since the last note."""
        *_, path = log = sorted((self._root / "_delta_log").iterdir())
        assert len(log) == len(self.commits) + 1, f"{kind} is not one commit: {log}"
        actions = read_commit(path)
        self._placeholders.learn(record_of(actions))
        self._note(f"commit_{len(self.commits):02}_{kind}.json", *actions)
        self.commits[kind] = actions
        return actions

    def _note(self, file: str, *told: object) -> None:
        documents = (self._placeholders.put(document) for document in told)
        self.texts[file] = "".join(
            json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n" for document in documents
        )


@pytest.fixture
def recording(start_server: Callable[..., Server]) -> Recording:
    """The history, made anew."""
    return Recording(start_server(vacuum_after="0s", maintenance_interval="1d"))


# The tests


def test_what_is_stored_is_what_the_golden_files_say(recording):
    golden = {path.name: path.read_text() for path in GOLDEN.iterdir()} if GOLDEN.exists() else {}
    if os.environ.get(UPDATE) == "1":
        GOLDEN.mkdir(exist_ok=True)
        for file in golden.keys() - recording.texts.keys():
            (GOLDEN / file).unlink()
        for file, text in recording.texts.items():
            (GOLDEN / file).write_text(text)
        pytest.fail(f"{UPDATE}=1: the golden files were written anew; look at their changes, and run again without it")
    changes = []
    for file in sorted(golden.keys() | recording.texts.keys()):
        known, stored = golden.get(file, "").splitlines(), recording.texts.get(file, "").splitlines()
        changes += difflib.unified_diff(known, stored, f"tests/golden/{file}", f"stored: {file}", lineterm="")
    if changes:
        pytest.fail("\n".join(["what is stored has another form", *changes]), pytrace=False)


def test_every_commit_tells_its_format(recording):
    formats = {kind: record_of(actions)["format_version"] for kind, actions in recording.commits.items()}
    assert formats == dict.fromkeys(recording.commits, FORMAT_VERSION)
    assert len(formats) >= 10


# Newer formats


@pytest.fixture
def with_newer_format(start_server: Callable[..., Server], tmp_path: Path) -> Callable[[int], tuple[Server, Path]]:
    """A function that starts a server on a storage where a commit of ``newer/data`` has a format of the future."""

    def start(commit: int) -> tuple[Server, Path]:
        first = start_server()
        with first.connect() as client:
            for number in (1, 2):
                root = location(first, load(client, frame(number), "newer/data"))
                load(client, frame(-number), "own/data")
        assert first.stop() == 0, first.errors()
        storage = tmp_path / "copy"
        shutil.copytree(first.storage, storage)
        log = storage / root.relative_to(first.storage) / "_delta_log"
        path = sorted(log.iterdir())[commit]
        mine, newer = (f'"format_version":{version}' for version in (FORMAT_VERSION, FORMAT_VERSION + 1))
        text = path.read_text()
        assert text.count(mine) == 1
        path.write_text(text.replace(mine, newer))
        return start_server(storage=storage), log

    return start


@pytest.mark.parametrize("commit", [0, 1])
def test_a_commit_of_a_newer_format_is_refused(with_newer_format, commit):
    server, log = with_newer_format(commit)
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    newer = f"format {FORMAT_VERSION + 1}"
    with server.connect() as client:
        for ask in (
            lambda: get(client, "newer/data"),
            lambda: get(client, "newer/data", version=1),
            lambda: get_info(client, "newer/data"),
            lambda: sql(client, f"SELECT * FROM {table_name('newer/data')}"),
            lambda: describe(client, "newer/data"),
            lambda: list_versions(client, "newer/data"),
            lambda: load(client, frame(3), "newer/data"),
            lambda: delete_version(client, "newer/data", 1),
            lambda: delete_dataframe(client, "newer/data"),
            lambda: vacuum(client, "newer/data"),
        ):
            with refused("UNIMPLEMENTED", mentions=[newer, "newer pandas-db"]):
                ask()
    assert {path.name: path.read_bytes() for path in log.iterdir()} == before, "nothing was written"
    assert server.stop() == 0, server.errors()


def test_other_datasets_work_beside_one_of_a_newer_format(with_newer_format):
    server, _ = with_newer_format(1)
    with server.connect() as client:
        with refused("UNIMPLEMENTED"):
            get(client, "newer/data")
        assert values(client, "own/data") == [-1, -2]
        assert load(client, frame(-3), "own/data")["version"] == 3
        assert_tables_equal(get(client, "own/data"), frame(-1, -2, -3))
        assert sql(client, f"SELECT sum(x) AS s FROM {table_name('own/data')}").to_pylist() == [{"s": -6}]
        assert [record["version"] for record in list_versions(client, "own/data")] == [1, 2, 3]
        assert list_names(client) == list_names(client, "own/") == ["own/data"]
        shown = sql(client, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'own'")
        assert shown["table_name"].to_pylist() == ["data"]
