"""Commands that say how good masks are: `evaluate`, and `prove` against the live services."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc_cloudmask.cli import options as opt
from pc_cloudmask.cli.app import (
    EXIT_USAGE,
    app,
    complain,
    exit_unless,
    load_settings,
    name_left_out,
    options,
    print_json,
    say,
)
from pc_cloudmask.errors import SettingsError

if TYPE_CHECKING:
    from pc_cloudmask.evaluate.evaluation import Comparison, Evaluation
    from pc_cloudmask.evaluate.labels import Confusion
    from pc_cloudmask.evaluate.masks import MaskChoice, MaskSource, SceneChoice
    from pc_cloudmask.evaluate.references import Reference
    from pc_cloudmask.settings import Settings

ScenesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ITEM",
        help="Ids of items, beginnings of them, or tile and day: 22KFV 2018-12-14; or an item's file.",
        autocompletion=opt.complete_item,
    ),
]
LabelsOption = Annotated[
    Path | None, opt.value("PATH", "Reference labels: a folder of GeoTIFFs, a GeoTIFF, or a CSV of points.")
]
ClassesOption = Annotated[
    str | None,
    opt.value(
        "FILE.toml|NAME",
        "What label values mean: a file, or cloudmask, cloudsen12, pixbox-s2-cmix.",
        autocompletion=opt.complete_names(lambda _: ("cloudmask", "cloudsen12", "pixbox-s2-cmix")),
    ),
]
CrsOption = Annotated[str | None, opt.value("EPSG:n", "CRS of points; default: longitude and latitude.")]
MasksOption = Annotated[Path | None, opt.value("PATH", "GeoTIFFs of masks, in place of published ones.")]
MethodsOption = Annotated[
    list[str] | None, opt.methods("Make the masks afresh, publish nothing; without labels, two are compared.")
]
BuffersOption = Annotated[
    list[str] | None, opt.values("M,…", "Judge masks with this buffer, in metres.", "--buffer")
]
PictureOption = Annotated[Path | None, opt.value("FILE.png|svg", "Draw where mask and reference differ.")]


@app.command()
def evaluate(
    item: ScenesArgument = None,
    labels: LabelsOption = None,
    classes: ClassesOption = None,
    crs: CrsOption = None,
    method: MethodsOption = None,
    buffer: BuffersOption = None,
    masks: MasksOption = None,
    items: opt.Items = None,
    tile: opt.Tile = None,
    datetime: opt.Datetime = None,
    picture: PictureOption = None,
    files: opt.Files = None,
    store: opt.Catalog = None,
) -> None:
    """Compare masks with reference labels, or the masks of two methods with each other."""
    from pc_cloudmask.catalog.layout import join_tiles_and_days
    from pc_cloudmask.evaluate.evaluation import list_choices
    from pc_cloudmask.evaluate.masks import SceneChoice
    from pc_cloudmask.evaluate.references import open_labels

    target = opt.check_out(picture, "--picture", opt.CHARTS)
    settings = load_settings()
    given = None if labels is None else open_labels(labels, classes, crs)
    choices = list_choices(method or (), _read_buffers(buffer), "published" if masks is None else "file")
    if given is None and len(choices) == 1 and method:
        choices = [*list_choices((), (), "published"), *choices]  # compared with what is published
    scenes = SceneChoice(item or (), tile or (), datetime, items, store or settings.store, files)
    source = _open_masks(masks, scenes, choices, settings)
    references = (
        None if given is None else given.match(source.ids, only=len(join_tiles_and_days(item or ())) == 1)
    )
    found = _compare(source, choices, references, target)
    print_json(found.as_json()) if options.json else _print(found)
    name_left_out(found.left_out)


def _compare(
    source: MaskSource,
    choices: Sequence[MaskChoice],
    references: Mapping[str, Reference] | None,
    picture: Path | None,
) -> Evaluation:
    """Compare the masks, and draw their differences into ``picture``."""
    from pc_cloudmask.evaluate.evaluation import Gallery
    from pc_cloudmask.evaluate.evaluation import evaluate as compare

    if picture is None:
        return compare(source, choices, references, None)
    scenes, judged = (
        (source.ids, math.comb(len(choices), 2)) if references is None else (references, len(choices))
    )
    gallery = Gallery(source, len(scenes) * judged)
    found = compare(source, choices, references, gallery.add)
    if gallery.rows:
        opt.write_out(picture, gallery.draw(picture.suffix), "--picture")
    return found


def _read_buffers(texts: list[str] | None) -> list[float]:
    try:
        buffers = [float(text) for text in texts or ()]
    except ValueError as error:
        raise SettingsError(
            f"--buffer {', '.join(texts or ())!r:.40}: write metres, such as 0 or 50"
        ) from error
    if not all(0 <= buffer <= 1000 for buffer in buffers):
        raise SettingsError(f"--buffer {', '.join(texts or ())}: must be 0 to 1000 metres")
    return buffers


def _open_masks(
    masks: Path | None, scenes: SceneChoice, choices: Sequence[MaskChoice], settings: Settings
) -> MaskSource:
    from pc_cloudmask.evaluate.masks import ItemMasks, MaskChoice, MaskFiles, find_subjects

    made = any(choice.method for choice in choices)
    if masks is not None:
        if made or scenes.items:
            raise SettingsError("--masks are there already: leave --method and --items out")
        return MaskFiles.open(masks, scenes.named)
    by_choice = {
        choice: load_settings(method=choice.method, buffer_m=choice.buffer_m)
        for choice in (MaskChoice(), *choices)
    }
    return ItemMasks(find_subjects(scenes, settings, needs_source=made), by_choice)


#: Columns of a table of scores, and the field of each.
_COLUMNS = ("IoU", "F1", "recall", "precision", "bal. acc.")
_FIELDS = ("iou", "f1", "recall", "precision", "balanced_accuracy")


def _print(found: Evaluation) -> None:
    from pc_cloudmask.cli.output import print_table
    from pc_cloudmask.evaluate.labels import TARGETS

    for comparison in found.comparisons:
        if not comparison.scenes:
            continue
        scenes = [(_shorten(name), each.confusion) for name, each in comparison.scenes.items()]
        total = [("in all", comparison.total)] if len(scenes) > 1 else []
        rows = [
            (name if target == "cloud" else "", target, *_list_scores(each, target))
            for name, each in (*scenes, *total)
            for target in TARGETS
        ]
        title = comparison.title if comparison.mask.method else comparison.title.capitalize()
        print_table(title, ("scene", "what", *_COLUMNS), rows)
        _print_counts(comparison)
    if len(found.comparisons) and not any(each.scenes for each in found.comparisons):
        say("nothing could be compared")


def _print_counts(comparison: Comparison) -> None:
    """Print the confusion of all scenes, and the number of its pixels."""
    from pc_cloudmask.cli.output import print_table

    total = comparison.total
    reference = comparison.reference.title if comparison.reference else "Label"
    rows = [(name, *map(str, counts)) for name, counts in total.list_rows()]
    print_table(f"{reference} by mask", ("what", "clear", "cloud", "shadow"), rows)
    agreement = "-" if total.agreement_pct is None else f"{total.agreement_pct:.2f} %"
    without = f"; {total.without_mask} more have no data in the mask" if total.without_mask else ""
    say(f"{agreement} of {total.judged} pixels are of the same class{without}")


def _list_scores(confusion: Confusion, target: str) -> list[str]:
    scores = confusion.score(target)
    values = [scores[name] for name in _FIELDS]
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _shorten(scene_id: str) -> str:
    """Return tile and day of an item if its id contains them, otherwise the id."""
    from pc_cloudmask.catalog.layout import find_day

    tile, day = re.search(r"_T([0-9]{2}[A-Z]{3})_", scene_id), find_day(scene_id)
    return f"{tile[1]} {day}" if tile and day else scene_id


@app.command()
def prove(
    item: Annotated[
        str | None, opt.value("ID|URL", "The item; default: the scene of the article that started this.")
    ] = None,
    items: opt.Items = None,
) -> None:
    """Compare a scene's mask made here with Earth Engine's and the tutorial's own, on the live services.

    Also reads its assets, and publishes into a temporary folder that is removed. A full tile costs about 13 requests
    and 92 MB of pixels from Earth Engine, a few MB of assets and 0.5 GB of memory here.
    Exit status 1 if anything differs.
    """
    from pc_cloudmask.evaluate.proof import METHOD
    from pc_cloudmask.evaluate.proof import prove as run_proof
    from pc_cloudmask.runs.context import RunContext
    from pc_cloudmask.scene.query import parse_ids

    item_id = None if item is None else parse_ids(item, "--item")[0]
    context = RunContext(load_settings(method=METHOD, compute="local"), items, read_only=True)
    with closing(context.session):
        found = run_proof(context, item_id)
    if options.json:
        print_json(found.as_json())
    else:
        for line in found.list_lines():
            say(line)
    if found.fault is not None:
        complain(found.fault)
        raise typer.Exit(EXIT_USAGE)
    exit_unless(found.holds)
