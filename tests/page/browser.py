"""How tests use the HTML report in a browser."""

from tests.helpers.chromium import Tab

PHONE = {"width": 360, "height": 740}
BOARD = "#leaderboard tbody tr:not(.apart)"


def column(tab: Tab, title: str) -> int:
    """The place of a leaderboard's column, as nth-child counts."""
    heads = tab.texts("#leaderboard .heads th")
    (index,) = [i for i, head in enumerate(heads) if head.startswith(title)]
    return index + 1


def choose(tab: Tab, selector: str, text: str) -> None:
    """Take an option of a list by its text."""
    tab.run(
        f"one = document.querySelector('{selector}'); one.value = [...one.options].find(o => o.text == '{text}').value"
    )
    tab.run("one.dispatchEvent(new Event('change'))")


def open_details(tab: Tab) -> None:
    """Open everything that opens, and wait until the numbers of curves are there."""
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.wait_for("document.querySelector('#curves table')")


def models(tab: Tab) -> list[str]:
    return tab.texts(f"{BOARD} th")
