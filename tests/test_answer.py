"""One answer between a provider and a caller: what is held, what is judged, and what time does to it."""

from collections.abc import Sequence

import pytest

from sidecar.answer import HANG_UP_S, HOLD_BYTES, PROMPT_STEP_BYTES, Answer
from sidecar.clock import PERIOD_S
from sidecar.config.model import Timeouts
from sidecar.exchange import Exchange, Pausable, Reply, RequestHead
from sidecar.flow import Flow
from sidecar.openai import Call, read_call
from sidecar.resume import Delivered, Joiner, Mode
from sidecar.sse import MAX_HELD_BYTES
from tests.support.manual_clock import ManualClock
from tests.support.upstream import Provider, endpoint_on

TIMEOUTS = Timeouts(first_token_s=3.0, idle_s=2.0, answer_s=5.0, total_s=20.0)
PATIENT = Timeouts(first_token_s=3.0, idle_s=10 * HANG_UP_S, answer_s=5.0, total_s=60.0)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
TEXT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Caller:
    """The caller's side: what it got, and how it ended."""

    def __init__(self) -> None:
        self.body = b""
        self.end_calls: list[str] = []
        self.source: Pausable | None = None

    def reply(self, x: Exchange, reply: Reply) -> None:
        raise AssertionError("an Answer has no replies")

    def respond(self, x: Exchange, status: int, lines: Sequence[bytes], body: bytes) -> None:
        raise AssertionError("an Answer does not respond")

    def begin(self, x: Exchange, status: int, lines: Sequence[bytes], length: int | None) -> None:
        raise AssertionError("an Answer does not begin")

    def write(self, data: bytes) -> None:
        assert self.end_calls == []
        self.body += data

    def end(self, x: Exchange) -> None:
        self.end_calls.append("end")

    def cut(self, x: Exchange, last: bytes) -> None:
        self.end_calls.append("cut")
        self.body += last

    def feed_from(self, source: Pausable | None) -> None:
        self.source = source

    def drop(self) -> None:
        raise AssertionError("an Answer drops nobody")

    def lost(self, x: Exchange, flow: Flow) -> None:
        raise AssertionError("an Answer has no flow")


class Attempt:
    """An answer under way: a provider's connection on one side, a caller on the other."""

    def __init__(
        self,
        body: bytes | None,
        *,
        lag_s: float = 0.0,
        kind: str = "chat",
        timeouts: Timeouts = TIMEOUTS,
        strips_usage: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.clock.now_s += lag_s
        self.clock.ticker.tick()
        self.caller = Caller()
        self.provider = Provider()
        head = RequestHead(b"POST", b"/v1/chat/completions")
        self.x = Exchange(self.caller, self.clock.now_s, head)
        self.x.kind = kind if body is not None else ""
        self.x.body = body or b""
        call: Call | None = None
        if body is not None:
            read = read_call(body)
            assert isinstance(read, Call)
            call = read
            call.strip_usage = strips_usage
        self.endpoint = endpoint_on(self.clock.ticker)
        self.answer = Answer(
            self.x, call, self.endpoint, self.provider.connection, self.clock.ticker, timeouts
        )
        self.provider.connection.send(b"a request", self.answer)

    def is_ready(self) -> bool:
        return self.answer.ready.is_set

    def relay(self) -> None:
        assert self.is_ready()
        assert self.answer.error is None
        self.answer.relay()

    @property
    def code(self) -> str:
        return "" if self.answer.error is None else self.answer.error.code


@pytest.fixture
def stream() -> Attempt:
    return Attempt(b'{"model":"m","stream":true}')


@pytest.fixture
def plain() -> Attempt:
    return Attempt(b'{"model":"m"}')


@pytest.fixture
def passed() -> Attempt:
    return Attempt(None)


# --- what is held ---------------------------------------------------------------------------------------


def test_a_stream_is_held_until_its_first_content(stream: Attempt) -> None:
    role = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
    stream.provider.says(STREAM + b": hi\n\n" + role)
    assert not stream.is_ready()
    stream.provider.says(TEXT)
    stream.relay()
    assert stream.caller.body == b": hi\n\n" + role + TEXT


def test_only_whole_events_go_on(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    stream.provider.says(STOP[:10])
    assert stream.caller.body == TEXT
    stream.provider.says(STOP[10:])
    assert stream.caller.body == TEXT + STOP


def test_a_plain_answer_is_held_until_it_is_whole(plain: Attempt) -> None:
    plain.provider.says(PLAIN % 4 + b"{}")
    assert not plain.is_ready()
    plain.provider.says(b"  ")
    assert plain.is_ready()
    assert plain.answer.is_whole
    assert plain.answer.body == b"{}  "


def test_a_large_plain_answer_is_not_held_for_ever(plain: Attempt) -> None:
    size = 3 * HOLD_BYTES
    plain.provider.says(PLAIN % size + b"x" * (HOLD_BYTES + 1))
    plain.relay()
    plain.provider.says(b"x" * (size - HOLD_BYTES - 1))
    assert len(plain.caller.body) == size
    assert plain.caller.end_calls == ["end"]


def test_what_is_passed_through_goes_on_as_it_comes(passed: Attempt) -> None:
    passed.provider.says(STREAM)
    passed.relay()
    passed.provider.says(b"da")
    assert passed.caller.body == b"da"
    passed.provider.hangs_up()
    assert passed.caller.end_calls == ["end"]
    assert passed.answer.done.is_set


def test_the_length_is_known_where_bytes_pass_unchanged(plain: Attempt, stream: Attempt) -> None:
    plain.provider.says(PLAIN % 4)
    assert plain.answer.length == 4
    stream.provider.says(STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: 500\r\n\r\n"))
    assert stream.answer.length is None


# --- ends -----------------------------------------------------------------------------------------------


def test_a_complete_stream_ends_cleanly(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT + STOP + DONE)
    stream.relay()
    stream.provider.hangs_up()
    assert stream.caller.body == TEXT + STOP + DONE
    assert stream.caller.end_calls == ["end"]


def test_a_stream_that_was_whole_before_it_was_relayed_ends_cleanly(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT + STOP)
    stream.provider.hangs_up()
    stream.relay()
    assert stream.caller.body == TEXT + STOP
    assert stream.caller.end_calls == ["end"]


def test_a_cut_stream_ends_once_in_an_error_event(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    stream.provider.says(STOP[:10])
    stream.provider.hangs_up(ConnectionResetError())
    stream.answer.cancel()
    assert stream.caller.body.startswith(TEXT + b'data: {"error":')
    assert stream.caller.end_calls == ["cut"]
    assert (stream.code, stream.x.flag) == ("upstream_cut", "UC")


def test_giving_an_answer_up_cuts_it_and_closes_the_provider(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    stream.answer.cancel()
    assert stream.provider.transport.is_aborted


@pytest.mark.parametrize("how", ["end", "cut", "cancelled"])
def test_is_in_flight_at_its_endpoint_until_it_is_over(stream: Attempt, how: str) -> None:
    assert stream.endpoint.in_flight == 1
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    assert stream.endpoint.in_flight == 1
    if how == "end":
        stream.provider.says(STOP)
    if how != "cancelled":
        stream.provider.hangs_up()
    stream.answer.cancel()
    assert stream.endpoint.in_flight == 0


@pytest.mark.parametrize("step", [1, 2, 5])
def test_small_reads_amid_a_stream_change_nothing(stream: Attempt, step: int) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    stream.provider.says(TEXT + b": hi\n\n" + STOP + DONE, step=step)
    stream.provider.hangs_up()
    assert stream.caller.body == TEXT * 2 + b": hi\n\n" + STOP + DONE
    assert stream.caller.end_calls == ["end"]


@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_the_event_behind_an_oversized_one_is_read_wherever_that_is_split(eol: bytes) -> None:
    large = b"data: " + b'{"choices":[{"delta":{"content":"%b"}}]}' % (b"x" * MAX_HELD_BYTES) + eol * 2
    done = b"data: [DONE]" + eol * 2
    unfinished = []
    for back in range(len(eol) * 2 + 2):
        stream = Attempt(b'{"model":"m","stream":true}')
        cut = len(large) - back
        stream.provider.says(STREAM + large[:cut])
        stream.provider.says(large[cut:] + done)
        stream.provider.hangs_up()
        stream.answer.relay()
        if stream.caller.body != large + done or stream.caller.end_calls != ["end"]:
            unfinished.append(back)
    assert unfinished == []


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
EARLY = b'data: {"choices":[{"delta":{"content":"H"}}]}\n\n'
FAILED = b'data: {"error":{"message":"the engine died"}}\n\n'


def resumed(text: str) -> Attempt:
    """A second stream, asked anew, for a caller that has the text."""
    stream = Attempt(b'{"model":"m","stream":true}')
    delivered = Delivered("chat", Call({}, "m", True))
    delivered.note({"choices": [{"delta": {"content": text}}]})
    stream.answer.delivered, stream.answer.joiner = delivered, Joiner(delivered, Mode.RESTART)
    return stream


@pytest.mark.parametrize("step", [None, 20], ids=["at once", "bit by bit"])
@pytest.mark.parametrize("end", [STOP + DONE, DONE, STOP + b"data: <html>\n\n"])
def test_a_second_stream_that_ends_before_it_is_joined_is_a_mismatch(end: bytes, step: int | None) -> None:
    stream = resumed("Hi there")
    stream.provider.says(STREAM + EARLY + end, step=step)
    stream.provider.hangs_up()
    assert stream.code == "resume_mismatch"
    assert stream.is_ready()
    assert stream.endpoint.in_flight == 0
    assert stream.answer.body == b""


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_an_end_alone_is_no_answer(stream: Attempt, error: Exception | None) -> None:
    stream.provider.says(STREAM + b": hi\n\n" + DONE)
    assert not stream.is_ready()
    stream.provider.hangs_up(error)
    assert stream.code == "upstream_empty"
    assert stream.endpoint.in_flight == 0


def test_an_end_alone_is_no_answer_though_nobody_hangs_up(stream: Attempt) -> None:
    stream.provider.says(STREAM + DONE)
    stream.clock.advance(TIMEOUTS.first_token_s + 2 * PERIOD_S)
    assert stream.code == "upstream_empty"
    assert stream.provider.transport.is_aborted


def test_garbage_behind_the_end_of_an_answer_leaves_it_whole(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT + STOP + b"data: <html>\n\n")
    stream.relay()
    assert stream.caller.body == TEXT + STOP
    assert stream.caller.end_calls == ["end"]


def test_text_behind_a_finish_reason_makes_the_end_that_follows_a_cut(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT + STOP)
    stream.relay()
    stream.provider.says(TEXT)
    stream.provider.hangs_up(ConnectionResetError())
    assert stream.code == "upstream_cut"
    assert stream.caller.end_calls == ["cut"]


@pytest.mark.parametrize("end", ["in order", "reset"])
def test_a_provider_that_says_it_failed_is_believed_and_passed_on(stream: Attempt, end: str) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    stream.provider.says(FAILED)
    stream.provider.hangs_up(None if end == "in order" else ConnectionResetError())
    assert stream.caller.body.startswith(TEXT + FAILED)
    assert stream.answer.has_failed
    assert (stream.x.flag, stream.x.has_failed) == ("SE" if end == "in order" else "UC", True)
    assert stream.caller.end_calls == ["end" if end == "in order" else "cut"]


def test_a_stream_that_said_it_failed_is_not_gone_on_with(stream: Attempt) -> None:
    stream.answer.delivered = delivered = Delivered("chat", Call({}, "m", True))
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    assert delivered.text == "Hi"
    stream.provider.says(FAILED)
    stream.provider.hangs_up(ConnectionResetError())
    assert not delivered.is_resumable
    assert stream.caller.end_calls == ["cut"]


@pytest.mark.parametrize("tail", [b"", b"\n", b"data: ", b'data: {"type":"image_generation.comp'])
def test_an_image_stream_that_breaks_off_in_order_is_cut(tail: bytes) -> None:
    part = b'data: {"type":"image_generation.partial_image","b64_json":"QUJD"}\n\n'
    stream = Attempt(b'{"model":"m","stream":true}', kind="images")
    stream.provider.says(STREAM + part)
    stream.relay()
    stream.provider.says(part + tail)
    stream.provider.hangs_up()
    assert stream.code == "upstream_cut"
    assert stream.caller.body.startswith(part * 2 + b"data: {")
    assert stream.caller.end_calls == ["cut"]


@pytest.mark.parametrize("step", [None, 65_536])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_images_too_large_to_be_held_are_whole_with_the_last_one(
    step: int | None, error: Exception | None
) -> None:
    def image(name: bytes) -> bytes:
        data = b'{"type":"%b","b64_json":"%b","usage":{"input_tokens":1,"output_tokens":2}}'
        return b"event: %b\ndata: %b\n\n" % (name, data % (name, b"x" * 3 * MAX_HELD_BYTES))

    raw = image(b"image_generation.partial_image") + image(b"image_generation.completed")
    stream = Attempt(b'{"model":"m","stream":true}', kind="images")
    stream.provider.says(STREAM + raw, step=step)
    stream.relay()
    stream.provider.hangs_up(error)
    assert stream.caller.body == raw
    assert stream.caller.end_calls == ["end"]
    assert stream.answer.reader is not None
    assert stream.answer.reader.usage is not None
    assert stream.answer.reader.usage.output == 2


# --- sound ----------------------------------------------------------------------------------------------

AUDIO = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def speech() -> Attempt:
    return Attempt(b'{"model":"m","input":"hi","voice":"alloy"}', kind="speech")


def test_sound_goes_on_from_its_first_byte(speech: Attempt) -> None:
    speech.provider.says(AUDIO)
    assert not speech.is_ready()
    speech.provider.says(b"1\r\na\r\n")
    speech.relay()
    assert speech.caller.body == b"a"
    speech.provider.says(b"1\r\nb\r\n0\r\n\r\n")
    assert (speech.caller.body, speech.caller.end_calls) == (b"ab", ["end"])


def test_sound_that_is_whole_at_once_is_whole(speech: Attempt) -> None:
    speech.provider.says(AUDIO + b"1\r\na\r\n0\r\n\r\n")
    speech.relay()
    assert (speech.caller.body, speech.caller.end_calls) == (b"a", ["end"])


def test_sound_without_a_byte_is_an_error(speech: Attempt) -> None:
    speech.provider.says(AUDIO + b"0\r\n\r\n")
    assert speech.code == "upstream_empty"


def test_sound_that_breaks_off_is_cut_without_a_word(speech: Attempt) -> None:
    speech.provider.says(AUDIO + b"1\r\na\r\n")
    speech.relay()
    speech.provider.hangs_up(ConnectionResetError())
    assert (speech.caller.body, speech.caller.end_calls) == (b"a", ["cut"])
    assert (speech.code, speech.x.flag) == ("upstream_cut", "UC")


def test_sound_has_the_whole_answers_time_to_begin_and_may_then_not_fall_silent(speech: Attempt) -> None:
    speech.clock.advance(TIMEOUTS.answer_s - 0.2)
    assert speech.code == ""
    speech.provider.says(AUDIO + b"1\r\na\r\n")
    speech.relay()
    for _ in range(5):
        speech.clock.advance(TIMEOUTS.idle_s - 0.1)
        speech.provider.says(b"1\r\na\r\n")
    assert speech.code == ""
    speech.clock.advance(TIMEOUTS.idle_s + 2 * PERIOD_S)
    assert (speech.code, speech.caller.end_calls) == ("upstream_timeout", ["cut"])


@pytest.mark.parametrize(
    ("status", "content_type", "kind"),
    [(500, b"audio/mpeg", "speech"), (200, b"application/json", "speech"), (200, b"audio/mpeg", "chat")],
)
def test_errors_and_text_are_held_until_they_are_whole(status: int, content_type: bytes, kind: str) -> None:
    held = Attempt(b'{"model":"m"}', kind=kind)
    held.provider.says(
        b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: 4\r\n\r\n{}" % (status, content_type)
    )
    assert not held.is_ready()


# --- ends that only the connection tells ----------------------------------------------------------------

UNFRAMED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


def test_json_that_ends_with_its_connection_is_whole_if_it_is_json(plain: Attempt) -> None:
    plain.provider.says(UNFRAMED + b'{"a":{"b":1}}')
    plain.provider.hangs_up()
    assert (plain.code, plain.answer.is_whole) == ("", True)


def test_half_of_json_that_ends_with_its_connection_is_cut(plain: Attempt) -> None:
    plain.provider.says(UNFRAMED + b'{"a":{"b":1}')
    plain.provider.hangs_up()
    assert (plain.code, plain.answer.is_whole) == ("upstream_cut", False)


def test_half_of_a_long_json_that_ends_with_its_connection_is_cut(plain: Attempt) -> None:
    plain.provider.says(UNFRAMED + b'{"a":"' + b"x" * HOLD_BYTES)
    plain.relay()
    plain.provider.hangs_up()
    assert (plain.code, plain.caller.end_calls) == ("upstream_cut", ["cut"])


# --- time -----------------------------------------------------------------------------------------------


def test_the_first_token_has_its_own_limit(stream: Attempt) -> None:
    stream.provider.says(STREAM)
    for _ in range(28):
        stream.clock.advance(0.1)
        stream.provider.says(b": still here\n\n")
    assert stream.code == ""
    stream.clock.advance(0.3)
    assert stream.code == "upstream_timeout"
    assert stream.answer.error is not None
    assert stream.answer.error.flag == "FT"
    assert stream.provider.transport.is_aborted


def test_a_long_prompt_has_more_time_to_its_first_token() -> None:
    filler = b"x" * (4 * PROMPT_STEP_BYTES)
    stream = Attempt(b'{"model":"m","stream":true,"x":"%b"}' % filler)
    stream.clock.advance(TIMEOUTS.first_token_s + 3.9)
    assert stream.code == ""
    stream.clock.advance(0.2)
    assert stream.code == "upstream_timeout"


def test_a_streamed_picture_may_take_as_long_as_a_plain_one() -> None:
    stream = Attempt(b'{"model":"m","stream":true}', kind="images")
    stream.clock.advance(TIMEOUTS.answer_s - 0.2)
    assert stream.code == ""
    stream.clock.advance(0.4)
    assert stream.code == "upstream_timeout"


def test_any_byte_keeps_a_stream_alive_but_silence_does_not(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    for _ in range(5):
        stream.clock.advance(1.9)
        stream.provider.says(b":\n\n")
    assert stream.code == ""
    stream.clock.advance(2.0 + 2 * PERIOD_S)
    assert stream.code == "upstream_timeout"
    assert stream.caller.end_calls == ["cut"]


def test_a_stream_that_came_to_its_end_is_finished_though_nobody_hangs_up(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT + STOP + DONE)
    stream.relay()
    assert stream.caller.end_calls == []
    stream.clock.advance(HANG_UP_S + 2 * PERIOD_S)
    assert stream.caller.end_calls == ["end"]
    assert stream.caller.body == TEXT + STOP + DONE
    assert stream.provider.transport.is_aborted


@pytest.mark.parametrize("nothing", [b'""', b'"null"', b"null"])
def test_a_finish_reason_that_says_nothing_lets_nobody_be_hung_up_on(nothing: bytes) -> None:
    token = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":%b}]}\n\n' % nothing
    stream = Attempt(b'{"model":"m","stream":true}', timeouts=PATIENT)
    stream.provider.says(STREAM + token)
    stream.relay()
    for _ in range(3):
        stream.clock.advance(2 * HANG_UP_S)
        assert stream.caller.end_calls == []
        stream.provider.says(token)
    stream.provider.hangs_up()
    assert (stream.code, stream.caller.end_calls) == ("upstream_cut", ["cut"])


@pytest.mark.parametrize("is_asked_by", ["caller", "sidecar"])
def test_the_usage_that_was_asked_for_may_come_late(is_asked_by: str) -> None:
    is_ours = is_asked_by == "sidecar"
    options = b"" if is_ours else b',"stream_options":{"include_usage":true}'
    body = b'{"model":"m","stream":true%b}' % options
    stream = Attempt(body, timeouts=PATIENT, strips_usage=is_ours)
    stream.provider.says(STREAM + TEXT + STOP)
    stream.relay()
    stream.clock.advance(2 * HANG_UP_S)
    assert stream.caller.end_calls == []
    stream.provider.says(USAGE)
    assert stream.answer.reader is not None
    assert stream.answer.reader.usage is not None
    stream.clock.advance(HANG_UP_S + 2 * PERIOD_S)
    assert stream.caller.end_calls == ["end"]


def test_the_usage_that_never_comes_is_waited_for_as_long_as_for_any_byte() -> None:
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    stream = Attempt(body, timeouts=PATIENT)
    stream.provider.says(STREAM + TEXT + STOP)
    stream.relay()
    stream.clock.advance(PATIENT.idle_s - PERIOD_S)
    assert stream.caller.end_calls == []
    stream.clock.advance(3 * PERIOD_S)
    assert (stream.code, stream.caller.end_calls) == ("", ["end"])


def test_a_plain_answer_has_one_limit_over_all(plain: Attempt) -> None:
    plain.provider.says(PLAIN % 1000)
    for _ in range(48):
        plain.clock.advance(0.1)
        plain.provider.says(b"x")
    assert plain.code == ""
    plain.clock.advance(0.3)
    assert plain.code == "upstream_timeout"


def test_a_caller_that_does_not_read_is_not_the_providers_silence(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    assert stream.caller.source is not None
    stream.caller.source.pause_reading()
    assert not stream.provider.transport.is_reading()
    stream.clock.advance(10.0)
    assert stream.code == ""
    stream.caller.source.resume_reading()
    assert stream.provider.transport.is_reading()
    stream.clock.advance(1.9)
    assert stream.code == ""
    stream.clock.advance(0.3)
    assert stream.code == "upstream_timeout"


def test_the_total_time_holds_for_a_caller_that_does_not_read(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    assert stream.caller.source is not None
    stream.caller.source.pause_reading()
    stream.clock.advance(TIMEOUTS.total_s + 1.0)
    assert stream.code == "upstream_timeout"


@pytest.mark.parametrize("lag_s", [0.0, 3600.0])
def test_the_total_time_is_not_stretched_by_an_earlier_stop_of_the_process(lag_s: float) -> None:
    """The ticker's clock falls behind the monotonic one by each such stop, and stays behind."""
    stream = Attempt(b'{"model":"m","stream":true}', lag_s=lag_s)
    stream.provider.says(STREAM + TEXT)
    stream.relay()
    for _ in range(25):
        stream.clock.advance(1.0)
        if stream.code:
            break
        stream.provider.says(b":\n\n")
    assert stream.code == "upstream_timeout"


def test_an_answer_that_is_over_is_not_timed(stream: Attempt) -> None:
    stream.provider.says(STREAM + TEXT + STOP)
    stream.relay()
    stream.provider.hangs_up()
    stream.clock.advance(60.0)
    assert stream.code == ""
    assert stream.caller.end_calls == ["end"]
