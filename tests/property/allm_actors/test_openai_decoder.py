"""OpenAI's chunks of any shape; what holds for every dialect is in `test_dialects.py`."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from allm_actors.engine.catalog import PROVIDERS
from allm_actors.engine.dialects.openai.chat import Decoder
from tests.property.allm_actors.test_dialects import assert_lawful

ROW = PROVIDERS["openai"]
texts = st.text(max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=True) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = ("content", "tool_calls", "refusal", "reasoning_content", "reasoning")
deltas = st.fixed_dictionaries({}, optional=dict.fromkeys(names, json_values) | {"content": texts})
fragments = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | json_values,
        "id": st.sampled_from(["a", "b", None, ""]) | json_values,
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["f", None, ""]),
                "arguments": st.sampled_from(["{", "}", "[", None, ""]),
            },
        )
        | json_values,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 1) | json_values,
        "delta": deltas
        | st.fixed_dictionaries({"tool_calls": st.lists(fragments, max_size=3)})
        | json_values,
        "finish_reason": st.sampled_from(
            ["stop", "length", "tool_calls", "content_filter", "error", "odd", None]
        )
        | json_values,
    },
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just("r1") | json_values,
        "model": json_values,
        "choices": st.lists(choices, max_size=2) | json_values,
        "usage": st.fixed_dictionaries({}, optional={"prompt_tokens": json_values, "cost": json_values})
        | json_values,
        "error": json_values,
        "x_groq": json_values,
    },
)
payloads = st.one_of(
    chunks.map(lambda chunk: json.dumps(chunk).encode()),
    st.just(b"[DONE]"),
    json_values.map(lambda v: json.dumps(v).encode()),
)
streams = st.lists(payloads, max_size=8).map(
    lambda drawn: b"".join(b"data: %b\n\n" % payload for payload in drawn)
)


def decode(stream, places=()):
    decoder = Decoder(ROW)
    cuts = sorted({min(place, len(stream)) for place in places} | {0, len(stream)})
    events = [e for a, b in itertools.pairwise(cuts) for e in decoder.feed(stream[a:b])]
    return events + decoder.end()


@given(streams, st.lists(st.integers(0, 2000), max_size=6))
def test_any_stream_ends_in_one_final_event_in_any_chunking(stream, places):
    whole = decode(stream)
    assert_lawful(whole)
    assert repr(decode(stream, places)) == repr(whole)  # by text: NaN differs from itself
