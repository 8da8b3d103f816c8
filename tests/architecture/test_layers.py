"""Which room may import which, and by which door a library comes in: the table of docs/architecture.md."""

import ast
import sys
from collections.abc import Iterable, Sequence

from tests.architecture.tree import Module, assert_none, imports, module, modules

# Bottom floor first. `store.base` is one module: its protocols may be known where its libraries may not.
ROOMS: dict[str, tuple[str, ...]] = {
    "core": (),
    "wire": ("core",),
    "store": ("core",),
    "telemetry": ("core",),
    "config": ("core",),
    # Without its embedder and its index, which need libraries that not everybody has.
    "semantic": ("core",),
    "policies": (
        "core",
        "store.base",
        "store.blobs",
        "telemetry",
        "semantic.judge",
        "semantic.log",
        "semantic.verified",
    ),
    "routing": ("core",),
    "transport": ("core",),
    "providers": ("core", "wire", "transport"),
    "rollout": ("core", "store.base"),
    "mock": ("core", "wire"),
    # `mock.bodies`: how the built-in mock counts tokens is known, so what it may cost is held exactly.
    "assembly": (
        "mock.bodies",
        *("core", "wire", "store", "telemetry", "config", "policies"),
        *("routing", "transport", "providers", "semantic", "rollout"),
    ),
    # `config`: the admin plane shows it, and the data plane takes its bounds from it. `routing`: what a key may see of
    # the routes is asked without a request. `policies.overload`: who is turned away before there is a way to go.
    # `store.blobs`: what an operator may purge, and the receipt for it.
    "edge": (
        *("core", "wire", "store.base", "store.blobs", "telemetry", "config", "policies.overload", "routing"),
        "assembly",
    ),
    # By name alone, once it is asked for: `semantic.model` needs libraries that not everybody has.
    "model_command": ("semantic.model",),
    "operate": ("edge", "model_command"),
    "cli": ("assembly", "config", "edge", "mock", "operate", "telemetry"),
    "__main__": ("cli",),
}

# A library enters by one door, so that it can be replaced there. Those with several rooms are no libraries that one
# replaces: the parser of HTTP, the codec of JSON, the event loop.
DOORS: dict[str, tuple[str, ...]] = {
    "genai_prices": ("providers",),
    "httptools": ("edge", "mock", "transport"),
    "httpx": ("transport",),
    "msgspec": ("core", "edge", "mock", "policies", "routing", "semantic", "store", "telemetry", "transport", "wire"),
    "numpy": ("semantic",),
    "onnxruntime": ("semantic",),
    "opentelemetry": ("telemetry",),
    "prometheus_client": ("telemetry",),
    "pybreaker": ("policies",),
    "pydantic": ("config",),
    "pydantic_core": ("config",),
    "redis": ("store",),
    "starlette": ("edge",),
    "tenacity": ("policies",),
    "uvicorn": ("cli", "edge"),
    "uvloop": ("cli", "mock"),
    "yaml": ("config",),
}

GATEWAY = modules("gateway")


def layer_faults(sources: Iterable[Module]) -> list[str]:
    """Imports of our own rooms that the table does not have."""
    faults = []
    for source in sources:
        if source.room and source.room not in ROOMS:
            faults.append(f"{source.path}: {source.room} is no room; enter it in the table, with its floor")
            continue
        allowed = ROOMS.get(source.room, ())
        for name, node in imports(source.tree):
            parts = name.split(".")
            # The package itself holds the version, and nothing else.
            if parts[0] != "gateway" or len(parts) == 1 or parts[1] == source.room or parts[1] == "__version__":
                continue
            if parts[1] in allowed or ".".join(parts[1:3]) in allowed:
                continue
            if any(room.startswith(parts[1] + ".") for room in allowed) and len(parts) == 2:
                continue  # `from gateway.store import base`: the longer name decides
            faults.append(f"{source.at(node)}: {source.room or source.name} must not import {name}")
    return sorted(set(faults))


def door_faults(sources: Iterable[Module]) -> list[str]:
    """Imports of libraries elsewhere than at their door."""
    faults = []
    for source in sources:
        for name, node in imports(source.tree):
            library = name.split(".", maxsplit=1)[0]
            if library == "gateway" or library in sys.stdlib_module_names:
                continue
            if library not in DOORS:
                faults.append(f"{source.at(node)}: {library} has no door yet; enter it in DOORS")
            elif source.room not in DOORS[library]:
                faults.append(f"{source.at(node)}: {library} comes in by {' and '.join(DOORS[library])} alone")
    return sorted(set(faults))


def hidden_imports(sources: Iterable[Module]) -> list[str]:
    """Imports inside functions: they hide a dependency, and pay for it on the first request."""
    return [
        source.at(node)
        for source in sources
        for function in ast.walk(source.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def cycle(sources: Sequence[Module]) -> list[str]:
    """The names of modules that import each other in a circle; empty when there is none."""
    names = {source.name for source in sources}
    needs = {
        source.name: sorted({name for name, _ in imports(source.tree) if name in names and name != source.name})
        for source in sources
    }
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for needed in needs[name]:
            if found := visit(needed, [*path, name]):
                return found
        done.add(name)
        return []

    for name in needs:
        if found := visit(name, []):
            return found
    return []


def test_no_room_imports_a_room_above_it() -> None:
    assert_none(layer_faults(GATEWAY))


def test_the_table_itself_has_no_circle() -> None:
    order = list(ROOMS)
    upward = [
        f"{room} -> {used}"
        for room, allowed in ROOMS.items()
        for used in allowed
        # The mock stands beside the house; only the command line knows both.
        if order.index(used.split(".", maxsplit=1)[0]) >= order.index(room)
    ]
    assert upward == []


def test_libraries_come_in_by_their_door() -> None:
    assert_none(door_faults(GATEWAY))


def test_no_import_hides_in_a_function() -> None:
    assert_none(hidden_imports(GATEWAY))


def test_no_modules_import_each_other() -> None:
    assert_none(cycle(GATEWAY))


def test_an_upward_import_is_found() -> None:
    bad = module("gateway/core/clock.py", "from gateway.wire import sse\n")
    assert layer_faults([bad]) == [
        "gateway/core/clock.py:1: core must not import gateway.wire",
        "gateway/core/clock.py:1: core must not import gateway.wire.sse",
    ]


def test_the_store_is_known_by_its_protocols_alone() -> None:
    good = module(
        "gateway/policies/budget.py", "from gateway.store import base\nfrom gateway.store.base import Ledger\n"
    )
    bad = module("gateway/policies/budget.py", "from gateway.store.redis import Redis\n")
    assert layer_faults([good]) == []
    assert layer_faults([bad]) == [
        "gateway/policies/budget.py:1: policies must not import gateway.store.redis",
        "gateway/policies/budget.py:1: policies must not import gateway.store.redis.Redis",
    ]


def test_a_new_room_must_be_entered() -> None:
    bad = module("gateway/attic/box.py", "")
    assert layer_faults([bad]) == ["gateway/attic/box.py: attic is no room; enter it in the table, with its floor"]


def test_a_library_at_the_wrong_door_is_found() -> None:
    bad = module("gateway/routing/table.py", "import yaml\nimport leftpad\nimport json\n")
    assert door_faults([bad]) == [
        "gateway/routing/table.py:1: yaml comes in by config alone",
        "gateway/routing/table.py:2: leftpad has no door yet; enter it in DOORS",
    ]


def test_an_import_in_a_function_is_found() -> None:
    bad = module("gateway/core/clock.py", "def now():\n    import time\n    return time\n")
    assert hidden_imports([bad]) == ["gateway/core/clock.py:2"]


def test_a_circle_is_found() -> None:
    one = module("gateway/core/one.py", "from gateway.core import two\n")
    two = module("gateway/core/two.py", "from gateway.core.one import x\n")
    assert cycle([one, two]) == ["gateway.core.one", "gateway.core.two", "gateway.core.one"]
