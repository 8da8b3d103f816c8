"""The admin plane as the command line asks it."""

import getpass
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

_TIMEOUT_S = 10.0


class AdminError(Exception):
    """The admin plane refused, or could not be reached; the message is for the person at the terminal."""


class AdminClient:
    """Calls to one gateway's admin API. Each gives the answer's JSON, or raises AdminError."""

    def __init__(self, url: str, token: str | None, actor: str) -> None:
        """`url` is the admin plane's, without a path. `actor` goes into the audit."""
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json", "x-gateway-actor": actor}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        # Never through a proxy: the admin plane is near, and its token is nobody else's.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET below /admin/v1."""
        return self._call("GET", path, query)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST of JSON below /admin/v1."""
        return self._call("POST", path, {}, body)

    def delete(self, path: str, **query: str) -> dict[str, Any]:
        """DELETE below /admin/v1."""
        return self._call("DELETE", path, query)

    def _call(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        url = f"{self._url}/admin/v1/{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=self._headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as reply:
                answer: dict[str, Any] = json.load(reply)
        except urllib.error.HTTPError as error:
            raise AdminError(_message(error)) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise AdminError(
                f"cannot ask the admin plane at {self._url}: {reason}; name it with --admin URL"
            ) from error
        return answer


def local_actor() -> str:
    """The user of this machine, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def quoted(segment: str) -> str:
    """A name as one segment of a path."""
    return urllib.parse.quote(segment, safe="")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        message = json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError, OSError):
        message = ""
    if error.code == 401:
        message = "the admin plane asks for a token: set GATEWAY_ADMIN_TOKEN"
    return f"{error.code}: {message or error.reason}"
