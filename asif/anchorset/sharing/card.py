"""The dataset card of a set on the Hub: its encoders, pairs, licences and limits, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from asif.anchorset.format.manifest import Manifest
from asif.anchorset.sharing.licence_summary import LicenceSummary, find_open_licence_id
from asif.modality import name_many, reword
from asif.vectors import SIDES

_MAX_SOURCES = 30  # rows in the table of sources
_SPECIAL_CHARACTERS = "&<>|`*_[]~\\"
_SIZE_STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")  # size categories of the Hub


def format_card(manifest: Manifest, summary: LicenceSummary, repo: str) -> str:
    """Format README.md, YAML first; the same version gives the same text. Texts from pairs are escaped."""
    return "\n".join(
        [
            *_format_yaml(manifest, summary),
            *_format_about(manifest),
            *_format_sources(summary, manifest.modalities["image"]),
            *_format_usage(manifest, repo),
            "",
        ]
    )


def _format_yaml(manifest: Manifest, summary: LicenceSummary) -> Iterable[str]:
    step = next(at for at in range(len(_SIZE_STEPS)) if manifest.count < 10 ** (at + 3) or at == len(_SIZE_STEPS) - 1)
    size = f"{_SIZE_STEPS[step - 1]}<n<{_SIZE_STEPS[step]}" if step else "n<1K"
    yield from ("---", f"pretty_name: {json.dumps(manifest.name)}", *_format_licence(summary), "library_name: asif")
    yield from ("tags:", "- asif", "- anchor-set", f"- {'-'.join(manifest.modalities.values())}-pairs", "- embeddings")
    yield from ("size_categories:", f"- {size}")
    yield from ("configs:", "- config_name: pairs", "  data_files: pairs/*.parquet", "---", "")


def _format_licence(summary: LicenceSummary) -> Sequence[str]:
    names = list(summary.by_licence)
    if names == [None]:
        return ["license: unknown"]
    ids = {None if name is None else find_open_licence_id(name) for name in names}
    if len(ids) == 1 and None not in ids:
        return [f"license: {ids.pop()}"]
    return ["license: other", "license_name: by-pair"]


def _format_about(manifest: Manifest) -> Iterable[str]:
    yield from (f"# {manifest.name}", "")
    halves, items = "-".join(manifest.modalities.values()), name_many(manifest.modalities["image"])
    yield (
        f"An anchor set: {manifest.count:,} {halves} pairs, as embeddings of two frozen encoders that were trained "
        "apart. With it [`asif`](https://pypi.org/project/asif-engine/) makes these two comparable: it classifies "
        f"{items} by text, without training, and names the pairs that each answer rests on."
    )
    yield from ("", *_format_table(("", ""), _list_facts(manifest)), "")
    yield from ("## Encoders", "", "Only these make use of the set; asif checks their fingerprints.", "")
    rows = [
        (
            manifest.modalities[side],
            _quote_code(info.spec),
            str(manifest.dims[side]),
            _quote_code(info.fingerprint.digest),
        )
        for side, info in ((side, manifest.encoders[side]) for side in SIDES)
    ]
    yield from (*_format_table(("side", "encoder", "dimensions", "fingerprint"), rows), "")
    if manifest.profiles:
        yield from ("## Tuned to", "")
        tuned = [
            (_quote_code(task), _quote_code(json.dumps(_shorten_profile(profile))))
            for task, profile in sorted(manifest.profiles.items())
        ]
        yield from (*_format_table(("task", "aligner"), tuned), "")


def _list_facts(manifest: Manifest) -> Iterable[tuple[str, str]]:
    yield "version", _quote_code(manifest.version)
    yield "digest", _quote_code(manifest.digest)
    yield "anchors", f"{manifest.count:,}"
    yield "stored as", manifest.dtype
    yield "captions of a pair", manifest.captions
    yield "made", f"{_quote_code(manifest.created)} by asif {_quote_code(manifest.asif)}"


def _shorten_profile(profile: object) -> object:
    """Reduce a profile to its aligner and hubness correction."""
    if not isinstance(profile, dict):
        return profile
    return {name: profile[name] for name in ("aligner", "hubness") if name in profile}


def _format_sources(summary: LicenceSummary, modality: str) -> Iterable[str]:
    yield from ("## Pairs, sources, licences", "")
    rows = sorted(summary.pairs.items(), key=lambda each: (-each[1], str(each[0])))
    shown = [
        (
            _quote_code(source) if source else "not said",
            _quote_code(licence) if licence else "**not said**",
            f"{count:,}",
        )
        for (source, licence), count in rows[:_MAX_SOURCES]
    ]
    if len(rows) > _MAX_SOURCES:
        shown.append(("others", "others", f"{sum(count for _, count in rows[_MAX_SOURCES:]):,}"))
    yield from (*_format_table(("source", "licence", "pairs"), shown), "")
    if summary.unlicensed:
        yield (
            f"**{summary.unlicensed:,} pairs come without a licence.** Whether they may be used is for you to find out."
        )
        yield ""
    if summary.unrecognised:
        names = ", ".join(
            f"{_quote_code(name)} ({count:,})" for name, count in list(summary.unrecognised.items())[:_MAX_SOURCES]
        )
        yield from (f"Licences that may not allow passing on: {names}.", "")
    yield reword(
        "Licences are as recorded by the provider of the pairs; they apply to the images and captions.", modality
    )
    yield from ("", "## Limits", "")
    content = f"ids, captions, sources, licences, image hashes, {summary.urls:,} URLs, and embeddings"
    yield reword(f"- In here: {content}. No images.", modality)
    yield reword(
        "- Embeddings tell a good deal about images. Whoever has an image can find out whether it is among the pairs.",
        modality,
    )
    yield "- Predictions have the biases of the two encoders and of these pairs. They are scores, not probabilities."
    yield ""


def _format_usage(manifest: Manifest, repo: str) -> Iterable[str]:
    yield from ("## Use", "", "```", "pip install asif-engine", f"asif anchors pull {repo}")
    example = "clip.wav" if manifest.modalities["image"] == "audio" else "photo.jpg"
    yield f'asif classify {example} --anchors {manifest.name} --labels "cat, dog"'
    yield from ("```", "", "```python", "import asif", "")
    yield f'classifier = asif.Classifier(anchors="{manifest.name}").fit(["cat", "dog"])'
    yield from (f'classifier.predict(["{example}"])', "```", "")
    yield "`pull` checks every byte against the manifest, and the pairs against the digest, before it keeps anything."


def _format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield from (_format_row(header), _format_row(["---"] * len(header)), *map(_format_row, rows))


def _format_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _quote_code(text: str, longest: int = 200) -> str:
    """Quote untrusted text as code, so that it is neither Markdown nor HTML and cannot end a table cell.

    >>> print(_quote_code("a|b `c`\\n<b>"))
    <code>a&#124;b &#96;c&#96; &#60;b&#62;</code>
    """
    flat = " ".join("".join(one if one.isprintable() else " " for one in text[:longest]).split())
    return f"<code>{''.join(f'&#{ord(one)};' if one in _SPECIAL_CHARACTERS else one for one in flat)}</code>"
