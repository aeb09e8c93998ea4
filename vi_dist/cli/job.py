"""What a Ray job runs: ``python -m vi_dist.cli.job SPEC`` is the sweep, kept out of reach of Ray's way to stop a job.

With the directory of a sweep in place of SPEC that sweep is resumed.

Ray ends a job with SIGTERM and, three seconds later, SIGKILL, to the job's process and all its descendants: too soon
to evaluate what was fitted and to close the runs in MLflow. So the sweep runs under a keeper that is nobody's child.
When the job's process is killed the keeper asks the sweep to stop, as Ctrl-C does, and waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys

OVER = "vi-dist: the sweep is over"
STOPPING = "vi-dist: stopping; what has finished is kept and the runs are closed"
PATIENCE = 300.0
"""Seconds in which a sweep that was asked to stop has closed its runs; then its tracking writer does that."""
RESUME = "VI_DIST_RESUME"
"""Variable that tells a sweep by which command it is resumed, in place of ``vi-dist resume``."""
_SWEEP = "from vi_dist.cli.main import main; main()"


def main() -> int:
    """Start the keeper and wait for the sweep's exit code; a signal ends this process and nothing else."""
    # As long as this process lives it holds the end of a pipe; the keeper sees when it closes.
    living, life = os.pipe()
    told, tell = os.pipe()
    if child := os.fork():
        os.close(living)
        os.close(tell)
        os.waitpid(child, 0)
        return int(os.read(told, 8) or b"1")
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(life)
    os.close(told)
    code = keep(living, sys.argv[1:])
    with contextlib.suppress(BrokenPipeError):  # nobody waits for a sweep that was stopped
        os.write(tell, str(code).encode())
    os._exit(code)


def keep(living: int, arguments: list[str]) -> int:
    """Run the sweep until it ends, asking it to stop when nobody holds the other end of `living` any more."""
    # Ray's processes block SIGINT and their children inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Nodes that share a disk unpack the job's folder anew, each for itself: its path lasts, the folder itself does not.
    given, *options = arguments
    what = "resume" if os.path.isdir(given) else "sweep"
    path = os.pathsep.join(part for part in (os.getcwd(), os.environ.get("PYTHONPATH")) if part)
    sweep = subprocess.Popen(
        [sys.executable, "-P", "-c", _SWEEP, what, os.path.abspath(given), *options],
        cwd=os.path.expanduser("~"),
        env={**os.environ, "PYTHONPATH": path, RESUME: resume_command()},
    )
    while sweep.poll() is None:
        if select.select([living], [], [], 0.2)[0]:
            code = stop(sweep)
            break
    else:
        code = sweep.returncode
    print(f"{OVER} (exit code {code})", flush=True)
    return code if code >= 0 else 128 - code


def resume_command() -> str:
    """What resumes a sweep of this job, followed by its directory, which only this node has."""
    files = f"--working-dir {os.getcwd()} " if os.path.isdir("vi_dist") else ""  # else the image has vi_dist
    return (
        f"on {socket.gethostname()}, as long as it lives: ray job submit {files}-- python -m vi_dist.cli.job"
    )


def stop(sweep: subprocess.Popen[bytes]) -> int:
    """Ask a sweep to stop and wait for it, up to `PATIENCE`."""
    print(STOPPING, flush=True)
    sweep.send_signal(signal.SIGINT)
    try:
        return sweep.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        sweep.kill()
        return sweep.wait()


if __name__ == "__main__":
    sys.exit(main())
