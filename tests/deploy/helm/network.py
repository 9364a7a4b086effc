"""Whom a NetworkPolicy lets through, as the API's documentation has it, for addresses and for pods of one namespace."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


def reaches_address(policies: Sequence[Policy], address: str, port: int) -> bool:
    """Whether one of them lets pods that it is for ask `address`."""
    return any(
        _has_port(rule, port) and any(_holds(peer, address) for peer in rule.get("to", ({"ipBlock": None},)))
        for policy in policies
        for rule in policy["spec"].get("egress", ())
    )


def _has_port(rule: Mapping[str, Any], port: int) -> bool:
    ports = [each["port"] for each in rule.get("ports", ())]
    return not ports or port in ports


def _holds(peer: Mapping[str, Any], address: str) -> bool:
    if "ipBlock" not in peer:
        return False
    block = peer["ipBlock"]
    if block is None:  # a rule without peers is for all
        return True
    inside = [ip_network(cidr) for cidr in (block["cidr"], *block.get("except", ()))]
    return ip_address(address) in inside[0] and not any(ip_address(address) in each for each in inside[1:])


def peers(policy: Policy, direction: str) -> Iterator[tuple[dict[str, str] | None, list[Any]]]:
    """Of each rule the labels of a peer in the same namespace, None for others, and the ports."""
    where = {"ingress": "from", "egress": "to"}[direction]
    for rule in policy["spec"].get(direction, ()):
        for peer in rule.get(where, ()):
            own = "podSelector" in peer and "namespaceSelector" not in peer
            labels = peer["podSelector"].get("matchLabels", {}) if own else None
            yield labels, [each["port"] for each in rule.get("ports", ())]
