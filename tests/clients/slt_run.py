"""Runs ``.slt`` records through the Flight port, and says which of them do not apply here and why."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import slt_values
from frames import FLIGHT_ERRORS, list_names, sql, sql_by_ticket
from slt_records import Record

# Statements that are refused by design, by how they begin; what they would have made is missed by later records.
REFUSED = {
    r"EXPLAIN\b": "EXPLAIN: a plan names the table provider, which is another one here",
    r"(SET|RESET)\b": "configuration: SET is refused",
    r"SHOW\b(?! (TABLES|COLUMNS|FUNCTIONS))": "configuration: SHOW of variables is refused",
    r"COPY\b": "files: COPY is refused",
    r"CREATE (OR REPLACE )?(UNBOUNDED )?EXTERNAL\b": "files: external tables are refused",
    r"CREATE (OR REPLACE )?(TEMP(ORARY)? )?VIEW\b": "views are not built",
    r"DROP VIEW\b": "views are not built",
    r"(CREATE( OR REPLACE)?|DROP) FUNCTION\b": "functions of one's own are not built",
    r"(PREPARE|EXECUTE|DEALLOCATE)\b": "PREPARE in SQL: Flight SQL has prepared statements of its own",
    r"CREATE (SCHEMA|DATABASE)\b": "schemas exist by their tables",
    r"DROP SCHEMA\b": "schemas exist by their tables",
    r"(BEGIN|START|COMMIT|ROLLBACK)\b": "transactions over several statements are not offered",
    r"CREATE TEMP(ORARY)? TABLE\b": "temporary tables are not built",
    r"ALTER\b": "ALTER is refused",
    r"(ANALYZE|DESCRIBE|DESC)\b.*(parquet|csv|\.arrow)": "files as tables are refused",
}
# What a server without a feature answers, by its words.
NOT_BUILT = {
    r"CREATE TABLE cannot have .*(PRIMARY KEY|UNIQUE|constraints|DEFAULT)": "constraints and defaults are not built",
    r"CREATE TABLE takes columns, or AS and a query": "a table without columns is no dataset",
    r"not allowed.*DDL not supported: CreateMemoryTable": "SELECT INTO is refused: CREATE TABLE AS does the same",
    r"the server's settings cannot be shown": "configuration: settings are not shown",
    r"Unsupported SQL type UUID": "types that a planner of the test runner adds",
    r"Invalid function '(async_abs|example)'": "functions that the test runner adds",
    r"SHOW FUNCTIONS": "SHOW FUNCTIONS is not built",
    r"INSERT OVERWRITE|Only INSERT INTO|insert operation": "INSERT OVERWRITE is not built",
}
RUNNER_TABLES = {
    "test_partition_table", "table_with_many_types", "table_with_map", "table_with_metadata", "union_table",
    "approx_distinct_union_test", "dict_struct_table", "dict_struct_nullable", "larger_table", "smaller_table",
}  # fmt: skip
OF_THE_RUNNER = "tables that the test runner makes in memory"
FILLS = re.compile(
    r"(?:SELECT\b.*?\bINTO|INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE(?:\s+TABLE)?)\s+"
    r"((?:\"[^\"]+\"|[\w.])+)",
    re.IGNORECASE | re.DOTALL,
)
DROPS = re.compile(r"DROP\s+TABLE\b", re.IGNORECASE)
DIALECT = re.compile(r"(?:SET|RESET)\s+datafusion\.sql_parser\.dialect\s*=?\s*'?(\w*)", re.IGNORECASE)
HASHED = re.compile(r"(\d+) values hashing to ([0-9a-f]+)")
MAKES = re.compile(
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:UNBOUNDED\s+)?(?:EXTERNAL\s+)?(?:TEMP(?:ORARY)?\s+)?"
    r"(?:TABLE|VIEW|FUNCTION|SCHEMA|DATABASE)\s+(?:IF\s+NOT\s+EXISTS\s+)?((?:\"[^\"]+\"|[\w.])+)",
    re.IGNORECASE,
)
FILES = re.compile(
    r"""FROM\s+'[^']*[/.][^']*'|\b(read_csv|read_parquet|read_json|parquet_metadata)\s*\(""", re.IGNORECASE
)
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
CODES = re.compile(
    r"\[(INVALID_ARGUMENT|NOT_FOUND|ALREADY_EXISTS|UNIMPLEMENTED|RESOURCE_EXHAUSTED|PERMISSION_DENIED)\] \S"
)
IGNORED = "<slt:ignore>"


@dataclass
class LeftOut:
    """The list of what is left out: whole files, and records by file and line, each with a reason.

    Parameters
    ----------
    path : Path
        A text file; a line is ``file`` or ``file:line``, a space, and the reason. A file may end in ``/*``. The
        reason ``unordered`` leaves nothing out but the order of the rows.
    """

    path: Path
    reasons: dict[str, str] = field(default_factory=dict)
    unordered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for line in self.path.read_text().splitlines():
            if line and not line.startswith("#"):
                place, _, reason = line.partition(" ")
                assert reason, f"no reason: {line}"
                if reason == "unordered":
                    self.unordered.add(place)
                else:
                    self.reasons[place] = reason

    def whole(self, file: str) -> str | None:
        """Return why a file is left out, or None."""
        folders = [f"{parent}/*" for parent in Path(file).parents]
        return next((self.reasons[place] for place in [file, *folders] if place in self.reasons), None)


@dataclass
class Tally:
    """What came of the records of some files."""

    passed: int = 0
    left_out: Counter = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    needless: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what came of others."""
        self.passed += other.passed
        self.left_out += other.left_out
        self.failed |= other.failed
        self.needless += other.needless


class FileRun:
    """Runs the records of one file.

    Parameters
    ----------
    client : flight.FlightClient
        Of a server without tables.
    left_out : LeftOut
    """

    def __init__(self, client: flight.FlightClient, left_out: LeftOut):
        self.client, self.left_out = client, left_out
        self.missing = dict.fromkeys(RUNNER_TABLES, OF_THE_RUNNER)  # Names that no table has, and why.
        self.dialect = "generic"
        self.tally = Tally()

    def run(self, records: list[Record]) -> Tally:
        """Run all records and tell what came of them."""
        for record in records:
            reason = self.does_not_apply(record)
            if reason is None:
                self.judge(record)
            else:
                self.tally.left_out[reason] += 1
                self.note_missing(record, reason)
                if DROPS.match(record.sql):
                    self.problem(record)  # The table may be there, with rows missing.
        self.drop_tables()
        return self.tally

    def judge(self, record: Record) -> None:
        """Run a record, and compare what came of it with the list of what is left out."""
        found, listed = self.problem(record), self.left_out.reasons.get(record.place)
        not_built = next((reason for words, reason in NOT_BUILT.items() if found and re.search(words, found)), None)
        if found is None and listed is not None:
            self.tally.needless.append(record.place)
        elif found is None:
            self.tally.passed += 1
            self.note_made(record)
        elif listed is not None or not_built is not None:
            self.tally.left_out[listed or not_built] += 1
            self.note_missing(record, listed or not_built)
        else:
            self.tally.failed[record.place] = f"{record.sql}\n--> {found}"
            self.note_missing(record, f"needs {record.place}, which failed")

    def does_not_apply(self, record: Record) -> str | None:
        """Return why a record cannot be run here, or None."""
        text = COMMENT.sub(" ", record.sql).strip()
        if dialect := DIALECT.match(text):
            self.dialect = dialect.group(1).lower() or "generic"
        elif self.dialect != "generic":
            return f"configuration: SQL in the dialect of {self.dialect}"
        for beginning, reason in REFUSED.items():
            if re.match(beginning.replace(" ", r"\s+"), text, re.IGNORECASE | re.DOTALL):
                return reason
        if FILES.search(text):
            return "files as tables are refused"
        words = {word.lower() for word in re.findall(r"\w+", text)}
        made = MAKES.match(text)
        name = _last(made.group(1)) if made else None
        return next((reason for missing, reason in self.missing.items() if missing in words and missing != name), None)

    def note_missing(self, record: Record, reason: str) -> None:
        """Remember that what a statement would have made, or the rows it would have written, are not there."""
        text = COMMENT.sub(" ", record.sql).strip()
        made = MAKES.match(text) or FILLS.match(text)
        if made and record.kind in ("ok", "count", "query"):
            self.missing[_last(made.group(1))] = reason

    def note_made(self, record: Record) -> None:
        """Forget that a name is missing, when a statement has made it."""
        made = MAKES.match(COMMENT.sub(" ", record.sql).strip())
        if made:
            self.missing.pop(_last(made.group(1)), None)

    def problem(self, record: Record) -> str | None:
        """Run a record; return what is wrong with what came of it, or None."""
        try:
            return self.judged(record, self.answer(record))
        except FLIGHT_ERRORS as error:
            message = str(error).partition(" gRPC client debug context")[0]
            if record.kind != "error":
                return message
            return None if CODES.search(message) else f"an error of another kind: {message}"
        except KeyError as error:
            return f"pyarrow has no type {error}"

    def judged(self, record: Record, table: pa.Table) -> str | None:
        """Return what is wrong with an answer, or None."""
        if record.kind == "error":
            return f"an error was expected, not {table.num_rows} rows"
        if record.kind == "count" and not MAKES.match(COMMENT.sub(" ", record.sql).strip()):
            count = [str(n) for n in table.column(0).to_pylist()]
            return None if count == record.expected else f"count {count}"
        return self.compare(record, table) if record.kind == "query" else None

    def answer(self, record: Record) -> pa.Table:
        """Run a query as Flight SQL does, in two calls whose schemas must agree; anything else with a ticket, once."""
        text = COMMENT.sub(" ", record.sql).strip()
        if record.kind == "query" and re.match(r"(SELECT|WITH|VALUES|TABLE|FROM|\()", text, re.IGNORECASE):
            return sql(self.client, record.sql)
        return sql_by_ticket(self.client, record.sql)

    def compare(self, record: Record, table: pa.Table) -> str | None:
        """Compare a result with what the file has."""
        letters = slt_values.type_letters(table.schema)
        if len(letters) != len(record.types) or any(
            e not in (g, "?") and g != "?" for e, g in zip(record.types, letters)
        ):
            return f"the types are {letters}, not {record.types}"
        rows = slt_values.rows(table)
        if record.sort == "rowsort":
            rows.sort()
        elif record.sort == "valuesort":
            rows = sorted([value] for row in rows for value in row)
        if len(record.expected) == 1 and (hashed := HASHED.fullmatch(record.expected[0])):
            return _compare_hash(rows, *hashed.groups())
        lines = [line for row in rows for line in _expanded(row)]
        expected = [line.rstrip() for line in record.expected]
        if self.order_is_open(record):
            lines, expected = sorted(lines), sorted(expected)
        if lines == expected or _matches(lines, expected):
            return None
        different = next((i for i, (a, b) in enumerate(zip(lines, expected)) if a != b), min(len(lines), len(expected)))
        shown = f"line {different}: {lines[different:][:3]}, not {expected[different:][:3]}"
        return f"{len(lines)} lines, {len(expected)} expected; {shown}"

    def order_is_open(self, record: Record) -> bool:
        """Return whether the rows may come in any order, although the file has one."""
        return record.place in self.left_out.unordered or "order by" not in " ".join(record.sql.lower().split())

    def drop_tables(self) -> None:
        """Delete every dataset."""
        for name in list_names(self.client):
            list(self.client.do_action(flight.Action("delete_dataframe", f'{{"dataframe_name": "{name}"}}'.encode())))


def _compare_hash(rows: list[list[str]], count: str, digest: str) -> str | None:
    """Compare a result that is too long for its file: how many values, and their MD5."""
    values = [value for row in rows for value in row]
    found = hashlib.md5("".join(value + "\n" for value in values).encode(), usedforsecurity=False).hexdigest()
    return (
        None
        if (str(len(values)), found) == (count, digest)
        else f"{len(values)} values hashing to {found}, not {count} to {digest}"
    )


def _last(name: str) -> str:
    """Return the last part of a name, as a word in lower case."""
    return name.split(".")[-1].strip('"').lower()


def _expanded(row: list[str]) -> list[str]:
    """Return the lines of a row: more than one where its last value has line breaks."""
    *first, last = row or [""]
    lines = last.split("\n")
    if len(lines) < 2:
        return [" ".join(row).rstrip()]
    stripped = [line.lstrip(" ") for line in lines]
    numbered = [f"{i:02}){'-' * (len(a) - len(b))}{b}" for i, (a, b) in enumerate(zip(lines, stripped), 1)]
    return [" ".join(first).rstrip(), *(line.rstrip() for line in numbered)]


def _matches(lines: list[str], expected: list[str]) -> bool:
    """Compare with an expectation that has gaps."""
    pattern = "\n".join(expected)
    if IGNORED not in pattern:
        return False
    return re.match(".*?".join(map(re.escape, pattern.split(IGNORED))), "\n".join(lines), re.DOTALL) is not None
