"""A tool is called alike on a thread and in a process, whatever form of function it has, or it is refused."""

import asyncio
import functools
import importlib
import inspect
import json
import pickle
import subprocess
import sys
import types

import msgspec
import pytest

import allm_actors as allm
from allm_actors.engine.isolated import IsolatedCall, address_of

from . import isolated_forms as forms

# Takes many calls as `serve` takes one, so that an interpreter need not be started for each.
SERVE = """
import pickle, sys
path, calls = pickle.load(sys.stdin.buffer)
sys.path[:] = path
from allm_actors.engine.isolated import _answer
answers = [_answer(*call) for call in calls]
pickle.dump(answers, sys.stdout.buffer)
"""
FUNCTIONS = {
    "search": forms.search,
    "asearch": forms.asearch,
    "positional": forms.positional,
    "marked": forms.marked,
    "contextual": forms.contextual,
    "one": forms.one,
    "two": forms.two,
    "method": forms.shop.find,
    "method of a temporary": forms.Api().call,
    "class method": forms.Shop.of_class,
    "inherited class method": forms.Branch.of_class,
    "static method": forms.Shop.static,
    "callable object": forms.shop,
    "protected": forms.protected,
    "checked": forms.checked,
    "inner": forms.inner(),
    "unnamed": forms.unnamed,
    "impostor": forms.impostor,
    "builtin": json.dumps,
    "decorated": forms.decorated.handler,
    "awaited": forms.awaited.handler,
    "both": forms.both.handler,
    "static tool": forms.Shop.tool.handler,
    "behind decorated": forms.decorated.handler.__wrapped__,
    "behind both": forms.both.handler.__wrapped__,
}
WRAPPERS = {
    "": lambda function: function,
    "guarded ": forms.guarded,
    "twice guarded ": lambda function: forms.guarded(forms.guarded(function)),
    "hidden ": forms.hidden,
    "closed ": forms.closed,
    "Checked ": forms.Checked,
    "partial ": functools.partial,
    "cached ": functools.lru_cache,
}
ARGUMENTS = [
    {"city": "Rome", "limit": 3},
    {"city": "Oslo"},
    {"city": 5, "limit": "x"},
    {"city": "Oslo", "limit": 0, "more": 1},
    {},
]
RUN = {
    "tool(search)",
    "tool(name=…)(search)",
    "tool(asearch)",
    "tool(positional)",
    "tool(contextual)",
    "tool(one)",
    "handler=one",
    "handler=two",
    "handler=search",
    "handler=builtin",
    "handler=tool(search).handler",
    "tool(class method)",
    "tool(inherited class method)",
    "tool(static method)",
    "tool(protected)",
    "tool(checked)",
    "handler=protected",
    "handler=decorated",
    "handler=awaited",
    "handler=both",
    "handler=static tool",
}
REFUSED = {
    "tool(method)",
    "handler=method of a temporary",
    "handler=method",
    "tool(callable object)",
    "tool(inner)",
    "tool(unnamed)",
    "handler=impostor",
    "tool(partial search)",
    "tool(cached search)",
    "tool(guarded search)",
    "handler=guarded one",
    "handler=twice guarded protected",
    "handler=hidden one",
    "handler=closed one",
    "handler=Checked one",
    "handler=guarded(tool(search).handler)",
    "handler=guarded(tool(decorated).handler)",
    "handler=hidden(tool(decorated).handler)",
    "handler=guarded decorated",
    "handler=hidden decorated",
    "handler=behind decorated",
    "handler=behind both",
}


def parts(handler):
    return allm.Tool(name="t", description="", schema={}, handler=handler, isolation="process")


WAYS = {
    "tool({})": lambda f: allm.tool(f, isolation="process", name="t"),
    "tool(name=…)({})": allm.tool(name="other", isolation="process"),
    "handler={}": parts,
    "handler=tool({}).handler": lambda f: parts(allm.tool(f, name="t").handler),
    "handler=guarded(tool({}).handler)": lambda f: parts(forms.guarded(allm.tool(f, name="t").handler)),
    "handler=hidden(tool({}).handler)": lambda f: parts(forms.hidden(allm.tool(f, name="t").handler)),
}


def every_tool():
    """The tools of all functions, in all wrappers, made in all ways, by what they are; without those of no form."""
    tools = {}
    for way, make in WAYS.items():
        for wrapper, wrap in WRAPPERS.items():
            for name, function in FUNCTIONS.items():
                try:
                    tools[way.format(wrapper + name)] = make(wrap(function))
                except TypeError:  # no model could call it, or a function without a name
                    continue
    return tools


TOOLS = every_tool()


def is_refused(tool):
    try:
        address_of(tool)
    except ValueError:
        return True
    return False


def context():
    return allm.ToolContext(context={}, tool_call=None)


def on_thread(tool, arguments):
    """Whether it gave a value, and what it gave or raised."""
    try:
        result = tool.run(dict(arguments), context())
        if inspect.isawaitable(result):
            result = asyncio.run(awaited(result))
    except Exception as error:  # noqa: BLE001 - it is compared
        return False, f"{type(error).__name__}: {error}"
    return True, result


async def awaited(awaitable):
    return await awaitable


def in_process(calls):
    """The same for many calls in an interpreter of their own."""
    written = [pickle.loads(IsolatedCall(tool, given, context())._written()) for tool, given in calls]
    sent = pickle.dumps((sys.path, [(address, call) for *_, address, call in written]))
    command = [sys.executable, "-c", SERVE]
    ended = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=60)
    answers = [pickle.loads(answer) for answer in pickle.loads(ended.stdout)]
    return [(gave, value if gave else f"{type(value).__name__}: {value}") for gave, value in answers]


def test_every_form_of_a_tool_is_called_alike_or_refused():
    calls = [
        (form, tool, given) for form, tool in TOOLS.items() if not is_refused(tool) for given in ARGUMENTS
    ]
    assert len(calls) > 100
    answers = in_process([(tool, given) for _, tool, given in calls])
    there = {(form, str(given)): answer for (form, _, given), answer in zip(calls, answers, strict=True)}
    here = {(form, str(given)): on_thread(tool, given) for form, tool, given in calls}
    assert there == here


@pytest.mark.parametrize("form", sorted(RUN))
def test_a_form_that_another_interpreter_finds_is_run(form):
    address_of(TOOLS[form])


@pytest.mark.parametrize("form", sorted(REFUSED))
def test_a_form_that_it_does_not_find_is_refused(form):
    assert is_refused(TOOLS[form])


def test_a_changed_tool_is_called_as_it_was():
    changed = msgspec.structs.replace(forms.decorated, name="other", timeout=3.0, isolation="process")
    assert in_process([(changed, {"city": "Rome"})]) == [(True, "city='Rome' limit=10")]


@pytest.mark.parametrize("wrap", [forms.guarded, forms.hidden, forms.Checked], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["one", "protected", "decorated"])
def test_a_wrapper_that_was_put_there_at_run_time_is_not_left_out(wrap, name, monkeypatch):
    found = getattr(forms, name)
    tool = parts(wrap(found.handler if isinstance(found, allm.Tool) else found))
    monkeypatch.setattr(forms, name, tool.handler)
    ((gave, said),) = in_process([(tool, {"city": "Oslo"})])
    assert not gave
    assert "is something else when it is imported anew" in said


def test_a_guard_is_refused_before_the_model_is_asked():
    engine = allm.Engine("fake", tools=[parts(forms.guarded(forms.one))], adapter_opts={"scripts": []})
    with pytest.raises(ValueError, match=r"'one' of .* is not what the tool calls"):
        allm.chat(engine, [allm.user("hi")])


def test_a_tool_of_a_module_that_was_loaded_again_has_to_be_made_anew(monkeypatch, tmp_path):
    source = (
        "import allm_actors as allm\n\ndef f(x: int) -> int:\n    return x\n\n"
        "@allm.tool(isolation='process')\ndef g(x: int) -> int:\n    'A tool.'\n    return x\n"
    )
    (tmp_path / "loaded_by_a_test.py").write_text(source)
    monkeypatch.delitem(sys.modules, "loaded_by_a_test", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    import loaded_by_a_test as module

    before = [allm.tool(module.f, isolation="process"), module.g]
    importlib.reload(module)
    for tool in before:
        with pytest.raises(ValueError, match=r"module was loaded again; make the tool anew"):
            address_of(tool)
    assert address_of(allm.tool(module.f, isolation="process")).name == "f"
    assert address_of(module.g).name == "g"


def test_annotations_that_mean_something_else_there_are_refused():
    class Annotated:
        def __class_getitem__(cls, items):
            return str

    assert Annotated[int, 1] is str  # the names of this place count where the tool is made
    tool = allm.tool(forms.search, isolation="process")
    assert tool.schema["properties"]["limit"]["type"] == "string"
    with pytest.raises(ValueError, match=r"annotations of 'search' do not mean there what they mean here"):
        address_of(tool)


def test_a_module_that_only_this_program_has_is_refused(monkeypatch):
    source = "def f(x: int) -> int:\n    return x\n"
    made = types.ModuleType("made_by_a_test")
    exec(source, made.__dict__)
    monkeypatch.setitem(sys.modules, "made_by_a_test", made)
    with pytest.raises(ValueError, match=r"another module 'made_by_a_test' on sys.path, or none"):
        address_of(allm.tool(made.f, isolation="process"))


def test_a_module_whose_name_belongs_to_another_file_is_refused(monkeypatch, tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "named_by_a_test.py").write_text("def f(x: int) -> int:\n    return x\n")
    monkeypatch.delitem(sys.modules, "named_by_a_test", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "second"))
    import named_by_a_test

    tool = allm.tool(named_by_a_test.f, isolation="process")
    address_of(tool)
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    with pytest.raises(ValueError, match=r"another module 'named_by_a_test' on sys.path"):
        address_of(tool)
    monkeypatch.delitem(sys.modules, "named_by_a_test")


def as_frozen(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def as_embedded(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")


def as_started_for_a_call(monkeypatch):
    """Like a program that `sys.executable` names instead of a Python, and that is given a Python's arguments."""
    commands = []

    def note(command, **_):
        commands.append(command)
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", note)
        with pytest.raises(FileNotFoundError):
            IsolatedCall(TOOLS["tool(search)"], {}, context()).run()
    monkeypatch.setattr(sys, "argv", *commands)


@pytest.mark.parametrize("become", [as_frozen, as_embedded, as_started_for_a_call])
def test_where_no_other_interpreter_can_be_started_a_tool_is_refused(become, monkeypatch):
    engine = allm.Engine("fake", tools=[TOOLS["tool(search)"]], adapter_opts={"scripts": []})
    become(monkeypatch)
    with pytest.raises(
        ValueError, match=r"imports the function in another interpreter.* use isolation='thread'"
    ):
        allm.chat(engine, [allm.user("hi")])
