"""Downloads from the Hugging Face hub without its retries and warnings; without a network they fail at once."""

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

NOT_FETCHED = "would be fetched (not checked)"
"""The note of a check on a model that is not in a cache, where nothing may be downloaded."""


@contextmanager
def quiet_hub() -> Iterator[bool]:
    """Silence huggingface_hub's messages about retries, and use its cache only if the hub's name does not resolve.

    Without the latter, a machine without a network spends half a minute on retries for each file. Yields whether
    downloads are possible.
    """
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = offline or not is_reachable(constants.ENDPOINT)
    try:
        yield not constants.HF_HUB_OFFLINE
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)


@contextmanager
def offline_hub() -> Iterator[None]:
    """Make libraries that download from the hub use their cache only."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_reachable(address: str) -> bool:
    """Whether the host name of an address resolves; true behind a proxy, which resolves names itself."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(address).hostname, 443)
    except OSError:
        return False
    return True
