"""What to supervise, as data: child specs, a supervisor's flags, and what makes them valid.

The rule of this file: everything is checked before anything is started, in a fixed order, and the first fault
is raised as a `BadSpec` whose `why` is a stable word:

    invalid_child_spec · invalid_id · invalid_start · invalid_restart_type · bad_combination · invalid_significant ·
    invalid_child_type · invalid_shutdown · invalid_backoff · invalid_start_timeout · invalid_crash_on_ask_error ·
    duplicate_child_id · badarg · supervisor_data (a flag; `value` is the pair of its name and what was found)

A missing id or start, and an unknown field, are a `TypeError` of the dataclass itself.

Source: Erlang/OTP `supervisor`, "sup_flags" and "child_spec"; the defaults are those of Elixir's `Supervisor`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, TypedDict, TypeGuard, Unpack, get_args

from supervisors.errors import BadSpec
from supervisors.reasons import shown

__all__ = [
    "AutoShutdown",
    "Backoff",
    "ChildLike",
    "ChildSpec",
    "ChildSpecFields",
    "ChildType",
    "DynamicFlags",
    "Flags",
    "Restart",
    "ShutdownRule",
    "Shutdown_",
    "Strategy",
    "check_child",
    "check_childspecs",
    "check_dynamic_flags",
    "check_flags",
    "check_option_names",
    "child",
    "child_spec",
    "child_specs",
    "class_default",
    "is_count",
    "is_number",
]

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
"""When a child is restarted: always, after a crash, or never."""
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""Which other children are restarted with one that ended: none, all, or those that were started after it."""
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""Whether a supervisor ends when its significant children have ended by themselves: the first, or all of them."""
ChildType: TypeAlias = Literal["worker", "supervisor"]
"""What kind of process a child is."""
ShutdownRule: TypeAlias = Literal["brutal_kill"] | float
"""How a child is stopped: killed, or asked, and killed after so many seconds; `math.inf`: never killed."""

Shutdown_: TypeAlias = ShutdownRule
"""`ShutdownRule` by OTP's name; `Shutdown`, without the underscore, is an exit reason."""

EMPTY: Final[Mapping[str, object]] = MappingProxyType({})
WORKER_SHUTDOWN: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The delay before a restart: `min * 2**n`, at most `max`, plus at random up to `jitter` times that.

    `n` counts the restarts in a row, from 0, until the child has run for `reset_after` (None: `max`).
    Units: seconds; `jitter` is a fraction.
    """

    min: float = 0.1
    max: float = 30.0
    jitter: float = 0.2
    reset_after: float | None = None

    def delay(self, n: int, random: float) -> float:
        """Seconds before restart number `n` in a row (from 0), for a random number in [0, 1)."""
        # 2.0**64 is beyond any `max` that makes sense, and 2.0**1100 overflows.
        return min(self.max, self.min * 2.0 ** min(n, 64)) * (1.0 + self.jitter * random)

    def forgets(self, healthy: float) -> bool:
        """Whether the next restart of a child that ran for `healthy` seconds has n = 0 again."""
        return healthy >= (self.max if self.reset_after is None else self.reset_after)


class ChildSpecFields(TypedDict, total=False):
    """The fields of a `ChildSpec`, for editors and type checkers."""

    id: Hashable
    start: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    restart: Restart
    shutdown: ShutdownRule | None
    type: ChildType | None
    significant: bool
    backoff: Backoff | None
    start_timeout: float
    crash_on_ask_error: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How one child is started, restarted and stopped.

    `start` is an actor class, or a function that starts a process and returns its ref, `(ref, info)` or
    `IGNORE`. `shutdown=None` means 5 seconds for a worker and `math.inf` for a supervisor; `type=None` takes
    the class's type. Without a `backoff` the child is restarted at once. `crash_on_ask_error` is for plain
    Pykka actors: whether an exception raised by an `ask` also ends the actor; None takes the attribute of
    that name of their class, which is False if there is none.
    Units: `shutdown` and `start_timeout` are seconds.
    """

    id: Hashable
    start: Callable[..., object]
    # Arguments may hold secrets: they appear in no repr, and so in no log.
    args: tuple[object, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, object] = field(default_factory=lambda: EMPTY, repr=False)
    restart: Restart = "permanent"
    shutdown: ShutdownRule | None = None
    type: ChildType | None = None
    significant: bool = False
    backoff: Backoff | None = None
    start_timeout: float = math.inf
    crash_on_ask_error: bool | None = None

    def replace(self, **overrides: Unpack[ChildSpecFields]) -> ChildSpec:
        """The same spec with other values.

        Raises: TypeError for an unknown field.
        """
        return dataclasses.replace(self, **overrides)

    def complete(self) -> ChildSpec:
        """The same spec with its defaults filled in."""
        if self.type is not None and self.shutdown is not None:
            return self
        kind = self.type or _type_of(self.start)
        shutdown = self.shutdown
        if shutdown is None:
            shutdown = WORKER_SHUTDOWN if kind == "worker" else math.inf
        return dataclasses.replace(self, type=kind, shutdown=shutdown)

    def without_args(self) -> ChildSpec:
        """The same spec without its start arguments."""
        return dataclasses.replace(self, args=(), kwargs=EMPTY) if self.args or self.kwargs else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags of a supervisor; it gives up after more than `max_restarts` restarts in `max_seconds`."""

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicFlags:
    """The flags of a dynamic supervisor; `extra_args` go before the arguments of every child."""

    max_children: int | None = None
    max_restarts: int = 3
    max_seconds: float = 5.0
    extra_args: tuple[object, ...] = field(default=(), repr=False)


ChildLike: TypeAlias = ChildSpec | Callable[..., object] | tuple[Callable[..., object], tuple[object, ...]]
"""A spec, an actor class, or an actor class with its arguments."""


def child(cls: Callable[..., object], /, *args: object, **kwargs: object) -> ChildSpec:
    """A child spec that starts an actor class with these arguments; its id is the class.

    `restart` and `shutdown` are those of the class. The id of a supervisor with a `name` is that name.
    Raises: BadSpec("invalid_start") for an option of the spec that the class does not take as an argument;
    `**_kwargs`, with an underscore, counts as ignoring it.
    """
    kind = _type_of(cls)
    for name in _OPTIONS & kwargs.keys():
        if not _takes(cls, name):
            raise BadSpec(
                "invalid_start", name, f"{shown(cls)} takes no argument {name!r}; {_for_the_child(name)}"
            )
    own = kwargs.get("name") if kind == "supervisor" else None
    return ChildSpec(
        id=cls if own is None else own,
        start=cls,
        args=args,
        kwargs=kwargs or EMPTY,
        restart=class_default(cls, "restart", "permanent"),
        shutdown=class_default(cls, "shutdown", None),
        type=kind,
    )


def class_default(cls: object, name: str, default: Any) -> Any:
    """The class attribute `name`; `default` if there is none, or if it is a method, as in a plain actor."""
    value = getattr(cls, name, default)
    return default if callable(value) else value


def child_spec(like: ChildLike) -> ChildSpec:
    """The child spec that `like` stands for.

    Raises: BadSpec("invalid_child_spec").
    """
    meant: object = like  # whatever a caller without a type checker sends
    match meant:
        case ChildSpec():
            return meant
        case (cls, tuple(args)) if callable(cls):
            return child(cls, *args)
        case cls if callable(cls):
            return child(cls)
        case _:
            message = f"a child must be a ChildSpec, an actor class or (class, args), not of type {type(like).__name__}"
            raise BadSpec("invalid_child_spec", like, message)


def child_specs(likes: Iterable[ChildLike], auto_shutdown: AutoShutdown | None = None) -> list[ChildSpec]:
    """The child specs that `likes` stand for, checked, also for duplicate ids, and with defaults filled in.

    Raises: BadSpec.
    """
    given: object = likes  # whatever a caller without a type checker sends
    if not isinstance(given, Iterable):
        raise BadSpec(
            "badarg", type(given).__name__, f"child specs must be a list, not {type(given).__name__}"
        )
    specs = [check_child(child_spec(like), auto_shutdown) for like in likes]
    seen = set()
    for spec in specs:
        if spec.id in seen:
            message = (
                f"child id {shown(spec.id)} is used twice; give one of them another with .replace(id=...)"
            )
            raise BadSpec("duplicate_child_id", spec.id, message)
        seen.add(spec.id)
    return specs


def check_childspecs(specs: Sequence[ChildLike], auto_shutdown: AutoShutdown | None = None) -> None:
    """Check a list of child specs; nothing is started.

    Without `auto_shutdown` it is not checked whether the supervisor may have significant children.
    Raises: BadSpec.
    """
    if not isinstance(specs, list | tuple):
        raise BadSpec("badarg", specs, f"child specs must be a list, not {type(specs).__name__}")
    if auto_shutdown is not None and auto_shutdown not in get_args(AutoShutdown):
        raise BadSpec(
            "badarg",
            auto_shutdown,
            f"auto_shutdown={auto_shutdown!r} must be one of {get_args(AutoShutdown)}",
        )
    child_specs(specs, auto_shutdown)


def check_child(spec: ChildSpec, auto_shutdown: AutoShutdown | None = None) -> ChildSpec:
    """The spec with its defaults filled in, if it is valid.

    Raises: BadSpec.
    """
    _check_id(spec.id)
    _check_start(spec)
    _one_of("invalid_restart_type", "restart", spec.restart, get_args(Restart))
    _check_significant(spec, auto_shutdown)
    if spec.type is not None:
        _one_of("invalid_child_type", "type", spec.type, get_args(ChildType))
    if spec.shutdown not in (None, "brutal_kill") and not (is_number(spec.shutdown) and spec.shutdown >= 0):
        raise _bad("invalid_shutdown", "shutdown", spec.shutdown, '"brutal_kill" or seconds >= 0')
    _check_backoff(spec.backoff)
    if not (is_number(spec.start_timeout) and spec.start_timeout > 0):
        raise _bad("invalid_start_timeout", "start_timeout", spec.start_timeout, "seconds > 0")
    _check_crash_on_ask_error(spec)
    return spec.complete()


def check_flags(flags: Flags) -> Flags:
    """The flags, if they are valid.

    Raises: BadSpec("supervisor_data"); BadSpec("badarg") if this is no `Flags`.
    """
    given: object = flags  # whatever a caller without a type checker sends
    if not isinstance(given, Flags):
        raise BadSpec(
            "badarg", type(given).__name__, f"flags must be a Flags(...), not a {type(given).__name__}"
        )
    _one_of("supervisor_data", "strategy", flags.strategy, get_args(Strategy))
    _check_intensity(flags)
    _one_of("supervisor_data", "auto_shutdown", flags.auto_shutdown, get_args(AutoShutdown))
    return flags


def check_dynamic_flags(flags: DynamicFlags) -> DynamicFlags:
    """The flags of a dynamic supervisor, if they are valid.

    Raises: BadSpec("supervisor_data"); BadSpec("badarg") if this is no `DynamicFlags`.
    """
    given: object = flags  # whatever a caller without a type checker sends
    if not isinstance(given, DynamicFlags):
        raise BadSpec(
            "badarg", type(given).__name__, f"flags must be a DynamicFlags(...), not a {type(given).__name__}"
        )
    if flags.max_children is not None and not is_count(flags.max_children):
        raise _bad_flag("max_children", flags.max_children, "a number of children >= 0, or None")
    _check_intensity(flags)
    if not isinstance(flags.extra_args, tuple):
        raise _bad_flag("extra_args", type(flags.extra_args), "a tuple")
    return flags


def check_option_names(who: str, given: Iterable[str], known: type) -> None:
    """Check the names of the options that a supervisor is started with against the fields of `known`.

    Raises: BadSpec("supervisor_data").
    """
    names = [each.name for each in dataclasses.fields(known)]
    for name in given:
        if name in _OPTIONS:
            raise BadSpec("supervisor_data", name, f"a {who} has no option {name!r}; {_for_the_child(name)}")
        if name not in names:
            near = get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"its options: {', '.join(names)}"
            raise BadSpec("supervisor_data", name, f"a {who} has no option {name!r}; {meant}")


def _for_the_child(name: str) -> str:
    return f"for the option of the child itself, write child(...).replace({name}=...)"


_OPTIONS: Final = {each.name for each in dataclasses.fields(ChildSpec)} - {"start", "args", "kwargs", "id"}


def _takes(function: Callable[..., object], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of C
        return True
    # `**_kwargs`, as in the `__init__` of Pykka's actors, takes arguments only to ignore them.
    return any(
        each.name == name or (each.kind is each.VAR_KEYWORD and not each.name.startswith("_"))
        for each in parameters
    )


def _type_of(start: object) -> ChildType:
    # Of a bound start_link, its class counts.
    owner = getattr(start, "__self__", start)
    return "supervisor" if getattr(owner, "child_type", None) == "supervisor" else "worker"


def _check_id(id: object) -> None:
    try:
        hash(id)
    except TypeError:
        raise _bad("invalid_id", "id", id, "hashable") from None


def _check_start(spec: ChildSpec) -> None:
    if not callable(spec.start):
        raise _bad("invalid_start", "start", spec.start, "an actor class or a function")
    if not isinstance(spec.args, tuple):
        raise _bad("invalid_start", "type of args", type(spec.args), "tuple")
    if not isinstance(spec.kwargs, Mapping):
        raise _bad("invalid_start", "type of kwargs", type(spec.kwargs), "a mapping")


def _check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown | None) -> None:
    if not isinstance(spec.significant, bool):
        raise _bad("invalid_significant", "significant", spec.significant, "True or False")
    if spec.significant and spec.restart == "permanent":
        never = "is significant and permanent: it would never end; make it transient or temporary"
        message = f"child {shown(spec.id)} {never}"
        raise BadSpec("bad_combination", {"restart": "permanent", "significant": True}, message)
    if spec.significant and auto_shutdown == "never":
        message = f'child {shown(spec.id)} is significant, but its supervisor has auto_shutdown="never"'
        raise BadSpec("bad_combination", {"auto_shutdown": "never", "significant": True}, message)


def _check_backoff(backoff: Backoff | None) -> None:
    if backoff is None:
        return
    if not isinstance(backoff, Backoff):
        raise _bad("invalid_backoff", "backoff", backoff, "a Backoff or None")
    numbers = [
        backoff.min,
        backoff.max,
        backoff.jitter,
        0.0 if backoff.reset_after is None else backoff.reset_after,
    ]
    if not all(is_number(n) and n >= 0 for n in numbers) or not all(
        map(math.isfinite, (backoff.max, backoff.jitter))
    ):
        raise _bad(
            "invalid_backoff", "backoff", backoff, "made of numbers >= 0, with a finite max and jitter"
        )


def _check_crash_on_ask_error(spec: ChildSpec) -> None:
    found: object = spec.crash_on_ask_error
    if found is None:
        return
    if not isinstance(found, bool):
        raise _bad("invalid_crash_on_ask_error", "crash_on_ask_error", found, "True, False or None")
    # A Process, which has `reply_errors`, has its own rule; what a function starts is unknown.
    if not isinstance(spec.start, type) or hasattr(spec.start, "reply_errors"):
        message = (
            f"child {shown(spec.id)}: crash_on_ask_error is for plain Pykka actor classes; a Process ends with every "
            "exception but ReplyError and its reply_errors"
        )
        raise BadSpec("invalid_crash_on_ask_error", found, message)


def _check_intensity(flags: Flags | DynamicFlags) -> None:
    if not is_count(flags.max_restarts):
        raise _bad_flag("max_restarts", flags.max_restarts, "a number of restarts >= 0")
    if not (is_number(flags.max_seconds) and flags.max_seconds > 0):
        raise _bad_flag("max_seconds", flags.max_seconds, "seconds > 0")


def is_count(value: object) -> bool:
    """Whether this is an int of at least 0; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is an int or a float, infinity included; a bool or NaN is not."""
    # True is an int to Python, and NaN compares false with everything: neither is a time.
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _one_of(why: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        wanted = "one of " + ", ".join(allowed)
        raise _bad_flag(name, value, wanted) if why == "supervisor_data" else _bad(why, name, value, wanted)


def _bad(why: str, name: str, value: object, wanted: str) -> BadSpec:
    return BadSpec(why, value, f"{name}={value!r} of a child spec must be {wanted}")


def _bad_flag(name: str, value: object, wanted: str) -> BadSpec:
    return BadSpec("supervisor_data", (name, value), f"supervisor_data: {name}={value!r} must be {wanted}")
