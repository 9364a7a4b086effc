"""What a page says where, and that its links lead somewhere."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from server.schemas import StageOptions, SwiresOptions
from tests.server.docs.pages import PAGES, blocks, examples, replaced
from tests.server.docs.running import ExampleFailed, checkout, run

PAGE = """\
Some text.

```console
$ A=1
$ echo "$A
> 2" \\
  3
1
> 2 3
$ cat <<END
4
END
```

```python
a = 1
```

```console not run: because
$ false
```

```python
print(a)
```

```
1
```
"""


def test_examples_are_found_and_replaced() -> None:
    console, python = examples(blocks(PAGE))
    assert [step.shown for step in console.steps] == ["$ A=1\n", '$ echo "$A\n> 2" \\\n  3\n', "$ cat <<END\n4\nEND\n"]
    assert [step.output for step in console.steps] == ["", "1\n> 2 3\n", ""]
    assert "a = 1\nprint(a)\n" in python.steps[0].command
    assert python.steps[0].output == "1\n"
    texts = [(console.block, console.written(["", "more\nlines\n", "4\n"])), (python.block, python.written(["2\n"]))]
    written = replaced(PAGE, texts)
    assert [step.output for step in next(examples(blocks(written))).steps] == ["", "more\nlines\n", "4\n"]
    assert written.endswith("```\n2\n```\n")


async def test_examples_are_run_as_they_stand(tmp_path: Path) -> None:
    console, python = examples(blocks(PAGE))
    folder = checkout(tmp_path)
    assert await run(console.steps, folder, address="127.0.0.1:1") == ["", "1\n> 2 3\n", "4\n"]
    assert await run(python.steps, folder, address="127.0.0.1:1") == ["1\n"]


async def test_an_example_that_fails_is_told(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    (example,) = examples(blocks("```console\n$ echo no; false\n```\n"))
    with pytest.raises(ExampleFailed, match="status 1 of echo no"):
        await run(example.steps, folder, address="127.0.0.1:1")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other.read_text()), target


def links(markdown: str) -> list[str]:
    """Those within the project."""
    children = [child for token in MarkdownIt().parse(markdown) for child in token.children or ()]
    found = [child.attrs.get("href") or child.attrs.get("src") for child in children]
    return [str(each) for each in found if each and "://" not in str(each)]


def anchors(markdown: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_key_of_the_swires_object_is_explained() -> None:
    page = PAGES["server/docs/api.md"].read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    for key in (*SwiresOptions.model_fields, *StageOptions.model_fields):
        assert f"`{key}`" in rows, key
