"""What is not chat: slots, requests, and who answers."""

from importlib.metadata import EntryPoint

import pytest

import allm_actors as allm
from allm_actors.data import AllmError, EmbeddingRequest, EngineError, Image, ImageRequest, ModelRef
from allm_actors.data.codec import from_json, to_json
from allm_actors.engine import adapters, behaviours
from allm_actors.engine.adapters import find_capable
from allm_actors.engine.capabilities import CAPABILITIES, edit_of, request_of, variation_of
from allm_actors.engine.engine import Engine
from allm_actors.engine.fakes import FAKES, FakeImages
from allm_actors.telemetry import SPANS

ROWS = pytest.mark.parametrize("row", CAPABILITIES.values(), ids=list(CAPABILITIES))
BEHAVIOURS = {
    "image": behaviours.ImageAdapter,
    "embed": behaviours.EmbeddingAdapter,
    "moderate": behaviours.ModerationAdapter,
    "speech": behaviours.SpeechAdapter,
    "transcribe": behaviours.TranscriptionAdapter,
    "classify": behaviours.ClassificationAdapter,
}


@ROWS
def test_a_row_agrees_with_what_it_names(row):
    assert row.span in SPANS
    assert row.missing in EngineError.reasons
    assert row.field in row.request.__struct_fields__
    assert issubclass(row.error, AllmError)
    assert {row.slot, row.model_slot} <= set(Engine.__dataclass_fields__)
    assert isinstance(FAKES[row.span](), BEHAVIOURS[row.span])
    assert row.group == f"allm_actors.{row.slot}s"


@ROWS
def test_a_slot_takes_a_name_with_a_model_or_an_object(row):
    engine = Engine(**{row.slot: "fake:m1"})
    assert (getattr(engine, row.slot), getattr(engine, row.model_slot)) == ("fake", "m1")
    assert getattr(Engine(**{row.slot: "fake:m1", row.model_slot: "m2"}), row.model_slot) == "m2"
    own = FAKES[row.span]()
    assert find_capable(row, getattr(Engine(**{row.slot: own}), row.slot)) is own
    assert find_capable(row, "fake") is find_capable(row, "fake")


@ROWS
@pytest.mark.parametrize("wrong", [1, object(), FakeImages, ""], ids=["int", "object", "class", "empty"])
def test_a_slot_refuses_anything_else_when_the_engine_is_built(row, wrong):
    with pytest.raises(TypeError, match=row.slot):
        Engine(**{row.slot: wrong})
    with pytest.raises(TypeError, match=row.model_slot):
        Engine(**{row.model_slot: 1})


@ROWS
def test_an_engine_is_stored_with_its_slots(row):
    engine = Engine(**{row.slot: "fake:m1"}, id=7)
    assert from_json(to_json(engine)) == engine
    with pytest.raises(TypeError, match=f"its {row.slot} is given by name"):
        to_json(Engine(**{row.slot: FAKES[row.span]()}))


def test_an_engine_keeps_a_reference_to_a_model():
    engine = Engine(image_adapter="fake", image_model=ModelRef(id="m", capabilities={"images_enabled": True}))
    assert from_json(to_json(engine)) == engine


@ROWS
def test_a_name_that_nobody_has_is_refused_with_those_there_are(row):
    with pytest.raises(EngineError, match=r"the names are: .*fake.*entry-point group") as refused:
        find_capable(row, "zzzz")
    assert (refused.value.reason, refused.value.provider) == ("unknown_adapter", "zzzz")
    with pytest.raises(EngineError, match=r"did you mean 'fake'\? The names are: .*fake") as misspelt:
        find_capable(row, "fakes")
    assert misspelt.value.metadata["near"] == ["fake"]
    with pytest.raises(EngineError) as missing:
        find_capable(row, None)
    assert missing.value.reason == row.missing


def test_other_packages_add_adapters(monkeypatch):
    groups = []

    def installed(group):
        groups.append(group)
        value = "allm_actors.engine.fakes:FakeImages"
        names = {"theirs": value, "broken": "allm_actors.engine.fakes:no_such", "wrong": "math:pi"}
        return {name: EntryPoint(name, value, group) for name, value in names.items()}

    monkeypatch.setattr(adapters, "_installed", installed)
    monkeypatch.setattr(adapters, "_capable", {})
    image = CAPABILITIES["image"]
    assert isinstance(find_capable(image, "theirs"), FakeImages)
    assert set(groups) == {"allm_actors.image_adapters"}
    for name in ("broken", "wrong"):
        with pytest.raises(EngineError, match=f"the adapter {name!r} of the entry point") as refused:
            find_capable(image, name)
        assert refused.value.reason == "invalid_engine"


def test_a_request_is_made_of_what_was_given():
    embed = CAPABILITIES["embed"]
    assert request_of(embed, "a", {"dimensions": 3}) == EmbeddingRequest(input=["a"], dimensions=3)
    assert request_of(embed, ("a", "b"), {}) == EmbeddingRequest(input=["a", "b"])
    whole = ImageRequest(prompt="a")
    assert request_of(CAPABILITIES["image"], whole, {}) is whole


@pytest.mark.parametrize(
    ("given", "name", "message"),
    [
        ("a", "dimension", "did you mean 'dimensions'"),
        ("a", "requst_id", "did you mean 'request_id'"),
        ("a", "timeout", "request_timeout limits the call"),
        ("a", "zzz", "The options are: model, dimensions"),
        ("a", "input", "embed has no option 'input'; 'input' is the argument after the engine"),
        (EmbeddingRequest(input=[]), "dimensions", "belongs in the EmbeddingRequest, not beside it"),
    ],
    ids=["field", "call", "time", "nothing", "twice", "beside"],
)
def test_an_option_that_means_nothing_is_refused(given, name, message):
    with pytest.raises(TypeError, match=message):
        request_of(CAPABILITIES["embed"], given, {name: 1}, ["request_id"])


IMAGE = "generate_image"
PICTURE = Image.from_bytes(b"x", "image/png")
SIZE = r"size must be \(width, height\) in pixels, or a text such as '1024x1024', got: "


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": 3}, f"{IMAGE} has no option 'sizes'; did you mean 'size'"),
        ({"promt": "b"}, f"{IMAGE} has no option 'promt'; 'prompt' is the argument after the engine"),
        (
            {"prompt": "b"},
            f"{IMAGE} has no option 'prompt'; 'prompt' is the argument after the engine",
        ),
        ({"zzz": 1}, f"{IMAGE} has no option 'zzz'. The options are: operation, model, n, size"),
        ({"size": 3}, f"{IMAGE}: {SIZE}3"),
        ({"size": (1, 2, 3)}, rf"{IMAGE}: {SIZE}\(1, 2, 3\)"),
        ({"size": ("1", "2")}, f"{IMAGE}: {SIZE}"),
        ({"n": "3"}, f"{IMAGE}: n must be a whole number, got: '3'"),
        ({"n": True}, f"{IMAGE}: n must be a whole number, got: True"),
        ({"quality": 1}, f"{IMAGE}: quality must be a text, got: 1"),
        ({"options": [1]}, f"{IMAGE}: options must be a mapping"),
        ({"mask": "m.png"}, rf"{IMAGE}: mask must be an Image \(see Image.from_file\), got: 'm.png'"),
        ({"input_images": "m.png"}, f"{IMAGE}: input_images must be a list of Image"),
        ({"operation": "edit", "size": b"x" * 99}, "edit_image: size must be .* got: a bytes"),
        ({"operation": "variation", "zz": 1}, "image_variations has no option 'zz'"),
        ({"operation": []}, "operation must be a text"),
        (
            {"operation": "variation", "prompt": "b"},
            r"takes no prompt; to use one, call edit_image\(engine, image, prompt",
        ),
    ],
    ids=range(17),
)
def test_an_option_of_a_picture_that_no_provider_could_take_is_refused(fields, message):
    with pytest.raises(TypeError, match=message):
        request_of(CAPABILITIES["image"], "a cat", fields)


@pytest.mark.parametrize(
    "fields",
    [{"size": (64, 64)}, {"size": "auto"}, {"n": 99}, {"quality": "any word"}],
    ids=str,
)
def test_an_option_of_a_picture_that_some_provider_might_take_is_sent(fields):
    ((name, value),) = fields.items()
    assert getattr(request_of(CAPABILITIES["image"], "a cat", fields), name) == value


@pytest.mark.parametrize(
    ("given", "fields"), [("a cat", {"size": [64, 32]}), (ImageRequest(size=[64, 32]), {})]
)
def test_a_size_that_is_a_list_is_sent_as_the_pair_that_it_is(given, fields):
    assert request_of(CAPABILITIES["image"], given, fields).size == (64, 32)


@pytest.mark.parametrize(
    "options", [{"input_images": [PICTURE, PICTURE]}, {"operation": "generate"}], ids=str
)
def test_a_change_of_a_picture_says_its_pictures_once(options):
    for change, door in ((edit_of, "edit_image"), (variation_of, "image_variations")):
        with pytest.raises(TypeError, match=f"{door} takes no {next(iter(options))}: .* after the engine"):
            change(PICTURE, options)
        assert change(PICTURE, dict.fromkeys(options))["input_images"] == [PICTURE]


def test_a_classification_without_questions_says_what_they_are():
    with pytest.raises(
        TypeError, match=r"classify needs questions, such as {'topic': ClassificationQuestion.choice"
    ):
        request_of(CAPABILITIES["classify"], "a state", {})


@ROWS
def test_the_door_of_a_row_is_a_public_function(row):
    assert callable(getattr(allm, row.door))


@ROWS
def test_a_slot_is_no_option_of_a_call(row):
    from allm_actors.engine.places import split

    for slot in (row.slot, row.model_slot):
        with pytest.raises(TypeError, match="belongs to the engine"):
            split({slot: "fake"})


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: edit_of("cat.png", {}), "see Image.from_file"),
        (lambda: edit_of(["cat.png"], {}), "expected an Image, got str"),
        (lambda: variation_of(b"", {}), "expected an Image, got bytes"),
        (lambda: request_of(CAPABILITIES["image"], 5, {}), "expected a prompt or an ImageRequest, got int"),
        (lambda: request_of(CAPABILITIES["transcribe"], "a.mp3", {}), "see Audio.from_file"),
    ],
    ids=["edit", "list", "variation", "prompt", "clip"],
)
def test_what_is_no_picture_and_no_clip_is_told_how_to_become_one(ask, message):
    with pytest.raises(TypeError, match=message):
        ask()
