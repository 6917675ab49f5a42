"""Names of models as labels: those that are configured or were answered for, and never more than a number."""

from sidecar.labels import OTHER, ModelLabels


def test_a_configured_name_is_a_label_whether_it_was_answered_for_or_not() -> None:
    labels = ModelLabels(0)
    labels.configure(frozenset(["m"]))
    assert [labels.label("m", was_answered) for was_answered in (False, True)] == ["m", "m"]


def test_a_name_is_learned_when_it_is_answered_for_and_stays() -> None:
    labels = ModelLabels(1)
    assert [labels.label("a", was_answered) for was_answered in (False, True, False)] == [OTHER, "a", "a"]


def test_no_more_names_are_learned_than_there_is_room_for() -> None:
    labels = ModelLabels(2)
    names = ["a", "b", "a", "c", "b", "d"]
    assert [labels.label(name, True) for name in names] == ["a", "b", "a", OTHER, "b", OTHER]


def test_configured_names_take_no_room_from_those_that_are_learned() -> None:
    labels = ModelLabels(1)
    labels.configure(frozenset(["m", "n"]))
    assert [labels.label(name, True) for name in ("m", "n", "a", "b")] == ["m", "n", "a", OTHER]


def test_another_configuration_keeps_what_was_learned_and_forgets_what_it_does_not_name() -> None:
    labels = ModelLabels(1)
    labels.configure(frozenset(["old"]))
    labels.label("learned", True)
    labels.configure(frozenset(["new"]))
    assert [labels.label(name, False) for name in ("old", "new", "learned")] == [OTHER, "new", "learned"]
    assert labels.label("another", True) == OTHER


def test_a_request_that_names_no_model_has_an_empty_label_and_takes_no_room() -> None:
    labels = ModelLabels(1)
    assert [labels.label("", was_answered) for was_answered in (False, True)] == ["", ""]
    labels.configure(frozenset(["m"]))
    assert labels.label("", False) == ""
    assert labels.label("a", True) == "a"
