"""How problems are written."""

from sidecar.config.problems import ConfigError, Problem, field_path


def test_path_is_written_with_dots_and_brackets() -> None:
    assert field_path(("providers", "a", "endpoints", 0, "url")) == "providers.a.endpoints[0].url"
    assert field_path(("models", "deepseek-ai/V4", "price")) == "models.deepseek-ai/V4.price"


def test_name_that_would_mislead_is_quoted() -> None:
    assert field_path(("models", "gpt-4.1", "price")) == 'models["gpt-4.1"].price'
    assert field_path(("models", "a b\n\x1b")) == 'models["a b\\n\\u001b"]'
    assert field_path(("", "a")) == '[""].a'


def test_error_lists_one_problem_a_line() -> None:
    error = ConfigError([Problem("drain.min", "is wrong"), Problem("", "and so is the file")], ["f.yaml"])
    assert str(error) == "drain.min: is wrong\nand so is the file"
    assert error.files == ("f.yaml",)
