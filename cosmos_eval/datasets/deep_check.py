"""`data check --deep`: decode every image and mask once, so that broken files are found before an evaluation."""

from concurrent.futures import ThreadPoolExecutor

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.data.base import Data
from cosmos_eval.datasets.image_sources import ImageSource
from cosmos_eval.datasets.masks import Mask
from cosmos_eval.progress import Reporter, Silent


def find_undecodable(name: str, data: Data, workers: int = 8, reporter: Reporter | None = None) -> list[str]:
    """Return one problem for each image or mask that cannot be decoded, and each mask with labels that are not a class.

    Args:
        name: the benchmark's name, which begins each problem.
        workers: threads; decoders release Python's lock, so that processes are not needed.
    """
    files = data.decodable()

    def find_problem(file: ImageSource | Mask) -> str | None:
        try:
            file.load()
        except RequestError as error:
            return f"{name}: {error}"
        return None

    problems = []
    with (reporter or Silent()).task("decoding images", len(files), "images") as advance:
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for problem in pool.map(find_problem, files):
                advance(1)
                if problem:
                    problems.append(problem)
        finally:
            pool.shutdown(cancel_futures=True)
    return problems
