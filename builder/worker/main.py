"""Entry of the worker: `ENV/bin/python -I worker/main.py --control FD [--import NAME ...]`. See README.md.

The folder of this file is never put on `sys.path`: the package `worker` is loaded by its place, so nothing of ours can
stand in front of a library of the environment.
"""

import argparse
import importlib.util
import os
import sys


def load_package():
    """Register the folder of this file as the package `worker`, whatever it lies in."""
    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "worker", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["worker"] = package
    spec.loader.exec_module(package)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="worker", description="Run stages inside a cell's environment.")
    parser.add_argument("--control", type=int, required=True, metavar="FD", help="inherited socket to the host")
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="NAME", help="import once, before any job"
    )
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=FILE", help="an engine adapter kept outside this folder"
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    load_package()
    from worker import adapters, zygote

    for item in options.adapter:
        name, _, path = item.partition("=")
        adapters.FILES[name] = path
    zygote.serve(options.control, options.imports)


if __name__ == "__main__":
    main()
