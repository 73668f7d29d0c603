"""Reads DataFusion's ``.slt`` files (sqllogictest): statements and queries with what they should give."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CRATE = "datafusion-sqllogictest"
ENGINE = "Datafusion"


@dataclass
class Record:
    """One statement or query of a file.

    Attributes
    ----------
    file, line : str, int
        Where it stands; ``file`` is relative to the folder of all files.
    sql : str
    kind : str
        ``ok``, ``error``, ``count`` or ``query``.
    types : str
        The letters of a query's columns.
    sort : str
        ``nosort``, ``rowsort`` or ``valuesort``.
    expected : list of str
        The lines of a query's result; the number of a count.
    """

    file: str
    line: int
    sql: str
    kind: str
    types: str = ""
    sort: str = "nosort"
    expected: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Where the record stands, as the list of what is left out names it."""
        return f"{self.file}:{self.line}"


def locked_version() -> str:
    """Return the version of DataFusion that the server is built with."""
    lock = Path(__file__).parents[2] / "Cargo.lock"
    return re.search(r'name = "datafusion"\nversion = "([\d.]+)"', lock.read_text()).group(1)


def unpack(folder: Path) -> Path:
    """Unpack the crate that has the files; cargo fetches it where it is not in its cache. Return the files' folder."""
    name = f"{CRATE}-{locked_version()}"
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    archives = list(home.glob(f"registry/cache/*/{name}.crate"))
    if not archives:
        subprocess.run(
            ["cargo", "info", "--quiet", f"{CRATE}@{locked_version()}"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        archives = list(home.glob(f"registry/cache/*/{name}.crate"))
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / name / "test_files"


def read(root: Path, file: str) -> list[Record]:
    """Return the records of a file, those of the files it includes among them."""
    return list(_Reader(root, file).records())


class _Reader:
    """Reads one file, line by line."""

    def __init__(self, root: Path, file: str):
        self.root, self.file = root, file
        self.lines = (root / file).read_text().split("\n")
        self.at = 0

    def records(self) -> Iterator[Record]:
        applies = True
        while self.at < len(self.lines):
            number, words = self.at + 1, self.lines[self.at].split()
            self.at += 1
            match words:
                case [] | ["subtest", *_] | ["hash-threshold", *_] | ["control", *_]:
                    continue
                case [first, *_] if first.startswith("#"):
                    continue
                case ["halt"]:
                    return
                case ["skipif", engine, *_]:
                    applies = applies and engine.lower() != ENGINE.lower()
                case ["onlyif", engine, *_]:
                    applies = applies and engine.lower() == ENGINE.lower()
                case ["include", pattern]:
                    for path in sorted((self.root / self.file).parent.glob(pattern)):
                        yield from _Reader(self.root, str(path.resolve().relative_to(self.root.resolve()))).records()
                case ["statement" | "query", *_]:
                    record = self.record(number, words)
                    if applies:
                        yield record
                    applies = True
                case _:
                    raise ValueError(f"{self.file}:{number}: {' '.join(words)!r} is no directive")

    def record(self, number: int, words: list[str]) -> Record:
        sql, results = self.block()
        match words:
            case ["statement", "ok", *_]:
                return Record(self.file, number, sql, "ok")
            case ["statement", "count", count, *_]:
                return Record(self.file, number, sql, "count", expected=[count])
            case [_, "error", *_]:
                self.skip_message()
                return Record(self.file, number, sql, "error")
            case ["query", *rest]:
                types = rest[0] if rest else ""
                sort = rest[1] if len(rest) > 1 and rest[1] in ("nosort", "rowsort", "valuesort") else "nosort"
                return Record(self.file, number, sql, "query", types, sort, results)
        raise ValueError(f"{self.file}:{number}: {' '.join(words)!r} is no record")

    def block(self) -> tuple[str, list[str]]:
        """Read SQL up to an empty line (the first may be one), and the result after ``----`` if there is one."""
        sql = [self.lines[self.at]]
        self.at += 1
        while self.at < len(self.lines) and self.lines[self.at]:
            line = self.lines[self.at]
            self.at += 1
            if line.strip() == "----":
                return "\n".join(sql), self.until_empty()
            sql.append(line)
        return "\n".join(sql), []

    def until_empty(self) -> list[str]:
        found: list[str] = []
        while self.at < len(self.lines) and self.lines[self.at]:
            found.append(self.lines[self.at])
            self.at += 1
        return found

    def skip_message(self) -> None:
        """Skip the rest of an error message of several paragraphs: it ends where a directive or comment begins."""
        while self.at < len(self.lines):
            words = self.lines[self.at].split()
            if words and (
                words[0] in ("statement", "query", "include", "halt", "skipif", "onlyif", "subtest")
                or words[0][0] == "#"
            ):
                return
            self.at += 1
