"""A second way for one request: what is asked stays the same, what becomes of it is written down apart."""

from copy import copy

from gateway.core.exchange import Exchange, Usage


def branch(exchange: Exchange) -> Exchange:
    """An exchange that asks the same and has come to nothing yet: no attempt, no decision, no usage, no cost.

    What one branch writes (attempts, decisions, usage, cost, outcome) the other never sees; whoever
    branches merges what should be known of both. The body's bytes, the trace and what admission
    holds are shared. The body must be there as a whole: a stream of it can be read only once.
    """
    assert exchange.request.body_stream is None
    other = copy(exchange)
    other.request = copy(exchange.request)
    other.tags = dict(exchange.tags)
    other.target = other.model_served = other.response_id = None
    other.attempts = []
    other.decisions = []
    other.finish_reasons = []
    other.usage = Usage()
    other.cost_nusd = None
    other.error = None
    other.status = None
    other.first_event_s = other.overhead_s = None
    other.coalesced_s = 0.0
    return other
