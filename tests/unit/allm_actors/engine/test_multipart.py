"""Forms with files, read back by an independent reader."""

import email.parser
import email.policy

import pytest

from allm_actors.data import TranscriptionAdapterError
from allm_actors.engine.dialects.multipart import FilePart, file_name, form, form_fields
from allm_actors.engine.services import SERVICES

ROW = SERVICES["transcribe", "openai"]


def parts(content_type, body):
    """Each part's name, file name, content type and bytes, as the standard library reads them."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    assert not message.defects
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


def test_fields_and_files_come_out_as_they_went_in():
    data = bytes(range(256)) * 3 + b"\r\n--allm-"
    file = FilePart(name="file", filename="clip.mp3", content_type="audio/mpeg", data=data)
    kind, body = form([("model", "m"), ("prompt", "zwei\r\nZeilen, größer")], [file])
    (model, prompt, sent) = parts(kind, body)
    assert model[0] == "model"
    assert model[3] == b"m"
    assert prompt[3].decode() == "zwei\r\nZeilen, größer"
    assert sent == ("file", "clip.mp3", "audio/mpeg", data)


def test_the_boundary_is_in_nothing_that_is_sent():
    kind, body = form([("a", "b")], [])
    boundary = kind.partition("boundary=")[2]
    taken, again = form([("a", "b")], [FilePart(name="f", filename="f", content_type="x/y", data=body)])
    other = taken.partition("boundary=")[2]
    assert other != boundary
    assert again.count(other.encode()) == 3
    assert form([("a", boundary)], [])[0] != kind


def test_the_boundary_is_not_in_the_end_of_a_long_file():
    def boundary(data):
        file = FilePart(name="f", filename="f", content_type="x/y", data=data)
        return form([], [file])[0].partition("boundary=")[2]

    long = b"x" * 10_000
    taken = boundary(long).encode()
    assert boundary(long[: -len(taken)] + taken) != taken.decode()


def test_the_same_form_is_the_same_bytes():
    assert form([("a", "b")], []) == form([("a", "b")], [])


def test_names_cannot_break_out_of_their_header():
    file = FilePart(name="f", filename='a"\r\nX: y.png', content_type="image/png\r\nX: y", data=b"")
    _, body = form([('n"', "v")], [file])
    assert b'filename="a%22%0D%0AX: y.png"' in body
    assert b'name="n%22"' in body
    assert b"\r\nX: y" not in body


def test_values_are_texts_and_lists_are_repeated():
    values = {"a": 1, "b": True, "c": ["x", "y"], "d": None, "e": {"k": 1.5}, "f": "t"}
    assert form_fields(values, ROW) == [
        *[("a", "1"), ("b", "true"), ("c", "x"), ("c", "y")],
        *[("e", '{"k": 1.5}'), ("f", "t")],
    ]


def test_broken_text_is_refused():
    with pytest.raises(TranscriptionAdapterError, match="Unicode") as refused:
        form_fields({"prompt": "\ud800"}, ROW)
    assert refused.value.reason == "invalid_request"


def test_a_file_is_called_what_it_is_called():
    assert file_name(("file", "/home/me/clip.mp3")) == "clip.mp3"
    assert file_name(("binary", b"")) is None
