"""Versions of libraries: the short way says what `packaging` says."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from llmspell_instrumentation.versions import allows, installed, satisfied

RELEASES = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(
    lambda parts: ".".join(map(str, parts))
)
VERSIONS = st.builds(
    str.__add__, RELEASES, st.sampled_from(["", "", "rc1", ".dev3", ".post1", "+local", "a2"])
)
SIGNS = st.sampled_from([">=", "<=", "<", ">", "==", "!=", "~="])
BOUNDS = st.builds(lambda sign, limit: f"{sign}{limit}", SIGNS, RELEASES).filter(
    lambda bound: not bound.startswith("~=") or "." in bound
)


@given(st.lists(BOUNDS, max_size=3), VERSIONS)
@example([">=2", "<4"], "3.54.0")
@example(["<4"], "4.0.0rc1")
@example([">=2.0"], "2")
def test_it_is_what_packaging_says(bounds: list[str], version: str) -> None:
    """For every sort of version and bound, pre-releases and local ones included."""
    requires = "a-library" + ",".join(bounds)
    expected = Requirement(requires).specifier.contains(version, prereleases=True)
    assert allows(requires, version) == expected


@pytest.mark.parametrize("requires", ["wrapt>=1", "wrapt >= 1, < 100", "wrapt"])
def test_what_is_installed_is_found(requires: str) -> None:
    """By the name alone, whatever is asked of its version."""
    assert installed(requires)
    assert satisfied(requires)


def test_what_is_not_installed_satisfies_nothing() -> None:
    """No version, no error."""
    assert installed("a-library-that-nobody-has>=1") is None
    assert not satisfied("a-library-that-nobody-has>=1")


def test_plain_versions_do_without_packaging() -> None:
    """It is dear to import."""
    code = (
        "import sys; from llmspell_instrumentation.versions import allows;"
        "assert allows('openai>=2,<4', '3.54.0') and not allows('openai>=2,<4', '4.0');"
        "print('packaging' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
