"""The model list as callers see it: merged, cached, kept through failures, never one key's for another."""

import asyncio
import contextlib
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from aiohttp import web

from sidecar import model_list
from sidecar.clock import Ticker
from sidecar.config.load import parse
from sidecar.errors import ClientGone
from sidecar.exchange import Downstream, Exchange, Reply, RequestHead
from sidecar.flow import Flow
from sidecar.model_list import FRESH_S, MAX_BODIES, MAX_BYTES, MAX_CALLERS, RETRY_S, ModelList
from sidecar.policy.callers import Caller
from sidecar.runtime import Runtime
from sidecar.telemetry.metrics import Metrics
from tests.policy.support import hash_of
from tests.support.certificates import Authority
from tests.support.manual_clock import ManualClock
from tests.support.raw import raw_provider
from tests.support.running import config_for, port_of
from tests.support.waiting import until
from tests.support.web import serving

ENVIRON = {"KEY": "sk-ours", "OTHER": "sk-other"}
DEAD = "http://127.0.0.1:1/v1"


class Upstream:
    """A provider that answers for its models as `answer` says; what it was asked with stands in `asked`."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[dict[str, str]] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.list
        self.url = ""

    async def list(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": n, "size": 7} for n in self.names]})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.path_qs == "/v1/models"
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        return await self.answer(request)

    def answers(self, status: int, body: bytes, **headers: str) -> None:
        """Answer so from now on."""

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body, headers=headers)

        self.answer = answer

    def hangs(self) -> asyncio.Event:
        """List the models from now on, but only once the event is set."""
        may_answer = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            await may_answer.wait()
            return await self.list(request)

        self.answer = answer
        return may_answer


@contextlib.asynccontextmanager
async def upstream(*names: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    one = Upstream(*names)
    async with serving(one.handle, tls) as one.url:
        yield one


class Stage:
    """A model list over a configuration, on a clock of its own."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.clock = ManualClock()
        self.runtime = Runtime(Ticker(), Metrics("1"), "t")
        self.configure(tree)
        self.models = ModelList(lambda: self.runtime.snapshot, self.clock)

    def configure(self, tree: dict[str, Any]) -> None:
        self.runtime.apply(parse(orjson.dumps(tree), ENVIRON).config)

    def answer(self, path: str = "/v1/models", **headers: str) -> Awaitable[Reply]:
        return self.models.answer(request(path, b"GET", **headers))

    async def names(self, **headers: str) -> list[str]:
        reply = await self.answer(**headers)
        assert reply.status == 200
        return [one["id"] for one in orjson.loads(reply.body)["data"]]

    async def one(self, name: str, **headers: str) -> tuple[int, dict[str, Any]]:
        reply = await self.answer(f"/v1/models/{name}", **headers)
        return reply.status, orjson.loads(reply.body)


@contextlib.asynccontextmanager
async def stage(tree: dict[str, Any]) -> AsyncIterator[Stage]:
    one = Stage(tree)
    try:
        yield one
    finally:
        await one.models.close()
        one.runtime.close()


def request(path: str = "/v1/models", method: bytes = b"GET", **headers: str) -> Exchange:
    head = RequestHead(method, path.encode())
    head.fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    head.forward = [b"%b: %b" % pair for pair in head.fields.items() if pair[0] != b"authorization"]
    return Exchange(cast(Downstream, None), 0.0, head)


def config(*urls: str, **changes: Any) -> dict[str, Any]:
    """One provider with a key of ours, the model `named` and every other."""
    return config_for(*urls, models={"named": {"provider": "p"}, "*": {"provider": "p"}}, **changes)


def keyless(*urls: str) -> dict[str, Any]:
    """One provider that is asked with the caller's own key."""
    tree = config(*urls)
    del tree["providers"]["p"]["api_key"]
    return tree


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_list, "LIMIT_S", 0.1)


# --- what is in it ---


async def test_the_list_has_routes_names_and_what_the_providers_list() -> None:
    async with upstream("m-1", "named", "org/m-2") as provider:
        tree = config(provider.url, routes={"auto": {"split": [{"model": "m-1", "weight": 1}]}})
        async with stage(tree) as here:
            reply = await here.answer()
    assert (reply.status, reply.flag) == (200, "-")
    document = orjson.loads(reply.body)
    assert document["object"] == "list"
    found = {one["id"]: one for one in document["data"]}
    assert list(found) == ["auto", "named", "m-1", "org/m-2"]
    assert found["auto"]["sidecar"] == {"provider": None, "kind": "route"}
    assert found["org/m-2"]["sidecar"] == {"provider": "p", "kind": "model"}
    assert (found["named"]["size"], found["named"]["owned_by"]) == (7, "p")
    assert all(type(one["created"]) is int and one["object"] == "model" for one in found.values())


async def test_a_model_of_two_providers_is_shown_of_the_one_it_is_asked_at() -> None:
    async with upstream("a-1", "b-1") as a, upstream("a-1", "b-1", "c") as b:
        tree = config(a.url)
        tree["providers"]["q"] = {"api_key": {"env": "OTHER"}, "endpoints": [{"url": b.url}]}
        tree["models"] = {"a-*": {"provider": "p"}, "b-*": {"provider": "q"}}
        async with stage(tree) as here:
            found = orjson.loads((await here.answer()).body)["data"]
        assert {one["id"]: one["sidecar"]["provider"] for one in found} == {"a-1": "p", "b-1": "q"}
        assert a.asked[0]["authorization"] == "Bearer sk-ours"
        assert b.asked[0]["authorization"] == "Bearer sk-other"


async def test_providers_for_break_glass_and_those_without_models_are_not_asked() -> None:
    async with upstream("m") as provider, upstream("d") as direct, upstream("u") as unused:
        tree = config(provider.url)
        other = {"api_key": {"env": "OTHER"}}
        tree["providers"]["direct"] = {**other, "endpoints": [{"url": direct.url}], "break_glass": True}
        tree["providers"]["unused"] = {**other, "endpoints": [{"url": unused.url}]}
        tree["models"]["named"]["fallback"] = ["d"]
        tree["models"] = {"d": {"provider": "direct"}, **tree["models"]}
        async with stage(tree) as here:
            assert await here.names() == ["named", "m"]
            assert (await here.one("d"))[0] == 404
        assert (direct.asked, unused.asked) == ([], [])


# --- one model ---


@pytest.mark.parametrize("path", ["org/m-2", "org%2Fm-2", "org%2fm-2"])
async def test_one_model_is_found_by_its_id_also_with_an_escaped_slash(path: str) -> None:
    async with upstream("m-1", "org/m-2") as provider, stage(config(provider.url)) as here:
        status, found = await here.one(path)
    assert status == 200
    assert (found["id"], found["size"]) == ("org/m-2", 7)


async def test_a_model_that_no_list_has_is_found_by_the_configuration() -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        status, found = await here.one("org/unlisted")
    assert (status, found["id"]) == (200, "org/unlisted")
    assert found["sidecar"] == {"provider": "p", "kind": "model"}


async def test_a_route_is_found_without_asking_anybody() -> None:
    async with upstream("auto") as provider:
        tree = config(provider.url, routes={"auto": {"split": [{"model": "named", "weight": 1}]}})
        async with stage(tree) as here:
            status, found = await here.one("auto")
        assert (status, found["sidecar"]["kind"], provider.asked) == (200, "route", [])


async def test_a_model_that_nothing_serves_is_not_found_in_openais_words() -> None:
    async with upstream("other") as provider:
        tree = config(provider.url)
        tree["models"] = {"named": {"provider": "p"}}
        async with stage(tree) as here:
            status, said = await here.one("org%2Fother")
        assert provider.asked == []
    assert status == 404
    assert (said["error"]["code"], said["error"]["param"]) == ("model_not_found", "model")
    assert "org/other" in said["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "is_ours"),
    [
        (b"GET", "/v1/models", True),
        (b"HEAD", "/v1/models", True),
        (b"GET", "/v1/models/a/b", True),
        (b"GET", "/v1/models?limit=1", True),
        (b"DELETE", "/v1/models/a", False),
        (b"POST", "/v1/models", False),
        (b"GET", "/v1/modelsx", False),
        (b"GET", "/v1/files", False),
    ],
)
def test_lists_are_read_here_and_nothing_else(method: bytes, path: str, is_ours: bool) -> None:
    assert ModelList.serves(request(path, method)) is is_ours


# --- kept for a while ---


async def test_a_list_is_fresh_for_a_minute_and_then_served_while_a_new_one_comes() -> None:
    async with upstream("m-1") as provider, stage(config(provider.url)) as here:
        assert await here.names() == ["named", "m-1"]
        provider.names = ["m-2"]
        here.clock.now_s += FRESH_S - 1
        assert await here.names() == ["named", "m-1"]
        assert len(provider.asked) == 1
        may_answer = provider.hangs()
        here.clock.now_s += 1
        for _ in range(3):
            assert await here.names() == ["named", "m-1"]
        may_answer.set()
        await until(lambda: here.models._tasks == set())
        assert await here.names() == ["named", "m-2"]
        assert len(provider.asked) == 2


async def test_those_who_come_before_the_first_list_share_one_request() -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        may_answer = provider.hangs()
        waiting = [asyncio.ensure_future(here.names()) for _ in range(20)]
        await until(lambda: provider.asked)
        may_answer.set()
        assert await asyncio.gather(*waiting) == [["named", "m"]] * 20
        assert len(provider.asked) == 1


async def test_a_caller_that_leaves_costs_the_others_nothing() -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        may_answer = provider.hangs()
        replies: list[Reply] = []
        ends: list[BaseException | None] = []

        async def serve() -> None:
            replies.append(await here.answer())

        flows = [Flow(serve(), ends.append) for _ in range(3)]
        for flow in flows:
            flow.resume()
        await until(lambda: provider.asked)
        flows[0].cancel(ClientGone())
        may_answer.set()
        await until(lambda: len(ends) == 3)
        assert [type(end) for end in ends] == [ClientGone, type(None), type(None)]
        assert [b'"m"' in reply.body for reply in replies] == [True, True]
        assert len(provider.asked) == 1


async def test_a_reload_that_moves_a_provider_forgets_its_list() -> None:
    async with upstream("old") as old, upstream("new") as new, stage(config(old.url)) as here:
        assert await here.names() == ["named", "old"]
        here.configure(config(new.url))
        assert await here.names() == ["named", "new"]
        assert len(here.models._ours) == 1


async def test_a_reload_that_changes_models_shows_at_once_and_asks_nobody() -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        await here.names()
        tree = config(provider.url)
        tree["models"] = {"another": {"provider": "p"}}
        here.configure(tree)
        assert await here.names() == ["another"]
        assert len(provider.asked) == 1


# --- failures ---

FAILURES: dict[str, Callable[[Upstream], object]] = {
    "500": lambda u: u.answers(500, b'{"data":[{"id":"evil"}]}'),
    "401": lambda u: u.answers(401, b"{}"),
    "not modified": lambda u: u.answers(304, b""),
    "elsewhere": lambda u: u.answers(307, b"", location="http://127.0.0.1:1/"),
    "garbage": lambda u: u.answers(200, b"<html>maintenance"),
    "an error with 200": lambda u: u.answers(200, b'{"error":{"message":"no"}}'),
    "empty": lambda u: u.answers(200, b""),
    "too large": lambda u: u.answers(200, b" " * MAX_BYTES + b'{"data":[{"id":"evil"}]}'),
    "slow": lambda u: u.hangs(),
    "compressed": lambda u: u.answers(
        200, gzip.compress(b'{"data":[{"id":"evil"}]}'), **{"content-encoding": "gzip"}
    ),
}


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
async def test_what_fails_leaves_the_configured_names_or_the_last_good_list(
    short: None, fail: Callable[[Upstream], object]
) -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        fail(provider)
        assert await here.names() == ["named"]
        provider.answer = provider.list
        here.clock.now_s += RETRY_S
        assert await here.names() == ["named", "m"]
        fail(provider)
        here.clock.now_s += FRESH_S
        await here.names()
        await until(lambda: here.models._tasks == set())
        assert await here.names() == ["named", "m"]
        assert len(provider.asked) == 3


async def test_a_failed_provider_is_left_alone_for_a_moment(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        provider.answers(503, b"")
        for _ in range(3):
            assert await here.names() == ["named"]
        assert len(provider.asked) == 1
        here.clock.now_s += RETRY_S
        assert await here.names() == ["named"]
        assert len(provider.asked) == 2
    assert [r.getMessage() for r in caplog.records] == [
        "p gave no model list: only configured names are shown"
    ]


async def test_a_provider_that_never_stops_sending_is_cut_off() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await provider.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" " * 65536)
            sent += 65536
            await writer.drain()

    async with raw_provider(flood) as provider, stage(config(provider.url)) as here:
        assert await here.names() == ["named"]
        await until(lambda: provider.closed == 1)
    assert sent < 4 * MAX_BYTES


@pytest.mark.parametrize("said", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[]"])
async def test_a_provider_that_breaks_http_fails_like_any_other(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await provider.read_request(reader)
        writer.write(said)

    async with raw_provider(answer) as provider, stage(config(provider.url)) as here:
        assert await here.names() == ["named"]


async def test_where_one_endpoint_fails_the_next_is_asked() -> None:
    async with upstream("m") as provider, stage(config(DEAD, provider.url)) as here:
        for _ in range(4):
            here.clock.now_s += FRESH_S
            await here.names()
            await until(lambda: here.models._tasks == set())
        assert await here.names() == ["named", "m"]
        assert len(provider.asked) == 4


async def test_one_dead_provider_does_not_cost_the_list_of_another() -> None:
    async with upstream("m") as provider:
        tree = config(provider.url)
        tree["providers"]["dead"] = {"api_key": {"env": "OTHER"}, "endpoints": [{"url": DEAD}]}
        tree["models"] = {"x": {"provider": "dead"}, **tree["models"]}
        async with stage(tree) as here:
            assert await here.names() == ["x", "named", "m"]


async def test_closing_ends_what_is_under_way_and_lets_those_who_wait_go() -> None:
    async with upstream("m") as provider, stage(config(provider.url)) as here:
        provider.hangs()
        waiting = asyncio.ensure_future(here.names())
        await until(lambda: provider.asked)
        await here.models.close()
        assert await waiting == ["named"]
        assert here.models._tasks == set()


# --- whose key ---


async def test_a_shared_list_is_asked_for_with_nothing_of_a_callers_request() -> None:
    async with upstream("m") as provider:
        settings = {"headers": {"x-team": "platform", "user-agent": "corp"}}
        async with stage(config(provider.url, provider=settings)) as here:
            caller = {"x_api_key": "sk-c", "if_none_match": "*", "openai_project": "x", "range": "bytes=0-0"}
            assert await here.names(authorization="Bearer sk-caller", **caller) == ["named", "m"]
            assert await here.names(authorization="Bearer sk-second") == ["named", "m"]
        (asked,) = provider.asked
    assert asked.pop("host") == f"127.0.0.1:{port_of(provider.url.removesuffix('/v1'))}"
    assert asked == {
        "authorization": "Bearer sk-ours",
        "x-team": "platform",
        "user-agent": "corp",
        "accept": "application/json",
        "accept-encoding": "identity",
    }


async def test_without_a_key_of_ours_each_caller_sees_the_models_of_its_own_key() -> None:
    async with upstream() as provider, upstream("q-1") as other:

        async def by_key(asked: web.Request) -> web.StreamResponse:
            return web.json_response({"data": [{"id": f"of-{asked.headers.get('authorization')}"}]})

        provider.answer = by_key
        tree = keyless(provider.url)
        tree["providers"]["q"] = {"api_key": {"env": "OTHER"}, "endpoints": [{"url": other.url}]}
        tree["models"] = {"q-*": {"provider": "q"}, "*": {"provider": "p"}}
        async with stage(tree) as here:
            for _ in range(2):
                assert await here.names(authorization="Bearer a") == ["of-Bearer a", "q-1"]
                assert await here.names(authorization="Bearer b") == ["of-Bearer b", "q-1"]
                assert await here.names() == ["of-None", "q-1"]
            assert (await here.one("of-Bearer%20a", authorization="Bearer b"))[1].get("created") is not None
        assert len(provider.asked) == 3
        assert [asked["authorization"] for asked in other.asked] == ["Bearer sk-other"]


async def test_what_chooses_the_account_of_a_callers_key_goes_along_and_tells_lists_apart() -> None:
    async with upstream("m") as provider, stage(keyless(provider.url)) as here:
        for project in ("x", "y", "x"):
            await here.names(authorization="Bearer a", openai_project=project, x_other="1")
        assert [asked["openai-project"] for asked in provider.asked] == ["x", "y"]
        assert all("x-other" not in asked for asked in provider.asked)


async def test_a_callers_key_stays_in_the_callers_regions() -> None:
    async with upstream("far") as far, upstream("near") as near:
        tree = keyless(far.url)
        tree["providers"]["p"]["endpoints"][0]["region"] = "us-east-1"
        tree["providers"]["p"]["endpoints"].append({"url": near.url, "region": "eu-west-1"})
        async with stage(tree) as here:
            x = request(authorization="Bearer a")
            x.regions = ("eu-west-1",)
            near.answers(500, b"")
            assert b'"near"' not in (await here.models.answer(x)).body
            near.answer = near.list
            here.clock.now_s += RETRY_S
            assert b'"near"' in (await here.models.answer(x)).body
        assert (far.asked, len(near.asked)) == ([], 2)


async def test_only_so_many_callers_are_remembered_those_who_asked_last() -> None:
    async with upstream("m") as provider, stage(keyless(provider.url)) as here:
        for number in range(MAX_CALLERS + 8):
            await here.names(authorization="Bearer first")
            await here.names(authorization=f"Bearer {number}")
        assert len(here.models._callers) == MAX_CALLERS
        keys = [asked["authorization"] for asked in provider.asked]
        assert keys.count("Bearer first") == 1
        await here.names(authorization="Bearer 0")
        assert len(provider.asked) == len(keys) + 1


async def test_wrong_keys_of_callers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with upstream() as provider, stage(keyless(provider.url)) as here:
        provider.answers(401, b"{}")
        assert await here.names(authorization="Bearer wrong") == ["named"]
    assert caplog.records == []


# --- what a key may use ---


def caller_of(*models: str) -> Caller:
    digest = hash_of("a-key")
    tree = config(DEAD, keys=[{"id": "k", "hash": digest, "models": models}])
    return Caller("t", "", 0, "key:k", parse(orjson.dumps(tree), ENVIRON).config.keys[0])


def with_route(url: str) -> dict[str, Any]:
    return config(url, routes={"auto": {"split": [{"model": "m-1", "weight": 1}]}})


async def shown_to(here: Stage, caller: Caller | None) -> list[str]:
    reply = await here.models.answer(request(), caller)
    assert reply.status == 200
    return [one["id"] for one in orjson.loads(reply.body)["data"]]


async def test_a_key_is_shown_the_models_and_routes_it_lists_and_no_others() -> None:
    async with upstream("m-1", "m-2", "org/m") as provider, stage(with_route(provider.url)) as here:
        everything = ["auto", "named", "m-1", "m-2", "org/m"]
        for _ in range(2):
            assert await shown_to(here, caller_of("m-*", "auto")) == ["auto", "m-1", "m-2"]
            assert await shown_to(here, caller_of("named", "org/*", "unknown")) == ["named", "org/m"]
            assert await shown_to(here, caller_of("nothing")) == []
            assert await shown_to(here, caller_of("*")) == everything
            assert await shown_to(here, None) == everything
        assert len(provider.asked) == 1


async def test_a_key_with_few_models_sees_a_new_list_and_a_new_configuration_too() -> None:
    caller = caller_of("m-*", "auto")
    async with upstream("m-1", "org/m") as provider, stage(with_route(provider.url)) as here:
        assert await shown_to(here, caller) == ["auto", "m-1"]
        provider.names = ["m-2", "org/m"]
        here.clock.now_s += FRESH_S
        await shown_to(here, caller)
        await until(lambda: here.models._tasks == set())
        assert await shown_to(here, caller) == ["auto", "m-2"]
        here.configure(config(provider.url))
        assert await shown_to(here, caller) == ["m-2"]


async def test_keys_with_different_models_do_not_pile_up_answers() -> None:
    async with upstream("m-1", "m-2") as provider, stage(config(provider.url)) as here:
        for number in range(3 * MAX_BODIES):
            assert await shown_to(here, caller_of("m-1", f"x-{number}")) == ["m-1"]
        assert here.models._joined is not None
        assert len(here.models._joined._bodies) <= MAX_BODIES


@pytest.mark.parametrize("name", ["named", "auto", "org/m"])
async def test_one_model_that_a_key_does_not_list_is_refused_as_a_request_for_it_is(name: str) -> None:
    async with upstream("named", "org/m") as provider, stage(with_route(provider.url)) as here:
        reply = await here.models.answer(request(f"/v1/models/{name}"), caller_of("m-1"))
        assert (reply.status, reply.code) == (403, "model_not_allowed")
        assert name in orjson.loads(reply.body)["error"]["message"]
        assert provider.asked == []


async def test_one_model_that_a_key_lists_is_shown_and_one_that_is_not_there_is_not_found() -> None:
    async with upstream("m-1", "m-2") as provider:
        tree = config(provider.url)
        tree["models"] = {"m-*": {"provider": "p"}}
        async with stage(tree) as here:
            caller = caller_of("m-1", "gone")
            asked = [request(f"/v1/models/{name}") for name in ("m-1", "m-2", "gone", "other")]
            replies = [await here.models.answer(x, caller) for x in asked]
    assert [reply.status for reply in replies] == [200, 403, 404, 404]


# --- TLS ---


async def test_the_providers_authority_is_honoured(tmp_path: Path) -> None:
    ours, another = Authority(tmp_path), Authority(tmp_path, "another.pem")
    async with upstream("m", tls=ours.server("localhost")) as provider:
        async with stage(config(provider.url, provider={"tls": {"ca_file": ours.ca_file}})) as here:
            assert await here.names() == ["named", "m"]
        async with stage(config(provider.url, provider={"tls": {"ca_file": another.ca_file}})) as here:
            assert await here.names() == ["named"]
        assert len(provider.asked) == 1
