"""The adapter of pictures that the guide writes keeps the laws of pictures, on the stage that the guide writes."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/guides/images.md"
_, section = PAGE.read_text().split("## An adapter of your own")
written: dict[str, object] = {"__name__": __name__}
exec("import allm_actors as allm", written)
for block in re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
    exec(compile(block, str(PAGE), "exec"), written)


class TestBlank(written["TestBlank"]): ...
