"""Decoding every picture once, to find the broken ones before an evaluation does."""

from concurrent.futures import ThreadPoolExecutor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.base import Data, Picture
from cosmos_eval.progress import Reporter, Silent


def undecodable(name: str, data: Data, workers: int = 8, reporter: Reporter | None = None) -> tuple[str, ...]:
    """One problem for every picture that cannot be decoded in full. Decoders release the lock: threads are enough."""

    def problem(picture: Picture) -> str | None:
        try:
            picture.load()
        except RequestError as error:
            return f"{name}: {error}"
        return None

    problems = []
    with (reporter or Silent()).task("decoding pictures", len(data.pictures), "pictures") as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for found in pool.map(problem, data.pictures):
                advance(1)
                if found:
                    problems.append(found)
        finally:
            pool.shutdown(cancel_futures=True)
    return tuple(problems)
