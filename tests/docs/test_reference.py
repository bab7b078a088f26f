"""Pages that are written from the code say what the code says."""

from docs.reference import hook_points


def test_the_page_of_hook_points_is_up_to_date() -> None:
    """`python -m docs.reference.hook_points` would change nothing."""
    assert hook_points.PAGE.read_text() == hook_points.page()
