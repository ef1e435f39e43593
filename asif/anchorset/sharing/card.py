"""The card of a set on the Hub: what it is, of which encoders and pairs, under which licences, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from asif.anchorset.format.manifest import Manifest
from asif.anchorset.sharing.licence_summary import Contents, licence_id
from asif.vectors import SIDES

ROWS = 30  # of the table of sources
SPECIAL = "&<>|`*_[]~\\"
STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")  # sizes as the Hub names them


def card(manifest: Manifest, what: Contents, repo: str) -> str:
    """Write README.md, YAML first; the same version gives the same text. Texts of others are quoted in code."""
    return "\n".join([*_header(manifest, what), *_about(manifest, what), *_pairs(what), *_use(manifest, repo), ""])


def _header(manifest: Manifest, what: Contents) -> Iterable[str]:
    at = next(at for at in range(len(STEPS)) if manifest.count < 10 ** (at + 3) or at == len(STEPS) - 1)
    size = f"{STEPS[at - 1]}<n<{STEPS[at]}" if at else "n<1K"
    yield from ("---", f"pretty_name: {json.dumps(manifest.name)}", *_licence(what), "library_name: asif")
    yield from (
        "tags:",
        "- asif",
        "- anchor-set",
        "- image-text-pairs",
        "- embeddings",
        "size_categories:",
        f"- {size}",
    )
    yield from ("configs:", "- config_name: pairs", "  data_files: pairs/*.parquet", "---", "")


def _licence(what: Contents) -> Sequence[str]:
    names = list(what.licences)
    if names == [None]:
        return ["license: unknown"]
    ids = {None if name is None else licence_id(name) for name in names}
    if len(ids) == 1 and None not in ids:
        return [f"license: {ids.pop()}"]
    return ["license: other", "license_name: by-pair"]


def _about(manifest: Manifest, what: Contents) -> Iterable[str]:
    yield from (f"# {manifest.name}", "")
    yield (
        f"An anchor set: {manifest.count:,} image-text pairs, as embeddings of two frozen encoders that were trained "
        "apart. With it [`asif`](https://pypi.org/project/asif-engine/) makes these two comparable: it classifies "
        "images by text, without training, and names the pairs that each answer rests on."
    )
    yield from ("", *_table(("", ""), _facts(manifest)), "")
    yield from ("## Encoders", "", "Only these make use of the set; asif checks their fingerprints.", "")
    rows = [
        (side, code(info.spec), str(manifest.dims[side]), code(info.fingerprint.digest))
        for side, info in ((side, manifest.encoders[side]) for side in SIDES)
    ]
    yield from (*_table(("side", "encoder", "dimensions", "fingerprint"), rows), "")
    if manifest.profiles:
        yield from ("## Tuned to", "")
        tuned = [(code(task), code(json.dumps(_told(found)))) for task, found in sorted(manifest.profiles.items())]
        yield from (*_table(("task", "aligner"), tuned), "")


def _facts(manifest: Manifest) -> Iterable[tuple[str, str]]:
    yield "version", code(manifest.version)
    yield "digest", code(manifest.digest)
    yield "anchors", f"{manifest.count:,}"
    yield "stored as", manifest.dtype
    yield "captions of a pair", manifest.captions
    yield "made", f"{code(manifest.created)} by asif {code(manifest.asif)}"


def _told(profile: object) -> object:
    """Leave out of a profile how it was found."""
    kept = ("aligner", "hubness")
    return {name: profile[name] for name in kept if name in profile} if isinstance(profile, dict) else profile


def _pairs(what: Contents) -> Iterable[str]:
    yield from ("## Pairs, sources, licences", "")
    rows = sorted(what.pairs.items(), key=lambda each: (-each[1], str(each[0])))
    shown = [
        (code(source) if source else "not said", code(licence) if licence else "**not said**", f"{count:,}")
        for (source, licence), count in rows[:ROWS]
    ]
    if len(rows) > ROWS:
        shown.append(("others", "others", f"{sum(count for _, count in rows[ROWS:]):,}"))
    yield from (*_table(("source", "licence", "pairs"), shown), "")
    if what.unlicensed:
        yield f"**{what.unlicensed:,} pairs come without a licence.** Whether they may be used is for you to find out."
        yield ""
    if what.doubtful:
        names = ", ".join(f"{code(name)} ({count:,})" for name, count in list(what.doubtful.items())[:ROWS])
        yield from (f"Licences that may not allow passing on: {names}.", "")
    yield "Licences are those that the pairs were given by whoever brought them; they hold for the images and captions."
    yield from ("", "## Limits", "")
    yield f"- In here: ids, captions, sources, licences, image hashes, {what.urls:,} URLs, and embeddings. No images."
    yield "- Embeddings tell a good deal about images. Whoever has an image can find out whether it is among the pairs."
    yield "- The answers have the biases of the two encoders and of these pairs. They are scores, not probabilities."
    yield ""


def _use(manifest: Manifest, repo: str) -> Iterable[str]:
    yield from ("## Use", "", "```", "pip install asif-engine", f"asif anchors pull {repo}")
    yield f'asif classify photo.jpg --anchors {manifest.name} --labels "cat, dog"'
    yield from ("```", "", "```python", "import asif", "")
    yield f'classifier = asif.Classifier(anchors="{manifest.name}").fit(["cat", "dog"])'
    yield from ('classifier.predict(["photo.jpg"])', "```", "")
    yield "`pull` checks every byte against the manifest, and the pairs against the digest, before it keeps anything."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield from (_row(header), _row(["---"] * len(header)), *map(_row, rows))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def code(text: str, longest: int = 200) -> str:
    """Quote any text so that it is neither Markdown nor HTML, nor ends a cell of a table.

    >>> print(code("a|b `c`\\n<b>"))
    <code>a&#124;b &#96;c&#96; &#60;b&#62;</code>
    """
    flat = " ".join("".join(one if one.isprintable() else " " for one in text[:longest]).split())
    return f"<code>{''.join(f'&#{ord(one)};' if one in SPECIAL else one for one in flat)}</code>"
