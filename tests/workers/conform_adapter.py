"""An engine adapter whose models say what happens: for tests of suites, by `--adapter conform=FILE`.

A model is the text of an action; `run` gives the inputs back, so that a case whose outputs are its inputs matches."""

import ctypes
import os
import time

STATE = {"poisoned": False, "runs": 0}


def build(job):
    with job.stage("parse"):
        with open(job.input["model"]) as file:
            action = file.read()
        if action == "refuse":
            raise ValueError("no operator Nowhere in " + job.input["model"])
    with job.stage("build"):
        if action == "crash-building":
            ctypes.string_at(1)
    with open(job.path("engine.txt"), "w") as file:
        file.write(action)
    return {"engine": "engine.txt", "found": {}, "unsupported": [], "degraded": []}


def load(job, path):
    with open(path) as file:
        return Engine(file.read())


class Engine:
    outputs = ["y"]

    def __init__(self, action):
        self.action = action

    def run(self, arrays):
        before, STATE["runs"] = STATE["runs"], STATE["runs"] + 1
        if self.action == "crash":
            ctypes.string_at(1)
        if self.action == "leave":
            os._exit(7)
        if self.action == "hang":
            time.sleep(600)
        if self.action == "poison":
            STATE["poisoned"] = True
        if self.action == "fragile" and STATE["poisoned"]:
            ctypes.string_at(1)
        if self.action == "tired" and before:
            time.sleep(600)
        if self.action == "hog":
            STATE["hoard"] = bytearray(1100 << 20)
        if self.action == "memory":
            raise MemoryError()
        if self.action == "wrong" or (self.action == "moody" and before):
            return [array + 1 for array in arrays]
        if self.action == "fewer":
            return []
        return arrays
