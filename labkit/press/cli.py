"""The command line: report, sync, lab, run, claims, env.

Nothing heavy is imported before a command needs it, so that `labkit --help` is instant.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Geometry of the nonlinear Jacobian chain: lessons, reports, measurements.",
)  # fmt: skip
Root = Annotated[Path | None, typer.Option(help="The checkout; by default the one around the current folder.")]
Given = Annotated[list[str], typer.Option("-p", "--parameter", help="name=value of the lesson's parameters cell.")]
Limit = Annotated[float, typer.Option(help="Seconds a cell may take.")]


@app.command()
def report(
    only: Annotated[list[str] | None, typer.Argument(help="Ids of lessons, such as A1; all by default.")] = None,
    profile: Annotated[str, typer.Option(help="fast or full.")] = "fast",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    parameter: Given = [],  # noqa: B006 (typer reads it, nobody writes it)
    out: Annotated[Path | None, typer.Option(help="Folder; by default report/ of the checkout.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also run lessons that have not changed.")] = False,
    timeout: Limit = 600.0,
    root: Root = None,
) -> None:
    """Run the lessons headlessly and bind them into one page."""
    from labkit.press.report import build
    from labkit.press.run import execute_all
    from labkit.press.shelf import find_lesson, find_root, lessons

    top = find_root(root)
    chosen = [find_lesson(top, name) for name in only] if only else lessons(top)
    folder = out or top / "report"
    given = _pairs(parameter) | _unless(profile, "fast", "profile") | _unless(device, "cpu", "device")
    runs = execute_all(chosen, folder / "executed", given, timeout=timeout, again=again)
    page, honest = build(runs, folder)
    typer.echo(page)
    raise typer.Exit(0 if honest else 1)


@app.command()
def run(
    lesson: Annotated[str, typer.Argument(help="A1, A1_jacobian_chain or a path.")],
    parameter: Given = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder; by default report/executed of the checkout.")] = None,
    timeout: Limit = 600.0,
    root: Root = None,
) -> None:
    """Run one lesson headlessly; the last line names the executed notebook."""
    from labkit.press.run import execute_all
    from labkit.press.shelf import find_lesson, find_root

    top = find_root(root)
    found = find_lesson(top, lesson)
    result = execute_all([found], out or top / "report" / "executed", _pairs(parameter), timeout=timeout, again=True)[0]
    typer.echo(result.path)
    raise typer.Exit(1 if result.trouble else 0)


@app.command()
def sync(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where the two sides differ.")] = False,
    keep: Annotated[str | None, typer.Option(help="source or notebook: the side that wins where both changed.")] = None,
    root: Root = None,
) -> None:
    """Make each notebook and its percent script agree."""
    from labkit.press.shelf import find_root, lessons
    from labkit.press.sync import sync as sync_one

    if keep not in (None, "source", "notebook"):
        raise ValueError(f"--keep is {keep!r}; source or notebook would do.")
    side: Literal["source", "notebook"] | None = "source" if keep == "source" else "notebook" if keep else None
    top = find_root(root)
    bad = False
    for lesson in lessons(top):
        action = sync_one(lesson, keep=side, check=check).action
        if action:
            typer.echo(f"{lesson.stem}: {action}" + (" (not yet)" if check and action != "both changed" else ""))
        if action == "both changed":
            typer.echo(f"  compare {lesson.source} and {lesson.notebook}, then sync --keep source or --keep notebook")
        bad |= action == "both changed" or (check and bool(action))
    raise typer.Exit(1 if bad else 0)


@app.command()
def lab(
    work: Annotated[Path | None, typer.Option(help="The working copy; by default work/ of the checkout.")] = None,
    start: Annotated[bool, typer.Option(help="Open JupyterLab, or only bring the copy up to date.")] = True,
    root: Root = None,
) -> None:
    """Open JupyterLab in a working copy of the lessons that no update overwrites."""
    from labkit.press.shelf import find_root
    from labkit.press.workcopy import open_lab, refresh

    top = find_root(root)
    folder = work or top / "work"
    for line in refresh(top, folder):
        typer.echo(line)
    if start:
        open_lab(folder)


@app.command()
def claims() -> None:
    """List the claims: what is said, by whom, and what is expected of it."""
    from labkit.lessons.claims import entries

    for claim_id, entry in entries().items():
        typer.echo(f"{claim_id:<18} {entry.expected:<6} {entry.statement} ({entry.source})")
    typer.echo(f"{len(entries())} claims; `labkit report` measures them.")


@app.command()
def env() -> None:
    """Print versions, device and threads, for a bug report."""
    from labkit.press.surroundings import surroundings

    for name, value in surroundings().items():
        typer.echo(f"{name:<10} {value}")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = dict(item.partition("=")[::2] for item in given)
    for item in given:
        if "=" not in item:
            raise ValueError(f"parameter {item!r} is no name=value, such as depth=20.")
    return pairs


def _unless(value: str, default: str, name: str) -> dict[str, str]:
    return {} if value == default else {name: value}


def main() -> None:
    """Entry point: expected trouble becomes one line on stderr and exit status 2, Ctrl-C 130."""
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # by version of typer, an exception or the code 130
        code = 130
    except Exception as error:
        if hasattr(error, "show"):  # typer's own complaint about the command line
            error.show()
        elif isinstance(error, ValueError | OSError | RuntimeError):
            typer.echo(f"labkit: {error}", err=True)
        else:
            raise
        code = 2
    if code == 130:
        typer.echo("stopped; what was finished is kept, and the same command goes on from there.", err=True)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
