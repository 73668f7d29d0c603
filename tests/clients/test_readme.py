"""README.md says what is so: its examples run and print what it shows, its tables name what the program has."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import callers
import conftest
import pytest

pytestmark = pytest.mark.any_backend("it is about what the README says")

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCKS = [(found[1], found[2]) for found in re.finditer(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
FLIGHT = "grpc://127.0.0.1:50051"
HTTP = "http://127.0.0.1:8080"
COMMAND = "$ pandas-db "


def blocks(*kinds: str) -> list[str]:
    """Return the code blocks of these kinds, in order."""
    return [text for kind, text in BLOCKS if kind in kinds]


def comparable(output: str) -> list[str]:
    """Return the lines of an output without what depends on the encoder: sizes, and the padding that goes with them."""
    output = re.sub(r"\d[\d.,]* (B|[KMGT]iB)\b", "SIZE", output)
    output = re.sub(r"bytes read=\d+", "bytes read=N", output)
    return [" ".join(line.split()) for line in output.strip().splitlines()]


def commands(block: str) -> Iterator[tuple[list[str], str]]:
    """Split a console block into command lines, without the program's name, and the output shown for each."""
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        if part:
            line, _, output = part.partition("\n")
            assert line.startswith(COMMAND), f"not a command that is tried: {line}"
            yield shlex.split(line.removeprefix(COMMAND)), output


def run_python(code: str, names: dict) -> str:
    """Run a block as a user pastes it, and return what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    return printed.getvalue()


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, up to the next one."""
    section = README.split(f"\n{heading}\n")[1].split("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_first_example_is_six_statements_on_six_lines():
    first = blocks("python")[0]
    assert len(first.splitlines()) == len(ast.parse(first).body) == 6


def test_the_examples_print_what_is_shown(start_server, tmp_path, monkeypatch):
    """All blocks in their order, against one server with the default storage below an empty working folder."""
    server = start_server(cwd=tmp_path, storage=Path("pandas-db-data"))
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    env = conftest.clean_environment(PANDAS_DB_SERVER=server.flight)
    printed = shown = ""
    for kind, text in BLOCKS:
        if kind == "text":
            assert comparable(printed) == comparable(text)
            shown = printed
        else:
            assert printed == shown, "what a block prints is shown"
        if kind == "python":
            printed, shown = run_python(text.replace(FLIGHT, server.flight).replace(HTTP, server.http), names), ""
        for words, output in commands(text) if kind == "console" else ():
            ended = subprocess.run([conftest.binary(), *words], env=env, capture_output=True, text=True)
            assert (ended.returncode, ended.stderr) == (0, ""), words
            assert comparable(ended.stdout) == comparable(output), words
    assert printed == shown, "what a block prints is shown"
    names["client"].close()


def test_every_flag_is_in_the_table_with_its_default():
    manual = subprocess.run([conftest.binary(), "serve", "--help"], capture_output=True, text=True, check=True).stdout
    known = {}
    for flag, text in re.findall(r"^ +(?:-\w, )?--([\w-]+)(.*(?:\n {10,}.*)*)$", manual, re.MULTILINE):
        default = re.search(r"\[default: (.*?)\]", text)
        known[flag] = default and default[1]
    known.pop("help")
    told = {}
    for cells in table_rows("### Settings"):
        for flag in re.findall(r"`--([\w-]+)`", cells[0]):
            told[flag] = cells[1].replace("`", "")
    assert told.keys() == known.keys()
    assert {flag: told[flag] for flag, default in known.items() if default} == {
        flag: default for flag, default in known.items() if default
    }


def test_the_settings_file_is_accepted(start_server, tmp_path):
    text, rules, revoked = blocks("toml")
    (tmp_path / "settings.toml").write_text(text)
    (tmp_path / "rules.toml").write_text(rules)
    (tmp_path / "revoked.toml").write_text(revoked)
    callers.add_user(tmp_path / "users.toml", "ann", "correct horse battery")
    start_server(
        config=tmp_path / "settings.toml",
        policy=tmp_path / "rules.toml",
        revoked=tmp_path / "revoked.toml",
        auth="users",
        users_file=tmp_path / "users.toml",
    )
    flags = {flag for cells in table_rows("### Settings") for flag in re.findall(r"`--([\w-]+)`", cells[0])}
    assert tomllib.loads(text).keys() <= flags


def test_the_metrics_and_paths_are_those_of_the_server(server, client):
    list(client.list_flights())  # The histogram of calls shows from the first call on.
    told = [re.fullmatch(r"`(\S+)`", cells[0]) for cells in table_rows("### Health and metrics")]
    told = [match[1] for match in told if match]
    _, page = server.fetch("/metrics")
    known = {
        name + ("_total" if kind == "counter" else "") for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", page, re.M)
    }
    assert {name for name in told if not name.startswith("/")} == known
    for path in (name for name in told if name.startswith("/")):
        assert server.fetch(path)[0] == 200


def test_the_ready_line_is_the_one_shown(server):
    [shown] = re.findall(r"^    (pandas-db ready .*\n)", README, re.MULTILINE)
    assert conftest.READY.fullmatch(shown)
    assert shown == server.ready.replace(server.flight, FLIGHT).replace(server.http, HTTP)


@pytest.mark.parametrize("file", [path for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", README)])
def test_links_lead_to_files(file):
    assert (Path(__file__).resolve().parents[2] / file).exists()


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([^)]+)\)", README))
def test_links_lead_to_headings(anchor):
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_versions_are_those_of_the_package():
    manifest = tomllib.loads((Path(__file__).resolve().parents[2] / "Cargo.toml").read_text())
    assert set(re.findall(r"Rust ([\d.]+) or later", README)) == {manifest["package"]["rust-version"]}
