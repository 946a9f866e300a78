"""Values of what is not chat, the little they can do, and what they must be to be sent."""

import math

import pytest
from hypothesis import given

from allm_actors.data import (
    AdapterError,
    Audio,
    ClassificationAdapterError,
    ClassificationAnswer,
    ClassificationQuestion,
    ClassificationRequest,
    Embedding,
    EmbeddingAdapterError,
    EmbeddingRequest,
    EmbeddingResponse,
    ImagePart,
    ModerationAdapterError,
    ModerationRequest,
    ModerationResponse,
    ModerationResult,
    SpeechAdapterError,
    SpeechRequest,
    TranscriptionAdapterError,
    TranscriptionRequest,
    ValidationError,
)
from allm_actors.data.codec import from_json, to_json
from allm_actors.data.rules.validate import validate
from allm_actors.testing import strategies

CHOICE = ClassificationQuestion.choice("Which?", ["a", "b"])


class TestEmbeddings:
    def test_vectors_come_in_the_order_of_the_inputs(self):
        late, early = Embedding(vector=[1.0], index=1), Embedding(vector=[0.0], index=0)
        response = EmbeddingResponse(embeddings=[late, early])
        assert response.vectors() == [[0.0], [1.0]]
        assert response.dimensions() == 1
        assert EmbeddingResponse().dimensions() is None

    def test_a_normal_vector_has_length_one(self):
        assert Embedding(vector=[3.0, 4.0]).magnitude() == 5.0
        assert Embedding(vector=[3.0, 4.0], index=2).normalize() == Embedding(vector=[0.6, 0.8], index=2)

    def test_a_zero_vector_stays_what_it_is(self):
        zero = Embedding(vector=[0.0, 0.0])
        assert zero.normalize() is zero

    @given(strategies.embedding_responses())
    def test_normalizing_twice_changes_nothing_more(self, response):
        for each in response.embeddings:
            once = each.normalize()
            assert once.magnitude() == 0 or math.isclose(once.magnitude(), 1.0, rel_tol=1e-6)


def test_a_verdict_on_several_items():
    found = ModerationResult(flagged=True, categories={"violence": True, "hate": False})
    other = ModerationResult(flagged=False, categories={"self-harm": True}, index=1)
    response = ModerationResponse(results=[found, other])
    assert response.flagged()
    assert response.flagged_categories() == ["self-harm", "violence"]
    assert not ModerationResponse().flagged()


class TestAudio:
    @pytest.mark.parametrize(
        ("path", "mime"),
        [
            ("a.mp3", "audio/mpeg"),
            ("A.WAV", "audio/wav"),
            ("a.ogg", "audio/ogg"),
            ("a.oga", "audio/ogg"),
            ("a.aiff", "audio/aiff"),
            ("a.aif", "audio/aiff"),
            ("a.txt", None),
        ],
        ids=["mp3", "wav", "ogg", "oga", "aiff", "aif", "unknown"],
    )
    def test_the_extension_says_the_type_and_nothing_is_read(self, path, mime):
        assert Audio.from_file(path) == Audio(source=("file", path), mime_type=mime)

    def test_the_bytes(self, tmp_path):
        (tmp_path / "a.mp3").write_bytes(b"clip")
        assert Audio.from_file(tmp_path / "a.mp3").to_bytes() == b"clip"
        assert Audio.from_bytes(b"clip", "audio/mpeg").to_bytes() == b"clip"
        assert Audio.from_base64("Y2xpcA==", "audio/mpeg").to_bytes() == b"clip"

    def test_what_has_no_bytes_says_why(self, tmp_path):
        with pytest.raises(ValueError, match=r"invalid_base64.*clip"):
            Audio.from_base64("?", "audio/mpeg").to_bytes()
        with pytest.raises(FileNotFoundError):
            Audio.from_file(tmp_path / "none.mp3").to_bytes()

    def test_the_bytes_travel_as_a_pictures_do(self):
        text = to_json(Audio.from_bytes(b"\x01\x02", "audio/mpeg"))
        assert '"source":{"type":"binary","value":"AQI="}' in text
        with pytest.raises(ValidationError) as refused:
            from_json(text.replace("AQI=", "?"))
        assert refused.value.errors == [(["source"], "invalid_base64")]


class TestQuestions:
    def test_the_builders(self):
        assert CHOICE.criteria == {"a": None, "b": None}
        assert ClassificationQuestion.choice("Which?", {"a": "the first"}).criteria == {"a": "the first"}
        assert ClassificationQuestion.score("How?", ("low", "high")).criteria == ["low", "high"]
        assert ClassificationQuestion.yes_no("Is it?").criteria is None
        assert ClassificationQuestion.yes_no("Is it?", true="it is").criteria == {"true": "it is"}

    @pytest.mark.parametrize("given", ["billing", b"billing", 5, None], ids=str)
    def test_what_there_is_to_choose_from_is_several(self, given):
        for build, what in (
            (ClassificationQuestion.choice, "options"),
            (ClassificationQuestion.score, "levels"),
        ):
            with pytest.raises(TypeError, match=rf"takes {what} as a list, such as \['a', 'b'\], got"):
                build("Which?", given)

    def test_the_value_of_an_answer(self):
        assert ClassificationAnswer(type="choice", choice="a").value() == "a"
        assert ClassificationAnswer(type="score", score=1.5).value() == 1.5
        assert ClassificationAnswer(type="yes_no", yes_probability=0.2).value() == 0.2


@pytest.mark.parametrize(
    ("cls", "kind", "has", "lacks"),
    [
        (EmbeddingAdapterError, "embedding", {"batch_too_large"}, {"content_filter"}),
        (ModerationAdapterError, "moderation", {"batch_too_large"}, {"content_filter"}),
        (SpeechAdapterError, "speech", {"unsupported_feature"}, {"content_filter"}),
        (TranscriptionAdapterError, "transcription", {"content_filter"}, {"batch_too_large"}),
        (ClassificationAdapterError, "classification", {"timeout"}, {"unsupported_feature"}),
    ],
    ids=["embedding", "moderation", "speech", "transcription", "classification"],
)
def test_the_errors_have_reasons_of_their_own(cls, kind, has, lacks):
    assert has <= cls.reasons
    assert not (lacks | {"no_scripted_response"}) & cls.reasons
    assert str(cls("timeout")) == f"{kind} adapter error: timeout"
    assert str(cls("timeout", provider="x")) == f"{kind} adapter error (x): timeout"
    assert isinstance(cls("timeout"), AdapterError)
    with pytest.raises(ValueError, match="reason must be one of"):
        cls("no_such_reason")


CLIP = Audio.from_bytes(b"", "audio/mpeg")
BAD = [
    (EmbeddingRequest(input="a"), [("input", "not_a_list")]),
    (EmbeddingRequest(input=[]), [("input", "empty")]),
    (EmbeddingRequest(input=["", 1]), [(["input", 0], "empty"), (["input", 1], "not_a_string")]),
    (
        EmbeddingRequest(input=["a"], dimensions=0, task_type="?", truncate=1),
        [("dimensions", "must_be_positive"), ("task_type", "unknown"), ("truncate", "not_a_boolean")],
    ),
    (ModerationRequest(input=[CLIP, ""]), [(["input", 0], "invalid_part_type"), (["input", 1], "empty")]),
    (SpeechRequest(input=1), [("input", "not_a_string")]),
    (
        SpeechRequest(input="", format="midi", speed=0, sample_rate=-1, voice=1),
        [
            ("input", "empty"),
            ("format", "unknown"),
            ("speed", "must_be_positive"),
            ("sample_rate", "must_be_positive"),
            ("voice", "not_a_string"),
        ],
    ),
    (
        TranscriptionRequest(audio=b"", language=1, prompt=[]),
        [("audio", "invalid_audio"), ("language", "not_a_string"), ("prompt", "not_a_string")],
    ),
    (SpeechRequest(input="a", speed="fast"), [("speed", "must_be_positive")]),
    *(
        (
            ClassificationRequest(
                state=nothing, questions={"q": ClassificationQuestion.score(nothing, ["low", "high"])}
            ),
            [(["questions", "q", "instructions"], "empty"), ("state", "empty")],
        )
        for nothing in (None, "", [], {})
    ),
    (ClassificationRequest(state="", questions={}), [("questions", "empty"), ("state", "empty")]),
    (ClassificationRequest(state="x", questions=[]), [("questions", "not_a_map")]),
    (ClassificationRequest(state="x", questions={"a": "?"}), [(["questions", "a"], "invalid_type")]),
    (
        ClassificationRequest(state="x", questions={"u": ClassificationQuestion.score("", ["low"])}),
        [(["questions", "u", "instructions"], "empty"), (["questions", "u", "criteria"], "too_few_levels")],
    ),
]


@pytest.mark.parametrize(("request_", "errors"), BAD, ids=[f"{n}" for n in range(len(BAD))])
def test_what_cannot_be_sent_is_listed_in_order(request_, errors):
    with pytest.raises(ValidationError) as refused:
        validate(request_)
    assert refused.value.errors == errors
    name = type(request_).__name__.removesuffix("Request").lower()
    assert refused.value.reason == f"invalid_{name}_request"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "choice", "criteria": ["a"]}, "not_a_map"),
        ({"type": "choice", "criteria": {}}, "empty"),
        ({"type": "score", "criteria": "low"}, "not_a_list"),
        ({"type": "yes_no", "criteria": {"maybe": ""}}, "invalid_shape"),
    ],
    ids=["options", "none", "levels", "maybe"],
)
def test_the_criteria_fit_the_question(fields, code):
    question = ClassificationQuestion(instructions="?", **fields)
    with pytest.raises(ValidationError) as refused:
        validate(ClassificationRequest(state="x", questions={"q": question}))
    assert refused.value.errors == [(["questions", "q", "criteria"], code)]


@pytest.mark.parametrize("type", ["essay", None, []], ids=str)
def test_a_question_is_of_a_known_type(type):
    question = ClassificationQuestion(instructions="?", type=type)
    with pytest.raises(ValidationError) as refused:
        validate(ClassificationRequest(state="x", questions={"q": question}))
    assert refused.value.errors == [(["questions", "q", "type"], "unknown")]


def test_what_is_asked_for_may_be_said_in_detail():
    validate(EmbeddingRequest(input=["a"], dimensions=1, task_type="search_query", truncate=True))
    validate(SpeechRequest(input="a", format="wav", speed=0.25, sample_rate=8000, voice="v", instructions=""))
    validate(TranscriptionRequest(audio=CLIP, language="en", prompt=""))


def test_pictures_may_be_judged_and_state_may_be_data():
    from allm_actors.data import Image

    validate(ModerationRequest(input=["a", ImagePart(image=Image.from_url("u"))]))
    validate(ClassificationRequest(state={"subject": "?"}, questions={"q": CHOICE}))
    for criteria in (None, {}, {"true": "it is"}, {"true": "it is", "false": "it is not"}):
        question = ClassificationQuestion(instructions="?", type="yes_no", criteria=criteria)
        validate(ClassificationRequest(state="x", questions={"q": question}))
