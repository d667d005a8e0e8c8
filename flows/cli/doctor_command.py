"""The `doctor` command."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.app import EXIT_FAILED, app, load_settings, options
from flows.cli.shared_options import StoreOption


@app.command()
def doctor(
    store: StoreOption = None,
    method: Annotated[str | None, typer.Option(help="s2cloudless, cloud-score-plus or csmask")] = None,
) -> None:
    """Say what works of settings, credentials, endpoints and store, and how to mend what does not."""
    from flows.cli.output import print_json, print_table
    from flows.doctor import examine
    from flows.wiring import Wiring

    findings = list(examine(Wiring(load_settings(store=store, method=method))))
    healthy = all(finding.works for finding in findings if finding.needed)
    if options.json:
        rows = [
            {"what": finding.what, "verdict": finding.verdict, "detail": finding.detail}
            for finding in findings
        ]
        print_json({"healthy": healthy, "findings": rows})
    else:
        table = [(finding.what, finding.verdict, finding.detail) for finding in findings]
        print_table("cloudmask doctor", ("what", "verdict", "detail"), table)
    if not healthy:
        raise typer.Exit(EXIT_FAILED)
