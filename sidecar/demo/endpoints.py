"""The API endpoints of a simulated provider: what each path answers when nothing goes wrong.

`provider` has seen to the faults before an answer; those within it belong to `stream`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiohttp import web

from . import media
from .answers import Turn, count_prompt_tokens, plan_choices
from .chat import CHAT, COMPLETIONS
from .faults import json_response
from .messages import MESSAGES
from .received import Received
from .responses import RESPONSES
from .scenario import Scenario
from .stream import Pace, send_events, send_plain
from .wire import Dialect, Json, RequestError, error_object

DIALECTS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
}
RECEIVED = web.RequestKey("received", Received)
FAULTS = web.RequestKey("faults", Scenario)  # those this request meets
_REMEMBERED = 1000


class Endpoints:
    """The handlers of one provider. Refused requests leave them as `RequestError`."""

    def __init__(
        self,
        region: str,
        scenario: Scenario,
        models: tuple[str, ...],
        pace: Pace,
        new_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._region = region
        self._scenario = scenario
        self._models = models
        self._pace = pace
        self._new_id = new_id
        self._clock = clock
        self._responses: dict[str, Json] = {}  # what GET and previous_response_id refer to

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Put every path on the router."""
        for path, dialect in DIALECTS.items():
            router.add_post(path, partial(self._generate, dialect))
        router.add_post("/v1/embeddings", partial(self._compute, media.embeddings))
        router.add_post("/v1/moderations", partial(self._compute, media.moderations))
        router.add_post("/v1/images/generations", partial(self._compute, self._images))
        router.add_post("/v1/audio/transcriptions", self._transcribe)
        router.add_post("/v1/files", self._file)
        router.add_get("/v1/responses/{id}", self._stored_response)
        router.add_get("/v1/realtime", media.echo)
        router.add_get("/v1/models", self._list_models)
        router.add_get("/v1/models/{id:.+}", self._one_model)

    async def _generate(self, dialect: Dialect, request: web.Request) -> web.StreamResponse:
        """An inference call of any dialect."""
        body = request[RECEIVED].json()
        turn = self._plan(dialect, body)
        broken = request[FAULTS]
        if dialect is RESPONSES and body.get("store", True):
            self._remember(dialect.plain(turn, body))
        if body.get("stream") is True:
            events = dialect.events(turn, body, self._scenario)
            return await send_events(request, events, dialect, self._pace, broken)
        await self._pace.answer_time(turn.completion_tokens)
        return await send_plain(request, dialect.plain(turn, body), self._pace, broken)

    def _plan(self, dialect: Dialect, body: Json) -> Turn:
        ask = dialect.parse(body)
        self._require_model(ask.model)
        prompt_tokens = count_prompt_tokens(ask.prompt)
        limit = self._scenario.context_tokens
        if limit is not None and prompt_tokens > limit:
            message = f"This model's maximum context length is {limit} tokens, got {prompt_tokens}."
            raise RequestError(400, message, code="context_length_exceeded", param="messages")
        if self._scenario.refuse_prefill and ask.prefill is not None:
            raise RequestError(400, "The last message must not have the role assistant.", param="messages")
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self._responses:
            message = f"Previous response with id '{previous}' not found."
            raise RequestError(400, message, code="previous_response_not_found")
        return Turn(
            id=self._new_id(),
            created=int(self._clock()),
            model=ask.model,
            prompt_tokens=prompt_tokens,
            choices=plan_choices(ask, self._scenario, self._region),
            omit_usage=self._scenario.omit_usage,
        )

    def _require_model(self, model: str) -> None:
        if model in self._scenario.model_not_found:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise RequestError(404, message, code="model_not_found", param="model")

    def _remember(self, response: Json) -> None:
        self._responses[response["id"]] = response
        if len(self._responses) > _REMEMBERED:
            del self._responses[next(iter(self._responses))]

    async def _compute(self, answer: Callable[[Json], Json], request: web.Request) -> web.StreamResponse:
        """An inference call that has only plain answers."""
        body = request[RECEIVED].json()
        if isinstance(body.get("model"), str):
            self._require_model(body["model"])
        await self._pace.answer_time(1)
        return await send_plain(request, answer(body), self._pace, request[FAULTS])

    def _images(self, body: Json) -> Json:
        return media.images(body, int(self._clock()))

    async def _transcribe(self, request: web.Request) -> web.StreamResponse:
        size, sha256, _ = await media.upload(request, request[RECEIVED])
        text = f"A recording of {size} bytes, heard in {self._region}."
        return json_response({"text": text, "bytes": size, "sha256": sha256})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        size, sha256, fields = await media.upload(request, request[RECEIVED])
        answer = {
            "id": f"file-{self._new_id()}",
            "object": "file",
            "bytes": size,
            "created_at": int(self._clock()),
            "filename": fields.get("filename", ""),
            "purpose": fields.get("purpose", ""),
            "status": "processed",
            "sha256": sha256,
        }
        return json_response(answer)

    async def _stored_response(self, request: web.Request) -> web.StreamResponse:
        stored = self._responses.get(request.match_info["id"])
        if stored is None:
            raise RequestError(404, f"Response with id '{request.match_info['id']}' not found.")
        return json_response(stored)

    def _model_object(self, model: str) -> Json:
        return {"id": model, "object": "model", "created": 1_700_000_000, "owned_by": f"demo-{self._region}"}

    async def _list_models(self, _request: web.Request) -> web.StreamResponse:
        data = [self._model_object(m) for m in self._models if m not in self._scenario.model_not_found]
        return json_response({"object": "list", "data": data})

    async def _one_model(self, request: web.Request) -> web.StreamResponse:
        model = request.match_info["id"]
        if model not in self._models or model in self._scenario.model_not_found:
            message = f"The model '{model}' does not exist"
            raise RequestError(404, message, code="model_not_found", param="model")
        return json_response(self._model_object(model))


async def unknown_url(request: web.Request) -> web.StreamResponse:
    """The 404 that OpenAI answers on a path it does not have."""
    message = f"Invalid URL ({request.method} {request.path})"
    return json_response({"error": error_object(404, message)}, 404)
