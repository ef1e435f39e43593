"""asif classify."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.cli.app import EXIT_BAD_DATA
from asif.cli.classification_forms import (
    format_as_csv,
    format_as_json,
    format_csv_header,
    print_long_form,
    print_short_form,
)
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.classify import Labels
    from asif.engine import Classification, Engine
    from asif.engine.predict import PredictOptions

_EXPLAINED_ANCHORS = 5


@click.command("classify")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--labels", help="Labels separated by commas: 'cat,dog'; those with commas in double quotes.")
@click.option(
    "--labels-file",
    type=click.Path(path_type=Path),
    help="A file of labels: one per line, label<TAB>name | name, CSV with a header, or JSON.",
)
@options.anchors
@options.aligner
@options.prompts
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Labels per image.")
@click.option("--explain", is_flag=True, help="Name the anchors behind the first label, and their credits.")
@click.option("--label-vectors", type=click.Path(path_type=Path), help="For precomputed anchors: .npy, row by prompt.")
@options.search_engine
@options.device
@options.backend
@options.home
@options.as_json
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print CSV: a line per label, with image, rank, label, score, error."
)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the result there: JSON lines, or --csv."
)
@options.overwrite
def command(images: tuple[str, ...], as_json: bool, as_csv: bool, output: Path | None, **params: Any) -> None:
    """Label images, zero-shot; or sounds, with anchors of sounds.

    IMAGE is a file, a folder, a quoted glob, `-` for a list of files on stdin, or, with anchors of precomputed vectors,
    a .npy file [n, d]. Scores are cosines between representations, less a bias if hubness is corrected; asif-paper does
    not normalise its image side. With --explain, --license or --where results list the credits of the pairs that they
    come from: id, source, licence, url.

    For people, several images are listed with their first label each; --top or --explain shows more.
    """
    from asif.classify import DEFAULT_TEMPLATES, Labels
    from asif.engine.predict import PredictOptions
    from asif.modality import find_modality, name_many
    from asif.report.answers import describe_task

    explain = params["explain"]
    if as_csv and (as_json or explain):
        raise UsageError("--csv with --json or --explain", "one form of output", "explanations are in that of --json")
    options.check_output(output, params["overwrite"])
    aligner, hubness = options.make_chosen_aligner(params)
    mode = params["template_mode"] or (aligner.template_mode if aligner else "mean")
    templates = options.choose_templates(params["template"], params["templates"]) or DEFAULT_TEMPLATES
    texts, names = _read_labels(params["labels"], params["labels_file"], words=params["label_vectors"] is None)
    labels = Labels(texts, templates, mode, names)
    has_folder = any(map(os.path.isdir, images))
    paths = list(expand(images, options.find_modality(params["anchors"], params["home"]) if has_folder else "image"))
    engine = options.open_engine(params, aligner, hubness)
    modality = find_modality(engine.anchors, "image")
    with_credits = explain or bool(engine.anchors.named.pair_filter)
    content = PredictOptions(params["top"], _EXPLAINED_ANCHORS if explain else 0, with_credits)
    settings = {
        **describe_task(engine, "classify"),
        "template_mode": mode,
        "templates": list(labels.templates),
    }
    from_vectors = any(Path(path).suffix.lower() == ".npy" for path in paths)
    if from_vectors:
        results = _classify_vector_files(engine, paths, labels, params["label_vectors"], content)
    else:
        results = engine.classify(paths, labels, **asdict(content))
    failed: list[Classification] = []
    results = _note_failures(results, failed)
    if as_csv:
        _write_lines(chain([format_csv_header(modality)], chain.from_iterable(map(format_as_csv, results))), output)
    elif as_json or output is not None:
        _write_lines((format_as_json(result, settings, modality) for result in results), output)
    else:
        short = not with_credits and not options.list_given_options(("top",))
        _print_for_people(results, list(map(click.format_filename, paths)), labels, from_vectors, short)
    if failed:
        options.print_notice(f"{len(failed)} of {len(paths)} {name_many(modality)} could not be read")
        sys.exit(EXIT_BAD_DATA)


def _note_failures(results: Iterable[Classification], failed: list[Classification]) -> Iterator[Classification]:
    """Yield all results, and append those of images that cannot be read to a list."""
    for result in results:
        if result.error is not None:
            failed.append(result)
        yield result


def _print_for_people(
    results: Iterable[Classification], names: list[str], labels: Labels, from_vectors: bool, short: bool
) -> None:
    """Print one image with all its labels; print several in the short form, or each under its name."""
    several = len(names) > 1 or from_vectors
    widths = max(map(len, names)), max(map(len, labels.labels))
    for result in results:
        if several and short:
            print_short_form(result, *widths)
        else:
            print_long_form(result, titled=several)


def _write_lines(lines: Iterable[str], output: Path | None) -> None:
    """Print lines, or write them to a file that appears when all of them are written."""
    from asif.anchorset.format.atomic_io import atomic_write

    if output is None:
        for line in lines:
            options.print_data(line)
        return

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)

    atomic_write(output, write, 0)
    options.print_notice(f"written to {output}")


def _classify_vector_files(
    engine: Engine, paths: Sequence[str], labels: Labels, label_vectors: Path | None, content: PredictOptions
) -> Iterator[Classification]:
    """Classify precomputed vectors; every path must be a .npy file."""
    from asif.engine import read_vectors
    from asif.modality import find_modality

    dims = engine.anchors.dims
    texts = read_vectors(label_vectors, dims["text"], "prompt vectors") if label_vectors else None
    for path in paths:
        modality = find_modality(engine.anchors, "image")
        images = read_vectors(Path(path), dims["image"], f"{modality} vectors")
        for result in engine.classify_vectors(images, labels, texts, **asdict(content)):
            yield replace(result, image=f"{path}: {result.image}")


def _read_labels(
    option: str | None, file: Path | None, words: bool
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Read labels from the option, or labels and their names from the file; a text encoder reads `words` only."""
    from asif.classify import parse_labels, read_labels

    if (option is None) == (file is None):
        raise UsageError(
            "neither --labels nor --labels-file" if file is None else "both --labels and --labels-file",
            "one of the two",
            'pass --labels "cat,dog"',
        )
    return (parse_labels(str(option), words=words), ()) if file is None else read_labels(file, words=words)


def expand(images: Sequence[str], modality: str = "image") -> Iterator[str]:
    """Expand files, folders, globs and `-` into paths, and print what of a folder or a glob is not read.

    Of folders the files of the modality are read.

    Raises UsageError for an argument without an image.
    """
    from asif.modality import name_one
    from asif.pairs.image_files import describe_suffixes

    for image in images:
        unread: tuple[str, ...] = ()
        if image == "-":
            found = [Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip()]
        elif os.path.isdir(image):
            found, unread = _expand_folder(Path(image), modality)
        elif os.path.exists(image):  # unlike Path.exists, False for names the system cannot hold
            found = [Path(image)]
        else:
            found, unread = _expand_glob(image)
        if not found:
            raise UsageError(
                _describe_nothing(image, unread, modality),
                f"{name_one(modality)}, a folder with {describe_suffixes(modality)}, a glob, or -",
                "check the path; a file that is named itself is read, whatever its suffix",
            )
        if unread:
            options.print_notice(f"{click.format_filename(image)}: not read: {', '.join(unread)}")
        yield from map(str, found)


def _describe_nothing(image: str, unread: tuple[str, ...], modality: str) -> str:
    """Describe an argument without an image, or without a sound."""
    from asif.modality import name_one

    if image == "-":
        return "no file is listed on stdin"
    if os.path.isdir(image):
        return f"{image!a} holds no {name_one(modality).partition(' ')[2]}, but {', '.join(unread) or 'no file'}"
    return f"{image!a} is no file, and matches {', '.join(unread) or 'none'}"


def _expand_folder(folder: Path, modality: str) -> tuple[list[Path], tuple[str, ...]]:
    """Return the images of a folder and its folders, and a text for the files that are not read."""
    from asif.pairs.image_files import summarise_unread, walk_images

    found = list(walk_images(folder, modality))
    images = sorted(Path(str(file)) for file, kind in found if kind is None)
    return images, summarise_unread(kind for _, kind in found if kind is not None)


def _expand_glob(pattern: str) -> tuple[list[Path], tuple[str, ...]]:
    """Expand a pattern that the shell did not expand; what it matches besides files is not read."""
    from glob import glob

    from asif.pairs.image_files import summarise_unread

    found = [Path(path) for path in sorted(glob(pattern, recursive=True))]
    kinds = ("folder" if path.is_dir() else "link or special file" for path in found if not path.is_file())
    return [path for path in found if path.is_file()], summarise_unread(kinds, "path")
