"""A small runner of composite actions and of the steps of a workflow, as GitHub Actions runs them.

`run:` steps run for real, with the command line, the environment files and the variables that GitHub documents for
`shell: bash`. Steps with `uses:` (checkout, caches, uploads) are recorded, and a test may give their outputs.
Expressions have the part of GitHub's language that is used here: contexts, strings, ==, !=, &&, ||, format, always.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|==|!=|&&|\|\||[(),]|[A-Za-z_][\w.-]*)")
_OPERATORS = {"&&": "and", "||": "or"}


@dataclass
class Job:
    """What ran, in order, and what it left."""

    workspace: Path
    temporary: Path
    outputs_of_uses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Outputs that steps with `uses:` give, by their id."""
    environment: Mapping[str, str] = field(default_factory=dict)
    used: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Steps with `uses:` that ran: the action, and its inputs with expressions resolved."""
    log: str = ""
    failed: bool = False

    @property
    def summary(self) -> str:
        path = self.temporary / "summary.md"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def evaluate_expression(text: str, contexts: Mapping[str, Any]) -> Any:
    """The value of an expression of GitHub Actions, without its braces.

    Raises:
        ValueError: a construct or a context that GitHub would refuse, or that this runner does not have.
    """
    python, position, text = [], 0, text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read {text[position:]!r} of the expression {text!r}")
        token, position = match[1], match.end()
        if token.startswith("'"):
            python.append(repr(token[1:-1].replace("''", "'")))
        elif token in ("format", "always"):
            python.append(token)
        elif token[0].isalpha() or token[0] == "_":
            python.append(repr(look_up(token, contexts)))
        else:
            python.append(_OPERATORS.get(token, token))
    functions = {"format": lambda pattern, *values: pattern.format(*values), "always": lambda: True}
    return eval(" ".join(python), {"__builtins__": {}}, functions)  # only the tokens above


def look_up(name: str, contexts: Mapping[str, Any]) -> str:
    """`inputs.x`, `github.x`, `steps.ID.outputs.x`: a step that did not run has no outputs; others must be known."""
    context, *path = name.split(".")
    if context == "steps":
        identifier, _, output = path
        if identifier not in contexts["known steps"]:
            raise ValueError(f"{name}: no step before it has this id")
        return contexts["steps"].get(identifier, {}).get(output, "")
    (key,) = path
    if key not in contexts[context]:
        raise ValueError(f"there is no {name}")
    return contexts[context][key]


def fill(value: Any, contexts: Mapping[str, Any]) -> str:
    """A value of the YAML as text, with its `${{ }}` expressions replaced."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda match: str(evaluate_expression(match[1], contexts)), text)


def run_action(folder: Path, inputs: Mapping[str, str], job: Job) -> dict[str, str]:
    """Run a composite action in the job's workspace and return its outputs; a failed step sets `job.failed`.

    Raises:
        ValueError: an input that the action does not have, or a bad expression.
    """
    action = yaml.safe_load((folder / "action.yml").read_text(encoding="utf-8"))
    unknown = inputs.keys() - action["inputs"].keys()
    if unknown:
        raise ValueError(f"the action has no inputs {sorted(unknown)}")
    defaults = {name: about.get("default", "") for name, about in action["inputs"].items()}
    contexts = run_steps(action["runs"]["steps"], {"inputs": {**defaults, **inputs}}, job, action_path=folder)
    return {name: fill(output["value"], contexts) for name, output in action.get("outputs", {}).items()}


def run_steps(steps: Sequence[Mapping[str, Any]], contexts: Mapping[str, Any], job: Job, action_path: Path) -> Any:
    """Run steps in order; after a failure only those with `if: always()`. Returns the contexts with their outputs."""
    contexts = {"steps": {}, "known steps": set(), "github": {"run_id": "7", "run_attempt": "1"}, **contexts}
    job.temporary.mkdir(parents=True, exist_ok=True)
    for step in steps:
        condition = str(step.get("if", "true"))
        if "id" in step:
            contexts["known steps"].add(step["id"])
        if job.failed and "always()" not in condition:
            continue
        if condition != "true" and not evaluate_expression(condition, contexts):
            continue
        if "uses" in step:
            values = {name: fill(value, contexts) for name, value in step.get("with", {}).items()}
            job.used.append((step["uses"], values))
            outputs = dict(job.outputs_of_uses.get(step.get("id", ""), {}))
        else:
            outputs = _run_shell(step, contexts, job, action_path)
        if "id" in step:
            contexts["steps"][step["id"]] = outputs
    return contexts


def _run_shell(step: Mapping[str, Any], contexts: Mapping[str, Any], job: Job, action_path: Path) -> dict[str, str]:
    script, output = job.temporary / "step.sh", job.temporary / "output.txt"
    script.write_text(fill(step["run"], contexts), encoding="utf-8")
    output.write_text("", encoding="utf-8")
    environment = {
        **os.environ,
        "GITHUB_ACTION_PATH": str(action_path),
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(job.temporary / "summary.md"),
        "RUNNER_TEMP": str(job.temporary),
        "RUNNER_OS": "Linux",
        "RUNNER_ARCH": "X64",
        **job.environment,
        **{name: fill(value, contexts) for name, value in step.get("env", {}).items()},
    }
    finished = subprocess.run(
        [*BASH, str(script)], cwd=job.workspace, env=environment, capture_output=True, text=True, check=False
    )
    job.log += finished.stdout + finished.stderr
    job.failed |= finished.returncode != 0
    return dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
