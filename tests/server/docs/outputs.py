"""What an example prints: laid out for a page, and compared with what the page has."""

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

WIDTH = 118

FREE = {
    *("id", "item_id", "request_id", "created", "created_at", "completed_at"),
    *("seconds", "score", "logprob", "cached", "computed"),
}
"""Keys whose values are another each time, or on another machine; all else is as on the page, as at temperature 0 the
same request has the same answer."""

Piece = tuple[str, Any]


def laid_out(output: str) -> str:
    """JSON in lines that can be read, all else as it is."""
    return "".join(text if value is None else text + _laid_out(value) + "\n" for text, value in pieces(output))


def shape(output: str) -> str:
    """What is left to compare where the model answers in other words, as on another device: the JSON, each value as its
    kind."""
    return "".join(json.dumps(_kinds(value)) + "\n" for _, value in pieces(output) if value is not None)


def _kinds(value: Any) -> Any:
    match value:
        case dict():
            return {name: _kinds(each) for name, each in value.items()}
        case list():
            return [_kinds(each) for each in value]
        case int() | float() if not isinstance(value, bool):
            return "number"
        case None:
            return None
    return type(value).__name__


def differences(page: str, real: str) -> list[str]:
    """Between two outputs, each in a line."""
    both = zip_longest(pieces(page), pieces(real), fillvalue=("", None))
    return [line for old, new in both for line in _between(old, new)]


def pieces(output: str) -> Iterator[Piece]:
    """Lines of text, and JSON behind what stands before it in its line, `data: ` or nothing."""
    at = 0
    while at < len(output):
        start = re.compile(r"(data: )?(?=[{\[])").match(output, at)
        parsed = _json_at(output, start.end()) if start else None
        if start and parsed:
            value, end = parsed
            yield start.group(), value
            at = end + output[end:].startswith("\n")
        else:
            end = output.find("\n", at) + 1 or len(output)
            yield output[at:end], None
            at = end


def _json_at(output: str, start: int) -> tuple[Any, int] | None:
    try:
        return json.JSONDecoder().raw_decode(output, start)
    except ValueError:
        return None


def _between(old: Piece, new: Piece) -> Iterator[str]:
    if _masked(old[0]) != _masked(new[0]) or (old[1] is None) != (new[1] is None):
        yield f"{_shown(old)} is now {_shown(new)}"
    elif old[1] is not None:
        yield from _between_json(old[1], new[1], "", "")


def _masked(text: str) -> str:
    """Without what is measured, and without ids."""
    return re.sub(r"\d+\.\d+(e[+-]\d+)?|\b[0-9a-f]{32}\b", "0.0", text)


def _shown(piece: Piece) -> str:
    text, value = piece
    return repr(text if value is None else text + json.dumps(value))


def _between_json(old: Any, new: Any, path: str, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() ^ new.keys()):
            yield f"{path}.{name} is {'gone' if name in old else 'new'}"
        for name in [name for name in old if name in new]:
            yield from _between_json(old[name], new[name], f"{path}.{name}", name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _between_json(one, other, f"{path}[{index}]", key)
    elif old != new and not (key in FREE and type(old) is type(new)):
        yield f"{path} was {old!r}, is {new!r}"


def _laid_out(value: Any, indent: int = 0) -> str:
    """In one line where there is room, else in as few as there is room for."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or indent + len(line) <= WIDTH:
        return line
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    *items, last = _items(value, indent + 1)
    return opening + _filled([*(f"{item}," for item in items), last], indent + 1) + closing


def _items(value: dict[str, Any] | list[Any], indent: int) -> Iterator[str]:
    if isinstance(value, list):
        yield from (_laid_out(each, indent) for each in value)
    else:
        for name, each in value.items():
            start = f"{json.dumps(name, ensure_ascii=False)}: "
            yield start + _laid_out(each, indent + len(start))


def _filled(items: list[str], indent: int) -> str:
    lines = [items[0]]
    for item in items[1:]:
        alone = "\n" in lines[-1] + item
        if alone or indent + len(lines[-1]) + 1 + len(item) > WIDTH:
            lines.append(item)
        else:
            lines[-1] += f" {item}"
    return f"\n{' ' * indent}".join(lines)
