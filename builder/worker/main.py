"""Entry of the worker: `ENV/bin/python -I worker/main.py (--control FD | --connect PATH) [--import NAME ...]`. See
README.md.

The folder of this file is never put on `sys.path`: the package `worker` is loaded by its place, so nothing of ours can
stand in front of a library of the environment.
"""

import argparse
import importlib.util
import os
import socket
import sys

#: Exit code when the host's socket cannot be reached (EX_UNAVAILABLE of sysexits.h): it says nothing of this environment.
UNREACHABLE = 69


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
    control = parser.add_mutually_exclusive_group(required=True)
    control.add_argument("--control", type=int, metavar="FD", help="inherited socket to the host")
    control.add_argument("--connect", metavar="PATH", help="unix socket that the host listens on")
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="NAME", help="import once, before any job"
    )
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=FILE", help="an engine adapter kept outside this folder"
    )
    return parser.parse_args(arguments)


def connect(path):
    """File descriptor of a connection to the host. Leaves when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        print("cannot reach the host's socket %s: %s" % (path, error), file=sys.stderr)
        sys.exit(UNREACHABLE)
    return connection.detach()


def main(arguments=None):
    options = parse(arguments)
    control = options.control if options.connect is None else connect(options.connect)
    load_package()
    from worker import adapters, zygote

    for item in options.adapter:
        name, _, path = item.partition("=")
        adapters.FILES[name] = path
    zygote.serve(control, options.imports)


if __name__ == "__main__":
    main()
