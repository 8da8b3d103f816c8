"""The command line's way to the admin plane."""

import socket
from collections.abc import Iterator

import pytest

from gateway.edge.remote import AdminClient, AdminError, local_actor, quoted
from tests.unit.edge.admin_stub import AdminStub, admin_stub


@pytest.fixture
def stub() -> Iterator[AdminStub]:
    """An admin plane."""
    with admin_stub() as serving:
        yield serving


def test_a_change_is_json_with_the_token_and_the_name_of_who_asks(stub: AdminStub) -> None:
    stub.answer = {"done": True}
    client = AdminClient(stub.url + "/", "t-1", "ada")
    assert client.post("failover", {"reason": "drill"}) == {"done": True}
    [asked] = stub.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/admin/v1/failover", {"reason": "drill"})
    assert asked.headers["authorization"] == "Bearer t-1"
    assert asked.headers["x-gateway-actor"] == "ada"
    assert asked.headers["content-type"] == "application/json"


def test_a_question_has_its_words_in_the_query_and_no_token_where_there_is_none(stub: AdminStub) -> None:
    client = AdminClient(stub.url, None, "ada")
    client.get("audit", limit="5")
    client.delete("failover", **{"from": "region=eu", "reason": "all & well"})
    assert [(asked.method, asked.path, asked.body) for asked in stub.asked] == [
        ("GET", "/admin/v1/audit?limit=5", None),
        ("DELETE", "/admin/v1/failover?from=region%3Deu&reason=all+%26+well", None),
    ]
    assert "authorization" not in stub.asked[0].headers


def test_a_proxy_of_the_environment_sees_nothing(stub: AdminStub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    AdminClient(stub.url, None, "ada").get("budgets")
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "answer", "text"),
    [
        (404, {"error": {"message": "There is no route 'x'."}}, "404: There is no route 'x'."),
        (401, {"error": {"message": "Send Authorization"}}, "401: the admin plane asks for a token: set GATEWAY"),
        (502, b"<html>", "502: Bad Gateway"),
        (500, {"error": "text"}, "500: Internal Server Error"),
        (500, [], "500: Internal Server Error"),
    ],
)
def test_a_refusal_is_one_line_for_people(stub: AdminStub, status: int, answer: object, text: str) -> None:
    stub.status, stub.answer = status, answer
    with pytest.raises(AdminError) as refused:
        AdminClient(stub.url, None, "ada").get("budgets")
    assert str(refused.value).startswith(text)


def test_an_answer_that_is_no_json_is_told(stub: AdminStub) -> None:
    stub.answer = b"hello"
    with pytest.raises(AdminError, match=r"cannot ask the admin plane at http://127\.0\.0\.1"):
        AdminClient(stub.url, None, "ada").get("budgets")


def test_an_admin_plane_that_is_not_there_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(AdminError, match=f"admin plane at http://127.0.0.1:{port}: .*refused.* name it with --admin"):
        AdminClient(f"http://127.0.0.1:{port}", None, "ada").get("budgets")


def test_who_asks_is_the_user_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    assert local_actor() == "ada"


def test_a_name_is_one_segment_of_a_path() -> None:
    assert quoted("gpt-*/a b?") == "gpt-%2A%2Fa%20b%3F"
