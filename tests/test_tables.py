"""Tables for a terminal: nothing in them commands it, and columns stand under each other."""

from sidecar.tables import columns, printable


def test_what_a_terminal_would_obey_is_shown_as_a_question_mark() -> None:
    assert printable("red\x1b[31m\n\u202eteam ü") == "red?[31m??team ü"


def test_figures_stand_to_the_right_and_no_line_ends_in_blanks() -> None:
    rows = [("NAME", "COUNT", "WHY"), ("a", "1", ""), ("longer", "100000", "so")]
    assert columns(rows, right={1}) == [
        "NAME     COUNT  WHY",
        "a            1",
        "longer  100000  so",
    ]
