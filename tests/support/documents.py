"""JSON documents of every shape that the wire format's readers may meet, and usage as providers report it."""

from hypothesis import strategies as st

from sidecar.exchange import Usage

# 10 tokens in, 4 of them cached, 5 out, 3 of them reasoning.
RESPONSES_USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 15,
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from(["", "x", "usage", "stream_options", "include_usage", '{"', "\\", "\u2028", "é"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "usage", "stream_options", "include_usage", "messages"]),
            children,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def figures(usage: Usage | None) -> tuple[int, int, int, int] | None:
    """Input, output, cached and reasoning tokens."""
    return None if usage is None else (usage.input, usage.output, usage.cached, usage.reasoning)
