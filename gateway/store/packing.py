"""What goes to the script in Redis and what comes back: names of keys, claims, verdicts."""

from collections.abc import Sequence
from enum import IntEnum
from math import ceil, inf
from typing import Any

from msgspec import Raw, json, msgpack

from gateway.store.base import BudgetState, Claim, Spend, Standing, Verdict

US_PER_S = 1_000_000
SUB_WINDOWS = 100
_WINDOW, _SLOTS, _BUDGET = 1, 2, 3
_FIELDS_OF_A_STANDING = 5


class Op(IntEnum):
    """Operations of the script, numbered as its last part lists them."""

    HOLD = 1
    SETTLE = 2
    RELEASE = 3
    REGISTER = 4
    RENEW = 5
    CHARGE = 6
    AT_LEAST = 7
    ADD_SPEND = 8
    READ_SPEND = 9
    READ_BUDGETS = 10
    READ_GRANTED = 11
    GRANT = 12
    RECORD = 13
    READ_AUDIT = 14
    PUT = 15
    READ_OVERRIDES = 16
    DROP = 17
    ACQUIRE = 18
    LET_GO = 19
    HEAR = 20
    FORGET = 21


def budget_name(rule: str, scope: str, period: str) -> str:
    """The key of a budget counter, without its prefix. Lengths go first, so no name can be written as another's."""
    return f"b:{len(rule)}|{len(period)}|{rule}|{period}|{scope}"


def split_budget_name(name: str) -> tuple[str, str, str]:
    """Rule, scope and period of a `budget_name`."""
    rule_length, period_length, rest = name[2:].split("|", 2)
    rule, rest = rest[: int(rule_length)], rest[int(rule_length) + 1 :]
    return rule, rest[int(period_length) + 1 :], rest[: int(period_length)]


def terms(claim: Claim) -> tuple[Any, ...]:
    """One claim as the script reads it: kind, key, amount, limit, dry run, and what its kind needs besides."""
    rule, scope = claim.rule, claim.scope
    if claim.kind == "window":
        # Rounded up: a hundred of them are never shorter than the period.
        width_us = ceil(round(claim.period_s * US_PER_S) / SUB_WINDOWS) or 1
        # The width is part of the name: another period is another counter.
        key = f"w:{claim.unit}:{width_us}:{len(rule)}|{rule}|{scope}"
        return _WINDOW, key, claim.amount, claim.limit, claim.dry_run, width_us
    if claim.kind == "concurrency":
        return _SLOTS, f"c:{len(rule)}|{rule}|{scope}", claim.amount, claim.limit, claim.dry_run
    return (
        *(_BUDGET, budget_name(rule, scope, claim.period), claim.amount, claim.limit, claim.dry_run, rule, scope),
        *(int(claim.ends_at_s * US_PER_S), claim.charge_lost, claim.alert_at),
    )


_encode = msgpack.Encoder().encode


def pack_claims(claims: Sequence[Claim]) -> Raw:
    """Claims as the script keeps them: packed by themselves, and the whole as one text."""
    packed = _encode([terms(claim) for claim in claims])
    # The script's cmsgpack knows no binary type; its texts are bytes.
    return Raw(b"\xdb" + len(packed).to_bytes(4) + packed)


def read_verdict(answer: Sequence[Any]) -> Verdict:
    """The verdict in the script's answer to a hold: granted, then five fields for each claim."""
    standings = []
    for at in range(1, len(answer), _FIELDS_OF_A_STANDING):
        fits, used, limit, retry_after_us, reset_us = answer[at : at + _FIELDS_OF_A_STANDING]
        retry_after_s = 0.0 if fits else inf if retry_after_us < 0 else retry_after_us / US_PER_S
        standings.append(Standing(fits, used, limit, retry_after_s, reset_us / US_PER_S))
    return Verdict(answer[0], tuple(standings))


def read_budget(fields: Sequence[Any], granted_nusd: int) -> BudgetState:
    """One budget counter: name, period's end, spent, held."""
    name, ends_us, spent, held = fields
    rule, scope, period = split_budget_name(name)
    return BudgetState(rule, scope, period, ends_us / US_PER_S, spent, held, granted_nusd)


SpendKey = tuple[str, str, str, str, tuple[tuple[str, str], ...]]
"""Day, key, route, target and tags."""
OTHER_DIMENSIONS = json.encode(("other", "other", "other", ())).decode()
"""Where the spend of a day goes that has more combinations than are kept."""


def pack_dimensions(key: SpendKey) -> str:
    """The field of one combination, within its day."""
    return json.encode(key[1:]).decode()


def read_spend(day: str, field: str, sums: Sequence[int]) -> Spend:
    """One line of a day's totals."""
    key, route, target, tags = json.decode(field, type=tuple[str, str, str, tuple[tuple[str, str], ...]])
    return Spend(day, key, route, target, tags, *sums)
