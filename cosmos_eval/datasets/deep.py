"""Decoding every image, and every mask, once, to find the broken ones before an evaluation does."""

from concurrent.futures import ThreadPoolExecutor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import ImageSource, Mask
from cosmos_eval.datasets.data.base import Data
from cosmos_eval.progress import Reporter, Silent


def undecodable(name: str, data: Data, workers: int = 8, reporter: Reporter | None = None) -> tuple[str, ...]:
    """One problem for every image that cannot be decoded in full, and for every mask that cannot or has labels that
    are no class. Decoders release the lock: threads are enough."""
    files = data.decodable()

    def problem(file: ImageSource | Mask) -> str | None:
        try:
            file.load()
        except RequestError as error:
            return f"{name}: {error}"
        return None

    problems = []
    with (reporter or Silent()).task("decoding images", len(files), "images") as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for found in pool.map(problem, files):
                advance(1)
                if found:
                    problems.append(found)
        finally:
            pool.shutdown(cancel_futures=True)
    return tuple(problems)
