"""Gateway configurations of the bench, with everything switched on that a production gateway would have on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MODEL = "bench"
KEY = "sk-gw-bench-0123456789abcdefghijklmnopqrstuvwxyzABCD"
ADMIN_TOKEN = "bench-admin-token"


@dataclass(frozen=True, slots=True)
class Setting:
    """What differs between the gateways of the scenarios."""

    upstream_port: int
    model: str = "upstream-model"
    """What the upstream is asked for; for the mock, with its directives. Empty: what the client asks for."""
    collector_port: int | None = None
    """Where 1 % of the traces go; no traces when None."""
    drain: str = "30s"
    state: str = ""
    """Name of the folder of local state, so that gateways that run side by side have one each."""
    server: str = ""
    """More members of `server`, each ending in a comma and a space."""
    keys: str = ""
    """More keys: whole lines."""
    target: str = ""
    """More settings of the target: whole lines."""
    targets: str = ""
    """More targets: whole lines."""
    route: str = f"{{model: {MODEL}, target: upstream}}"
    sections: str = ""
    """More sections of the file, such as `limits`."""


def secrets(folder: Path) -> None:
    """Write the secret files that the configurations refer to."""
    (folder / "upstream.key").write_text("sk-upstream-bench\n")
    (folder / "admin.token").write_text(ADMIN_TOKEN + "\n")


def gateway(folder: Path, setting: Setting, *, extra_routes: str = "", extra_targets: str = "", tail: str = "") -> str:
    """A configuration with keys, JSON logs, metrics and 1 % traces, and one route `bench` to one target."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    traces = (
        f"  traces: {{otlp: 'http://127.0.0.1:{setting.collector_port}', sample: 1%}}\n"
        if setting.collector_port
        else ""
    )
    model = f'    model: "{setting.model}"\n' if setting.model else ""
    state = f"state_dir: {folder}/{setting.state}, " if setting.state else ""
    return f"""apiVersion: gateway/v1
environment: bench
server: {{{state}{setting.server}admin_token: 'file:{folder}/admin.token', drain: {setting.drain}, max_inflight: 5000}}
telemetry:
  logs: json
{traces}keys:
  - {{id: bench, hash: "sha256:{digest}", tags: {{service: bench, costCenter: "42"}}, models: ["{MODEL}*"]}}
{setting.keys}targets:
  upstream:
    provider: openai
    base_url: http://127.0.0.1:{setting.upstream_port}/v1
{model}    api_key: 'file:{folder}/upstream.key'
    max_connections: 2000
{setting.target}{setting.targets}{extra_targets}routes:
  - {setting.route}
{extra_routes}{setting.sections}{tail}"""


def variant(folder: Path, setting: Setting, turn: int) -> tuple[str, bool]:
    """The configuration of the `turn`-th reload, and whether it is a good one.

    In turn: a comment, another route, another target, a changed target in use, a changed split in
    use, and one broken file, which has to change nothing.
    """
    note = f"# turn {turn}\n"
    kind = turn % 6
    if kind == 1:
        return gateway(
            folder, setting, extra_routes=f"  - {{model: bench-{turn}, target: upstream}}\n", tail=note
        ), True
    if kind == 2:
        return gateway(folder, setting, extra_targets=_target(folder, setting, f"spare-{turn}", turn), tail=note), True
    if kind == 3:
        changed = gateway(folder, setting, tail=note)
        return changed.replace("max_connections: 2000", f"max_connections: {2000 + turn}"), True
    if kind == 4:
        split = f"split: {{upstream: {turn % 99 + 1}, second: 10}}"
        both = gateway(folder, setting, extra_targets=_target(folder, setting, "second", 0), tail=note)
        return both.replace("target: upstream}", split + "}"), True
    if kind == 5:
        return gateway(folder, setting, extra_routes="  - {model: broken, tarket: upstream}\n", tail=note), False
    return gateway(folder, setting, tail=note), True


def _target(folder: Path, setting: Setting, name: str, turn: int) -> str:
    return f"""  {name}:
    provider: openai
    base_url: http://127.0.0.1:{setting.upstream_port}/v1
    model: "{setting.model}"
    api_key: 'file:{folder}/upstream.key'
    timeouts: {{connect: {turn + 1}s}}
"""
