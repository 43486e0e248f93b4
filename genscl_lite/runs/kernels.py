"""Executing the project's notebooks, in kernels of this Python."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import getsource
from pathlib import Path

from genscl_lite.datasets import files
from genscl_lite.datasets.imports import one_line
from genscl_lite.runs.paths import NOTEBOOKS
from genscl_lite.train.loop import OutOfTime

PATIENCE = 600  # seconds in which a kernel must start
SLOW = (
    f"its kernel did not start within {PATIENCE} s; look at the startup files of IPython "
    "(ipython locate profile) and at what else this machine is doing"
)
KILLED = (
    "its kernel was killed, as systems do when memory is short; the same command goes on, "
    "with a smaller --jobs in less memory"
)
NOT_IN_REPORT = {"install", "parameters", "exercise", "lesson"}
"""Tags of cells that are there to learn from, not to report."""


def check_notebooks(executes: bool = True) -> None:
    """Raise ValueError unless the notebooks are there, and papermill, if they are to be executed."""
    if not NOTEBOOKS.is_dir():
        raise ValueError(
            f"notebooks: {NOTEBOOKS} is not there; `genscl reproduce` executes the notebooks "
            "of a clone (git clone the project, pip install -e .); "
            "`genscl train PRESET` needs none"
        )
    if executes and not find_spec("papermill"):
        raise ValueError(
            "notebooks: papermill is not installed; pip install 'genscl-lite[notebooks]'"
        )


class Kernels:
    """Kernels in which notebooks are executed, one after another in each.

    What a notebook imports takes longer to load than many a run, so a kernel is emptied and kept for the next
    one. A kernel in which a notebook fails is ended.
    """

    def __init__(self):
        self.idle = []

    def __enter__(self) -> "Kernels":
        return self

    def __exit__(self, *_) -> None:
        for kernel in self.idle:
            end(kernel)

    def execute(self, notebook: str, output: Path, parameters: dict) -> None:
        """Execute a notebook; the result is in ``output``, or, if it fails, in NAME_failed.ipynb beside it.

        Raises:
            OutOfTime: the notebook raised it.
            ValueError: the notebook failed, or its kernel.
        """
        try:
            kernel = self.idle.pop()
        except IndexError:
            kernel = new_kernel()
        try:
            execute(notebook, output, parameters, kernel)
            empty(kernel)
        except BaseException:
            end(kernel)
            raise
        self.idle.append(kernel)


def execute(notebook: str, output: Path, parameters: dict, kernel) -> None:
    """Execute a notebook in a kernel, which is started if need be; as ``Kernels.execute``."""
    import papermill  # here, because nothing else needs it
    from nbclient.exceptions import DeadKernelError

    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.stem}.tmp.ipynb")
    failed = output.with_stem(f"{output.stem}_failed")
    try:
        papermill.execute_notebook(
            str(NOTEBOOKS / notebook),
            str(temporary),
            parameters,
            kernel_name="python3",
            km=kernel,
            start_timeout=PATIENCE,
            progress_bar=False,
            request_save_on_cell_execute=False,  # nobody reads it before its end
            extra_arguments=["--log-level=ERROR"],
            coalesce_streams=True,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == OutOfTime.__name__:
            temporary.unlink()
            raise OutOfTime(error.evalue) from None
        temporary.replace(failed)
        raise ValueError(f"{error.ename}: {error.evalue} (see {failed})") from None
    except DeadKernelError:
        raise ValueError(KILLED) from None
    except RuntimeError as error:  # of jupyter_client, without a type of its own
        if "died" in str(error):  # since the notebook before
            raise ValueError(KILLED) from None
        if "respond" not in str(error):
            raise
        raise ValueError(SLOW) from None
    temporary.replace(output)
    failed.unlink(missing_ok=True)


def new_kernel():
    """Return the manager of a kernel of this Python, whatever is registered as python3; it is not started yet."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict(), resource_dir="")
        connection = None

        def client(self, **options):
            """Connect to the kernel; whoever executes a notebook in a kernel of others leaves that open."""
            self.connection = super().client(**options)
            return self.connection

    return OwnKernel()


def empty(kernel) -> None:
    """Let a kernel forget what a notebook has defined."""
    if not kernel.has_kernel:
        return
    kernel.connection.stop_channels()
    client = kernel.blocking_client()
    client.start_channels()
    code = f"{getsource(forget)}\nforget(get_ipython())"
    client.execute(code, silent=True, reply=True, timeout=PATIENCE)
    client.stop_channels()


def forget(shell) -> None:
    """Delete all names but those that IPython and its startup files gave, and count cells from 1 again.

    It is executed in the kernel, as it stands here. torch compiles anew, as it gives up after some variants.
    """
    import gc
    import sys

    shell.history_manager.reset()
    shell.displayhook.flush()
    for name in shell.user_ns.keys() - shell.user_ns_hidden.keys():
        del shell.user_ns[name]
    shell.execution_count = 1
    if torch := sys.modules.get("torch"):
        torch.compiler.reset()
    gc.collect()


def end(kernel) -> None:
    """End a kernel at once, with all processes that it has started."""
    from jupyter_core.utils import run_sync

    if kernel.connection:
        kernel.connection.stop_channels()
    if kernel.has_kernel:
        run_sync(kernel.shutdown_kernel)(now=True)


@contextmanager
def writable_home() -> Iterator[None]:
    """Give kernels a temporary home for caches and connection files if the user has none to write to."""
    home = os.path.expanduser("~")
    if os.path.isdir(home) and os.access(home, os.W_OK):
        yield
        return
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="genscl-home-", ignore_cleanup_errors=True) as folder:
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("HOME")
            if before is not None:
                os.environ["HOME"] = before


def write_report(notebook: Path, report: Path) -> None:
    """Write what an executed notebook shows as one HTML file, without code and lessons; nothing is loaded."""
    import nbformat
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_cell_tags = NOT_IN_REPORT
    exporter = HTMLExporter(config=config, exclude_input=True, exclude_output_prompt=True)
    exporter.embed_images = True
    content = nbformat.read(notebook, as_version=4)
    content.cells.insert(0, nbformat.v4.new_markdown_cell(f"# The runs in {notebook.parent}"))
    about = {"metadata": {"name": notebook.parent.name, "path": str(NOTEBOOKS)}}
    try:
        html, _ = exporter.from_notebook_node(content, resources=about)
    except Exception as error:  # of nbconvert or what it parses with, which may not fit this Python
        raise ValueError(
            f"report: nbconvert cannot write it ({one_line(error)}); {notebook} shows the same"
        ) from None
    html = re.sub(r'<script[^>]*src="https?:[^>]*>\s*</script>', "", html)  # nothing needs them
    with files.atomic_write(report) as temporary:
        temporary.write_text(html.replace("<details>", "<details open>"), encoding="utf-8")
