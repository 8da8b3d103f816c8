"""What a store's verdict means: for the client's headers, for the counts, and in the words of a refusal."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.core.errors import BudgetExceeded, ConcurrencyLimited, GatewayError, RateLimited, Refused, StoreUnavailable
from gateway.core.exchange import Exchange, LimitState, Priority
from gateway.core.money import show_usd
from gateway.policies.matching import Matched, Scoped
from gateway.store.base import Claim, Standing, Verdict

_PERIOD_NAMES = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
_CONCURRENCY_RETRY_S = 1.0
# A configuration that knows the price is all that could help.
_UNPRICED_RETRY_S = 60.0


def states(claims: Sequence[Claim], standings: Sequence[Standing]) -> tuple[LimitState, ...]:
    """For each unit the rule with the smallest part of its limit left, as the next decision will find it (F64)."""
    requests: LimitState | None = None
    tokens: LimitState | None = None
    for claim, standing in zip(claims, standings, strict=True):
        if claim.kind != "window" or claim.dry_run:
            continue
        limit = standing.limit
        # Windows count requests and tokens alone, which the type of a claim does not say.
        state = LimitState(claim.unit, limit, max(limit - standing.used, 0), standing.reset_s)  # type: ignore[arg-type]
        if claim.unit == "requests":
            if requests is None or state.remaining * requests.limit < requests.remaining * limit:
                requests = state
        elif tokens is None or state.remaining * tokens.limit < tokens.remaining * limit:
            tokens = state
    if requests is None:
        return () if tokens is None else (tokens,)
    return (requests,) if tokens is None else (requests, tokens)


def tell(
    exchange: Exchange, matched: Matched, claims: Sequence[Claim], owners: Sequence[Scoped], verdict: Verdict
) -> None:
    """Count the decision for each rule, and write down what is out of the ordinary."""
    if verdict.granted and verdict.mode == "shared" and matched.is_plain:
        for scoped in matched.scoped:
            scoped.tally.allowed.value += 1
        return
    found = {
        id(owner): (owner, claim, standing)
        for owner, claim, standing in zip(owners, claims, verdict.standings, strict=True)
        if not standing.fits and is_meant(claim, owner)
    }
    for scoped in matched.scoped:
        tally = scoped.tally
        if id(scoped) not in found:
            if verdict.granted:
                counter = tally.allowed if verdict.mode == "shared" else getattr(tally, verdict.mode)
                counter.value += 1
        elif scoped.is_dry:
            tally.dry_run.value += 1
        else:
            tally.refused.value += 1
    for scoped, claim, standing in found.values():
        verb = "would have refused (dry run)" if scoped.is_dry else "refuses"
        exchange.decide("limits", f"{scoped.rule.name} {verb}: {_amounts(claim, standing)}")
    if verdict.mode != "shared":
        whose = "this process alone" if verdict.mode == "local" else "nobody: the store is gone"
        exchange.decide("limits", f"decided by {whose}")


def tell_refused(exchange: Exchange, refusing: Sequence[tuple[Scoped, Claim, Standing]]) -> None:
    """Count and write down that these refused a try of a request that had been let in."""
    for owner, claim, standing in refusing:
        owner.tally.refused.value += 1
        exchange.decide("limits", f"{owner.rule.name} refuses this try: {_amounts(claim, standing)}")


def is_meant(claim: Claim, owner: Scoped) -> bool:
    """Whether a claim is the rule's own, and not a mere look at its counter."""
    return owner.is_dry or not claim.dry_run


def misfits(
    claims: Sequence[Claim], owners: Sequence[Scoped], verdict: Verdict
) -> list[tuple[Scoped, Claim, Standing]]:
    """What did not fit and counts."""
    return [
        (owner, claim, standing)
        for owner, claim, standing in zip(owners, claims, verdict.standings, strict=True)
        if not standing.fits and not claim.dry_run
    ]


def refusal(refusing: Sequence[tuple[Scoped, Claim, Standing]], priority: Priority, now_s: float) -> GatewayError:
    """The error for the claim that has to wait longest, of those that did not fit."""
    if not refusing:
        # A store that has been away may refuse a hold by its id alone.
        return StoreUnavailable("The limits of this request could not be decided. Try again.", retry_after_s=1.0)
    errors = [_refusal(claim, standing, owner, priority, now_s) for owner, claim, standing in refusing]
    return max(errors, key=lambda error: error.retry_after_s or 0.0)


def unpriced(owner: Scoped) -> BudgetExceeded:
    """The error where a budget applies and the price is not known: nobody could say what is left."""
    name = owner.rule.name
    return BudgetExceeded(
        f"The price of this model is not known, and budget {name} applies to it. "
        "Use another model, or ask the operator to declare the target's price.",
        limit=name,
        retry_after_s=_UNPRICED_RETRY_S,
    )


def _refusal(claim: Claim, standing: Standing, owner: Scoped, priority: Priority, now_s: float) -> Refused:
    name, wait_s = claim.rule, standing.retry_after_s
    if claim.kind == "concurrency":
        return ConcurrencyLimited(
            f"Limit {name} allows {standing.limit:,} requests at once, and {standing.used:,} are running. "
            "Try again when one of them is over.",
            limit=name,
            retry_after_s=wait_s if math.isfinite(wait_s) and wait_s > 0 else _CONCURRENCY_RETRY_S,
        )
    if claim.kind == "budget":
        return BudgetExceeded(
            f"Budget {name} allows {_budget(claim, standing, owner)}: {show_usd(standing.used)} is spent or held, and "
            f"this request may cost {show_usd(claim.amount)}{_reserved(claim, owner, priority)}. "
            f"It starts anew at {datetime.fromtimestamp(claim.ends_at_s, UTC):%Y-%m-%dT%H:%M:%SZ}; a smaller "
            "max_tokens, a shorter prompt or a cheaper model may still fit.",
            limit=name,
            retry_after_s=wait_s if math.isfinite(wait_s) else max(claim.ends_at_s - now_s, 1.0),
        )
    period = _PERIOD_NAMES.get(claim.period_s, f"{claim.period_s:g} s")
    if claim.unit == "requests":
        message = f"Limit {name} allows {standing.limit:,} requests per {period}, and {standing.used:,} have come."
        if math.isfinite(wait_s):
            message += f" Try again in {_seconds(wait_s)}."
    elif math.isinf(wait_s):
        message = (
            f"This request may need {claim.amount:,} tokens (its prompt and max_tokens), and limit {name} never allows "
            f"more than {standing.limit:,} per {period}. Shorten the prompt or lower max_tokens."
        )
    else:
        message = (
            f"Limit {name} allows {standing.limit:,} tokens per {period}: {standing.used:,} are used or held, and this "
            f"request may need {claim.amount:,} (its prompt and max_tokens). Try again in {_seconds(wait_s)}, or "
            "lower max_tokens."
        )
    return RateLimited(message, limit=name, retry_after_s=wait_s)


def _budget(claim: Claim, standing: Standing, owner: Scoped) -> str:
    budget = owner.rule.budget
    assert budget is not None
    # The rule's own limit, though the claim's may be lower; with what has been granted above it.
    return f"{show_usd(budget.limit_nusd + standing.limit - claim.limit)} per {budget.calendar}"


def _reserved(claim: Claim, owner: Scoped, priority: Priority) -> str:
    assert owner.terms.ladder is not None
    if claim.limit == owner.terms.ladder.limit_nusd:
        return ""
    return f"; requests of {priority} priority may use {show_usd(claim.limit)} of it"


def _seconds(wait_s: float) -> str:
    return f"{max(math.ceil(wait_s * 1000), 1)} ms" if wait_s < 1 else f"{math.ceil(wait_s):,} s"


def _amounts(claim: Claim, standing: Standing) -> str:
    if claim.unit == "nusd":
        return f"{show_usd(standing.used)} of {show_usd(standing.limit)} and {show_usd(claim.amount)} asked for"
    return f"{standing.used:,} of {standing.limit:,} {claim.unit} and {claim.amount:,} asked for"
