"""Pictures like one you have, asked for on an event loop, by a provider that is busy at first. A script plays it."""

import asyncio

import allm_actors as allm
from allm_actors.testing import script

cat = allm.Image.from_bytes(b"\x89PNG of a cat", "image/png")
others = [allm.Image.from_bytes(b"\x89PNG of cat %d" % number, "image/png") for number in (1, 2, 3)]
artist = allm.Engine(
    image_adapter="fake",
    adapter_opts={"image_script": [script.error("rate_limited"), script.ok(others)]},
    retry={"base_delay": 0.01, "jitter": 0.0},
)


async def main() -> None:
    """Ask once; the second attempt is the library's."""
    response = await allm.aio.image_variations(artist, cat, n=3)
    print(f"{response.usage.images} pictures like it")
    assert response.images == others
    assert response.usage.images == 3


asyncio.run(main())

# A picture is a value: it can be stored with what was said of it, and is the same when it is read back.
assert allm.from_json(allm.to_json(others[0])) == others[0]
