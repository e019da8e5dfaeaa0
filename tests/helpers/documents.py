"""Fenced blocks of documents, and checks of the commands in them."""

import re
import shlex

import typer

from cosmos_eval.cli import main as cli


def block(document: str, language: str, containing: str) -> str:
    """Return the only fenced block of a language that contains a text."""
    (content,) = [text for text in re.findall(rf"```{language}\n(.*?)```", document, re.S) if containing in text]
    return content


def commands(document: str) -> list[str]:
    """Return the lines of `bash` blocks that call cosmos-eval, directly or with torchrun."""
    return [
        line.split("#")[0] if " #" in line else line
        for text in re.findall(r"```bash\n(.*?)```", document, re.S)
        for line in text.replace("\\\n", " ").splitlines()
        if line.startswith(("cosmos-eval ", "torchrun "))
    ]


def check_command(command: str) -> None:
    """Parse a command as the command line does, without running it; raises if it is not valid."""
    group = typer.main.get_command(cli.app)
    words = shlex.split(command)
    words = words[words.index("cosmos_eval") + 1 :] if "cosmos_eval" in words else words[1:]
    if words in (["--install-completion"], ["--show-completion"]):
        return  # of every Typer program; parsing it would already do it
    context = group.make_context("cosmos-eval", words, resilient_parsing=False)
    name, found, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    while hasattr(found, "resolve_command"):  # a group, as `data check`
        context = found.make_context(name, rest, parent=context)
        name, found, rest = found.resolve_command(context, [*context._protected_args, *context.args])
    found.make_context(name, rest, parent=context)
