"""English askings in one form, and those that look alike but ask something else."""

import pytest

from sidecar.cache.canonical import canonical

EGG = "how to boil an egg"
CACHE = "what is a semantic cache"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("How do I boil an egg?", EGG),
        ("how can i boil an egg", EGG),
        ("How to boil an egg", EGG),
        ("HOW to boil an egg!", EGG),
        ("I want to boil an egg. How do I do that?", EGG),
        ("What's the best way to boil an egg?", EGG),
        ("What are the steps to boil an egg?", EGG),
        ("Hi, can you please tell me how to boil an egg?", EGG),
        ("Good morning! Could you explain how I can boil an egg? Thanks!", EGG),
        ("Please, could you tell me how to boil an egg, please?", EGG),
        ("I’d rather not boil an egg, should I?", "i'd rather not boil an egg, should i?"),
        ("What is a semantic cache?", CACHE),
        ("What's a semantic cache??", CACHE),
        ("Tell me what a semantic cache is.", CACHE),
        ("Can you explain what a semantic cache is?", CACHE),
        ("Define a semantic cache", CACHE),
        ("Please explain a semantic cache.", CACHE),
        ("Tell me what black holes are", "what are black holes"),
        ("Explain supply and demand", "what is supply and demand"),
        ("Explain AI", "what is AI"),
        ("How do I install Docker on my Mac?", "how to install docker on my mac"),
        ("What does GDPR say about JavaScript?", "what does gdpr say about javascript"),
        ("Why don't you know what I can't?", "why do not you know what i cannot"),
        ("Write a poem about the sea", "write a poem about the sea"),
    ],
)
def test_ways_to_ask_the_same_have_one_form(text: str, form: str) -> None:
    assert canonical(text) == form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Words that look like ornament.
        ("What is vitamin A deficiency?", "What is vitamin deficiency?"),
        ("Name a tree in the park", "Name the trees in the park"),
        ("How do I say please in Japanese?", "How do I say in Japanese?"),
        ("How do you say thank you", "How do you say"),
        ("Tell me about the Hello world program", "Tell me about the world program"),
        ("Hello, world program in C for the web", "world program in C for the web"),
        # Who does it, and whether it may.
        ("How do you store my data?", "How do I store my data?"),
        ("How should I store my data?", "How do I store my data?"),
        ("How can I not fail the test?", "How can I fail the test?"),
        ("Can I travel with the dog?", "Should I travel with the dog?"),
        ("Why does he like me?", "Why does she like me?"),
        # A name that is an explanation, or a value.
        ("Explain the monthly payment", "What is the monthly payment?"),
        ("Explain my bill", "What is my bill?"),
        ("Explain 2+2", "What is 2+2?"),
        ("Explain error 404", "What is error 404?"),
        ("Explain why the sky is blue", "What is why the sky is blue"),
        ("Describe a black hole", "What is a black hole?"),
        # Numbers and signs.
        ("What is 5!", "What is 5?"),
        ("What is n!", "What is n?"),
        ("What is 1.5", "What is 15"),
        ("What is -5 + 3", "What is 5 + 3"),
        ("What is the C++ standard", "What is the C standard"),
        ("What is the C# standard", "What is the C standard"),
        ("What is .NET for the web?", "What is NET for the web?"),
        ("Is it 50% of the sum?", "Is it 50 of the sum?"),
        # Capitals that are names.
        ("How do I find a job in IT?", "How do I find a job in it?"),
        ("Who are the people of US?", "Who are the people of us?"),
        ("What does Will want from the team?", "What does will want from the team?"),
        ("How many Mb are in a GB?", "How many MB are in a Gb?"),
        ("Is it 5 MBps or more?", "Is it 5 Mbps or more?"),
        ("What does 1 mW do to the eye?", "What does 1 MW do to the eye?"),
        ("Is there a B12 in the box?", "Is there a b12 in the box?"),
        ("Is the matrix A or B the larger one?", "Is the matrix a or b the larger one?"),
        # What is written into a terminal, or quoted.
        ("What does ls -l do to the list?", "What does ls -L do to the list?"),
        ("What is in $PATH for the shell?", "What is in $path for the shell?"),
        ("What does %s do in the date?", "What does %S do in the date?"),
        ("Reverse the word 'Hello' for me", "Reverse the word 'hello' for me"),
        # Marks.
        ("You are late for the show.", "You are late for the show?"),
        ("Give the list to my boss!", "Give the list to my boss"),
        ("Let's eat, grandma, with the dog", "Let's eat grandma with the dog"),
        # Two languages.
        ("Was war in Essen los", "Was war in essen los"),
        ("Cine are un an in Roma", "Cine are un an in roma"),
        ("Kto my do Rzymu i po co to", "Kto my do rzymu i po co to"),
        ("No me has visto a mi", "no me has Visto a mi"),
    ],
)
def test_what_looks_alike_and_asks_something_else_keeps_apart(one: str, other: str) -> None:
    assert (canonical(one) or one) != (canonical(other) or other)


@pytest.mark.parametrize(
    "text",
    [
        "Translate the word of the day to French",
        "Correct the grammar in he go to the school",
        "How many letters are in the word tree?",
        "Please capitalize the words of my title",
        "Repeat what I said to the team",
    ],
)
def test_who_speaks_about_wording_is_taken_by_the_letter(text: str) -> None:
    assert canonical(text) is None


@pytest.mark.parametrize("text", ["Please", "please.", "Hi", "Thanks!", "I", "Explain", "Could you please"])
def test_a_courtesy_alone_is_no_question(text: str) -> None:
    form = canonical(text)
    assert form is None or form.lower() in text.lower()
