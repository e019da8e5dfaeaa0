"""Fetching from the Hugging Face hub without noise: a machine without network is refused at once and in one line."""

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

NOT_FETCHED = "would be fetched (not checked)"
"""What is said of a model that is not in a cache, where nothing is to be downloaded."""


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Within it, libraries that fetch from the hub do not print their retries; where its name cannot be resolved, they
    look into their cache only, instead of trying for half a minute a file.
    """
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = offline or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)


@contextmanager
def offline_hub() -> Iterator[None]:
    """Within it, libraries that fetch from the hub look into their cache only."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(address: str) -> bool:
    """Whether the host of an address has a name that resolves; true behind a proxy, which resolves names itself."""
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(address).hostname, 443)
    except OSError:
        return False
    return True
