"""The commands that talk to a running gateway."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.cli import main
from tests.unit.edge.admin_stub import AdminStub, admin_stub


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminStub]:
    """An admin plane, which the environment names."""
    with admin_stub() as serving:
        monkeypatch.setenv("GATEWAY_ADMIN", serving.url)
        monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
        monkeypatch.setenv("LOGNAME", "ada")
        yield serving


@pytest.mark.parametrize(
    ("argv", "method", "path", "body"),
    [
        (
            "switch chat --to b --reason drill --for 2h",
            *("POST", "routes/chat/switch", {"reason": "drill", "target": "b", "for": "2h"}),
        ),
        (
            "switch gpt-*/x --split a=90,b=10 --reason drill",
            *("POST", "routes/gpt-%2A%2Fx/switch", {"reason": "drill", "split": {"a": 90.0, "b": 10.0}}),
        ),
        ("switch chat --undo", "DELETE", "routes/chat/switch?reason=undone", None),
        ("switch chat --undo --reason over", "DELETE", "routes/chat/switch?reason=over", None),
        (
            "failover --tag region=eu --to region=us --reason drill",
            *("POST", "failover", {"reason": "drill", "from": {"region": "eu"}, "to": {"region": "us"}}),
        ),
        ("failover --tag b=2,a=1 --undo", "DELETE", "failover?from=a%3D1%2Cb%3D2&reason=undone", None),
        ("isolate --key checkout --reason drill", "POST", "isolate", {"reason": "drill", "key": "checkout"}),
        ("isolate --tag team=a --reason x --for 1h", "POST", "isolate", {"reason": "x", "tag": "team=a", "for": "1h"}),
        ("isolate --target b --undo", "DELETE", "isolate?target=b&reason=undone", None),
        ("eject b --reason drill", "POST", "targets/b/eject", {"reason": "drill"}),
        ("restore b", "POST", "targets/b/restore", {"reason": "restored"}),
        ("restore b --reason well", "POST", "targets/b/restore", {"reason": "well"}),
        ("budgets", "GET", "budgets", None),
        (
            "budgets --grant team --amount $50 --until 2026-11-21T18:00:00Z --reason sale",
            *("POST", "budgets/team/grant"),
            {"amount": "$50", "until": "2026-11-21T18:00:00Z", "scope": "*", "reason": "sale"},
        ),
        ("cache purge --key checkout", "DELETE", "cache?key=checkout&reason=purged", None),
        ("cache purge --tag team=ml --reason leak", "DELETE", "cache?tag=team%3Dml&reason=leak", None),
        ("cache purge --route org/*", "DELETE", "cache?route=org%2F%2A&reason=purged", None),
        ("cache purge --prompt greeting@3", "DELETE", "cache?prompt_version=greeting%403&reason=purged", None),
        ("cache purge --entry ab12", "DELETE", "cache?entry=ab12&reason=purged", None),
        ("why req-1", "GET", "requests/req-1", None),
        ("audit", "GET", "audit?limit=20", None),
        ("audit --limit 5", "GET", "audit?limit=5", None),
    ],
)
def test_a_command_is_one_call(stub: AdminStub, argv: str, method: str, path: str, body: Any) -> None:
    assert main(argv.split()) == 0
    [asked] = stub.asked
    assert (asked.method, asked.path, asked.body) == (method, f"/admin/v1/{path}", body)
    assert asked.headers["x-gateway-actor"] == "ada"


def test_the_command_line_names_the_admin_plane_before_the_environment(
    stub: AdminStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN", "http://127.0.0.1:9")
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "t-1")
    assert main(["budgets", "--admin", stub.url]) == 0
    assert stub.asked[0].headers["authorization"] == "Bearer t-1"


def test_an_answer_is_shown_for_people(stub: AdminStub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.answer = {
        "budgets": [{"name": "team", "scope": "", "spent_usd": 1.5, "resets": None}],
        "unused": [],
        "override": "route/chat",
        "value": {"split": {"b": 1.0}},
    }
    main(["budgets"])
    assert capsys.readouterr().out == (
        'budgets:\n  name=team  scope=  spent_usd=1.5\nunused: []\noverride: route/chat\nvalue: {"split": {"b": 1.0}}\n'
    )


def test_an_answer_is_shown_as_it_is_for_programs(stub: AdminStub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.answer = {"budgets": [], "unused": []}
    assert main(["budgets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stub.answer


def test_a_refusal_is_one_line_and_status_1(stub: AdminStub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.status, stub.answer = 404, {"error": {"message": "There is no target 'x'."}}
    assert main(["eject", "x", "--reason", "drill"]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "gateway: 404: There is no target 'x'.\n")


def test_a_failover_needs_to_know_where_to(stub: AdminStub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["failover", "--tag", "region=eu", "--reason", "drill"]) == 1
    assert "--to" in capsys.readouterr().err
    assert stub.asked == []


@pytest.mark.parametrize(
    "argv",
    [
        "switch chat",
        "switch chat --to a --undo",
        "switch chat --split a",
        "switch chat --split a=many",
        "failover --tag region",
        "isolate",
        "isolate --key a --target b",
        "eject",
        "why",
    ],
)
def test_a_command_that_means_nothing_exits_2(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv.split())
    assert ended.value.code == 2
    assert "usage: gateway" in capsys.readouterr().err
