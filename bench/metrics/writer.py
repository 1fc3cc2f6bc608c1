"""A trackio run that logs at a steady pace for a while for each line: {"seconds", "everyMs"}. Answers with how long each
log() and each flush to the database took, in milliseconds.
"""
import json
import sys
import time

from trackio.sqlite_storage import SQLiteStorage

flushes = []
original = SQLiteStorage.bulk_log


def timed(*args, **kwargs):
    began = time.perf_counter()
    try:
        return original(*args, **kwargs)
    finally:
        flushes.append((time.perf_counter() - began) * 1000)


SQLiteStorage.bulk_log = timed

run = trackio.init(project="big", name="writer", auto_log_gpu=False, auto_log_cpu=False)
values = {f"value_{index}": index / 7 for index in range(10)}
for line in sys.stdin:
    asked = json.loads(line)
    logs = []
    flushes.clear()
    due = time.perf_counter()
    end = due + asked["seconds"]
    while due < end:
        time.sleep(max(0, due - time.perf_counter()))
        began = time.perf_counter()
        trackio.log(values)
        logs.append((time.perf_counter() - began) * 1000)
        due += asked["everyMs"] / 1000
    print("logged " + json.dumps({"logMs": logs, "flushMs": list(flushes)}), flush=True)
