"""A generator of SQL queries that pandas-db and DuckDB should answer alike.

Expressions are made by kind, so that every query is well typed. What the two systems do differently by design is not
generated; ``DIFFERENCES`` says what that is and how it is avoided.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

DIFFERENCES = {
    "integer division": "7 / 2 is 3 here and 3.5 in DuckDB: only doubles are divided",
    "division by zero": "an error here, null or infinity in DuckDB: divisors are literals other than zero",
    "integer overflow": "wraps here, is an error or a wider type in DuckDB: arithmetic takes small values, as BIGINT",
    "sums of 64-bit integers": "BIGINT here, HUGEINT in DuckDB: the columns of extreme values are not summed",
    "place of nulls": "with DESC first here, last in DuckDB: every ORDER BY says NULLS FIRST or NULLS LAST",
    "ties of ORDER BY and LIMIT": "undefined: LIMIT comes with an order by every column of the result",
    "averages of decimals": "a decimal here, a double in DuckDB: avg takes doubles and integers",
    "numbers as text": "1.0 and 1e300 are written differently: only integers are cast to text",
    "doubles as integers": "cut off here, rounded in DuckDB: not cast",
    "halves": "round() takes 2.5 to another neighbour for some types: floor and ceil alone are generated",
    "dates and intervals": "DATE + INTERVAL is a date here, a timestamp in DuckDB: the sum is cast to DATE",
    "decimal literals": "1.5 is a double here, a decimal in DuckDB: literals are cast",
    "upper case of ß": "SS here, ẞ in DuckDB: the texts hold neither it nor letters of several code points",
    "sign of zero and of NaN": "told apart here, not in DuckDB: the data have no negative zero and NaN",
    "spread of NaN and infinity": "an error in DuckDB: stddev and var take finite columns",
    "sum of no rows": "both null; count and sum of an empty FILTER are compared as any other value",
    "reach of IS DISTINCT FROM": "binds differently without parentheses: every operation stands in them",
    "constants in ROLLUP and CUBE": "DataFusion's ORDER BY takes them for constant, though totals have null there",
    "square roots": "DataFusion's planner finds a window's ORDER BY sqrt(...) unsorted and gives up: not generated",
    "equal items": "DataFusion refuses two items of one text, aliases or not: items differ, count has a column",
    "literal NOT IN (subquery)": "DataFusion overlooks the subquery's nulls then: the left side is a column",
    "rounding": "sums in another order differ in the last digits, and ORDER BY tells: only numbers that doubles hold "
    "exactly are summed, and results with deviations are not ordered",
    "32-bit floats": "doubles beside them widen at other places: compared and counted, not calculated with",
    "DATE and strings": "a string beside a date is cast by other rules: literals are typed",
}
WORDS = ["", " ", "a", "A", "ab", "abc", "b%", "a_b", "it's", "ünï", "表", "zz", "alpha", "beta", "gamma", "Gamma"]
PATTERNS = ["a%", "%b", "_b%", "%", "", "Gamma", "%表"]
COMPARISONS = ["=", "<>", "<", "<=", ">", ">="]
ORDERED = ["small", "finite", "float", "float32", "dec", "text", "date", "ts", "big", "unsigned", "wide"]
MADE = ["small", "finite", "float", "dec", "text", "date", "ts", "bool"]  # Kinds that have more than columns.


@dataclass
class Column:
    """A column in reach, written as SQL, and its kind."""

    sql: str
    kind: str


@dataclass
class Table:
    """A table, its columns' kinds by name, and the names of those that join it to others."""

    name: str
    kinds: dict[str, str]
    keys: list[str] = field(default_factory=list)


@dataclass
class Query:
    """A query, and whether the order of its rows is defined."""

    sql: str
    ordered: bool = False


def quoted(text: str) -> str:
    """Write a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


class Generator:
    """Draws queries over some tables.

    Parameters
    ----------
    seed : int
    tables : list of Table
    """

    def __init__(self, seed: int, tables: list[Table]):
        self.random = random.Random(seed)
        self.tables = tables
        self.aliases = 0

    def pick(self, choices: list):
        """Draw one of the choices."""
        return self.random.choice(choices)

    def chance(self, probability: float) -> bool:
        """Draw whether something happens."""
        return self.random.random() < probability

    def alias(self) -> str:
        """Return a name that is new in this query."""
        self.aliases += 1
        return f"t{self.aliases}"

    # Expressions

    def literal(self, kind: str) -> str:
        """Draw a constant."""
        draw = self.random
        literals: dict[str, Callable[[], str]] = {
            "small": lambda: str(draw.randint(0, 40)) if self.chance(0.7) else f"(-{draw.randint(1, 900)})",
            "finite": lambda: f"CAST({draw.choice(['0.25', '1.5', '-2.75', '10', '100.5'])} AS DOUBLE)",
            "float": lambda: f"CAST({quoted(draw.choice(['NaN', 'Infinity', '-Infinity', '0.5', '1e300']))} AS DOUBLE)",
            "float32": lambda: f"CAST({draw.choice(['0.5', '-2.25', '1'])} AS REAL)",
            "dec": lambda: f"CAST('{draw.randint(-999, 999)}.{draw.randint(0, 99):02}' AS DECIMAL(12, 2))",
            "wide": lambda: "CAST('12345678901234567890.0000000001' AS DECIMAL(38, 10))",
            "text": lambda: quoted(draw.choice(WORDS)),
            "date": lambda: f"DATE '2024-0{draw.randint(1, 3)}-{draw.randint(1, 28):02}'",
            "ts": lambda: f"TIMESTAMP '2024-02-{draw.randint(1, 28):02} {draw.randint(0, 23):02}:30:00'",
            "bool": lambda: draw.choice(["TRUE", "FALSE"]),
            "big": lambda: draw.choice(["9223372036854775807", "(-9223372036854775807)", "0", "4294967296"]),
            "unsigned": lambda: draw.choice(["0", "77", "4294967295", "9223372036854775807"]),
        }
        return literals[kind]()

    def column(self, kind: str, scope: list[Column]) -> str:
        """Draw a column of a kind, or a constant where there is none."""
        found = [column.sql for column in scope if column.kind == kind]
        return self.pick(found) if found else self.literal(kind)

    def expression(self, kind: str, scope: list[Column], depth: int = 2) -> str:
        """Draw an expression of a kind."""
        if depth == 0 or kind not in MADE or self.chance(0.25):
            return self.literal(kind) if self.chance(0.15) else self.column(kind, scope)
        if kind == "bool":
            return self.condition(scope, depth)
        if self.chance(0.2):
            return self.choice(kind, scope, depth)
        sub = lambda of=kind: self.expression(of, scope, depth - 1)  # noqa: E731
        makers: dict[str, list[Callable[[], str]]] = {
            "small": [
                lambda: f"({sub()} {self.pick(['+', '-'])} {sub()})",
                lambda: f"({sub()} * {self.random.randint(2, 9)})",
                lambda: f"({sub()} % {self.random.randint(2, 9)})",
                lambda: f"abs({sub()})",
                lambda: f"(-{sub()})",
                lambda: f"CAST(length({sub('text')}) AS BIGINT)",
                lambda: (
                    f"CAST(extract({self.pick(['year', 'month', 'day', 'dow', 'doy'])} FROM {sub('date')}) AS BIGINT)"
                ),
                lambda: f"CAST(extract({self.pick(['hour', 'minute'])} FROM {sub('ts')}) AS BIGINT)",
                lambda: f"CAST({sub('bool')} AS BIGINT)",
                lambda: f"CAST(strpos({sub('text')}, {self.literal('text')}) AS BIGINT)",
                lambda: f"{self.pick(['greatest', 'least'])}({sub()}, {sub()})",
            ],
            "finite": [
                lambda: f"({sub()} {self.pick(['+', '-'])} {sub()})",
                lambda: f"({sub()} * {self.literal('finite')})",
                lambda: f"({sub()} / CAST({self.pick([2, 4, 8])} AS DOUBLE))",
                lambda: f"CAST({sub('small')} AS DOUBLE)",
                lambda: f"{self.pick(['floor', 'ceil', 'abs'])}({sub()})",
                lambda: f"power({sub()}, 2)",
            ],
            "float": [
                lambda: f"({sub()} {self.pick(['+', '-'])} {sub('finite')})",
                lambda: f"abs({sub()})",
                lambda: sub("finite"),
            ],
            "dec": [
                lambda: f"({sub()} {self.pick(['+', '-'])} {self.column('dec', scope)})",
                lambda: f"({self.column('dec', scope)} * {self.literal('dec')})",
                lambda: f"abs({sub()})",
            ],
            "text": [
                lambda: f"({sub()} || {sub()})",
                lambda: f"{self.pick(['upper', 'lower', 'trim', 'reverse', 'ltrim', 'rtrim'])}({sub()})",
                lambda: f"substr({sub()}, {self.random.randint(1, 3)}, {self.random.randint(0, 4)})",
                lambda: f"{self.pick(['left', 'right'])}({sub()}, {self.random.randint(0, 3)})",
                lambda: f"replace({sub()}, {quoted(self.pick(['a', 'b', '表']))}, {self.literal('text')})",
                lambda: f"concat({sub()}, {sub()})",
                lambda: f"lpad({sub()}, {self.random.randint(1, 6)}, '*')",
                lambda: f"CAST({sub('small')} AS VARCHAR)",
            ],
            "date": [
                lambda: f"CAST(({sub()} {self.pick(['+', '-'])} INTERVAL '{self.random.randint(1, 40)} days') AS DATE)",
                lambda: f"CAST(({sub()} + INTERVAL '{self.random.randint(1, 5)} months') AS DATE)",
                lambda: f"CAST({sub('ts')} AS DATE)",
            ],
            "ts": [
                lambda: f"date_trunc('{self.pick(['hour', 'day', 'month', 'year', 'week', 'quarter'])}', {sub()})",
                lambda: f"({sub()} {self.pick(['+', '-'])} INTERVAL '{self.random.randint(1, 90)} minutes')",
                lambda: f"CAST({sub('date')} AS TIMESTAMP)",
            ],
        }
        return self.pick(makers[kind])()

    def choice(self, kind: str, scope: list[Column], depth: int) -> str:
        """Draw an expression that chooses between others of its kind."""
        sub = lambda: self.expression(kind, scope, depth - 1)  # noqa: E731
        condition = lambda: self.condition(scope, depth - 1)  # noqa: E731
        return self.pick([
            lambda: f"CASE WHEN {condition()} THEN {sub()} ELSE {sub()} END",
            lambda: f"CASE WHEN {condition()} THEN {sub()} WHEN {condition()} THEN {sub()} END",
            lambda: f"coalesce({sub()}, {sub()}, {self.literal(kind)})",
            lambda: f"nullif({sub()}, {sub()})",
        ])()  # fmt: skip

    def condition(self, scope: list[Column], depth: int = 2, subqueries: bool = True) -> str:
        """Draw a condition."""
        kind = self.pick(ORDERED)
        sub = lambda of=kind: self.expression(of, scope, max(depth - 1, 0))  # noqa: E731
        inner = lambda: self.condition(scope, depth - 1, subqueries)  # noqa: E731
        makers = [
            lambda: f"({sub()} {self.pick(COMPARISONS)} {sub()})",
            lambda: f"({sub()} IS {self.pick(['', 'NOT '])}NULL)",
            lambda: f"({sub()} IS {self.pick(['', 'NOT '])}DISTINCT FROM {sub()})",
            lambda: f"({sub()} {self.pick(['', 'NOT '])}BETWEEN {self.literal(kind)} AND {sub()})",
            lambda: f"({sub()} {self.pick(['', 'NOT '])}IN ({self.members(kind)}))",
            lambda: f"({sub('text')} {self.pick(['', 'NOT '])}LIKE {quoted(self.pick(PATTERNS))})",
            lambda: f"starts_with({sub('text')}, {quoted(self.pick(['a', 'al', 'ü', '']))})",
            lambda: self.column("bool", scope),
        ]
        if depth > 0:
            makers += [
                lambda: f"({inner()} AND {inner()})",
                lambda: f"({inner()} OR {inner()})",
                lambda: f"(NOT {inner()})",
                lambda: f"({inner()} IS {self.pick(['TRUE', 'NOT TRUE', 'FALSE', 'NOT FALSE'])})",
            ]
        return self.pick(makers)()

    def members(self, kind: str) -> str:
        """Draw the members of an IN list."""
        members = [self.literal(kind) for _ in range(self.random.randint(1, 4))]
        return ", ".join(members + ["NULL"] * self.chance(0.15))

    # Sources

    def scope_of(self, table: Table, alias: str) -> list[Column]:
        """Return the columns of a table under an alias."""
        return [Column(f"{alias}.{name}", kind) for name, kind in table.kinds.items()]

    def source(self, depth: int = 1) -> tuple[str, list[Column]]:
        """Draw what stands after FROM, and the columns it brings into reach."""
        if depth and self.chance(0.35):
            return self.join()
        if depth and self.chance(0.15):
            inner, kinds = self.projection(depth - 1)
            alias = self.alias()
            return f"({inner}) AS {alias}", [Column(f"{alias}.c{i}", kind) for i, kind in enumerate(kinds)]
        table, alias = self.pick(self.tables), self.alias()
        return f"{table.name} AS {alias}", self.scope_of(table, alias)

    def join(self) -> tuple[str, list[Column]]:
        """Draw a join of two or three tables by their keys."""
        table, alias = self.pick([t for t in self.tables if t.keys]), self.alias()
        text, scope = f"{table.name} AS {alias}", self.scope_of(table, alias)
        left = f"{alias}.{self.pick(table.keys)}"
        for _ in range(self.pick([1, 1, 2])):
            other, alias = self.pick([t for t in self.tables if t.keys and "facts" not in t.name]), self.alias()
            joined = self.scope_of(other, alias)
            on = f"{left} = {alias}.{self.pick(other.keys)}"
            if self.chance(0.3):
                on += f" AND {self.condition(scope + joined, 1)}"
            how = self.pick(["INNER JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
            if "AND" in on and how == "FULL JOIN":
                how = "LEFT JOIN"  # DuckDB takes no further conditions in some outer joins.
            text, scope = f"{text} {how} {other.name} AS {alias} ON {on}", scope + joined
        return text, scope

    def where(self, scope: list[Column]) -> str:
        """Draw a WHERE clause, or none."""
        if self.chance(0.3):
            return ""
        if self.chance(0.25):
            return f" WHERE {self.membership(scope)}"
        return f" WHERE {self.condition(scope, self.pick([0, 1, 2]))}"

    def membership(self, scope: list[Column]) -> str:
        """Draw a condition with a subquery."""
        table, alias = self.pick(self.tables), self.alias()
        kind = self.pick([k for k in ("small", "text", "date", "finite") if k in table.kinds.values()])
        inner = self.scope_of(table, alias)
        column = self.column(kind, inner)
        filtered = f"FROM {table.name} AS {alias} WHERE {self.condition(inner, 1)}"
        outer = self.column(kind, scope)
        negation = self.pick(["", "NOT "]) if any(outer == column.sql for column in scope) else ""
        return self.pick([
            lambda: f"{outer} {negation}IN (SELECT {column} {filtered})",
            lambda: f"{self.pick(['', 'NOT '])}EXISTS (SELECT 1 {filtered} AND {column} = {outer})",
            lambda: f"{outer} {self.pick(COMPARISONS)} (SELECT {self.pick(['min', 'max'])}({column}) {filtered})",
        ])()  # fmt: skip

    # Queries

    def projection(self, depth: int = 1, kinds: list[str] | None = None) -> tuple[str, list[str]]:
        """Draw a plain SELECT; its columns are named c0, c1, and so on."""
        source, scope = self.source(depth)
        kinds = kinds or [
            self.pick(sorted({c.kind for c in scope} | {"small", "text"})) for _ in range(self.random.randint(1, 4))
        ]
        items = [f"{self.expression(kind, scope)} AS c{i}" for i, kind in enumerate(kinds)]
        return f"SELECT {', '.join(items)} FROM {source}{self.where(scope)}", kinds

    def order(self, columns: int) -> str:
        """Draw an ORDER BY over every column of the result."""
        places = list(range(1, columns + 1))
        self.random.shuffle(places)
        words = [f"{p} {self.pick(['ASC', 'DESC'])} NULLS {self.pick(['FIRST', 'LAST'])}" for p in places]
        return f" ORDER BY {', '.join(words)}"

    def finished(self, text: str, columns: int, limit: bool = True) -> Query:
        """Give a query an order, and some rows of it alone, or neither."""
        if self.chance(0.45):
            return Query(text)
        text += self.order(columns)
        if limit and self.chance(0.5):
            text += f" LIMIT {self.pick([0, 1, 3, 10, 1000])}"
            text += f" OFFSET {self.random.randint(0, 20)}" if self.chance(0.4) else ""
        return Query(text, ordered=True)

    def select(self) -> Query:
        """Draw a SELECT without aggregates."""
        text, kinds = self.projection()
        if self.chance(0.2):
            text = text.replace("SELECT ", "SELECT DISTINCT ", 1)
        return self.finished(text, len(kinds))

    def aggregate(self, scope: list[Column]) -> str:
        """Draw an aggregate; a FILTER comes with some."""
        kind = self.pick(ORDERED)
        argument = lambda of: self.expression(of, scope, 1)  # noqa: E731
        call = self.pick(
            [
                lambda: "count(*)",
                lambda: f"count({self.pick(scope).sql})",
                lambda: f"count(DISTINCT {self.pick(scope).sql})",
                lambda: f"{self.pick(['min', 'max'])}({argument(kind)})",
                lambda: f"sum({argument(self.pick(['small', 'finite', 'dec']))})",
                lambda: f"sum(DISTINCT {argument('small')})",
                lambda: f"avg({argument(self.pick(['small', 'finite']))})",
                lambda: f"{self.pick(['bool_and', 'bool_or'])}({argument('bool')})",
                lambda: (
                    f"{self.pick(['stddev_samp', 'stddev_pop', 'var_samp', 'var_pop'])}({self.column('finite', scope)})"
                ),
            ]
        )()
        return call + (f" FILTER (WHERE {self.condition(scope, 1)})" if self.chance(0.2) else "")

    def grouped(self) -> Query:
        """Draw a SELECT with aggregates."""
        source, scope = self.source()
        kinds = [self.pick(["small", "text", "date", "bool", "dec", "float"]) for _ in range(self.random.randint(0, 3))]
        sets = self.pick(["", "", "", "", "ROLLUP", "CUBE"])
        columns = {column.sql for column in scope}
        keys = list(dict.fromkeys(self.expression(kind, scope, 0 if sets else 1) for kind in kinds))
        keys = [key for key in keys if key in columns] if sets else keys
        aggregates = list(dict.fromkeys(self.aggregate(scope) for _ in range(self.random.randint(1, 3))))
        items = [f"{item} AS c{i}" for i, item in enumerate(keys + aggregates)]
        text = f"SELECT {', '.join(items)} FROM {source}{self.where(scope)}"
        if keys:
            places = [f"{place}" for place in range(1, len(keys) + 1)]
            text += f" GROUP BY {sets}({', '.join(keys)})" if sets else f" GROUP BY {', '.join(places)}"
            text += (
                f" HAVING count(*) {self.pick(['>', '<', '<>'])} {self.random.randint(0, 9)}"
                if self.chance(0.25)
                else ""
            )
        if "stddev" in text or "var_" in text:
            return Query(text)
        return self.finished(text, len(keys) + len(aggregates))

    def windowed(self) -> Query:
        """Draw a SELECT with window functions, whose order within a partition is total by the row's number."""
        table, alias = self.pick([t for t in self.tables if "id" in t.kinds]), self.alias()
        scope = self.scope_of(table, alias)
        items = list(dict.fromkeys(self.window(scope, alias) for _ in range(self.random.randint(1, 3))))
        items = [f"{item} AS c{i}" for i, item in enumerate(items)]
        text = f"SELECT {alias}.id, {', '.join(items)} FROM {table.name} AS {alias}{self.where(scope)}"
        return self.finished(text, 1 + len(items))

    def window(self, scope: list[Column], alias: str) -> str:
        """Draw a window function over a window."""
        kind = self.pick(ORDERED)
        value = lambda of=kind: self.expression(of, scope, 1)  # noqa: E731
        partition = (
            f"PARTITION BY {self.expression(self.pick(['small', 'text', 'bool', 'date']), scope, 1)} "
            * self.chance(0.7)
        )
        order = f"ORDER BY {value()} {self.pick(['ASC', 'DESC'])} NULLS {self.pick(['FIRST', 'LAST'])}, {alias}.id"
        frame = self.pick(["", "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", "ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING",
                           "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"])  # fmt: skip
        framed = self.pick([
            lambda: f"count({value()})", lambda: f"sum({value('small')})", lambda: f"min({value()})",
            lambda: f"max({value()})", lambda: f"avg({value('finite')})", lambda: f"first_value({value()})",
            lambda: f"last_value({value()})",
        ])  # fmt: skip
        ranking = self.pick(
            [
                lambda: "row_number()",
                lambda: "rank()",
                lambda: "dense_rank()",
                lambda: f"ntile({self.random.randint(1, 5)})",
                lambda: f"lag({value()}, {self.random.randint(1, 3)})",
                lambda: f"lead({value()})",
                lambda: "percent_rank()",
                lambda: "cume_dist()",
            ]
        )
        if self.chance(0.5):
            return f"{ranking()} OVER ({partition}{order})"
        return f"{framed()} OVER ({partition}{order} {frame})"

    def united(self) -> Query:
        """Draw two SELECTs and a set operation."""
        first, kinds = self.projection(0)
        second, _ = self.projection(0, kinds)
        return self.finished(f"{first} {self.pick(['UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT'])} {second}", len(kinds))

    def nested(self) -> Query:
        """Draw a SELECT over a common table expression that aggregates."""
        source, scope = self.source()
        key = self.expression(self.pick(["small", "text", "date"]), scope, 1)
        items = f"{key} AS k, count(*) AS n, max({self.expression('small', scope, 1)}) AS m"
        inner = f"SELECT {items} FROM {source}{self.where(scope)} GROUP BY 1"
        alias = self.alias()
        table, other = self.pick([t for t in self.tables if "small" in t.kinds.values()]), self.alias()
        column = self.column("small", self.scope_of(table, other))
        scalar = f"(SELECT count(*) FROM {table.name} AS {other} WHERE {column} = {alias}.m)"
        text = f"WITH q AS ({inner}) SELECT {alias}.k, {alias}.n, {alias}.m, {scalar} FROM q AS {alias}"
        return self.finished(text + (f" WHERE {alias}.n > 1" if self.chance(0.5) else ""), 4)

    def query(self) -> Query:
        """Draw a query."""
        self.aliases = 0
        return self.pick(
            [self.select, self.select, self.grouped, self.grouped, self.windowed, self.united, self.nested]
        )()
