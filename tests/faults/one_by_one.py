"""Faults that are tried one call at a time, because each call needs a fault of its own.

The profile says how thorough: every cut of a long stream, or of a short one.
"""

import asyncio
import contextlib
import math
import socket
import ssl
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest import mock

from sidecar.upstream import resolver
from tests.faults.before_first_token import check_error, check_whole
from tests.faults.call import ask, call
from tests.faults.case import Case
from tests.faults.load import FULL, LoadTrial, Profile
from tests.faults.world import AWAY, HOME, KEYS, TOKENS, answer_of, world
from tests.support.certificates import DAY, NOW, Authority, self_signed
from tests.support.demo import demo_provider
from tests.support.raw import raw_provider

NEVER_OPEN = {"consecutive_failures": 1_000_000, "failure_ratio": 1.0, "min_requests": 1_000_000}
RETRY_AFTER_MAX_S = 120


async def rate_limits(case: Case, _profile: Profile) -> None:
    """429 with Retry-After in every form it is sent: honoured to its end; all limited: the soonest is told"""
    # Knobs, and how long A is left alone: at least and at most, seconds.
    forms: dict[str, tuple[dict[str, Any], float, float]] = {
        "seconds": ({"retry_after": "1"}, 0.9, 1.3),
        "milliseconds": ({"response_headers": {"retry-after-ms": "800"}}, 0.7, 1.1),
        "a date": ({}, 0.9, 2.3),  # two seconds ahead, in whole seconds
        "a day": ({"retry_after": "86400"}, 100.0, math.inf),
        "garbage": ({"retry_after": "soon"}, 0.9, 1.3),
    }
    await asyncio.gather(*(_limited_in_a_form(case, name, *form) for name, form in forms.items()))
    for told, least, most in ((("7", "3", "5"), 2, 3), (("86400",) * 3, 1, RETRY_AFTER_MAX_S)):
        async with world() as here:
            for provider, retry_after in zip(here.providers, told, strict=True):
                knobs = {"error_ratio": 1.0, "error_status": 429, "retry_after": retry_after}
                provider.scenario.update(knobs)
            for _ in range(2):  # the second finds them all parked
                heard = await ask(here.sidecar.url)
                check_error(case, heard, 429, None)
                case.at_least(
                    "retry-after told", float(heard.headers.get("retry-after", 0)), least, unit=" s"
                )
                case.at_most(
                    "retry-after told", float(heard.headers.get("retry-after", 1e9)), most, unit=" s"
                )
            case.equal("tries at A, B, C", here.attempts, (1, 1, 1))


async def _limited_in_a_form(
    case: Case, name: str, knobs: dict[str, Any], least_s: float, most_s: float
) -> None:
    """A answers once with 429 in this form: it is left alone, not longer than it has to be."""
    async with world() as here:
        if name == "a date":
            knobs = {"retry_after": formatdate(time.time() + 2, usegmt=True)}
        here.a.scenario.update({"fail_next": 1, "error_status": 429, **knobs})
        started_s = time.monotonic()
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal(f"{name}: tries at A and B", here.attempts[:2], (1, 1))
        for _ in range(4):
            check_whole(case, here, await ask(here.sidecar.url))
        if time.monotonic() - started_s < least_s:
            case.equal(f"{name}: tries at A meanwhile", here.a.attempts, 1)
        is_over = most_s < RETRY_AFTER_MAX_S
        await asyncio.sleep(max(0.0, started_s + (most_s if is_over else 1.3) - time.monotonic()))
        check_whole(case, here, await ask(here.sidecar.url))
        case.equal(f"{name}: tries at A afterwards", here.a.attempts, 2 if is_over else 1)


async def names(case: Case, _profile: Profile) -> None:
    """A's name stops resolving, in five ways: the last good address is kept; a wrong one costs no answer"""
    answers: dict[str, Any] = {
        "NXDOMAIN": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        "SERVFAIL": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        "no answer": None,
        "an empty answer": [],
        "a wrong address": ["127.0.0.2"],
    }
    with _looked_up() as found:
        await asyncio.gather(
            *(
                _unresolved(case, fault, f"region-{number}.test", wrong, found)
                for number, (fault, wrong) in enumerate(answers.items())
            )
        )


async def _unresolved(case: Case, fault: str, name: str, wrong: Any, found: dict[str, Any]) -> None:
    """A is known as `name`, which is found at first and then answered wrongly."""
    found[name] = ["127.0.0.1"]
    async with world(host_names={"A": name}) as here:
        heard = await ask(here.sidecar.url)
        check_whole(case, here, heard)
        case.equal(f"{fault}: region before", heard.headers.get("x-sidecar-region"), HOME)
        found[name] = wrong
        await asyncio.sleep(1.3)  # names are looked at once a second
        here.a.close_idle_connections()
        for _ in range(3):
            heard = await ask(here.sidecar.url)
            check_whole(case, here, heard)
            if fault != "a wrong address":
                case.equal(f"{fault}: region", heard.headers.get("x-sidecar-region"), HOME)


@contextlib.contextmanager
def _looked_up() -> Iterator[dict[str, Any]]:
    """Have every resolver made from now on look names up in this dictionary, again and again."""
    answers: dict[str, Any] = {}

    async def lookup(name: str, port: int) -> Iterable[tuple[Any, ...]]:
        found = answers.get(name, [name])
        if found is None:
            await asyncio.sleep(3600)
        if isinstance(found, OSError):
            raise found
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    with (
        mock.patch.object(resolver.Resolver.__init__, "__defaults__", (lookup,)),
        mock.patch.object(resolver, "REFRESH_S", 0.05),
        mock.patch.object(resolver, "RETRY_S", 0.05),
    ):
        yield answers


async def certificates(case: Case, _profile: Profile) -> None:
    """A's TLS is expired, of another host, self-signed, of 1999, or silent: no key sent, and B answers"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder)
        tls = {"tls": {"ca_file": authority.ca_file}}
        async with _tls_provider(authority.server("127.0.0.1")) as (url, attempts):
            async with world(urls={"A": url}, primary=tls) as here:
                heard = await ask(here.sidecar.url)
            case.equal("a good certificate: region", heard.headers.get("x-sidecar-region"), HOME)
            case.equal("a good certificate: requests at A", attempts(), 1)
        contexts = {
            "expired": authority.server("127.0.0.1", not_after=NOW - DAY),
            "another host": authority.server("elsewhere.example"),
            "self-signed": self_signed(folder, "127.0.0.1"),
            "TLS 1.0": _outdated(authority.server("127.0.0.1")),
        }
        for fault, context in contexts.items():
            async with _tls_provider(context) as (url, attempts), world(urls={"A": url}, primary=tls) as here:
                for _ in range(3):
                    heard = await ask(here.sidecar.url)
                    check_whole(case, here, heard)
                    case.equal(f"{fault}: region", heard.headers.get("x-sidecar-region"), AWAY)
                case.equal(f"{fault}: requests at A", attempts(), 0)
        async with _silent_server() as (url, received), world(urls={"A": url}, primary=tls) as here:
            for _ in range(3):
                heard = await ask(here.sidecar.url)
                check_whole(case, here, heard)
                case.at_most("silent handshake", heard.seconds, 3.0, unit=" s", timed=True)
            case.at_least("silent: bytes of handshakes", len(received), 1)
            case.equal("silent: key sent", KEYS["PRIMARY_KEY"].encode() in received, False)


@contextlib.asynccontextmanager
async def _tls_provider(context: ssl.SSLContext) -> AsyncIterator[tuple[str, Any]]:
    knobs = {"answer": answer_of(TOKENS)}
    async with demo_provider(HOME, ssl_context=context, knobs=knobs) as provider:
        yield provider.url, lambda: provider.attempts


def _outdated(context: ssl.SSLContext) -> ssl.SSLContext:
    """Nothing newer than TLS 1.0, which OpenSSL allows at the lowest security level only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@contextlib.asynccontextmanager
async def _silent_server() -> AsyncIterator[tuple[str, bytearray]]:
    """Takes connections and reads, and never says a word."""
    received = bytearray()

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.extend(data)

    async with raw_provider(listen) as provider:
        yield provider.url.replace("http://", "https://"), received


async def every_cut(case: Case, profile: Profile) -> None:
    """A resets its streams at every event in turn: whole from B; or the exact beginning, then an error"""
    tokens = profile.tokens if profile is FULL else 12
    async with world(tokens=tokens, interval_s=0.0, primary={"circuit_breaker": NEVER_OPEN}) as here:
        resumed, told, lies, again = [], [], 0, []
        # Role, tokens, finish reason: after that event the stream is complete.
        for k in range(tokens + 3):
            here.a.scenario.update({"cut_after_events": k})
            outcome = await call(here.sidecar.port, "auto", here.answer, stream=True)
            lies += outcome.is_lie
            if not outcome.is_right:
                resumed.append(k)
            before_b = here.b.attempts
            outcome = await call(here.sidecar.port, "strict", here.answer, stream=True)
            lies += outcome.is_lie
            is_unseen, is_complete = k <= 1, k >= tokens + 2
            if is_unseen or is_complete:
                is_as_wanted = outcome.is_right
            else:
                beginning = "".join(here.tokens[: k - 1])
                is_as_wanted = outcome.text == beginning and bool(outcome.error) and not outcome.is_clean
                again += [k] if here.b.attempts != before_b else []
            if not is_as_wanted:
                told.append(k)
        case.at_least("cuts tried", tokens + 3, 15)
        case.equal("resumed, not whole, at events", resumed, [])
        case.equal("not resumed, beginning or error wrong, at events", told, [])
        case.equal("not resumed, asked again all the same, at events", again, [])
        case.equal("wrong text with a clean end", lies, 0)


TRIALS: dict[int, LoadTrial] = {4: rate_limits, 8: names, 9: certificates, 11: every_cut}
