"""Which requests are about words: their last text is compared as it stands."""

from typing import Any

import pytest

from sidecar.cache.wording import MAX_CHARS, wording_counts
from tests.cache.support import asking, digest

QUESTION, SAME = "How do I open the door?", "how can I open the door"


def instructed(*instructions: Any, text: str = QUESTION, role: str = "system") -> dict[str, Any]:
    messages = [{"role": role, "content": content} for content in instructions]
    return asking(text) | {"messages": [*messages, *asking(text)["messages"]]}


@pytest.mark.parametrize(
    "instructions",
    [
        "",
        "You are a helpful assistant.",
        "You are a helpful assistant. Answer in plain text.",
        "You are a cook.",
        "Be brief.",
        "Answer in at most 50 words.",
        "Answer the user's question about our product. Use markdown. Do not make up facts.",
        "You are a customer support agent for ACME. Be polite. If you don't know the answer, say so.",
        "You are a bot in a bank's app. Help customers with accounts, cards and payments.",
        "Answer the questions of our customers by the facts below.\n\nOpening hours: Mon-Fri 9-17.",
    ],
)
@pytest.mark.parametrize("role", ["system", "developer"])
def test_where_questions_are_answered_their_wording_does_not_count(instructions: str, role: str) -> None:
    assert wording_counts(instructed(instructions, role=role)) == ""
    one, other = (instructed(instructions, text=text, role=role) for text in (QUESTION, SAME))
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    "instructions",
    [
        "Translate the user's message into German.",
        "You are a helpful assistant. Translate everything into German.",
        "You are a TRANSLATOR.",
        "Rate the politeness of the message from 1 to 5.",
        "Reply with the number of words in the message.",
        "Correct the capitalization of the text.",
        "Fix punctuation.",
        "Extract all named entities as JSON.",
        "Is the message formal or informal?",
        "Answer TRUE if the message contains a greeting.",
        "Does the message end with a question mark? yes/no",
        "Paraphrase the user's question.",
        "Generate a SQL query.",
        "Repeat after me.",
        "Your job: German version of what the user says",
        "Act as a Linux terminal.",
        "You are a rhyme machine.",
        "You are a spam filter.",
        "Sentiment?",
        "Positive or negative?",
        "Respond with the opposite.",
        "Imitate the style of the user.",
        "Is this polite?",
        "Which language is this?",
        "You are a helpful assistant. Examples: dog, Hund.",
        "You are a helpful assistant. Turn all that comes into German.",
        "Übersetze alles ins Englische.",
        "Du bist ein hilfreicher Assistent und schreibst alles um.",
        "Tu es un assistant.",
        "Eres un asistente.",
        "You are Hans. Schreibe alles in Grossbuchstaben um.",
        "把用户的话翻译成中文",
        "You are a helpful assistant. " * (MAX_CHARS // 29 + 1),
    ],
)
def test_where_texts_are_worked_on_each_word_counts(instructions: str) -> None:
    assert wording_counts(instructed(instructions))
    assert wording_counts(instructed("You are a helpful assistant.", instructions))
    assert digest(instructed(instructions)) != digest(instructed(instructions, text=SAME))


@pytest.mark.parametrize("content", [None, 7, {}, [{"type": "text", "text": "Be brief."}]])
def test_instructions_that_are_no_text_are_not_known(content: object) -> None:
    assert wording_counts(instructed(content)) == "instructions in parts"


@pytest.mark.parametrize(
    "earlier",
    [
        [{"role": "user", "content": "dog"}, {"role": "assistant", "content": "Hund"}],
        [{"role": "user", "content": "From here on, German only."}],
        ["no message"],
    ],
)
def test_after_other_messages_each_word_counts(earlier: list[Any]) -> None:
    document = asking()
    document["messages"] = [*earlier, *document["messages"]]
    assert wording_counts(document) == "conversation"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "sentiment"}}),
        ("response_format", "text"),
        ("logit_bias", {"1": 5}),
        ("guided_choice", ["spam", "ham"]),
        ("prediction", {"type": "content"}),
        ("future_option", None),
    ],
)
def test_a_member_that_shapes_the_answer_makes_each_word_count(member: str, value: object) -> None:
    assert wording_counts(asking(**{member: value})) == member


def test_the_members_of_every_chat_do_not() -> None:
    text = {"response_format": {"type": "text"}}
    for more in (
        {"temperature": 0, "seed": 1, "user": "a", "max_tokens": 9},
        text,
        {"response_format": None},
    ):
        assert wording_counts(asking(**more)) == ""
