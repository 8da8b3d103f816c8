"""What the operating system asks of a gateway."""

import asyncio
import signal

import pytest

from gateway.edge.signals import Signals

pytestmark = pytest.mark.anyio


async def test_the_first_signal_stops_and_the_second_hurries() -> None:
    asked: list[str] = []
    signals = Signals()
    signals.on_hurry(lambda: asked.append("hurry"))
    signals.end()
    assert signals.stop.is_set()
    assert asked == []
    signals.end()
    assert asked == ["hurry"]


async def test_what_comes_before_anybody_listens_is_told_later() -> None:
    asked: list[str] = []
    signals = Signals()
    signals.hang_up()
    signals.end()
    signals.end()
    signals.on_reload(lambda: asked.append("reload"))
    signals.on_hurry(lambda: asked.append("hurry"))
    assert asked == ["reload", "hurry"]
    signals.hang_up()
    assert asked == ["reload", "hurry", "reload"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_the_signals_of_the_process_are_taken(ending: signal.Signals) -> None:
    reloaded = asyncio.Event()
    signals = Signals()
    signals.install()
    signals.on_reload(reloaded.set)
    try:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(ending)
        async with asyncio.timeout(5):
            await reloaded.wait()
            await signals.stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert signals.stop.is_set()
