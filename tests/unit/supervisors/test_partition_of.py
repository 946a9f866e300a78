"""A key is in the same partition in every run."""

import enum
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.errors import BadSpec
from supervisors.supervisor import partition_of

keys = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids(),
    lambda inner: st.tuples(inner, inner),
)


class Colour(enum.Enum):
    RED = 1


@given(keys, st.integers(1, 100))
def test_a_key_has_one_partition(key, partitions):
    partition = partition_of(key, partitions)
    assert 0 <= partition < partitions
    assert partition_of(key, partitions) == partition


@given(st.integers(), st.integers(1, 100))
def test_an_integer_is_in_the_partition_of_its_remainder(key, partitions):
    assert partition_of(key, partitions) == abs(key) % partitions


def test_equal_keys_are_in_one_partition():
    assert partition_of(2.0, 7) == partition_of(2, 7)
    assert partition_of(("a", 1.0), 1000) == partition_of(("a", 1), 1000)


def test_another_interpreter_agrees():
    code = (
        "from supervisors.supervisor import partition_of; print(partition_of(('alice', 7, b'x', None), 1000))"
    )
    here = partition_of(("alice", 7, b"x", None), 1000)
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert int(out.stdout) == here


def test_enums_and_uuids_are_keys_and_objects_are_not():
    assert partition_of(Colour.RED, 10) == partition_of(Colour.RED, 10)
    assert partition_of(uuid.UUID(int=1), 10) == partition_of(uuid.UUID(int=1), 10)
    with pytest.raises(BadSpec, match="not give the same partition in every run"):
        partition_of(object(), 10)
