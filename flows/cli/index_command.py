"""The `index` command."""

from __future__ import annotations

from flows.cli.app import app, load_settings, options
from flows.cli.shared_options import StoreOption


@app.command()
def index(
    store: StoreOption = None,
) -> None:
    """Build the geoparquet mirror anew, for searches by DuckDB, pyarrow or rustac."""
    from flows.cli.output import print_json, say
    from flows.errors import SettingsError
    from flows.publish.mirror import rebuild_mirror
    from flows.stac.layout import CATALOG_KEY
    from flows.wiring import Wiring

    wiring = Wiring(load_settings(store=store))
    if wiring.store.find_object(CATALOG_KEY) is None:
        raise SettingsError(
            f"store {wiring.store.url} holds no catalog of masks: "
            "run cloudmask ingest first, or name another --store"
        )
    report = rebuild_mirror(wiring.store, wiring.publisher)
    if options.json:
        print_json(report.as_json())
        return
    say(
        f"{report.items} items in {len(report.keys)} file{'s' * (len(report.keys) != 1)}; "
        f"{report.retired} older parts removed"
    )
    for key in report.keys:
        say(f"{wiring.store.url}/{key}")
