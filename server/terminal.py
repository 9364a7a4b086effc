"""An answer as people read it while it forms: live in a terminal, plain in a pipe."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, aclosing, contextmanager
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from server.ask import AskError, Chunk, Json, printable
from server.progress import Line, Progress
from swires.parser import Piece, Section, Splitter
from swires.stages import Stage

STYLES = {"sampled": "", "cut": "red", "leads": "bold green", "kept": "green", "dropped": "dim"}


class View(AbstractContextManager["View"], Protocol):
    """Is told what comes of a search, in order."""

    def text(self, piece: Piece) -> None: ...

    def event(self, facts: Json) -> None: ...

    def summary(self, facts: Json) -> None:
        """The end: the `swires` object of the answer."""
        ...


def view(file: TextIO) -> View:
    console = Console(file=file, highlight=False)
    return Terminal(console) if file.isatty() and not console.is_dumb_terminal else Plain(file)


@contextmanager
def waiting(what: str, file: TextIO) -> Generator[None, None, None]:
    """Says so for as long, where `file` is a terminal."""
    if not file.isatty():
        yield
        return
    spinner = Spinner("dots", what)
    with Below(Console(file=file), lambda: spinner):
        yield


async def shown(chunks: AsyncGenerator[Chunk, None], view: View) -> Json:
    """Tell `view` what a stream with `raw` and `events` tells; the `swires` object of the answer. Raises AskError."""
    splitter, summary = Splitter(), Json()
    async with aclosing(chunks):
        async for chunk in chunks:
            pieces = splitter.feed(chunk.content)
            if "stages" in chunk.swires:
                summary = chunk.swires
                pieces += splitter.close()
            elif "event" in chunk.swires:
                view.event(chunk.swires)
            for piece in pieces:
                view.text(piece._replace(text=printable(piece.text)))
    if not summary:
        raise AskError("the server does not search: it tells nothing of its stages")
    view.summary(summary)
    return summary


class Plain:
    """The stages and the answer as they come, a blank line between, and nothing else."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._begun:
            self._print("\n")

    def text(self, piece: Piece) -> None:
        self._print(("\n\n" if piece.begins and self._begun else "") + piece.text)
        self._begun = True

    def event(self, facts: Json) -> None:
        pass

    def summary(self, facts: Json) -> None:
        pass

    def _print(self, text: str) -> None:
        print(text, end="", file=self._file, flush=True)


class Terminal:
    """What is final goes up the screen; below it stay the stage that is still growing and the candidates."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress()
        self._growing: Section | None = None
        self._spinner = Spinner("dots")
        self._live = Below(console, self._below)
        self._on_screen = ExitStack()

    def __enter__(self) -> Self:
        self._on_screen.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle()
        self._on_screen.close()

    def text(self, piece: Piece) -> None:
        if piece.begins:
            self._settle()
        before = self._growing.text if self._growing else ""
        self._growing = Section(piece.stage, before + piece.text)
        self._progress = self._progress.streaming()
        self._live.refresh()

    def event(self, facts: Json) -> None:
        self._progress = self._progress.after(facts)
        if facts["event"] == "retraced":
            self._settle()
            self._console.print(Text(f"↩ retraced to {facts['to']}\n", style="yellow"))
        self._live.refresh()

    def summary(self, facts: Json) -> None:
        self._settle()
        self._on_screen.close()
        self._console.print(Text(told_in_one_line(facts), style="dim"))

    def _settle(self) -> None:
        """Move the growing section up, in one write."""
        section, self._growing = self._growing, None
        if section:
            with self._console:
                self._live.refresh()
                self._console.print(section_shown(section))

    def _below(self) -> RenderableType:
        """Asked for from a thread of `Live` too."""
        progress, section = self._progress, self._growing
        self._spinner.update(text=progress.stage.name if progress.stage is not None else "")
        sections = [section_shown(section)] if section else []
        candidates = [candidates_shown(progress.lines)] if progress.lines else []
        return Tail(Group(*sections, *candidates, self._spinner))


class Below(Live):
    """What `shown` is now, below all that is printed, until it is over. The cursor stays on, for whatever ends this
    process."""

    def __init__(self, console: Console, shown: Callable[[], RenderableType]) -> None:
        super().__init__(
            console=console,
            get_renderable=shown,
            transient=True,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self, refresh: bool = False) -> None:
        super().start(refresh)
        self.console.show_cursor(True)


class Tail:
    """As many of the last lines of `whole` as the terminal has."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._whole, options, pad=False)
        for line in lines[-max(1, options.max_height - 1) :]:
            yield from line
            yield Segment.line()


def section_shown(section: Section) -> RenderableType:
    """The answer stands out."""
    if section.stage is Stage.CONCLUSION:
        return Panel(Text(section.text, style="bold"), border_style="green", expand=False)
    return Text.assemble((section.stage.name, "cyan"), "\n", section.text, "\n")


def candidates_shown(lines: tuple[Line, ...]) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column("id", justify="right")
    table.add_column("stage", min_width=len(Stage.CONCLUSION.name))
    table.add_column("text", ratio=1)
    table.add_column("score", justify="right", min_width=5)
    table.add_column("standing", min_width=max(map(len, STYLES)))
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for line in lines:
        score = "" if line.score is None else f"{line.score:+.2f}"
        style = STYLES[line.standing] if line.standing else "dim"
        row = (str(line.id), line.stage.name, line.beginning or "…", score, line.standing or "")
        table.add_row(*(Text(printable(cell)) for cell in row), style=style)
    return table


def told_in_one_line(facts: Json) -> str:
    """Of the `swires` object of an answer."""
    tokens = sum(facts["tokens"][part] for part in ("winner", "discarded", "aborted"))
    told = [
        f"{facts['seconds']:.1f} s",
        _counted(facts["generations"], "generation"),
        _counted(facts["retraces"], "retrace"),
        _counted(tokens, "token"),
    ]
    if facts["score"] is not None:
        told.append(f"score {facts['score']:+.2f}")
    if facts["accepted"] is not None:
        told.append("accepted" if facts["accepted"] else "not accepted")
    if facts["stopped_by"] is not None:
        told.append(f"stopped by {facts['stopped_by']}")
    if facts["scorer_degraded"]:
        told.append("the scorer failed")
    return " · ".join(told)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
