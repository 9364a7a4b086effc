"""What tracing costs a search, on and off: `python -m deploy.trace.cost`. The engine is the fake one."""

import asyncio
import statistics
import time
import timeit
from collections.abc import Sequence

import httpx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from server import sample
from server.app import create_app
from server.engine.fake import FakeEngine
from server.in_process import InProcess
from server.scorer.fake import FakeScorer
from server.scorer.guarded import Guarded
from server.settings import Settings
from server.span import span, trace_headers
from server.tracing import Tracing

ROUNDS, SEARCHES, CALLS = 11, 20, 100_000


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def main() -> None:
    seconds: dict[str, list[float]] = {"off": [], "on": []}
    facts = await _searched(None, 5)
    for _ in range(ROUNDS):
        seconds["off"].append(await _timed(None))
        async with Tracing(BatchSpanProcessor(Nowhere())) as tracing:
            seconds["on"].append(await _timed(tracing))
    off, on = (1e6 * statistics.median(each) for each in seconds.values())
    print(f"a search of {facts['generations']} generations: {off:.0f} us of CPU without a collector")
    print(f"traced: {on - off:+.0f} us, {100 * (on / off - 1):.0f} %")
    for name, call in (("a span", _spanned), ("an engine request's headers", trace_headers)):
        print(f"where nothing is traced, {name}: {1e6 * timeit.timeit(call, number=CALLS) / CALLS:.2f} us")


def _spanned() -> None:
    with span("score"):
        pass


async def _timed(tracing: Tracing | None) -> float:
    """CPU seconds of one search."""
    start = time.process_time()
    await _searched(tracing, SEARCHES)
    return (time.process_time() - start) / SEARCHES


async def _searched(tracing: Tracing | None, times: int) -> dict[str, int]:
    """The facts of the last."""
    async with FakeEngine() as engine:
        scorers = {"fake": Guarded("fake", FakeScorer(), 30)}
        app = create_app(engine, scorers, Settings.model_validate({"model": "demo"}), tracing=tracing)
        async with httpx.AsyncClient(transport=InProcess(app), base_url="http://in-process") as client:
            for seed in range(times):
                body = {"model": "demo", "messages": [sample.message()], "seed": seed}
                facts: dict[str, int] = (await client.post("/v1/chat/completions", json=body)).json()["swires"]
    return facts


if __name__ == "__main__":
    asyncio.run(main())
