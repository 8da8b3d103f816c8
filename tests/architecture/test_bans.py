"""What is not written here, each with the reason."""

import ast
from collections.abc import Iterable, Iterator

from tests.architecture.tree import Module, assert_none, module, modules

# Dotted name -> (files where it may stand, reason).
BANNED_NAMES: dict[str, tuple[tuple[str, ...], str]] = {
    "time.time": (("gateway/core/clock.py",), "durations and dates come from a Clock, which tests can hold still"),
    "time.sleep": ((), "it stops the whole loop"),
    "os.environ": (("gateway/cli.py", "gateway/config/load.py"), "settings come in by constructors"),
    "os.getenv": ((), "settings come in by constructors"),
    "asyncio.create_task": (("gateway/core/pipeline.py",), "use pipeline.spawn: a task nobody holds may vanish"),
    "asyncio.ensure_future": (("gateway/core/pipeline.py",), "use pipeline.spawn: a task nobody holds may vanish"),
    "starlette.middleware.base.BaseHTTPMiddleware": ((), "it hides the client's departure (F5)"),
}
# Called on whatever object: a loop, a group. The protocol makes and keeps the task of each request itself: on Python
# 3.11 `asyncio.create_task`, and so `spawn`, asks the kernel for the process id every time.
BANNED_METHODS: dict[str, tuple[tuple[str, ...], str]] = {
    "create_task": (("gateway/core/pipeline.py", "gateway/edge/protocol.py"), BANNED_NAMES["asyncio.create_task"][1]),
}

CATCH_ALL = ("gateway/edge/asgi.py", "gateway/providers/streams.py")

GATEWAY = modules("gateway")


def name_faults(sources: Iterable[Module]) -> list[str]:
    """Uses of banned names, imported whichever way."""
    faults = []
    for source in sources:
        for name, node in _names(source):
            files, reason = (
                BANNED_NAMES.get(name) or BANNED_METHODS.get(name.rpartition(".")[2]) or ((source.path,), "")
            )
            if source.path not in files:
                faults.append(f"{source.at(node)}: {name}: {reason}")
    return sorted(set(faults))


def _names(source: Module) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    known: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node
        elif isinstance(node, ast.Import):
            known.update({alias.asname: alias.name for alias in node.names if alias.asname})
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            yield f"{known.get(first, first)}.{rest}", node


def catch_all_faults(sources: Iterable[Module]) -> list[str]:
    """Handlers that swallow what nobody foresaw."""
    faults = []
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = {"BaseException"} if node.type is None else set(ast.unparse(node.type).strip("()").split(", "))
            if "Exception" in caught and source.path not in CATCH_ALL:
                faults.append(f"{source.at(node)}: except Exception stands in {', '.join(CATCH_ALL)} alone")
            if "BaseException" in caught and not _raises_again(node):
                faults.append(f"{source.at(node)}: except BaseException must raise again")
    return faults


def _raises_again(handler: ast.ExceptHandler) -> bool:
    # The same error, or what it is called here: `raise mapped from error`.
    return isinstance(handler.body[-1], ast.Raise)


def test_nothing_banned_is_used() -> None:
    assert_none(name_faults(GATEWAY))


def test_only_the_edge_catches_everything() -> None:
    assert_none(catch_all_faults(GATEWAY))


def test_annotations_are_what_they_say() -> None:
    assert [source.path for source in GATEWAY if "from __future__" in source.text] == []


def test_banned_names_are_found_however_they_are_imported() -> None:
    text = (
        "import os, time as clock\n"
        "from time import sleep\n"
        "from asyncio import create_task as go\n"
        "a = clock.time()\n"
        "b = os.environ['A']\n"
        "loop.create_task(c)\n"
    )
    faults = name_faults([module("gateway/routing/bad.py", text)])
    assert [fault.split(": ")[:2] for fault in faults] == [
        ["gateway/routing/bad.py:2", "time.sleep"],
        ["gateway/routing/bad.py:3", "asyncio.create_task"],
        ["gateway/routing/bad.py:4", "time.time"],
        ["gateway/routing/bad.py:5", "os.environ"],
        ["gateway/routing/bad.py:6", "loop.create_task"],
    ]


def test_a_name_is_allowed_in_its_own_file() -> None:
    assert name_faults([module("gateway/core/clock.py", "import time\nwall = time.time\n")]) == []


def test_swallowed_exceptions_are_found() -> None:
    text = (
        "try:\n    f()\nexcept (ValueError, Exception):\n    pass\n"
        "try:\n    f()\nexcept:\n    pass\n"
        "try:\n    f()\nexcept BaseException as error:\n    g()\n    raise error\n"
    )
    assert catch_all_faults([module("gateway/core/bad.py", text)]) == [
        "gateway/core/bad.py:3: except Exception stands in gateway/edge/asgi.py, gateway/providers/streams.py alone",
        "gateway/core/bad.py:7: except BaseException must raise again",
    ]
