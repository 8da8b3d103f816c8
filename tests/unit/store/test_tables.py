"""The state file's tables: what is written is what is read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.tables import (
    AUDIT_ENTRIES,
    SPEND_DAYS,
    Key,
    Saved,
    StateUnusable,
    Values,
    connect,
    load,
    purge,
    read_spend,
    transaction,
    write,
)

NOW_S = 1_795_219_200.0
"""2026-11-21, 00:00 UTC."""
BUDGET: Key = ("budget", ("day", "key=a", "2026-11-21"))
GRANT: Key = ("granted", ("g",))
AUDIT: Key = ("audit", (1,))
OVERRIDE: Key = ("override", ("route/chat",))


def spend_key(day: str = "2026-11-21", target: str = "t", part: int = 1) -> Key:
    return "spend", (day, "k", "r", target, '[["team","ml"]]', part)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sqlite"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path, 1.0)) as connection:
        load(connection, path, NOW_S)
        yield connection


def reopened(path: Path, wall_s: float = NOW_S) -> Saved:
    with closing(connect(path, 1.0)) as connection:
        return load(connection, path, wall_s)


def test_a_new_file_holds_nothing(path: Path) -> None:
    assert reopened(path) == Saved([], [], [], [])
    assert reopened(path) == Saved([], [], [], [])


def test_what_is_written_is_read_again(path: Path, connection: sqlite3.Connection) -> None:
    rows: dict[Key, Values | None] = {
        BUDGET: (NOW_S + 0.125, 2**53 - 1, 0, 7),
        GRANT: ("day", "*", 5, NOW_S + 1.0),
        AUDIT: (NOW_S, "ann", "switch", "route/chat", 'because "\N{SNOWMAN}"\n', '{"to":"a"}'),
        OVERRIDE: ('{"target":"a"}', "ann", "why", NOW_S, None),
    }
    write(connection, rows)
    assert reopened(path) == Saved(
        [("day", "key=a", "2026-11-21", NOW_S + 0.125, 2**53 - 1, 0, 7)],
        [("g", "day", "*", 5, NOW_S + 1.0)],
        [(1, NOW_S, "ann", "switch", "route/chat", 'because "\N{SNOWMAN}"\n', '{"to":"a"}')],
        [("route/chat", '{"target":"a"}', "ann", "why", NOW_S, None)],
    )


def test_the_last_value_of_a_key_stands_until_it_is_deleted(path: Path, connection: sqlite3.Connection) -> None:
    write(connection, {BUDGET: (NOW_S + 1.0, 1, 0, 0)})
    write(connection, {BUDGET: (NOW_S + 1.0, 2, 0, 0)})
    assert [row[4] for row in reopened(path).budgets] == [2]
    write(connection, {BUDGET: None})
    assert reopened(path).budgets == []


def test_money_at_risk_is_spent_once(path: Path, connection: sqlite3.Connection) -> None:
    write(connection, {BUDGET: (NOW_S + 1.0, 10, 5, 0)})
    for _ in range(2):
        assert [row[3:] for row in reopened(path).budgets] == [(NOW_S + 1.0, 15, 0, 0)]


def test_what_is_over_is_forgotten(path: Path, connection: sqlite3.Connection) -> None:
    write(
        connection,
        {
            BUDGET: (NOW_S, 10, 0, 0),
            GRANT: ("day", "*", 5, NOW_S),
            OVERRIDE: ("{}", "ann", "why", NOW_S - 10, NOW_S),
            ("override", ("forever",)): ("{}", "ann", "why", NOW_S - 10, None),
        },
    )
    saved = reopened(path)
    assert (saved.budgets, saved.grants, [row[0] for row in saved.overrides]) == ([], [], ["forever"])


def test_old_days_and_old_entries_are_forgotten(connection: sqlite3.Connection) -> None:
    rows: dict[Key, Values | None] = {
        ("audit", (seq,)): (0.0, "", "", "", "", "{}") for seq in range(AUDIT_ENTRIES + 5)
    }
    rows |= {spend_key(day): (1, 1, 1, 1) for day in ("2025-10-16", "2025-10-17", "2026-11-21")}
    write(connection, rows)
    purge(connection, NOW_S)
    assert SPEND_DAYS == 400
    assert [row[0] for row in read_spend(connection, "0", "9", frozenset())] == ["2025-10-17", "2026-11-21"]
    assert connection.execute("SELECT count(*), min(seq) FROM audit").fetchone() == (AUDIT_ENTRIES, 5)


def test_parts_are_added_up_at_the_next_start(path: Path, connection: sqlite3.Connection) -> None:
    write(connection, {spend_key(part=part): (1, 10, 5, 300) for part in (0, 1, 2)})
    write(connection, {spend_key(target="u", part=1): (1, 1, 1, 1), spend_key("2026-11-20", part=0): (9, 9, 9, 9)})
    before = read_spend(connection, "2026-11-20", "2026-11-21", frozenset())
    reopened(path)
    assert read_spend(connection, "2026-11-20", "2026-11-21", frozenset()) == before
    assert [row[3:] for row in before] == [
        ("t", '[["team","ml"]]', 9, 9, 9, 9),
        ("t", '[["team","ml"]]', 3, 30, 15, 900),
        ("u", '[["team","ml"]]', 1, 1, 1, 1),
    ]
    assert connection.execute("SELECT DISTINCT part FROM spend").fetchall() == [(0,)]


def test_parts_can_be_left_out(connection: sqlite3.Connection) -> None:
    write(connection, {spend_key(part=part): (1, 1, 1, 10**part) for part in (0, 1, 2)})
    assert [row[-1] for row in read_spend(connection, "2026-11-21", "2026-11-21", frozenset({1, 2}))] == [1]


def test_a_transaction_is_all_or_nothing(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        write(connection, {BUDGET: (NOW_S, 1, 0, 0)})
        connection.execute("INSERT INTO budget SELECT * FROM budget")
    assert connection.execute("SELECT count(*) FROM budget").fetchone() == (0,)
    assert not connection.in_transaction


def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE budget (theirs)")
    with pytest.raises(
        StateUnusable, match=r"gateway\.sqlite is the database of another program; set server\.state_dir"
    ):
        reopened(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("budget",)]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_file_of_another_format_is_left_alone(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA user_version = 2")
    with pytest.raises(
        StateUnusable, match=r"has format 2, and this gateway writes 1; start the version that wrote it"
    ):
        reopened(path)
