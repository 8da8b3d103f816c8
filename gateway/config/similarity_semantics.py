"""What is wrong or doubtful about look-ups by similarity: names that do not exist, settings that mean nothing."""

from collections.abc import Mapping

from gateway.config.document import Path, Value
from gateway.config.faults import did_you_mean
from gateway.config.merge import Merged

_LEARNS = ("shadow", "verified")


def check_semantic(merged: Merged, path: Path, semantic: Value) -> None:
    """Write into `merged` what is wrong with one route's `semantic`, which stands at `path`."""
    if not isinstance(semantic, dict):
        return
    # Null is the same as nothing.
    semantic = {name: value for name, value in semantic.items() if value is not None}
    mode = semantic.get("mode") or ("verified" if "max_wrong" in semantic else "off")
    if "mode" not in semantic and mode == "off":
        message = "`semantic` does nothing without a `mode`"
        merged.doubt(path, message, "add mode: shadow, or max_wrong: 1%")
    if "threshold" in semantic and mode != "static":
        merged.doubt(
            (*path, "threshold"), f"`threshold` means nothing in mode {mode}", "remove it, or use mode: static"
        )
    for name in ("max_wrong", "judge"):
        if name in semantic and mode in ("static", "off"):
            merged.doubt((*path, name), f"`{name}` means nothing in mode {mode}", "remove it, or use mode: verified")
    if mode in _LEARNS:
        _check_judge(merged, path, semantic)
    if mode == "static":
        message = "nothing bounds the share of wrong replies in mode static"
        merged.doubt((*path, "mode"), message, "use mode: verified with max_wrong: 1%, if one has to")


def _check_judge(merged: Merged, path: Path, semantic: Mapping[str, Value]) -> None:
    judge = semantic.get("judge")
    if judge is None:
        message = "without a `judge` only short answers can be compared: with long ones nothing is ever given"
        merged.doubt(path, message, "add judge: {model: NAME}, if answers are long")
    elif isinstance(judge, dict) and isinstance(model := judge.get("model"), str):
        known = [*merged.section("targets"), *(str(route.get("model")) for _, route in merged.items("routes"))]
        if model not in known:
            advice = did_you_mean(model, known) or "name a target, or a route"
            merged.fault((*path, "judge", "model"), f"there is no target and no route `{model}`", advice)
        _doubt_model(merged, (*path, "judge", "model"), model)


def check_embedder(merged: Merged) -> None:
    """Write into `merged` what is wrong with the embedder that all routes share."""
    room = merged.section("cache")
    embedder = room.get("embedder")
    if not isinstance(embedder, str):
        return
    kind, _, name = embedder.partition(":")
    targets = merged.section("targets")
    if kind == "target" and name not in targets:
        advice = did_you_mean(name, targets) or "define it in `targets`"
        merged.fault(("cache", "embedder"), f"there is no target `{name}`", advice)
    elif kind == "target" and merged.section("targets", name).get("provider") == "anthropic":
        merged.fault(("cache", "embedder"), f"`{name}` has no embeddings", "name a target that has")
    elif kind == "target":
        _doubt_model(merged, ("cache", "embedder"), name)
    if kind == "target" and "model_dir" in room:
        merged.doubt(("cache", "model_dir"), "`model_dir` means nothing with another embedder", "remove it")


def _doubt_model(merged: Merged, path: Path, name: str) -> None:
    """Nobody names a model where the gateway itself asks: what stands at `path` is then the model's name too."""
    target = merged.section("targets", name)
    if target and "model" not in target and target.get("provider") != "mock":
        message = f"target `{name}` has no `model`, so its provider is asked for a model called `{name}`"
        merged.doubt(path, message, f"add a model to target `{name}`")
