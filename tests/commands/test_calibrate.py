"""`sidecar cache calibrate` as a program of its own, and against a provider in this process."""

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from sidecar.cache.meaning.calibration import embedded
from sidecar.commands.calibrate import CONCURRENCY
from tests.support.process import finished, write_config
from tests.support.running import config_for
from tests.support.vectors import load
from tests.support.web import serving

MISSING = [name for name in ("numpy", "tokenizers", "wordllama") if importlib.util.find_spec(name) is None]
needs_weights = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed: pip install 'ai-sidecar[semantic]'"
)
needs_numpy = pytest.mark.skipif(
    "numpy" in MISSING, reason="numpy is not installed: pip install 'ai-sidecar[semantic]'"
)

PAIRS: list[tuple[str, str, int]] = [
    ("How do I boil an egg?", "how can I boil an egg", 1),
    ("How do I boil an egg?", "How do I boil an egg?", 1),
    ("How do I renew a passport?", "What are the steps to renew a passport?", 1),
    ("How do I enable the firewall?", "How do I disable the firewall?", 0),
    ("When is the income tax due?", "How do I boil an egg?", 0),
]


def write_pairs(path: Path, pairs: list[tuple[str, str, int]] = PAIRS) -> str:
    path.write_bytes(b"\n".join(orjson.dumps({"a": a, "b": b, "same": same}) for a, b, same in pairs))
    return str(path)


async def calibrate(*arguments: str) -> tuple[int, str, str]:
    return await finished("cache", "calibrate", *arguments)


async def figures(*arguments: str) -> Any:
    code, out, errors = await calibrate(*arguments, "--json")
    assert (code, errors) == (0, "")
    return orjson.loads(out)


def rows_of(tree: Any, way: str) -> list[Any]:
    return [row for row in tree["rows"] if row["way"] == way]


# --- the local embedder ---


@needs_weights
async def test_a_table_of_what_each_way_finds(tmp_path: Path) -> None:
    code, out, errors = await calibrate(write_pairs(tmp_path / "pairs.jsonl"))
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "3 pairs that one answer serves, 2 that it does not"
    assert lines[1].startswith("embedder: wordllama-256-")
    (exact,) = (line.split() for line in lines if line.startswith("exact"))
    assert exact == ["exact", "1/3", "33.3%", "0/2", "0.00%"]
    (canonical,) = (line.split() for line in lines if line.startswith("canonical"))
    assert canonical == ["canonical", "3/3", "100.0%", "0/2", "0.00%"]
    assert sum("as configured" in line and "0.9500" in line for line in lines) == 3
    assert "warning: 2 pairs that differ are too few to show 0.1 %" in out


@needs_weights
async def test_the_guards_hold_where_the_cosine_does_not(tmp_path: Path) -> None:
    """The prompts that the cache's rules are tested with: one word apart, and another answer."""
    pairs = [(pair["text_a"], pair["text_b"], pair["same"]) for pair in load("prompt_pairs")]
    tree = await figures(write_pairs(tmp_path / "pairs.jsonl", pairs))
    configured = {row["way"]: row for row in tree["rows"] if row["rate"] is None}
    assert configured["similarity"]["wrong_rate"] > 0.2
    assert configured["match: semantic"]["wrong_rate"] <= 0.005
    assert configured["match: semantic"]["recall"] >= configured["canonical"]["recall"] > 0.75
    for way in ("similarity", "similarity, guarded", "match: semantic"):
        for row in rows_of(tree, way):
            assert row["rate"] is None or row["wrong_rate"] <= row["rate"]


@needs_weights
async def test_the_configured_threshold_is_taken(tmp_path: Path) -> None:
    cache = {"match": "semantic", "semantic": {"threshold": 0.87}}
    config = write_config(tmp_path / "config", config_for("http://127.0.0.1:1/v1", cache=cache))
    tree = await figures(write_pairs(tmp_path / "pairs.jsonl"), "--config", str(config))
    assert tree["threshold"] == 0.87
    assert rows_of(tree, "similarity")[-1]["threshold"] == 0.87


@needs_weights
@pytest.mark.parametrize("cache", [None, {"match": "canonical"}])
async def test_a_configuration_without_a_semantic_cache_has_the_defaults(tmp_path: Path, cache: Any) -> None:
    changes = {} if cache is None else {"cache": cache}
    config = write_config(tmp_path / "config", config_for("http://127.0.0.1:1/v1", **changes))
    tree = await figures(write_pairs(tmp_path / "pairs.jsonl"), "--config", str(config))
    assert (tree["threshold"], tree["embedder"].partition("-")[0]) == (0.95, "wordllama")


# --- an endpoint ---


class Embeddings:
    """A provider whose vectors are the numbers of letters. It answers once CONCURRENCY texts wait for it, and
    counts how many do.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.at_once = self.most_at_once = 0
        self.all_came = asyncio.Barrier(CONCURRENCY)
        self.status = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/v1/embeddings"
        assert request.headers["authorization"] == "Bearer sk-provider-secret"
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        text = (await request.json())["input"]
        self.texts.append(text)
        await self.all_came.wait()
        self.at_once -= 1
        values = [text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
        return web.json_response({"data": [{"embedding": values}]}, status=self.status)


@pytest.fixture
async def provider() -> AsyncIterator[Embeddings]:
    one = Embeddings()
    async with serving(one.handle) as one.url:
        yield one


def endpoint_config(tmp_path: Path, url: str) -> str:
    semantic = {"embedder": "endpoint", "provider": "p", "model": "letters", "threshold": 0.9}
    cache = {"match": "semantic", "semantic": semantic}
    return str(write_config(tmp_path / "config", config_for(url, cache=cache)))


@needs_numpy
async def test_the_configured_provider_is_asked_a_few_at_once(tmp_path: Path, provider: Embeddings) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl", PAIRS * 8)
    tree = await figures(pairs, "--config", endpoint_config(tmp_path, provider.url))
    assert tree["embedder"] == "endpoint-p-letters"
    assert sorted(provider.texts) == sorted(embedded(text) for one in PAIRS * 8 for text in one[:2])
    assert provider.most_at_once == CONCURRENCY
    # The letters of "enable" and "disable" are nearly the same: the cosine alone is wrong there.
    assert rows_of(tree, "similarity")[-1]["wrong"] == 8
    assert rows_of(tree, "match: semantic")[-1]["wrong"] == 0


@needs_numpy
async def test_a_provider_that_fails_ends_it_in_one_line(tmp_path: Path, provider: Embeddings) -> None:
    provider.status = 500
    pairs = write_pairs(tmp_path / "pairs.jsonl", PAIRS * 8)
    code, out, errors = await calibrate(pairs, "--config", endpoint_config(tmp_path, provider.url))
    assert (code, out) == (1, "")
    assert errors == ("sidecar cache calibrate: p: letters: answered 500 when asked for an embedding\n")
    assert len(provider.texts) <= CONCURRENCY


@needs_numpy
async def test_a_provider_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    code, out, errors = await calibrate(pairs, "--config", endpoint_config(tmp_path, "http://127.0.0.1:1/v1"))
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "not reached for an embedding: Connection refused" in errors


# --- bad input ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no pairs"),
        (b'{"a": "x", "b": "y", "same": 1}\n', 'has no pair with "same": 0'),
        (b'{"a": "x", "b": "y", "same": 0}\n{"a": "x"}\n', "line 2: expected"),
        (b'{"a": "x", "b": "y", "same": 0}\nnot\x1b[2J JSON\n', "line 2: is not JSON"),
        (b"\x00" * 10_000_000, "line 1: is longer than"),
    ],
)
async def test_bad_pairs_exit_with_2_and_one_plain_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    code, out, errors = await calibrate(str(path))
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"sidecar cache calibrate: {path}: {said}")
    assert "\x1b" not in errors


async def test_a_file_that_cannot_be_read_exits_with_2(tmp_path: Path) -> None:
    for name, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        code, out, errors = await calibrate(str(name))
        assert (code, out) == (2, "")
        assert errors == f"sidecar cache calibrate: {name}: cannot be read: {reason}\n"


async def test_a_file_without_an_end_is_refused_at_its_first_line() -> None:
    code, _, errors = await calibrate("/dev/zero")
    assert (code, errors.count("\n")) == (2, 1)
    assert "/dev/zero: line 1: is longer than" in errors


async def test_a_bad_configuration_exits_with_2(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    tree = config_for("http://127.0.0.1:1/v1", cache={"match": "semantic", "semantic": {"threshold": 2}})
    config = str(write_config(tmp_path / "config", tree))
    code, out, errors = await calibrate(pairs, "--config", config)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"sidecar cache calibrate: {config}: cache.semantic.threshold: ")


async def test_where_the_extra_is_missing_it_says_what_to_install(tmp_path: Path) -> None:
    # A module of that name which cannot be imported stands for one that is not there.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'numpy' else find(name, *more)\n"
        "sys.modules['numpy'] = None\n"
    )
    environ = {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    code, out, errors = await finished("cache", "calibrate", pairs, environ=environ)
    assert (code, out) == (1, "")
    assert errors == (
        "sidecar cache calibrate: embedding needs numpy, which is not installed:"
        " pip install 'ai-sidecar[semantic]'\n"
    )
