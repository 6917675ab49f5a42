"""What a simulated provider does: its timing, its answers and its faults, as one set of knobs.

A `Scenario` is plain data that may change while the provider runs: each knob is read at the moment it
matters, so a change also reaches streams that are already open. It draws no random numbers and does no
I/O; `faults` and `stream` act on it.

Events are counted from 0 and include the role-only event; comments are not events. So
`cut_after_events: 3` lets three events out and then cuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

Seconds = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class ScenarioError(ValueError):
    """A change that names an unknown knob or a value it cannot have; the message names the knob."""


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    """The knobs of one provider. Durations end in `_s`, sizes in `_bytes`; None means off."""

    # Timing
    head_s: Seconds = 0.0  # before the response head
    first_token_s: Seconds = 0.2  # from the head to the first token
    token_interval_s: Seconds = 0.02
    jitter: Share = 0.2  # each wait is stretched or shrunk by up to this share
    heartbeat_s: Annotated[float, Meta(gt=0)] | None = None  # `: keep-alive` comments while waiting
    slow_body_bytes_per_s: Annotated[float, Meta(gt=0)] | None = None  # drips plain answers

    # Answer
    answer: str | None = None  # this text instead of one made from the prompt
    tokens: Annotated[int, Meta(ge=1)] | None = None  # answer length; None: decided from the prompt
    tool_call: bool = False
    reasoning: bool = False  # some reasoning_content deltas first
    finish_reason: str | None = None  # instead of the true one
    role_first: bool = True  # a role-only event at once
    usage_null: bool | None = None  # "usage": null in every other chunk; None: with include_usage only
    omit_usage: bool = False  # no usage figures at all, as some servers do
    done_in_content: bool = False  # the text itself contains "data: [DONE]"
    split_bytes: Annotated[int, Meta(ge=1)] | None = None  # each event in writes of this many bytes

    # Errors: instead of an answer, with an error body
    error_ratio: Share = 0.0
    fail_next: Count = 0  # this many of the next requests fail, then healthy
    error_status: Annotated[int, Meta(ge=400, le=599)] = 500
    error_type: str | None = None
    error_code: str | None = None  # e.g. context_length_exceeded, content_filter
    error_message: str | None = None
    error_html: bool = False  # a load balancer's HTML page instead of JSON
    error_models: list[str] = field(default_factory=list)  # fail only these models; empty: all
    error_keys: list[str] = field(default_factory=list)  # fail only these API keys; empty: all
    errors_on_get: bool = False  # GET /v1/models fails too
    retry_after: str | None = None  # raw header value, sent with errors
    model_not_found: list[str] = field(default_factory=list)
    context_tokens: Annotated[int, Meta(ge=1)] | None = None  # longer prompts: 400 context_length_exceeded
    refuse_prefill: bool = False  # 400 when the last message is the assistant's

    # Connections and streams that break
    break_next: Count | None = None  # only the next so many requests, of any kind, meet these; None: all
    hang: Literal["accept", "headers"] | None = None  # no byte ever; or the head and then nothing
    reset: Literal["accept", "head"] | None = None  # TCP RST before any byte; or after the head
    cut_after_events: Count | None = None
    cut_mode: Literal["reset", "close", "end"] = "reset"  # RST; FIN inside the chunks; clean end, no [DONE]
    cut_mid_event: bool = False  # half of the next event goes out before the cut
    cut_after_bytes: Count | None = None  # the same for plain answers
    stall_after_events: Count | None = None
    stall_s: Seconds = 3600.0
    error_at_event: Count | None = None  # an error event there, then the end
    garbage_at_event: Count | None = None  # an event that is not JSON, then on as before
    garbage_bytes: Annotated[int, Meta(ge=1)] = 16
    no_done: bool = False  # the stream ends cleanly without its terminator
    html_200: bool = False  # an HTML page with status 200
    empty_200: bool = False  # no body, with status 200

    # Response headers
    close_after_response: bool = False  # connection: close
    ratelimit_limit_requests: Count = 10_000
    ratelimit_remaining_requests: Count | None = None  # None: counts down
    ratelimit_remaining_tokens: Count | None = None
    ratelimit_reset_requests: str = "20ms"
    omit_content_type: bool = False
    response_headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def instant(cls) -> Scenario:
        """A healthy provider that never waits: what most tests start from."""
        return cls(first_token_s=0.0, token_interval_s=0.0, jitter=0.0)

    def update(self, changes: Mapping[str, object]) -> None:
        """Set the named knobs, all or none of them. Raises ScenarioError, which names the wrong one."""
        known = self.__struct_fields__
        for name in changes:
            if name not in known:
                raise ScenarioError(f"unknown knob {name!r}; the knobs are: {', '.join(sorted(known))}")
        try:
            wanted = msgspec.convert({**msgspec.to_builtins(self), **changes}, Scenario)
        except msgspec.ValidationError as error:
            raise ScenarioError(str(error).replace("`$.", "`")) from None
        self.restore(wanted)

    def restore(self, source: Scenario | None = None) -> None:
        """Take over every knob of another scenario, or the defaults. In place: streams hold this object."""
        wanted = Scenario() if source is None else msgspec.convert(msgspec.to_builtins(source), Scenario)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(wanted, name))

    def as_dict(self) -> dict[str, object]:
        """Every knob and its value."""
        values: dict[str, object] = msgspec.to_builtins(self)
        return values
