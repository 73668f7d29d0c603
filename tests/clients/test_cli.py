"""The command-line client: `pandas-db put`, `get`, `sql` and `ls`."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
from pathlib import Path

import conftest
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import assert_tables_equal, get, load, location, table_name
from pandas.testing import assert_frame_equal

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


def test_a_terminal_shows_progress(server, client, name, tmp_path):
    """The same command as in a pipe, but with a terminal for stderr."""
    pq.write_table(pa.table({"x": np.random.default_rng(1).random(2_000_000)}), tmp_path / "in.parquet")
    ours, theirs = pty.openpty()
    command = [conftest.binary(), "put", "--server", server.flight, "in.parquet", name]
    env = conftest.clean_environment(TERM="xterm")
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65_536)
        except OSError:  # The other end was closed.
            break
    os.close(ours)
    process.communicate(timeout=conftest.PATIENCE)
    assert process.returncode == 0, shown
    assert b"\r" in shown or b"\x1b[" in shown
    assert get(client, name).num_rows == 2_000_000


def test_help_names_every_command():
    shown = subprocess.run([conftest.binary(), "--help"], capture_output=True, text=True, check=True)
    for command in ("serve", "put", "get", "sql", "ls"):
        assert command in shown.stdout
    assert Path(conftest.binary()).name in shown.stdout
