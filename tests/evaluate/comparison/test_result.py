"""A comparison as JSON: read and written without a change."""

from __future__ import annotations

import json

from support.comparison_results import results as nine_methods

from asif.evaluate.comparison.result import Comparison


def test_a_comparison_read_from_json_is_written_as_it_was() -> None:
    before = nine_methods()
    assert json.dumps(Comparison.from_json(before).to_json()) == json.dumps(before)
    del before["command"]
    before["expected"] = None
    before["runs"][0].update(tuning=None, deletion=None, peak_mib=None)
    before["runs"][0]["results"][0]["ranks"] = [3, 0]
    before["anchors"] = {"name": "a", "version": "1", "digest": "d", "where": "source = 'x'", "count": 3}
    assert json.dumps(Comparison.from_json(before).to_json()) == json.dumps(before)
