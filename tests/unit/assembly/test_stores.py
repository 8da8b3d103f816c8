"""Which store a configuration asks for."""

from pathlib import Path

from gateway.assembly.stores import declare, failure_rules, open_store
from gateway.store.failover import FailoverStore
from gateway.store.memory import MemoryStore
from tests.fakes import MOCK_CONFIG, FakeClock, loaded

REDIS = MOCK_CONFIG + (
    "store: {redis: env:REDIS_URL, timeout: 20ms}\non_store_failure: {rate_limits: open, budgets: local, share: 25%}\n"
)


def test_without_a_redis_each_process_counts_for_itself(tmp_path: Path) -> None:
    store = open_store(loaded(MOCK_CONFIG).config, FakeClock(), tmp_path / "state.sqlite", lambda crossing: None)
    assert isinstance(store, MemoryStore)
    assert (store.is_shared, store.is_up) == (False, True)


def test_with_a_redis_all_count_together_and_no_connection_is_opened_yet() -> None:
    configured = loaded(REDIS, {"REDIS_URL": "redis://user:secret@127.0.0.1:1/0"})
    store = open_store(configured.config, FakeClock(), None, lambda crossing: None)
    assert isinstance(store, FailoverStore)
    assert store.is_shared
    assert "secret" not in repr(store.detail)


def test_what_holds_without_it_is_as_declared() -> None:
    rules = failure_rules(loaded(REDIS, {"REDIS_URL": "redis://127.0.0.1:1/0"}).config)
    assert (rules.rate_limits, rules.budgets, rules.share) == ("open", "local", 0.25)


def test_a_reload_changes_what_holds_without_it() -> None:
    store = open_store(loaded(REDIS, {"REDIS_URL": "redis://127.0.0.1:1/0"}).config, FakeClock(), None, print)
    declare(
        store, loaded(REDIS.replace("budgets: local", "budgets: closed"), {"REDIS_URL": "redis://127.0.0.1:1/0"}).config
    )
    assert isinstance(store, FailoverStore)
    assert store._rules.budgets == "closed"
    declare(MemoryStore(None, FakeClock(), print), loaded(MOCK_CONFIG).config)
