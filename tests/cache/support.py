"""Requests and answers of the cache's tests."""

from typing import Any

import orjson

from sidecar.cache.eligibility import Bypass
from sidecar.cache.key import Key, Place, key_of, scope_of
from sidecar.exchange import Exchange
from sidecar.openai import Call, read_call
from tests.support.exchanges import finished

Json = dict[str, Any]

PATH = b"/v1/chat/completions"
HERE = Place(scope_of("key", "caller", "", ()), "auto", "provider/model")


def asking(text: Any = "How do I boil an egg?", **more: Any) -> Json:
    """A chat of one message."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def read(body: bytes) -> Call:
    call = read_call(body)
    assert isinstance(call, Call)
    return call


def key(document: Json | bytes, kind: str = "chat", **more: Any) -> Key | Bypass:
    """The key of a request to the usual place."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    options = {"target": PATH, "place": HERE, "is_canonical": True, **more}
    return key_of(kind, options.pop("target"), read(body), body, options.pop("place"), **options)


def digest(document: Json | bytes, kind: str = "chat", **more: Any) -> bytes:
    found = key(document, kind, **more)
    assert isinstance(found, Key), found.reason
    return found.digest


def reason(document: Json | bytes, kind: str = "chat", **more: Any) -> str:
    """Why a request is not eligible; empty if it is."""
    found = key(document, kind, **more)
    return found.reason if isinstance(found, Bypass) else ""


def request(document: Json | bytes, kind: str = "chat") -> tuple[Exchange, Call]:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return finished(kind=kind, target=PATH, body=body), read(body)


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def plain(text: str = "Six minutes.", **more: Any) -> Json:
    """A plain answer as OpenAI writes it; `more` replaces members of its choice."""
    message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-theirs",
        "object": "chat.completion",
        "created": 1,
        "model": "m-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", **more}],
        "usage": USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def chunk(delta: Json, finish: str | None = None, **more: Any) -> Json:
    """An event of a stream, parsed."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-theirs",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-2026",
        "system_fingerprint": "fp_1",
        "choices": [choice],
        **more,
    }


def streamed(*pieces: str, usage: Json | None = USAGE) -> list[Json]:
    """The events of an answer in these pieces."""
    events = [chunk({"role": "assistant", "content": "", "refusal": None})]
    events += [chunk({"content": piece}) for piece in pieces]
    events.append(chunk({}, "stop"))
    if usage is not None:
        events.append(chunk({}) | {"choices": [], "usage": usage})
    return events
