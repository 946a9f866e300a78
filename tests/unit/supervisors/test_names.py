"""The promised names."""

import inspect

import supervisors


def test_all_names_are_there_and_once():
    names = supervisors.__all__
    assert len(names) == len(set(names))
    assert all(hasattr(supervisors, name) for name in names)


def test_nothing_public_is_there_that_is_not_promised():
    public = {
        name
        for name, value in vars(supervisors).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(supervisors.__all__)
