"""Records as lines, and vLLM's among them."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from server import account
from server.account import Account
from server.logs import FORMATTERS, JsonLines, TextLines, vllm_logging
from server.settings import LogFormat, Settings

EVIL = "a\r\nERROR forged\x1b[31m\x7f\x9b\u2028\u202e end"


def record(message: str, *arguments: object, error: Exception | None = None, **facts: object) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    it = logging.LogRecord("server.x", logging.WARNING, __file__, 1, message, arguments, exc_info)
    it.facts = facts
    return it


def test_json_has_what_belongs_to_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    token = account.CURRENT.set(Account("abc"))
    try:
        told = json.loads(JsonLines().format(record("%s of %d", "one", 2, policy="swires", accepted=None)))
    finally:
        account.CURRENT.reset(token)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning", "logger": "server.x", "message": "one of 2", "request_id": "abc", "policy": "swires",
        "accepted": None,
    }  # fmt: skip


def test_text_quotes_what_is_not_one_word() -> None:
    line = TextLines().format(record("search", policy="swires", path="/a b", seconds=0.5, empty="", quoted='x"y'))
    assert line == 'WARNING search policy=swires path="/a b" seconds=0.5 empty="" quoted="x\\"y"'


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_in_a_message_is_a_line_or_moves_the_cursor(form: LogFormat) -> None:
    line = FORMATTERS[form]().format(record("%s", EVIL, path=EVIL))
    assert line.isprintable()
    assert "forged" in line
    if form == "json":
        assert json.loads(line)["message"] == json.loads(line)["path"] == EVIL


def test_a_trace_in_text_is_set_in() -> None:
    try:
        raise RuntimeError(EVIL)
    except RuntimeError as error:
        first, *trace = TextLines().format(record("failed", error=error)).split("\n")
    assert first == "WARNING failed"
    assert len(trace) > 3
    assert all(line.startswith("    ") and line.isprintable() for line in trace)


def test_a_trace_in_json_is_in_its_line() -> None:
    try:
        raise RuntimeError(EVIL)
    except RuntimeError as error:
        line = JsonLines().format(record("failed", error=error))
    assert line.isprintable()
    assert json.loads(line)["traceback"].startswith("Traceback")


def settings(**given: Any) -> Settings:
    return Settings.model_validate({"model": "demo", **given})


def test_vllm_is_left_alone_in_text() -> None:
    with vllm_logging(settings()) as options:
        assert options == {}


@pytest.mark.parametrize(
    ("level", "told"), [("debug", ["info", "error"]), ("info", ["info", "error"]), ("error", ["error"])]
)
def test_vllm_logs_json_but_never_what_it_is_asked(level: str, told: list[str]) -> None:
    """In a process of its own, as vLLM's are."""
    code = """if True:
        import json, logging, sys
        from logging.config import dictConfig
        dictConfig(json.load(open(sys.argv[1])))
        for level in (10, 20, 40):
            logging.getLogger("vllm.v1.core").log(level, "hello\\nthere")
    """
    with vllm_logging(settings(log_format="json", log_level=level)) as options:
        path = options["logging_config"]["pylogging_config_file"]
        done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == told
    assert {(line["logger"], line["message"]) for line in lines} == {("vllm.v1.core", "hello\nthere")}
