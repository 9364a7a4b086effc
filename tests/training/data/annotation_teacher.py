"""A teacher on loopback that answers as it is told to, well or badly."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


@dataclass(frozen=True)
class Asked:
    """One request; `times` is how often the same has had a proper answer before."""

    body: dict[str, Any]
    headers: dict[str, str]
    times: int

    @property
    def prompt(self) -> str:
        return prompt_of(self.body)

    @property
    def has_image(self) -> bool:
        return any(part["type"] == "image_url" for part in self.body["messages"][0]["content"])

    @property
    def known(self) -> str:
        return self.prompt.rpartition("The known answer:\n")[2]


@dataclass(frozen=True)
class Answer:
    """`sent` is how much of the body goes out before the connection breaks; `held` goes out when the test lets it."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None
    held: bool = False
    paid: bool = False


Manner: TypeAlias = Callable[[Asked], Answer]


def prompt_of(body: dict[str, Any]) -> str:
    return next(str(part["text"]) for part in body["messages"][0]["content"] if part["type"] == "text")


def says(text: str | None, *, finish_reason: str = "stop", refusal: str | None = None) -> Answer:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return Answer(json.dumps({"choices": choices, "usage": USAGE}).encode(), paid=True)


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def staged(conclusion: str, reasoning: str = "One and one.") -> str:
    return (
        f"<SUMMARY>Count.</SUMMARY>\n<CAPTION> Two things. </CAPTION>\n\n<REASONING>{reasoning}</REASONING>\n"
        f"<CONCLUSION>{conclusion}</CONCLUSION>"
    )


def well(asked: Asked) -> Answer:
    """Right stages, and the judgement that what holds the reference says the same."""
    if asked.has_image:
        return says(staged(asked.known))
    reference, _, rest = asked.prompt.partition("The reference:\n")[2].partition("\n\nThe answer:\n")
    conclusion = rest.partition("\n\nReply with")[0]
    return says("valid" if reference.lower() in conclusion.lower() else "invalid")


class ScriptedTeacher(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, manner: Manner) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manner = manner
        self.asked: list[Asked] = []
        self.paid: list[str] = []
        """Prompts of the requests that have had a proper answer."""
        self.num_held = 0
        self.release = threading.Event()
        self.changed = threading.Condition()
        self._times: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer_to(self, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        with self.changed:
            prompt = prompt_of(body)
            asked = Asked(body, headers, self._times[prompt])
            answer = self.manner(asked)
            self.asked.append(asked)
            self.num_held += answer.held
            if answer.paid:
                self._times[prompt] += 1
                self.paid.append(prompt)
            self.changed.notify_all()
        return answer

    def wait_until_held(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.num_held >= number, timeout=60)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedTeacher

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answer_to(body, dict(self.headers))
        if answer.held:
            self.server.release.wait()
        with suppress(ConnectionError):
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: answer.sent])
        self.close_connection = answer.sent is not None

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def teaching(manner: Manner) -> Iterator[ScriptedTeacher]:
    with ScriptedTeacher(manner) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()
