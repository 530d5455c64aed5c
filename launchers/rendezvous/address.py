"""Where the other nodes of a job find this one."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

SIOCGIFADDR = 0x8915
PORT = 9  # nothing is sent there: only the route is looked up


def towards(host: str) -> str:
    """This machine's own address on the way to another one, or to itself under one of its addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, PORT))
        return str(probe.getsockname()[0])


def interface(address: str) -> str | None:
    """The network interface that has an address of this machine; None if none is known to have it."""
    if ipaddress.ip_address(address).is_loopback:
        return "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None
