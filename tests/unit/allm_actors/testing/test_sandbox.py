"""An engine that is found by whatever runs under a test, and by nothing beside it."""

import asyncio
import contextvars
import inspect
import threading

import pytest

import allm_actors as allm
from allm_actors.testing import sandbox, script

ONE, TWO = allm.Engine(adapter="fake"), allm.Engine(adapter="fake")


@pytest.fixture(autouse=True)
def empty():
    sandbox.unset_engine()
    yield
    sandbox.unset_engine()


def test_what_is_set_is_had_until_it_is_unset():
    assert sandbox.get_engine() is None
    sandbox.set_engine(ONE)
    sandbox.set_engine(TWO)
    assert sandbox.get_engine() is TWO
    sandbox.unset_engine()
    sandbox.unset_engine()
    assert sandbox.get_engine() is None


def test_a_block_gives_back_the_engine_before_it_whatever_happens():
    sandbox.set_engine(ONE)
    with sandbox.with_engine(TWO) as engine:
        assert sandbox.get_engine() is engine is TWO
    assert sandbox.get_engine() is ONE
    with pytest.raises(LookupError), sandbox.with_engine(TWO):
        raise LookupError
    assert sandbox.get_engine() is ONE


def test_a_function_is_run_with_an_engine():
    @sandbox.with_engine(TWO)
    def program():
        return sandbox.get_engine()

    assert (program(), sandbox.get_engine()) == (TWO, None)


def test_an_asynchronous_function_is_run_with_an_engine():
    @sandbox.with_engine(TWO)
    async def program(name, *, last):
        """Ask."""
        seen = [name, sandbox.get_engine()]
        await asyncio.sleep(0)
        return [*seen, sandbox.get_engine(), last]

    async def main():
        sandbox.set_engine(ONE)
        together = asyncio.gather(program(1, last=2), program(3, last=4))
        alone = await program(5, last=6)
        return [*await together, alone], sandbox.get_engine()

    seen, after = asyncio.run(main())
    assert seen == [[1, TWO, TWO, 2], [3, TWO, TWO, 4], [5, TWO, TWO, 6]]
    assert after is ONE
    assert (program.__name__, program.__doc__) == ("program", "Ask.")
    assert inspect.iscoroutinefunction(program)


def test_a_generator_is_told_to_use_a_block():
    def plain():
        yield sandbox.get_engine()

    async def asynchronous():
        yield sandbox.get_engine()

    for generator in (plain, asynchronous):
        with pytest.raises(
            TypeError, match=f"cannot decorate {generator.__name__}, .*`with sandbox.with_engine"
        ):
            sandbox.with_engine(TWO)(generator)


def test_nothing_but_an_engine_is_held():
    with pytest.raises(TypeError, match="Engine"):
        sandbox.set_engine("openai")
    with pytest.raises(TypeError, match="Engine"), sandbox.with_engine(None):
        pass
    assert sandbox.get_engine() is None


def test_tasks_inherit_it_and_keep_their_own_to_themselves():
    async def child():
        inherited = sandbox.get_engine()
        sandbox.set_engine(TWO)
        return inherited, sandbox.get_engine()

    async def parent():
        with sandbox.with_engine(ONE):
            seen = await asyncio.gather(child(), child())
            return seen, sandbox.get_engine()

    assert asyncio.run(parent()) == ([(ONE, TWO), (ONE, TWO)], ONE)


def test_threads_inherit_it_with_their_context_only():
    seen = []

    def look():
        seen.append(sandbox.get_engine())

    with sandbox.with_engine(ONE):
        threads = [threading.Thread(target=look)]
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(look,)))
    for thread in threads:
        thread.start()
        thread.join()
    assert seen == [None, ONE]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
def test_tools_and_predicates_of_a_call_see_their_callers(whole):
    seen = {}

    @allm.tool
    def blocking() -> str:
        """Look."""
        seen["blocking"] = sandbox.get_engine()
        return "ok"

    @allm.tool
    async def asynchronous() -> str:
        """Look."""
        seen["asynchronous"] = sandbox.get_engine()
        return "ok"

    def enough(step):
        seen["halt_when"] = sandbox.get_engine()
        return True

    calls = [script.tool_call("blocking"), script.tool_call("asynchronous"), script.finish("tool_calls")]
    engine = allm.Engine(adapter="fake", adapter_opts={"script": calls}, tools=[blocking, asynchronous])
    with sandbox.with_engine(engine):
        if whole:
            allm.chat(engine, [allm.user("hi")], halt_when=enough)
        else:
            list(allm.stream(engine, [allm.user("hi")], halt_when=enough))
    assert seen == dict.fromkeys(("blocking", "asynchronous", "halt_when"), engine)


def test_no_call_looks_here_by_itself():
    with sandbox.with_engine(ONE), pytest.raises(allm.EngineError, match="adapter"):
        allm.generate(allm.Engine(), [allm.user("hi")])
