"""The imagined comparison of nine methods, and its page."""

from __future__ import annotations

import pytest
from support.comparison_results import results as nine_methods

from asif.evaluate.comparison.result import Comparison
from asif.report import render_comparison_page


@pytest.fixture(scope="session")
def nine() -> Comparison:
    return Comparison.from_json(nine_methods())


@pytest.fixture(scope="session")
def page(nine: Comparison) -> str:
    return render_comparison_page(nine)
