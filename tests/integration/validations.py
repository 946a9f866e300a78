"""For each failure that a validation can list, something that has it; and what can be listed, read from the code.

Rule of this file: a field inside a value is a path with `*` for an index; the failures are those that the public API
raises, none is written down here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import allm_actors as allm
from allm_actors.data import Document, Image, ImageRequest, Message, Request, Session, Thread, Tool, ToolCall

__all__ = ["UNREACHED", "WRONG", "failures", "listed_in_the_code"]

UNREACHED: dict[tuple[str, str], str] = {
    (
        "messages",
        "answer_without_call",
    ): "a dialect's own guard, with a test of its own: `validate` refuses such a request before",
    ("parsed", "raised"): "a type's own code failed: see the tests of `response_model`",
}
PACKAGE = Path(allm.__file__).parent
HI = allm.user("hi")
PNG = Image.from_bytes(b"\x89PNG", "image/png")
PDF = Document.from_bytes(b"%PDF", "application/pdf")
CALL = ToolCall(id="c0", name="t", arguments={})
CALLING = Message(role="assistant", content="", metadata={"tool_calls": [CALL]})
ANSWER = Message(role="tool", content="x", tool_call_id="c0")
WORDS = ("reasoning_effort", "reasoning_summary", "verbosity")
FOREIGN: Any = {"type": "text", "text": "hi"}


MESSAGES: list[Any] = [
    Message(role="robot", content="x"),  # type: ignore[arg-type]
    Message(role="user", content=None),  # type: ignore[arg-type]
    Message(role="user", content=[FOREIGN]),
    Message(role="tool", content="x"),
    *(
        Message(role="assistant", content="", metadata={"tool_calls": calls})
        for calls in ([{"id": "c0"}], [5], "c0")
    ),
]
CONVERSATIONS: list[Any] = [
    *([HI, message, HI] for message in MESSAGES),
    [HI, FOREIGN],
    5,
    [HI, ANSWER],
    [HI, CALLING, ANSWER, ANSWER],
    [HI, CALLING, HI, Message(role="assistant", content="")],
]


def request(**fields: Any) -> Request:
    return Request(messages=[HI], **fields)


def tool(**fields: Any) -> Tool:
    return Tool(**{"name": "t", "description": "", "schema": {}, **fields})


TOOLS = [
    *(tool(name=name) for name in ("", "auto", "white space")),
    tool(description=None),
    tool(schema=[]),
]


def pictures(image: Image, **options: Any) -> Any:
    content = [allm.ImagePart(image=image)]
    return allm.generate(_openai(), [Message(role="user", content=content)], api_key="k", **options)


def papers(document: Document, role: Any = "user") -> Any:
    content = [allm.DocumentPart(document=document)]
    return allm.generate(
        allm.Engine(adapter="gemini:m"), [Message(role=role, content=content), HI], api_key="k"
    )


def forced(choice: Any, **fields: Any) -> Any:
    engine = allm.Engine(adapter="anthropic:m")
    return allm.generate(engine, request(tool_choice=choice, **fields), api_key="k")


def worded(option: str) -> Any:
    engine = allm.Engine(adapter="openai:gpt-5")
    return allm.generate(engine, [HI], api_key="k", **{option: "much"})


def plain(provider: str, **options: Any) -> Any:
    return allm.generate(allm.Engine(adapter=f"{provider}:m"), [HI], api_key="k", **options)


def _openai() -> allm.Engine:
    return allm.Engine(adapter="openai:m")


def _checks(*values: Any) -> dict[str, Callable[[], object]]:
    return {
        f"{type(value).__name__} {at}": lambda v=value: allm.validate(v) for at, value in enumerate(values)
    }


QUESTIONS: list[tuple[Any, ...]] = [
    ("poem", "?", None),
    ("choice", "", []),
    ("choice", "?", {}),
    ("score", "?", {}),
    ("score", "?", ["one"]),
    ("yes_no", "?", 5),
]


def question(type: Any, instructions: Any, criteria: Any) -> Any:
    return allm.ClassificationQuestion(type=type, instructions=instructions, criteria=criteria)


def asked(one: Any) -> Any:
    return allm.ClassificationRequest(state="a", questions={"q": one})


def incapable() -> Iterator[Callable[[], object]]:
    off = {"enabled": False}
    able = {
        "tools": off,
        "json_native": off,
        "vision": off,
        "documents": off,
        "images_enabled": False,
        "supported_image_operations": ["edit"],
    }
    model: Any = allm.ModelRef(id="m", capabilities=able)
    shown = Message(role="user", content=[allm.ImagePart(image=PNG), allm.DocumentPart(document=PDF)])
    options: Any = {"tools": [tool()], "response_format": allm.json_schema("a", {"type": "object"})}
    yield lambda: allm.generate(allm.Engine(adapter="fake", model=model), [shown], **options)
    yield lambda: allm.generate_image(
        allm.Engine(image_adapter="fake"), ImageRequest(prompt="a", model=model)
    )


WRONG: dict[str, Callable[[], object]] = {
    **_checks(
        *MESSAGES,
        *TOOLS,
        *(Thread(messages=messages) for messages in CONVERSATIONS),
        *(Request(messages=messages) for messages in CONVERSATIONS),
        *(Session(thread=Thread(messages=messages)) for messages in CONVERSATIONS),
        Request(messages=[]),
        Request(messages=[HI, CALLING]),
        *(request(tools=[one]) for one in TOOLS),
        request(tools=[FOREIGN]),
        request(tools=[tool(), tool()]),
        request(tools=5),
        request(temperature=3),
        request(max_tokens=0),
        request(response_format="poem"),
        request(structured_finalize=True),
        request(prompt_cache={"retention": "for ever"}),
        Session(status="asleep"),  # type: ignore[arg-type]
        Session(status="awaiting_user"),
        Session(status="awaiting_tools"),
        Session(status="error"),
        Session(thread=None),  # type: ignore[arg-type]
        Session(pending_tool_calls=[5]),  # type: ignore[list-item]
        ImageRequest(prompt="", n=0, operation="paint", response_format="jpeg", size=(0, 1)),  # type: ignore[arg-type]
        ImageRequest(prompt="a", input_images=None, mask=5),  # type: ignore[arg-type]
        ImageRequest(prompt="a", input_images=[5]),  # type: ignore[list-item]
        ImageRequest(operation="edit"),
        ImageRequest(operation="variation", prompt="a"),
    ),
    "a session from text": lambda: allm.session.start(_openai(), "hi"),  # type: ignore[arg-type]
    "a chat with text": lambda: allm.chat(_openai(), "hi"),
    "two tools of one name": lambda: allm.chat(_openai(), [HI], tools=[tool(), tool()]),
    "half a character": lambda: allm.generate(_openai(), [allm.user("\ud83d")], api_key="k"),
    "a picture said by the system": lambda: allm.generate(
        _openai(), [Message(role="system", content=[allm.ImagePart(image=PNG)]), HI], api_key="k"
    ),
    "a picture without a type": lambda: pictures(Image(source=("binary", b"x"))),
    "a picture of another type": lambda: pictures(Image.from_bytes(b"x", "image/tiff")),
    "a picture that is too large": lambda: pictures(Image.from_bytes(bytes(21 * 2**20), "image/png")),
    "a picture that is not there": lambda: pictures(Image.from_file("/nonexistent.png")),
    "a document said by the system": lambda: papers(PDF, "system"),
    "a document without a type": lambda: papers(Document(source=("binary", b"x"))),
    "a document of another type": lambda: allm.generate(
        allm.Engine(adapter="anthropic:m"),
        [allm.user([allm.DocumentPart(document=Document.from_bytes(b"x", "application/zip"))])],
        api_key="k",
    ),
    "a document that is too large": lambda: papers(Document.from_bytes(bytes(51 * 2**20), "application/pdf")),
    "a document that is not there": lambda: papers(Document.from_file("/nonexistent.pdf")),
    **_checks(
        allm.EmbeddingRequest(input=None, dimensions=0, task_type="x", truncate=None),  # type: ignore[arg-type]
        allm.EmbeddingRequest(input=[]),
        allm.EmbeddingRequest(input=["", 5]),  # type: ignore[list-item]
        allm.ModerationRequest(input=[5, ""]),  # type: ignore[list-item]
        allm.ModerationRequest(input=[]),
        allm.ModerationRequest(input="x"),  # type: ignore[arg-type]
        allm.SpeechRequest(input="", format="x", speed=0, sample_rate=0),  # type: ignore[arg-type]
        allm.SpeechRequest(input=5, voice=5, instructions=5),  # type: ignore[arg-type]
        allm.TranscriptionRequest(audio=None, language=5, prompt=5),  # type: ignore[arg-type]
        allm.ClassificationRequest(state="", questions={}),
        allm.ClassificationRequest(state="a", questions=[]),  # type: ignore[arg-type]
        asked(5),
        *(asked(question(*what)) for what in QUESTIONS),
    ),
    **{f"what a model cannot do: {at}": way for at, way in enumerate(incapable())},
    "too many stops": lambda: plain("groq", stop=list("abcde")),
    "an option that a provider refuses": lambda: plain("groq", logprobs=True),
    "more answers than a provider gives": lambda: allm.generate(
        allm.Engine("groq:m"), allm.request([HI], options={"n": 2}), api_key="k"
    ),
    "more items than a provider reads": lambda: plain("perplexity", image_domain_filter=["x"] * 11),
    "a word that a provider does not know": lambda: plain("perplexity", search_mode="deep"),
    "a choice that is none": lambda: forced(5, tools=[tool()]),
    "a choice without tools": lambda: forced("required"),
    "a choice of no tool": lambda: forced("look", tools=[tool()]),
    **{f"a word of {word}": lambda word=word: worded(word) for word in WORDS},
    "no JSON": lambda: allm.from_json("{"),
    "an array": lambda: allm.from_json("[]"),
    "no known class": lambda: allm.from_json("{}", as_="ALLM.Nothing"),
    "a tag alone": lambda: allm.from_json('{"__type__": "ALLM.Message"}'),
    "data of another kind": lambda: allm.from_json('{"__type__": "ALLM.Message", "data": []}'),
    "a word that is not known": lambda: _message_with("role", "robot"),
    "a field of another kind": lambda: _message_with("metadata", 5),
    "a file, which was refused": lambda: allm.from_json(
        allm.to_json(Image.from_file("/etc/passwd")), files=False
    ),
    "bytes that are no Base64": lambda: allm.from_json(
        '{"__type__": "ALLM.Image", "data": {"source": {"type": "binary", "value": "%"}}}'
    ),
}


def failures() -> set[tuple[str, str, str]]:
    """`(reason, field, code)` of everything that the wrong values above are refused for."""
    found: set[tuple[str, str, str]] = set()
    for name, wrong in WRONG.items():
        try:
            wrong()
        except allm.ValidationError as error:
            found |= {(error.reason, _path(field), code) for field, code in error.errors}
        else:
            raise AssertionError(f"{name} was not refused")
    return found


# What is wrong with a part of a message is found by functions that return the code.
_FINDERS = {
    "dialects/pictures.py": "picture_failure",
    "dialects/documents.py": "document_failure",
    "dialects/parts.py": "_failure",
    "dialects/anthropic/chat.py": "_document_failure",
    "dialects/bedrock/documents.py": "_failure",
}


def listed_in_the_code() -> set[tuple[str, str]]:
    """`(last part of the field, code)` of every failure that the code can list; `*` where only it knows which field."""
    found: set[tuple[str, str]] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            found |= {(_field(field), code) for pair in _pairs(node) for field, code in _read(pair)}
        finders = (function for file, function in _FINDERS.items() if path.match(file))
        found |= {("*", code) for function in finders for code in _returned(tree, function)}
    return found


def _message_with(field: str, value: object) -> Any:
    return allm.from_json(json.dumps({"__type__": "ALLM.Message", "data": {field: value}}))


def _path(field: Any) -> str:
    parts = field if isinstance(field, list) else [field]
    return ".".join("*" if isinstance(part, int) else part for part in parts)


def _pairs(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Every pair of a field and a code: yielded, appended, or given to an error."""
    match node:
        case ast.Yield(value=ast.Tuple(elts=[field, code])):
            yield field, code
        case ast.Yield(value=ast.Tuple(elts=[_, ast.Constant(value=str()) as code, ast.JoinedStr()])):
            yield ast.Constant("*"), code  # with the reason in words
        case ast.GeneratorExp(elt=ast.Tuple(elts=[field, code])):
            yield field, code
        case ast.Call(func=ast.Name(id="_problem"), args=[field, code]):
            yield field, code
        case ast.Call(func=ast.Name(id="ValidationError"), args=[_, ast.List(elts=pairs)]):
            yield from (tuple(pair.elts) for pair in pairs if isinstance(pair, ast.Tuple))  # type: ignore[misc]
        case ast.Call(func=ast.Attribute(attr="append"), args=[ast.Tuple(elts=[field, code])]):
            yield field, code
        case ast.Assign(targets=[ast.Name(id="code")], value=ast.IfExp(body=one, orelse=other)):
            yield ast.Constant("*"), one
            yield ast.Constant("*"), other


def _read(pair: tuple[ast.expr, ast.expr]) -> Iterator[tuple[ast.expr, str]]:
    field, code = pair
    if isinstance(code, ast.Constant) and isinstance(code.value, str):
        yield field, code.value


def _field(field: ast.expr) -> str:
    if isinstance(field, ast.List):
        return _field(field.elts[-1])
    return str(field.value) if isinstance(field, ast.Constant) else "*"


def _returned(tree: ast.AST, function: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            texts = [part for part in ast.walk(node) if isinstance(part, ast.Return) and part.value]
            constants = [part for text in texts for part in ast.walk(text) if isinstance(part, ast.Constant)]
            yield from (
                each.value for each in constants if isinstance(each.value, str) and each.value != "url"
            )
