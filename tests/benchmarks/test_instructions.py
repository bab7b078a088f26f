"""The benchmark that counts instructions counts cases that there are."""

from tests.benchmarks import instructions, operations


def test_every_case_is_one_of_the_operations() -> None:
    """Valgrind is not needed to know that a case was renamed."""
    assert set(instructions.CASES) <= set(operations.cases())
