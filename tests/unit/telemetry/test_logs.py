"""What the process itself logs."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import NoHealthyTarget
from gateway.telemetry.logs import JsonHandler, configure_logging, level_of, redacted, rfc3339
from gateway.telemetry.sink import LogSink


class Logged:
    """A sink into a file, and what arrived there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.sink = LogSink(self._fd)

    def lines(self) -> list[dict[str, Any]]:
        """Everything logged so far."""
        assert self.sink.flush(5)
        return [json.loads(line) for line in self._path.read_bytes().splitlines()]

    def close(self) -> None:
        """Stop the thread and close the file."""
        self.sink.close(5)
        os.close(self._fd)


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Logged]:
    """Logging configured to go to a file; as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    target = Logged(tmp_path / "log")
    configure_logging("info", target.sink)
    yield target
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    target.close()


def test_a_message_is_one_line_of_json(logged: Logged) -> None:
    logging.getLogger("gateway.core.pipeline").warning("first\nsecond %s", "x")
    (line,) = logged.lines()
    assert line.pop("ts").endswith("Z")
    assert line == {"level": "warning", "event": "log", "message": "first\nsecond x", "logger": "gateway.core.pipeline"}


def test_messages_below_the_level_are_not_written(logged: Logged) -> None:
    logging.getLogger("gateway").debug("quiet")
    assert logged.lines() == []


def test_uvicorn_speaks_through_the_same_sink_but_writes_no_access_log(logged: Logged) -> None:
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert [line["message"] for line in logged.lines()] == ["Started"]


def test_warnings_of_libraries_are_logged(logged: Logged) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old api", DeprecationWarning, stacklevel=1)
    (line,) = logged.lines()
    assert line["logger"] == "py.warnings"
    assert "old api" in line["message"]


def test_configuring_twice_does_not_write_twice(logged: Logged) -> None:
    configure_logging("info", logged.sink)
    logging.getLogger("gateway").info("once")
    assert len(logged.lines()) == 1


def test_without_a_sink_nothing_is_written(logged: Logged) -> None:
    configure_logging("info", None)
    logging.getLogger("gateway").error("nobody hears")
    assert logged.lines() == []


def test_an_exception_is_told_by_type_and_place_and_not_by_its_text(logged: Logged, canaries: tuple[str, str]) -> None:
    """F114: a text may quote a prompt or a key."""
    try:
        try:
            raise KeyError(canaries[1])
        except KeyError as error:
            raise ValueError(canaries[0]) from error
    except ValueError:
        logging.getLogger("gateway").exception("failed")
    (line,) = logged.lines()
    assert "ValueError" in line["exception"]
    assert "KeyError" in line["exception"]
    assert "in test_an_exception_is_told" in line["exception"]
    assert not any(canary in json.dumps(line) for canary in canaries)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (NoHealthyTarget("all out"), "all out"),
    ],
)
def test_a_harmless_text_of_an_exception_is_kept(logged: Logged, error: Exception, text: str) -> None:
    logging.getLogger("gateway").error("failed", exc_info=error)
    assert logged.lines()[0]["exception"] == f"{type(error).__qualname__}: {text}"


def test_what_asyncio_quotes_of_a_task_is_cut_off(logged: Logged, canaries: tuple[str, str]) -> None:
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task %s>", canaries[0])
    assert [line["message"] for line in logged.lines()] == ["Task exception was never retrieved"]


def test_a_wrong_format_string_does_no_harm(logged: Logged) -> None:
    record = logging.LogRecord("gateway", logging.ERROR, __file__, 1, "%d apples", ("many",), None)
    JsonHandler(logged.sink).emit(record)
    assert [line["message"] for line in logged.lines()] == ["%d apples"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Authorization: Bearer abcdefghijk.lmn", "Authorization: Bearer ***"),
        ("got sk-proj-abcdefghijkl back", "got sk-*** back"),
        ("x-api-key: 0123456789abcdef", "x-api-key: ***"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "***"}'),
        ("the risk-free path", "the risk-free path"),
        ("\ud83d", "?"),
        ("y" * 5000, "y" * 4096),
    ],
)
def test_what_looks_like_a_credential_is_masked(message: str, expected: str) -> None:
    """F114."""
    assert redacted(message) == expected


def test_levels_have_their_usual_names() -> None:
    assert [level_of(level) for level in (10, 20, 30, 40, 50)] == ["debug", "info", "warning", "error", "critical"]


@pytest.mark.parametrize(
    ("wall_s", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1_767_225_599.9996, "2025-12-31T23:59:59.999Z")],
)
def test_times_are_rfc_3339_in_utc(wall_s: float, text: str) -> None:
    assert rfc3339(wall_s) == text
