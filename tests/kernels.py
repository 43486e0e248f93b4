"""Notebooks' kernels, and commands, forked from a copy of the process that tests, which has imported all and tested nothing."""

import itertools
import multiprocessing
import os
import runpy
import sys
from multiprocessing import forkserver, resource_tracker
from subprocess import Popen
from unittest import mock

import matplotlib
from jupyter_client.provisioning import local_provisioner

from tests.forked import print_to

SERVER = multiprocessing.get_context("forkserver")


def fork_all() -> None:
    """Begin the copy, which waits, and let notebooks' kernels be forked from it."""
    resource_tracker.ensure_running()
    with mock.patch.object(forkserver.util, "spawnv_passfds", _fork):
        forkserver.ensure_running()
    local_provisioner.launch_kernel = launch


def _fork(executable, words, descriptors) -> int:
    """Stand in for multiprocessing's own, which would begin a Python that has imported nothing."""
    process = os.fork()
    if process:
        return process
    try:
        kept = [
            2,
            *sorted(descriptors),
            os.sysconf("SC_OPEN_MAX"),
        ]  # others would keep pipes of pytest's open
        for one, next_one in itertools.pairwise(kept):
            os.closerange(one + 1, next_one)
        exec(words[-1])
    finally:
        os._exit(0)


class Kernel:
    """What jupyter_client asks of its Popen."""

    stdin = stdout = stderr = None

    def __init__(self, words, env=None, cwd=None):
        ours, theirs = SERVER.Pipe(duplex=False)
        self._process = SERVER.Process(
            target=_be_kernel, args=(words, env or dict(os.environ), cwd or os.getcwd(), theirs)
        )
        self._process.start()
        theirs.close()
        ours.recv()  # it has a group of its own, to which signals are sent
        self.pid, self.wait, self.kill, self.terminate = (
            getattr(self._process, name) for name in ("pid", "join", "kill", "terminate")
        )

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def _be_kernel(words, env, cwd, pipe):
    os.setsid()
    pipe.send(True)
    _be_elsewhere(env, cwd, os.devnull)
    matplotlib.rcParams["backend"] = (
        "module://matplotlib_inline.backend_inline"  # as a kernel's environment says
    )
    sys.argv = words
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


def _be_elsewhere(env, cwd, printed):
    print_to(printed)
    multiprocessing.set_start_method(None, force=True)  # the system's own, as in any Python
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)


def launch(
    words, *, env=None, cwd=None, launch_anew=local_provisioner.launch_kernel, **options
) -> Kernel | Popen:
    """Stand in for jupyter_client's ``launch_kernel``."""
    if words[1:3] != ["-m", "ipykernel_launcher"]:
        return launch_anew(words, env=env, cwd=cwd, **options)
    return Kernel(words[2:], env, cwd)


def start_python(words, printed):
    """Do in a process of its own what ``python WORDS`` does in the current folder; what it prints is a file."""
    process = SERVER.Process(
        target=_be_python,
        args=([str(word) for word in words], dict(os.environ), os.getcwd(), printed),
    )
    process.start()
    return process


def _be_python(words, env, cwd, printed):
    _be_elsewhere(env, cwd, printed)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
