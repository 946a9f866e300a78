"""The scripted providers of what is not chat."""

import math
import re

import pytest

import allm_actors as allm
from allm_actors.data import (
    Audio,
    AudioDelta,
    ClassificationAdapterError,
    ClassificationAnswer,
    ClassificationQuestion,
    ClassificationRequest,
    ClassificationResponse,
    Embedding,
    EmbeddingAdapterError,
    EmbeddingRequest,
    ErrorEvent,
    Image,
    ImageAdapterError,
    ImagePart,
    ImageRequest,
    ImageResponse,
    ImageUsage,
    ModerationRequest,
    ModerationResult,
    SpeechAdapterError,
    SpeechRequest,
    SpeechResponse,
    TranscriptionAdapterError,
    TranscriptionRequest,
    Usage,
)
from allm_actors.engine.adapter import Call
from allm_actors.engine.fake import Counter
from allm_actors.engine.fakes import (
    FakeClassification,
    FakeEmbeddings,
    FakeImages,
    FakeModeration,
    FakeSpeech,
    FakeTranscription,
)
from allm_actors.testing import script

PICTURE = Image.from_bytes(b"x", "image/png")
CAT = ImageRequest(prompt="a cat", model="m", metadata={"mine": 1})


def call(key=1, **options):
    return Call(request_id="r1", options=options, cursor_key=key)


def pictures(fake, key=1, **options):
    return fake.generate(CAT, call(key, **options)).images


class Drawn(FakeImages):
    """Has a picture of its own."""

    def _unscripted(self):
        return [PICTURE], {}


SPEECH = SpeechRequest(input="hi")
CLIP = TranscriptionRequest(audio=Audio.from_bytes(b"hi", "audio/mpeg"))
QUESTION = ClassificationRequest(
    state="hi", questions={"q": ClassificationQuestion(type="yes_no", instructions="?")}
)
ASKED = [
    (Drawn, "generate", CAT),
    (FakeEmbeddings, "embed", EmbeddingRequest(input=["hi"])),
    (FakeModeration, "moderate", ModerationRequest(input=["hi"])),
    (FakeSpeech, "synthesize", SPEECH),
    (FakeSpeech, "stream_synthesize", SPEECH),
    (FakeTranscription, "transcribe", CLIP),
    (FakeTranscription, "stream_transcribe", CLIP),
    (FakeClassification, "classify", QUESTION),
]


class TestScripts:
    def test_an_entry_for_each_call(self):
        fake, entries = FakeImages(), [script.ok([PICTURE]), script.ok([])]
        assert pictures(fake, image_script=entries) == [PICTURE]
        assert pictures(fake, image_script=entries) == []
        with pytest.raises(ImageAdapterError, match="no scripted image is left") as over:
            pictures(fake, image_script=entries)
        assert (over.value.reason, over.value.metadata) == ("unknown", {"cause": "no_scripted_image"})

    @pytest.mark.parametrize("last", [script.error("timeout"), script.ok([b"a", script.error("timeout")])])
    def test_a_failure_that_was_tried_again_past_the_end_is_named(self, last):
        engine = allm.Engine(speech_adapter="fake", adapter_opts={"speech_script": [last]})
        with pytest.raises(
            SpeechAdapterError, match=r"is left: .* one more for each retry: .*timeout.*retry=False"
        ):
            allm.synthesize(engine, "Hi", retry={"base_delay": 0.001})
        with pytest.raises(SpeechAdapterError) as failed:
            allm.synthesize(engine, "Hi", retry=False, adapter_opts={"script_cursor": Counter()})
        assert failed.value.reason == "timeout"

    def test_engines_have_cursors_of_their_own_unless_they_share_one(self):
        fake, entries = FakeImages(), [script.ok([PICTURE]), script.ok([])]
        assert pictures(fake, 1, image_script=entries) == pictures(fake, 2, image_script=entries) == [PICTURE]
        shared = {"image_script": entries, "script_cursor": Counter()}
        assert (pictures(fake, 3, **shared), pictures(fake, 4, **shared)) == ([PICTURE], [])
        keyed = {"image_script": entries, "cursor_key": "k"}
        assert (pictures(fake, 5, **keyed), pictures(fake, 6, **keyed)) == ([PICTURE], [])

    def test_without_any_key_the_script_is_the_key(self):
        fake, entries = FakeImages(), [script.ok([PICTURE]), script.ok([])]
        assert (pictures(fake, None, image_script=entries), pictures(fake, None, image_script=entries)) == (
            [PICTURE],
            [],
        )

    def test_the_response_carries_what_the_request_said(self):
        response = FakeImages().generate(CAT, call(image_script=[script.ok([PICTURE], id="x")]))
        own = FakeImages().generate(CAT, call(image_script=[script.ok([PICTURE], request_id="mine")]))
        assert own.request_id == "mine"
        assert (response.id, response.request_id, response.model, response.metadata) == (
            "x",
            "r1",
            "m",
            {"mine": 1},
        )
        assert response.usage.images == 1

    def test_a_whole_response_may_be_scripted(self):
        whole = ImageResponse(images=[PICTURE], model="other", metadata={"mine": 2})
        response = FakeImages().generate(CAT, call(image_script=[script.ok(whole)]))
        assert (response.model, response.metadata) == ("other", {"mine": 2})

    def test_it_may_fail_until_the_nth_call(self):
        fake, options = FakeImages(), {"image_script": [script.retry_until_call(3), script.ok([PICTURE])]}
        for _ in range(2):
            with pytest.raises(ImageAdapterError) as limited:
                pictures(fake, **options)
            assert (limited.value.reason, limited.value.retry_after_ms) == ("rate_limited", 0)
        assert pictures(fake, **options) == [PICTURE]

    def test_it_fails_as_often_when_its_script_is_played_again(self):
        script_cursor = Counter()
        options = {"image_script": [script.retry_until_call(2), script.ok([PICTURE])]}
        fake = FakeImages()
        for _ in range(2):
            script_cursor.reset()
            with pytest.raises(ImageAdapterError, match="rate_limited"):
                pictures(fake, script_cursor=script_cursor, **options)
            assert pictures(fake, script_cursor=script_cursor, **options) == [PICTURE]

    def test_a_usage_that_is_no_number_is_refused(self):
        entry = script.ok([[1.0]], usage={"input_tokens": "7"})
        request = EmbeddingRequest(input=["x"])
        with pytest.raises(
            TypeError, match="input_tokens of the usage in embed_script must be a number, got: '7'"
        ):
            FakeEmbeddings().embed(request, call(embed_script=[entry]))

    def test_a_script_cursor_counts_even_if_it_is_false(self):
        class Falsy(Counter):
            def __bool__(self):
                return False

        options = {"image_script": [script.ok([PICTURE]), script.error("timeout")]}
        fake, script_cursor = FakeImages(), Falsy()
        for _ in range(2):
            script_cursor.reset()
            assert pictures(fake, script_cursor=script_cursor, **options) == [PICTURE]

    def test_errors_are_scripted_by_reason_or_as_they_are(self):
        own = TranscriptionAdapterError("timeout")
        entries = [script.error("content_filter", status=400), script.error(own)]
        fake = FakeImages()
        with pytest.raises(ImageAdapterError) as by_reason:
            pictures(fake, image_script=entries)
        assert (by_reason.value.reason, by_reason.value.status, by_reason.value.provider) == (
            "content_filter",
            400,
            "fake",
        )
        with pytest.raises(TranscriptionAdapterError) as as_it_is:
            pictures(fake, image_script=entries)
        assert as_it_is.value is own

    @pytest.mark.parametrize(
        ("method", "value", "takes"),
        [
            ("generate", PICTURE, "a list of Image, or a whole ImageResponse, got: one Image"),
            ("generate", b"abc", "a list of Image, or a whole ImageResponse, got: b'abc'"),
            ("generate", "abc", "got: 'abc'"),
            ("generate", [b"x"], r"got: \[b'x'\]"),
            ("generate", None, "got: None"),
            ("generate", SpeechResponse(), "a whole ImageResponse, got: one SpeechResponse"),
            ("embed", 1.0, "a list of vectors, or a whole EmbeddingResponse, got: 1.0"),
            ("embed", [1.0, 2.0], r"got: \[1.0, 2.0\]"),
            ("embed", ["abc"], r"got: \['abc'\]"),
            ("embed", [[True]], r"got: \[\[True\]\]"),
            ("moderate", [True], r"a list of ModerationResult, .*, got: \[True\]"),
            ("moderate", ModerationResult(flagged=True), "got: one ModerationResult"),
            ("synthesize", "abc", "bytes, or a list of bytes, .*, got: 'abc'"),
            ("synthesize", ["abc"], r"got: \['abc'\]"),
            ("synthesize", Audio.from_bytes(b"x", "audio/wav"), "got: one Audio"),
            ("stream_synthesize", Audio.from_bytes(b"x", "audio/wav"), "got: one Audio"),
            ("transcribe", [b"abc"], r"a text, or a list of texts, .*, got: \[b'abc'\]"),
            ("stream_transcribe", 7, "got: 7"),
            (
                "classify",
                ClassificationAnswer(type="yes_no"),
                "answers by the ids of the questions, .*, got: one ClassificationAnswer",
            ),
            ("classify", "yes", "got: 'yes'"),
        ],
    )
    def test_an_answer_of_another_kind_is_refused_with_what_belongs_there(self, method, value, takes):
        fake, request = next((fake, request) for fake, name, request in ASKED if name == method)
        with pytest.raises(TypeError, match=rf"ok\(…\) in {fake.script} takes .*{takes}"):
            getattr(fake(), method)(request, call(**{fake.script: [script.ok(value)]}))

    def test_fields_stand_beside_a_whole_response_too(self):
        whole = ImageResponse(images=[PICTURE], model="other", id="x")
        response = FakeImages().generate(CAT, call(image_script=[script.ok(whole, model="mine")]))
        assert (response.model, response.id) == ("mine", "x")

    def test_usage_may_be_a_mapping_everywhere(self):
        entry = script.ok([[1.0]], usage={"input_tokens": 7})
        request = EmbeddingRequest(input=["hi"])
        assert FakeEmbeddings().embed(request, call(embed_script=[entry])).usage == Usage(input_tokens=7)

    def test_pictures_are_counted_where_a_whole_response_does_not(self):
        entries = [
            script.ok(ImageResponse(images=[PICTURE])),
            script.ok(ImageResponse(images=[PICTURE], usage=ImageUsage(images=5))),
        ]
        fake = FakeImages()
        assert [fake.generate(CAT, call(image_script=entries)).usage.images for _ in entries] == [1, 5]

    def test_an_error_may_end_pieces_that_were_stored_as_lists(self):
        events = FakeTranscription().stream_transcribe(
            CLIP, call(transcription_script=[["ok", ["a", ["error", "timeout"]]]])
        )
        *_, committed, failure = events
        assert (committed.text, failure.error.reason) == ("a", "timeout")

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"image_script": [("perhaps", 1)]}, ValueError, "entries begin with one of: ok, error"),
            ({"image_script": [("ok",)]}, ValueError, r"unknown entry of image_script: \('ok',\)"),
            ({"image_script": [("ok", [], {}, 1)]}, ValueError, "unknown entry of image_script"),
            (
                {"image_script": [("ok", [], 5)]},
                TypeError,
                r"fields of ok\(…\) in image_script must be a mapping, got: 5",
            ),
            (
                {"image_script": [script.ok([], size=1)]},
                TypeError,
                "has an unknown field 'size'; the fields of ImageResponse are",
            ),
            (
                {"image_script": [script.ok([], usage=1)]},
                TypeError,
                "usage in image_script must be ImageUsage or",
            ),
            (
                {"image_script": [script.error(["a"])]},
                ValueError,
                r"image_script takes one of .*, got: \['a'\]",
            ),
            ({"image_script": [script.retry_until_call("2")]}, TypeError, "takes a whole number, got: '2'"),
            ({"image_script": "ok"}, TypeError, "image_script in adapter_opts must be a list"),
            ({"image_script": [], "script_cursor": 1}, TypeError, "must be a Counter"),
            ({"image_script": [], "cursor_key": []}, TypeError, r"cursor_key .* hashable, .*, got: \[\]"),
            ({"image_script": [], "capture": 1}, TypeError, "capture in adapter_opts must be"),
            ({"image_script": [], "record": 1}, TypeError, "record in adapter_opts must be"),
        ],
        ids=[
            "entry",
            "empty",
            "long",
            "fields",
            "field",
            "usage",
            "reason",
            "until",
            "text",
            "cursor",
            "key",
            "capture",
            "record",
        ],
    )
    def test_what_cannot_be_played_is_refused(self, options, error, message):
        with pytest.raises(error, match=message):
            pictures(FakeImages(), **options)

    def test_whoever_wants_to_sees_each_request(self):
        seen = []
        with pytest.raises(ImageAdapterError):
            pictures(FakeImages(), capture=seen.append)
        assert seen == [CAT]

    @pytest.mark.parametrize(("fake", "method", "request_"), ASKED, ids=[method for _, method, _ in ASKED])
    def test_every_fake_records_its_calls(self, fake, method, request_):
        recorded, heard = [], []
        getattr(fake(), method)(request_, call(record=recorded))
        getattr(fake(), method)(request_, call(record=heard.append))
        for (one,) in (recorded, heard):
            assert (one.request, one.call.request_id) == (request_, "r1")


class TestEmbeddings:
    def embed(self, *texts, **fields):
        return FakeEmbeddings().embed(EmbeddingRequest(input=list(texts), **fields), call()).vectors()

    def test_equal_texts_have_equal_vectors_of_length_one(self):
        first, again, other = self.embed("a cat", "A cat", "a dog")
        assert first == again != other
        assert all(math.isclose(math.hypot(*vector), 1.0) for vector in (first, other))
        assert [len(vector) for vector in self.embed("a", "b", dimensions=5)] == [5, 5]

    @pytest.mark.parametrize("text", ["", " "])
    def test_a_text_without_a_word_has_a_vector_of_length_one_too(self, text):
        (vector,) = FakeEmbeddings().embed(EmbeddingRequest(input=[text]), call()).embeddings
        assert vector.magnitude() == pytest.approx(1)

    def test_texts_with_words_in_common_are_closer(self):
        cat, kitten, tax = self.embed("the grey cat sleeps", "the grey cat eats", "quarterly income report")
        assert sum(map(float.__mul__, cat, kitten)) > sum(map(float.__mul__, cat, tax))

    def test_embeddings_may_be_scripted_as_they_are(self):
        request = EmbeddingRequest(input=["a", "b"])
        entries = [
            script.ok([Embedding(vector=[1.0]), Embedding(vector=[2.0])]),
            script.ok([Embedding(vector=[2.0], index=1), Embedding(vector=[1.0])]),
            script.ok(((1,), (2,))),
        ]
        fake = FakeEmbeddings()
        said = [fake.embed(request, call(embed_script=entries)).vectors() for _ in entries]
        assert said == [[[1.0], [2.0]]] * 3

    def test_too_many_texts_are_refused(self):
        with pytest.raises(EmbeddingAdapterError) as refused:
            FakeEmbeddings(2).embed(EmbeddingRequest(input=["a", "b", "c"]), call())
        assert (refused.value.reason, refused.value.metadata) == ("batch_too_large", {"count": 3, "max": 2})


def test_by_itself_everything_is_clean():
    fake, picture = FakeModeration(), ImagePart(image=PICTURE)
    assert [r.index for r in fake.moderate(ModerationRequest(input=["a", "b"]), call()).results] == [0, 1]
    assert len(fake.moderate(ModerationRequest(input=["a", picture, "b"]), call()).results) == 1
    with pytest.raises(Exception, match="no scripted moderation"):
        fake.moderate(ModerationRequest(input=["a"]), call(moderation_script=[]))


def test_verdicts_are_numbered_unless_the_script_numbers_them():
    fake, request = FakeModeration(), ModerationRequest(input=["a", "b"])
    bad, good = ModerationResult(flagged=True), ModerationResult(flagged=False, index=1)
    entries = [script.ok([bad, bad]), script.ok([good, bad])]
    said = [fake.moderate(request, call(moderation_script=entries)).results for _ in entries]
    assert [[result.index for result in results] for results in said] == [[0, 1], [1, 0]]


class TestAudio:
    def test_the_ear_undoes_the_voice(self):
        spoken = FakeSpeech().synthesize(SpeechRequest(input="Hello  there", format="wav"), call())
        assert (spoken.format, spoken.audio.mime_type) == ("wav", "audio/wav")
        heard = FakeTranscription().transcribe(
            TranscriptionRequest(audio=spoken.audio, language="en"), call()
        )
        assert (heard.text, heard.language) == ("Hello  there", "en")

    def test_a_clip_that_cannot_be_read_is_refused(self):
        request = TranscriptionRequest(audio=Audio.from_file("/no/such/file.mp3"))
        with pytest.raises(TranscriptionAdapterError) as refused:
            FakeTranscription().transcribe(request, call())
        assert (refused.value.reason, refused.value.metadata["cause"]) == (
            "invalid_request",
            "unresolvable_audio",
        )
        *_, last = FakeTranscription().stream_transcribe(request, call())
        assert isinstance(last, ErrorEvent)

    def test_a_text_that_has_no_bytes_is_refused(self):
        request = SpeechRequest(input="\ud83d")
        with pytest.raises(SpeechAdapterError, match="not valid Unicode") as refused:
            FakeSpeech().synthesize(request, call())
        assert refused.value.reason == "invalid_request"
        assert [event.error.reason for event in FakeSpeech().stream_synthesize(request, call())] == [
            "invalid_request"
        ]

    def test_a_response_without_an_audio_in_it_is_refused(self):
        entry = script.ok(SpeechResponse(audio=b"RIFF"))
        with pytest.raises(TypeError, match="SpeechResponse in speech_script must be an Audio, got: bytes"):
            FakeSpeech().synthesize(SPEECH, call(speech_script=[entry]))

    def test_pieces_may_end_with_an_error(self):
        options = {"speech_script": [script.ok([b"a", script.error("timeout")])] * 2}
        fake = FakeSpeech()
        *_, data, failure = fake.stream_synthesize(SpeechRequest(input="x"), call(**options))
        assert (data.data, failure.error.reason) == (b"a", "timeout")
        with pytest.raises(Exception, match="timeout"):
            fake.synthesize(SpeechRequest(input="x"), call(**options))

    @pytest.mark.parametrize(
        "entry",
        [
            script.ok(b"RIFF", format="wav", sample_rate=8000, model="m", id="i"),
            script.ok(
                SpeechResponse(
                    audio=Audio.from_bytes(b"RIFF", "audio/wav"),
                    format="wav",
                    sample_rate=8000,
                    model="m",
                    id="i",
                )
            ),
        ],
        ids=["fields", "whole"],
    )
    def test_a_stream_says_what_is_scripted_of_the_clip(self, entry):
        options = {"speech_script": [entry] * 2}
        started, data, completed = FakeSpeech().stream_synthesize(SPEECH, call(**options))
        assert (started.format, started.mime_type, started.sample_rate) == ("wav", "audio/wav", 8000)
        assert (started.model, data.data, completed.id) == ("m", b"RIFF", "i")
        spoken = FakeSpeech().synthesize(SPEECH, call(**options))
        assert (spoken.format, spoken.audio.mime_type) == ("wav", "audio/wav")

    def test_a_stream_says_what_is_scripted_of_the_transcript(self):
        entry = script.ok(("Hello ", "world"), id="i", model="m", provider="p")
        events = FakeTranscription().stream_transcribe(CLIP, call(transcription_script=[entry]))
        started, _, first, _, second, completed = events
        assert (started.session_id, started.model, started.provider) == ("i", "m", "p")
        assert (first.text, second.text, completed.text) == ("Hello ", "world", "Hello world")

    def test_what_has_nothing_in_it_is_no_piece_of_a_clip_and_no_word_of_a_transcript(self):
        pieces = call(speech_script=[script.ok([b"a", b"", b"b"])])
        told = [
            event for event in FakeSpeech().stream_synthesize(SPEECH, pieces) if type(event) is AudioDelta
        ]
        assert told == [AudioDelta(b"a"), AudioDelta(b"b")]
        segments = call(transcription_script=[script.ok(["Hello", " ", "world"])])
        assert FakeTranscription().transcribe(CLIP, segments).text == "Hello world"

    @pytest.mark.parametrize("silence", [b"", [], SpeechResponse()], ids=["bytes", "pieces", "whole"])
    def test_a_clip_without_a_byte_is_malformed_however_it_is_asked_for(self, silence):
        options = {"speech_script": [script.ok(silence)] * 2}
        *_, last = FakeSpeech().stream_synthesize(SPEECH, call(**options))
        assert (last.error.reason, last.error.message) == ("malformed_response", "the clip is empty")
        with pytest.raises(SpeechAdapterError, match="the clip is empty"):
            FakeSpeech().synthesize(SPEECH, call(**options))

    @pytest.mark.parametrize("method", ["synthesize", "stream_synthesize"])
    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (script.ok(b"a", format="ogg"), "format in speech_script must be one of mp3, .*, got: 'ogg'"),
            (
                script.ok(SpeechResponse(audio=Audio.from_file("/no/such/file.mp3"))),
                "speech_script has a clip that cannot be read: .*/no/such/file.mp3",
            ),
        ],
        ids=["format", "file"],
    )
    def test_a_clip_that_nobody_could_hand_out_is_refused(self, method, entry, message):
        with pytest.raises(ValueError, match=message):
            getattr(FakeSpeech(), method)(SPEECH, call(speech_script=[entry]))


QUESTIONS = {
    "team": ClassificationQuestion.choice("?", ["a", "b"]),
    "mood": ClassificationQuestion.score("?", ["calm", "angry"]),
    "spam": ClassificationQuestion.yes_no("?"),
}


class TestClassification:
    def classify(self, *entries):
        options = {"classification_script": list(entries)} if entries else {}
        request = ClassificationRequest(state="x", questions=QUESTIONS)
        return FakeClassification().classify(request, call(**options))

    def test_by_itself_it_gives_the_plainest_answers(self):
        values = {id: answer.value() for id, answer in self.classify().answers.items()}
        assert values == {"team": "a", "mood": 0.0, "spam": 0.5}

    def test_values_may_be_scripted(self):
        answers = self.classify(script.ok({"team": "b", "mood": 1, "spam": 1})).answers
        assert answers["team"].probabilities == {"a": 0.0, "b": 1.0}
        assert (answers["mood"].score, answers["mood"].legend) == (1.0, ["calm", "angry"])
        assert answers["spam"].yes_probability == 1.0

    def test_a_script_that_does_not_fit_the_questions_is_malformed(self):
        with pytest.raises(ClassificationAdapterError, match="differ"):
            self.classify(script.ok({"team": "b"}))

    @pytest.mark.parametrize(
        ("answers", "message"),
        [
            (
                {"team": "b"},
                r"questions without an answer: \['mood', 'spam'\]; answers to questions that were not asked: \[\]",
            ),
            (
                {"team": "b", "mood": 1, "spam": 1, "ham": 1},
                r"questions without an answer: \[\]; answers to questions that were not asked: \['ham'\]",
            ),
            ({"team": "c", "mood": 1, "spam": 1}, "'team' must be one of a, b, got: 'c'"),
            ({"team": ["a"], "mood": 1, "spam": 1}, r"'team' must be one of a, b, got: \['a'\]"),
            ({"team": "b", "mood": 77, "spam": 1}, "'mood' must be a number from 0 to 1, got: 77.0"),
            ({"team": "b", "mood": "angry", "spam": 1}, "'mood' must be a number from 0 to 1, got: 'angry'"),
            ({"team": "b", "mood": 1, "spam": 7}, "'spam' must be a number from 0 to 1, got: 7.0"),
            (
                {"team": "b", "mood": 1, "spam": ClassificationAnswer(type="score", score=1.0)},
                "'spam' must be a ClassificationAnswer of type 'yes_no', or its value, got: 1.0",
            ),
        ],
    )
    def test_an_answer_that_was_not_possible_is_malformed(self, answers, message):
        for value in (answers, ClassificationResponse(answers=answers)):
            with pytest.raises(ClassificationAdapterError, match="classification_script: ") as refused:
                self.classify(script.ok(value))
            assert refused.value.reason == "malformed_response"
            if value is answers:
                assert re.search(message, refused.value.message)
