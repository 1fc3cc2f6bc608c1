#!/usr/bin/python3
"""Modal's file tools, as the SDK's `sandbox.filesystem` runs them: one JSON argument, errors as JSON on stderr."""
import errno
import grp
import json
import os
import pwd
import shutil
import stat
import sys

KINDS = {
    errno.ENOENT: "NotFound",
    errno.EISDIR: "IsDirectory",
    errno.ENOTDIR: "NotDirectory",
    errno.EEXIST: "PathAlreadyExists",
    errno.ENOTEMPTY: "DirectoryNotEmpty",
    errno.EACCES: "PermissionDenied",
    errno.EROFS: "PermissionDenied",
}


def name_of(lookup, number):
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def describe(path):
    found = os.lstat(path)
    kind = "symlink" if stat.S_ISLNK(found.st_mode) else "directory" if stat.S_ISDIR(found.st_mode) else "file"
    return {
        "name": os.path.basename(path),
        "path": path,
        "type": kind,
        "size": found.st_size,
        "mode": stat.S_IMODE(found.st_mode),
        "permissions": stat.filemode(found.st_mode),
        "owner": name_of(pwd.getpwuid, found.st_uid),
        "group": name_of(grp.getgrgid, found.st_gid),
        "modified_time": found.st_mtime,
        "symlink_target": os.readlink(path) if kind == "symlink" else None,
    }


def run(operation, options):
    path = options["path"]
    if operation == "ReadFile":
        with open(path, "rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
    elif operation == "WriteFile":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            shutil.copyfileobj(sys.stdin.buffer, target)
    elif operation == "ListFiles":
        print(json.dumps([describe(os.path.join(path, name)) for name in sorted(os.listdir(path))]))
    elif operation == "Stat":
        print(json.dumps(describe(path)))
    elif operation == "MakeDirectory":
        os.makedirs(path, exist_ok=True) if options["parents"] else os.mkdir(path)
    elif operation == "Remove":
        if not os.path.isdir(path) or os.path.islink(path):
            os.remove(path)
        elif options["recursive"]:
            shutil.rmtree(path)
        else:
            os.rmdir(path)
    else:
        fail("NotSupported", f"the emulator does not do {operation}")


def fail(kind, message):
    print(json.dumps({"error_kind": kind, "message": message}), file=sys.stderr)
    sys.exit(1)


try:
    [(asked, given)] = json.loads(sys.argv[1]).items()
    run(asked, given)
except OSError as error:
    fail(KINDS.get(error.errno, "Other"), error.strerror or str(error))
