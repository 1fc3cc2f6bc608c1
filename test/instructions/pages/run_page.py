"""Runs the blocks of one page in their order: Python in one namespace, each shell block in a shell of its own.

Argument: a JSON file, {"blocks": [{"language", "code", "line", "reason"?}], "tiny": whether models are wanted}.
Ends with 1 at the first block that fails, and says which line of the page it begins at.
"""

import json
import os
import pathlib
import subprocess
import sys
import traceback
import types


def main() -> None:
    page = json.loads(pathlib.Path(sys.argv[1]).read_text())
    if page["tiny"]:
        import tiny_things

        tiny_things.make_all(pathlib.Path("/app"))
    os.chdir("/app")
    # the module of a program: what is pickled by name, or not at all, is as it is in a file of its own
    sys.modules["__main__"] = types.ModuleType("__main__")
    namespace = vars(sys.modules["__main__"])
    for block in page["blocks"]:
        if block.get("reason") is not None:
            continue
        try:
            run(block, namespace)
        except BaseException:
            traceback.print_exc()
            sys.exit(f"the {block['language']} block at line {block['line']} failed")
    print("null")


def run(block: dict, namespace: dict) -> None:
    if block["language"] == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", block["code"]], check=True)
        return
    # lines in a traceback are the page's
    code = compile("\n" * block["line"] + block["code"], "page", "exec")
    exec(code, namespace)


main()
