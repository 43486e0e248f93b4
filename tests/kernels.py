"""Notebooks' kernels, and commands, forked from a process that has imported the large packages: once for all of them.

What they import of the kit they import themselves, and matplotlib, which asks for the kernel's backend.
"""

import multiprocessing
import os
import runpy
import sys
from subprocess import Popen

from jupyter_client.provisioning import local_provisioner

LARGE = ("torch", "torch._dynamo", "torchvision", "scipy.stats", "sklearn.datasets", "sklearn.model_selection", "pandas",
         "IPython", "ipykernel.kernelapp")
SERVER = multiprocessing.get_context("forkserver")


class Kernel:
    """What jupyter_client asks of its Popen."""

    stdin = stdout = stderr = None

    def __init__(self, words, env=None, cwd=None):
        ours, theirs = SERVER.Pipe(duplex=False)
        self._process = SERVER.Process(target=_be_kernel, args=(words, env or dict(os.environ), cwd or os.getcwd(), theirs))
        self._process.start()
        theirs.close()
        ours.recv()  # it has a group of its own, to which signals are sent
        self.pid, self.wait, self.kill, self.terminate = (getattr(self._process, name) for name in ("pid", "join", "kill", "terminate"))

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def _be_kernel(words, env, cwd, pipe):
    os.setsid()
    pipe.send(True)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = words
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


def start_python(words, printed):
    """Do in a process of its own what ``python WORDS`` does in the current folder; what it prints is a file."""
    process = SERVER.Process(target=_be_python, args=([str(word) for word in words], dict(os.environ), os.getcwd(), printed))
    process.start()
    return process


def _be_python(words, env, cwd, printed):
    sys.stdout = sys.stderr = open(printed, "w", buffering=1)
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def launch(words, *, env=None, cwd=None, launch_anew=local_provisioner.launch_kernel, **options) -> Kernel | Popen:
    """Stand in for jupyter_client's ``launch_kernel``."""
    if words[1:3] != ["-m", "ipykernel_launcher"]:
        return launch_anew(words, env=env, cwd=cwd, **options)
    return Kernel(words[2:], env, cwd)


def fork_all() -> None:
    SERVER.set_forkserver_preload([*LARGE])
    local_provisioner.launch_kernel = launch
