"""The study on a Ray cluster: a process for each GPU or CPU runs the same command in the same folder.

Processes that run the same command share its cells by locks. When a machine is lost, its locks are free again, and
Ray starts its process elsewhere, which does the missing cells.
"""

import os


def run(args, folder: str) -> None:
    """One process's part of the study; `args` as `parse` returns them."""
    from companion.study.__main__ import plan, share

    os.chdir(folder)  # where the command was started: names of files may be relative to it
    jobs, _, encoder = plan(args)
    share(jobs, args.results, encoder)


def spread(args, address: str) -> None:
    """Run the study on a cluster until no cell is missing. "local": a new cluster on this machine."""
    from companion.predict.cluster import connect, processes

    ray = connect(address)
    each, count = processes(ray)
    work = ray.remote(max_retries=-1, **each)(run)
    ray.get([work.remote(args, os.getcwd()) for _ in range(count)])
