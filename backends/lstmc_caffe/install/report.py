"""Reports of a build's steps, as lines or as a progress bar. Checks in a bundle, without Rich, import nothing here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn


class Report:
    """Report the steps of a build to ``console``. Where it is not a terminal, each message is one plain line."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @classmethod
    def on_standard_error(cls, quiet: bool = False) -> Report:
        return cls(Console(stderr=True, quiet=quiet))

    def step(self, text: str) -> None:
        """Print one line: a step begins, or has ended."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show work of unknown length."""
        self.step(text)
        if self.console.is_terminal:
            with self.console.status("working"):
                yield
        else:
            yield

    @contextmanager
    def counted(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Show the progress of ``total`` pieces of work. Yield a function to call after each piece."""
        lines = not self.console.is_terminal
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        progress = Progress(*columns, console=self.console)
        with nullcontext() if lines else progress:
            task = progress.add_task(text, total=total)

            def advance() -> None:
                progress.advance(task)
                done = int(progress.tasks[task].completed)
                if lines and done * 10 // total != (done - 1) * 10 // total:
                    self.step(f"{text}: {done} of {total}")

            if lines:
                self.step(f"{text}: {total} to do")
            yield advance
