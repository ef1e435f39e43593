"""asif classify."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.cli.app import DATA
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.engine import Credits, Result

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
EXPLAINED = 5


@click.command("classify")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--labels", help='Labels separated by commas: "cat,dog".')
@click.option("--labels-file", type=click.Path(path_type=Path), help="A file with one label per line.")
@options.anchors
@options.aligner
@options.prompts
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Labels per image.")
@click.option("--explain", is_flag=True, help="Name the anchors behind the first label, and their credits.")
@click.option("--label-vectors", type=click.Path(path_type=Path), help="For precomputed anchors: .npy, row by prompt.")
@options.engine
@options.device
@options.home
@options.as_json
def command(images: tuple[str, ...], as_json: bool, top: int, explain: bool, **given: Any) -> None:
    """Label images, zero-shot.

    IMAGE is a file, a folder, a quoted glob, `-` for a list of files on stdin, or, with anchors of precomputed vectors,
    a .npy file [n, d]. Scores are raw: cosines between representations, for asif and asif-paper from 0 to 1. With
    --explain, --license or --where answers list the credits of the pairs that they come from: id, source, licence, url.
    """
    from asif.classify import TEMPLATES, Labels

    aligner, hubness = options.chosen_aligner(given)
    mode = given["template_mode"] or (aligner.template_mode if aligner else "mean")
    templates = options.chosen_templates(given["template"], given["templates"]) or TEMPLATES
    labels = Labels(read_labels(given["labels"], given["labels_file"]), templates, mode)
    paths = list(expand(images))
    engine = options.open_engine(given, aligner, hubness)
    wanted: dict[str, Any] = {
        "top": top,
        "explain": EXPLAINED if explain else 0,
        "credits": explain or bool(engine.anchors.named.pair_filter),
    }
    from_vectors = any(Path(path).suffix == ".npy" for path in paths)
    if from_vectors:
        answers: Any = vectors(engine, paths, labels, given, wanted)
    else:
        answers = (result for _, result in engine.classify(paths, labels, **wanted))
    failed, how = 0, {**options.how(engine, "classify"), "template_mode": mode, "templates": list(labels.templates)}
    for result in answers:
        failed += result.error is not None
        if as_json:
            options.print_json(json_of(result, how))
        else:
            print_result(result, len(paths) > 1 or from_vectors)
    if failed:
        options.notice(f"{failed} of {len(paths)} images could not be read")
        sys.exit(DATA)


def vectors(engine: Any, paths: Sequence[str], labels: Any, given: dict[str, Any], wanted: dict[str, Any]) -> Any:
    """Classify precomputed vectors; every input must be a .npy file."""
    from asif.engine import read_vectors

    dims = engine.anchors.dims
    texts = read_vectors(given["label_vectors"], dims["text"], "prompt vectors") if given["label_vectors"] else None
    for path in paths:
        images = read_vectors(Path(path), dims["image"], "image vectors")
        for result in engine.classify_vectors(images, labels, texts, **wanted):
            yield replace(result, image=f"{path}: {result.image}")


def read_labels(listed: str | None, file: Path | None) -> tuple[str, ...]:
    """Take labels from the option or from the file."""
    if (listed is None) == (file is None):
        raise UsageError(
            "neither --labels nor --labels-file" if file is None else "both --labels and --labels-file",
            "one of the two",
            'pass --labels "cat,dog"',
        )
    if file is None:
        return tuple(label.strip() for label in str(listed).split(","))
    return options.lines(file)


def expand(images: Sequence[str]) -> Iterator[str]:
    """Turn files, folders, globs and `-` into paths; raises UsageError for what matches nothing."""
    for image in images:
        if image == "-":
            found = [Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip()]
        elif os.path.isdir(image):
            found = [file for file in sorted(Path(image).rglob("*")) if is_image(file)]
        elif os.path.exists(image):  # unlike Path.exists, False for names the system cannot hold
            found = [Path(image)]
        else:
            found = globbed(image)
        if not found:
            raise UsageError(
                "no file is listed on stdin" if image == "-" else f"{image!a} is no file, and matches none",
                f"an image, a folder with images ({' '.join(sorted(SUFFIXES))}), a glob, or -",
                "check the path",
            )
        yield from map(str, found)


def is_image(file: Path) -> bool:
    """Tell whether a folder's file is one of its images, by its name."""
    return file.suffix.lower() in SUFFIXES and file.is_file()


def globbed(pattern: str) -> list[Path]:
    """Expand a pattern that the shell left alone."""
    from glob import glob

    return [Path(path) for path in sorted(glob(pattern, recursive=True)) if Path(path).is_file()]


def json_of(result: Result, how: dict[str, Any]) -> dict[str, Any]:
    """Return the object that --json prints for one image."""
    if result.error is not None:
        return {"image": shown(result), "error": result.error.came}
    assert result.anchors is not None
    answer: dict[str, Any] = {
        "image": shown(result),
        "predictions": [{"label": each.label, "score": each.score} for each in result.predictions],
        "anchors": result.anchors.as_dict(),
        **how,
        "timings_ms": {step: round(ms, 3) for step, ms in result.timings_ms.items()},
    }
    if result.evidence is not None:
        split = result.evidence.contributions
        answer["explanation"] = {
            "label": result.predictions[0].label,
            "score": split.score,
            "contributions": [
                {"id": record.id, "captions": list(record.captions), "contribution": float(value)}
                for record, value in zip(result.evidence.records, split.values, strict=True)
            ],
            "remainder": split.remainder,
            "others": split.others,
        }
        if result.evidence.hubness:
            answer["explanation"]["hubness"] = -result.evidence.hubness
    if result.credits is not None:
        pairs = [
            {"id": pair.id, "source": pair.source, "licence": pair.licence, "url": pair.url}
            for pair in result.credits.records
        ]
        answer["credits"] = {"label": result.predictions[0].label, "pairs": pairs, "others": result.credits.others}
    return answer


def shown(result: Result) -> str:
    """Return the image's name; bytes in it that are no UTF-8 are replaced."""
    return click.format_filename(result.image)


def print_result(result: Result, many: bool) -> None:
    """Print one image's labels for people."""
    if result.error is not None:
        options.notice(f"{shown(result)}: cannot be read: {result.error.came}")
        return
    if many:
        click.secho(shown(result), bold=True)
    for prediction in result.predictions:
        click.echo(f"{prediction.score:7.4f}  {prediction.label}")
    if result.evidence is not None:
        print_evidence(result)
    if result.credits is not None:
        print_credits(result.credits)


def print_evidence(result: Result) -> None:
    """Print which anchors spoke for the first label."""
    assert result.evidence is not None
    split = result.evidence.contributions
    first = result.predictions[0]
    click.echo(f"  {first.label!r} has {first.score:.4f} from these anchors:")
    for value, record in zip(split.values, result.evidence.records, strict=True):
        caption = record.captions[0] if len(record.captions[0]) <= 90 else record.captions[0][:89] + "…"
        click.echo(f"  {value:8.4f}  {record.id}  {caption}")
    if split.others:
        click.echo(f"  {split.remainder:8.4f}  {split.others} further anchors")
    if result.evidence.hubness:
        click.echo(f"  {-result.evidence.hubness:8.4f}  taken off for hubness")


def print_credits(credits: Credits) -> None:
    """Print whose pairs the first label comes from; of pairs of which nothing is known only how many."""
    known = [pair for pair in credits.records if pair.source or pair.licence or pair.url]
    for pair in known:
        said = "  ".join(part for part in (pair.licence or "no licence given", pair.source, pair.url) if part)
        click.echo(f"  credit: {pair.id}  {said}")
    if len(known) < len(credits.records):
        click.echo(f"  credit: {len(credits.records) - len(known)} pairs without source, licence and url")
    if credits.others:
        click.echo(f"  credit: {credits.others:,} further pairs: all anchors have a part in such a score")
