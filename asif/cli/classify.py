"""asif classify."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.cli.app import EXIT_BAD_DATA
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.classify import Labels
    from asif.engine import Classification, Credits, Engine
    from asif.engine.predict import PredictOptions

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_EXPLAINED_ANCHORS = 5


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
def command(images: tuple[str, ...], as_json: bool, top: int, explain: bool, **params: Any) -> None:
    """Label images, zero-shot.

    IMAGE is a file, a folder, a quoted glob, `-` for a list of files on stdin, or, with anchors of precomputed vectors,
    a .npy file [n, d]. Scores are cosines between representations, less a bias if hubness is corrected; asif-paper does
    not normalise its image side. With --explain, --license or --where results list the credits of the pairs that they
    come from: id, source, licence, url.
    """
    from asif.classify import DEFAULT_TEMPLATES, Labels
    from asif.engine.predict import PredictOptions

    aligner, hubness = options.make_chosen_aligner(params)
    mode = params["template_mode"] or (aligner.template_mode if aligner else "mean")
    templates = options.choose_templates(params["template"], params["templates"]) or DEFAULT_TEMPLATES
    labels = Labels(_read_labels(params["labels"], params["labels_file"]), templates, mode)
    paths = list(expand(images))
    engine = options.open_engine(params, aligner, hubness)
    with_credits = explain or bool(engine.anchors.named.pair_filter)
    content = PredictOptions(top, _EXPLAINED_ANCHORS if explain else 0, with_credits)
    settings = {
        **options.describe_task(engine, "classify"),
        "template_mode": mode,
        "templates": list(labels.templates),
    }
    from_vectors = any(Path(path).suffix == ".npy" for path in paths)
    if from_vectors:
        results = _classify_vector_files(engine, paths, labels, params["label_vectors"], content)
    else:
        results = (result for _, result in engine.classify(paths, labels, **asdict(content)))
    failed = 0
    for result in results:
        failed += result.error is not None
        if as_json:
            options.print_json(_result_as_json(result, settings))
        else:
            _print_result(result, len(paths) > 1 or from_vectors)
    if failed:
        options.print_notice(f"{failed} of {len(paths)} images could not be read")
        sys.exit(EXIT_BAD_DATA)


def _classify_vector_files(
    engine: Engine, paths: Sequence[str], labels: Labels, label_vectors: Path | None, content: PredictOptions
) -> Iterator[Classification]:
    """Classify precomputed vectors; every path must be a .npy file."""
    from asif.engine import read_vectors

    dims = engine.anchors.dims
    texts = read_vectors(label_vectors, dims["text"], "prompt vectors") if label_vectors else None
    for path in paths:
        images = read_vectors(Path(path), dims["image"], "image vectors")
        for result in engine.classify_vectors(images, labels, texts, **asdict(content)):
            yield replace(result, image=f"{path}: {result.image}")


def _read_labels(option: str | None, file: Path | None) -> tuple[str, ...]:
    """Read labels from the option or from the file."""
    if (option is None) == (file is None):
        raise UsageError(
            "neither --labels nor --labels-file" if file is None else "both --labels and --labels-file",
            "one of the two",
            'pass --labels "cat,dog"',
        )
    if file is None:
        return tuple(label.strip() for label in str(option).split(","))
    return options.read_lines(file)


def expand(images: Sequence[str]) -> Iterator[str]:
    """Expand files, folders, globs and `-` into paths; raises UsageError for an argument that matches nothing."""
    for image in images:
        if image == "-":
            found = [Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip()]
        elif os.path.isdir(image):
            found = [file for file in sorted(Path(image).rglob("*")) if _is_image(file)]
        elif os.path.exists(image):  # unlike Path.exists, False for names the system cannot hold
            found = [Path(image)]
        else:
            found = _expand_glob(image)
        if not found:
            raise UsageError(
                "no file is listed on stdin" if image == "-" else f"{image!a} is no file, and matches none",
                f"an image, a folder with images ({' '.join(sorted(_IMAGE_SUFFIXES))}), a glob, or -",
                "check the path",
            )
        yield from map(str, found)


def _is_image(file: Path) -> bool:
    """Tell whether a file in a folder is an image, by its suffix."""
    return file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file()


def _expand_glob(pattern: str) -> list[Path]:
    """Expand a pattern that the shell did not expand."""
    from glob import glob

    return [Path(path) for path in sorted(glob(pattern, recursive=True)) if Path(path).is_file()]


def _result_as_json(result: Classification, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the object that --json prints for one image."""
    if result.error is not None:
        return {"image": _printable_name(result), "error": result.error.came}
    assert result.anchors is not None
    found: dict[str, Any] = {
        "image": _printable_name(result),
        "predictions": [{"label": each.label, "score": each.score} for each in result.predictions],
        "anchors": result.anchors.as_dict(),
        **settings,
        "timings_ms": {step: round(ms, 3) for step, ms in result.timings_ms.items()},
    }
    if result.evidence is not None:
        split = result.evidence.contributions
        found["explanation"] = {
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
            found["explanation"]["hubness"] = -result.evidence.hubness
    if result.credits is not None:
        pairs = [
            {"id": pair.id, "source": pair.source, "licence": pair.licence, "url": pair.url}
            for pair in result.credits.records
        ]
        found["credits"] = {"label": result.predictions[0].label, "pairs": pairs, "others": result.credits.others}
    return found


def _printable_name(result: Classification) -> str:
    """Return the image's name, with bytes that are not UTF-8 replaced."""
    return click.format_filename(result.image)


def _print_result(result: Classification, many: bool) -> None:
    """Print one image's labels as text."""
    if result.error is not None:
        options.print_notice(f"{_printable_name(result)}: cannot be read: {result.error.came}")
        return
    if many:
        click.secho(_printable_name(result), bold=True)
    for prediction in result.predictions:
        click.echo(f"{prediction.score:7.4f}  {prediction.label}")
    if result.evidence is not None:
        _print_evidence(result)
    if result.credits is not None:
        _print_credits(result.credits)


def _print_evidence(result: Classification) -> None:
    """Print the anchors that contribute to the score of the first label."""
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


def _print_credits(credits: Credits) -> None:
    """Print the credits of the pairs behind the first label, and the number of pairs without any."""
    known = [pair for pair in credits.records if pair.source or pair.licence or pair.url]
    for pair in known:
        credit = "  ".join(part for part in (pair.licence or "no licence given", pair.source, pair.url) if part)
        click.echo(f"  credit: {pair.id}  {credit}")
    if len(known) < len(credits.records):
        click.echo(f"  credit: {len(credits.records) - len(known)} pairs without source, licence and url")
    if credits.others:
        click.echo(f"  credit: {credits.others:,} further pairs: all anchors have a part in such a score")
