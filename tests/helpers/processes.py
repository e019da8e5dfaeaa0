"""Commands as processes of their own."""

import signal


def hear_ctrl_c() -> None:
    """For `preexec_fn`: a child hears SIGINT even where the tests run in the background, where shells ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
