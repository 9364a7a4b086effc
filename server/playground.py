"""The page at `/`: the files of `web/` as they are, under a policy that lets nothing else into it."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data: blob:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",  # the browser itself refuses to read text as HTML
    "trusted-types": "'none'",
}
HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for again each time, so that a new version is whole
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in POLICY.items()),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Files(StaticFiles):
    """The page's links are relative to `/`, so that it also works behind a prefix."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


FILES = Files(directory=Path(__file__).parent / "web")


async def page(request: Request) -> Response:
    return await FILES.get_response("index.html", request.scope)
