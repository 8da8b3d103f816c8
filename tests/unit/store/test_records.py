"""The protocol: every log is one, and what is true of all of them stands in `record_bench`."""

import random
from pathlib import Path

from gateway.store import records
from gateway.store.memory_records import MemoryRecords
from gateway.store.records import Records
from gateway.store.redis import RedisSettings
from gateway.store.redis_records import RedisRecords
from gateway.store.sqlite_records import SqliteRecords


def test_every_log_is_one(tmp_path: Path) -> None:
    logs: list[Records] = [
        MemoryRecords(),
        SqliteRecords(tmp_path / "log.sqlite", 10),
        RedisRecords(RedisSettings("redis://127.0.0.1:1"), "a", 10, random.Random(1)),
    ]
    assert [(log.is_live, log.dropped, log.deleting, log.lag_s) for log in logs] == [(False, 0, 0, 0.0)] * 3
    assert not (tmp_path / "log.sqlite").exists()


def test_what_is_told_at_once_does_not_hold_up_the_loop() -> None:
    """Measured: 64 records of 4 KiB from Redis take 1 ms."""
    assert records.MOST_TOLD <= 64
