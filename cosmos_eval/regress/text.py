"""The answer of `regress` as Markdown (also for the terminal and a pull request's summary), JSON and JUnit XML."""

import json
import math
import re
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from cosmos_core.printable import plural
from cosmos_eval.regress.answer import IMPROVED, NO_TEST, NOT_COMPARABLE, REGRESSION, Regression, Tested
from cosmos_eval.report.markdown import escape
from cosmos_eval.report.names import short

SIGNS = {REGRESSION: "**regression**", NO_TEST: "**no test possible**", IMPROVED: "**improved**"}
SCHEMA = 1
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def markdown(answer: Regression) -> str:
    """Title, settings, table, and the reasons why benchmarks or tests are not in it."""
    settings = answer.settings
    lines = [
        f"# {escape(headline(answer))}",
        "",
        f"Baseline {escape(answer.baseline)}, candidate {escape(answer.candidate)}. A regression: a drop of more than "
        f"{100 * settings.max_drop:g} points, at a false alarm rate of {100 * settings.alpha:g} %{_together(answer)}. "
        "Percent; differences with 95 % intervals. Improved: a gain of more than that, by the same test with the two "
        "exchanged. Detectable drop: the smallest that the test finds with 80 % power; smaller ones may be missed.",
        "",
        table(answer),
    ]
    lines += _listed("Not comparable", [f"{name}: {reason}" for name, reason in answer.problems])
    lines += _listed("No test possible", [_explain_untestable(test, answer) for test in answer.untestable])
    lines += _listed("Remarks", list(answer.remarks))
    return "\n".join(lines).rstrip() + "\n"


def headline(answer: Regression) -> str:
    """The answer in one line."""
    drops = [f"{test.benchmark} {short(test.metric)} {signed(test.difference)}" for test in answer.regressions]
    parts = [f"Regression: {', '.join(drops)}"] if drops else []
    if answer.problems:
        parts.append(f"Not comparable: {', '.join(name for name, _ in answer.problems)}")
    if answer.untestable:
        parts.append(
            f"No test possible: {', '.join(f'{test.benchmark} {short(test.metric)}' for test in answer.untestable)}"
        )
    parts = parts or ["No regression found"]
    gains = [f"{test.benchmark} {short(test.metric)} {signed(test.difference)}" for test in answer.improvements]
    return "; ".join([*parts, *([f"Improved: {', '.join(gains)}"] if gains else [])])


def table(answer: Regression) -> str:
    """One row for each test, in aligned columns."""
    rows: list[tuple[str, ...]] = [
        (
            escape(test.benchmark),
            escape(short(test.metric)),
            percent(test.baseline),
            percent(test.candidate),
            f"{signed(test.difference)} [{signed(test.low)}, {signed(test.high)}]",
            p_value(_p_of_verdict(test)),
            points(test.detectable) if math.isfinite(test.detectable) else "none",
            f"{test.method}, {test.units:,}" + (f" of {test.n:,}" if test.n != test.units else ""),
            SIGNS.get(test.verdict, test.verdict),
        )
        for test in answer.tests
    ]
    rows += [(escape(name), *["–"] * 7, "**not comparable**") for name, _ in answer.problems]
    columns = ["benchmark", "metric", "baseline", "candidate", "difference", "p (Holm)", "detectable drop", "test",
               "verdict"]  # fmt: skip
    aligned = ("left", "left", "right", "right", "right", "right", "right", "left", "left")
    frame = pd.DataFrame(rows, columns=columns)
    return frame.to_markdown(index=False, tablefmt="github", disable_numparse=True, colalign=aligned if rows else None)


def to_json(answer: Regression) -> str:
    """Everything, in fractions; an infinite detectable drop is null."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "answer": headline(answer),
        "exit_code": answer.exit_code,
        "baseline": answer.baseline,
        "candidate": answer.candidate,
        "settings": asdict(answer.settings),
        "tests": [
            {
                **asdict(test),
                "difference": test.difference,
                "detectable": test.detectable if math.isfinite(test.detectable) else None,
            }
            for test in answer.tests
        ],
        "not_comparable": [{"benchmark": name, "reason": reason} for name, reason in answer.problems],
        "remarks": list(answer.remarks),
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_junit(answer: Regression) -> str:
    """A test case for each metric: a regression is a failure; what cannot be compared or tested is an error."""
    suite = ElementTree.Element(
        "testsuite",
        name="cosmos-eval regress",
        tests=str(len(answer.tests) + len(answer.problems)),
        failures=str(len(answer.regressions)),
        errors=str(len(answer.problems) + len(answer.untestable)),
        skipped="0",
    )
    for test in answer.tests:
        case = ElementTree.SubElement(suite, "testcase", classname=plain(test.benchmark), name=plain(test.metric))
        line = plain(describe_test(test))
        if test.verdict == REGRESSION:
            ElementTree.SubElement(case, "failure", type=REGRESSION, message=line).text = line
        elif test.verdict == NO_TEST:
            ElementTree.SubElement(
                case, "error", type=NO_TEST, message=plain(_explain_untestable(test, answer))
            ).text = line
        ElementTree.SubElement(case, "system-out").text = line
    for name, reason in answer.problems:
        case = ElementTree.SubElement(suite, "testcase", classname=plain(name), name="comparable")
        ElementTree.SubElement(case, "error", type=NOT_COMPARABLE, message=plain(reason)).text = plain(reason)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def describe_test(test: Tested) -> str:
    """A test in one line."""
    detectable = points(test.detectable) if math.isfinite(test.detectable) else "no"
    return (
        f"{test.benchmark} {test.metric}: {percent(test.baseline)} -> {percent(test.candidate)}, difference "
        f"{signed(test.difference)} [{signed(test.low)}, {signed(test.high)}] points, p {p_value(_p_of_verdict(test))} "
        f"(Holm), smallest detectable drop {detectable}: {test.verdict}"
    )


def _p_of_verdict(test: Tested) -> float:
    """The corrected p behind the verdict: of the gain where the verdict is IMPROVED, else of the drop."""
    return test.adjusted_gain if test.verdict == IMPROVED else test.adjusted


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def points(value: float) -> str:
    """A detectable drop in points, rounded up: it is a guarantee."""
    return f"{math.ceil(10000 * value - 1e-6) / 100:.2f}".rstrip("0").rstrip(".")


def signed(value: float) -> str:
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001" if p >= 1e-4 else f"{p:.0e}"


def plain(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return ILLEGAL.sub("\ufffd", text)


def _together(answer: Regression) -> str:
    return f" over all {len(answer.tests)} tests together (Holm)" if len(answer.tests) > 1 else ""


def _explain_untestable(test: Tested, answer: Regression) -> str:
    in_one_of_several = f" in one of {len(answer.tests)} tests" if len(answer.tests) > 1 else ""
    return (
        f"{test.benchmark} {test.metric}: with {plural(test.units, 'independent unit')} and a baseline of "
        f"{percent(test.baseline)} % even a candidate with nothing right would pass (p {test.least_p:.2g}"
        f"{in_one_of_several}); test more samples, or other benchmarks (--benchmark)"
    )


def _listed(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {escape(line)}" for line in lines)] if lines else []
