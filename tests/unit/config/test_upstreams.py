"""What is wrong or doubtful about targets."""

import pytest

from gateway.config.endpoints import Address
from gateway.config.load import ConfigError, Sources, load
from gateway.config.merge import Merged
from gateway.config.upstreams import check_ca, check_targets


def found(targets: str, environ: dict[str, str] | None = None, head: str = "") -> list[str]:
    """What loading says of some targets, without its places."""
    text = f"apiVersion: gateway/v1\n{head}targets:\n{targets}routes: [{{model: m, target: a}}]\n"
    try:
        faults = load(Sources.of_text(text, environ)).warnings
    except ConfigError as reason:
        faults = reason.faults
    return [str(fault).split(": ", 1)[1] for fault in faults]


def target(settings: str) -> list[str]:
    """What loading says of one target with these settings."""
    return found(f"  a: {{{settings}}}\n", {"SET": "value"})


@pytest.mark.parametrize(
    "settings",
    [
        "provider: mock",
        "provider: mock, price: {input: $2, output: $0}, max_inflight: 5, queue: {size: 0}, breaker: off",
        "provider: mock, price: {request: $0.01}, breaker: {open_for: 1m}, context_window: 128000",
        "provider: openai, base_url: https://api.openai.com/v1, api_key: env:SET",
        "provider: openai, base_url: http://127.0.0.1:8000/v1, api_key: env:SET",
        "provider: openai, base_url: https://h/v1beta/openai",
        "provider: openai, base_url: http://vllm:8000/v1",
        "provider: azure, base_url: https://r.openai.azure.com, api_version: 2024-10-21, model: gpt-4.1",
        "provider: anthropic, base_url: https://api.anthropic.com/, anthropic_version: 2023-06-01",
        "provider: openai, base_url: https://h/v1, timeouts: {first_token: 5m, total: 5m}, headers: {x-team: a}",
    ],
)
def test_ordinary_targets_raise_no_doubt(settings: str) -> None:
    assert target(settings) == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            "provider: openai, base_url: https://h",
            "warning: `base_url` of `openai` usually ends in /v1 (https://h/v1)",
        ),
        (
            "provider: openai, base_url: http://h/v1, api_key: env:SET",
            "warning: the API key goes to h unencrypted (use https)",
        ),
        (
            "provider: azure, base_url: https://h/proxy",
            "warning: requests go below /proxy; `base_url` of `azure` is usually the host alone (https://h)",
        ),
        (
            "provider: anthropic, base_url: https://h/v1",
            "`base_url` of `anthropic` is the host alone, without /v1 (write https://h)",
        ),
        (
            "provider: mock, api_version: 2024-10-21",
            "warning: `api_version` is only for `provider: azure` (remove it)",
        ),
        (
            "provider: mock, timeouts: {idle: 2m, total: 1m}",
            "warning: `idle` is longer than `total`, and never reached (shorten it, or lengthen `total` (1m))",
        ),
        (
            "provider: mock, timeouts: {idle: 1h}",
            "warning: `idle` is longer than `total`, and never reached (shorten it, or lengthen `total` (10m))",
        ),
        (
            "provider: mock, price: {input: $2}",
            "warning: `price` has no `output`: those tokens count as free"
            " (add output: $8.00, or output: $0 if it is so)",
        ),
        ("provider: mock, price: {}", "`price` has no price (write {input: $2.00, output: $8.00})"),
        (
            "provider: mock, queue: {size: 5}",
            "warning: `queue` means nothing without `max_inflight` (add max_inflight: 200)",
        ),
        (
            "provider: mock, breaker: {open_for: 6m}",
            "`open_for` is longer than `max_open_for`, 5m (shorten it, or lengthen `max_open_for`)",
        ),
        (
            "provider: mock, model: two words",
            "`model`: a model's name has no spaces, controls or accents",
        ),
    ],
)
def test_an_odd_target_is_pointed_out(settings: str, text: str) -> None:
    assert target(settings) == [text]


@pytest.mark.parametrize(
    ("listen", "url", "is_own"),
    [
        ("127.0.0.1:8080", "http://localhost:8080/v1", True),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1", True),
        ("10.0.0.1:8080", "http://10.0.0.1:8080/v1", True),
        ("10.0.0.1:8080", "http://127.0.0.1:8080/v1", False),
        ("127.0.0.1:8080", "http://127.0.0.1:8000/v1", False),
        ("127.0.0.1:443", "https://localhost/v1", True),
    ],
)
def test_a_target_is_not_the_gateway_itself(listen: str, url: str, is_own: bool) -> None:
    """F45."""
    host, _, port = listen.partition(":")
    merged = Merged({"targets": {"a": {"provider": "openai", "base_url": url}}}, {}, {}, "f")
    check_targets(merged, Address(host, int(port)))
    assert [fault.message for fault in merged.faults] == [f"this is the gateway's own address {listen}"] * is_own


def test_one_warning_names_all_targets_that_wait_for_a_variable() -> None:
    children = "".join(f"  t{number}: {{extends: a}}\n" for number in range(6))
    assert found("  a: {provider: openai, base_url: https://h/v1, api_key: env:UNSET}\n" + children) == [
        "warning: env:UNSET is not set: targets `a`, `t0`, `t1`, `t2`, `t3` and 2 more stay out of service (set it)"
    ]


def test_a_header_that_is_not_set_is_a_warning_too() -> None:
    assert target("provider: mock, headers: {x-token: env:UNSET}") == [
        "warning: env:UNSET is not set: target `a` stays out of service (set it)"
    ]


def test_traces_without_their_variables_are_pointed_out() -> None:
    head = "telemetry: {traces: {otlp: env:URL, headers: {x-key: env:KEY}}}\n"
    assert found("  a: {provider: mock}\n", head=head) == [
        "warning: env:URL is not set: no traces are exported (set it)",
        "warning: env:KEY is not set: traces are exported without `x-key` (set it)",
    ]


def test_certificates_have_to_be_usable() -> None:
    assert check_ca(b"nothing") == "holds no usable PEM certificate"
    assert check_ca(b"\xff\xfe") == "holds no usable PEM certificate"
    assert check_ca(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") != ""
