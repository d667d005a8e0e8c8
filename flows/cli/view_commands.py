"""Commands that look at published masks: `view` and `stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, load_settings, options
from flows.cli.shared_options import CatalogOption, FilesOption


@app.command()
def view(
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Id of a published item.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Default: the item's id, in this folder.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=10980, help="Longer edge in pixels, at most.")] = 1098,
    files: FilesOption = None,
    store: CatalogOption = None,
) -> None:
    """Draw a scene in true colour, its clouds and shadows outlined."""
    from flows.cli.output import print_json, say
    from flows.library import find_item
    from flows.view import draw_view

    target = _check_out(out or Path(f"{item}.png"))
    found = find_item(item, store=store or load_settings().store)
    drawn = draw_view(found, size, files)
    _write_out(target, drawn.png)
    names = ("cloud", "shadow", "clear")
    shares = {f"{name}_percentage": found.properties.get(f"cloudmask:{name}_percentage") for name in names}
    if options.json:
        print_json({"id": found.id, "out": str(target), "shape": list(drawn.shape), **shares})
    else:
        told = ", ".join(
            f"{share:.1f} % {name}"
            for name, share in zip(names, shares.values(), strict=True)
            if share is not None
        )
        height, width = drawn.shape
        say(f"{target}: {width} x {height} pixels; {told}")


@app.command()
def stats(
    tile: Annotated[list[str] | None, typer.Option(metavar="TILE…", help="Default: all tiles.")] = None,
    datetime: Annotated[str | None, typer.Option(metavar="INTERVAL", help="2018, 2018-12, 2018/..")] = None,
    max_cloud: Annotated[
        float, typer.Option(min=0, max=100, metavar="PCT", help="Cloud and shadow of a cloud-free scene.")
    ] = 20.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the calendar as a picture too.")
    ] = None,
    store: CatalogOption = None,
) -> None:
    """Count cloud-free scenes by tile and month."""
    from flows.adapters.stores import open_reader
    from flows.cli.calendar import build_rows, print_calendar
    from flows.cli.output import print_json
    from flows.observations import count_observations
    from flows.rendering.calendar import draw_calendar
    from flows.rendering.png import encode_picture
    from flows.scene.query import build_query
    from flows.search import find_published_items

    target = None if out is None else _check_out(out)
    query = build_query(tiles=tile or (), datetime=datetime)
    items = find_published_items(open_reader(store or load_settings().store), query)
    months = count_observations(items, max_cloud)
    title = f"Scenes with at most {max_cloud:g} % cloud and shadow, of all scenes"
    if target is not None:
        _write_out(target, encode_picture(draw_calendar(title, build_rows(months))))
    if options.json:
        print_json({"max_cloud_pct": max_cloud, "months": [month.as_json() for month in months]})
    else:
        print_calendar(title, months)


def _check_out(out: Path) -> Path:
    """``out``, where a PNG can be written to it."""
    from flows.errors import SettingsError

    if out.suffix.lower() != ".png":
        raise SettingsError(f"--out {out}: name a file that ends in .png")
    if not out.parent.is_dir():
        raise SettingsError(f"--out {out}: {out.parent} is no folder: make it first")
    return out


def _write_out(out: Path, png: bytes) -> None:
    from flows.errors import SettingsError

    try:
        out.write_bytes(png)
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written: {error.strerror or error}") from error
