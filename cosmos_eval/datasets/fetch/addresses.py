"""Which addresses a download may follow: an allowed first address does not vouch for where its server redirects to.

A dataset host that was taken over, or whose domain has expired, may answer with a redirect. Three kinds are refused:
to another scheme than http or https (`file:`), from https to http (the content could then be changed on the way), and
from a public host to a private address, which would make this machine ask services of its own network that the outside
cannot reach.
"""

import ipaddress
import re
import socket
import urllib.request
from urllib.parse import urljoin, urlsplit

from cosmos_eval.datasets.fetch.errors import FetchError

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def next_address(current: str, location: str) -> str:
    """The absolute address that a redirect from `current` to `location` leads to.

    Raises:
        FetchError: a redirect that is refused; see above.
    """
    try:
        target = urljoin(current, location)
        scheme, host = urlsplit(target).scheme, urlsplit(target).hostname
    except ValueError as error:  # such as an IPv6 address without its closing bracket
        raise FetchError(
            "redirect", f"{shown(current)} redirects to an address that cannot be read: {error}"
        ) from error
    refused = f"{shown(current)} redirects to {shown(target)}, which is refused: "
    if scheme not in ("http", "https") or not host:
        raise FetchError("redirect", f"{refused}only http and https are followed; take another source")
    if urlsplit(current).scheme == "https" and scheme == "http":
        raise FetchError("redirect", f"{refused}it leaves https for http; take another source")
    if is_private(target) and not is_private(current):
        raise FetchError("redirect", f"{refused}it is an address of a private network; take another source")
    return target


def is_private(address: str) -> bool:
    """Whether the host of an address is, or resolves to, an address that is not of the public internet.

    Behind a proxy names are resolved by the proxy, which has rules of its own: only addresses that are written as
    numbers are looked at then. A name that does not resolve is not private: connecting fails with a better message.
    """
    host = urlsplit(address).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    if uses_proxy(address):
        return host == "localhost"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(not ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found)


def uses_proxy(address: str) -> bool:
    """Whether the environment's proxy settings (`https_proxy`, `no_proxy`, ...) apply to an address."""
    parts = urlsplit(address)
    has_proxy = parts.scheme in (proxies := urllib.request.getproxies()) or "all" in proxies
    return has_proxy and not urllib.request.proxy_bypass(parts.hostname or "")


def is_same_host(first: str, second: str) -> bool:
    """Whether two addresses have the same scheme, host and port: credentials for one may be sent to the other."""
    one, other = urlsplit(first), urlsplit(second)
    default = {"http": 80, "https": 443}
    ports = [parts.port or default.get(parts.scheme) for parts in (one, other)]
    return (one.scheme, one.hostname, ports[0]) == (other.scheme, other.hostname, ports[1])


def shown(address: str) -> str:
    """An address for people: without user, password and query, which may hold a signature or a token."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return repr(address[:100])
    return f"{parts.scheme}://{host}{port}{parts.path}"[:200] if parts.scheme else address[:200]


def is_repository(name: str) -> bool:
    """Whether a text can be the id of a dataset on the hub, such as `owner/name`."""
    return bool(_REPOSITORY.fullmatch(name)) and ".." not in name and "--" not in name and len(name) <= 200
