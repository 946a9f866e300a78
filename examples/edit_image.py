"""A picture changed as you say, everywhere or only where a mask lets it.

A script plays the artist, or a real one does if ALLM_IMAGE_PROVIDER names it; that one is not shown the mask.
"""

import allm_actors as allm
from allm_actors.testing import script
from provider import ARTIST, artist

cat = allm.Image.from_bytes(b"\x89PNG of a cat", "image/png")
head = allm.Image.from_bytes(b"\x89PNG, clear where the head is", "image/png")
with_hat = allm.Image.from_bytes(b"\x89PNG of a cat with a hat", "image/png")

asked: list[allm.ImageRequest] = []
hatter = artist(script.ok([with_hat]), script.ok([with_hat]), script.ok([with_hat]), capture=asked)
if ARTIST:
    (cat,) = allm.generate_image(hatter, "a grey cat, asleep").images

response = allm.edit_image(hatter, cat, "the same cat with a hat")
print(f"the same cat with a hat: {response.images[0].mime_type}")
assert ARTIST or response.images == [with_hat]
(with_hat,) = response.images

# A second picture in the list is another picture to work from, never a mask.
allm.edit_image(hatter, [cat, with_hat], "both, side by side")

if not ARTIST:
    allm.edit_image(hatter, cat, "a hat on its head", mask=head)
    first, both, masked = asked
    assert (first.operation, first.input_images, first.mask) == ("edit", [cat], None)
    assert (both.input_images, both.mask) == ([cat, with_hat], None)
    assert (masked.input_images, masked.mask) == ([cat], head)
