"""What the security hook takes for something it is not: ``python -m tests.benchmarks.detection``.

Ordinary public texts that every development environment has: the licences and READMEs of the
installed packages, and the topics of Python's own manual. Counted are lines in which a rule
fits, by family, and for the READMEs what fits most; some of those lines are what they seem to be.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

from llmspell_otel.builtin.detection import RULES, Detector

FAMILIES = tuple(dict.fromkeys(rule.family for rule in RULES))
_LICENCE = re.compile(r"LICEN[CS]E|NOTICE|COPYING", re.IGNORECASE)
_SHORTEST = 20  # characters of a line that is looked at


def licences(packages: Iterable[Distribution]) -> list[str]:
    """The texts of their licences."""
    files = [file for each in packages for file in each.files or () if _LICENCE.search(file.name)]
    return [
        path.read_text("utf-8", "ignore")
        for file in files
        if (path := file.locate()).is_file()  # type: ignore[attr-defined] # a real path
    ]


def readmes(packages: Iterable[Distribution]) -> list[str]:
    """Their long descriptions."""
    return [str(each.metadata.get_payload()) for each in packages]  # type: ignore[attr-defined]


def manual() -> list[str]:
    """The topics of Python's manual."""
    from pydoc_data.topics import topics

    return list(topics.values())


def lines_of(texts: Iterable[str]) -> list[str]:
    """Different lines, none too short."""
    every = {line.strip() for text in texts for line in text.splitlines()}
    return sorted(line for line in every if len(line) > _SHORTEST)


def found(lines: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """How many lines each family, and each rule, fits."""
    detector = Detector()
    families: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    for line in lines:
        fit = {match.rule for match in detector.find(line, frozenset(FAMILIES))}
        families.update({rule.family for rule in fit})
        rules.update({f"{rule.family}.{rule.name}" for rule in fit})
    return families, rules


def main() -> None:
    """Print the table."""
    packages = list(distributions())
    print("| texts | lines | " + " | ".join(FAMILIES) + " |")
    for name, texts in (
        ("licences", licences(packages)),
        ("Python's manual", manual()),
        ("READMEs", readmes(packages)),
    ):
        lines = lines_of(texts)
        families, rules = found(lines)
        counts = " | ".join(str(families[each]) for each in FAMILIES)
        print(f"| {name} | {len(lines)} | {counts} |")
    print("READMEs, by rule:", ", ".join(f"{rule} {n}" for rule, n in rules.most_common(8)))


if __name__ == "__main__":
    sys.exit(main())
