"""plumb-suggest: chooses the points of searches by tpe, gp, cmaes and nsga2, for as long as it runs.

    plumb-suggest --db plumb.db
    plumb-suggest --server 127.0.0.1:4242

It keeps nothing: killed and started again it goes on. `plumb up` starts one; beside `plumb server` start it by hand. Without --db and
--server it takes $PLUMB_SERVER, or the server of plumb.db in this folder.
"""
import argparse
import ctypes
import logging
import os
import signal
import sys


def end_with(parent):
    """This process gets SIGTERM when the one that started it dies, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit("plumb-suggest: the program that started this one is gone")


def main():
    parser = argparse.ArgumentParser(prog="plumb-suggest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", help="the server's database: its address is read from DB.address, again after a restart")
    parser.add_argument("--server", default=os.environ.get("PLUMB_SERVER", ""), help="HOST:PORT ($PLUMB_SERVER)")
    parser.add_argument("--name", default=f"plumb-suggest {os.uname().nodename}:{os.getpid()}", help="who this is, in events")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--check", "--version", action="store_true", help="say whether everything it needs is installed, and end")
    args = parser.parse_args()
    if args.parent:
        end_with(args.parent)
    for library in ("OMP", "OPENBLAS", "MKL"):  # the cores are for trials
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stdout)
    try:
        from plumb_suggest import client, sampling
        sampling.check()
    except ImportError as error:
        sys.exit(f"plumb-suggest: {error}; in the source tree run script/setup, elsewhere: {sys.executable} -m pip install optuna cmaes "
                 "scipy grpcio 'protobuf<5'")
    if args.check:
        print(sampling.versions())
        return
    if args.db or not args.server:
        address = client.from_file(f"{args.db or 'plumb.db'}.address")
    else:
        address = lambda: args.server
    try:
        client.serve(address, args.name, sampling.SAMPLERS, sampling.suggest)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
