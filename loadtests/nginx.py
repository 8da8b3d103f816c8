"""nginx in two roles: the yardstick in front of an upstream, and an upstream that answers at once."""

import os
from pathlib import Path

CANNED = (
    '{"id":"chatcmpl-bench","object":"chat.completion","created":1750000000,"model":"upstream-model",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"'
    + " ".join(["A gateway moves bytes between two sockets and counts what passed."] * 6)
    + '"},"logprobs":null,"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":143,"completion_tokens":66,"total_tokens":209}}'
)
"""A chat completion of about 700 bytes."""


def _frame(folder: Path, name: str, http: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    temp = "".join(
        f"    {kind}_temp_path {folder}/{name}-{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{user}
daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 0;
{temp}{http}}}
"""


def yardstick(folder: Path, port: int, upstream_port: int) -> str:
    """Configuration of a bare reverse proxy: one worker, kept-alive upstream connections, no log, no buffering."""
    return _frame(
        folder,
        "yardstick",
        f"""    upstream model {{
        server 127.0.0.1:{upstream_port};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
""",
    )


def canned(folder: Path, port: int) -> str:
    """Configuration of an upstream that answers every request at once, and of a collector that takes all spans."""
    return _frame(
        folder,
        "canned",
        f"""    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            default_type application/json;
            return 200 '{CANNED}';
        }}
        location = /v1/traces {{
            access_log {folder}/spans.log;
            default_type application/x-protobuf;
            return 200 '';
        }}
    }}
""",
    )


def command(folder: Path, name: str) -> list[str]:
    """The command line that runs `folder/name.conf`."""
    return ["nginx", "-p", str(folder), "-e", f"{folder}/{name}.log", "-c", f"{folder}/{name}.conf"]
