"""The commands that talk to a running gateway: switch, failover, isolate, eject, restore, budgets, cache, why, audit.

Each prints what came of it, and exits with 1 and one line when the gateway refuses or cannot be reached.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TextIO

from gateway.edge.remote import AdminClient, AdminError, local_actor, quoted
from gateway.model_command import add_model_commands

DEFAULT_ADMIN = "http://127.0.0.1:8081"

Verb = Callable[[AdminClient, argparse.Namespace], dict[str, Any]]


def add_commands(commands: Any, environ: Mapping[str, str]) -> None:
    """Put the commands into a parser's sub-commands. `environ` may hold GATEWAY_ADMIN and GATEWAY_ADMIN_TOKEN."""
    add = partial(_command, commands, environ)
    switch = add("switch", "send a route's traffic elsewhere, or back", _switch)
    switch.add_argument("route", help="the route's `model`")
    where = switch.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", metavar="TARGET")
    where.add_argument("--split", type=_weights, metavar="A=90,B=10")
    where.add_argument("--undo", action="store_true", help="where the file says again")
    _why_and_how_long(switch)

    failover = add("failover", "move traffic from targets with a tag to those with another", _failover)
    failover.add_argument("--tag", type=_tags, required=True, metavar="NAME=VALUE", help="tags of the targets to leave")
    failover.add_argument("--to", type=_tags, metavar="NAME=VALUE", help="tags of those that take over")
    failover.add_argument("--undo", action="store_true")
    _why_and_how_long(failover)

    isolate = add("isolate", "refuse a key, a target or a tag's value, and keep what it did", _isolate)
    what = isolate.add_mutually_exclusive_group(required=True)
    for kind in ("key", "target", "tag"):
        what.add_argument(f"--{kind}")
    isolate.add_argument("--undo", action="store_true")
    _why_and_how_long(isolate)

    for name, text in (("eject", "take a target out of service"), ("restore", "take a target back")):
        command = add(name, text, _eject if name == "eject" else _restore)
        command.add_argument("target")
        _why_and_how_long(command)

    budgets = add("budgets", "what is spent, held and left", _budgets)
    budgets.add_argument("--grant", metavar="NAME", help="more room in this budget")
    budgets.add_argument("--amount", metavar="$50")
    budgets.add_argument("--until", metavar="2026-11-21T18:00:00Z")
    budgets.add_argument("--scope", default="*", help="as shown; else every counter of the budget")
    budgets.add_argument("--reason")

    cache = commands.add_parser("cache", help="stored replies").add_subparsers(metavar="COMMAND", required=True)
    add_model_commands(cache)
    purge = _command(cache, environ, "purge", "remove stored replies, everywhere at once", _purge)
    scope = purge.add_mutually_exclusive_group(required=True)
    scope.add_argument("--key", metavar="ID", help="those that this key's requests have filled")
    scope.add_argument("--tag", metavar="NAME=VALUE", help="those of requests with this tag")
    scope.add_argument("--route", help="those of a route, by its `model`")
    scope.add_argument("--prompt", dest="prompt_version", metavar="NAME@VERSION")
    scope.add_argument("--entry", metavar="ID", help="one, as `gateway why` shows it")
    purge.add_argument("--reason", default="purged", help="for the audit")

    why = add("why", "each decision of one of the last requests", _why)
    why.add_argument("request_id")
    audit = add("audit", "who changed what, and why", _audit)
    audit.add_argument("--limit", default="20")


def _command(commands: Any, environ: Mapping[str, str], name: str, text: str, verb: Verb) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--admin", default=None, metavar="URL", help=f"else $GATEWAY_ADMIN, else {DEFAULT_ADMIN}")
    parser.add_argument("--json", action="store_true", help="the answer as it is")
    parser.set_defaults(run=lambda arguments: _run(verb, arguments, environ, sys.stdout, sys.stderr))
    return parser


def _why_and_how_long(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="for the audit; needed unless it is undone")
    parser.add_argument("--for", dest="for_", metavar="2h", help="how long; else until it is undone")


def _run(verb: Verb, arguments: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    url = arguments.admin or environ.get("GATEWAY_ADMIN") or DEFAULT_ADMIN
    client = AdminClient(url, environ.get("GATEWAY_ADMIN_TOKEN"), local_actor())
    try:
        answer = verb(client, arguments)
    except AdminError as error:
        err.write(f"gateway: {error}\n")
        return 1
    if arguments.json:
        json.dump(answer, out, indent=2)
        out.write("\n")
    else:
        out.write(_told(answer))
    return 0


def _order(arguments: argparse.Namespace, **more: Any) -> dict[str, Any]:
    body = {"reason": arguments.reason, **more}
    if arguments.for_ is not None:
        body["for"] = arguments.for_
    return body


def _switch(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    path = f"routes/{quoted(arguments.route)}/switch"
    if arguments.undo:
        return client.delete(path, reason=arguments.reason or "undone")
    if arguments.to is not None:
        return client.post(path, _order(arguments, target=arguments.to))
    return client.post(path, _order(arguments, split=arguments.split))


def _failover(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.undo:
        left = ",".join(f"{name}={value}" for name, value in sorted(arguments.tag.items()))
        return client.delete("failover", **{"from": left, "reason": arguments.reason or "undone"})
    if arguments.to is None:
        raise AdminError("name the tags of the targets that take over with --to")
    return client.post("failover", _order(arguments, **{"from": arguments.tag, "to": arguments.to}))


def _isolate(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    subject = {kind: value for kind in ("key", "target", "tag") if (value := getattr(arguments, kind)) is not None}
    if arguments.undo:
        return client.delete("isolate", **subject, reason=arguments.reason or "undone")
    return client.post("isolate", _order(arguments, **subject))


def _eject(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    return client.post(f"targets/{quoted(arguments.target)}/eject", _order(arguments))


def _restore(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    return client.post(f"targets/{quoted(arguments.target)}/restore", {"reason": arguments.reason or "restored"})


def _budgets(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.grant is None:
        return client.get("budgets")
    body = {name: getattr(arguments, name) for name in ("amount", "until", "scope", "reason")}
    return client.post(f"budgets/{quoted(arguments.grant)}/grant", body)


def _purge(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    kinds = ("key", "tag", "route", "prompt_version", "entry")
    scope = {kind: value for kind in kinds if (value := getattr(arguments, kind)) is not None}
    return client.delete("cache", **scope, reason=arguments.reason)


def _why(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    return client.get(f"requests/{quoted(arguments.request_id)}")


def _audit(client: AdminClient, arguments: argparse.Namespace) -> dict[str, Any]:
    return client.get("audit", limit=arguments.limit)


def _told(answer: dict[str, Any]) -> str:
    """An answer for people: lists as a line for each item, everything else as `name: value`."""
    lines: list[str] = []
    for name, value in answer.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{name}:")
            lines += [
                "  " + "  ".join(f"{key}={_text(item)}" for key, item in row.items() if item is not None)
                for row in value
            ]
        else:
            lines.append(f"{name}: {_text(value)}")
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _weights(text: str) -> dict[str, float]:
    try:
        return {name: float(weight) for name, weight in (part.split("=", 1) for part in text.split(","))}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not A=90,B=10") from error


def _tags(text: str) -> dict[str, str]:
    try:
        return {name.strip(): value.strip() for name, value in (part.split("=", 1) for part in text.split(","))}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value") from error
