"""The laws of every turn are those that the file names."""

import re

from allm_actors.testing import laws


def test_the_docstring_names_every_law_in_order():
    assert re.findall(r"^    (\S.*?) {2,}", laws.__doc__ or "", re.MULTILINE) == list(laws.LAWS)
