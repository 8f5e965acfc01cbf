"""An extension of Griffe, which reads the code for the page on Python.

``interlingua.convert`` is a function and a package: imported it is the function, and read without being imported, as
Griffe does, the package. The function is kept under another key, for ``reference/python.md`` to ask for.
"""

from __future__ import annotations

from typing import Any

from griffe import Extension, Function, Module

KEY = "convert_function"


class FunctionBesidePackage(Extension):
    """Keeps the function whose place its namesake takes."""

    def __init__(self) -> None:
        self.found: Function | None = None

    def on_function_instance(self, *, func: Function, **_: Any) -> None:
        """Note the function when it is read."""
        if func.path == "interlingua.convert":
            self.found = func

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Put it beside the package, when all is read."""
        if pkg.path == "interlingua" and self.found is not None:
            pkg.members[KEY] = self.found
