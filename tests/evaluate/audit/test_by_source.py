"""Counts by source and licence."""

from __future__ import annotations

from support.audit_results import find_finding

from asif.evaluate.audit import AuditResult


def test_counts_by_source_and_licence_add_up(audited: AuditResult) -> None:
    results = audited.to_json()
    for name in ("sources", "licences"):
        rows = results[name]["rows"]
        assert sum(row["anchors"] for row in rows) == audited.anchors.count
        for finding in results["findings"]:
            assert sum(row["found"][finding["kind"]] for row in rows) == finding["anchors"]
    records = audited.anchors.records(range(audited.anchors.count))
    assert results["licences"]["missing"] == sum(record.licence is None for record in records)
    assert {row["name"] for row in results["sources"]["rows"]} == {"web", "book", None}
    web = next(row for row in results["sources"]["rows"] if row["name"] == "web")
    wrong = set(find_finding(audited, "disagreement").rows.tolist())
    assert web["found"]["disagreement"] == sum(records[row].source == "web" for row in wrong)
