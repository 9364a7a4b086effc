"""The pages and the examples in them, found and replaced.

A block of `console` holds commands, each behind a `$`, and what they print. What a block of `python` prints is in one
without a language that follows it; where none does, later ones go on from it. A block of `json` is what is added to a
request. Where the first line of a block goes on after its language, as "console not run: needs a GPU", that says why it
is not tried.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[3]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *(ROOT / "server/docs").glob("*.md"))}
"""By the names that tests and readers know them by."""


@dataclass(frozen=True, slots=True)
class Block:
    """The text between two fences, and the number of its first line."""

    language: str
    mark: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Step:
    """A command as the page has it, what is run for it, and what it printed when the page was written."""

    shown: str
    command: str
    output: str


@dataclass(frozen=True, slots=True)
class Example:
    """What is run in one go; `outputs` of its steps are to be written into `block`."""

    steps: Sequence[Step]
    block: Block

    def written(self, outputs: Sequence[str]) -> str:
        return "".join(step.shown + output for step, output in zip(self.steps, outputs, strict=True))


def blocks(markdown: str) -> list[Block]:
    tokens = [token for token in MarkdownIt().parse(markdown) if token.type == "fence"]
    return [_block(token.info, token.content, token.map) for token in tokens]


def _block(info: str, text: str, lines: Sequence[int] | None) -> Block:
    assert lines is not None
    language, _, mark = info.strip().partition(" ")
    return Block(language, mark, text, lines[0] + 1)


def examples(found: Sequence[Block]) -> Iterator[Example]:
    """Of the blocks that are run and print something."""
    setup = ""
    for block, following in zip(found, [*found[1:], None], strict=False):
        if block.mark:
            continue
        if block.language == "console":
            yield Example(tuple(_steps(block.text)), block)
        elif block.language == "python" and following and not following.language:
            yield Example((Step("", _script(setup + block.text), following.text),), following)
        elif block.language == "python":
            setup += block.text


def replaced(markdown: str, texts: Sequence[tuple[Block, str]]) -> str:
    lines = markdown.splitlines(keepends=True)
    for block, text in sorted(texts, key=lambda each: each[0].line, reverse=True):
        lines[block.line : block.line + block.text.count("\n")] = [text]
    return "".join(lines)


def _steps(text: str) -> Iterator[Step]:
    """A command goes on in the next line after a backslash, and while a quotation or a document is open."""
    for part in re.split(r"^(?=\$ )", text, flags=re.MULTILINE):
        if not part:
            continue
        assert part.startswith("$ "), f"a block of console begins with a command, not with {part!r}"
        lines = part.splitlines(keepends=True)
        count = next(count for count in range(1, len(lines) + 1) if _is_whole("".join(lines[:count])))
        shown = "".join(lines[:count])
        yield Step(shown, shown.removeprefix("$ "), "".join(lines[count:]))


def _is_whole(command: str) -> bool:
    if document := re.search(r"<<(\w+)\n", command):
        return command.endswith(f"\n{document.group(1)}\n")
    unquoted = re.sub(r"'[^']*'|\"(\\.|[^\"\\])*\"", "", command)
    return not unquoted.endswith("\\\n") and not re.search(r"['\"]", unquoted)


def _script(text: str) -> str:
    return f"python - <<'END OF EXAMPLE'\n{text}END OF EXAMPLE\n"
