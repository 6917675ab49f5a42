"""Seals what is kept where others can write: who lacks the providers' keys puts no words into an answer.

An answer in Redis is given to callers as the provider's own. So it bears a tag (keyed BLAKE2b-256) under a
key that comes from the fleet's secret and from the name it is stored under, which holds scope and digest.
What was changed, cut short or stored under another name has a wrong tag. Orders (orders.py) bear one too,
under a key of their own.

What the seal does not do: nothing is encrypted, and who can write may delete, or store again what was sealed
under the same name before. Every answer tells when it was made and for how long it is good, so that an old
one comes to its end all the same.

    answer = form, tag, exact digest, flags, stored, time to live, took, length, record (zlib where that pays)
    order  = form, tag, what is ordered
"""

import hmac
import struct
import zlib
from collections.abc import Iterable
from hashlib import blake2b

from sidecar.cache.recording import MAX_TEXT_CHARS
from sidecar.cache.store import COMPRESS_FROM_BYTES

# Of a record as it is before it is compressed: its text in UTF-8 and the quotes between its pieces. Read
# before anything is unpacked, so that no small value becomes a large one.
MAX_RECORD_BYTES = 8 * MAX_TEXT_CHARS
# Of an order: a route's name and two digests.
MAX_ORDER_BYTES = 1024

_FORM = 1
_TAG_BYTES = 32
_BODY = 1 + _TAG_BYTES
_FACTS = struct.Struct(">8sBQQII")
_HAS_USAGE = 1
_IS_COMPRESSED = 2
_MAX_MS = 2**32 - 1

HEAD_BYTES = _BODY + _FACTS.size


def secret_of(api_keys: Iterable[bytes]) -> bytes:
    """The secret of all sidecars that have the same providers' keys; ValueError where there are none."""
    keys = sorted(set(api_keys))
    if not keys:
        raise ValueError("no provider has an api_key: what the sidecars share cannot be authenticated")
    told = b"".join(b"%d:%b" % (len(key), key) for key in keys)
    return blake2b(told, digest_size=32, person=b"sidecar secret").digest()


class Found:
    """An answer as it was sealed. `written_s` is Unix time; `ttl_s` is the whole time it was given.

    `age_s` is its age when it was opened, 0 where the clock of whoever wrote it is ahead of ours. `exact` is
    the digest of the words it was given for.
    """

    __slots__ = ("age_s", "exact", "has_usage", "record", "took_s", "ttl_s", "written_s")

    def __init__(
        self,
        record: bytes,
        exact: bytes,
        has_usage: bool,
        *,
        written_s: float,
        age_s: float,
        ttl_s: float,
        took_s: float,
    ) -> None:
        self.record = record
        self.exact = exact
        self.has_usage = has_usage
        self.written_s = written_s
        self.age_s = age_s
        self.ttl_s = ttl_s
        self.took_s = took_s


class Seals:
    """The seals of one secret. `fleet` tells it from others where they share a Redis; it is no secret."""

    __slots__ = ("_answers", "_orders", "fleet")

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("the secret is empty: what the sidecars share cannot be authenticated")
        self._answers = blake2b(secret, digest_size=32, person=b"sidecar answer").digest()
        self._orders = blake2b(secret, digest_size=32, person=b"sidecar order").digest()
        self.fleet = blake2b(secret, digest_size=4, person=b"sidecar fleet").hexdigest()

    def seal(
        self,
        name: str,
        record: bytes,
        exact: bytes,
        has_usage: bool,
        *,
        written_s: float,
        ttl_s: float,
        took_s: float,
    ) -> bytes:
        """The value to store under `name`; `exact` has 8 bytes, `record` at most MAX_RECORD_BYTES."""
        flags = _HAS_USAGE if has_usage else 0
        data = record
        if len(record) > COMPRESS_FROM_BYTES:
            data = zlib.compress(record, 1)
            if len(data) < len(record):
                flags |= _IS_COMPRESSED
            else:
                data = record
        took_ms = min(max(0, int(took_s * 1000)), _MAX_MS)
        facts = _FACTS.pack(exact, flags, int(written_s * 1000), int(ttl_s * 1000), took_ms, len(record))
        return _sealed(_key_of(self._answers, name), facts + data)

    def open(self, name: str, value: bytes, now_s: float) -> Found | None:
        """What was sealed under `name`, if the seal is whole; `now_s` is Unix time."""
        body = _opened(_key_of(self._answers, name), value)
        if body is None or len(body) < _FACTS.size:
            return None
        exact, flags, written_ms, ttl_ms, took_ms, length = _FACTS.unpack_from(body)
        data = body[_FACTS.size :]
        record = _unpacked(data, length) if flags & _IS_COMPRESSED else data
        if record is None or len(record) != length:
            return None
        written_s = written_ms / 1000
        return Found(
            record,
            exact,
            bool(flags & _HAS_USAGE),
            written_s=written_s,
            age_s=max(0.0, now_s - written_s),
            ttl_s=ttl_ms / 1000,
            took_s=took_ms / 1000,
        )

    def seal_order(self, order: bytes) -> bytes:
        """The value that carries an order."""
        return _sealed(self._orders, order)

    def open_order(self, value: bytes) -> bytes | None:
        """The order, if the seal is whole."""
        return None if len(value) > MAX_ORDER_BYTES else _opened(self._orders, value)


def _key_of(root: bytes, name: str) -> bytes:
    return blake2b(name.encode(), key=root, digest_size=_TAG_BYTES).digest()


def _sealed(key: bytes, body: bytes) -> bytes:
    return b"%c%b%b" % (_FORM, _tag(key, body), body)


def _opened(key: bytes, value: bytes) -> bytes | None:
    """The body; None where the form is another, or the tag is not that of form and body."""
    if len(value) < _BODY or value[0] != _FORM:
        return None
    body = value[_BODY:]
    return body if hmac.compare_digest(value[1:_BODY], _tag(key, body)) else None


def _tag(key: bytes, body: bytes) -> bytes:
    tag = blake2b(bytes((_FORM,)), key=key, digest_size=_TAG_BYTES)
    tag.update(body)
    return tag.digest()


def _unpacked(data: bytes, length: int) -> bytes | None:
    """The record, or None where it is longer than it says, or no zlib."""
    if length > MAX_RECORD_BYTES:
        return None
    try:
        unpacking = zlib.decompressobj()
        # One more than it should be, so that the end of the stream is reached where it is right.
        record = unpacking.decompress(data, length + 1)
    except zlib.error:
        return None
    return record if unpacking.eof and not unpacking.unused_data else None
