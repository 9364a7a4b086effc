"""The first records of a file as one HTML page that needs nothing else."""

import base64
import io
import json
from html import escape
from itertools import islice
from pathlib import Path

from training.data.image import open_image
from training.data.record import Record, Turn
from training.data.rejection import Rejected
from training.data.stream import Line, read

MAX_SIDE = 640
SMALL = 200
"""Pictures with no side longer are shown larger than they are, each of their pixels as it is."""
MAX_RAW = 20_000

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #1c2026; --soft: #5c6470; --line: #d9dde3;
  --summary: #2563eb; --caption: #047857; --reasoning: #b45309; --conclusion: #a21caf; --rejected: #c62828;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --page: #14171b; --card: #1d2126; --text: #e6e9ed; --soft: #9aa3af; --line: #343a42;
    --summary: #7aa7ff; --caption: #4fd1a1; --reasoning: #f0ae5b; --conclusion: #e38bf0; --rejected: #ff8a80;
  }}
}}
body {{ margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.25rem; }}
article {{ display: flex; flex-wrap: wrap; gap: 1.25rem; margin: 1rem 0; padding: 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }}
figure {{ flex: 1 1 14rem; align-self: flex-start; max-width: 22rem; margin: 0; }}
@media (min-width: 48rem) {{ figure {{ position: sticky; top: 1rem; }} }}
img {{ width: 100%; max-height: 28rem; object-fit: contain; object-position: 0 0; border-radius: .25rem; }}
.small {{ image-rendering: pixelated; }}
figcaption {{ color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }}
.turns {{ flex: 3 1 22rem; min-width: 0; }}
.question {{ margin: 0 0 .75rem; font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }}
.turn + .turn {{ margin-top: 1rem; padding-top: 1rem; border-top: 1px solid var(--line); }}
section {{ margin: .5rem 0; padding-left: .75rem; border-left: .25rem solid var(--stage); }}
h2 {{ margin: 0; color: var(--stage); font-size: .75rem; letter-spacing: .05em; }}
section p, pre {{ margin: 0; font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }}
.SUMMARY {{ --stage: var(--summary); }}
.CAPTION {{ --stage: var(--caption); }}
.REASONING {{ --stage: var(--reasoning); }}
.CONCLUSION {{ --stage: var(--conclusion); }}
.rejected {{ --stage: var(--rejected); flex: 1; min-width: 0; }}
pre {{ max-height: 24rem; margin-top: .5rem; padding: .5rem; overflow: auto; background: var(--page);
  font-size: .85rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""
TAIL = "</body>\n</html>\n"


def write_preview(file: Path, images: Path, page: Path, count: int) -> int:
    """Writes the first `count` records, those that would be rejected with their reason; returns how many there are."""
    written = 0
    with page.open("w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(HEAD.format(title=escape(file.name)))
        for line in islice(read(file, images), count):
            out.write(_card(line, images))
            written += 1
        out.write(TAIL)
    return written


def _card(line: Line, images: Path) -> str:
    if isinstance(line.record, Rejected):
        return f"<article>\n{_rejected(line, line.record)}</article>\n"
    return f"<article>\n{_figure(line.number, line.record, images)}{_turns(line.record)}</article>\n"


def _rejected(line: Line, why: Rejected) -> str:
    raw = escape(_readable(line.text)[:MAX_RAW])
    title = f"line {line.number}: {why.reason}"
    return f'<section class="rejected"><h2>{title}</h2><p>{escape(str(why))}</p>\n<pre>{raw}</pre></section>\n'


def _readable(text: bytes) -> str:
    """Where it is JSON, with its line breaks and characters as they are meant."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).replace("\\n", "\n")
    except (ValueError, RecursionError):
        return text.decode(errors="replace")


def _figure(number: int, record: Record, images: Path) -> str:
    caption = f"line {number}: {escape(record.id)}<br>{escape(record.image)}"
    return f"<figure>{_picture(images, record.image)}<figcaption>{caption}</figcaption></figure>\n"


def _turns(record: Record) -> str:
    return f'<div class="turns">\n{"".join(map(_turn, record.turns))}</div>\n'


def _turn(turn: Turn) -> str:
    stages = "".join(
        f'<section class="{stage.name}"><h2>{stage.name}</h2><p>{escape(text)}</p></section>\n'
        for stage, text in turn.stages.items()
    )
    return f'<div class="turn"><p class="question">{escape(turn.question)}</p>\n{stages}</div>\n'


def _picture(images: Path, name: str) -> str:
    image = open_image(images, name)
    small = max(image.size) <= SMALL
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=small)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img{" class=small" if small else ""} src="data:image/webp;base64,{data}" alt="">'
