"""Bars on standard error that say how far a command is; nothing where that is no terminal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from interlingua.cli.terminal import has_live_display, open_console
from interlingua.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interlingua.convert.batch.jobs import Job, JobResult


ROOMY = 60
"""Columns from which on there is room for rate and memory beside a bar."""


class ConversionProgress:
    """A bar on standard error with bytes, rate and memory; nothing where that is no terminal."""

    def __init__(self, silent: bool) -> None:
        self.shown = not silent and has_live_display()
        self.bar: Any = None
        self.lock = threading.Lock()
        self.done, self.told, self.total = 0, 0, 0

    def begin(self, words: str, total: int | None) -> None:
        """Show the bar, from its start, of so many bytes; of None it moves to and fro."""
        if not self.shown:
            return
        if self.bar is None:
            self.bar = self._made()
            self.bar.start()
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.done, self.told, self.total = 0, 0, total or 0
        self.task = self.bar.add_task(words, total=total, memory=_memory())

    def _made(self) -> Any:
        from rich import progress

        console = open_console(err=True)
        roomy = console.width >= ROOMY
        return progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(_bar_width(console.width, 54 if roomy else 36)),
            progress.DownloadColumn(),
            *([progress.TransferSpeedColumn()] if roomy else []),
            progress.TimeRemainingColumn(compact=True),
            *([progress.TextColumn("{task.fields[memory]}")] if roomy else []),
            console=console,
            transient=True,
        )

    def advance(self, count: int) -> None:
        """Move the bar by a number of bytes, in steps of a hundredth at least: a rate of less is a guess."""
        if self.bar is None:
            return
        with self.lock:
            self.done += count
            if self.total and self.done < self.total and abs(self.done - self.told) * 100 < self.total:
                return
            self.told = self.done
            self.bar.update(self.task, completed=self.done, memory=_memory())
            if self.bar.finished:  # The disk and the check have yet to do their part.
                self.bar.update(self.task, description="finishing")

    def __enter__(self) -> ConversionProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def _bar_width(columns: int, others: int) -> int:
    """Return how wide a bar may be beside other figures, in characters."""
    return max(4, min(40, columns - others))


def _memory() -> str:
    """Return the peak of resident memory so far."""
    import resource

    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"


RECENT = 600.0
"""Seconds over which the rate of a batch is taken: jobs end seldom."""


def shortened(text: str, most: int) -> str:
    """Return the text, or its beginning, in so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


class BatchProgress:
    """A bar on standard error with the jobs that are done and those that run; nothing where that is no terminal.

    Jobs count by their bytes, once those are known: what is left is done at the rate of the last minutes.
    """

    def __init__(self, total: int, silent: bool) -> None:
        self.total = total
        self.over = 0
        self.weights: Mapping[str, int] = {}
        self.running: dict[str, None] = {}
        self.bar: Any = None
        if not silent and has_live_display():
            from rich import progress

            console = open_console(err=True)
            self.names = max(12, console.width - 58)
            self.bar = progress.Progress(
                progress.TextColumn("{task.fields[jobs]}"),
                progress.BarColumn(_bar_width(console.width, 50)),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.description}", markup=False),
                console=console,
                transient=True,
                speed_estimate_period=RECENT,
            )
            self.task = self.bar.add_task("", total=total, jobs=self._jobs())

    def weigh(self, nbytes: Mapping[str, int]) -> None:
        """Count each job that is yet to run by its bytes: name -> how many."""
        self.weights = {name: max(1, count) for name, count in nbytes.items()}
        if self.bar is not None:
            self.bar.reset(self.task, total=sum(self.weights.values()), jobs=self._jobs())

    def tell(self, job: Job, result: JobResult | None) -> None:
        """Show that a job has started, or is over."""
        if result is None:
            self.running[job.name] = None
        else:
            self.running.pop(job.name, None)
            self.over += 1
        if self.bar is not None:
            done = 0 if result is None else self.weights.get(job.name, 0 if self.weights else 1)
            names = shortened(", ".join(map(printable, self.running)), self.names)
            self.bar.update(self.task, advance=done, description=names, jobs=self._jobs())

    def _jobs(self) -> str:
        return f"{self.over}/{self.total} jobs"

    def __enter__(self) -> BatchProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
