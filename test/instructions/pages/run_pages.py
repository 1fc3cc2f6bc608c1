"""Runs the blocks of pages in their order: each page in a process of its own, Python in one namespace, each shell block in a shell.

Argument: a JSON file, {"pages": [{"path", "blocks": [{"language", "code", "line", "reason"?}]}], "tiny": whether models are
wanted}. Prints a JSON object: {path: {"code": 0 when all ran, "output": text}}. A page ends at its first block that fails, and
says at which line that begins.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import traceback
import types

SECONDS = 240


def main() -> None:
    given = json.loads(pathlib.Path(sys.argv[1]).read_text())
    if given["tiny"]:
        # loaded once, for all that are forked from here; nothing is computed before: threads do not survive a fork
        import datasets  # noqa: F401
        import peft  # noqa: F401
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM, Trainer  # noqa: F401

        code, output = forked(make_tiny_things)
        if code != 0:
            sys.exit(output)
    print(json.dumps({page["path"]: dict(zip(("code", "output"), forked(run, page["blocks"]))) for page in given["pages"]}))


def make_tiny_things() -> None:
    import tiny_things

    tiny_things.make_all(pathlib.Path("/app"))


def forked(function, *arguments) -> tuple[int, str]:
    """Runs it in a child; what the child and its own children say goes to a file."""
    path = pathlib.Path("/tmp/output")
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = 1
        try:
            function(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), path.read_text(errors="replace")


def run(blocks: list) -> None:
    os.chdir("/app")
    # the module of a program: what is pickled by name, or not at all, is as it is in a file of its own
    sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = vars(sys.modules["__main__"])
    for block in blocks:
        if block.get("reason") is None:
            try:
                run_block(block, namespace)
            except BaseException:
                print(f"the {block['language']} block at line {block['line']} failed", flush=True)
                raise


def run_block(block: dict, namespace: dict) -> None:
    if block["language"] == "bash":
        sys.stdout.flush()
        subprocess.run(["bash", "-euo", "pipefail", "-c", block["code"]], check=True)
        return
    # lines in a traceback are the page's
    exec(compile("\n" * block["line"] + block["code"], "page", "exec"), namespace)


main()
