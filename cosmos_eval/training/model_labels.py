"""Which label of a command line belongs to which model (`run --model A --label a --model 'cosmos:x/*.pt' --label ...`).

A pattern over checkpoints stands for several models, so its label is a pattern, too: `{step}`, `{file}`, `{network}`
and `{run}` stand for what differs between them.
"""

import re
from collections.abc import Mapping, Sequence

from cosmos_core.errors import RequestError
from cosmos_core.suggestions import near
from cosmos_eval.run.labels import check_label
from cosmos_eval.training.sweep import Swept

PLACEHOLDER = re.compile(r"\{(\w*)\}")


def label_models(
    given: Sequence[str], labels: Sequence[str], specs: Sequence[str], swept: Mapping[str, Swept]
) -> dict[str, str]:
    """Give each model its label.

    Args:
        given: the specs of the command line, patterns among them.
        labels: one for each of `given`, in their order; none at all labels nothing.
        specs: the specs of the models, where patterns are replaced by theirs.
        swept: the models that came from patterns.

    Returns:
        Spec -> label.

    Raises:
        RequestError: another number of labels, a label that tables cannot show, a label of a pattern without a
            placeholder, or two models with one label.
    """
    if not labels:
        return {}
    if len(labels) != len(given):
        raise RequestError(
            f"--model is given {_times(len(given))} and --label {_times(len(labels))}; give one --label for each "
            "--model, in their order"
        )
    label_of_given: dict[str, str] = {}
    for spec, label in zip(given, labels, strict=True):
        check_label(label)
        if label_of_given.setdefault(spec, label) != label:
            raise RequestError(f"{spec} has two labels, {label_of_given[spec]} and {label}; give the model once")
    labels_by_spec = {}
    for spec in specs:
        if spec in label_of_given:
            labels_by_spec[spec] = label_of_given[spec]
        else:
            labels_by_spec[spec] = fill_placeholders(label_of_given[swept[spec].pattern], swept[spec])
    _refuse_equal_labels(labels_by_spec, swept)
    return labels_by_spec


def fill_placeholders(label: str, model: Swept) -> str:
    """The label of one model of a pattern.

    Raises:
        RequestError: no placeholder, or an unknown one.
    """
    values = {
        "step": str(model.checkpoint.step),
        "file": model.checkpoint.path.stem,
        "network": model.network,
        "run": model.run,
    }
    names = PLACEHOLDER.findall(label)
    if not names:
        raise RequestError(
            f"{model.pattern} is every checkpoint that matches, and {label} would be the label of all; write {{step}} "
            f"in it, as in --label '{label} {{step}}' (or {{file}}, {{run}}, {{network}})"
        )
    for name in names:
        if name not in values:
            raise RequestError(f"--label {label}: nothing is called {{{name}}}{near(name, values)}")
    filled = " ".join(PLACEHOLDER.sub(lambda match: values[match[1]], label).split())
    check_label(filled)  # the name of a file may have any character
    return filled


def _refuse_equal_labels(labels_by_spec: Mapping[str, str], swept: Mapping[str, Swept]) -> None:
    spec_of_label: dict[str, str] = {}
    for spec, label in labels_by_spec.items():
        first = spec_of_label.setdefault(label, spec)
        if first != spec:
            advice = "; add {run} or {file} to the label of a pattern" if {first, spec} & swept.keys() else ""
            raise RequestError(f"{first} and {spec} would both be called {label}; give each its own --label{advice}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
