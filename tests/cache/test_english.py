"""English askings in one form, those that look alike but ask something else, and what is English at all."""

import pytest

from sidecar.cache.canonical import canonical
from sidecar.cache.english import is_english, words_of

EGG = "how to boil an egg"
CACHE = "what is a semantic cache"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("How do I boil an egg?", EGG),
        ("how can i boil an egg", EGG),
        ("How can i boil an egg?", EGG),
        ("How to boil an egg", EGG),
        ("how to boil an egg.", EGG),
        ("I want to boil an egg. How do I do that?", EGG),
        ("i need to boil an egg. how can i do it", EGG),
        ("What's the best way to boil an egg?", EGG),
        ("What are the steps to boil an egg?", EGG),
        ("Hi, can you please tell me how to boil an egg?", EGG),
        ("Can you tell me how I can boil an egg?", EGG),
        ("Good morning! Could you explain how I can boil an egg? Thanks!", EGG),
        ("Please, could you tell me how to boil an egg?", EGG),
        ("What is a semantic cache?", CACHE),
        ("What's a semantic cache??", CACHE),
        ("Tell me what a semantic cache is.", CACHE),
        ("Can you explain what a semantic cache is?", CACHE),
        ("Tell me what black holes are", "what are black holes"),
        ("What does the GDPR say about Linux?", "what does the gdpr say about linux"),
        ("How do I install Docker on my Mac?", "how to install docker on my Mac"),
        ("how do i install docker on ubuntu", "how to install docker on ubuntu"),
        ("How do I install Docker on Ubuntu?", "how to install docker on ubuntu"),
        ("Write a poem about the sea.", "write a poem about the sea"),
        ("Could you please write a poem about the sea.", "write a poem about the sea"),
        ("I can't log in to my account", "i cannot log in to my account"),
        ("Can I change my order?", "can i change my order"),
        ("Do you ship to Canada?", "do you ship to canada"),
        ("Does the sun go down in Paris?", "does the sun go down in paris"),
        ("Can the dog eat grapes when I travel far?", "can the dog eat grapes when i travel far"),
        ("What payment methods do you accept?", "what payment methods do you accept"),
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
        ("Please your boss with this", "your boss with this"),
        ("please show dogs to the judge", "show dogs to the judge"),
        # Who does it, and whether it may.
        ("How do you store my data?", "How do I store my data?"),
        ("How should I store my data?", "How do I store my data?"),
        ("How can I not fail the test?", "How can I fail the test?"),
        ("Can I travel with the dog?", "Should I travel with the dog?"),
        ("Would you tell her the truth?", "Tell her the truth."),
        ("Can you explain contracts?", "Explain contracts."),
        # What one is or does, what befalls one, what one might do.
        ("How do I look in a suit?", "How can I look in a suit?"),
        ("How do I spend my money?", "How can I spend my money?"),
        ("How do I pay my rent?", "How can I pay my rent?"),
        ("How can I get fired?", "How to get fired"),
        ("How can I use a potato?", "How do I use a potato?"),
        ("How do I change?", "How can I change?"),
        ("How do I improve when I am tired?", "How can I improve when I am tired?"),
        ("How can i reset to zero in the loop?", "How can I reset to zero in the loop?"),
        ("How can I block them and still get calls?", "How to block them and still get calls?"),
        ("How can I lose weight but gain fat?", "How do I lose weight but gain fat?"),
        # The way to a place.
        ("What is the best way to plant 2?", "How do I plant 2?"),
        ("What are the steps to block B?", "How do I block B?"),
        # Films, songs, and whose it is.
        ("How to save a life", "How do I save a life?"),
        ("How to train your dragon", "How do I train your dragon?"),
        ("Tell me how I met your mother", "How I met your mother"),
        ("I want to know what love is", "What is love?"),
        # How to tell it.
        ("Explain how to tie a tie to a child", "How do I tie a tie to a child?"),
        ("Explain how to boil an egg for a child", "How do I boil an egg for a child?"),
        ("Tell me how to boil an egg in a song", "How do I boil an egg in a song?"),
        ("Tell me how to boil an egg in French", "How do I boil an egg in French?"),
        # One of them, that of before, or a new one.
        ("Explain a theorem", "What is a theorem?"),
        ("Explain code", "What is code?"),
        ("Define a function", "What is a function?"),
        ("Explain the monthly payment", "What is the monthly payment?"),
        ("Describe a black hole", "What is a black hole?"),
        # What 's and n't stand for.
        ("What's changed in the list?", "What is changed in the list?"),
        ("Who's left?", "Who is left?"),
        ("What's app?", "What is app?"),
        ("What's cooking?", "What is cooking?"),
        ("When do I use don't?", "When do I use do not?"),
        ("What is can't stop about?", "What is cannot stop about?"),
        # Numbers and signs.
        ("What is 5!", "What is 5?"),
        ("What is n!!", "What is n!"),
        ("What is 1.5", "What is 15"),
        ("What is the type of 5.", "What is the type of 5"),
        ("What is no.?", "What is no?"),
        ("What is -5 plus 3", "What is 5 plus 3"),
        ("What is the C++ standard", "What is the C standard"),
        ("What is .NET for the web?", "What is NET for the web?"),
        ("Is it 50% of the sum?", "Is it 50 of the sum?"),
        ("How good is Nf3??", "How good is Nf3?"),
        ("Who directed mother!", "Who directed mother?"),
        # What is written into a terminal, or quoted.
        ("What does ls -l do to the list?", "What does ls -L do to the list?"),
        ("What is in $PATH for the shell?", "What is in $path for the shell?"),
        ("Reverse the word 'Hello' for me", "Reverse the word 'hello' for me"),
        ("Let's eat, grandma, with the dog", "Let's eat grandma with the dog"),
        # Two languages.
        ("Was bedeutet the in Ihrem Text?", "Was bedeutet the in ihrem Text?"),
        ("Define el Cielo", "Define el cielo"),
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
        "What does a? match in this regex",
        "Is which a pronoun?",
        "How do I escape ?",
    ],
)
def test_who_speaks_about_wording_is_taken_by_the_letter(text: str) -> None:
    assert canonical(text) is None


@pytest.mark.parametrize("text", ["Please", "please.", "Hi", "Thanks!", "I", "Explain", "Could you please"])
def test_a_courtesy_alone_is_no_question(text: str) -> None:
    form = canonical(text)
    assert form is None or form.lower() in text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "Can I change my order?",
        "Hello, can I change my order?",
        "Do you ship to Canada?",
        "I can't log in",
        "I don't know",
        "Who wrote Dracula?",
        "What causes rain?",
        "Tell me a joke",
        "My order is late",
        "Explain recursion",
        "My printer isn't working",
    ],
)
def test_short_askings_are_english_by_their_first_words(text: str) -> None:
    assert is_english(words_of(text))


@pytest.mark.parametrize(
    "text",
    [
        "Was war in Rom so teuer",
        "Wer will mit in den Zoo",
        "Ist das ein Hit in den Charts",
        "Man hat den Hund in den Park genommen",
        "Wat is dit",
        "Was er iets aan de hand",
        "Mag ik dat zo doen",
        "Is er een bus",
        "Comment faire du pain",
        "On a un an pour le faire",
        "Define el amor",
        "Describe la casa a mi madre",
        "No me has visto a mi",
        "He comido an la playa",
        "Come on si dice in italiano",
        "Compare in una scena",
        "Do a te il mio cuore",
        "Do que as pessoas gostam",
        "Kan du give mig den",
        "Man kan at se det for tid",
        "Hur kan man for att se",
        "Kto my do Rzymu i po co to",
        "Do i to",
        "Cine are un an in Roma",
        "Da li to on i ja",
        "Can sikintisi var",
        "Apa kabar di sana",
        "Han on minun",
    ],
)
def test_other_languages_are_not_english_though_they_share_words_with_it(text: str) -> None:
    assert not is_english(words_of(text))
