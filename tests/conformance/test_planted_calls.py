"""Each mistake that is planted in an adapter of what is not chat makes a law fail, in words that say what is wrong."""

import base64
import dataclasses
import json
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from unittest import SkipTest

import msgspec
import pytest

import allm_actors as allm
from allm_actors.engine import keys
from allm_actors.engine.capabilities import CAPABILITIES
from allm_actors.testing import script
from allm_actors.testing.conformance import CallScene, EmbeddingSuite, ImageSuite, SpeechSuite, Stage
from allm_actors.testing.conformance.made import verdicts_of
from allm_actors.testing.conformance.services import QUESTIONS
from tests.conformance import test_call_suites as suites
from tests.conformance.test_call_suites import SUITES, Spoilt

STORED = "sk-stored-0123456789abcdef"


class Provider:
    """Makes the pictures that the scene says, and keeps what it was asked, and with which key."""

    def __init__(self, scene):
        self.scene, self.sent, self.keys = scene, [], []

    def draw(self, key, **body):
        self.sent.append(json.dumps(body))
        self.keys.append(key)
        if self.scene.kind == "refuses":
            raise allm.ImageAdapterError(
                self.scene.reason,
                provider="right",
                message="no",
                status=self.scene.status,
                retry_after_ms=self.scene.retry_after_ms,
            )
        return [base64.b64encode(each).decode() for each in self.scene.pictures]


class Right:
    """Keeps every law."""

    name = "right"
    operations = ("generate",)

    def __init__(self, provider):
        self.provider = provider

    def supported_operations(self):
        return self.operations

    def generate(self, request, call):
        if request.operation not in self.operations:
            raise allm.ImageAdapterError(
                "unsupported_operation", provider=self.name, metadata={"operation": request.operation}
            )
        drawn = self.provider.draw(self.key_of(call), **self.body_of(request))
        images = [self.image_of(each) for each in drawn]
        return allm.ImageResponse(
            images=images, usage=allm.ImageUsage(images=len(images)), metadata=request.metadata
        )

    def key_of(self, call):
        return STORED if call.api_key is None else keys.fetch(self.name, [], call.api_key).reveal()

    def body_of(self, request):
        pictures = [base64.b64encode(each.to_bytes()).decode() for each in request.input_images]
        mask = {} if request.mask is None else {"mask": base64.b64encode(request.mask.to_bytes()).decode()}
        asked = {"model": request.model, "prompt": request.prompt, "n": request.n, "size": request.size}
        asked |= {
            "quality": request.quality,
            "style": request.style,
            "background": request.background,
        }
        return {**request.options, **asked, "pictures": pictures, **mask}

    def image_of(self, text):
        return allm.Image.from_bytes(base64.b64decode(text), "image/png")


class RightEdits(Right):
    """Keeps them, too."""

    operations = ("generate", "edit")


class RightVariations(RightEdits):
    """And these."""

    operations = ("generate", "edit", "variation")


class OnStage:
    adapter = Right

    @contextmanager
    def stage(self, scene):
        provider = Provider(scene)
        yield Stage(
            engine=allm.Engine(image_adapter=self.adapter(provider)),
            sent=lambda: provider.sent,
            keys=lambda: provider.keys,
        )


class TestRightImages(OnStage, ImageSuite):
    pass


class TestRightEdits(OnStage, ImageSuite):
    adapter = RightEdits


class TestRightVariations(OnStage, ImageSuite):
    adapter = RightVariations


class GivesOneOfMany(Right):
    """The others are lost."""

    def generate(self, request, call):
        response = super().generate(request, call)
        return msgspec.structs.replace(response, images=response.images[:1], usage=allm.ImageUsage(images=1))


class TriesThreeTimes(Right):
    """By itself, whatever it failed with."""

    def generate(self, request, call):
        for _ in range(2):
            try:
                return super().generate(request, call)
            except allm.ImageAdapterError:
                continue
        return super().generate(request, call)


class CountsNothing(Right):
    """As the guide once had it."""

    def generate(self, request, call):
        return msgspec.structs.replace(super().generate(request, call), usage=allm.ImageUsage())


class RefusesWithoutAName(Right):
    """Which operation was it?"""

    def generate(self, request, call):
        if request.operation != "generate":
            raise allm.ImageAdapterError("unsupported_operation", provider=self.name)
        return super().generate(request, call)


class RefusesTooLate(Right):
    """After it has asked."""

    def generate(self, request, call):
        self.provider.draw(STORED, prompt=request.prompt, n=request.n)
        return super().generate(request, call)


class DoesWhatItSaysItCannot(Right):
    """Every operation."""

    def generate(self, request, call):
        return super().generate(msgspec.structs.replace(request, operation="generate"), call)


class CannotDoWhatItSays(Right):
    """An operation too many is promised."""

    operations = ("generate", "edit")

    def generate(self, request, call):
        if request.operation == "edit":
            raise allm.ImageAdapterError("unsupported_operation", provider=self.name)
        return super().generate(request, call)


class EditsAnotherPicture(RightEdits):
    """That of the caller is not sent."""

    def body_of(self, request):
        return {**super().body_of(request), "pictures": []}


class VariesAnotherPicture(RightVariations):
    """That of the caller is not sent."""

    def body_of(self, request):
        body = super().body_of(request)
        return {**body, "pictures": []} if request.operation == "variation" else body


class DrawsAnyNumber(Right):
    """How many is not sent."""

    def body_of(self, request):
        return {name: value for name, value in super().body_of(request).items() if name != "n"}


class DrawsAsItLikes(Right):
    """What it is to look like is not sent."""

    def body_of(self, request):
        plain = msgspec.structs.replace(request, quality=None, style=None, background=None)
        return super().body_of(plain)


class EditsTheFirstPicture(RightEdits):
    """The second is not sent."""

    def body_of(self, request):
        return super().body_of(msgspec.structs.replace(request, input_images=request.input_images[:1]))


class EditsAllOfIt(RightEdits):
    """The mask is not sent."""

    def body_of(self, request):
        return super().body_of(msgspec.structs.replace(request, mask=None))


class AsksItsFavourite(Right):
    """The model is not sent."""

    def body_of(self, request):
        return super().body_of(msgspec.structs.replace(request, model="favourite"))


class KnowsNoOptions(Right):
    """Those of the provider are not sent."""

    def body_of(self, request):
        return super().body_of(msgspec.structs.replace(request, options={}))


class SpendsItsOwnKey(Right):
    """That of the call is for nothing."""

    def key_of(self, call):
        return STORED


class DecodesNothing(Right):
    """Base64 is kept as if it were the picture."""

    def image_of(self, text):
        return allm.Image.from_bytes(text.encode(), "image/png")


class GivesTheFirstThreeTimes(Right):
    """And the others never."""

    def generate(self, request, call):
        response = super().generate(request, call)
        return msgspec.structs.replace(response, images=response.images[:1] * len(response.images))


class SaysNoType(Right):
    """A browser would not show it."""

    def image_of(self, text):
        return allm.Image(source=("base64", text))


class CountsWhatWasAskedFor(Right):
    """Not what came."""

    def generate(self, request, call):
        usage = allm.ImageUsage(images=request.n)
        return msgspec.structs.replace(super().generate(request, call), usage=usage)


class DrawsSideways(Right):
    """Height by width."""

    def body_of(self, request):
        size = None if request.size is None else f"{request.size[1]}x{request.size[0]}"
        return {**super().body_of(request), "size": size}


class EditsBackwards(RightEdits):
    """The second picture is sent first."""

    def body_of(self, request):
        return super().body_of(msgspec.structs.replace(request, input_images=request.input_images[::-1]))


class TakesAMaskForAPicture(RightEdits):
    """It is sent as one."""

    def body_of(self, request):
        masks = [] if request.mask is None else [request.mask]
        return super().body_of(
            msgspec.structs.replace(request, input_images=[*request.input_images, *masks], mask=None)
        )


class LosesStatuses(Right):
    """What HTTP said."""

    def generate(self, request, call):
        try:
            return super().generate(request, call)
        except allm.ImageAdapterError as error:
            error.status = None
            raise


class AsksForNothingAgain(Right):
    """The prompt is sent with the first attempt."""

    def body_of(self, request):
        return {**super().body_of(request), **({"prompt": ""} if self.provider.sent else {})}


class DrawsWhatItLikes(Right):
    """The prompt is not sent."""

    def generate(self, request, call):
        return super().generate(msgspec.structs.replace(request, prompt="a dog"), call)


class DrawsAnySize(Right):
    """The size is not sent."""

    def generate(self, request, call):
        return super().generate(msgspec.structs.replace(request, size=None), call)


class SendsMetadata(Right):
    """The caller's own notes."""

    def generate(self, request, call):
        asked = msgspec.structs.replace(request, prompt=f"{request.prompt} {request.metadata}")
        return super().generate(asked, call)


class LosesMetadata(Right):
    """The caller's own notes."""

    def generate(self, request, call):
        return msgspec.structs.replace(super().generate(request, call), metadata={})


class RaisesTheWrongError(Right):
    """That of chat."""

    def generate(self, request, call):
        try:
            return super().generate(request, call)
        except allm.ImageAdapterError as error:
            raise allm.AdapterError(error.reason, provider=self.name, message="no") from None


OPERATIONS = "test_an_operation_that_is_not_supported_is_refused"
TABLE = [
    (GivesOneOfMany, "test_as_many_pictures_come_as_were_asked_for", "n=3 was requested, but 1 came"),
    (TriesThreeTimes, "test_without_retries_it_asks_once", "requests: 3, for a call with retry=False"),
    (TriesThreeTimes, "test_it_never_tries_again_by_itself", "requests: 9"),
    (TriesThreeTimes, "test_a_refused_key_is_not_tried_again", "requests: 3, with a key"),
    (CountsNothing, "test_pictures_are_counted", r"usage=ImageUsage\(images=len\(images\)\)"),
    (RefusesWithoutAName, OPERATIONS, r'metadata=\{"operation": request.operation\}'),
    (RefusesTooLate, OPERATIONS, r"not before anything was sent \(requests: 1\)"),
    (DoesWhatItSaysItCannot, OPERATIONS, r"carried out, but supported_operations\(\) lacks it"),
    (CannotDoWhatItSays, OPERATIONS, "has 'edit', but it was refused"),
    (
        EditsTheFirstPicture,
        "test_every_picture_of_an_edit_is_sent_or_refused",
        r"request\.input_images .*another",
    ),
    (EditsAllOfIt, "test_the_mask_of_an_edit_is_sent_or_refused", r"request\.mask .*b'a mask of the suite"),
    (AsksItsFavourite, "test_the_model_is_sent", r"model='the-model-of-the-suite' .*was not sent"),
    (KnowsNoOptions, "test_other_options_are_sent_or_refused", r"options=.*1019.* was not sent"),
    (SpendsItsOwnKey, "test_the_key_of_the_call_is_sent", r"another key was sent: use call\.api_key"),
    (DecodesNothing, "test_each_picture_is_one_that_was_made", "decoded if the provider writes base64"),
    (
        GivesTheFirstThreeTimes,
        "test_each_picture_is_one_that_was_made",
        "only 1 of the 3 that came back are unchanged",
    ),
    (SaysNoType, "test_a_picture_says_what_it_is", r"MIME types of the pictures are \[None\]"),
    (
        CountsWhatWasAskedFor,
        "test_pictures_that_did_not_come_are_not_counted",
        r"2 came, but usage\.images is 3",
    ),
    (DrawsAnyNumber, "test_the_number_is_sent_or_refused", "the same was sent as for n=1"),
    (DrawsAsItLikes, "test_the_quality_is_sent_or_refused", r"quality='quality-of-.* was not sent"),
    (DrawsAsItLikes, "test_the_style_is_sent_or_refused", r"style='style-of-.* was not sent"),
    (DrawsAsItLikes, "test_the_background_is_sent_or_refused", r"background='background-of-.* was not sent"),
    (VariesAnotherPicture, "test_the_picture_of_a_variation_is_sent", "leave 'variation' out"),
    (EditsAnotherPicture, "test_the_pictures_to_work_on_are_sent", "send them, or leave 'edit' out"),
    (
        DrawsSideways,
        "test_the_size_is_sent_or_refused",
        r"\['2048x1536'\] was sent: the first number is the width",
    ),
    (EditsBackwards, "test_every_picture_of_an_edit_is_sent_or_refused", "sent in another order"),
    (TakesAMaskForAPicture, "test_the_mask_of_an_edit_is_sent_or_refused", "like an edit of two pictures"),
    (
        LosesStatuses,
        "test_the_status_of_a_refusal_is_on_the_error",
        "HTTP 503, but the error has status=None",
    ),
    (AsksForNothingAgain, "test_it_never_tries_again_by_itself", "the last attempt .* without .*a grey cat"),
    (DrawsWhatItLikes, "test_what_it_is_asked_about_is_sent", "a grey cat"),
    (DrawsAnySize, "test_the_size_is_sent_or_refused", r"size=\(1536, 2048\) .*was not sent"),
    (SendsMetadata, "test_what_it_is_asked_about_is_sent", "must only be returned"),
    (LosesMetadata, "test_metadata_comes_back_unchanged", "metadata=request.metadata"),
    (RaisesTheWrongError, "test_provider_unavailable", "raise ImageAdapterError"),
]


@pytest.mark.parametrize(
    ("adapter", "law", "says"),
    TABLE,
    ids=[f"{adapter.__name__}-{law.removeprefix('test_')}" for adapter, law, _ in TABLE],
)
def test_a_planted_mistake_fails_its_law_and_is_named(adapter, law, says):
    suite = type("Planted", (OnStage, ImageSuite), {"adapter": adapter})()
    with pytest.raises(AssertionError, match=says):
        getattr(suite, law)()


class Stubborn(Spoilt):
    """Any fake, asked three times before its failure is told."""

    def __init__(self, name):
        super().__init__(name, None)

    def call(self, request, call):
        ask = partial(getattr(self._fake, self._method), request, call)
        for _ in range(2):
            try:
                return ask()
            except allm.AdapterError:
                continue
        return ask()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
@pytest.mark.parametrize(
    "law",
    [
        "test_without_retries_it_asks_once",
        "test_it_never_tries_again_by_itself",
        "test_a_refused_key_is_not_tried_again",
    ],
)
def test_an_adapter_of_any_service_that_tries_again_by_itself_is_seen(suite, law):
    planted = type("Planted", (suite,), {"adapter": Stubborn(suite.name)})()
    with pytest.raises(AssertionError, match="make one request"):
        getattr(planted, law)()


class Deaf(Spoilt):
    """Any fake, which is not told how its caller wants it: some of the request's fields have their defaults."""

    def __init__(self, name, **unheard):
        super().__init__(name, None)
        self._unheard = unheard

    def call(self, request, call):
        if "questions" in self._unheard:  # whose scripted answers are to others
            call = dataclasses.replace(call, options={"record": call.options["record"]})
        return getattr(self._fake, self._method)(msgspec.structs.replace(request, **self._unheard), call)

    def told(self, stream, request, call):
        return getattr(self._fake, stream)(msgspec.structs.replace(request, **self._unheard), call)


def first_alone(asked):
    """A question with the first of its options, or of its levels."""
    criteria = asked.criteria
    if isinstance(criteria, dict):
        criteria = dict(list(criteria.items())[:1])
    return msgspec.structs.replace(asked, criteria=criteria[:1] if isinstance(criteria, list) else criteria)


class Reads(Spoilt):
    """Any fake that changes a text before it asks about it."""

    def __init__(self, name, read):
        super().__init__(name, None)
        self._field, self._read = CAPABILITIES[name].field, read

    def call(self, request, call):
        given = getattr(request, self._field)
        texts = [self._read(each) for each in given] if isinstance(given, list) else self._read(given)
        changed = msgspec.structs.replace(request, **{self._field: texts})
        return getattr(self._fake, self._method)(changed, call)


def in_ascii(text):
    return text.encode("ascii", "ignore").decode()


def first_page(text):
    return text[:4096]


OF_TEXTS = [suite for suite in SUITES if suite is not suites.TestFakeTranscription]


@pytest.mark.parametrize("suite", OF_TEXTS, ids=lambda suite: suite.__name__)
@pytest.mark.parametrize(
    ("read", "law", "says"),
    [
        (in_ascii, "test_what_it_is_asked_about_is_sent", "Olá, 世界 🎉.* was not sent"),
        (first_page, "test_a_long_text_is_sent_whole_or_refused", "245 were not sent, from 'word0455' on"),
    ],
    ids=["letters", "length"],
)
def test_a_text_that_is_not_sent_whole_is_seen(suite, read, law, says):
    planted = type("Planted", (suite,), {"adapter": Reads(suite.name, read)})()
    with pytest.raises(AssertionError, match=says):
        getattr(planted, law)()


class Keeps(Spoilt):
    """Any fake that keeps something of a call."""

    def __init__(self, name):
        super().__init__(name, None)
        self.kept = []

    def call(self, request, call):
        return getattr(self._fake, self._method)(*self.given(request, call))


class KeepsTheFirstKey(Keeps):
    """As a client that was made with it."""

    def given(self, request, call):
        self.kept = self.kept or [call.api_key]
        return request, dataclasses.replace(call, api_key=self.kept[0])


class KeepsTheLastCall(Keeps):
    """That of whoever came last: of two at once, the other's."""

    def __init__(self, name):
        super().__init__(name)
        self.two = threading.Barrier(2)

    def given(self, request, call):
        is_first, self.kept = not self.kept, [request, call]
        if not is_first:
            self.two.wait(5.0)
        return self.kept


class KeepsTheLastText(KeepsTheLastCall):
    """The key is the call's."""

    def given(self, request, call):
        return super().given(request, call)[0], call


class KeepsTheAnswer(Spoilt):
    """To whoever asked first."""

    def __init__(self, name):
        super().__init__(name, None)
        self.answers = []

    def call(self, request, call):
        self.answers = self.answers or [getattr(self._fake, self._method)(request, call)]
        return self.answers[0]


class AsksOnceMore(Spoilt):
    """About what it was asked before."""

    def __init__(self, name):
        super().__init__(name, None)
        self.asked = []

    def call(self, request, call):
        self.asked.append(request)
        for each in self.asked[-3:-1]:
            getattr(self._fake, self._method)(each, call)
        getattr(self._fake, self._method)(request, call)
        return getattr(self._fake, self._method)(self.asked[max(len(self.asked) - 2, 0)], call)


ONE_BY_ONE, AT_ONCE = "test_a_call_knows_nothing_of_the_one_before", "test_calls_at_once_are_each_their_own"


@pytest.mark.parametrize(
    ("suite", "adapter", "law", "says"),
    [
        *((suite, KeepsTheFirstKey, ONE_BY_ONE, r"number \[0\] had keys of their own") for suite in SUITES),
        *((suite, KeepsTheAnswer, ONE_BY_ONE, "has kept the answer to the first") for suite in SUITES),
        *((suite, AsksOnceMore, ONE_BY_ONE, "was sent again with the next") for suite in OF_TEXTS),
        *((suite, KeepsTheLastCall, AT_ONCE, "had keys of their own") for suite in SUITES),
        *((suite, KeepsTheLastText, AT_ONCE, "store nothing of a request") for suite in OF_TEXTS),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_adapter_that_keeps_something_of_a_call_is_seen(suite, adapter, law, says):
    planted = type("Planted", (suite,), {"adapter": adapter(suite.name)})()
    with pytest.raises(AssertionError, match=says):
        getattr(planted, law)()


WISHES = [
    *((suite, "test_the_model_is_sent", {"model": None}) for suite in SUITES),
    *((suite, "test_other_options_are_sent_or_refused", {"options": {}}) for suite in SUITES),
    (suites.TestFakeImages, "test_the_size_is_sent_or_refused", {"size": None}),
    (suites.TestFakeEmbeddings, "test_the_dimensions_are_sent_or_refused", {"dimensions": None}),
    (suites.TestFakeEmbeddings, "test_the_task_type_is_sent_or_refused", {"task_type": None}),
    (suites.TestFakeSpeech, "test_the_speed_is_sent_or_refused", {"speed": None}),
    (suites.TestFakeSpeech, "test_the_voice_is_sent_or_refused", {"voice": None}),
    (suites.TestFakeSpeech, "test_the_format_is_sent_or_refused", {"format": None}),
    (suites.TestFakeSpeech, "test_the_sample_rate_is_sent_or_refused", {"sample_rate": None}),
    (suites.TestFakeSpeech, "test_the_instructions_are_sent_or_refused", {"instructions": None}),
    (suites.TestFakeTranscription, "test_the_language_is_sent_or_refused", {"language": None}),
    (suites.TestFakeTranscription, "test_the_prompt_is_sent_or_refused", {"prompt": None}),
]


@pytest.mark.parametrize(
    ("suite", "law", "unheard"),
    WISHES,
    ids=[f"{suite.__name__}-{law.removeprefix('test_')}" for suite, law, _ in WISHES],
)
def test_a_wish_that_is_dropped_is_seen(suite, law, unheard):
    planted = type("Planted", (suite,), {"adapter": Deaf(suite.name, **unheard)})()
    (wish,) = unheard
    with pytest.raises(AssertionError, match=f"{wish}=.*was not sent"):
        getattr(planted, law)()


@pytest.mark.parametrize(
    ("suite", "law", "unheard", "says"),
    [
        (
            suites.TestFakeClassification,
            "test_what_it_is_asked_about_is_sent",
            {"questions": {id: first_alone(asked) for id, asked in QUESTIONS.items()}},
            r"\['support', 'angry'\] was not sent",
        ),
        (
            suites.TestFakeEmbeddings,
            "test_that_nothing_may_be_truncated_is_sent_or_refused",
            {"truncate": True},
            r"truncate=False was requested.*without = \('truncate',\)",
        ),
        (
            suites.TestFakeTranscription,
            "test_the_clip_is_sent",
            {"audio": allm.Audio.from_bytes(b"another clip", "audio/mpeg")},
            r"send request\.audio\.to_bytes\(\)",
        ),
        (
            suites.TestFakeTranscription,
            "test_the_type_of_the_clip_is_sent_or_refused",
            {"audio": allm.Audio.from_bytes(b"Good morning.", "audio/wav")},
            r"'audio/flac', but that was not sent.*without = \('mime_type',\)",
        ),
        (
            suites.TestFakeTranscription,
            "test_a_stream_is_asked_for_the_clip",
            {"audio": allm.Audio.from_bytes(b"another clip", "audio/mpeg")},
            r"the bytes of request\.audio were not sent",
        ),
        (
            suites.TestFakeSpeech,
            "test_a_stream_is_asked_for_the_text",
            {"input": "Good night."},
            r"send request\.input",
        ),
    ],
    ids=lambda value: value.removeprefix("test_") if isinstance(value, str) and "test_" in value else "",
)
def test_what_is_left_out_of_a_request_is_seen(suite, law, unheard, says):
    planted = type("Planted", (suite,), {"adapter": Deaf(suite.name, **unheard)})()
    with pytest.raises(AssertionError, match=says):
        getattr(planted, law)()


class StreamsAlone(Spoilt):
    """Any fake whose mistakes are in its streams."""

    def __init__(self, name):
        super().__init__(name, None)

    def call(self, request, call):
        return getattr(self._fake, self._method)(request, call)


class StreamsDeafly(StreamsAlone):
    """Some of the request's fields have their defaults."""

    def __init__(self, name, **unheard):
        super().__init__(name)
        self._unheard = unheard

    def told(self, stream, request, call):
        return getattr(self._fake, stream)(msgspec.structs.replace(request, **self._unheard), call)


class StreamsStubbornly(StreamsAlone):
    """Once more, if it fails."""

    def told(self, stream, request, call):
        told = list(getattr(self._fake, stream)(request, call))
        return iter(told) if not self.failed(told) else getattr(self._fake, stream)(request, call)

    def failed(self, told):
        return isinstance(told[-1], allm.ErrorEvent)


class StreamsWithItsOwnKey(StreamsAlone):
    """That of the call is for nothing."""

    def told(self, stream, request, call):
        return getattr(self._fake, stream)(request, dataclasses.replace(call, api_key=None))


class StreamsNotes(StreamsAlone):
    """The caller's own."""

    def told(self, stream, request, call):
        asked = msgspec.structs.replace(request, options={"notes": request.metadata})
        return getattr(self._fake, stream)(asked, call)


class StreamsWithoutNotes(StreamsAlone):
    """They do not come back."""

    def told(self, stream, request, call):
        *told, last = getattr(self._fake, stream)(request, call)
        return iter([*told, msgspec.structs.replace(last, metadata={})])


class StreamsTheLastCall(StreamsAlone):
    """That of whoever came last, when it is read."""

    def told(self, stream, request, call):
        self.last = (request, call)
        return (event for _ in range(1) for event in getattr(self._fake, stream)(*self.last))


class StreamsOnAndOn(StreamsAlone):
    """With what the stream before has said."""

    def __init__(self, name):
        super().__init__(name)
        self.said = []

    def told(self, stream, request, call):
        for event in getattr(self._fake, stream)(request, call):
            if isinstance(event, allm.AudioDelta | allm.CommittedTranscript):
                self.said.append(event)
                yield from self.said
            elif isinstance(event, allm.TranscriptionCompleted):
                yield msgspec.structs.replace(event, text=" ".join(each.text for each in self.said))
            else:
                yield event


class StreamsErrorsOfItsOwn(StreamsAlone):
    """Of what was refused it says one thing."""

    def told(self, stream, request, call):
        for event in getattr(self._fake, stream)(request, call):
            failed = isinstance(event, allm.ErrorEvent)
            yield allm.ErrorEvent(type(event.error)("unknown", message="no")) if failed else event


class StreamsNoWaits(StreamsAlone):
    """How long to wait is lost."""

    def told(self, stream, request, call):
        for event in getattr(self._fake, stream)(request, call):
            failed = isinstance(event, allm.ErrorEvent)
            yield allm.ErrorEvent(type(event.error)(event.error.reason)) if failed else event


STREAMS_AT_ONCE = "test_streams_at_once_are_each_their_own"
STREAMED = [suites.TestFakeSpeech, suites.TestFakeTranscription]


@pytest.mark.parametrize(
    ("suite", "wish"),
    [(suite, wish) for suite in STREAMED for wish in ("model", "options", *suite.wishes)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_wish_that_a_stream_drops_is_seen(suite, wish):
    unheard = {wish: {} if wish == "options" else None}
    planted = type("Planted", (suite,), {"adapter": StreamsDeafly(suite.name, **unheard)})()
    with pytest.raises(AssertionError, match=f"{wish}=.*of a stream, but was not sent"):
        planted.test_a_stream_sends_every_option_or_refuses_it()


@pytest.mark.parametrize("suite", STREAMED, ids=lambda suite: suite.__name__)
@pytest.mark.parametrize(
    ("adapter", "law", "says"),
    [
        (StreamsStubbornly, "test_a_stream_is_asked_for_once", "requests: 2, for a stream"),
        (StreamsWithItsOwnKey, "test_a_stream_has_the_key_of_the_call", r"use call\.api_key"),
        (StreamsNotes, "test_a_stream_returns_the_metadata_and_does_not_send_it", "must only be returned"),
        (StreamsWithoutNotes, "test_a_stream_returns_the_metadata_and_does_not_send_it", "to its last event"),
        (StreamsTheLastCall, STREAMS_AT_ONCE, r"number \[0\] had keys of their own"),
        (StreamsOnAndOn, STREAMS_AT_ONCE, "keep nothing of a stream on the adapter"),
        (
            StreamsErrorsOfItsOwn,
            "test_a_stream_with_a_refused_key_ends_with_its_error",
            "it failed with .*unknown",
        ),
        (
            StreamsNoWaits,
            "test_a_stream_that_is_rate_limited_says_how_long_to_wait",
            "give retry_after_ms=500",
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_mistake_in_streams_alone_fails_its_law_and_is_named(suite, adapter, law, says):
    planted = type("Planted", (suite,), {"adapter": adapter(suite.name)})()
    with pytest.raises(AssertionError, match=says):
        getattr(planted, law)()


@pytest.mark.parametrize("suite", STREAMED, ids=lambda suite: suite.__name__)
def test_an_adapter_without_streams_skips_the_laws_about_them(suite):
    adapter = Spoilt(suite.name, lambda answer: answer)
    for stream in ("stream_synthesize", "stream_transcribe"):
        vars(adapter).pop(stream, None)
    planted = type("Planted", (suite,), {"adapter": adapter})()
    for law in (law for law in dir(suite) if law.startswith("test_a_stream_")):
        with pytest.raises(SkipTest, match="this adapter has no streams"):
            getattr(planted, law)()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_a_key_of_the_call_that_is_not_used_is_seen(suite):
    class Planted(suite):
        @contextmanager
        def stage(self, scene):
            with super().stage(scene) as stage:
                yield dataclasses.replace(stage, keys=lambda: [STORED] * len(stage.keys()))

    with pytest.raises(AssertionError, match=r"another key was sent: use call\.api_key") as seen:
        Planted().test_the_key_of_the_call_is_sent()
    assert STORED not in str(seen.value), "whoever reads a failure reads no keys"


class Repeats(Spoilt):
    """The fake with a script of its own: the same whatever the provider makes."""

    def __init__(self, name, answer):
        super().__init__(name, None)
        self._answer = answer

    def scripted(self, call):
        return dataclasses.replace(call, options={**call.options, self._fake.script: [self._answer]})

    def call(self, request, call):
        return getattr(self._fake, self._method)(request, self.scripted(call))

    def told(self, stream, request, call):
        return getattr(self._fake, stream)(request, self.scripted(call))


NEAR = [[1.0, 0.0], [0.0, 1.0], [0.51, -0.86]]
TEXTS = [allm.ModerationResult(flagged=True, categories={"hate": "False"}, index=at) for at in range(2)]
CLEAN = [allm.ModerationResult(flagged=False)] * 2
HARM = [allm.ModerationResult(flagged=True)] * 2
FIRST = [allm.ModerationResult(flagged=True), allm.ModerationResult(flagged=False)]
HARM_OF_THE_FIRST = [msgspec.structs.replace(verdicts_of(True)[0], index=index) for index in range(2)]


@pytest.mark.parametrize(
    ("suite", "law", "answer", "says"),
    [
        (
            suites.TestFakeModeration,
            "test_each_text_has_its_own_verdict",
            CLEAN,
            r"flagged=\(False, False\) came back",
        ),
        (
            suites.TestFakeModeration,
            "test_each_text_has_its_own_verdict",
            HARM,
            r"flagged=\(True, True\) came back",
        ),
        (
            suites.TestFakeModeration,
            "test_each_text_has_its_own_verdict",
            FIRST,
            r"answered flagged=\(False, True\), but",
        ),
        (
            suites.TestFakeModeration,
            "test_each_text_has_its_own_categories",
            HARM_OF_THE_FIRST,
            "its own categories",
        ),
        (
            suites.TestFakeClassification,
            "test_each_question_has_the_answer_that_was_given",
            {"team": "billing", "mood": 0.0, "spam": 0.5},
            r"answered \['support', 0.75, 0.125\], but \['billing', 0.0, 0.5\] came back",
        ),
        (
            suites.TestFakeModeration,
            "test_scores_are_probabilities_of_categories",
            TEXTS,
            r"must be True or False: \{'hate': 'False'\}",
        ),
        (
            suites.TestFakeEmbeddings,
            "test_each_text_has_the_vector_that_was_made_of_it",
            NEAR,
            r"came back",
        ),
        (suites.TestFakeSpeech, "test_the_clip_is_the_one_that_was_made", [b"mp3"], r"b'mp3' came back"),
        (
            suites.TestFakeSpeech,
            "test_a_stream_comes_to_the_clip_that_was_made",
            [b"mp", b"3"],
            r"add up to b'mp3'",
        ),
        (
            suites.TestFakeTranscription,
            "test_the_transcript_is_the_one_that_was_made",
            "whatever",
            "'whatever' came back",
        ),
        (
            suites.TestFakeTranscription,
            "test_a_stream_comes_to_the_transcript_that_was_made",
            ["what", "ever"],
            "ends with 'what ever'",
        ),
    ],
    ids=[
        "clean",
        "harm",
        "the first",
        "categories of the first",
        "answers",
        "verdicts in words",
        "rounded vectors",
        "a clip",
        "a stream of it",
        "a transcript",
        "a stream of that",
    ],
)
def test_an_answer_that_is_always_the_same_is_seen(suite, law, answer, says):
    planted = type("Planted", (suite,), {"adapter": Repeats(suite.name, script.ok(answer))})()
    with pytest.raises(AssertionError, match=says):
        getattr(planted, law)()


def inverted(response):
    answers = dict(response.answers)
    answers["spam"] = allm.ClassificationAnswer(
        type="yes_no", yes_probability=1 - answers["spam"].yes_probability
    )
    return msgspec.structs.replace(response, answers=answers)


def test_a_no_that_is_told_as_a_yes_is_seen():
    planted = type("Planted", (suites.TestFakeClassification,), {"adapter": Spoilt("classify", inverted)})()
    with pytest.raises(AssertionError, match=r"0.125\], but \['support', 0.75, 0.875\] came back"):
        planted.test_each_question_has_the_answer_that_was_given()


def test_categories_that_a_stage_does_not_play_are_skipped():
    adapter = Repeats("moderate", script.ok(FIRST))
    with pytest.raises(SkipTest, match="let your stage play `categories` and `category_scores`"):
        type(
            "Suite", (suites.TestFakeModeration,), {"adapter": adapter}
        )().test_each_text_has_its_own_categories()


class SeesNoPictures(Spoilt):
    """Of what is judged."""

    def call(self, request, call):
        texts = [each for each in request.input if isinstance(each, str)]
        return self._fake.moderate(msgspec.structs.replace(request, input=texts), call)


class TakesPicturesForTexts(Spoilt):
    """And fails in its own way."""

    def call(self, request, call):
        "".join(request.input)
        return self._fake.moderate(request, call)


class RefusesPictures(Spoilt):
    """Which is allowed."""

    def call(self, request, call):
        if not all(isinstance(each, str) for each in request.input):
            raise allm.ModerationAdapterError(
                "unsupported_feature", provider=self.name, message="texts alone"
            )
        return self._fake.moderate(request, call)


class ReadsNoTextBesideAPicture(Spoilt):
    """The picture is all that it sends."""

    def call(self, request, call):
        pictures = [each for each in request.input if not isinstance(each, str)]
        return self._fake.moderate(msgspec.structs.replace(request, input=pictures or request.input), call)


@pytest.mark.parametrize(
    ("adapter", "keeps"),
    [
        (SeesNoPictures, pytest.raises(AssertionError, match="ImagePart was to be judged, but its bytes")),
        (
            TakesPicturesForTexts,
            pytest.raises(AssertionError, match=r'failed with TypeError.*"unsupported_feature'),
        ),
        (ReadsNoTextBesideAPicture, pytest.raises(AssertionError, match="a text beside a picture")),
        (RefusesPictures, pytest.raises(SkipTest, match="texts alone")),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_picture_is_judged_or_refused(adapter, keeps):
    planted = type("Planted", (suites.TestFakeModeration,), {"adapter": adapter("moderate", None)})()
    with keeps:
        planted.test_a_picture_is_judged_or_refused()


@pytest.mark.parametrize("reason", ["unsupported_feature", "context_length_exceeded"])
def test_a_long_text_may_be_refused(reason):
    def short(text):
        if len(text) > 4096:
            raise allm.SpeechAdapterError(reason, provider="short", message="it is too long")
        return text

    planted = type("Planted", (suites.TestFakeSpeech,), {"adapter": Reads("speech", short)})()
    with pytest.raises(SkipTest, match="it is too long"):
        planted.test_a_long_text_is_sent_whole_or_refused()


@pytest.mark.parametrize(
    ("suite", "law", "keyless"),
    [
        (suites.TestFakeTranscription, ONE_BY_ONE, {"keys": None}),
        (suites.TestFakeTranscription, AT_ONCE, {"keys": None}),
        (suites.TestFakeModeration, AT_ONCE, {"keys": None, "sent": None, "requests": lambda: 1}),
        (suites.TestFakeTranscription, STREAMS_AT_ONCE, {"keys": None}),
    ],
    ids=["one by one", "at once", "nothing at all", "streams"],
)
def test_a_stage_that_cannot_tell_callers_apart_skips_the_laws_of_many(suite, law, keyless):
    class Keyless(suite):
        @contextmanager
        def stage(self, scene):
            with super().stage(scene) as stage:
                yield dataclasses.replace(stage, **keyless)

    with pytest.raises(SkipTest, match="can be told apart"):
        getattr(Keyless(), law)()


@pytest.mark.parametrize(
    ("suite", "law"),
    [
        (suites.TestFakeImages, ONE_BY_ONE),
        (suites.TestFakeModeration, AT_ONCE),
        (suites.TestFakeTranscription, STREAMS_AT_ONCE),
    ],
    ids=["one by one", "at once", "streams"],
)
def test_a_script_for_one_call_skips_the_laws_of_many(suite, law):
    class Once(suite):
        @contextmanager
        def stage(self, scene):
            with super().stage(scene) as stage:
                name = suites.SCRIPTS[suite.name]
                options = {**stage.engine.adapter_opts, name: stage.engine.adapter_opts[name][:1]}
                yield dataclasses.replace(stage, engine=stage.engine.merge(adapter_opts=options))

    with pytest.raises(SkipTest, match="script for one call"):
        getattr(Once(), law)()


class AnEngineAlone:
    """A stage of before: an engine, and one picture whatever is asked for."""

    @contextmanager
    def stage(self, scene):
        known = CallScene(reason=scene.reason, retry_after_ms=scene.retry_after_ms)
        yield allm.Engine(image_adapter=Right(Provider(known)))


class TestAnEngineAlone(AnEngineAlone, ImageSuite):
    pass


@pytest.mark.parametrize(
    ("law", "says"),
    [
        ("test_without_retries_it_asks_once", r"give Stage\(requests=…\)"),
        ("test_it_never_tries_again_by_itself", r"give Stage\(requests=…\)"),
        ("test_what_it_is_asked_about_is_sent", r"give Stage\(sent=…\)"),
        (ONE_BY_ONE, r"give Stage\(requests=…\)"),
        (AT_ONCE, r"give Stage\(requests=…\)"),
        ("test_as_many_pictures_come_as_were_asked_for", r"1 came.*never looks at scene\.images"),
        ("test_each_picture_is_one_that_was_made", r"came back.*never looks at scene\.pictures"),
        ("test_the_model_is_sent", r"give Stage\(sent=…\)"),
        ("test_other_options_are_sent_or_refused", r"give Stage\(sent=…\)"),
        ("test_the_key_of_the_call_is_sent", r"give Stage\(keys=…\)"),
        ("test_every_picture_of_an_edit_is_sent_or_refused", "no operation 'edit'"),
        ("test_the_mask_of_an_edit_is_sent_or_refused", "no operation 'edit'"),
    ],
)
def test_what_a_stage_does_not_play_is_skipped_with_what_to_give(law, says):
    suite = type("Suite", (AnEngineAlone, ImageSuite), {})()
    with pytest.raises(SkipTest, match=says):
        getattr(suite, law)()


BYTES = b"\xff\xfe?>a picture"


@pytest.mark.parametrize(
    "sent",
    [
        b"--form\r\n\r\n" + BYTES + b"\r\n--form",
        bytearray(BYTES),
        (b"--form\r\n" + BYTES).decode(errors="replace"),
        {"picture": BYTES},
        json.dumps({"picture": base64.b64encode(BYTES).decode()}),
        {"picture": [base64.urlsafe_b64encode(BYTES).decode().rstrip("=")]},
    ],
    ids=["a form", "a buffer", "a text of a form", "values", "base64", "base64 of URLs"],
)
def test_bytes_are_found_however_they_were_sent(sent):
    stage = Stage(engine=allm.Engine(), sent=lambda: ["another request", sent])
    assert stage.holds(BYTES)
    assert not stage.holds(b"another picture")


def test_a_scene_has_the_kind_of_what_happens():
    assert CallScene().kind == "answers"
    assert CallScene(reason="rate_limited").kind == "refuses"
    assert CallScene(reason="rate_limited").status == 429
    assert CallScene(reason="network_error", streamed=True).kind == "breaks"
    assert str(CallScene(reason="timeout")) == "refuses: timeout"


def test_every_capability_has_a_suite():
    assert {suite.name for suite in SUITES} == set(CAPABILITIES)


@pytest.mark.parametrize(
    ("suite", "law", "field"),
    [
        (suites.TestFakeEmbeddings, "test_each_text_has_the_vector_that_was_made_of_it", "vectors"),
        (suites.TestFakeModeration, "test_each_text_has_its_own_verdict", "verdicts"),
        (suites.TestFakeClassification, "test_each_question_has_the_answer_that_was_given", "answers"),
        (suites.TestFakeSpeech, "test_the_clip_is_the_one_that_was_made", "clip"),
        (suites.TestFakeSpeech, "test_a_stream_comes_to_the_clip_that_was_made", "clip"),
        (suites.TestFakeTranscription, "test_the_transcript_is_the_one_that_was_made", "transcript"),
        (suites.TestFakeTranscription, "test_a_stream_comes_to_the_transcript_that_was_made", "transcript"),
    ],
    ids=lambda value: value.removeprefix("test_") if isinstance(value, str) else "",
)
def test_a_stage_that_makes_something_of_its_own_skips_the_law_about_it(suite, law, field):
    class Suite(suite):
        @contextmanager
        def stage(self, scene):
            yield allm.Engine(**{CAPABILITIES[suite.name].slot: "fake"})

    with pytest.raises(SkipTest, match=rf"never looks at scene\.{field}"):
        getattr(Suite(), law)()


@pytest.mark.parametrize(
    ("wish", "law"),
    [
        ("task_type", "test_the_task_type_is_sent_or_refused"),
        ("truncate", "test_that_nothing_may_be_truncated_is_sent_or_refused"),
    ],
)
def test_what_a_provider_of_vectors_does_without_is_skipped(wish, law):
    with pytest.raises(SkipTest, match=f"no option for {wish}"):
        getattr(type("Suite", (suites.TestFakeEmbeddings,), {"without": (wish,)})(), law)()


def fails_at_its_end(told):
    error = allm.AdapterError("malformed_response", provider="spoilt", message="it cannot be read")
    return iter((*told[:-1], allm.ErrorEvent(error)))


@pytest.mark.parametrize(
    ("suite", "law"),
    [
        (suites.TestFakeSpeech, "test_a_stream_is_a_beginning_pieces_and_an_end"),
        (suites.TestFakeSpeech, "test_a_stream_is_asked_for_the_text"),
        (suites.TestFakeSpeech, "test_a_stream_comes_to_the_clip_that_was_made"),
        (suites.TestFakeTranscription, "test_a_stream_ends_with_all_that_it_committed"),
        (suites.TestFakeTranscription, "test_a_stream_is_asked_for_the_clip"),
        (suites.TestFakeTranscription, "test_a_stream_comes_to_the_transcript_that_was_made"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stream_that_fails_at_its_end_is_no_whole_one(suite, law):
    broken = type("Broken", (suite,), {"adapter": Spoilt(suite.name, fails_at_its_end)})()
    with pytest.raises(AssertionError, match="it cannot be read"):
        getattr(broken, law)()


def test_a_call_that_never_ends_fails_its_law():
    let_go = threading.Event()

    def waits(response):
        let_go.wait()
        return response

    class Suite(suites.TestFakeModeration):
        limit, adapter = 0.2, Spoilt("moderate", waits)

    try:
        with pytest.raises(AssertionError, match=r"hangs: after 0\.2 s .* in services\.py.*needs a timeout"):
            Suite().test_there_is_a_verdict_for_each_text_with_its_index()
    finally:
        let_go.set()


class OtherWay:
    """An adapter that does what is wished for in another way than most."""

    name = "other way"

    def __init__(self, scene):
        self.scene, self.sent = scene, []

    def answer(self, **sent):
        self.sent.append(json.dumps(sent))


class Shortens(OtherWay):
    """The provider's vectors have one length."""

    def embed(self, request, call):
        self.answer(input=request.input)
        vectors = [list(vector)[: request.dimensions] for vector in self.scene.vectors]
        embeddings = [allm.Embedding(index=at, vector=vector) for at, vector in enumerate(vectors)]
        return allm.EmbeddingResponse(embeddings=embeddings, metadata=request.metadata)


class LooksAtLengths(OtherWay):
    """Vectors that were not asked for are no answer."""

    def embed(self, request, call):
        self.answer(input=request.input, size=request.dimensions)
        raise allm.EmbeddingAdapterError("malformed_response", provider=self.name, message="another length")


class KnowsTwoLengths(OtherWay):
    """Others are not asked for."""

    def embed(self, request, call):
        raise allm.EmbeddingAdapterError(
            "invalid_request", provider=self.name, message="it may be 256 or 512"
        )


class TakesNone(OtherWay):
    """As a plain function would say it."""

    def embed(self, request, call):
        raise TypeError("dimensions: this model has one length")


class SpeaksInPercent(OtherWay):
    """As SSML has it."""

    def synthesize(self, request, call):
        self.answer(ssml=f'<prosody rate="{(request.speed or 1) * 100:g}%">{request.input}</prosody>')
        return allm.SpeechResponse(audio=allm.Audio.from_bytes(b"x", "audio/mpeg"), metadata=request.metadata)


@pytest.mark.parametrize(
    ("adapter", "suite", "law", "keeps"),
    [
        (Shortens, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", nullcontext()),
        (LooksAtLengths, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", nullcontext()),
        (KnowsTwoLengths, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", pytest.raises(SkipTest)),
        (TakesNone, EmbeddingSuite, "test_the_dimensions_are_sent_or_refused", pytest.raises(SkipTest)),
        (SpeaksInPercent, SpeechSuite, "test_the_speed_is_sent_or_refused", nullcontext()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_whoever_does_it_another_way_keeps_the_law(adapter, suite, law, keeps):
    class OnStage(suite):
        @contextmanager
        def stage(self, scene):
            held = adapter(scene)
            yield Stage(engine=allm.Engine(**{CAPABILITIES[suite.name].slot: held}), sent=lambda: held.sent)

    with keeps:
        getattr(OnStage(), law)()
