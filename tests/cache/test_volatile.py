"""Questions that are not kept, as their answer changes."""

import unicodedata

import pytest

from sidecar.cache.volatile import QUESTION_CHARS, is_volatile


@pytest.mark.parametrize(
    "text",
    [
        "What is the weather in Rome?",
        "who won TODAY",
        "What's the latest version of Python?",
        "Bitcoin price?",
        "what happened this week",
        "Give me a random number",
        "What time is it in Tokyo?",
        "What's the time?",
        "what is the exact date",
        "What day is it?",
        "Is GitHub down?",
        "Is it raining in Berlin?",
        "How many days until Christmas?",
        "When is the next train?",
        "What is the temperature in Paris?",
        "What is the USD to EUR rate?",
        "Roll two dice",
        "Please flip a coin.",
        "Generate a UUID",
        "Can you pick a number between 1 and 10?",
        "Tell me a joke",
        "Tell me another one",
        "Try again",
        "Wie ist das Wetter in Bonn?",
        "Wie spät ist es",
        "Quelle heure est-il ?",
        "¿Qué tiempo hará mañana?",
        unicodedata.normalize("NFD", "¿Qué tiempo hará mañana?"),
        "Que horas são agora?",
        "che tempo fa oggi",
        "Che ore sono?",
        "Hoe laat is het?",
        "Która godzina?",
        "Saat kaç?",
        "wat is het nieuws",
        "jaka jest pogoda",
        "bugün hava nasıl",
        "Какая погода в Москве?",
        "Скільки зараз градусів",
        "今天天气怎么样？",
        "今日のニュース",
        "오늘 날씨 어때",
        "ما هو الطقس اليوم",
        "आज मौसम कैसा है",
        "วันนี้อากาศเป็นอย่างไร",
    ],
)
def test_knows_questions_about_now(text: str) -> None:
    assert is_volatile(text)


@pytest.mark.parametrize(
    "text",
    [
        "How do I boil an egg?",
        "What is the capital of France?",
        "Write a poem about the sea",
        "Is this a question?",
        "How many days are in a week?",
        "Wie wird man Arzt?",
        "¿Cuál es la capital de Perú?",
        "Pourquoi le ciel est-il bleu ?",
        "Почему небо голубое?",
        "法国的首都是哪里？",
        "Snow is white, knowledge is power",
        "How do I roll back a release?",
        "What is the date of the French Revolution?",
        "What is a UUID?",
        "How do I choose a card game for six?",
        "Is a whale a fish?",
        "What is the time between two full moons?",
    ],
)
def test_leaves_lasting_questions_alone(text: str) -> None:
    assert not is_volatile(text)


def test_a_long_text_is_judged_by_its_beginning_and_its_end() -> None:
    padding = "word " * QUESTION_CHARS
    assert not is_volatile(f"{padding} today {padding}")
    assert is_volatile(f"Today: {padding}")
    assert is_volatile(f"{padding} what is new today?")
