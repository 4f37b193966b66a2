"""Run exporter jobs inside an exporter environment, without the worker's protocol: real modules, real frameworks.

    ENV/bin/python tests/exporter_job.py BUILDER_COPY JOBS.json

JOBS.json is a list of {"exporter", "stage", "input", "dir"}; each job's result or error is left in its dir/result.json.
"""

import json
import os
import sys


def main():
    sys.path[0] = sys.argv[1]  # holds `worker` and nothing else: the host's modules must not shadow a library's
    from worker import exporters, jobs

    with open(sys.argv[2]) as file:
        wanted = json.load(file)
    for item in wanted:
        os.makedirs(item["dir"])
        os.chdir(item["dir"])
        job = jobs.Job(item["stage"], item["input"], item["dir"], lambda what: None)
        try:
            out = getattr(exporters.EXPORTERS[item["exporter"]], item["stage"])(job)
            out = {"ok": True, "result": out, "stages": [stage["stage"] for stage in job.stages]}
        except Exception as error:
            out = {"ok": False, "type": type(error).__name__, "message": str(error)}
        with open(os.path.join(item["dir"], "result.json"), "w") as file:
            json.dump(out, file)


main()
