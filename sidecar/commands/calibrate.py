"""`sidecar cache calibrate`: embeds pairs of texts as the configuration says, and prints what they show."""

import asyncio
import os
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson
from msgspec.structs import replace

from sidecar.cache.meaning.calibration import (
    MAX_LINE_BYTES,
    Calibration,
    Judged,
    Pair,
    PairsError,
    Row,
    as_json,
    calibrate,
    embedded,
    judge,
    read_pairs,
)
from sidecar.cache.meaning.embedding import EmbedderError
from sidecar.cache.meaning.local_embedder import LocalEmbedder
from sidecar.commands.output import fail, show
from sidecar.config.cache import Semantic
from sidecar.config.load import load
from sidecar.config.model import Config, Provider
from sidecar.config.problems import ConfigError
from sidecar.upstream.tls import client_context

if TYPE_CHECKING:
    from sidecar.cache.meaning.embedding import Vector

CONCURRENCY = 8
# Nobody waits for an answer here; `timeout` is for requests that do.
ENDPOINT_TIMEOUT_S = 30.0


def run(path: str, config_path: str | None, *, is_json: bool) -> int:
    """Read, embed, print; returns the exit code. BrokenPipeError when the reader has left."""
    try:
        config = None if config_path is None else load(config_path, os.environ).config
        pairs = _pairs(path)
        semantic = _semantic(config)
        identity, judged = asyncio.run(_judged(pairs, semantic, config))
    except ConfigError as error:
        return max(fail("cache calibrate", f"{config_path}: {problem}", 2) for problem in error.problems)
    except PairsError as error:
        return fail("cache calibrate", f"{path}: {error}", 2)
    except EmbedderError as error:
        return fail("cache calibrate", str(error), 1)
    calibration = calibrate(judged, semantic.threshold)
    if is_json:
        head = {"embedder": identity, "threshold": semantic.threshold}
        shown = orjson.dumps(head | as_json(calibration), option=orjson.OPT_INDENT_2).decode() + "\n"
    else:
        shown = "\n".join(_lines(calibration, identity)) + "\n"
    show(shown)
    return 0


def _pairs(path: str) -> list[Pair]:
    try:
        with open(path, "rb") as file:
            # A line is read a little further than it may be long, or /dev/zero would be one.
            return read_pairs(iter(lambda: file.readline(MAX_LINE_BYTES + 2), b""))
    except (OSError, ValueError) as error:
        if isinstance(error, PairsError):
            raise
        reason = getattr(error, "strerror", None) or "not a file name"  # a NUL in it
        raise PairsError(f"cannot be read: {reason}") from None


def _semantic(config: Config | None) -> Semantic:
    """The configured embedder and threshold, or the default."""
    cache = None if config is None else config.cache
    return Semantic() if cache is None or cache.semantic is None else cache.semantic


async def _judged(pairs: list[Pair], semantic: Semantic, config: Config | None) -> tuple[str, list[Judged]]:
    """The embedder's name, and what is made of each pair."""
    if semantic.embedder == "local" or config is None:
        local = LocalEmbedder()
        embed = local.embed
        return local.identity, [
            judge(pair, _cosine(embed(embedded(pair.one)), embed(embedded(pair.other)))) for pair in pairs
        ]

    # aiohttp takes 0.2 s to import: only where it is used.
    from sidecar.cache.meaning.endpoint_embedder import EndpointEmbedder

    provider = config.providers[str(semantic.provider)]
    patient = replace(semantic, timeout_s=max(semantic.timeout_s, ENDPOINT_TIMEOUT_S))
    embedder = EndpointEmbedder(patient, provider, config.locality, _tls(provider))
    try:
        vectors: list[Vector] = []
        texts = [embedded(text) for pair in pairs for text in (pair.one, pair.other)]
        for start in range(0, len(texts), CONCURRENCY):
            vectors += await asyncio.gather(*map(embedder.embed, texts[start : start + CONCURRENCY]))
    finally:
        await embedder.close()
    cosines = map(_cosine, vectors[::2], vectors[1::2])
    return embedder.identity, [judge(pair, cosine) for pair, cosine in zip(pairs, cosines, strict=True)]


def _tls(provider: Provider) -> ssl.SSLContext:
    try:
        return client_context(provider.tls.ca_file)
    except OSError as error:
        raise EmbedderError(f"{provider.tls.ca_file} cannot be used: {error.strerror}") from None


def _cosine(one: "Vector", other: "Vector") -> float:
    return float(one @ other)


# --- what is shown ----------------------------------------------------------------------------------------


def _lines(calibration: Calibration, identity: str) -> Iterator[str]:
    same, different = calibration.same, calibration.different
    yield f"{same} pairs that one answer serves, {different} that it does not"
    if calibration.not_kept:
        yield f"{calibration.not_kept} of them with an answer that soon changes: such are not kept"
    yield f"embedder: {identity}"
    yield ""
    yield f"{'':22}{'wrong hits':<14}{'threshold':>9}{'found':>14}{'':8}{'wrong':>14}"
    way = ""
    for row in calibration.rows:
        yield _line(row, same, different, is_first=row.way != way)
        way = row.way
    yield ""
    for warning in calibration.warnings:
        yield f"warning: {warning}"


def _line(row: Row, same: int, different: int, *, is_first: bool) -> str:
    way = row.way if is_first else ""
    if row.rate is not None:
        wish = f"<= {row.rate * 100:g} %"
        threshold = "none" if row.threshold is None else f"{row.threshold:.4f}"
    else:
        wish = "" if row.threshold is None else "as configured"
        threshold = "" if row.threshold is None else f"{row.threshold:.4f}"
    found = f"{f'{row.found}/{same}':>14}{row.found / same if same else 0.0:>8.1%}"
    wrong = f"{f'{row.wrong}/{different}':>14}{row.wrong / different:>8.2%}"
    return f"{way:22}{wish:<14}{threshold:>9}{found}{wrong}"
