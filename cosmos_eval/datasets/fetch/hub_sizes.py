"""Sizes of datasets of the hub that no definition gives: the hub is asked for them before the user is asked.

A plan is made without network. Of a user's own definition it then has no size, and nobody can decide on "size not
known". Only the list of files is asked for, and nothing is fetched.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cosmos_eval.datasets.fetch.errors import FetchError
from cosmos_eval.datasets.fetch.locating import locate
from cosmos_eval.datasets.fetch.plan import FetchPlan, Planned

THREADS = 4


def ask_for_sizes(plan: FetchPlan) -> FetchPlan:
    """The plan with the sizes that the hub gives, as far as it answers; other errors are reported when fetching."""
    unknown = [planned for planned in plan.fetched if planned.first.kind == "hub" and planned.first.known_size is None]
    if not unknown:
        return plan
    with ThreadPoolExecutor(THREADS, "ask-size") as pool:
        sizes = dict(
            zip(
                (planned.artifact.name for planned in unknown),
                pool.map(lambda planned: _size(planned, plan), unknown),
                strict=True,
            )
        )

    def with_size(planned: Planned) -> Planned:
        size = sizes.get(planned.artifact.name)
        if not size:
            return planned
        return replace(planned, sources=(replace(planned.first, about_size=size), *planned.sources[1:]))

    return replace(plan, fetched=tuple(with_size(planned) for planned in plan.fetched))


def _size(planned: Planned, plan: FetchPlan) -> int | None:
    try:
        return locate(planned.artifact, planned.first, plan.data_root).size
    except FetchError:
        return None
