"""The loop that one writes in an afternoon: when the database's file has changed since the last look, send all of it.

Looks every 30 seconds: python3 resend-all.py <database> <project> <server with ?write_token=...>. Without arguments it
looks at each line of its stdin, {"database", "project", "address"}, and answers with the processor time that it took.
"""
import json
import os
import sqlite3
import sys
import time
import urllib.parse
import urllib.request

interval_s = 30
rows_a_request = 500
seen = {}


def look(database, project, address):
    moved = os.stat(database).st_mtime_ns
    if seen.get(database) == moved:
        return
    url = urllib.parse.urlsplit(address)
    token = urllib.parse.parse_qs(url.query)["write_token"][0]
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows = connection.execute("SELECT run_id, run_name, step, metrics, timestamp, log_id FROM metrics ORDER BY id")
    while batch := rows.fetchmany(rows_a_request):
        send(f"{url.scheme}://{url.netloc}/api/bulk_log", token, [entry(project, *row) for row in batch])
    connection.close()
    seen[database] = moved


def entry(project, run_id, run, step, metrics, timestamp, log_id):
    return {
        "project": project,
        "run": run,
        "run_id": run_id,
        "metrics": json.loads(metrics),
        "step": step,
        "config": None,
        "timestamp": timestamp,
        "log_id": log_id,
    }


def send(url, token, logs):
    headers = {"content-type": "application/json", "x-trackio-write-token": token}
    body = json.dumps({"kwargs": {"logs": logs, "hf_token": None}}, separators=(",", ":")).encode()
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).read()


if len(sys.argv) > 1:
    while True:
        look(*sys.argv[1:4])
        time.sleep(interval_s)

for line in sys.stdin:
    asked = json.loads(line)
    before = time.process_time()
    look(asked["database"], asked["project"], asked["address"])
    spent = (time.process_time() - before) * 1000
    print("logged " + json.dumps({"processorMs": spent}), flush=True)
