"""How a batch is shared: equally by the ranks, and a rank's share in the parts of `accumulate`."""

from cosmos_core.errors import RequestError
from cosmos_core.printable import plural


def share_of_rank(batch_size: int, ranks: int) -> int:
    """Samples of a batch that each rank has; RequestError where they are not equally many."""
    below = batch_size - batch_size % ranks
    if below != batch_size or not below:
        advice = " or ".join(str(size) for size in (below, below + ranks) if size)
        raise RequestError(f"batch_size={batch_size} does not divide among {ranks} ranks: set {advice}")
    return batch_size // ranks


def size_of_part(samples: int, parts: int) -> int:
    """Samples in each of the parts of a rank's share of the batch; RequestError where they are not equally many."""
    if samples % parts or not samples:
        divisors = [number for number in range(1, samples + 1) if samples % number == 0]
        nearest = sorted(sorted(divisors, key=lambda number: abs(number - parts))[:2])
        advice = f": set {' or '.join(map(str, nearest))}" if nearest else ""
        raise RequestError(
            f"accumulate={parts} does not divide the {plural(samples, 'sample')} that a rank has of a batch{advice}"
        )
    return samples // parts
