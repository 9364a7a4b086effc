"""The page's files as the server sends them."""

import re
from pathlib import Path

import httpx
import pytest

WEB = Path(__file__).parents[3] / "server" / "web"
FILES = {path.relative_to(WEB).as_posix(): path.read_bytes() for path in sorted(WEB.rglob("*")) if path.is_file()}
SOURCES = [name for name in FILES if not name.endswith(".png")]
TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
}


async def test_the_page_lets_nothing_else_in(client: httpx.AsyncClient) -> None:
    reply = await client.get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    policy = dict(each.strip().split(" ", 1) for each in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", FILES)
async def test_every_file_is_sent_with_its_type(client: httpx.AsyncClient, name: str) -> None:
    reply = await client.get(f"/web/{name}")
    assert reply.content == FILES[name]
    assert reply.headers["content-type"].startswith(TYPES[name.rpartition(".")[2]])
    assert "content-security-policy" in reply.headers


@pytest.mark.parametrize("path", ["/", "/web/main.js"])
async def test_what_the_browser_has_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    first = await client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/web/none.js", "/web/../app.py", "/web/%2e%2e/app.py", "/web/", "/web/views"])
async def test_nothing_else_is_sent(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert (reply.status_code, set(reply.json())) == (404, {"error", "request_id"})


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_asks_for_anything_elsewhere(name: str) -> None:
    addresses = re.findall(r"https?://[^\s\"'`)>]+|(?<=[\"'(])//[a-z][^\s\"']*", FILES[name].decode())
    assert [address for address in addresses if address != "http://www.w3.org/2000/svg"] == []


@pytest.mark.parametrize("name", SOURCES)
def test_lines_are_as_long_as_elsewhere(name: str) -> None:
    assert max(map(len, FILES[name].decode().splitlines())) <= 120


@pytest.mark.parametrize("name", SOURCES)
def test_text_never_becomes_html(name: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", FILES[name].decode())
