"""Every metric of the gateway, in one table: names, labels, buckets, and how workers' values become one."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]
Merge = Literal["sum", "max", "min", "last"]

DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
)  # fmt: skip
"""Seconds. OpenTelemetry's for `gen_ai.client.operation.duration`, and three more: replies run for minutes."""

FIRST_TOKEN_BUCKETS = DURATION_BUCKETS[:14]
"""Seconds. OpenTelemetry's for `gen_ai.client.operation.time_to_first_chunk`."""

OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds. What the gateway adds is tenths of a millisecond, and trouble from ten milliseconds on."""

RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
"""1 is no difference, and fine around it."""

DISTANCE_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Cosine distances: below 0.1 two answers say much the same, and about 1 they have nothing to do with each other."""

SIMILARITY_BUCKETS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.74, 0.78, 0.82, 0.86, 0.9, 0.94, 0.98, 1.0)
"""Cosines: above 0.74 something may be given, in steps as wide as those by which it is learned."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. `merge` is the rule by which several workers' values become one."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Merge = "sum"
    tagged: bool = False
    """Whether the tags of `telemetry.tag_labels` are labels too, after `labels`."""


METRICS: tuple[Metric, ...] = (
    Metric("gateway_requests_total", "counter", "Requests answered, by outcome.", ("route", "target", "outcome")),
    Metric(
        "gateway_request_duration_seconds",
        "histogram",
        "From the end of the request's header to the end of its reply.",
        ("route", "target"),
        DURATION_BUCKETS,
    ),
    Metric(
        "gateway_time_to_first_token_seconds",
        "histogram",
        "From the end of the request's header to the first event with content; streams only.",
        ("route", "target"),
        FIRST_TOKEN_BUCKETS,
    ),
    Metric(
        "gateway_overhead_seconds",
        "histogram",
        "What the gateway itself added until the reply began.",
        ("route",),
        OVERHEAD_BUCKETS,
    ),
    Metric("gateway_inflight_requests", "gauge", "Requests being served now.", ("route",)),
    Metric(
        "gateway_tokens_total",
        "counter",
        "Tokens, by type. Cached input is part of input, reasoning of output.",
        ("route", "target", "type"),
    ),
    Metric(
        "gateway_usage_estimated_total",
        "counter",
        "Requests whose tokens the gateway had to estimate because the provider reported none.",
        ("route", "target"),
    ),
    Metric(
        "gateway_cost_usd_total",
        "counter",
        "What tries cost in US dollars, by route, target and the tags of telemetry.tag_labels.",
        ("route", "target"),
        tagged=True,
    ),
    Metric(
        "gateway_cost_unknown_total",
        "counter",
        "Tries that used something whose price nobody knows; declare it with `price:`.",
        ("target",),
    ),
    Metric(
        "gateway_upstream_attempts_total",
        "counter",
        "Tries at a target, by what became of them; rate_limited is the provider's 429.",
        ("target", "outcome"),
    ),
    Metric(
        "gateway_upstream_connections",
        "gauge",
        "Connections to a target, in_use or idle; and requests waiting for one.",
        ("target", "state"),
    ),
    Metric(
        "gateway_target_in_service",
        "gauge",
        "1 when a target can be used, 0 when its credentials are missing or it is ejected.",
        ("target",),
        merge="min",
    ),
    Metric("gateway_split_weight", "gauge", "Share of a route's requests.", ("route", "target"), merge="last"),
    Metric(
        "gateway_limit_decisions_total",
        "counter",
        "What a limit decided: allowed, refused, dry_run (would have refused); local, open without the store.",
        ("limit", "decision"),
    ),
    Metric("gateway_budget_spent_usd", "gauge", "Settled spend of the current period, over all scopes.", ("limit",)),
    Metric("gateway_budget_limit_usd", "gauge", "What a budget allows to each of its scopes.", ("limit",), merge="max"),
    Metric(
        "gateway_budget_alerts_total",
        "counter",
        "Marks of a budget (alert_at) that its spend has passed, once a period and scope.",
        ("limit", "at"),
    ),
    Metric("gateway_store_up", "gauge", "1 while the store of limits and budgets answers, else 0.", merge="min"),
    Metric("gateway_store_degraded_seconds_total", "counter", "Time without the store, over all workers."),
    Metric("gateway_store_round_trips_total", "counter", "Calls to the store; each carries many operations."),
    Metric("gateway_store_operations_total", "counter", "Operations that those calls carried."),
    Metric("gateway_retries_total", "counter", "Further tries at the same target, by why.", ("route", "reason")),
    Metric(
        "gateway_fallbacks_total",
        "counter",
        "Requests that went on to another target, by why.",
        ("route", "from", "to", "reason"),
    ),
    Metric("gateway_hedges_total", "counter", "Second requests sent, by whether they won.", ("route", "result")),
    Metric(
        "gateway_shadow_requests_total",
        "counter",
        "Copies of requests: ok, error, refused, cut (too long), skipped (too many), cancelled.",
        ("route", "target", "result"),
    ),
    Metric(
        "gateway_shadow_differences_total",
        "counter",
        "Copies whose reply differs from the client's in status or finish_reason.",
        ("route", "target", "trait"),
    ),
    Metric(
        "gateway_shadow_ratio",
        "histogram",
        "The copy's latency, first_event, output_tokens, cost or length, divided by the client's.",
        ("route", "target", "measure"),
        RATIO_BUCKETS,
    ),
    Metric(
        "gateway_shadow_distance",
        "histogram",
        "Cosine distance of the copy's text to the client's, by this machine's embedder; 0 is the same.",
        ("route", "target"),
        DISTANCE_BUCKETS,
    ),
    Metric(
        "gateway_cache_requests_total",
        "counter",
        "hit, semantic, miss or bypass for each request of a route with a cache; besides, of a miss: stored, rejected, "
        "would_hit (shadow), audit (a semantic hit that was checked instead of given).",
        ("route", "result"),
    ),
    Metric("gateway_cache_saved_usd_total", "counter", "What hits had cost when they were bought.", ("route",)),
    Metric("gateway_cache_saved_tokens_total", "counter", "Tokens, in and out, that hits had taken.", ("route",)),
    Metric("gateway_cache_bytes", "gauge", "Stored replies in the gateway's memory; with Redis, those on their way."),
    Metric(
        "gateway_cache_similarity",
        "histogram",
        "Similarity of the nearest question, of each look-up that found one.",
        ("route",),
        SIMILARITY_BUCKETS,
    ),
    Metric(
        "gateway_cache_guard_rejections_total",
        "counter",
        "Nearest questions that a guard kept from being the same.",
        ("route", "guard"),
    ),
    Metric(
        "gateway_cache_comparisons_total",
        "counter",
        "Pairs of answers that were compared, by what came of it and which step of the judge said so.",
        ("route", "verdict", "step"),
    ),
    Metric(
        "gateway_cache_wrong_share",
        "gauge",
        "Wrong share of semantic hits, by audits: estimate, and lower and upper end of its 95 % interval.",
        ("route", "bound"),
        merge="max",
    ),
    Metric("gateway_cache_audited_hits", "gauge", "Audits behind gateway_cache_wrong_share.", ("route",), merge="max"),
    Metric(
        "gateway_cache_scopes",
        "gauge",
        "Scopes of questions: open ones may give replies.",
        ("route", "state"),
        merge="max",
    ),
    Metric("gateway_cache_index_bytes", "gauge", "Vectors of questions in the gateway's memory."),
    Metric("gateway_cache_index_rows", "gauge", "Questions in the gateway's memory."),
    Metric("gateway_cache_embeddings_total", "counter", "Embeddings asked of this machine's model.", ("result",)),
    Metric(
        "gateway_cache_embedder_up", "gauge", "1 when look-ups by similarity work, 0 when they cannot.", merge="min"
    ),
    Metric(
        "gateway_cache_log_lag_seconds", "gauge", "How far this process is behind the fleet's questions.", merge="max"
    ),
    Metric("gateway_cache_log_dropped_total", "counter", "Questions not remembered: the store is away, or too slow."),
    Metric(
        "gateway_coalesced_calls_total",
        "counter",
        "Requests for embeddings at a target with coalesce: together, alone, or again (their batch was refused).",
        ("target", "way"),
    ),
    Metric(
        "gateway_coalesced_batches_total",
        "counter",
        "Calls upstream that were made for several requests: ok, refused, error, cancelled (everybody had left).",
        ("target", "result"),
    ),
    Metric("gateway_breaker_state", "gauge", "0 closed, 1 half-open, 2 open.", ("target",), merge="max"),
    Metric("gateway_config_info", "info", "The configuration in use.", ("revision", "environment"), merge="max"),
    Metric(
        "gateway_config_last_reload_successful",
        "gauge",
        "1 when the last attempt to read the configuration succeeded, else 0.",
        merge="min",
    ),
    Metric(
        "gateway_config_last_reload_success_timestamp_seconds",
        "gauge",
        "Unix time of the last configuration that was applied.",
        merge="min",
    ),
    Metric("gateway_event_loop_lag_seconds", "gauge", "How late the event loop ran a timer.", merge="max"),
    Metric("gateway_connections", "gauge", "Client connections open now."),
    Metric("gateway_draining", "gauge", "1 while the gateway lets its last replies end.", merge="max"),
    Metric("gateway_workers", "gauge", "Worker processes that are alive."),
    Metric("gateway_build_info", "info", "The version that runs.", ("version",), merge="max"),
    Metric(
        "gateway_webhook_posts_total",
        "counter",
        "Events for webhooks: sent; failed, after three tries; dropped, because too many waited.",
        ("result",),
    ),
    Metric("gateway_log_lines_dropped_total", "counter", "Log lines lost because their reader was too slow."),
    Metric("gateway_spans_dropped_total", "counter", "Spans lost because the collector was too slow or away."),
    Metric("process_cpu_seconds_total", "counter", "User and system CPU time, over all workers."),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory, over all workers."),
    Metric("process_virtual_memory_bytes", "gauge", "Virtual memory, over all workers."),
    Metric("process_open_fds", "gauge", "Open file descriptors, over all workers."),
    Metric("process_max_fds", "gauge", "Most file descriptors that one worker may open.", merge="min"),
    Metric("process_start_time_seconds", "gauge", "Unix time at which the oldest worker started.", merge="min"),
)
TABLE: dict[str, Metric] = {metric.name: metric for metric in METRICS}
