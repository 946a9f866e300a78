"""Functions of every form that a tool may call. What each returns shows how it was called."""

from __future__ import annotations

import functools
from typing import Annotated

import msgspec
from pydantic import Field

import allm_actors as allm


def search(city: str, limit: Annotated[int, Field(ge=1, description="how many")] = 10) -> str:
    """Search a city."""
    return f"city={city!r} limit={limit!r}"


async def asearch(city: str, limit: Annotated[int, msgspec.Meta(ge=1)] = 10) -> str:
    """Search a city, and wait."""
    return f"city={city!r} limit={limit!r}"


def positional(city: str, /, limit: int = 10) -> str:
    """Search a city, given by position."""
    return f"city={city!r} limit={limit!r}"


def contextual(city: str, context: allm.ToolContext, limit: int = 10) -> str:
    """Search a city for somebody."""
    return f"city={city!r} limit={limit!r} context={type(context).__name__}"


def one(arguments: dict) -> str:
    """Take the arguments as they are."""
    return f"arguments={arguments!r}"


def two(arguments: dict, context: allm.ToolContext) -> str:
    """Take the arguments as they are, and the context."""
    return f"arguments={arguments!r} context={type(context).__name__}"


class Marker:
    """Says something of a type, and has no text of its own."""


def marked(city: Annotated[str, Marker()], limit: Annotated[int, lambda: None] = 10) -> str:
    """Search a city whose name is marked."""
    return f"city={city!r} limit={limit!r}"


def guarded(function):
    """A check that has the name of what it protects."""

    @functools.wraps(function)
    def check(*args, **kwargs):
        if "Rome" in repr((args, kwargs)):
            raise PermissionError("not allowed")
        return function(*args, **kwargs)

    return check


def hidden(function):
    """A check that has the name of what it protects, and does not tell what that is."""
    check = guarded(function)
    del check.__wrapped__
    return check


def closed(function):
    """A check that has a name of its own, which nobody finds."""

    def check(*args, **kwargs):
        if "Rome" in repr((args, kwargs)):
            raise PermissionError("not allowed")
        return function(*args, **kwargs)

    return check


class Checked:
    """A check that is an object with the name of what it protects."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        if "Rome" in repr((args, kwargs)):
            raise PermissionError("not allowed")
        return self.__wrapped__(*args, **kwargs)


class Shop:
    """Methods of every kind."""

    def find(self, city: str, limit: int = 10) -> str:
        """Search a city."""
        return f"self={type(self).__name__} city={city!r} limit={limit!r}"

    @classmethod
    def of_class(cls, city: str, limit: int = 10) -> str:
        """Search a city."""
        return f"cls={cls.__name__} city={city!r} limit={limit!r}"

    @staticmethod
    def static(city: str, limit: int = 10) -> str:
        """Search a city."""
        return f"city={city!r} limit={limit!r}"

    @staticmethod
    @allm.tool
    def tool(city: str, limit: int = 10) -> str:
        """Search a city."""
        return f"city={city!r} limit={limit!r}"

    def __call__(self, city: str, limit: int = 10) -> str:
        """Search a city."""
        return f"self={type(self).__name__} city={city!r} limit={limit!r}"


class Branch(Shop):
    """What it inherits is called for it."""


class Api:
    """A method that takes the arguments as they are."""

    def call(self, arguments: dict) -> str:
        """Call it."""
        return f"self={type(self).__name__} arguments={arguments!r}"


@guarded
def protected(city: str, limit: int = 10) -> str:
    """Search a city, if that is allowed."""
    return f"city={city!r} limit={limit!r}"


@Checked
def checked(city: str, limit: int = 10) -> str:
    """Search a city, if that is allowed."""
    return f"city={city!r} limit={limit!r}"


@allm.tool
def decorated(city: str, limit: int = 10) -> str:
    """Search a city."""
    return f"city={city!r} limit={limit!r}"


@allm.tool(name="renamed")
async def awaited(city: str, context: allm.ToolContext, limit: int = 10) -> str:
    """Search a city."""
    return f"city={city!r} limit={limit!r} context={type(context).__name__}"


@allm.tool
@guarded
def both(city: str, limit: int = 10) -> str:
    """Search a city, if that is allowed."""
    return f"city={city!r} limit={limit!r}"


def inner():
    """A function that only this one knows."""

    def search(city: str, limit: int = 10) -> str:
        """Search a city."""
        return f"inner city={city!r} limit={limit!r}"

    return search


shop = Shop()
unnamed = lambda city, limit=10: f"city={city!r} limit={limit!r}"  # noqa: E731 - a form of function, too
alias = search
impostor = guarded(one)
