#!/usr/bin/env python3
"""Starts a training run whose metrics trackio keeps in this sandbox, from where modal-sb sends them to a Space.

In Python:

    import sys
    sys.path.insert(0, "/app/.claude/scripts")
    from setup_trackio import setup_trackio

    run_dir = setup_trackio("my-project", "owner/space")

From a shell, for a program that starts trackio itself: it prints the run's folder.

    python3 /app/.claude/scripts/setup_trackio.py my-project owner/space

Needs Python 3.10 and trackio; no token, no network.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import os
import pathlib
import re
import sys
import tempfile
import time

TRACKIO_VERSION = "0.43.0"

# trackio drops other characters, so that two names would share a database; 100 leaves room for what is added to it
PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SPACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")

# trackio's SQLiteStorage.validate_project_name: its names for registries, and for files beside a project's database
RESERVED_PREFIX = "registry-"
RESERVED_SUFFIXES = (
    "_system",
    "_configs",
    "_traces",
    "_artifacts",
    "_artifact_versions",
    "_artifact_aliases",
    "_run_artifact_links",
    "_external_run_artifact_links",
)

# what makes trackio.init talk to a server, as arguments and as variables of the environment
REMOTE_ARGUMENTS = ("space_id", "server_url", "bucket_id", "dataset_id")
REMOTE_VARIABLES = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID")


def setup_trackio(project: str, space_id: str | None = None) -> pathlib.Path:
    """Begins a run and returns its folder, `/data/runs/<project>-<UTC time>`, in which there is a folder `checkpoint`.

    The run is trackio's current one, and has the folder's name. `space_id` ("owner/name") is the Space that the user
    wants the project's metrics in; without it the user's settings decide, or what was named before for this project.
    The first Space that is named also gets the projects for which none is named.

    From here on `trackio.init` of this process keeps to this sandbox, whatever Space or server it is given. With the
    project and the name of the run that was begun, and that has no row yet, it returns that run; of what else it is
    given only `config` counts then. Once there are rows, resume="allow" goes on with it, as everywhere in trackio.

    Raises ValueError for a name that cannot be used, ImportError without trackio, OSError when a folder cannot be written.
    """
    _check_project(project)
    if space_id is not None:
        _check_space(space_id)
    trackio = _import_trackio()
    if space_id is not None:
        _name_space(project, space_id)
    run_dir = _make_run_folder(project)
    _keep_local(trackio)
    trackio.init(project=project, name=run_dir.name)
    return run_dir


def _check_project(project: str) -> None:
    if not isinstance(project, str):
        raise ValueError(f"project must be a string, and is {type(project).__name__}")
    if not PROJECT_NAME.fullmatch(project):
        raise ValueError(
            "project must be 1 to 100 letters (a to z), digits, '-' and '_', and begin with a letter or a digit; "
            f"it is {project[:120]!r}"
        )
    if project.startswith(RESERVED_PREFIX):
        raise ValueError(f"project must not begin with {RESERVED_PREFIX!r}: trackio keeps such names for registries")
    for suffix in RESERVED_SUFFIXES:
        if len(project) > len(suffix) and project.endswith(suffix):
            raise ValueError(f"project must not end with {suffix!r}: trackio gives such names to files of its own")


def _check_space(space_id: str) -> None:
    if not isinstance(space_id, str):
        raise ValueError(f"space_id must be a string or None, and is {type(space_id).__name__}")
    if not SPACE_NAME.fullmatch(space_id):
        raise ValueError(f"space_id must be owner/name, as in 'acme/metrics', and no URL; it is {space_id[:220]!r}")


def _import_trackio():
    try:
        import trackio
    except ModuleNotFoundError as error:
        if error.name != "trackio":
            raise
        raise ImportError(f"trackio is not installed: pip install trackio=={TRACKIO_VERSION}", name="trackio") from error
    return trackio


def _name_space(project: str, space_id: str) -> None:
    """Writes the Space's name where modal-sb reads it: for the project, and for all that have none when it is the first."""
    folder = _folder("MODAL_SB_TRACKIO_FOLDER", "/trackio")
    (folder / "spaces").mkdir(parents=True, exist_ok=True)
    _put(folder, folder / "spaces" / project, space_id)
    default = folder / "space_id"
    if not (default.is_file() and default.read_bytes().strip()):
        _put(folder, default, space_id)


def _put(folder: pathlib.Path, path: pathlib.Path, word: str) -> None:
    """Replaces the file as a whole: whoever reads it meanwhile sees the old word or the new one."""
    descriptor, draft = tempfile.mkstemp(prefix=".setup-trackio-", dir=folder)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{word}\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _make_run_folder(project: str) -> pathlib.Path:
    runs = _folder("MODAL_SB_DATA_FOLDER", "/data") / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    name = f"{project}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    number = 1
    while True:
        run_dir = runs / (name if number == 1 else f"{name}-{number}")
        try:
            run_dir.mkdir()
            break
        except FileExistsError:
            number += 1
    (run_dir / "checkpoint").mkdir()
    return run_dir


def _folder(variable: str, default: str) -> pathlib.Path:
    return pathlib.Path(os.environ.get(variable) or default)


def _keep_local(trackio) -> None:
    """Makes `trackio.init` keep to this sandbox.

    There is no token here to reach a Space with. transformers before 5.6.0 names one all the same (trackio_space_id is
    "trackio" by default), and trackio.init would raise.
    """
    original = trackio.init
    if getattr(original, "keeps_local", False):
        return
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(*args, **kwargs):
        given = dict(signature.bind(*args, **kwargs).arguments)
        dropped = [name for name in REMOTE_ARGUMENTS if given.pop(name, None) is not None]
        dropped += [name for name in REMOTE_VARIABLES if os.environ.pop(name, None) is not None]
        if dropped:
            print(f"* {', '.join(dropped)}: not used. Metrics stay in this sandbox, and modal-sb sends them to the Space")
        run = trackio.context_vars.current_run.get()
        is_begun = run is not None and (run.project, run.name) == (given["project"], given.get("name"))
        # true after the first row; a trackio that no longer has it does as it does without us
        if not is_begun or getattr(run, "_config_logged", True):
            return original(**given)
        # trackio finds a run by its rows, and would begin a second one of this name while it has none. Some of its system
        # metrics may be under way already: so it is this very run that goes on
        print(f"* Goes on with the run that was begun: {run.name}")
        run.config.update(given.get("config") or {})
        return run

    init.keeps_local = True
    trackio.init = init


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="setup_trackio.py",
        description="Make the folder of a new training run, name the Space that its metrics are for, and print the folder.",
        epilog='Then: trackio.init(project=<project>, name=<name of the folder>, resume="allow")',
    )
    parser.add_argument("project", help="letters, digits, - and _")
    parser.add_argument("space_id", nargs="?", metavar="owner/name", help="the Space; default: the user's settings decide")
    given = parser.parse_args()
    try:
        # trackio's own words are for people, the folder for a program
        with contextlib.redirect_stdout(sys.stderr):
            run_dir = setup_trackio(given.project, given.space_id)
            sys.modules["trackio"].finish()
    except ValueError as error:
        parser.error(str(error))
    except (ImportError, OSError) as error:
        sys.exit(f"setup_trackio.py: {error}")
    print(run_dir)


if __name__ == "__main__":
    main()
