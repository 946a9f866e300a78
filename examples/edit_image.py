"""A picture changed as you say, everywhere or only where a mask lets it. A script plays the artist."""

import allm_actors as allm
from allm_actors.testing import script

cat = allm.Image.from_bytes(b"\x89PNG of a cat", "image/png")
head = allm.Image.from_bytes(b"\x89PNG, clear where the head is", "image/png")
with_hat = allm.Image.from_bytes(b"\x89PNG of a cat with a hat", "image/png")

asked: list[allm.ImageRequest] = []
entries = [script.ok([with_hat]), script.ok([with_hat]), script.ok([with_hat])]
artist = allm.Engine(
    image_adapter="fake",
    adapter_opts={"image_script": entries, "capture": asked},
)

response = allm.edit_image(artist, cat, "the same cat with a hat")
print(f"{asked[0].operation}: {asked[0].prompt}: {response.images[0].mime_type}")
assert response.images == [with_hat]
assert (asked[0].operation, asked[0].input_images, asked[0].mask) == ("edit", [cat], None)

allm.edit_image(artist, cat, "a hat on its head", mask=head)
assert (asked[1].input_images, asked[1].mask) == ([cat], head)

# A second picture in the list is another picture to work from, never a mask.
allm.edit_image(artist, [cat, with_hat], "both, side by side")
assert (asked[2].input_images, asked[2].mask) == ([cat, with_hat], None)
