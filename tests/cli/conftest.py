import pytest


@pytest.fixture(scope="module", autouse=True)
def _runs_without_pages(no_pages: None) -> None:
    """tests/report has the page; here, runs end without one."""
