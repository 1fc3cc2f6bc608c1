#!/usr/bin/env python3
"""Says what this sandbox has for training: GPUs, torch's view of them, cores, memory and disk. `--json` for programs.

    python3 /app/.claude/scripts/gpu_report.py

Needs Python 3.10 and nothing else; without torch its part is left out. Ends with 0, also when there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess

GIB = 2**30
FIELDS = ("index", "name", "memory.total", "memory.free", "driver_version", "compute_cap")


def report(root: pathlib.Path = pathlib.Path("/"), with_torch: bool = True) -> dict:
    """All that is known, in GiB; None where the machine does not say. `root` is where /sys and /proc are looked for."""
    torch = torch_view() if with_torch else None
    seen_by_torch = (torch or {}).pop("gpus", [])
    return {
        "gpus": gpus() or seen_by_torch,
        "torch": torch,
        "python": platform.python_version(),
        "cpu": {"cores": cores(root), "machine_cores": os.cpu_count()},
        "memory": memory(root),
        "disk": disk(),
        "largest_file_gib": largest_file(),
    }


def gpus() -> list[dict]:
    """NVIDIA's own list; empty without a GPU or without its program."""
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    return [
        {
            "name": name,
            "memory_gib": _mebibytes(total),
            "free_gib": _mebibytes(free),
            "driver": driver,
            "compute_capability": capability,
        }
        for _, name, total, free, driver, capability in (row for row in rows if len(row) == len(FIELDS))
    ]


def _mebibytes(text: str) -> float | None:
    try:
        return round(float(text) / 1024, 2)
    except ValueError:
        return None


def torch_view() -> dict | None:
    """What torch can use; None when it is not installed. A torch that cannot be imported says why."""
    try:
        import torch
    except ModuleNotFoundError as error:
        return None if error.name == "torch" else {"error": f"{error}"}
    except (ImportError, OSError) as error:
        return {"error": f"{error}"}
    available = torch.cuda.is_available()
    view = {
        "version": torch.__version__,
        "cuda_version": torch.version.cuda,
        "cuda_available": available,
        "devices": torch.cuda.device_count() if available else 0,
        # without the emulation that torch counts by default: it is slower than fp16
        "bf16": bool(torch.cuda.is_bf16_supported(including_emulation=False)) if available else False,
        "threads": torch.get_num_threads(),
    }
    if available:
        view["gpus"] = [_device(torch, number) for number in range(view["devices"])]
    return view


def _device(torch, number: int) -> dict:
    free, total = torch.cuda.mem_get_info(number)
    major, minor = torch.cuda.get_device_capability(number)
    return {
        "name": torch.cuda.get_device_name(number),
        "memory_gib": round(total / GIB, 2),
        "free_gib": round(free / GIB, 2),
        "driver": None,
        "compute_capability": f"{major}.{minor}",
    }


def cores(root: pathlib.Path) -> float:
    """What this process may use: a quota of the cgroup can be less than the cores that it sees."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _cgroups(root, "cpu") if (quota := _cpu_quota(folder)) is not None]
    return round(min([seen, *quotas]), 2)


def _cpu_quota(folder: pathlib.Path) -> float | None:
    quota, period = (_read(folder / "cpu.max") or "max 0").split()[:2]
    if quota == "max":
        quota = _read(folder / "cpu.cfs_quota_us") or "-1"
        period = _read(folder / "cpu.cfs_period_us") or "100000"
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None


def memory(root: pathlib.Path) -> dict:
    """Of the sandbox where a cgroup walls it, else of the machine; `source` says which."""
    meminfo = dict(line.split(":", 1) for line in (_read(root / "proc/meminfo") or "").splitlines() if ":" in line)
    of_machine = {name: int(meminfo[name].split()[0]) * 1024 if name in meminfo else None for name in ("MemTotal", "MemAvailable")}
    total, available = of_machine["MemTotal"], of_machine["MemAvailable"]
    source = "machine"
    for folder in _cgroups(root, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        # version 1 says "no limit" by a number beyond any machine
        if limit is None or (total is not None and limit >= total):
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        reclaimable = _reclaimable(folder)
        total, source = limit, "cgroup"
        free = max(0, limit - used + reclaimable)
        available = free if available is None else min(free, available)
    return {"total_gib": _gib(total), "available_gib": _gib(available), "source": source}


def _reclaimable(folder: pathlib.Path) -> int:
    """Pages of files count as used, and are given up when memory is wanted."""
    for line in (_read(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _cgroups(root: pathlib.Path, controller: str) -> list[pathlib.Path]:
    """The process's group and all above it: each can have a limit."""
    found = []
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if names else "")
        below = pathlib.PurePosixPath(path.lstrip("/"))
        # in a container the path can be one of the host's, which is not there
        found += [mount / each for each in (below, *below.parents)]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _read(path: pathlib.Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: pathlib.Path) -> int | None:
    text = _read(path)
    return int(text) if text is not None and text.isdigit() else None


def _gib(number: float | None) -> float | None:
    return None if number is None else round(number / GIB, 2)


def disk() -> dict | None:
    folder = os.environ.get("MODAL_SB_DATA_FOLDER") or "/data"
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return {"folder": folder, "total_gib": _gib(usage.total), "free_gib": _gib(usage.free)}


def largest_file() -> float | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else _gib(limit)


def lines_of(seen: dict) -> list[str]:
    """The report for a reader."""
    lines = [
        f"GPU {number}: {gpu['name']}, {_of(gpu['free_gib'], gpu['memory_gib'])}, compute capability {gpu['compute_capability']}"
        + (f", driver {gpu['driver']}" if gpu["driver"] else "")
        for number, gpu in enumerate(seen["gpus"])
    ] or ["GPU: none. Training runs on the CPU: tiny models only"]
    lines.append(f"torch: {_torch_line(seen)}")
    cpu, disk_seen = seen["cpu"], seen["disk"]
    lines.append(f"CPU: {cpu['cores']:g} cores, Python {seen['python']}")
    where = "of this sandbox" if seen["memory"]["source"] == "cgroup" else "of the machine; the sandbox's own limit may be lower"
    lines.append(f"Memory: {_of(seen['memory']['available_gib'], seen['memory']['total_gib'])}, {where}")
    lines.append(
        f"Disk: {_of(disk_seen['free_gib'], disk_seen['total_gib'])} in {disk_seen['folder']}" if disk_seen else "Disk: /data is missing"
    )
    if seen["largest_file_gib"] is not None:
        lines.append(f"Largest file: {seen['largest_file_gib']:g} GiB")
    return lines


def _torch_line(seen: dict) -> str:
    torch = seen["torch"]
    if torch is None:
        return "not installed"
    if "error" in torch:
        return f"cannot be imported: {torch['error']}"
    if torch["cuda_available"]:
        return f"{torch['version']}, uses {torch['devices']} GPU, bf16 {'yes' if torch['bf16'] else 'no: use fp16'}"
    if seen["gpus"]:
        built = f"is built for CUDA {torch['cuda_version']}" if torch["cuda_version"] else "is a build for the CPU"
        return f"{torch['version']} does NOT use the GPU: it {built}; the driver or the build does not fit"
    return f"{torch['version']}, on the CPU with {torch['threads']} threads"


def _of(free: float | None, total: float | None) -> str:
    if total is None:
        return "size unknown"
    return f"{total:g} GiB" if free is None else f"{free:g} of {total:g} GiB free"


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu_report.py", description="What this sandbox has for training.")
    parser.add_argument("--json", action="store_true", help="one JSON object; sizes are in GiB")
    parser.add_argument("--no-torch", action="store_true", help="do not import torch: faster")
    given = parser.parse_args()
    seen = report(with_torch=not given.no_torch)
    print(json.dumps(seen) if given.json else "\n".join(lines_of(seen)))


if __name__ == "__main__":
    main()
