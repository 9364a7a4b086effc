"""Every example of the README and of the pages does what it says, on the embedded checkpoint and real vLLM."""

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from server import sample
from tests.server.client import Json, chat
from tests.server.docs.outputs import differences, laid_out
from tests.server.docs.pages import PAGES, Block, Example, blocks, examples, replaced
from tests.server.docs.running import checkout, run
from tests.server.running import Running

LANGUAGES = {"console", "python", "json", "", "text"}
"""`text` is a drawing, in which there is nothing to try."""
NOT_RUN = {
    "README.md": 1,
    "server/docs/faults.md": 2,
    "server/docs/quick-start.md": 3,
    "server/docs/security.md": 1,
    "server/docs/tuning.md": 1,
}
"""How many blocks of a page are not tried, each with its reason beside it."""

REMEDY = "`make docs` writes the outputs of all pages anew; see then by `git diff` that they still fit what is said"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("name", PAGES)
async def test_examples_print_what_the_page_shows(
    server: Running, tmp_path: Path, name: str, write_docs: bool, compared: Callable[[str], str]
) -> None:
    found = list(examples(blocks(PAGES[name].read_text())))
    folder, address = checkout(tmp_path), server.url.removeprefix("http://")
    outputs = [await run(example.steps, folder, address=address) for example in found]
    if write_docs:
        write(PAGES[name], found, outputs)
    else:
        stale = [line for each in zip(found, outputs, strict=True) for line in stale_lines(*each, compared)]
        assert not stale, "\n".join([f"{name} shows what is not so.", *stale, REMEDY])


def write(page: Path, found: Sequence[Example], outputs: Sequence[Sequence[str]]) -> None:
    """What differs in no more than ids and times stays as it is."""
    texts = [(each.block, each.written(newest(each, output))) for each, output in zip(found, outputs, strict=True)]
    page.write_text(replaced(page.read_text(), texts))


def newest(example: Example, outputs: Sequence[str]) -> list[str]:
    both = [(step.output, output) for step, output in zip(example.steps, outputs, strict=True)]
    return [laid_out(output) if differences(shown, output) else shown for shown, output in both]


def stale_lines(example: Example, outputs: Sequence[str], compared: Callable[[str], str]) -> list[str]:
    return [
        f"line {example.block.line}: {step.command}  {line}"
        for step, output in zip(example.steps, outputs, strict=True)
        for line in differences(compared(step.output), compared(output))
    ]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("name", PAGES)
async def test_what_a_page_adds_to_a_request_is_taken(server: Running, name: str) -> None:
    async with server.connect() as client:
        for block in tried(name, "json"):
            reply = await client.post("/v1/chat/completions", json=question() | json.loads(block.text))
            assert reply.status_code == 200, f"line {block.line}: {reply.text}"


def question() -> Json:
    return chat(messages=[sample.message()])


@pytest.mark.parametrize("name", PAGES)
def test_no_block_is_passed_over(name: str) -> None:
    found = blocks(PAGES[name].read_text())
    assert {block.language for block in found if not block.mark} <= LANGUAGES
    marks = [block.mark for block in found if block.mark]
    assert [mark for mark in marks if not re.fullmatch(r"not run: .+", mark)] == []
    assert len(marks) == NOT_RUN.get(name, 0)
    before = [one.language for one, other in pairwise(found) if not other.language]
    assert set(before) <= {"python"}, "a block without a language is what the one before it prints"


def tried(name: str, language: str) -> list[Block]:
    return [block for block in blocks(PAGES[name].read_text()) if (block.language, block.mark) == (language, "")]
