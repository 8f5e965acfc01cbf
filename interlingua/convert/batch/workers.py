"""Those who carry out a batch's tasks, whoever and wherever they are: what a batch asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Ended(Generic[Asked, Answer]):
    """A task that is over.

    Attributes:
        asked: the task.
        answer: what came of it; None where its process died.
        death: how that ended, in words; None where it did not.
    """

    asked: Asked
    answer: Answer | None
    death: str | None = None


class Workers(Protocol[Asked, Answer]):
    """Carry out tasks, several at a time. A batch decides which is next; they decide nothing."""

    @property
    def memory(self) -> int | None:
        """Bytes that they have for all tasks at a time, where nobody says how many; None: no limit is known."""

    @property
    def tasks(self) -> Sequence[Asked]:
        """The tasks that were given and are not over."""

    @property
    def room(self) -> int:
        """How many more tasks could begin at once."""

    def give(self, task: Asked) -> None:
        """Hand over a task."""

    def take(self, seconds: float) -> Sequence[Ended[Asked, Answer]]:
        """Return the tasks that are over, each once, waiting at most some seconds for the first."""

    def end(self) -> None:
        """End in seconds, whatever is under way: after this nobody writes anything."""
