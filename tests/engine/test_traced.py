"""What vLLM does for a search, in the search's trace."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server import checkpoint as checkpoints
from server.app import create_app
from server.scorer.offered import chosen_scorers, make_scorers
from server.settings import Settings
from server.tracing import Tracing
from swires.errors import EngineError
from swires.stages import Stage
from tests.server.client import ask, connect

if TYPE_CHECKING:
    from server.engine.vllm_engine import VllmEngine
    from tests.conftest import StartVllm

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_vllms_spans_hang_under_stages_and_scoring(
    vllm_engine: "VllmEngine", checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what AsyncLLM does at its start where it is given an endpoint, done to the one that runs."""
    told = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(told))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    monkeypatch.setattr(vllm_engine._llm.observability_config, "otlp_traces_endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(vllm_engine._llm.output_processor, "tracing_enabled", True)
    known = checkpoints.load(str(checkpoint))
    scorers = make_scorers(vllm_engine, known, chosen_scorers(known, ()))
    settings = Settings.model_validate({"model": str(checkpoint), "served_name": "demo"})
    async with Tracing(SimpleSpanProcessor(told)) as tracing:
        app = create_app(vllm_engine, scorers, settings, tracing=tracing)
        async with connect(app) as client:
            facts = (await ask(client)).json()["swires"]
    spans = told.get_finished_spans()
    by_id = {span.context.span_id: span for span in spans if span.context}
    above = [by_id[span.parent.span_id].name for span in spans if span.name == "llm_request" and span.parent]
    assert len([name for name in above if name in Stage.__members__]) == facts["generations"]
    assert set(above) == {*Stage.__members__, "score"}
    assert len({span.context.trace_id for span in spans if span.context}) == 1


async def test_traces_without_statistics_are_refused(start_vllm: "StartVllm", checkpoint: Path) -> None:
    options = {"otlp_traces_endpoint": "http://127.0.0.1:9", "disable_log_stats": True}
    with pytest.raises(EngineError, match="statistics"):
        async with start_vllm(checkpoint, **options):
            pass
