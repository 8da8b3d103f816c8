"""What the operating system asks of a gateway: to end, to end at once, to read its configuration again."""

import asyncio
import signal
from collections.abc import Callable

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """SIGTERM and SIGINT set `stop`, and a second one is the wish to end at once; SIGHUP asks for a reload.

    What is asked before somebody listens for it is told as soon as somebody does, so handlers can be
    installed before anything else is there: a signal during the start must not kill the process.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._hurry: Callable[[], None] | None = None
        self._reload: Callable[[], object] | None = None
        self._is_hurry_due = False
        self._is_reload_due = False

    def install(self) -> None:
        """Take the signals from now on."""
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, self.hang_up)

    def end(self) -> None:
        """SIGTERM or SIGINT came."""
        if not self.stop.is_set():
            self.stop.set()
        elif self._hurry is not None:
            self._hurry()
        else:
            self._is_hurry_due = True

    def hang_up(self) -> None:
        """SIGHUP came."""
        if self._reload is not None:
            self._reload()
        else:
            self._is_reload_due = True

    def on_hurry(self, hurry: Callable[[], None]) -> None:
        """Call `hurry` when the drain is to be cut short."""
        self._hurry = hurry
        if self._is_hurry_due:
            hurry()

    def on_reload(self, reload: Callable[[], object]) -> None:
        """Call `reload` when the configuration is to be read again."""
        self._reload = reload
        if self._is_reload_due:
            reload()
