"""Which texts a model truncates, slowly: by the tokens of each text, counted one by one."""

from collections.abc import Callable, Iterable, Sequence


def truncated_token_by_token(
    texts: Sequence[str], tokens_of: Callable[[str], Iterable[int]], context: int, special: int
) -> list[bool]:
    """Whether the context is full before the last token of each text.

    Args:
        tokens_of: the tokens of a text, without those that a tokenizer adds.
        context: tokens that the model reads.
        special: how many of these the tokenizer adds.
    """
    truncated = []
    for text in texts:
        room = context - special
        is_cut = False
        for _ in tokens_of(text):
            if room == 0:
                is_cut = True
                break
            room -= 1
        truncated.append(is_cut)
    return truncated
