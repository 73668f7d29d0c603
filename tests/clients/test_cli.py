"""The command-line client: `pandas-db put`, `get`, `sql`, `ls`, `versions`, `rm`, `compact` and `vacuum`."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import conftest
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import assert_absent, assert_tables_equal, get, load, location, table_name
from pandas.testing import assert_frame_equal
from versions import KEYS, frame, load_history, rows_of, states, values

FRAME = pd.DataFrame(
    {
        "day": pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-02"]),
        "id": [30, 10, 20],
        "name": ["c", None, 'a,"b"'],
        "v": [1.5, np.nan, -2.0],
    },
    index=pd.Index(["x", "y", "z"], name="key"),
)


@pytest.fixture
def on_terminal(server, tmp_path):
    """A function that runs a command with a terminal for stdin and stderr, and returns its exit code and both outputs.

    ``typed`` is what somebody types in.
    """

    def run(*words: object, typed: str = "") -> tuple[int, str, str]:
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        process = subprocess.Popen(
            [conftest.binary(), words[0], "--server", server.flight, *map(str, words[1:])],
            cwd=tmp_path,
            env=conftest.clean_environment(TERM="xterm"),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65_536)
            except OSError:  # The other end was closed.
                break
        os.close(ours)
        out, _ = process.communicate(timeout=conftest.PATIENCE)
        return process.returncode, out.decode(), shown.decode()

    return run


@pytest.fixture
def run(server, tmp_path):
    """A function that runs a command against the shared server; its output is piped."""

    def run(*words: object, expect: int = 0, address: str | None = None) -> subprocess.CompletedProcess:
        ended = subprocess.run(
            [conftest.binary(), words[0], "--server", address or server.flight, *map(str, words[1:])],
            env=conftest.clean_environment(),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=conftest.PATIENCE,
        )
        assert ended.returncode == expect, ended
        if expect == 0:
            assert ended.stderr == "", "nothing but the answer when piped"
        else:
            assert ended.stdout == ""
            assert ended.stderr.strip() and "panicked" not in ended.stderr
        assert "\r" not in ended.stdout + ended.stderr and "\x1b" not in ended.stdout + ended.stderr
        return ended

    return run


# put and get


def test_parquet_goes_in_and_comes_out_equal(run, client, name, tmp_path):
    FRAME.to_parquet(tmp_path / "in.parquet")
    run("put", "in.parquet", name)
    assert_tables_equal(get(client, name), pa.Table.from_pandas(FRAME))
    run("get", name, "-o", "out.parquet")
    assert_tables_equal(pq.read_table(tmp_path / "out.parquet"), pa.Table.from_pandas(FRAME))
    assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), FRAME)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_ipc_goes_in(run, client, name, tmp_path, kind):
    table = pa.Table.from_pandas(FRAME)
    write = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with write(str(tmp_path / "in.arrow"), table.schema) as writer:
        writer.write_table(table)
    run("put", "in.arrow", name)
    assert_tables_equal(get(client, name), table)


def test_csv_goes_in(run, client, name, tmp_path):
    FRAME.to_csv(tmp_path / "in.csv", index=False)
    run("put", "in.csv", name)
    got = get(client, name)
    assert got.column_names == ["day", "id", "name", "v"]
    assert got["id"].to_pylist() == [30, 10, 20]
    assert got["v"].to_pylist() == [1.5, None, -2.0]
    assert got["name"].to_pylist()[2] == 'a,"b"'
    assert [str(day)[:10] for day in got["day"].to_pylist()] == ["2024-01-02", "2024-01-01", "2024-01-02"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_the_content_tells_the_format_not_the_name(run, client, name, tmp_path, kind):
    file = tmp_path / "data.bin"
    if kind == "parquet":
        FRAME.to_parquet(file)
    elif kind == "csv":
        FRAME.to_csv(file, index=False)
    else:
        table = pa.Table.from_pandas(FRAME)
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table)
    run("put", file, name)
    assert get(client, name)["id"].to_pylist() == [30, 10, 20]


def test_keys_are_given_by_column(run, server, client, name, tmp_path):
    FRAME.assign(second=FRAME["day"]).to_parquet(tmp_path / "in.parquet")
    run("put", "in.parquet", name, "--date", "day", "--date", "second", "--id", "id")
    result = load(client, FRAME.assign(second=FRAME["day"]), name)
    assert result["columns_keys"] == {"day": "Date", "second": "Date", "id": "ID"}
    folders = {
        str(file.parent.relative_to(location(server, result))) for file in location(server, result).rglob("*.parquet")
    }
    assert {"/".join(folder.split("/")[:4]) for folder in folders if "day/" in folder} == {
        "day/2024-01-01/second/2024-01-01",
        "day/2024-01-02/second/2024-01-02",
    }


def test_external_key_and_keep_last(run, client, name, tmp_path):
    for number, options in enumerate([[], ["--external-key", "k"], ["--external-key", "k", "--keep-last"], []]):
        pq.write_table(pa.table({"x": [number]}), tmp_path / "in.parquet")
        run("put", "in.parquet", name, *options)
    assert get(client, name)["x"].to_pylist() == [0, 2, 3]
    assert get(client, name, external_key="k")["x"].to_pylist() == [2]


def test_a_large_file_is_streamed(run, client, name, tmp_path):
    table = pa.table({"x": np.arange(3_000_000), "v": np.random.default_rng(1).random(3_000_000)})
    pq.write_table(table, tmp_path / "in.parquet")
    run("put", "in.parquet", name)
    run("get", name, "-o", "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(table)


def test_the_server_may_be_given_by_the_environment(server, client, name, tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "in.parquet")
    env = conftest.clean_environment(PANDAS_DB_SERVER=server.flight)
    subprocess.run(
        [conftest.binary(), "put", "in.parquet", name], cwd=tmp_path, env=env, check=True, capture_output=True
    )
    assert get(client, name)["x"].to_pylist() == [1]


# sql and ls


@pytest.fixture
def loaded(client, name) -> str:
    """The SQL name of a small dataset."""
    load(client, pa.table({"x": [1, 2, None], "s": ["a", 'b,"c"', None]}), name)
    return table_name(name)


def test_sql_as_csv(run, loaded):
    out = run("sql", f"SELECT * FROM {loaded} ORDER BY x", "--format", "csv").stdout
    assert list(csv.reader(io.StringIO(out))) == [["x", "s"], ["1", "a"], ["2", 'b,"c"'], ["", ""]]


def test_sql_as_json(run, loaded):
    out = run("sql", f"SELECT * FROM {loaded} ORDER BY x", "--format", "json").stdout
    try:
        records = json.loads(out)
    except json.JSONDecodeError:
        records = [json.loads(line) for line in out.splitlines()]
    assert [(record.get("x"), record.get("s")) for record in records] == [(1, "a"), (2, 'b,"c"'), (None, None)]


@pytest.mark.parametrize("options", [[], ["--format", "table"]], ids=["default", "table"])
def test_sql_as_a_table(run, loaded, options):
    out = run("sql", f"SELECT s, x FROM {loaded} WHERE x = 2", *options).stdout
    assert [
        [word.strip() for word in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")
    ] == [["s", "x"], ['b,"c"', "2"]]


def test_sql_as_parquet(server, loaded, tmp_path):
    command = [
        conftest.binary(),
        "sql",
        "--server",
        server.flight,
        f"SELECT x FROM {loaded} ORDER BY x",
        "--format",
        "parquet",
    ]
    out = subprocess.run(command, env=conftest.clean_environment(), capture_output=True, check=True).stdout
    assert pq.read_table(io.BytesIO(out)).to_pydict() == {"x": [1, 2, None]}


def test_ls_lists_by_prefix(run, client, name):
    for each in ("a", "ab", "b"):
        load(client, pa.table({"x": [1]}), f"{name}/{each}")
    lines = run("ls", f"{name}/a").stdout.splitlines()
    assert [any(f"{name}/{each}" in line.split() for line in lines) for each in ("a", "ab", "b")] == [True, True, False]
    assert any(f"{name}/b" in line.split() for line in run("ls").stdout.splitlines())


# versions, rm, compact and vacuum


def listed(text: str) -> list[list[str]]:
    """Return the first four cells of each version in the output of `versions`: number, key, state, created."""
    header, *lines = text.splitlines()
    assert header.split() == ["VERSION", "KEY", "STATE", "CREATED", "BY", "ROWS", "BYTES", "CHUNKS"]
    for line in lines:
        assert re.fullmatch(r" *\d+  \S+ +\S+ +\S+ +local +2 +\d+ B +1", line), line
    return [line.split()[:4] for line in lines]


def test_versions_lists_live_ones_and_on_demand_all(run, client, name):
    results = load_history(client, name)
    state = dict.fromkeys((4, 5, 6), "live")
    every = [
        [str(number), KEYS[number - 1], state.get(number, "replaced"), result["created_at"]]
        for number, result in enumerate(results, 1)
    ]
    assert listed(run("versions", name).stdout) == every[3:]
    assert listed(run("versions", name, "--all").stdout) == every
    assert listed(run("versions", name, "--external-key", "b").stdout) == every[4:5]
    assert listed(run("versions", name, "--external-key", "b", "--all").stdout) == [every[1], every[4]]
    run("rm", name, "--yes", "--version", 5)
    assert listed(run("versions", name, "--external-key", "b").stdout) == []


def test_rm_deletes_a_version(run, client, name):
    load_history(client, name)
    assert run("rm", name, "--version", 4, "--yes").stdout == f"{name}: version 4 deleted\n"
    assert values(client, name) == rows_of(5, 6)
    assert states(client, name)[4] == "deleted"
    for number in (4, 1, 99):
        assert "version" in run("rm", name, "--version", number, "--yes", expect=1).stderr
    assert values(client, name) == rows_of(5, 6)


def test_rm_deletes_a_dataset(run, client, name):
    load_history(client, name)
    load(client, frame(7), f"{name}/b")
    assert run("rm", name, "--yes").stdout == f"{name}: deleted\n"
    assert_absent(client, name)
    assert values(client, f"{name}/b") == [7]


@pytest.mark.parametrize("options", [[], ["--version", 4]], ids=["dataset", "version"])
def test_rm_without_a_terminal_needs_yes(run, client, name, options):
    load_history(client, name)
    error = run("rm", name, *options, expect=2).stderr
    assert "--yes" in error and len(error.splitlines()) == 1
    assert values(client, name) == rows_of(4, 5, 6)


@pytest.mark.parametrize("options", [[], ["--version", 4]], ids=["dataset", "version"])
def test_rm_asks_on_a_terminal(on_terminal, client, name, options):
    load_history(client, name)
    for typed in ("n\n", "\n", "yesterday\n", "\x04"):  # The last is the end of input.
        code, out, shown = on_terminal("rm", name, *options, typed=typed)
        assert (code, out) == (1, ""), shown
        assert name in shown and "[y/N]" in shown and "nothing was deleted" in shown
        assert values(client, name) == rows_of(4, 5, 6)
    code, out, shown = on_terminal("rm", name, *options, typed="y\n")
    assert code == 0, shown
    if options:
        assert out == f"{name}: version 4 deleted\n"
        assert values(client, name) == rows_of(5, 6)
    else:
        assert out == f"{name}: deleted\n"
        assert_absent(client, name)


def test_rm_with_yes_asks_nothing(on_terminal, client, name):
    load_history(client, name)
    code, out, shown = on_terminal("rm", name, "--yes")
    assert (code, out) == (0, f"{name}: deleted\n")
    assert "[y/N]" not in shown
    assert_absent(client, name)


def test_compact_tells_what_it_merged(run, client, name):
    for number in range(3):
        load(client, frame(number), name)
    assert run("compact", name).stdout == f"{name}: merged 3 chunks into 1\n"
    assert run("compact", name).stdout == f"{name}: nothing to merge in 1 chunk\n"
    assert values(client, name) == [0, 1, 2]


def test_vacuum_tells_what_it_deleted(run, start_server):
    server = start_server(vacuum_after="0s")
    with server.connect() as client:
        for number in range(3):
            load(client, frame(number), "own/data", keep_last=True)
        told = run("vacuum", "own/data", address=server.flight).stdout
        assert re.fullmatch(r"own/data: deleted 2 files \([\d.]+ [KMG]?i?B\), removed 2 versions\n", told)
        assert run("vacuum", "own/data", address=server.flight).stdout == "own/data: nothing to vacuum\n"
        assert states(client, "own/data") == {3: "live"}


def test_compact_and_vacuum_work_on_a_terminal(on_terminal, client, name):
    for number in range(3):
        load(client, frame(number), name)
    code, out, shown = on_terminal("compact", name)
    assert (code, out) == (0, f"{name}: merged 3 chunks into 1\n"), shown
    code, out, shown = on_terminal("vacuum", name)
    assert (code, out) == (0, f"{name}: nothing to vacuum\n"), shown


# Where options stand


def program(*words: str, **env: str) -> subprocess.CompletedProcess:
    """Run the program with these words and no others."""
    return subprocess.run(
        [conftest.binary(), *words],
        env=conftest.clean_environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=conftest.PATIENCE,
    )


def test_the_server_stands_before_or_after_the_command_or_in_the_environment(server, client, name):
    load(client, frame(1), name)
    away = "grpc://127.0.0.1:9"
    for ended in (
        program("--server", server.flight, "ls", name),
        program("ls", "--server", server.flight, name),
        program("ls", name, "--server", server.flight, "--token", "t"),
        program("--token", "t", "ls", name, PANDAS_DB_SERVER=server.flight),
        program("--token", "t", "--server", server.flight, "versions", name),
        program("--server", server.flight, "ls", name, PANDAS_DB_SERVER=away),
        program("ls", name, "--server", server.flight, PANDAS_DB_SERVER=away, PANDAS_DB_TOKEN="t"),
        program("--server", away, "ls", name, "--server", server.flight),
    ):
        assert (ended.returncode, ended.stderr) == (0, "")
        assert len(ended.stdout.splitlines()) == 2
    assert away in program("--server", away, "ls", name, PANDAS_DB_SERVER=server.flight).stderr


@pytest.mark.parametrize(
    "words, mentions",
    [
        (["--server", "grpc://127.0.0.1:9"], "--server"),
        (["serve", "--server", "grpc://127.0.0.1:9"], "--server"),
        (["--token", "t", "serve"], "--token"),
        (["--listen", "127.0.0.1:0", "ls"], "--listen"),
        (["--storage", "x", "serve"], "--storage"),
        (["ls", "--listen", "127.0.0.1:0"], "--listen"),
        (["versions"], "NAME"),
        (["rm", "--yes"], "NAME"),
        (["rm", "a/b", "--yes", "--version", "one"], "--version"),
        (["compact", "a/b", "c/d"], "c/d"),
        (["vacuum", "a/b", "--nonsense"], "--nonsense"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line_with_exit_code_2(words, mentions):
    ended = program(*words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert mentions in ended.stderr


# Errors and progress


@pytest.mark.parametrize(
    "words, mentions",
    [
        (["put", "absent.parquet", "a/b"], "absent.parquet"),
        (["put", "bad.parquet", "a/b"], "bad.parquet"),
        (["put", "good.parquet", "a//b"], "INVALID_ARGUMENT"),
        (["put", "good.parquet", "a/b", "--date", "nope"], "nope"),
        (["get", "no/such", "-o", "out.parquet"], "no/such"),
        (["get", "no/such", "-o", "absent/folder/out.parquet"], ""),
        (["sql", "SELEC 1"], "INVALID_ARGUMENT"),
        (["sql", "SELECT * FROM no.such"], "such"),
        (["versions", "no/such"], "NOT_FOUND"),
        (["versions", "no//such"], "INVALID_ARGUMENT"),
        (["rm", "no/such", "--yes"], "NOT_FOUND"),
        (["rm", "no/such", "--yes", "--version", "1"], "NOT_FOUND"),
        (["compact", "no/such"], "NOT_FOUND"),
        (["vacuum", "no/such"], "NOT_FOUND"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_an_error_goes_to_stderr_with_exit_code_1(run, tmp_path, words, mentions):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + b"\x00" * 100 + b"PAR1")
    assert mentions in run(*words, expect=1).stderr
    assert not (tmp_path / "out.parquet").exists()


def test_a_server_that_is_away_is_an_error(run):
    assert "127.0.0.1:9" in run("ls", expect=1, address="grpc://127.0.0.1:9").stderr


def test_a_terminal_shows_progress(on_terminal, client, name, tmp_path):
    """The same command as in a pipe, but with a terminal for stderr."""
    pq.write_table(pa.table({"x": np.random.default_rng(1).random(2_000_000)}), tmp_path / "in.parquet")
    code, out, shown = on_terminal("put", "in.parquet", name)
    assert code == 0, shown
    assert "\r" in shown or "\x1b[" in shown
    assert "\r" not in out and "\x1b" not in out
    assert get(client, name).num_rows == 2_000_000


def test_help_names_every_command():
    shown = subprocess.run([conftest.binary(), "--help"], capture_output=True, text=True, check=True)
    for command in ("serve", "put", "get", "sql", "ls", "versions", "rm", "compact", "vacuum"):
        assert re.search(rf"^ +{command} ", shown.stdout, re.MULTILINE)
    assert Path(conftest.binary()).name in shown.stdout
