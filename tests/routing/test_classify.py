"""Rules that choose a model by what the request is: importance, words, length, question, tools, images."""

from typing import Any

import pytest

from sidecar.config.model import When
from sidecar.routing.classify import SEARCHED_CHARS, Classifier
from tests.routing.support import user


def holds(document: dict[str, Any], said: str | None = None, /, **when: Any) -> bool:
    """Whether a rule with these conditions matches."""
    fields = {} if said is None else {b"x-sidecar-importance": said.encode()}
    return Classifier([When(**when)]).choose(document, fields) == 0


def says(text: str, *keywords: str) -> bool:
    return holds(user(text), keywords=keywords)


# --- which rule ----------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_is_chosen() -> None:
    rules = Classifier([When(keywords=("sql",)), When(min_chars=10), When(keywords=("python",))])
    assert rules.choose(user("sql and python"), {}) == 0
    assert rules.choose(user("python it is"), {}) == 1
    assert rules.choose(user("python"), {}) == 2
    assert rules.choose(user("hello"), {}) is None


def test_every_condition_of_a_rule_must_hold() -> None:
    when: dict[str, Any] = {
        "importance": "critical",
        "keywords": ("compare",),
        "min_chars": 10,
        "max_chars": 40,
        "question": True,
        "tools": True,
        "images": True,
    }
    picture = {"type": "image_url", "image_url": {"url": "https://a.example"}}

    def matches(text: str = "compare these two?", importance: str = "critical", **more: Any) -> bool:
        document = user([{"type": "text", "text": text}, picture]) | {"tools": [{}]} | more
        return holds(document, importance, **when)

    assert matches()
    assert not matches(importance="normal")
    assert not matches("measure these two?")
    assert not matches("compare?")
    assert not matches(f"compare {'these ' * 10}?")
    assert not matches("compare these two")
    assert not matches(tools=[])
    assert not matches(messages=[{"role": "user", "content": "compare these two?"}])


@pytest.mark.parametrize("said", [None, "normal", "", "high", "criticality"])
def test_importance_is_normal_unless_it_is_critical(said: str | None) -> None:
    assert holds({}, said, importance="normal")
    assert not holds({}, said, importance="critical")


@pytest.mark.parametrize("said", ["critical", "Critical"])
def test_importance_is_critical_where_the_header_says_so(said: str) -> None:
    assert holds({}, said, importance="critical")
    assert not holds({}, said, importance="normal")


# --- keywords ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("Please ANALYZE this", "analyze"),
        ("please analyze", "Analyze"),
        ("(reason)", "reason"),
        ("compare, then decide", "compare"),
        ("step by step please", "step by step"),
        ("unreasonable reason", "reason"),
        ("STRASSE", "straße"),
        ("Сравните, пожалуйста", "сравните"),
        ("re\u0301sume\u0301 bitte", "résumé"),
        ("तुलना करो", "तुलना"),
        ("use c++.", "c++"),
        ("try ```sql", "```"),
        # Scripts without spaces.
        ("请比较这两个方案", "比较"),
        ("この文章を分析してください", "分析"),
        ("이 글을 분석해 주세요", "분석"),
        ("ช่วยวิเคราะห์ข้อความนี้", "วิเคราะห์"),
        ("这个GPU很好", "gpu"),
        ("GPU版", "版"),
        ("API를 써 줘", "API"),
    ],
)
def test_a_keyword_is_found(text: str, keyword: str) -> None:
    assert says(text, "absent", keyword)


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("reasonable", "reason"),
        ("unreason", "reason"),
        ("reason_code", "reason"),
        ("reason2", "reason"),
        ("сравнительный", "сравни"),
        ("re\u0301sume\u0301e", "résumé"),
        ("तुलना", "तुलन"),  # what follows is a vowel sign, not a letter
        ("step  by step", "step by step"),
        ("cc++", "c++"),
        ("", "reason"),
    ],
)
def test_a_keyword_inside_a_longer_word_is_not_found(text: str, keyword: str) -> None:
    assert not says(text, keyword)


def test_what_stands_in_many_longer_words_is_looked_for_within_bounds() -> None:
    assert says("reasons " * 200 + "reason", "reason")
    assert not says("reasons " * 300 + "reason", "reason")


# --- length and questions ------------------------------------------------------------------------------


def test_lengths_count_characters_and_include_their_bounds() -> None:
    assert holds(user("你好吗"), min_chars=3, max_chars=3)
    assert not holds(user("你好吗"), min_chars=4)
    assert not holds(user("你好吗"), max_chars=2)
    assert holds(
        user([{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]), min_chars=3, max_chars=3
    )


def test_the_length_counts_whole_and_the_search_ends_early() -> None:
    filler = "x" * SEARCHED_CHARS
    for content in (filler + " reason?", [{"type": "text", "text": part} for part in (filler, "reason?")]):
        assert holds(user(content), min_chars=SEARCHED_CHARS + 7)
        assert not holds(user(content), keywords=("reason",))
        assert holds(user(content), question=False)
    assert says("x" * (SEARCHED_CHARS - 7) + " reason and more", "reason")
    nearly = [{"type": "text", "text": part} for part in (filler[6:], "reason")]
    assert not holds(user(nearly), keywords=("reason",))


@pytest.mark.parametrize(
    "text",
    [
        "why?",
        "why? tell me",
        "为什么？",
        "لماذا؟",
        "γιατί\u037e",
        "ինչու՞",
        "ለምን፧",
        "really?!",
        "¿por qué?",
        "why ❓",
    ],
)
def test_a_question_mark_of_any_script_makes_a_question(text: str) -> None:
    assert holds(user(text), question=True)
    assert not holds(user(text), question=False)


@pytest.mark.parametrize("text", ["tell me", "γιατί;", "a; b", "", "!"])
def test_without_one_it_is_no_question(text: str) -> None:
    assert holds(user(text), question=False)
    assert not holds(user(text), question=True)


# --- tools and images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tools", [{"tools": [{"type": "function"}]}, {"functions": [{"name": "f"}]}])
def test_tools_that_are_offered_are_seen(tools: dict[str, Any]) -> None:
    assert holds(tools, tools=True)
    assert not holds(tools, tools=False)


@pytest.mark.parametrize("tools", [{}, {"tools": []}, {"tools": None}, {"tools": "auto"}, {"functions": {}}])
def test_no_tools_are_none(tools: dict[str, Any]) -> None:
    assert holds(tools, tools=False)


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://a.example"}}


@pytest.mark.parametrize(
    "document",
    [
        user([{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "a"}}]),
        user([IMAGE]),
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "a"}]}]},
        {"input": [{"type": "image_url", "image_url": {"url": "a"}}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]}]},
        {"messages": [*user([IMAGE])["messages"], *[{"role": "user", "content": "and?"}] * 500]},
    ],
)
def test_an_image_in_any_message_is_seen(document: dict[str, Any]) -> None:
    assert holds(document, images=True)
    assert not holds(document, images=False)


@pytest.mark.parametrize(
    "document", [{}, user("image"), user([{"type": "text", "text": "image_url"}]), {"prompt": "an image"}]
)
def test_no_image_is_none(document: dict[str, Any]) -> None:
    assert holds(document, images=False)


# --- where the text stands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        user("reason"),
        user([{"type": "text", "text": "reason"}]),
        user([IMAGE, {"type": "text", "text": "now"}, {"type": "text", "text": "reason"}]),
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "reason"}]},
        {"messages": [*user("reason")["messages"], {"role": "assistant", "content": "I compare"}]},
        {"messages": [*user("reason")["messages"], {"role": "tool", "content": "compare"}]},
        {
            "messages": [
                *user("reason")["messages"],
                *user([{"type": "tool_result", "content": "a"}])["messages"],
            ]
        },
        {"input": "reason"},
        {"input": ["first", "reason"]},
        {"input": [{"type": "text", "text": "reason"}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "reason"}]}]},
        {"input": [{"role": "user", "content": "reason"}, {"type": "function_call_output", "output": "a"}]},
        {"prompt": "reason"},
        {"prompt": ["first", "reason"]},
    ],
)
def test_the_text_is_the_last_message_of_the_user_or_the_prompt(document: dict[str, Any]) -> None:
    assert holds(document, keywords=("reason",), min_chars=6)
    assert not holds(document, keywords=("compare",))


@pytest.mark.parametrize(
    "document",
    [
        {"messages": [*user("reason")["messages"], *user("hello")["messages"]]},
        {"messages": [*user("reason")["messages"], *user([IMAGE])["messages"]]},
        {"messages": [{"role": "system", "content": "reason"}]},
        {"messages": [{"role": "system", "content": "reason"}, *user("hello")["messages"]]},
        {"input": "hello", "instructions": "reason"},
        {"input": [1, 2, 3]},
    ],
)
def test_other_text_is_not_searched(document: dict[str, Any]) -> None:
    assert not holds(document, keywords=("reason",))


# --- whatever comes ------------------------------------------------------------------------------------

RUBBISH: list[Any] = [None, 7, 1.5, True, "a", [], {}, [None, 3, [], {}], {"role": "user"}, {"a": {"b": [1]}}]
EVERYTHING = [
    When(importance="critical"),
    When(keywords=("z",)),
    When(question=True),
    When(tools=True),
    When(images=True),
    When(min_chars=1_000_000),
]


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("name", ["messages", "input", "prompt", "tools", "functions"])
def test_a_body_of_any_shape_is_judged(name: str, rubbish: Any) -> None:
    rules = Classifier(EVERYTHING)
    expected = 3 if name in ("tools", "functions") and type(rubbish) is list and rubbish else None
    assert rules.choose({name: rubbish}, {}) == expected
    for value in (
        [rubbish],
        [{"role": "user", "content": rubbish}],
        [{"role": rubbish, "content": [rubbish]}],
    ):
        if name in ("messages", "input", "prompt"):
            assert rules.choose({name: value}, {}) is None
    parts = [{"type": rubbish, "text": rubbish, "content": rubbish}]
    assert rules.choose({"messages": [{"role": "user", "content": parts}]}, {}) is None


def test_no_message_and_no_depth_is_too_much() -> None:
    rules = Classifier(EVERYTHING)
    deep: list[Any] = []
    for _ in range(900):
        deep = [{"content": deep}, {"content": deep}]
    many = [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}] * 10_000
    bodies: list[Any] = [deep, many, [[]] * 100_000, [{"role": "user", "content": [{}] * 100_000}]]
    for messages in bodies:
        assert rules.choose({"messages": messages}, {}) is None
    assert rules.choose({"messages": [*many, *user("well?")["messages"]]}, {}) == 2
    assert rules.choose(user("\ud800 z"), {}) == 1
