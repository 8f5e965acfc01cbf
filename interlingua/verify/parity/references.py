"""Which framework a dialect's system computes in, and whose code stands for that system there."""

from __future__ import annotations

from dataclasses import dataclass

OWN = "own"
"""The encoder of our own in a framework's operations: the last one that is tried."""

FRAMEWORKS = ("torch", "tensorflow", "paddle", "mindspore")


@dataclass(frozen=True, slots=True)
class System:
    """Where a dialect is run.

    Attributes:
        framework: one of ``FRAMEWORKS``.
        third_party: others' implementations that load the dialect's own files, the preferred first.
    """

    framework: str
    third_party: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """The reference encoders to try, in order."""
        return (*self.third_party, OWN)


SYSTEMS = {
    "hf": System("torch", ("transformers",)),
    "sentence-transformers": System("torch", ("transformers",)),
    "uer": System("torch", ("uer",)),
    "tencentpretrain": System("torch", ("uer",)),
    "hf-tf": System("tensorflow", ("transformers-tf",)),
    "tf1": System("tensorflow"),
    "tf2": System("tensorflow", ("tf-models",)),
    "keras-hub": System("tensorflow", ("keras-hub",)),
    "keras-bert": System("tensorflow"),
    "ernie-fluid": System("paddle", ("paddle-ernie",)),
    "paddle": System("paddle", ("paddlenlp",)),
    "mindspore": System("mindspore"),
    "mindnlp": System("mindspore", ("mindone",)),
    "mindformers": System("mindspore"),
}
"""Dialect -> where it is run. No package has the code of tf1, keras-bert, MindSpore's zoo or MindFormers in a form that
runs today; ERNIE's own dygraph classes (paddle-ernie, a development release) have fluid's names and arithmetic."""


def system_of(dialect: str) -> System:
    """Return where a dialect is run; one that another package has brought is run in PyTorch."""
    return SYSTEMS.get(dialect, System("torch"))
