"""JSON and MessagePack of plain data, also where there is no memory for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm_actors.data.encoding import json_bytes, json_text, msgpack_bytes

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_is_encoded_is_what_msgspec_writes(value: Any) -> None:
    assert json_bytes(value) == msgspec.json.encode(value)
    assert json_text(value) == msgspec.json.encode(value).decode()
    assert msgpack_bytes(value) == msgspec.msgpack.encode(value)


@pytest.mark.parametrize("encode", [json_bytes, json_text, msgpack_bytes])
def test_what_has_no_form_is_refused(encode: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        encode(object())
    with pytest.raises(UnicodeEncodeError):
        encode("\ud800")


def test_an_encoder_of_its_own_has_the_say() -> None:
    ordered = msgspec.json.Encoder(order="sorted")
    assert json_text({"b": 1, "a": 2}, ordered) == '{"a":2,"b":1}'
    assert json_bytes({"b": 1, "a": 2}, ordered) == b'{"a":2,"b":1}'


WITHOUT_MEMORY = """
import resource
from allm_actors.data.encoding import json_bytes, json_text, msgpack_bytes

text = "T" * 40_000_000
size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:")) * 1024
for encode in (json_bytes, json_text, msgpack_bytes):
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 20_000_000, unlimited[1]))
    try:
        encode(["a", text])
    except MemoryError:
        print("MemoryError")
    assert encode([1]), "it cannot be used any more"
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of this process is read as Linux tells it")
def test_where_there_is_no_memory_it_raises_and_the_interpreter_lives() -> None:
    command = [sys.executable, "-c", WITHOUT_MEMORY]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout.split()) == (0, ["MemoryError"] * 3), ran.stderr
