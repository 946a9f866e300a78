"""The ways out of a session actor: its host's supervisors, store, transport and loops.

Rule of this file: everything here returns at once and may be called on any thread. Others are found by name at each
use, so that a restarted one is found where its predecessor was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import msgspec

from allm_actors.data import Request, StoreError, Tool
from allm_actors.data.validate import validate
from allm_actors.engine.adapter import Call
from allm_actors.engine.preflight import check_capabilities, with_finalize
from allm_actors.engine.resolve import call_for, resolve_model_ref, step_request
from allm_actors.engine.wire import Transport
from allm_actors.execution.effects import CallModel
from supervisors import NOPROC, ChildSpec, Future, Process, ProcessDown, ProcessRef, System
from supervisors import exit as exit_process

from .adapter import adapter_actor_for
from .protocol import CallJob, ModelJob, ToolJob, TurnSpec
from .tools import tool_actor_for

__all__ = ["ADAPTERS", "HOST", "SESSIONS", "STORE", "TOOLS", "WORK", "Ports", "model_call"]

HOST, STORE, WORK = "host", "store", "work"
ADAPTERS, TOOLS, SESSIONS = "adapters", "tools", "sessions"


class Ports:
    """What a host hands to its sessions; shared by all of them."""

    def __init__(
        self, system: System, transport: Transport, io_loop: Callable[[], asyncio.AbstractEventLoop | None]
    ) -> None:
        self.system, self.transport, self._io_loop = system, transport, io_loop

    def whereis(self, name: Hashable) -> ProcessRef[Any] | None:
        """The process of that name in this host, or None."""
        return self.system.whereis(name)

    def claim(self, id: str, ref: ProcessRef[Any]) -> bool:
        """Whether `ref` is now the one that answers for the session of that name."""
        names, name = self.system.names, (SESSIONS, id)
        owner = names.whereis(name)
        if owner is not None and not owner.is_alive():
            names.unregister(name, owner)  # it is about to do so itself
        if not names.register(name, ref):
            return False
        ref.name = name  # from now on the death of `ref` frees it
        return True

    def when_whole(self, done: Callable[[BaseException | None], object]) -> None:
        """Call `done(None)` when the restarts that are under way are over; `done(why)` if the whole tree is gone."""
        host: Any = self.whereis(HOST)
        if host is None:
            done(ProcessDown(NOPROC))
            return

        def answered(_counts: Any, error: BaseException | None) -> None:
            # A supervisor answers when the restart it is busy with is over: first the upper one, then the lower one.
            work: Any = self.whereis(WORK)
            if error is not None or work is None:
                done(error)
            else:
                _when_done(work.count_children_soon(), lambda _counts, _error: done(None))

        _when_done(host.count_children_soon(), answered)

    def ask_store(self, message: Any, done: Callable[[Any, BaseException | None], object]) -> None:
        """Ask the store; `done(answer, error)` is called once, possibly at once, on whatever thread has the answer."""
        store = self.whereis(STORE)
        if store is None:
            done(None, StoreError("unavailable", message="the session store is being restarted; try again"))
            return
        _when_done(store.ask(message, block=False), done)

    def hire(self, job: ModelJob | ToolJob, failed: Callable[[str], object]) -> None:
        """Start a worker for `job` under its supervisor; `failed(why)` is called once if that cannot be done."""
        name: str
        worker: type[Process]
        if isinstance(job, ModelJob):
            name, worker = ADAPTERS, adapter_actor_for(job)
            job = replace(job, loop=self._io_loop())
        elif isinstance(job, CallJob):
            job = replace(job, loop=self._io_loop() if job.asynchronous else None)
            name, worker = ADAPTERS, tool_actor_for(job)
        else:
            name, worker = TOOLS, tool_actor_for(job)
        spec = ChildSpec(
            id=job.token, start=worker, args=(job,), restart="temporary", shutdown=worker.shutdown
        )
        self._hire(name, spec, failed, patient=True)

    def _hire(self, name: str, spec: ChildSpec, failed: Callable[[str], object], *, patient: bool) -> None:
        def answered(_ref: Any, error: BaseException | None) -> None:
            # Only what a supervisor never received is offered to its successor: a tool must not run twice.
            if isinstance(error, ProcessDown) and error.reason is NOPROC and patient:
                self.when_whole(again)
            elif error is not None:
                failed(str(error))

        def again(gone: BaseException | None) -> None:
            if gone is None:
                self._hire(name, spec, failed, patient=False)
            else:
                failed(str(gone))

        supervisor: Any = self.whereis(name)
        if supervisor is None:
            answered(None, ProcessDown(NOPROC))
        else:
            _when_done(supervisor.start_child_soon(spec), answered)

    def dismiss(self, worker: ProcessRef[Any], reason: Any) -> None:
        """End a worker."""
        exit_process(worker, reason)


def model_call(spec: TurnSpec, effect: CallModel, transport: Transport) -> tuple[Any, Request, Call]:
    """The adapter, the request and the call of one model call. Raises ValidationError for what cannot be sent."""
    request = _step_request(spec, effect)
    validate(request)
    check_capabilities(resolve_model_ref(spec.engine, spec.call_options, spec.request), request)
    request = with_finalize(spec.adapter, request)
    request_id = spec.options.request_id or ""
    return spec.adapter, request, call_for(spec.engine, spec.call_options, request_id, transport)


def _step_request(spec: TurnSpec, effect: CallModel) -> Request:
    if spec.request is not None:
        return msgspec.structs.replace(spec.request, messages=effect.thread.messages)
    tools: list[Tool] | None = [] if effect.purpose == "finalize" else None
    request = step_request(spec.engine, effect.thread, spec.call_options, tools=tools)
    if effect.purpose == "draft":
        return msgspec.structs.replace(request, response_format=None, structured_finalize=False)
    return request


def _when_done(future: Future[Any], done: Callable[[Any, BaseException | None], object]) -> None:
    def settled(future: Future[Any]) -> None:
        try:
            answer = future.get(timeout=0)
        except Exception as error:  # noqa: BLE001 - handed on as a value
            done(None, error)
        else:
            done(answer, None)

    future.add_done_callback(settled)
