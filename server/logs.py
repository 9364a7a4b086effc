"""The log on stderr: a line for each event, as text or as JSON, with the request that it belongs to.

What others put into a message cannot look like a line of its own, nor move a terminal's cursor.
"""

import json
import logging
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from server.account import request_id
from server.settings import LogFormat, Settings
from server.span import CURRENT

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CHATTY = "httpx"
"""A line for each request to a scorer."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **({} if record.processName == "MainProcess" else {"process": record.processName}),
            "message": record.getMessage(),
            **_belonging(record),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str).replace("\x7f", "\\u007f")


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {name: value for name, value in _belonging(record).items() if value is not None}
        facts = "".join(f" {name}={_value(value)}" for name, value in told.items())
        line = f"{record.levelname} {_escaped(record.getMessage())}{facts}"
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).splitlines()
        return "\n".join([line, *(f"    {_escaped(each)}" for each in trace)])


FORMATTERS: Mapping[LogFormat, type[logging.Formatter]] = {"text": TextLines, "json": JsonLines}


def set_up(level: str, form: LogFormat) -> None:
    """The log of this process; Python's warnings go there too where all has to be JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTERS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(form == "json")
    logging.getLogger(CHATTY).setLevel(logging.WARNING)


@contextmanager
def vllm_logging(settings: Settings) -> Generator[dict[str, Any], None, None]:
    """Options by which vLLM, and each process that it starts, logs as this one does in JSON; else as it likes.

    Not under info, where it would tell what it is asked."""
    if settings.log_format == "text":
        yield {}
        return
    level = "INFO" if settings.log_level == "debug" else settings.log_level.upper()
    handlers = {"vllm": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}}
    told = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.{JsonLines.__name__}"}},
        "handlers": handlers,
        "loggers": {"vllm": {"handlers": ["vllm"], "level": level, "propagate": False}},
    }
    with TemporaryDirectory(prefix="swires-") as folder:
        path = Path(folder) / "logging.json"
        path.write_text(json.dumps(told))
        yield {"logging_config": {"pylogging_config_file": str(path), "configure_logging": True}}


def _belonging(record: logging.LogRecord) -> dict[str, Any]:
    """The request and the trace, where there are, and the facts of the event."""
    span = CURRENT.get()
    of = {"request_id": request_id(), "trace_id": None if span is None else span.trace_id}
    facts: Mapping[str, Any] = getattr(record, "facts", {})
    return {name: value for name, value in of.items() if value is not None} | {**facts}


def _escaped(text: str) -> str:
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _value(value: object) -> str:
    """Quoted where it would not be one word."""
    text = _escaped(str(value))
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text, ensure_ascii=False)
