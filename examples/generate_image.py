"""A picture of what you say. A script draws, or a real artist if ALLM_IMAGE_PROVIDER names one."""

import allm_actors as allm
from allm_actors.testing import script
from provider import ARTIST, artist

drawn = allm.Image.from_bytes(b"\x89PNG of a cat", "image/png")

response = allm.generate_image(
    artist(script.ok([drawn])), "a grey cat, asleep", size=(1024, 1024), quality="high"
)
(picture,) = response.images
print(f"{response.usage.images} picture, {picture.mime_type}, {len(picture.to_bytes())} bytes")
assert ARTIST or picture == drawn
assert response.request_id is not None
assert picture.to_data_uri().startswith("data:image/png;base64,")

# What cannot be drawn is raised, with a reason; an engine without an artist says so.
refusing = allm.Engine(image_adapter="fake", adapter_opts={"image_script": [script.error("content_filter")]})
for engine, reason in ((refusing, "content_filter"), (allm.Engine(), "no_image_adapter")):
    refused: allm.AllmError | None = None
    try:
        allm.generate_image(engine, "something else")
    except (allm.ImageAdapterError, allm.EngineError) as error:
        refused = error
    print(refused)
    assert refused is not None
    assert refused.reason == reason
