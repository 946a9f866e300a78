"""For PyInstaller: the modules that it does not find, because their names are made at run time.

They are the providers' formats and the commands. Whoever wants `allm_actors.testing` in a program imports it there.
"""  # noqa: N999 - the name that PyInstaller looks for

from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PLACES = [path.relative_to(_ROOT.parent).with_suffix("") for path in sorted(_ROOT.rglob("*.py"))]

hiddenimports = [
    ".".join(place.parts).removesuffix(".__init__")
    for place in _PLACES
    if place.parts[1] not in ("frozen", "testing")
]
