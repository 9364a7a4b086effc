"""Images at addresses, where the operator allows their hosts: nothing else is asked, and nothing inside a network."""

import asyncio
import base64
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType
from typing import TypeAlias

import httpx

from server.errors import Refused
from server.images import FORMATS, ImageSource, too_many_bytes

TIMEOUT_S = 10
MAX_AT_ONCE = 16
PORTS = MappingProxyType({"http": 80, "https": 443})
PLAIN = re.compile(r"[!-\[\]-~]+")
"""An address in ASCII, without what is read as a separator by some and not by others."""

NAT64 = IPv6Network("64:ff9b::/96")
KIND = next(iter(FORMATS))
"""What a fetched image is called; what it is, its bytes tell."""

Address: TypeAlias = IPv4Address | IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in infos]


def is_public(address: Address) -> bool:
    """Also of what is inside an address that stands for another."""
    inner = _inner(address) if isinstance(address, IPv6Address) else address
    return inner.is_global and not inner.is_multicast


def _inner(address: IPv6Address) -> Address:
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address


class Fetcher:
    """Fetches from `hosts` alone. A name is resolved once, all of its addresses must be public, and one of those is
    connected to. No redirect is followed, no proxy asked, nothing unpacked."""

    def __init__(
        self,
        hosts: Iterable[str],
        *,
        max_bytes: int,
        resolve: Resolve = resolved,
        admits: Callable[[Address], bool] = is_public,
        ports: Mapping[str, int] = PORTS,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._admits = admits
        self._ports = ports
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._certificates = httpx.create_ssl_context(trust_env=False) if self._hosts else False

    async def inlined(self, sources: Sequence[ImageSource]) -> Mapping[str, str]:
        """A data URL for each address of `sources`, of which the rest is left alone. Raises Refused: 400, 413, 422."""
        found: dict[str, str] = {}
        for source in sources:
            if self._hosts and source.url not in found and source.url.partition(":")[0].lower() in self._ports:
                data = await self._fetched(self._checked(source), source)
                found[source.url] = f"data:{KIND};base64,{base64.b64encode(data).decode()}"
        return found

    def _checked(self, source: ImageSource) -> httpx.URL:
        try:
            url = httpx.URL(source.url) if PLAIN.fullmatch(source.url) else None
        except httpx.InvalidURL:
            url = None
        if url is None or url.userinfo or (url.port or self._ports[url.scheme]) != self._ports[url.scheme]:
            raise Refused("this is no address of an image", param=source.param, code="invalid_image_url")
        if _name(url) not in self._hosts:
            message = "images are not fetched from this host"
            raise Refused(message, param=source.param, code="image_host_not_allowed")
        return url

    async def _fetched(self, url: httpx.URL, source: ImageSource) -> bytes:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._slots:
                pinned = url.copy_with(host=await self._pinned(url), port=self._ports[url.scheme])
                return await self._read(pinned, _name(url), source)
        except (OSError, UnicodeError, ValueError, httpx.HTTPError) as error:  # TimeoutError is an OSError
            message = "the image cannot be fetched"
            raise Refused(message, status=422, param=source.param, code="image_not_fetched") from error

    async def _pinned(self, url: httpx.URL) -> str:
        """Raises OSError, ValueError."""
        found = await self._resolve(_name(url), self._ports[url.scheme])
        if not found or not all(self._admits(ip_address(each)) for each in found):
            raise ValueError("an address inside a network")
        return found[0]

    async def _read(self, url: httpx.URL, name: str, source: ImageSource) -> bytes:
        headers = {"Host": name, "Accept-Encoding": "identity", "User-Agent": "swires"}
        async with (
            httpx.AsyncClient(verify=self._certificates, trust_env=False, timeout=TIMEOUT_S) as client,
            client.stream("GET", url, headers=headers, extensions={"sni_hostname": name}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ValueError("no image there")
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > self._max_bytes:
                    raise too_many_bytes(self._max_bytes, source.param)
            return bytes(data)


def _name(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower()
