"""A test report in JUnit's XML, which Jenkins, GitLab and the like read. Layer 4.

An exercise is a testsuite, its points are properties. Elements stand in the order that the schemas in use agree on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as xml

from grader.render.formats.remark import summary
from grader.render.text import safe
from grader.verdict import Outcome, Status, TestResult, Verdict

LOAD = "load"  # the name of the test that a file which does not load fails


def render(verdicts: Iterable[tuple[Verdict, str]]) -> str:
    """One document for all verdicts, each with how to name its file."""
    root = xml.Element("testsuites", name="grade")
    suites = [_suite(root, verdict, file) for verdict, file in verdicts]
    for count in ("tests", "failures", "errors", "skipped"):
        root.set(count, str(sum(int(suite.attrib[count]) for suite in suites)))
    root.set("time", f"{sum(float(suite.attrib['time']) for suite in suites):.4f}")
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode")


def _suite(root: xml.Element, verdict: Verdict, file: str) -> xml.Element:
    suite = xml.SubElement(root, "testsuite", name=safe(verdict.exercise))
    figures = ("status", "points", "max_points", "seed", "device", "isolation", "kit")
    digests = {f"digest.{name}": digest for name, digest in verdict.digests.items()}
    _properties(suite, {**{name: getattr(verdict, name) for name in figures}, **digests})
    for test in verdict.tests:
        _case(suite, test, file)
    if not verdict.tests and verdict.status is not Status.PASSED:
        _load(suite, verdict, file)
    for count, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(1 for _ in suite.iter(tag))))
    suite.set("time", f"{verdict.seconds:.4f}")
    if verdict.output:
        xml.SubElement(suite, "system-out").text = safe(verdict.output)
    return suite


def _case(suite: xml.Element, test: TestResult, file: str) -> None:
    group, _, name = test.name.partition("::")
    case = _testcase(suite, f".{group}", name or group, test.seconds, file, test.line)
    figures = ("title", "part", "category", "points", "max_points")
    _properties(case, {name: getattr(test, name) for name in figures})
    if test.outcome is Outcome.SKIPPED:
        xml.SubElement(case, "skipped", message=summary(test))
    elif test.outcome is Outcome.FAILED:
        failure = xml.SubElement(case, "failure", message=summary(test), type=str(test.cause or Outcome.FAILED))
        failure.text = safe(test.message)


def _testcase(suite: xml.Element, group: str, name: str, seconds: float, file: str, line: int | None) -> xml.Element:
    attributes = {"classname": suite.attrib["name"].replace("/", ".") + group, "name": name, "time": f"{seconds:.4f}"}
    if line:
        attributes |= {"file": file, "line": str(line)}
    return xml.SubElement(suite, "testcase", {key: safe(value) for key, value in attributes.items()})


def _load(suite: xml.Element, verdict: Verdict, file: str) -> None:
    """A file of which no test was run: skipped where there was nothing to run, else an error."""
    case = _testcase(suite, "", LOAD, 0.0, file, verdict.line)
    rules = "\n".join(f"line {rule.line}: the rules exclude {rule.rule}: {rule.source}" for rule in verdict.rules)
    said = safe("\n".join(filter(None, [verdict.message, rules])))
    tag = "skipped" if verdict.status is Status.NOT_STARTED else "error"
    found = xml.SubElement(case, tag, message=said.split("\n", 1)[0])
    if tag == "error":
        found.set("type", str(verdict.status))
        found.text = said


def _properties(of: xml.Element, values: Mapping[str, object]) -> None:
    properties = xml.SubElement(of, "properties")
    for name, value in values.items():
        xml.SubElement(properties, "property", name=safe(name), value=safe(str(value)))
