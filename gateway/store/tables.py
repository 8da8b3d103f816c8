"""The tables of the state file: how rows are written, read at the start, and forgotten."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import json

SPEND_DAYS = 400
"""How long totals of spend are kept."""
AUDIT_ENTRIES = 10_000
"""How many audit entries are kept."""
_VERSION = 1
# "gw" and the number of the format's family, so that another program's database is told from ours.
_APPLICATION = 0x6777_0001

Value = str | int | float | None
TableName = Literal["budget", "granted", "spend", "audit", "override"]
Values = tuple[Value, ...]
Key = tuple[TableName, Values]
"""A table, and the values of its key."""
Row = tuple[Key, Values | None]
"""The other values that a key has from now on; None: the key is gone."""

# Columns of the key, and the others. `at_risk` is held money that is spent if its process dies. `part`: totals are
# absolute values, so each run counts in rows of its own (1, 2, ...); those of earlier runs are added up into part 0.
_COLUMNS: dict[TableName, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "budget": (
        ("rule TEXT", "scope TEXT", "period TEXT"),
        ("ends_at_s REAL", "spent INTEGER", "at_risk INTEGER", "told INTEGER"),
    ),
    "granted": (("id TEXT",), ("rule TEXT", "scope TEXT", "amount INTEGER", "until_s REAL")),
    "spend": (
        ("day TEXT", "key TEXT", "route TEXT", "target TEXT", "tags TEXT", "part INTEGER"),
        ("requests INTEGER", "input_tokens INTEGER", "output_tokens INTEGER", "cost INTEGER"),
    ),
    "audit": (
        ("seq INTEGER",),
        ("at_s REAL", "actor TEXT", "action TEXT", "subject TEXT", "reason TEXT", "detail TEXT"),
    ),
    "override": (("name TEXT",), ("value TEXT", "actor TEXT", "reason TEXT", "since_s REAL", "until_s REAL")),
}


class Saved(NamedTuple):
    """What a file held when it was opened: the key's columns and then the others, in the order of the keys."""

    budgets: list[tuple[str, str, str, float, int, int, int]]
    grants: list[tuple[str, str, str, int, float]]
    audit: list[tuple[int, float, str, str, str, str, str]]
    overrides: list[tuple[str, str, str, str, float, float | None]]


class StateUnusable(OSError):
    """The state file cannot be used; the message says which, why, and what to do."""


def connect(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection that may be handed to another thread, with transactions by hand. Raises sqlite3.Error."""
    return sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is executed inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled back already.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def load(connection: sqlite3.Connection, path: Path, wall_s: float) -> Saved:
    """Make the tables where there are none; tidy up as of `wall_s`; read.

    Ended budget periods are forgotten; money at risk is spent: whoever held it is dead.
    Raises StateUnusable, sqlite3.Error.
    """
    _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    with transaction(connection):
        for table, (key, others) in _COLUMNS.items():
            names = ", ".join(column.split()[0] for column in key)
            columns = ", ".join((*key, *others))
            connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({columns}, PRIMARY KEY ({names})) WITHOUT ROWID')
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        purge(connection, wall_s)
        connection.execute("UPDATE budget SET spent = spent + at_risk, at_risk = 0 WHERE at_risk <> 0")
        _add_up_parts(connection)
    return Saved(*(connection.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2').fetchall() for name in _LOADED))


_LOADED: tuple[TableName, ...] = ("budget", "granted", "audit", "override")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    def number(query: str) -> int:
        value = connection.execute(query).fetchone()[0]
        assert isinstance(value, int)
        return value

    version = number("PRAGMA user_version")
    if number("SELECT count(*) FROM sqlite_master") == 0:
        return
    if number("PRAGMA application_id") != _APPLICATION:
        raise StateUnusable(f"{path} is the database of another program; set server.state_dir to another folder")
    if version != _VERSION:
        raise StateUnusable(
            f"{path} has format {version}, and this gateway writes {_VERSION};"
            " start the version that wrote it, or move the file away (spend of the running periods is lost)"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(" ".join(verdict.split()))


def _add_up_parts(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TEMP TABLE added AS SELECT day, key, route, target, tags, 0,"
        " sum(requests), sum(input_tokens), sum(output_tokens), sum(cost) FROM spend"
        " WHERE day IN (SELECT day FROM spend WHERE part > 0) GROUP BY 1, 2, 3, 4, 5"
    )
    connection.execute("DELETE FROM spend WHERE day IN (SELECT day FROM added)")
    connection.execute("INSERT INTO spend SELECT * FROM added")
    connection.execute("DROP TABLE added")


def write(connection: sqlite3.Connection, rows: Mapping[Key, Values | None]) -> None:
    """Put every row, or delete it. Not one transaction: rows are absolute, whoever fails half-way writes them again.

    Raises sqlite3.Error, and ValueError for what no table can hold.
    """
    by_table: dict[TableName, list[Values]] = {}
    for (table, key), values in rows.items():
        if values is None:
            where = " AND ".join(f"{column.split()[0]} = ?" for column in _COLUMNS[table][0])
            connection.execute(f'DELETE FROM "{table}" WHERE {where}', key)
        else:
            by_table.setdefault(table, []).append((*key, *values))
    for table, full in by_table.items():
        # One statement for all rows of a table: each step of SQLite lets go of the interpreter, and a busy loop gives
        # it back after 5 ms (sys.getswitchinterval). Row by row, a hundred took 130 ms; so it takes 20 ms at the most.
        members = ", ".join(f"json_extract(value, '$[{number}]')" for number in range(len(full[0])))
        sql = f'INSERT OR REPLACE INTO "{table}" SELECT {members} FROM json_each(?)'
        # And not `execute`, which lets go once more, to ask for the last row's id.
        connection.executemany(sql, [(json.encode(full).decode(),)])


def purge(connection: sqlite3.Connection, wall_s: float) -> None:
    """Delete what is over or too old at `wall_s`. Raises sqlite3.Error."""
    oldest_day = (datetime.fromtimestamp(wall_s, UTC) - timedelta(days=SPEND_DAYS)).date().isoformat()
    connection.execute("DELETE FROM budget WHERE ends_at_s <= ?", (wall_s,))
    connection.execute("DELETE FROM granted WHERE until_s <= ?", (wall_s,))
    connection.execute("DELETE FROM override WHERE until_s <= ?", (wall_s,))
    connection.execute("DELETE FROM spend WHERE day < ?", (oldest_day,))
    connection.execute("DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?", (AUDIT_ENTRIES,))


def read_spend(
    connection: sqlite3.Connection, first_day: str, last_day: str, but_parts: frozenset[int]
) -> list[tuple[str, str, str, str, str, int, int, int, int]]:
    """Totals of these days, summed over all parts but `but_parts`: day, key, route, target, tags, and four sums."""
    parts = ", ".join(str(part) for part in sorted(but_parts))
    return connection.execute(
        "SELECT day, key, route, target, tags, sum(requests), sum(input_tokens), sum(output_tokens), sum(cost)"
        f" FROM spend WHERE day BETWEEN ? AND ? AND part NOT IN ({parts}) GROUP BY 1, 2, 3, 4, 5",
        (first_day, last_day),
    ).fetchall()
