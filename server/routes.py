"""The routes, each from the request to the response."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from server import __version__, images, openapi, schemas
from server.account import note
from server.callers import Caller
from server.disconnect import while_connected
from server.ending import Ending, until_ended
from server.errors import Refused, answer, failure, invalid
from server.facts import Facts, Json
from server.images import ImageLimits
from server.offers import offers
from server.openai import ChatReply
from server.plan import Choice, budget, choose, model_names, search_plan
from server.reply import Reply
from server.responses import ResponseReply
from server.responses_schemas import ResponsesRequest
from server.schema_limits import check_size
from server.schemas import ChatRequest
from server.scorer.by_stage import ByStage
from server.search_trace import SearchTrace
from server.service import Service
from server.settings import MIB, Settings
from server.span import span
from server.sse import EventStream
from swires.admission import Turn
from swires.errors import InvalidPlan, Overloaded
from swires.estimate import Estimate, estimate
from swires.events import Event, SearchFinished
from swires.plan import SearchPlan
from swires.protocols import Scorer
from swires.result import SearchResult
from swires.types import Problem

BODY_TIMEOUT_S = 60
"""How long a client may take to send its request, however long that is."""

BODY_GRACE_S = 10
MIN_BODY_RATE = 32 * 1024
"""It may take the one, and a second for each so many bytes: whoever sends nothing keeps others from arriving."""

Kind = TypeVar("Kind", bound=schemas.Request)

_estimator = ThreadPoolExecutor(1, thread_name_prefix="estimate")

router = APIRouter()
"""Without a key: what tells whether the server lives."""


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(_service)]


async def _caller(request: Request, service: TheService) -> Caller:
    """Raises Refused: 401."""
    caller = service.callers.find(request.headers.get("authorization"))
    note(key=caller.label)
    return caller


async def _scraper(request: Request, service: TheService) -> None:
    if not service.settings.open_metrics:
        await _caller(request, service)


async def _held() -> AsyncGenerator[ExitStack, None]:
    """What a request holds until its response has been sent."""
    with ExitStack() as held:
        yield held


TheCaller = Annotated[Caller, Depends(_caller)]
Held = Annotated[ExitStack, Depends(_held)]

keyed = APIRouter(dependencies=[Depends(_caller)])
"""With a key, where there are any."""


@keyed.post("/v1/chat/completions")
async def chat_completions(request: Request, service: TheService, caller: TheCaller, held: Held) -> Response:
    return await _answered(request, service, caller, held, ChatRequest, _chat_reply)


@keyed.post("/v1/responses")
async def responses(request: Request, service: TheService, caller: TheCaller, held: Held) -> Response:
    return await _answered(request, service, caller, held, ResponsesRequest, _response_reply)


async def _answered(
    request: Request,
    service: Service,
    caller: Caller,
    held: ExitStack,
    kind: type[Kind],
    make_reply: Callable[[Kind, Facts, Settings], Reply],
) -> Response:
    """The road of a search, from either API."""
    place = held.enter_context(caller.place())
    async with _gate(service):
        asked = await _checked(request, service, kind)
        choice = choose(asked, service.settings, service.scorers)
        note(policy=choice.policy.name, preset=choice.preset, scorer=choice.scorer)
        limits = budget(choice, asked, service.settings)
        turn = None if asked.swires.dry_run else held.enter_context(_turn(choice, service))
        problem = await while_connected(request.receive, _rendered(asked, service, caller))
        plan = search_plan(
            problem, choice.policy, limits, asked, service.settings, max_model_len=service.engine.max_model_len
        )
        cost = await while_connected(request.receive, _estimated(plan, service)) if asked.swires.dry_run else None
    facts = Facts(
        policy=plan.policy.name,
        preset=choice.preset,
        scorer=choice.scorer,
        numbers=asdict(choice.policy),
        budget=asdict(plan.budget),
        trace=asked.swires.trace,
    )
    reply = make_reply(asked, facts, service.settings)
    if cost is not None:
        return _dry_run(plan.problem, cost, reply, service, stream=bool(asked.stream))
    assert turn is not None
    trace = SearchTrace.begun(plan, model=asked.model, preset=choice.preset, content=service.settings.trace_content)
    searching = service.scheduler.run(plan, _scorer(choice, service), turn, trace.tell if trace else None)
    watched = service.metrics.watched(searching, turn, policy=plan.policy.name, preset=choice.preset)
    events = caller.counted(until_ended(watched, partial(_tell, trace)), problem, place)
    if asked.stream:
        return _stream(reply.chunks(events), reply, service)
    result = await while_connected(request.receive, _result(events))
    return Response(to_json(reply.whole(result), inf_nan_mode="null"), media_type="application/json")


def _chat_reply(chat: ChatRequest, facts: Facts, settings: Settings) -> Reply:
    return ChatReply(
        model=chat.model,
        facts=facts,
        raw=chat.swires.raw,
        stops=chat.stops,
        logprobs=bool(chat.logprobs),
        events=chat.swires.events,
        include_usage=chat.include_usage,
        reasoning_names=("reasoning", "reasoning_content") if settings.reasoning_content else ("reasoning",),
    )


def _response_reply(asked: ResponsesRequest, facts: Facts, settings: Settings) -> Reply:
    return ResponseReply(asked, facts, asked.temperature or settings.temperature, asked.top_p or settings.top_p)


@keyed.get("/v1/models")
async def models(service: TheService) -> JSONResponse:
    cards = [
        {
            "id": name,
            "object": "model",
            "created": service.created,
            "owned_by": "swires",
            "root": service.settings.name,
            "max_model_len": service.engine.max_model_len,
        }
        for name in model_names(service.settings)
    ]
    return JSONResponse({"object": "list", "data": cards, "swires": offers(service.settings, service.scorers)})


@router.get("/health")
async def health(service: TheService) -> Response:
    """Whether process and engine live, whatever the load."""
    if service.fault:
        return _unavailable("the engine is dead", code="engine_dead")
    return Response()


@router.get("/ready")
async def ready(service: TheService) -> Response:
    """Whether a request would be served."""
    if not service.ready:
        return _unavailable("not ready", code="not_ready")
    return Response()


def _unavailable(message: str, *, code: str) -> Response:
    """Not raised, which would count a probe as a request that was refused."""
    return answer(failure(Refused(message, status=503, code=code)))


@router.get("/metrics", dependencies=[Depends(_scraper)])
async def metrics(service: TheService) -> Response:
    return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


@keyed.get("/version")
async def version(service: TheService) -> JSONResponse:
    return JSONResponse({"version": __version__, "engine": service.engine.version})


@keyed.get("/openapi.json")
async def openapi_document(service: TheService) -> JSONResponse:
    return JSONResponse(openapi.document(service.settings.name))


@asynccontextmanager
async def _gate(service: Service) -> AsyncGenerator[None, None]:
    """Raises Overloaded rather than let requests wait with what they have brought."""
    if service.gate.locked():
        raise Overloaded("too many requests at once", reason="arriving_full")
    async with service.gate:
        yield


async def _checked(request: Request, service: Service, kind: type[Kind]) -> Kind:
    """Raises Refused: 400, 408, 413, 415."""
    _check_content_type(request.headers.get("content-type", ""))
    try:
        body = await _body(request, service.settings.max_body_mib * MIB)
    except TimeoutError:
        raise Refused("the request took too long to arrive", status=408, code="request_timeout") from None
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error, _parsed(body)) from error


def _check_content_type(value: str) -> None:
    if value.partition(";")[0].strip().lower() != "application/json":
        raise Refused("the content type must be application/json", status=415, code="unsupported_content_type")


async def _body(request: Request, max_bytes: int) -> bytes:
    """Raises Refused: 413, TimeoutError."""
    body, start = bytearray(), asyncio.get_running_loop().time()
    async with asyncio.timeout_at(start + min(BODY_TIMEOUT_S, BODY_GRACE_S)) as patience:
        async for piece in request.stream():
            body += piece
            if len(body) > max_bytes:
                raise Refused(f"a request may have at most {max_bytes} bytes", status=413, code="request_too_large")
            patience.reschedule(start + min(BODY_TIMEOUT_S, BODY_GRACE_S + len(body) / MIN_BODY_RATE))
    return bytes(body)


def _parsed(body: bytes) -> object:
    try:
        return from_json(body)
    except ValueError:
        return None


def _turn(choice: Choice, service: Service) -> Turn:
    """Taken before the request is decoded and rendered, so that no such work is for one that is then refused.

    Raises Overloaded.
    """
    try:
        return service.scheduler.join(choice.width)
    except Overloaded:
        service.metrics.turned_away(policy=choice.policy.name, preset=choice.preset)
        raise


def _scorer(choice: Choice, service: Service) -> Scorer:
    if not choice.stage_scorers:
        return service.scorers[choice.scorer]
    by_stage = {stage: service.scorers[name] for stage, name in choice.stage_scorers.items()}
    return ByStage(service.scorers[choice.scorer], by_stage)


def _stream(chunks: AsyncGenerator[Json, None], reply: Reply, service: Service) -> EventStream:
    keep_alive_s = service.settings.keep_alive_s
    return EventStream(chunks, keep_alive_s=keep_alive_s, failed=reply.failed, last=reply.last)


async def _estimated(plan: SearchPlan, service: Service) -> Estimate:
    """One at a time, in a thread: more would be taken from the time of the searches."""
    return await asyncio.get_running_loop().run_in_executor(_estimator, estimate, plan, service.lengths)


def _dry_run(problem: Problem, cost: Estimate, reply: Reply, service: Service, *, stream: bool) -> Response:
    if stream:
        return _stream(reply.dry_chunks(problem, cost), reply, service)
    return JSONResponse(reply.dry_run(problem, cost))


async def _rendered(asked: schemas.Request, service: Service, caller: Caller) -> Problem:
    """Raises Refused, naming what the engine cannot take as the request names it."""
    settings = service.settings
    limits = ImageLimits(settings.max_images, settings.max_image_mib * MIB, settings.max_image_pixels)
    params = {"messages": asked.prompt_param, "json_schema": asked.schema_param}
    if (asked.num_top_logprobs or 0) > (most := service.engine.max_logprobs):
        message = f"top_logprobs: the engine tells at most {most}"
        raise Refused(message, param="top_logprobs", code="invalid_value")
    try:
        if asked.json_schema is not None:
            check_size(asked.json_schema)
            await service.engine.check_schema(asked.json_schema)
        sources = images.within(list(asked.images()), limits)
        with span("render", {"swires.images": len(sources)}):
            fetched = await service.fetcher.inlined(sources)
            async with service.rendering:
                shown = [replace(each, url=fetched.get(each.url, each.url)) for each in sources]
                seen = await images.load(shown, limits)
                problem = await service.engine.render(asked.rendering(), seen)
    except InvalidPlan as error:
        raise Refused(str(error), param=params[error.field], code="invalid_value") from error
    return replace(problem, messages=asked.plain(fetched), cache_salt=caller.cache_salt)


def _tell(trace: SearchTrace | None, ending: Ending) -> None:
    """To the log's line and, where there is one, to the trace."""
    note(**ending.facts)
    if ending.error is not None:
        note(code=failure(ending.error).code)
    if trace is not None:
        trace.end(ending)


async def _result(events: AsyncGenerator[Event, None]) -> SearchResult:
    result: SearchResult | None = None
    async with aclosing(events):
        async for event in events:
            if isinstance(event, SearchFinished):
                result = event.result
    assert result is not None
    return result


router.include_router(keyed)
