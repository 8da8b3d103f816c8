"""What the command line does with a configuration without serving it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from gateway.config.keys import new_key
from gateway.config.load import ConfigError, PriceKnown, load, read
from gateway.config.schema import Config

SCHEMA_ID = "urn:llm-gateway:config:v1"


def check(path: Path, environ: Mapping[str, str], out: TextIO, price_known: PriceKnown | None = None) -> int:
    """The exit code of `gateway check`: 0 when the file can be served, 1 after one line for every fault.

    `price_known` is that of `load`.
    """
    try:
        loaded = load(read(path, environ), price_known)
    except ConfigError as reason:
        for fault in reason.faults:
            out.write(f"{fault}\n")
        return 1
    for doubt in loaded.warnings:
        out.write(f"{doubt}\n")
    counts = f"{len(loaded.config.targets)} targets, {len(loaded.config.routes)} routes"
    out.write(f"{path}: ok, revision {loaded.revision}: {counts}\n")
    return 0


def announce_key(key_id: str, out: TextIO) -> int:
    """The exit code of `gateway keys new ID`; prints the key, once, and the line for the file."""
    key, digest = new_key()
    out.write(f'key (shown once): {key}\n\n  - {{id: {key_id}, hash: "{digest}"}}\n')
    return 0


def schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors: units as patterns, defaults as they would be written."""
    described = Config.model_json_schema(mode="validation")
    shown = Config.model_json_schema(mode="serialization")
    # Only the schema of what is written out has defaults in units (`30s`); what is read has them in seconds.
    for name, section in {"": described, **described["$defs"]}.items():
        written = shown if name == "" else shown["$defs"][name]
        for key, setting in section["properties"].items():
            if setting.get("default", ...) is None:
                del setting["default"]
            elif "default" in setting:
                setting["default"] = written["properties"][key]["default"]
    # Merged targets all have a provider; a written one may get it from the target that it extends.
    target = described["$defs"]["Target"]
    target["anyOf"] = [{"required": target.pop("required")}, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID} | described
