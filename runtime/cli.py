"""The line's commands, with those of `runtime.triggered.cli` and `runtime.swap.cli`: demo, inspect, run, watch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cuda import CUDA_APIS, DEFAULT_API, CudaApi
from runtime.metallography import app as metallography_commands
from runtime.swap.cli import app as swap_commands
from runtime.triggered.cli import app as triggered_commands

app = typer.Typer(no_args_is_help=True)
app.add_typer(triggered_commands)
app.add_typer(swap_commands)
app.add_typer(metallography_commands)

SHIPPED = Path(__file__).resolve().parent.parent / "models"
"""The bundles of a source checkout."""


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="Length of the run at line speed, in seconds.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Folder for summary, map and pictures; emptied first.")] = Path("out/demo"),
    bundle: Annotated[Path, typer.Option(help="Strip bundle.")] = SHIPPED / "strip",
    backend: Annotated[str, typer.Option(help="Inference backend.")] = "openvino",
    speed_mps: Annotated[
        float,
        typer.Option(min=0.1, help="Strip speed in m/s; too fast for this machine and frames are missed."),
    ] = 5.0,
    seed: Annotated[int, typer.Option(help="Another seed is another strip.")] = 20_261_120,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """One synthetic strip with planted defects through the whole line.

    Three processes: the camera, the station, and a subscriber that sees nothing but the published messages. What
    it received is then held against what was planted.
    """
    from rich.console import Console

    from runtime.demo.play import run_demo
    from runtime.demo.report import show_summary
    from runtime.demo.settings import DemoSettings

    console = Console(stderr=as_json)
    settings = DemoSettings(bundle, out, seconds, backend, seed, speed_mps)
    summary = run_demo(settings, console)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        show_summary(summary, console)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The line; see examples/strip_line.toml.")],
    station: Annotated[str | None, typer.Option(help="Only this station.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the configuration and the bundles, then leave.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Events as JSON lines on stdout: ready, run_ended.")] = False,
) -> None:
    """Run a line until its cameras end, or until Ctrl-C or SIGTERM, after which what was grabbed is still inspected.

    Exit code 0 when every frame was inspected, 1 when some were missed, 2 when it could not run.
    """
    from runtime.station import run_line

    sys.exit(run_line(config, only=station, check=check, as_json=as_json))


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, or folders of images at any depth.")],
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The bundle to inspect with, of any task.",
            show_default="what inspect.toml in the folder says, else the shipped strip bundle",
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="Inference backend: openvino, onnxruntime.")] = "openvino",
    precision: Annotated[
        str | None, typer.Option(help="int8, fp16, fp32 or fp8; the bundle's own preference if not given.")
    ] = None,
    cuda_api: Annotated[str, typer.Option(help=f"By what a GPU is driven: {', '.join(CUDA_APIS)}.")] = DEFAULT_API,
    out: Annotated[Path, typer.Option(help="Folder for results.jsonl, pictures and reports.")] = Path("out/inspect"),
    overlays: Annotated[str, typer.Option(help="Which pictures are drawn: defective, all, none.")] = "defective",
    batch: Annotated[int, typer.Option(min=1, max=64, help="Pictures of one size that go in together.")] = 4,
    mm_per_px: Annotated[
        float | None, typer.Option(min=1e-6, max=100, help="Scale; without it no millimetres.")
    ] = None,
    thickness_mm: Annotated[
        float | None, typer.Option(min=1e-3, max=200, help="Thickness of the specimens (fracture).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Inspect images with a bundle of any task: the wire's own messages, and pictures, masks or reports.

    A folder may hold `inspect.toml` (bundle, facts, rules), and a picture may have its facts beside it: scale,
    thickness and notch side in `NAME.toml` for `NAME.png`. Options given here come before `inspect.toml`.

    Exit code 0 when every image was inspected, 1 when some could not be read or had the wrong size (each is in
    results.jsonl as missed), 2 when nothing could be done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from runtime.bundle import open_bundle
    from runtime.folder_settings import read_folder_settings
    from runtime.inspect_files import InspectSettings, inspect_paths

    console = Console(stderr=True)
    folder = read_folder_settings(paths)
    given = {"mm_per_px": mm_per_px, "thickness_mm": thickness_mm}
    settings = InspectSettings(
        backend=backend,
        precision=_one_of("--precision", precision, ("int8", "fp16", "fp32", "fp8", None)),
        batch=batch,
        cuda_api=_one_of("--cuda-api", cuda_api, tuple(CUDA_APIS)),
        facts=folder.facts.model_copy(update={key: value for key, value in given.items() if value is not None}),
        rules=folder.rules,
        overlays=_one_of("--overlays", overlays, ("defective", "all", "none")),
    )
    columns = (TextColumn("inspecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json) as progress:
        task = progress.add_task("inspecting", total=None)
        summary = inspect_paths(
            paths,
            open_bundle(bundle or folder.bundle or SHIPPED / "strip"),
            out,
            settings,
            progress=lambda done, total, _: progress.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps(summary.as_json(), indent=2))
    else:
        counted = {**summary.verdicts, **summary.defects}
        found = ", ".join(f"{count} {name}" for name, count in counted.items()) or "nothing"
        console.print(
            f"{summary.inspected} of {summary.images} images inspected with {summary.bundle} on {summary.backend} "
            f"({summary.precision}): {found}.",
            highlight=False,
        )
        if summary.missed:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary.missed_by_reason.items())
            console.print(f"[bold red]{summary.missed} images were not inspected:[/] {reasons}.")
        for what, place in {"messages": summary.results, **summary.files}.items():
            console.print(f"{what.capitalize() + ':':<10}{place}", highlight=False)
    sys.exit(summary.exit_code)


def _one_of(option: str, value: str | None, allowed: tuple[Any, ...]) -> Any:
    """The value of an option that takes only certain words."""
    if value not in allowed:
        words = ", ".join(word for word in allowed if word is not None)
        raise typer.BadParameter(f"found {value!r}, expected one of {words}", param_hint=option)
    return value


@app.command()
def watch(
    endpoint: Annotated[str, typer.Argument(help="The station's PUB endpoint.")] = "tcp://127.0.0.1:5556",
    replay: Annotated[
        str | None, typer.Option(help="Its replay endpoint.", show_default="the port after the PUB endpoint's")
    ] = None,
    station: Annotated[str | None, typer.Option(help="Its name.", show_default="the first that is heard")] = None,
    since: Annotated[
        int | None,
        typer.Option(min=-1, help="The last sequence not to show; -1 shows all.", show_default="from now on"),
    ] = None,
    show: Annotated[str, typer.Option(help="Which frames get a line: all, defective.")] = "all",
    until_run_ended: Annotated[
        bool, typer.Option("--until-run-ended", help="Leave after the next end of a run.")
    ] = False,
    server_key: Annotated[Path | None, typer.Option(help="The station's public key file, where it encrypts.")] = None,
    own_key: Annotated[
        Path | None, typer.Option(help="Your own secret key file, where the station lists its clients.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Messages as JSON lines, as they are on the wire.")] = False,
) -> None:
    """Show results as they come, and what had to be recovered from the journal; Ctrl-C leaves."""
    from rich.console import Console

    from runtime.delivery.sockets import CurveClient
    from runtime.watch.command import replay_beside
    from runtime.watch.command import watch as watch_station

    watch_station(
        endpoint,
        replay or replay_beside(endpoint),
        console=Console(),
        station=station,
        after=since,
        as_json=as_json,
        show=_one_of("--show", show, ("all", "defective")),
        until_run_ended=until_run_ended,
        curve=None if server_key is None else CurveClient(server_key, own_key),
    )


@app.command()
def report(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="The station's journal; it may be in use.")],
    out: Annotated[Path, typer.Option(help="Folder for the reports.")] = Path("out/reports"),
    station: Annotated[str | None, typer.Option(help="Its name.", show_default="the only one")] = None,
    specimen: Annotated[str | None, typer.Option(help="Only this specimen.")] = None,
    sequence: Annotated[int | None, typer.Option(min=0, help="Only the message of this number.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder with the pictures.", show_default="where they lay when scored")
    ] = None,
) -> None:
    """Write the report of each drop-weight tear test specimen, with what an operator said of it since.

    Exit code 0 when every specimen has its report, 1 when some have none, because their picture is gone or another.
    """
    from runtime.specimen_reports import Wanted, write_reports

    written = list(write_reports(journal, out, Wanted(station, specimen, sequence, pictures)))
    for each in written:
        name = each.message.facts.specimen or f"number {each.message.sequence}"
        typer.echo(f"{name}: {each.path or 'no report: ' + each.fault}")
    if not written:
        typer.echo(f"journal {journal}: found no such specimen.", err=True)
    sys.exit(0 if written and all(each.path is not None for each in written) else 1)


@app.command()
def doctor(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="A bundle to look into, plans and all.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A line's TOML file: its cameras, ports, bundles and backends too.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="A backend that is to work here; repeatable.", show_default="those of --config, else openvino"
        ),
    ] = None,
    cuda_api: Annotated[
        str | None,
        typer.Option(help=f"By what a GPU is to be driven: {', '.join(CUDA_APIS)}.", show_default="that of --config"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """What this machine has, what is wrong with it, and what to do: Python, GPU, TensorRT, cameras, ports, bundles.

    What is not asked for is a note and no problem: a machine without a GPU is healthy unless a backend needs one. Exit
    code 0 when there is no problem, 1 when there is one.
    """
    from rich.console import Console

    from runtime.backends import DEFAULT_BACKEND
    from runtime.config import read_config
    from runtime.doctor.report import Asked, examine, is_healthy, show, to_json

    line = None if config is None else read_config(config)
    wanted = set(backend or ()) | ({station.backend for station in line.stations} if line is not None else set())
    driven: set[CudaApi] = set() if line is None else {station.cuda_api for station in line.stations}
    if cuda_api is not None:
        driven = {_one_of("--cuda-api", cuda_api, tuple(CUDA_APIS))}
    asked = Asked(
        bundles=() if bundle is None else (bundle,),
        line=line,
        backends=frozenset(wanted or {DEFAULT_BACKEND}),
        cuda_apis=frozenset(driven or {DEFAULT_API}),
    )
    findings = examine(asked)
    if as_json:
        typer.echo(to_json(findings))
    else:
        show(findings, Console())
    sys.exit(0 if is_healthy(findings) else 1)
