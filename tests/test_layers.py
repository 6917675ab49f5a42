"""The modules form layers, and imports go down only. Read from the source, so that nothing needs to run.

entry points  >  one request (runtime, proxy, lane, answer)  >  packages side by side  >  foundations
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "sidecar"

ENTRY_POINTS = {"__main__", "cli", "commands", "run", "server", "admin", "demo", "k8s", "waiting"}
ONE_REQUEST = {
    *("settlement", "sender", "pins", "accounts", "caching"),
    *("runtime", "proxy", "lane", "answer", "attempt", "gate", "lessons", "routing", "tries"),
    *("break_glass", "catalog", "issuer", "model_list", "explain", "standing", "quote"),
}
PACKAGES = {"fleet", "downstream", "upstream", "telemetry", "config", "policy", "usage", "cache"}
FOUNDATIONS = {
    *("exchange", "headers", "openai", "sse", "errors", "flow", "clock", "tasks", "quantiles", "lean"),
    *("splice", "resume", "large_body", "events", "ending", "labels", "log_limit", "tables"),
}
LAYERS = (ENTRY_POINTS, ONE_REQUEST, PACKAGES, FOUNDATIONS)
# What every package may know of the configuration: its types, never how they are read.
CONFIG_TYPES = {
    f"sidecar.config.{name}"
    for name in ("model", "cache", "addresses", "auth", "values", "secrets", "instants", "break_glass")
}
SYNCHRONOUS = (
    "events",
    *("k8s.annotations", "k8s.certificates", "k8s.container", "k8s.environment", "k8s.json_text"),
    *("k8s.manifests", "k8s.nodes", "k8s.obstacles", "k8s.patch", "k8s.pod", "k8s.quality"),
    *("k8s.review", "k8s.settings", "k8s.tls", "k8s.yaml_text"),
    *("fleet.lease", "fleet.bucket", "fleet.budget", "fleet.share", "fleet.batch", "fleet.totals"),
    *("explain", "standing", "quote"),
    *(f"cache.{name}" for name in ("canonical", "english", "volatile", "wording", "eligibility", "key")),
    *(
        f"cache.{name}"
        for name in ("capitals", "courtesies", "languages", "names", "questions", "verbs", "wordlists")
    ),
    *(
        f"cache.{name}"
        for name in ("control", "recording", "replay", "store", "answers", "flight", "outlook")
    ),
    *("caching.lookup", "caching.scopes", "caching.outlook"),
    *(f"cache.checks.{name}" for name in ("agreement", "wording", "shadow")),
    *(f"cache.meaning.{name}" for name in ("lexicon", "sameness", "spellings", "turns")),
    *(f"cache.meaning.{name}" for name in ("local_embedder", "calibration", "vectors", "embedding")),
    *(f"cache.shared.{name}" for name in ("sealing", "orders", "names", "backlog")),
    "large_body",
    "break_glass",
    "catalog",
    "openai",
    "sse",
    "headers",
    "errors",
    "exchange",
    *("policy.callers", "policy.by_name", "policy.service_accounts"),
    "labels",
    "log_limit",
    "tables",
    "quantiles",
    "splice",
    "resume",
    "ending",
    "routing.plan",
    "routing.router",
    "routing.split",
    "routing.classify",
)


def name_of(path: Path) -> str:
    parts = ["sidecar", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, anywhere in its source; ours by their full names."""
    found: set[str] = set()
    package = module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                full = f"{source}.{alias.name}"
                found.add(full if full in MODULES else source)
    return found


def room_of(module: str) -> str:
    """The file or folder right under sidecar/ that a module stands in; empty for sidecar itself."""
    return module.partition(".")[2].partition(".")[0]


def layer_of(module: str) -> int:
    return next(index for index, rooms in enumerate(LAYERS) if room_of(module) in rooms)


def ours(module: str) -> set[str]:
    return {name for name in imports_of(module) if name in MODULES and name != "sidecar"}


def test_every_module_has_its_layer() -> None:
    rooms = set().union(*LAYERS)
    assert {name for name in MODULES if name != "sidecar" and room_of(name) not in rooms} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if name != "sidecar"])
def test_imports_go_down_only(module: str) -> None:
    up = {name for name in ours(module) if layer_of(name) < layer_of(module)}
    assert up - CONFIG_TYPES == set()


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) in PACKAGES])
def test_packages_do_not_know_each_other(module: str) -> None:
    beside = {name for name in ours(module) if room_of(name) in PACKAGES and room_of(name) != room_of(module)}
    assert beside - CONFIG_TYPES == set()


@pytest.mark.parametrize("room", SYNCHRONOUS)
def test_what_only_decides_knows_no_event_loop(room: str) -> None:
    assert "asyncio" not in {name.partition(".")[0] for name in imports_of(f"sidecar.{room}")}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("sidecar.config.")])
def test_configuration_knows_no_event_loop(module: str) -> None:
    assert "asyncio" not in imports_of(module)


def test_there_are_no_cycles() -> None:
    TopologicalSorter({module: ours(module) for module in MODULES}).prepare()


def test_the_demo_is_used_by_the_command_line_only() -> None:
    users = {name for name in MODULES if any(room_of(used) == "demo" for used in ours(name))}
    assert {name for name in users if room_of(name) not in {"demo", "cli"}} == set()
