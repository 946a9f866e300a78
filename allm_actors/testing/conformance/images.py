"""Laws of pictures.

    class TestMyImages(ImageSuite):
        @contextmanager
        def stage(self, scene: CallScene) -> Iterator[Stage]:
            with my_server(scene) as server:
                yield Stage(
                    engine=allm.Engine(image_adapter=MyImages(server.url)),
                    sent=lambda: [request.body for request in server.requests],
                    keys=lambda: [request.headers["x-api-key"] for request in server.requests],
                )

Rule of this file: a picture is its bytes, those that are sent and those that come back.
"""

from __future__ import annotations

import base64
import re
from functools import partial
from typing import Any
from unittest import SkipTest

from allm_actors import facade
from allm_actors.data import AdapterError, Image, ImageRequest
from allm_actors.engine.adapters import find_capable
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.engine.engine import Engine

from .calls import LETTERS, REQUEST_ID, CallScene, TextSuite
from .made import pictures_of
from .scenes import Stage, require, says, skip

__all__ = ["ImageSuite"]

PICTURE = b"a picture of the suite, which is made of letters"
ANOTHER = b"another picture of the suite, and of other letters"
_TURNED = re.compile(
    r"2048 ?[x×*] ?1536|width\W+2048|height\W+1536|(?<![\d:])4:3(?![\d:])|landscape", re.IGNORECASE
)
MASK = b"a mask of the suite: where the hat has to be"


class ImageSuite(TextSuite):
    """Pictures."""

    name = "image"
    words = (f"a grey cat: {LETTERS}",)

    def ask(self, engine: Engine, **options: Any) -> Any:
        """A cat."""
        return facade.generate_image(engine, self.words[0], **options)

    def ask_about(self, engine: Engine, text: str, **options: Any) -> Any:
        """A picture of what the text says."""
        return facade.generate_image(engine, text, **options)

    def test_pictures_are_counted(self) -> None:
        """`usage.images` is how many there are."""
        response = self.answered()
        images, counted = response.images, response.usage.images
        assert images, "the provider made a picture, but the response has none"
        assert all(isinstance(image, Image) for image in images), f"these are not Images: {images}"
        assert counted == len(images), (
            f"the response has {len(images)} pictures, but usage.images is {counted}; respond with "
            "usage=ImageUsage(images=len(images))"
        )

    def test_as_many_pictures_come_as_were_asked_for(self) -> None:
        """None of what was paid for is lost."""
        scene = CallScene(images=3)
        with self.ready(scene) as stage:
            count = len(self.ask(stage.engine, n=3).images)
        message = f"n=3 was requested, but {count} came: send request.n, and return all pictures that arrive"
        require(count == 3, scene, "images", message)

    def test_pictures_that_did_not_come_are_not_counted(self) -> None:
        """A provider may make fewer than were asked for; whoever pays for each pays for those."""
        with self.ready(CallScene(images=2)) as stage:
            try:
                response = self.ask(stage.engine, n=3)
            except AdapterError as error:
                skip(f"this adapter fails when it gets fewer pictures than requested: {error}")
        images, counted = response.images, response.usage.images
        assert counted == len(images), (
            f"n=3 was requested and {len(images)} came, but usage.images is {counted}; respond with "
            "usage=ImageUsage(images=len(images))"
        )

    def test_each_picture_is_one_that_was_made(self) -> None:
        """To its last byte, and none of them twice."""
        scene = CallScene(images=3)
        with self.ready(scene) as stage:
            images = self.ask(stage.engine, n=3).images
        if any(image.source[0] == "url" for image in images):
            skip("the pictures of this adapter are URLs, which is allowed")
        got, wanted = sorted(image.to_bytes() for image in images), sorted(pictures_of(3))
        whole = len({*got} & {*wanted})
        message = (
            f"the provider made 3 pictures, but only {whole} of the {len(got)} that came back are unchanged: "
            "give each its own bytes, decoded if the provider writes base64, as Image.from_base64 does"
        )
        require(got == wanted, scene, "pictures", message)

    def test_a_picture_says_what_it_is(self) -> None:
        """Its MIME type, `image/…`; whoever shows a picture, or sends it on, needs that. One behind a URL has none."""
        here = [image for image in self.answered().images if image.source[0] != "url"]
        types = [image.mime_type for image in here]
        assert all((each or "").startswith("image/") for each in types), (
            f"the MIME types of the pictures are {types}: use the type that the provider names, or always sends"
        )

    def test_the_size_is_sent_or_refused(self) -> None:
        """In pixels, or as a shape; the width comes first."""
        self.sends("size", (1536, 2048), "2048", "3:4", "portrait")
        turned = _TURNED.findall(self.sent_for("size", (1536, 2048)))
        assert not turned, (
            f"size=(1536, 2048) was requested, but {turned} was sent: the first number is the width"
        )

    def test_the_number_is_sent_or_refused(self) -> None:
        """As a number, or as so many requests."""
        one, three = (self.sent_for("n", value) for value in (1, 3))
        assert one != three, f"n=3 was requested, but the same was sent as for n=1: {self.send_or_refuse}"

    def test_the_quality_is_sent_or_refused(self) -> None:
        """One that the provider's price depends on."""
        self.skip_if_without("quality")
        self.sends("quality", "quality-of-the-suite", "quality-of-the-suite")

    def test_the_style_is_sent_or_refused(self) -> None:
        """In the provider's words."""
        self.skip_if_without("style")
        self.sends("style", "style-of-the-suite", "style-of-the-suite")

    def test_the_background_is_sent_or_refused(self) -> None:
        """A picture that must be transparent, and is not, is of no use."""
        self.skip_if_without("background")
        self.sends("background", "background-of-the-suite", "background-of-the-suite")

    def test_an_operation_that_is_not_supported_is_refused(self) -> None:
        """Before anything is sent, and with its name; any other is not."""
        picture = Image.from_bytes(b"", "image/png")
        requests = {
            "generate": ImageRequest(prompt="a cat"),
            "edit": ImageRequest(operation="edit", prompt="a hat", input_images=[picture]),
            "variation": ImageRequest(operation="variation", input_images=[picture]),
        }
        for operation, request in requests.items():
            self.holds_to_its_operations(operation, request)

    def test_the_pictures_to_work_on_are_sent(self) -> None:
        """An edit that never saw the picture is another picture."""
        picture = Image.from_bytes(PICTURE, "image/png")
        request = ImageRequest(operation="edit", prompt="a hat", input_images=[picture])
        with self.ready(CallScene()) as stage:
            skip_unless_it_does("edit", stage)
            facade.generate_image(stage.engine, request)
            sent, held = stage.all_sent(), stage.holds(PICTURE)
        assert held, (
            "the bytes of request.input_images were not sent, neither raw nor in base64: send them, or leave "
            "'edit' out of supported_operations()"
        )
        assert says(sent, "a hat"), "the prompt of an edit was not sent"

    def test_the_picture_of_a_variation_is_sent(self) -> None:
        """There is nothing else that it could be a variation of."""
        picture = Image.from_bytes(PICTURE, "image/png")
        with self.ready(CallScene()) as stage:
            skip_unless_it_does("variation", stage)
            facade.generate_image(stage.engine, ImageRequest(operation="variation", input_images=[picture]))
            held = stage.holds(PICTURE)
        assert held, (
            "the bytes of request.input_images were not sent, neither raw nor in base64: send them, or leave "
            "'variation' out of supported_operations()"
        )

    def test_every_picture_of_an_edit_is_sent_or_refused(self) -> None:
        """A hat on one picture, from another, needs both, in their order: the prompt may say which is which."""
        sent = self.edits_with("input_images", [PICTURE, ANOTHER])
        places = [_places(sent, each) for each in (PICTURE, ANOTHER)]
        assert not (all(places) and max(places[1]) < min(places[0])), (
            "the pictures of an edit were sent in another order: send request.input_images as they are"
        )

    def test_the_mask_of_an_edit_is_sent_or_refused(self) -> None:
        """Without it the whole picture is changed, and not the place that the caller meant; and it is no picture."""
        masked = self.edits_with("mask", [PICTURE], mask=MASK)
        try:
            two = self.edits_with("input_images", [PICTURE, MASK])
        except SkipTest:
            return  # with one picture, there is nothing that it could be mistaken for
        assert masked != two, (
            "an edit with a mask was sent like an edit of two pictures: send request.mask as your provider's mask, or "
            "refuse it"
        )

    def edits_with(self, wish: str, pictures: list[bytes], mask: bytes | None = None) -> str:
        """All that is sent of an edit, after looking that all bytes are. Skips the law where the wish is refused."""
        request = ImageRequest(
            operation="edit",
            prompt="a hat",
            input_images=[Image.from_bytes(each, "image/png") for each in pictures],
            mask=None if mask is None else Image.from_bytes(mask, "image/png"),
        )
        with self.ready(CallScene()) as stage:
            skip_unless_it_does("edit", stage)
            ask = partial(facade.generate_image, stage.engine, request, request_id=REQUEST_ID)
            self.tries(stage, wish, ask)
            sent = stage.all_sent()
            lost = [each for each in (*pictures, mask) if each is not None and not stage.holds(each)]
        assert not lost, (
            f"request.{wish} was given to an edit, but its bytes {lost} were not sent, neither raw nor in "
            f"base64: {self.send_or_refuse}"
        )
        return sent

    def holds_to_its_operations(self, operation: str, request: ImageRequest) -> None:
        """Look that an operation is carried out, or refused, as `supported_operations()` says."""
        with self.ready(CallScene()) as stage:
            adapter = find_capable(CAPABILITIES["image"], stage.engine.image_adapter)
            refused, count = None, 0
            try:
                facade.generate_image(stage.engine, request)
            except AdapterError as error:
                refused, count = error, stage.asked() if stage.counts else 0
        if operation in adapter.supported_operations():
            assert refused is None, (
                f"supported_operations() has {operation!r}, but it was refused: {refused!r}"
            )
            return
        assert refused is not None, f"{operation} was carried out, but supported_operations() lacks it"
        assert refused.reason == "unsupported_operation", f"{operation}: it failed with {refused!r}"
        assert refused.metadata.get("operation") == operation, (
            f"{operation!r} was refused without the name of the operation: raise "
            'ImageAdapterError("unsupported_operation", metadata={"operation": request.operation})'
        )
        assert count == 0, (
            f"{operation!r} was refused, but not before anything was sent (requests: {count}): check the "
            "operation first"
        )


def _places(sent: str, data: bytes) -> list[int]:
    """Where bytes begin in what was sent, as they are or in Base64."""
    ways = (data.decode(), base64.b64encode(data).decode().rstrip("="))
    return [sent.index(way) for way in ways if way in sent]


def skip_unless_it_does(operation: str, stage: Stage) -> None:
    """Skip the law where the adapter lacks the operation."""
    adapter = find_capable(CAPABILITIES["image"], stage.engine.image_adapter)
    if operation not in adapter.supported_operations():
        skip(f"this adapter supports no operation {operation!r}, which is allowed")
