"""How an answer ends: whether one whose bytes ended in order is whole in its own terms, and what is said of
one that is not. Plain judgements; the bytes are with answer.py.
"""

import orjson

from sidecar.errors import ProxyError, cut_short, empty, mismatch
from sidecar.events import StreamReader
from sidecar.headers import ResponseHead
from sidecar.resume import Joiner


def fault_of_stream(
    reader: StreamReader, joiner: Joiner | None, *, rest: bytes, has_begun: bool
) -> ProxyError | None:
    """What a stream lacks. `rest` is the part of an event that came last; `has_begun`: there was content in
    it, or the end of an answer that had been begun elsewhere."""
    if not reader.ends_well(is_amid_event=bool(rest.strip())):
        return cut_short() if has_begun else empty("a stream without content")
    if joiner is not None and not joiner.is_joined:
        return mismatch()
    return None if has_begun else empty("a stream without content")


def fault_of_plain(head: ResponseHead, body: bytes, *, is_all: bool) -> ProxyError | None:
    """What an answer to an inference call lacks, of which only the end of its connection says where it ends:
    that may be half of its JSON as well. `is_all`: `body` is all of it, not its last part."""
    if head.length is not None or head.coding or not head.content_type.startswith(b"application/json"):
        return None
    if not is_all:
        return None if body.rstrip().endswith((b"}", b"]")) else _cut_off()
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return _cut_off()
    return None


def too_late(*, has_head: bool, awaits_token: bool) -> ProxyError:
    """A provider that kept silent. `awaits_token`: for the first content of a stream."""
    what = "sent nothing more" if has_head else "did not answer"
    if awaits_token:
        what = "sent no first token"
    message = f"The provider {what} in time. Try again, or raise the provider's timeouts."
    return ProxyError("FT" if awaits_token else "UT", 504, "upstream_timeout", message)


def _cut_off() -> ProxyError:
    message = "The provider closed the connection in the middle of its answer."
    return ProxyError("UC", 502, "upstream_cut", message)
