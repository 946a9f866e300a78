"""Tools that another interpreter can import."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import allm_actors as allm


@allm.tool(isolation="process")
def whoami(context: allm.ToolContext) -> dict:
    """Say where this runs, and for whom."""
    os.write(1, b"this is no answer\n")
    return {"pid": os.getpid(), "user": context.context["user"], "call": context.tool_call.id}


@allm.tool(isolation="process")
async def nap(seconds: float) -> str:
    """Sleep a little."""
    await asyncio.sleep(seconds)
    return "slept"


@allm.tool(isolation="process")
def fail(how: str) -> object:
    """Fail in some way."""
    match how:
        case "raise":
            raise LookupError("no such thing")
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            sys.exit(3)
        case "ask":
            return allm.AskUser("which?", choices=["a", "b"])
        case "odd":
            return open(__file__)  # noqa: PTH123 - what cannot be pickled
        case "odd raise":
            raise Unpicklable("odd", 1)
        case "mute raise":
            raise Mute("odd", 1)
        case "raise with a field":
            raise TooMany(60)
        case "raise with a lock":
            raise TooMany(threading.Lock())
        case "close":
            os.closerange(0, 100)
        case "close and go on":
            os.closerange(0, 100)
            time.sleep(60)
    return None


@allm.tool(isolation="process")
def surroundings() -> dict:
    """What a program started from here would find, and how this interpreter was started."""
    return {
        "environment": dict(os.environ),
        "arguments": sys.argv,
        "flags": [sys.flags.dev_mode, sys.flags.optimize, sys.warnoptions],
    }


@allm.tool(isolation="process")
def leave(file: str, how: str) -> str:
    """Leave a process behind, and answer, or not."""
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    Path(file).write_text(str(worker.pid))
    if how == "hang":
        time.sleep(60)
    if how == "die":
        os._exit(7)
    return "answered"


def twice(number: int) -> int:
    """Twice that."""
    return 2 * number


@allm.tool(isolation="process")
def spread(count: int) -> list[int]:
    """Work in processes of its own."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(twice, range(count))


class Unpicklable(Exception):
    """It cannot be made from its message alone."""

    def __init__(self, message, needed):
        super().__init__(message)


class Mute(Unpicklable):
    """It cannot even be told."""

    def __str__(self):
        raise ValueError("no text")


class TooMany(Exception):
    """It makes its message of a field."""

    def __init__(self, limit):
        super().__init__("at most this per minute", type(limit).__name__)
        self.limit = limit

    def __str__(self):
        return f"{self.args[0]}: {self.args[1]}"


class Several(ExceptionGroup):
    """A group of its own class."""


class Late(TimeoutError):
    """The same, of a built-in class that has fields of its own, and makes its message of them."""

    def __init__(self, seconds):
        super().__init__(110, f"after {seconds} s", "/dev/null")
        self.seconds = seconds


class Remembered(Exception):
    """It says itself how it is pickled."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self):
        return Remembered._of, (self.code,)

    @staticmethod
    def _of(code):
        return Remembered(code=code)


class Swapped(Exception):
    """It says so, and comes back as something else."""

    def __reduce__(self):
        return ValueError, ("swapped",)


@allm.tool(isolation="process")
def prints() -> str:
    """Print something, and be sure that it is printed."""
    sys.stdout.write("printed\n")
    sys.stdout.flush()
    return "printed"


@allm.tool(isolation="process")
def forks(how: str) -> int:
    """Fork, and say how the other process ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        raise LookupError("in the other process")
    return 99


@allm.tool(isolation="process")
def leaves_alone(file: str, how: str) -> None:
    """Leave a process behind in a session of its own, which no kill of ours reaches, and do not answer."""
    if os.fork() == 0:
        os.setsid()
        Path(file).write_text(str(os.getpid()))
        time.sleep(60)
    while not Path(file).exists():
        time.sleep(0.001)
    if how == "die":
        os._exit(7)
    os.closerange(0, 100)
    time.sleep(60)


@allm.tool(isolation="process")
def length(text: str) -> int:
    """How long a text is."""
    return len(text)


@allm.tool(isolation="process", effect="once")
def spin(file: str) -> str:
    """Never end, and say who does not."""
    Path(file).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@allm.tool(isolation="process", effect="idempotent")
def second_time(file: str) -> str:
    """Crash once, then answer."""
    path = Path(file)
    if not path.exists():
        path.write_text("tried")
        os.kill(os.getpid(), signal.SIGKILL)
    return "the second time"


@allm.tool(isolation="process")
def lingers() -> str:
    """Answer, and leave a thread behind that never ends, and an output that cannot be flushed."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    sys.stdout.close()
    return "answered"


@allm.tool(isolation="process")
def where() -> list[str]:
    """Say what was found in the working directory."""
    return [
        name
        for name in ("struct", "pickle")
        if "planted" in (getattr(sys.modules[name], "__file__", "") or "")
    ]
