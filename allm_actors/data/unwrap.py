"""The text of a response, or the reason why it has none.

Rule of this file: a caller who unwraps wants plain text, so everything else raises.
"""

from __future__ import annotations

from .errors import UnwrapError
from .responses import Response

__all__ = ["unwrap"]

_SHOWN = 500  # characters shown of a refusal, and of an error that an adapter gave as text


def unwrap(response: Response) -> str:
    """The response's text, which may be empty.

    Raises the error that ended the stream, if one did; else UnwrapError: `structured_content` (the content is a list
    of parts), `empty_stop_response` (no text at all), `non_stop_finish` (it ended otherwise: `.finish_reason`; the
    model's refusal is quoted). TypeError for anything but a response.
    """
    given: object = response
    if not isinstance(given, Response):
        got = type(given).__name__
        raise TypeError(f"unwrap takes a Response, got {got}; for a ChatResult, pass its final_response")
    if response.finish_reason == "stop":
        return _text(response)
    error = response.metadata.get("error") if response.finish_reason == "error" else None
    if isinstance(error, BaseException):
        raise error
    refusal = response.metadata.get("refusal")
    said = f" ({error[:_SHOWN]})" if isinstance(error, str) else ""
    message = (
        f"the response did not end with stop, but with {response.finish_reason}{said}; read response.text()"
    )
    if error is None and isinstance(refusal, str):
        message = f"the model refused: {refusal[:_SHOWN]}"
    raise UnwrapError("non_stop_finish", finish_reason=response.finish_reason, message=message)


def _text(response: Response) -> str:
    if response.message is not None and isinstance(response.message.content, list):
        message = "the response is a list of parts; read response.message.parts()"
        raise UnwrapError("structured_content", finish_reason="stop", message=message)
    text = response.text()
    if text is None:
        message = "the response has no text; look at response.tool_calls and response.raw"
        raise UnwrapError("empty_stop_response", finish_reason="stop", message=message)
    return text
