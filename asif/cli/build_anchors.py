"""asif build-anchors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.cli.build_summary import describe_stages, summarise_stages
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.building import BuildResult
    from asif.building.recipe import PairsRecipe

_PAIRS_ONLY = (
    *(
        "image_encoder",
        "audio_encoder",
        "captions",
        "captions_from",
        "template",
        "columns",
        "split",
        "dedup",
        "resume",
        "max_bad_rows",
    ),
    *("limit", "dry_run", "recipe", "engine", "actors", "address", "shard_rows", "exchange"),
)
_IN_RECIPE = ("image_encoder", "text_encoder", "audio_encoder", "captions", "columns", "limit")


@click.command("build-anchors")
@click.argument("pairs", required=False, metavar="PAIRS")
@click.option("--name", required=True, help="Name of the anchor set; an existing set gets a new version.")
@click.option(
    "--recipe", metavar="R", help="Encoders, columns, captions and limit of a recipe: its name, or the path of a file."
)
@click.option(
    "--image-encoder",
    metavar="E",
    help="timm:<model>[@rev] or embedded:efficientnet-lite0 (the default); several are joined: E+E.",
)
@click.option(
    "--text-encoder",
    metavar="E",
    help="sentence-transformers:<id>[@rev], embedded:all-minilm-l6-v2 (the default) or embedded:bge-small-en.",
)
@click.option(
    "--audio-encoder",
    metavar="E",
    help="For sounds: clap:<id>[@rev], whisper:<id>[@rev], hf-audio:<id>[@rev] or embedded:log-mel.",
)
@click.option(
    "--captions",
    type=click.Choice(["mean", "first", "all"]),
    default="mean",
    show_default=True,
    help="Several captions per image: their mean, the first, or one anchor for each.",
)
@click.option("--dtype", type=click.Choice(["float16", "float32", "bfloat16"]), default="float16", show_default=True)
@options.rows
@options.workers
@click.option("--from-head", metavar="E", help="Instead of PAIRS: the classes of a classifier, such as timm:resnet50.")
@options.device
@options.backend
@options.precision
@options.home
@options.as_json
def command(pairs: str | None, from_head: str | None, as_json: bool, dry_run: bool, **params: Any) -> None:
    """Make an anchor set from image-text PAIRS, or from sound-text PAIRS.

    PAIRS is a parquet file (Hugging Face, img2dataset, image paths, precomputed vectors), a folder of parquet shards,
    a folder with metadata.csv, metadata.tsv or metadata.jsonl, webdataset tars, or a folder with img_emb_*.npy and
    text_emb_*.npy: here, or at a URL that fsspec knows, such as s3://, gs://, hf:// or https://. Rows that follow each
    other and have the same id and image are one pair with all their captions.
    """
    from asif.anchorset.format.references import check_set_name

    check_set_name(params["name"])
    if (pairs is None) == (from_head is None):
        raise UsageError(
            "PAIRS and --from-head" if pairs else "neither PAIRS nor --from-head",
            "one of the two",
            "asif build-anchors pairs.parquet --name NAME",
        )
    if pairs is None:
        _refuse_pairs_options()
        _build_from_head(str(from_head), as_json, params)
    else:
        _build_from_pairs(pairs, as_json, dry_run, params)


def _refuse_pairs_options() -> None:
    """Refuse options that have no effect with --from-head; raises UsageError."""
    unused = options.list_given_options(_PAIRS_ONLY)
    if unused:
        raise UsageError(
            f"--from-head with {', '.join(unused)}",
            "--from-head with --text-encoder, --dtype, --device, --backend, --precision, --home and --json at most",
            "leave the others out: a classifier's head has no images, and one caption for each class",
        )


def _build_from_pairs(path: str, as_json: bool, dry_run: bool, params: dict[str, Any]) -> None:
    """Describe the pairs, then build."""
    from asif.building import BuildOptions, Tolerance
    from asif.building.estimate import estimate_build
    from asif.encoders import DEFAULT_ENCODERS, check_spec
    from asif.engine.build import choose_first_encoder
    from asif.pairs import open_pairs

    tolerance, sharding = Tolerance.parse(params["max_bad_rows"]), options.make_sharding(params)
    if not dry_run:
        options.open_store(params["home"]).check_writable()
    recipe = None if params["recipe"] is None else _read_compatible_recipe(params["recipe"])
    image, text = (
        params["image_encoder"] or DEFAULT_ENCODERS["image"],
        params["text_encoder"] or DEFAULT_ENCODERS["text"],
    )
    columns, limit = options.parse_columns(params["columns"]), params["limit"]
    if recipe is not None:
        image, text = recipe.encoders["image"], recipe.encoders["text"]
        columns, limit = dict(recipe.columns), recipe.limit
        options.print_notice(recipe.describe())
    audio = params["audio_encoder"]
    if audio is not None and params["image_encoder"] is not None:
        raise UsageError("--image-encoder and --audio-encoder", "one of the two", "leave one out")
    check_spec(image, "image")
    check_spec(text, "text")
    if audio is not None:
        check_spec(audio, "audio")
    source = open_pairs(
        path,
        columns=columns,
        split=params["split"],
        captions_from=params["captions_from"],
        template=params["template"],
        modality=audio and "audio",
    )
    options.print_notice(source.describe())
    image = choose_first_encoder(source, image, audio)
    estimated = estimate_build(source, image, text, params["dtype"], limit, _store_folder(params))
    if dry_run:
        if as_json:
            options.print_json(estimated.as_dict())
        else:
            options.print_lines(estimated.as_text())
        return
    from asif.engine import build_anchors, build_from_recipe

    with options.open_progress_bar(estimated.rows, "pair") as bar:
        arguments: dict[str, Any] = {
            "audio_encoder" if source.modality == "audio" else "image_encoder": image,
            "options": BuildOptions(
                params["captions"], params["dtype"], params["dedup"], limit, tolerance, params["resume"]
            ),
            "home": params["home"],
            "device": params["device"],
            "backend": params["backend"],
            "precision": params["precision"],
            "progress": lambda rows: bar.update(rows - bar.n),
            "sharding": sharding,
        }
        if recipe is None:
            built = build_anchors(source, params["name"], text_encoder=text, **arguments)
        else:
            del arguments["image_encoder"]  # the recipe's own
            built = build_from_recipe(recipe, source, params["name"], **arguments)
    _print_build(built, as_json, _store_folder(params))


def _read_compatible_recipe(name_or_path: str) -> PairsRecipe:
    """Read a recipe of pairs; raises UsageError if options contradict it, or if it is a recipe of a head."""
    from asif.building.recipe import PairsRecipe
    from asif.building.recipe_file import find_recipe

    contradicting = options.list_given_options(_IN_RECIPE)
    if contradicting:
        raise UsageError(
            f"--recipe with {', '.join(contradicting)}",
            "encoders, columns, captions and limit from the recipe alone: a changed recipe is not that recipe",
            "leave the others out, or copy the recipe's file, change it and give its path",
        )
    recipe = find_recipe(name_or_path)
    if not isinstance(recipe, PairsRecipe):
        raise UsageError(
            f"the recipe {recipe.name} is of a classifier's head",
            "a recipe of pairs: see asif anchors recipes",
            f"leave PAIRS and --recipe out, and give --from-head {recipe.encoders['image']}",
        )
    return recipe


def _build_from_head(encoder: str, as_json: bool, params: dict[str, Any]) -> None:
    """Build anchors from a classifier's head."""
    from asif.anchorset import Store
    from asif.building.head import HEAD_CAPTIONS
    from asif.building.recipe import HeadRecipe
    from asif.encoders import DEFAULT_ENCODERS
    from asif.engine import build_from_head

    text = params["text_encoder"] or DEFAULT_ENCODERS["text"]
    recipe = HeadRecipe(
        name=params["name"],
        about=f"the head of {encoder}",
        encoders={"image": encoder, "text": text},
        captions=HEAD_CAPTIONS,
    )
    how = (params["device"], params["backend"], params["dtype"], params["precision"])
    built = build_from_head(recipe, Store(_store_folder(params)), *how)
    _print_build(built, as_json, _store_folder(params))


def _print_build(built: BuildResult, as_json: bool, home: Path) -> None:
    """Print the size, digest and speed of a build."""
    from asif.anchorset import Store

    anchors, manifest, clock = built.anchors, built.anchors.manifest, built.clock
    size = Store(home).size(anchors.name)
    if as_json:
        options.print_json(
            {
                "name": anchors.name,
                "version": anchors.version,
                "digest": anchors.digest,
                "anchors": anchors.count,
                "rows_in": manifest.rows_in + built.joined,
                "rejected": manifest.rejected,
                **({"joined": built.joined} if built.joined else {}),
                "resumed_at_row": built.resumed_at,
                "already_built": built.already_built,
                **summarise_stages(built),
                "bytes": size,
                **({"captions_cut": clock.cut_texts} if clock.cut_texts else {}),
            }
        )
        return
    options.print_text(f"{anchors.ref}: {anchors.count:,} anchors, digest {anchors.digest[:12]}")
    counts = f"{manifest.rows_in + built.joined:,} in = {anchors.count:,} kept + {manifest.rejected:,} rejected"
    if built.joined:
        counts += f" + {built.joined:,} joined (further captions of the same id and image)"
    options.print_text(f"  {counts}; {options.format_bytes(size)} on disk")
    if built.already_built:
        options.print_notice("  built already, from this input, by these encoders and options; --fresh builds it again")
    if built.rows:
        options.print_lines(describe_stages(built))
    if built.resumed_at:
        options.print_text(f"  went on at row {built.resumed_at:,} of an earlier run")
    if manifest.rejects is not None:
        path = home / "anchors" / anchors.name / "rejects" / f"{manifest.rejects.sha256}.jsonl"
        options.print_text(f"  rejected rows and reasons: {path}")


def _store_folder(params: dict[str, Any]) -> Path:
    """Return the folder of the store."""
    from asif.anchorset import default_home

    return params["home"] or default_home()
