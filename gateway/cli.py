"""The `gateway` command. The only place, with `config/load.py`, that looks at the environment."""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway import __version__
from gateway.assembly.prices import is_known
from gateway.config.commands import announce_key, check, schema
from gateway.config.load import ConfigError, load
from gateway.edge.serve import Options, serve
from gateway.edge.supervisor import supervise
from gateway.edge.worker import ignore_signals, work
from gateway.mock.server import MockServer, run
from gateway.operate import add_commands
from gateway.telemetry.logs import configure_logging
from gateway.telemetry.sink import LogSink

DEFAULT_CONFIG = Path("config/gateway.yaml")
STDOUT_FD = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    return command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="A gateway in front of model endpoints.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serving = commands.add_parser("serve", help="serve requests")
    serving.add_argument("--config", type=Path, help="configuration; else ./config/gateway.yaml, else $GATEWAY_CONFIG")
    serving.add_argument("--listen", metavar="HOST:PORT", help="data plane, instead of server.listen")
    serving.add_argument("--admin", metavar="HOST:PORT", help="admin plane, instead of server.admin")
    serving.add_argument("--workers", type=_positive, default=1, metavar="N", help="processes on the one port")
    serving.set_defaults(run=_serve)

    checking = commands.add_parser("check", help="report every fault of a configuration")
    checking.add_argument("file", type=Path)
    checking.set_defaults(run=lambda arguments: check(arguments.file, os.environ, sys.stdout, is_known))

    describing = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    describing.set_defaults(run=_schema)

    keys = commands.add_parser("keys", help="client keys").add_subparsers(required=True, metavar="COMMAND")
    new = keys.add_parser("new", help="print a fresh key once, and the line for the file")
    new.add_argument("id", help="name of the key in logs")
    new.set_defaults(run=lambda arguments: announce_key(arguments.id, sys.stdout))

    mock = commands.add_parser("mock", help="a scriptable model server for demos, tests and load")
    mock.add_argument("--listen", default="127.0.0.1:9000", metavar="HOST:PORT")
    mock.add_argument("--quiet", action="store_true", help="keep no log of calls")
    mock.set_defaults(run=_mock)

    add_commands(commands, os.environ)

    # For the supervisor alone, so it is not in the help.
    worker = commands.add_parser("worker")
    worker.add_argument("listening", type=int)
    worker.add_argument("control", type=int)
    worker.set_defaults(run=_work)
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes from 1 to 256")
    return number


class _Version(argparse.Action):
    """Prints version and commit when it is asked for, and asks git only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print version and commit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"gateway {__version__} (commit {_commit()})\n")
        parser.exit()


def _commit() -> str:
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return "unknown"
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def _schema(arguments: argparse.Namespace) -> int:
    json.dump(schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def _mock(arguments: argparse.Namespace) -> int:
    return run(arguments.listen, log_calls=not arguments.quiet, loop_factory=uvloop.new_event_loop)


def _config_path(given: Path | None) -> Path:
    if given is not None:
        return given
    named = os.environ.get("GATEWAY_CONFIG")
    return Path(named) if named and not DEFAULT_CONFIG.exists() else DEFAULT_CONFIG


def _serve(arguments: argparse.Namespace) -> int:
    options = Options(
        config=_config_path(arguments.config),
        environ=dict(os.environ),
        listen=arguments.listen,
        admin=arguments.admin,
        workers=arguments.workers,
        version=__version__,
    )
    try:
        loaded = load(options.read(), is_known)
    except ConfigError as error:
        for fault in error.faults:
            sys.stderr.write(f"{fault}\n")
        sys.stderr.write("gateway: the configuration cannot be served; `gateway check FILE` shows the same\n")
        return 1
    sink = LogSink(STDOUT_FD, shared=options.workers > 1)
    configure_logging("info", sink)
    try:
        if options.workers > 1:
            return _run(supervise(options, loaded, sink))
        return _run(_with_mock(lambda mock: serve(options, loaded, sink, mock)))
    except OSError as error:
        sys.stderr.write(
            f"gateway: {error.strerror or error}; choose another with --listen and --admin, "
            "or server.listen and server.admin\n"
        )
        return 1
    finally:
        sink.close(2.0)


def _work(arguments: argparse.Namespace) -> int:
    ignore_signals()
    listening = socket.socket(fileno=arguments.listening)
    control = socket.socket(fileno=arguments.control)
    control.setblocking(False)
    sink = LogSink(STDOUT_FD, shared=True)
    configure_logging("info", sink)
    try:
        return _run(_with_mock(lambda mock: work(listening, control, sink, mock, __version__)))
    finally:
        sink.close(2.0)


def _run(work: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _with_mock(body: Callable[[Callable[[], Awaitable[str]]], Awaitable[int]]) -> int:
    """Run `body` with a way to start the built-in mock, once, on a free loopback port, and end it afterwards."""
    started: list[MockServer] = []

    async def start() -> str:
        if not started:
            mock = MockServer()
            await mock.start("127.0.0.1", 0)
            started.append(mock)
        return started[0].url

    try:
        return await body(start)
    finally:
        for mock in started:
            await mock.aclose()
