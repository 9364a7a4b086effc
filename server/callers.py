"""Who asks: the key that a request brings, and what is left of its share."""

import hmac
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import TypeAlias

from server.errors import Refused
from server.keys import KeyFile
from server.settings import Settings
from swires.events import CandidateFinished, Event, SearchFinished
from swires.types import Problem

MINUTE_S = 60

Place: TypeAlias = ExitStack
"""Of one search, to be left whatever happens, which may be more than once."""


class Share:
    """What a key uses: searches under way, and tokens of which a minute's worth drains in a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._searches = 0
        self._tokens = 0.0
        self._at = clock()

    def place(self, limits: "Limits") -> Place:
        """See `Caller.place`."""
        self._drain(limits)
        if limits.searches is not None and self._searches >= limits.searches:
            message = f"this key may have {limits.searches} searches at once"
            raise over_share(message, reason="key_searches", retry_after_s=1)
        rate = limits.tokens_per_minute
        if rate is not None and self._tokens >= rate:
            wait_s = math.ceil((self._tokens - rate) * MINUTE_S / rate)
            message = f"this key may use {rate} tokens a minute"
            raise over_share(message, reason="key_tokens", retry_after_s=max(1, wait_s))
        self._searches += 1
        place = Place()
        place.callback(self._leave)
        return place

    def spend(self, tokens: int) -> None:
        self._tokens += tokens

    def _leave(self) -> None:
        self._searches -= 1

    def _drain(self, limits: "Limits") -> None:
        now = self._clock()
        rate = limits.tokens_per_minute
        self._tokens = 0.0 if rate is None else max(0.0, self._tokens - rate * (now - self._at) / MINUTE_S)
        self._at = now


@dataclass(frozen=True, slots=True)
class Limits:
    """None for none."""

    searches: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, or all who ask a server without keys; `cache_salt` keeps apart what the engine has cached for it."""

    label: str | None = None
    cache_salt: str | None = None
    limits: Limits = Limits()
    share: Share = field(default_factory=Share)

    def place(self) -> Place:
        """Taken before anything of a request is read. Raises Refused: 429."""
        return self.share.place(self.limits)

    async def counted(
        self, events: AsyncGenerator[Event, None], problem: Problem, place: Place
    ) -> AsyncGenerator[Event, None]:
        """The `events` of a search in its `place`; prompt, candidates and scoring are taken from the share as they
        come."""
        async with aclosing(events):
            with place:
                self.share.spend(problem.num_prompt_tokens)
                told = 0
                async for event in events:
                    new = _tokens(event, told)
                    self.share.spend(new)
                    told += new
                    yield event


def _tokens(event: Event, told: int) -> int:
    """Those that nothing before it has told."""
    match event:
        case CandidateFinished(candidate):
            return len(candidate.token_ids)
        case SearchFinished(result):
            return max(0, result.tokens.generated + result.tokens.scored - told)
    return 0


class Callers:
    """Everybody, where `settings` name no file of keys. Raises KeysError."""

    def __init__(self, settings: Settings) -> None:
        self._keys = None if settings.api_keys is None else KeyFile(settings.api_keys)
        self._limits = Limits(settings.max_key_searches, settings.max_key_tokens)
        self._shares: dict[str, Share] = {}
        self._secret = secrets.token_bytes()
        self._anybody = Caller()

    def find(self, authorization: str | None) -> Caller:
        """By the header of that name. Raises Refused: 401."""
        if self._keys is None:
            return self._anybody
        scheme, _, secret = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise unknown("a key is needed: Authorization: Bearer KEY")
        key = self._keys.find(secret.strip())
        if key is None:
            raise unknown("this key is not known")
        limits = Limits(key.searches or self._limits.searches, key.tokens_per_minute or self._limits.tokens_per_minute)
        salt = hmac.digest(self._secret, key.digest, "sha256").hex()
        return Caller(key.label, salt, limits, self._shares.setdefault(key.label, Share()))


def unknown(message: str) -> Refused:
    return Refused(message, status=401, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def over_share(message: str, *, reason: str, retry_after_s: int) -> Refused:
    headers = {"Retry-After": str(retry_after_s)}
    return Refused(message, status=429, code="rate_limit_exceeded", reason=reason, headers=headers)
