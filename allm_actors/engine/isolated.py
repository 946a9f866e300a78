"""A handler in an operating system process of its own, which can be killed, and may crash.

Rule of this file: a new interpreter for each call. Only the function's import path, the arguments, and what
it returned or raised are passed, pickled. The path has to lead to this very handler: what wraps a function is
never left out. Nothing is inherited: no thread, no lock, no open file. The child ends when it has answered,
when it is killed, and when its parent is gone for any reason.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial, reduce
from types import BuiltinFunctionType, MethodDescriptorType, MethodType, WrapperDescriptorType
from typing import IO, Any, NamedTuple

from allm_actors.data import Tool
from allm_actors.data.schemas.handlers import Made, called, context_of, handler_of, made_of
from allm_actors.data.schemas.signature import Signature, signature_of
from allm_actors.engine.adapter import ToolContext
from allm_actors.engine.awaitable import result_of

__all__ = ["Address", "ChildDied", "IsolatedCall", "address_of", "serve"]

# Its arguments are the mark and our `sys.path`. PYTHONPATH would affect every other Python that the function starts.
_SERVE = (
    "import sys; mark, *sys.path[:] = sys.argv[1:]; del sys.argv[1:]; "
    "from allm_actors.engine.isolated import serve; serve(mark)"
)
_LENGTH = struct.Struct(">Q")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_AFTERWARDS = 1.0  # seconds to read an answer after the child's end, and for a child to end after its answer
_FLUSH = 0.5  # seconds to flush what the function has printed, which may block if nobody reads it
_LOOK = 0.01  # seconds between two checks whether it has ended, where no thread watches it


class ChildDied(RuntimeError):
    """The child ended without an answer: it crashed, or was killed."""


class Address(NamedTuple):
    """Where another interpreter finds a handler.

    With a `tool_name` it finds the function of which it makes the handler. `layers` are the names in the code of
    what is found and of all that it wraps: they would differ if one of them was put there at run time.
    """

    module: str
    name: str
    tool_name: str | None
    layers: tuple[str, ...]


def address_of(tool: Tool) -> Address:
    """Where another interpreter finds the tool's handler.

    Raises ValueError where there is no other interpreter, and for a handler that it cannot import: the handler's own
    name has to lead to itself, to a tool with it, or to the function that `allm.tool(function)` made it of.
    """
    lacks = _no_interpreter()
    if lacks is not None:
        raise _unreachable(tool, f"{lacks}; use isolation='thread'")
    made = made_of(tool.handler)
    named: Any = tool.handler if made is None else made.function
    module, name = _own_name(named)
    if not module or not name or "<" in name or module == "__main__":
        where = f"{name or named!r} of {module or 'nowhere'}"
        why = f"{where} cannot be imported; define a function at the top level of another module"
        raise _unreachable(tool, why)
    if not _is_found(module):
        why = f"a new one would find another module {module!r} on sys.path, or none"
        file = getattr(named, "__globals__", {}).get("__file__")
        do = f"; put the folder of {file} on PYTHONPATH, and give it a name of its own" if file else ""
        raise _unreachable(tool, f"{why}{do}")
    found = _at(module, name)
    if _is(found, tool.handler) or (isinstance(found, Tool) and found.handler is tool.handler):
        return Address(module, name, None, _layers(tool.handler))
    if made is None or not _is(found, made.function):
        again = found.handler if isinstance(found, Tool) else found
        if type(again) is type(named) and _layers(again) in (_layers(named), _layers(tool.handler)):
            why = (
                f"{name!r} of {module} is another one since that module was loaded again; make the tool anew"
            )
            raise _unreachable(tool, why)
        why = (
            f"{name!r} of {module} is not what the tool calls (which is bound to an object, or is a wrapper with "
            "the name of what it wraps); call it in a function at the top level of a module"
        )
        raise _unreachable(tool, why)
    if not _means_the_same(made):
        raise _unreachable(tool, f"the annotations of {name!r} do not mean there what they mean here")
    return Address(module, name, made.tool_name, _layers(found))


class IsolatedCall:
    """One call of a tool's function in a child. Thread: `run` blocks its caller, `kill` may come from anywhere."""

    def __init__(self, tool: Tool, arguments: Mapping[str, Any], context: ToolContext) -> None:
        self._tool, self._arguments, self._context = tool, dict(arguments), context
        self._lock = threading.Lock()
        self._mark = (
            f"isolated call {os.urandom(16).hex()}"  # the line in which the child is ready, and answers
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._ended = threading.Event()  # set when the child is dead but not reaped yet
        self._how: str | None = None  # how it ended, as far as `_watch` has seen it

    def run(self) -> Any:
        """Run the function in the child and return its result.

        Raises what it raises, `ChildDied` when there is no answer, TypeError and the like for arguments, a context
        or an answer that cannot be pickled, and RuntimeError when the function has closed the pipe for its answer.
        """
        written = self._written()
        child = self._start()
        if child is None:
            raise ChildDied("it was cancelled before it began")
        assert child.stdin is not None
        assert child.stdout is not None
        answer, lost, answered = None, False, threading.Event()
        try:
            if hasattr(os, "waitid"):
                # Not above: the child imports this file, and needs nothing of that.
                from supervisors.runtime.birth import DaemonThread

                DaemonThread(partial(self._watch, child.pid, answered), "allm-isolated").start()
            answer = _exchanged(child.stdin, child.stdout, self._mark, written)
            lost = answer is None and self._goes_on()
        finally:
            if answer is None:
                self.kill()
            answered.set()
            code = self._reap(child)
            child.stdout.close()
            with contextlib.suppress(OSError):
                child.stdin.close()
        if lost:
            raise RuntimeError("its process closed the pipe for its answer, as if it closed all its files")
        if answer is None:
            raise ChildDied(f"its process ended with {self._ending(code)}")
        gave, value = pickle.loads(answer)  # noqa: S301 - it comes from the function that we called
        if gave:
            return value
        raise value

    def kill(self) -> None:
        """End the child now, with every process it has started; harmless when it is over."""
        with self._lock:
            self._killed = True
            if self._child is not None:
                with contextlib.suppress(OSError):
                    os.killpg(self._child.pid, 9) if hasattr(os, "killpg") else self._child.kill()

    def _reap(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for the child to end after its answer, and return its exit code; kill it if it does not end by itself.

        The lock is never held while waiting, because `kill` may be called by an event loop.
        """
        patience = time.monotonic() + _AFTERWARDS
        while True:
            with self._lock:  # until it is reaped its process id is not reused, so `kill` is safe
                code = child.poll()
                if code is not None:
                    self._child = None
                    return code
            if time.monotonic() > patience:
                self.kill()
            self._ended.wait(_LOOK)

    def _goes_on(self) -> bool:
        """Whether the child lives, and is not killed, though it cannot answer any more. Waits, as it may be dying."""
        return hasattr(os, "waitid") and not self._ended.wait(_AFTERWARDS) and not self._killed

    def _ending(self, code: int) -> str:
        if self._how is None and code == 0 and self._ended.is_set():
            return "an unknown status: another part of this program has waited for it, or ignores SIGCHLD"
        return self._how or (f"signal {-code}" if code < 0 else f"exit code {code}")

    def _watch(self, pid: int, answered: threading.Event) -> None:
        # Processes that the function has started may hold the pipe open, so the child's death may not end the reading.
        with contextlib.suppress(ChildProcessError):  # it was waited for already
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            if ended is not None:
                kind = "exit code" if ended.si_code == os.CLD_EXITED else "signal"
                self._how = f"{kind} {ended.si_status}"
        self._ended.set()
        if not answered.wait(_AFTERWARDS):
            self.kill()

    def _written(self) -> bytes:
        address = address_of(self._tool)
        context = replace(self._context, engine=None, cancelled=None)
        call = pickle.dumps((self._arguments, context))
        return pickle.dumps((sys.path, address, call))

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._killed:
                return None
            flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
            self._child = child = subprocess.Popen(  # noqa: S603 - our own interpreter, with our own line
                # -P: do not import from the current directory.
                [sys.executable, *flags, "-P", "-c", _SERVE, self._mark, *filter(None, sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        return child


def _exchanged(sink: IO[bytes], source: IO[bytes], mark: str, written: bytes) -> bytes | None:
    """The answer to what is written, or None if there is none. Reads no further: other processes may hold the pipe.

    Leaves out what is printed before the child is ready: by a `sitecustomize` or a `.pth` file, which run before our
    code. As that may be more than the pipe holds, nothing is written before.
    """
    line = f"{mark}\n".encode()
    if line not in iter(source.readline, b""):
        return None
    with contextlib.suppress(OSError, ValueError):  # it is dead: reading will show that
        sink.write(_LENGTH.pack(len(written)) + written)
        sink.flush()
    if line not in iter(source.readline, b""):
        return None
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    answer = source.read(length)
    return answer if len(answer) == length else None


def serve(mark: str) -> None:
    """The child's side: say that it is ready, read one call, answer it, end. The mark is on the line before both."""
    # Where stderr is closed, it is opened before another file gets its number.
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    # Not `sys.stdin`: a forked child closes that, and would wait for ever for the lock of the thread that reads here.
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(null, 0)
    out, line = [os.dup(1)], f"\n{mark}\n".encode()
    os.dup2(2, 1)  # what the function prints goes to stderr, because stdout carries the answer
    if hasattr(os, "register_at_fork"):  # a process that the function forks does not hold the pipe open
        os.register_at_fork(after_in_child=lambda: os.close(out.pop()) if out else None)
    with contextlib.suppress(OSError):  # our parent is gone: reading will show that
        os.write(out[0], line)
    (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
    path, address, call = pickle.loads(_exactly(source, length))  # noqa: S301 - it comes from our parent
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, args=(source,), daemon=True).start()
    answer = _answer(address, call)
    try:
        with os.fdopen(out.pop(), "wb") as pipe:
            pipe.write(line + _LENGTH.pack(len(answer)) + answer)
        flushing = threading.Thread(target=_flush, daemon=True)
        flushing.start()
        flushing.join(_FLUSH)
    except OSError:  # the function has closed the pipe, and our parent, which has seen that, ends us
        time.sleep(2 * _AFTERWARDS)
    finally:
        os._exit(0)  # without waiting for threads that the function has left behind


def _flush() -> None:
    with contextlib.suppress(BaseException):  # the function may have replaced or closed it
        sys.stdout.flush()


def _exactly(source: IO[bytes], size: int) -> bytes:
    held = bytearray()
    while len(held) < size:
        piece = source.read(size - len(held))
        if not piece:
            os._exit(1)  # the parent is gone before it has sent everything
        held += piece
    return bytes(held)


def _answer(address: Address, call: bytes) -> bytes:
    """What is told to the parent: nothing by a process that the function has forked, which ends as a script would."""
    mine = os.getpid()
    try:
        handler = _handler_at(address)
        arguments, context = pickle.loads(call)  # noqa: S301 - it comes from our parent
        context = replace(context, cancelled=_NeverCancelled())
        result = result_of(called(handler, context_of(handler), arguments, context))
        if os.getpid() != mine:
            sys.exit()
        return pickle.dumps((True, result))
    except BaseException as error:  # it is the answer, `SystemExit` too, as in a thread
        if os.getpid() != mine:
            raise
        return _raised(error)


class _NeverCancelled:
    """A cancel does not reach the child: it is killed."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        return threading.Event().wait(timeout)

    __bool__ = __call__ = is_set


def _raised(error: BaseException) -> bytes:
    """The error, as the parent gets what a thread would raise. What cannot be sent is stood in for."""
    written = _written(error)
    if written is None and isinstance(error, BaseExceptionGroup):
        with contextlib.suppress(BaseException):  # it has a class that makes its message
            written = _written(_regrouped(error))
    return written or pickle.dumps((False, _stand_in(type(error).__name__, _text(error) or "")))


def _written(error: BaseException) -> bytes | None:
    """The error, in the first way in which it is read again as the same; None if there is none."""
    for pickler in (pickle.Pickler, _Pickler):
        # Pickling runs the exception's own code, and so does the check.
        with contextlib.suppress(BaseException):
            written = io.BytesIO()
            pickler(written).dump((False, error))
            _, again = pickle.loads(written.getvalue())  # noqa: S301 - we have just written it
            if _shown(again) == _shown(error):
                return written.getvalue()
    return None


def _regrouped(group: BaseExceptionGroup[Any]) -> BaseException:
    """The group, of what is sent in the place of its members."""
    members = [pickle.loads(_raised(each))[1] for each in group.exceptions]  # noqa: S301 - we have just written it
    again = _remade(type(group), (group.message, members))
    vars(again).update(vars(group))
    return again


class _Pickler(pickle.Pickler):
    """Pickles exceptions without a call of their class: most classes make the text, and are given only the fields."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if (
            not isinstance(value, BaseException)
            or not isinstance(kind.__reduce__, MethodDescriptorType)
            or not isinstance(kind.__new__, BuiltinFunctionType)
        ):
            return NotImplemented
        made: Any = value.__reduce__()
        return _remade, (kind, made[1]), *made[2:]


def _remade(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """The exception as its built-in base makes it; its other attributes are set by pickle."""
    error = kind.__new__(kind, *arguments)
    inits = (vars(each).get("__init__") for each in kind.__mro__)
    next(init for init in inits if isinstance(init, WrapperDescriptorType))(error, *arguments)
    return error


def _shown(error: BaseException) -> tuple[Any, ...]:
    """What tells two exceptions apart: without addresses in memory, which are others in another process."""
    within = map(_shown, error.exceptions) if isinstance(error, BaseExceptionGroup) else ()
    shown = [_ADDRESS.sub("", text or "") for text in (_text(error), repr(error.args))]
    return type(error), *shown, *within


def _text(error: BaseException) -> str | None:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - this, too, is the exception's own code
        return None


class _StandIn(RuntimeError):
    """Stands for an exception that cannot be pickled, in a class of the same name."""

    def __reduce__(self) -> Any:
        return _stand_in, (type(self).__name__, str(self))


def _stand_in(name: str, text: str) -> RuntimeError:
    return _kind_of_stand_in(name)(text)


@cache  # read twice, it is the same
def _kind_of_stand_in(name: str) -> type[RuntimeError]:
    return type(name, (_StandIn,), {"__doc__": _StandIn.__doc__})


def _end_with_parent(source: IO[bytes]) -> None:
    while source.read(4096):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), 9)  # with every process that the function has started
    os._exit(1)


# --- from a handler to its address, and back ----------------------------------------------------------------------


def _no_interpreter() -> str | None:
    """Why no other interpreter can be started from here, or None."""
    if getattr(sys, "frozen", False):
        return "this program is frozen: sys.executable is the program itself, which would start all over"
    if not sys.executable:
        return "this program has none to start: sys.executable is empty"
    if _SERVE in getattr(sys, "argv", ()):  # an interpreter would have run that
        return "this program was itself started for an isolated call: its sys.executable is not a Python"
    return None


def _own_name(function: Any) -> tuple[str | None, str | None]:
    """The module and the qualified name that a function gives as its own."""
    if isinstance(function, MethodType) and isinstance(function.__self__, type):  # inherited, perhaps
        owner = function.__self__
        return owner.__module__, f"{owner.__qualname__}.{function.__name__}"
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)


def _is_found(module: str) -> bool:
    """Whether a new interpreter with our `sys.path` would load the module from where we have it."""
    path: Any = None
    for end in (index for index, letter in enumerate(f"{module}.") if letter == "."):
        name = module[:end]
        loaded = sys.modules.get(name)
        have, found = getattr(loaded, "__spec__", None), _spec(name, path)
        if have is None or found is None or have.origin != found.origin:
            return False
        path = getattr(loaded, "__path__", ())
    return True


def _spec(name: str, path: Any) -> Any:
    """As `importlib.util.find_spec`, which would answer from `sys.modules`."""
    specs = (each.find_spec(name, path) for each in sys.meta_path if hasattr(each, "find_spec"))
    return next((spec for spec in specs if spec is not None), None)


def _at(module: str, name: str) -> Any:
    try:
        return reduce(getattr, name.split("."), sys.modules[module])
    except AttributeError:
        return None


def _is(found: Any, function: Any) -> bool:
    """Whether they are the same; a class makes its bound methods anew each time, and those are equal."""
    if isinstance(found, MethodType) and isinstance(function, MethodType):
        return found == function
    return found is function


def _means_the_same(made: Made) -> bool:
    """Whether the function has these types anew, without the names of the place where the tool was made of it."""
    try:
        return _types(signature_of(made.function)) == _types(made.signature)
    except TypeError:
        return False


def _types(signature: Signature) -> list[str]:
    # As texts: what matters is a type's name, and many objects inside of `Annotated` are equal to no other.
    return [_ADDRESS.sub("", repr(argument.type)) for argument in signature.arguments]


def _layers(function: Any) -> tuple[str, ...]:
    layers: list[Any] = []
    layers.append(inspect.unwrap(function, stop=layers.append))
    codes = (getattr(layer, "__code__", type(layer)) for layer in layers)
    return tuple(getattr(code, "co_qualname", None) or code.__qualname__ for code in codes)


def _handler_at(address: Address) -> Any:
    importlib.import_module(address.module)
    found = _at(address.module, address.name)
    function: Any = found.handler if isinstance(found, Tool) and address.tool_name is None else found
    if _layers(function) != address.layers:
        raise ImportError(
            f"{address.name!r} of {address.module} is something else when it is imported anew; "
            "isolation='process' cannot call what is put there at run time"
        )
    if address.tool_name is None:
        return function
    return handler_of(function, signature_of(function), address.tool_name)


def _unreachable(tool: Tool, why: str) -> ValueError:
    return ValueError(
        f"tool {tool.name!r}: isolation='process' imports the function in another interpreter, by its module and "
        f"name, and {why}"
    )
