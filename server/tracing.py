"""Spans for a collector of OpenTelemetry. Imported where `--otlp-traces-endpoint` is given, and nowhere else.

What else there is to choose is chosen by OpenTelemetry's own variables, OTEL_*, which its SDK reads.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span as OpenTelemetrySpan
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server import __version__
from server.settings import Collector, OtlpProtocol
from server.span import NOTHING, Attributes

FLUSH_S = 2

W3C = TraceContextTextMapPropagator()


class Tracing:
    """A provider of its own beside the one that vLLM makes the process's, so that neither needs the other.

    An async context manager: leaving sends what is left, and gives up soon where no collector takes it.
    """

    def __init__(self, processor: SpanProcessor, give_up: Callable[[], object] = lambda: None) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("swires", __version__)
        self._give_up = give_up

    @classmethod
    def to(cls, collector: Collector) -> Self:
        assert collector.endpoint is not None
        exporter = _exporter(collector.endpoint, collector.protocol)
        return cls(BatchSpanProcessor(exporter), exporter.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sending = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait((sending,), timeout=FLUSH_S)
        if not sending.done():
            await asyncio.to_thread(self._give_up)
        await sending

    def request(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> "TracedSpan":
        """The span of a request, in the trace that its headers name, else in a new one."""
        it = self._tracer.start_span(name, W3C.extract(headers), SpanKind.SERVER, _known(attributes))
        return TracedSpan(self._tracer, it)


class TracedSpan:
    """See `server.span.Span`."""

    def __init__(self, tracer: Tracer, it: OpenTelemetrySpan) -> None:
        self._tracer = tracer
        self._it = it

    @property
    def trace_id(self) -> str:
        return format_trace_id(self._it.get_span_context().trace_id)

    @property
    def headers(self) -> Mapping[str, str]:
        told: dict[str, str] = {}
        W3C.inject(told, set_span_in_context(self._it))
        return told

    def child(self, name: str, attributes: Attributes = NOTHING, *, start_ns: int | None = None) -> "TracedSpan":
        within = set_span_in_context(self._it)
        it = self._tracer.start_span(name, within, attributes=_known(attributes), start_time=start_ns)
        return TracedSpan(self._tracer, it)

    def set(self, attributes: Attributes) -> None:
        self._it.set_attributes(_known(attributes))

    def event(self, name: str, attributes: Attributes = NOTHING) -> None:
        self._it.add_event(name, _known(attributes))

    def fail(self, kind: str) -> None:
        self._it.set_attribute("error.type", kind)
        self._it.set_status(Status(StatusCode.ERROR))

    def end(self, error: BaseException | None = None, *, end_ns: int | None = None) -> None:
        """Of an `error` its kind alone is told: its text may hold what was asked."""
        if isinstance(error, asyncio.CancelledError):
            self._it.set_attribute("swires.cancelled", True)
        elif error is not None:
            self.fail(type(error).__name__)
        self._it.end(end_ns)


def _known(attributes: Attributes) -> dict[str, str | bool | int | float | tuple[str, ...]]:
    return {
        name: value if isinstance(value, str | bool | int | float) else tuple(value)
        for name, value in attributes.items()
        if value is not None
    }


def _exporter(endpoint: str, protocol: OtlpProtocol) -> SpanExporter:
    """As vLLM makes its own, so that one endpoint serves both."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(endpoint=endpoint, insecure=True)  # of https:// it makes a secure one all the same
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(endpoint=endpoint)


def _resource() -> Resource:
    """Called swires where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES call it nothing."""
    told = Resource.create({SERVICE_VERSION: __version__})
    if str(told.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return told.merge(Resource({SERVICE_NAME: "swires"}))
    return told
