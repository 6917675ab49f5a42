"""Turns of a question that one turn stands for, and those that only seem to ask the same."""

import pytest

from sidecar.cache.canonical import canonical
from sidecar.cache.meaning.turns import compared, framed, parted, without_please


def turned(text: str) -> str:
    """The text after all turns."""
    return parted(without_please(framed(compared(canonical(text) or text))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hi how do I change my password", "How do I change my password?"),
        ("Any idea how to unlock my phone?", "How do I unlock my phone?"),
        ("Do you know where the nearest bank is?", "Where is the nearest bank?"),
        ("I wonder who the president of Chile is", "Who is the president of Chile?"),
        ("I'd like to know what the refund policy is", "What is the refund policy?"),
        ("May I know why my order is late?", "Why is my order late?"),
        ("Kindly tell me how to renew my passport", "How do I renew my passport?"),
        ("Tell me where the Louvre is", "Where is the Louvre?"),
        ("Teach me how to change a tire", "How do I change a tire?"),
        ("Explain to me why water is wet", "Why is water wet?"),
        ("Do you know how many people live in Peru?", "What is the population of Peru?"),
        ("How do I login?", "How do I sign in?"),
        ("How do I setup a printer?", "How do I set up a printer?"),
        ("How can I purchase a ticket?", "How do I buy a ticket?"),
        ("How tall is the Burj tower?", "What is the height of the Burj tower?"),
        ("How far away is Mars?", "What is the distance to Mars?"),
        ("How far is it to Rome?", "What is the distance to Rome?"),
        ("What does a visa cost?", "How much does a visa cost?"),
        ("Who is Intel's CEO?", "Who is the CEO of Intel?"),
        ("Name the planets of the sun", "What are the planets of the sun?"),
        ("Give me the capital city of Peru", "What is the capital of Peru?"),
        ("Compose a haiku about rain", "Write a haiku about rain"),
        ("Explain the difference between TCP and UDP", "What is the difference between TCP and UDP?"),
        ("What symptoms does the flu have?", "What are the symptoms of flu?"),
        ("What color is the sky?", "What is the color of the sky?"),
        ("In which city is the Prado?", "What city is the Prado in?"),
        ("Which payment methods do you accept?", "What payment methods do you accept?"),
        ("Which mountain is the tallest in Asia?", "What is the tallest mountain in Asia?"),
        ("Which is the longest river?", "What is the longest river?"),
        ("How many days are there in May?", "How many days are in May?"),
        ("Where do I download the manual?", "Where can I download the manual?"),
        ("Why isn't it open?", "Why is it not open?"),
        ("Recommend me a book on sailing", "Recommend a book on sailing"),
        ("Tell me a funny joke", "Tell a funny joke"),
        ("How do I renew my passport please?", "How do I renew my passport?"),
    ],
)
def test_one_turn_stands_for_both(one: str, other: str) -> None:
    assert turned(one) == turned(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Who leads to a question may want something else.
        ("Do you know how to play chess?", "How do I play chess?"),
        ("Do you know what to cook?", "What to cook"),
        ("Do you know who I am?", "Who am I?"),
        ("Do you know what you want?", "What do you want?"),
        ("Tell me when the egg is done", "When is the egg done?"),
        ("Tell me the truth", "What is the truth?"),
        ("I want to know what love is", "What is love?"),
        ("I want to learn how to code", "How do I code?"),
        ("HI what is the sales tax?", "What is the sales tax?"),
        ("Is there a way to cure cancer?", "How do I cure cancer?"),
        ("What is the right way to pray?", "How do I pray?"),
        ("Name the baby of the king", "What is the baby of the king?"),
        # A measure may be another's.
        ("How high is the ISS?", "How tall is the ISS?"),
        ("How tall is a cloud?", "What is the height of a cloud?"),
        ("How old is Aquarius?", "What is the age of Aquarius?"),
        ("How far is a marathon?", "What is the distance to a marathon?"),
        ("How heavy is the rain?", "What is the weight of the rain?"),
        ("How many people lived in Paris?", "What is the population of Paris?"),
        ("What does a mistake cost?", "How much does a mistake cost?"),
        # What is had, done or asked of whom.
        ("What benefits do employees have?", "What are the benefits of employees?"),
        ("What do the people of Nigeria have?", "What are the people of Nigeria?"),
        ("What side effects did aspirin have?", "What are the side effects of aspirin?"),
        ("What was Caesar's murder?", "What was the murder of Caesar?"),
        ("What color is your parachute?", "What is the color of your parachute?"),
        ("What state is the patient in?", "Which state is the patient in?"),
        ("What company does he keep?", "Which company does he keep?"),
        ("What good is love?", "Which good is love?"),
        ("Which is the last supper?", "What is the last supper?"),
        ("In which app do I check?", "Which app do I check in?"),
        ("In what year was Einstein born?", "When was Einstein born?"),
        # What may, must or might be done.
        ("How would I die on Mars?", "How do I die on Mars?"),
        ("How might I die?", "How can I die?"),
        ("Where do I change trains?", "Where can I change trains?"),
        ("Where do I find myself in ten years?", "Where can I find myself in ten years?"),
        ("Why don't we go to the beach?", "Why do we not go to the beach?"),
        ("Why can't I pay?", "Why can I not pay?"),
        ("Why don't all cats purr?", "Why do all cats not purr?"),
        # For whom, and what is no courtesy.
        ("Write me a letter", "Write a letter"),
        ("Recommend me for the job", "Recommend for the job"),
        ("Compose a function", "Write a function"),
        ("Who do I have to please?", "Who do I have to?"),
        ("Whisper hello please", "Whisper hello"),
        ("How does a good waiter please?", "How does a good waiter?"),
        ("How far is it to go?", "What is the distance to go?"),
        ("What color is the new black?", "What is the color of the new black?"),
        ("What is Capital City Bank?", "What is Capital Bank?"),
        ("How do I sign in blue ink?", "How do I log in blue ink?"),
        ("How do I log in Java?", "How do I login Java?"),
    ],
)
def test_what_only_seems_to_be_a_turn_of_it_stays(one: str, other: str) -> None:
    assert turned(one) != turned(other)


@pytest.mark.parametrize("text", ["", "what", "how to", "do you know", "which", "why not it", "?", "the flu"])
def test_what_has_no_turn_stays_as_it_is(text: str) -> None:
    assert parted(without_please(framed(compared(text)))) == text


def test_a_turn_takes_the_question_mark_and_nothing_else_does() -> None:
    assert framed("how many people live in Rome?") == "what is the population of Rome"
    assert framed("how many ants live in Rome?") == "how many ants live in Rome?"
