import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import types

import pytest
import torch

from genscl_lite.datasets import builtin, cores
from genscl_lite.runs.paths import PROJECT
from genscl_lite.tools import doctor
from genscl_lite.tools.doctor import NOTE, OK, PROBLEM, Finding

VERSIONS = {"torch": "2.12.0", "torchvision": "0.27.0", "papermill": "2.7.0", "pandas": "3.0"}


@pytest.fixture
def machine(monkeypatch):
    """Pretend that only VERSIONS are installed, change them, and make the imports of ``broken`` modules fail."""
    state = types.SimpleNamespace(
        versions=dict(VERSIONS), needs=["numpy", "torch==2.12.0", "torch-extra==1.0"], broken={}
    )
    real_import = importlib.import_module

    def version(package):
        if package not in state.versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return state.versions[package]

    def import_module(name):
        if name in state.broken:
            raise state.broken[name]
        return real_import(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda package: state.needs)
    monkeypatch.setattr(importlib, "import_module", import_module)
    return state


def test_python_has_a_least_version():
    assert doctor.check_python().status == OK
    assert doctor.check_python((3, 11, 0)).status == OK
    assert doctor.check_python((3, 10, 14)) == Finding(
        "Python", PROBLEM, "3.10.14, and 3.11 or newer is needed",
        "make an environment with it: conda env create -f environment.yml")  # fmt: skip


@pytest.mark.parametrize(
    "wanted, extra, version, status, text, fix",
    [
        ("pandas", "train", "3.0", OK, "3.0", ""),
        ("pandas", "train", None, PROBLEM, "not installed", 'pip install "pandas"'),
        ("papermill<3,>=2.7", "notebooks", "2.7.0", OK, "2.7.0", ""),
        (
            "papermill<3,>=2.7",
            "notebooks",
            "2.6.1",
            PROBLEM,
            "2.6.1, and papermill<3,>=2.7 is needed",
            'pip install "papermill<3,>=2.7"',
        ),
        (
            "papermill<3,>=2.7",
            "notebooks",
            "3.0",
            PROBLEM,
            "3.0, and papermill<3,>=2.7 is needed",
            'pip install "papermill<3,>=2.7"',
        ),
        (
            "torch>=2.11",
            "",
            "2.11.0.dev20260101+cu130",
            PROBLEM,
            "2.11.0.dev20260101+cu130, and torch>=2.11 is needed",
            "pip install --upgrade torch torchvision",
        ),
        ("torch>=2.11", "", "2.12.0.dev20260101+cu130", OK, "2.12.0.dev20260101+cu130", ""),
        (
            "torchvision>=0.26",
            "train",
            None,
            PROBLEM,
            "not installed",
            "pip install --upgrade torch torchvision",
        ),
        (
            "nbval",
            "test",
            None,
            NOTE,
            "not installed; only the tests need it",
            'pip install "nbval"',
        ),
    ],
)
def test_packages(machine, wanted, extra, version, status, text, fix):
    name = re.match("[a-z]+", wanted).group()
    machine.versions.pop(name, None)
    if version:
        machine.versions[name] = version
    assert doctor.check_package(wanted, for_tests=extra == "test") == Finding(
        name, status, text, fix
    )


def test_the_packages_are_those_of_the_project():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    del extras["recipes"]  # of the guide to the loss; nothing here needs them
    texts = sum(extras.values(), project["dependencies"])
    names = {re.match(r"[\w.-]+", text).group() for text in texts} - {"genscl-lite"}
    assert {finding.name for finding in doctor.check_packages()} == names


def test_what_only_tests_need_is_a_note(machine):
    machine.needs = [
        "torch<3,>=2.11",
        'genscl-lite[train]; extra == "test"',
        'pandas; extra == "train"',
        'nbval; extra == "test"',
    ]
    del machine.versions["pandas"]
    assert [(finding.name, finding.status) for finding in doctor.check_packages()] == [
        ("torch", OK),
        ("pandas", PROBLEM),
        ("nbval", NOTE),
    ]


def test_torch_and_torchvision_that_fit(machine):
    assert doctor.check_torch_pair().status == OK
    machine.versions["torch"] = "2.12.0+cpu"
    assert doctor.check_torch_pair().status == OK


@pytest.mark.parametrize("torch_version", ["2.11.0", "2.13.0+cu130"])
def test_torchvision_for_another_torch(machine, torch_version):
    machine.versions["torch"] = torch_version
    finding = doctor.check_torch_pair()
    assert finding.status == PROBLEM and finding.fix == "pip install --upgrade torch torchvision"
    assert (
        finding.text
        == f"torchvision 0.27.0 is made for torch==2.12.0, and torch is {torch_version}"
    )


def test_torchvision_that_cannot_be_imported(machine):
    machine.broken["torchvision"] = RuntimeError(
        "operator torchvision::nms does not exist\nand a trace"
    )
    finding = doctor.check_torch_pair()
    assert finding.status == PROBLEM and finding.fix == "pip install --upgrade torch torchvision"
    assert finding.text == "import torchvision fails (operator torchvision::nms does not exist)"


def test_one_of_both_is_missing(machine):
    del machine.versions["torchvision"]
    assert doctor.check_torch_pair() == Finding(
        "torch with torchvision", PROBLEM, "not both installed", "pip install --upgrade torch torchvision")  # fmt: skip


@pytest.fixture
def gpu(monkeypatch):
    """Pretend to have a GPU of 15 GiB; ``gpu.error`` is what starting CUDA raises."""
    state = types.SimpleNamespace(error=None, half=True, count=1)

    def init():
        if state.error:
            raise state.error

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: types.SimpleNamespace(name="Tesla T4", total_memory=15 * 2**30),
    )
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or state.half,
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: state.count)
    return state


def test_a_gpu_is_named(gpu):
    assert str(doctor.check_device()) == "ok       GPU: Tesla T4, 15 GiB, bfloat16"
    gpu.half, gpu.count = False, 2
    assert doctor.check_device() == Finding(
        "GPU", OK, "Tesla T4, 15 GiB, no bfloat16, the first of 2"
    )


def test_a_torch_for_cuda_that_finds_no_driver_says_so(gpu):
    gpu.error = RuntimeError(
        "Found no NVIDIA driver on your system. Please check that you have one"
    )
    finding = doctor.check_device()
    assert finding.status == NOTE and "nvidia-smi" in finding.fix
    assert finding.text == ("none, though this torch is built for CUDA 13.0 (Found no NVIDIA driver on your system): "
                            "CPU, fine for the notebooks")  # fmt: skip


def test_no_gpu_is_no_problem(gpu, machine, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    finding = doctor.check_device()
    assert finding == Finding(
        "GPU", NOTE, "none, this torch is built without CUDA: CPU, fine for the notebooks"
    )
    machine.broken["torch"] = OSError("libcudart.so.13: cannot open")
    assert doctor.check_device() == Finding(
        "GPU", NOTE, "not looked for, as torch cannot be imported"
    )


def test_cores_are_those_of_this_process(machine, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)
    assert doctor.check_cores() == Finding("CPU cores", OK, "3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert doctor.check_cores() == Finding(
        "CPU cores", NOTE, "3, for 64 threads", "export OMP_NUM_THREADS=3"
    )
    machine.broken["genscl_lite.datasets.cores"] = ImportError("no torch")
    assert doctor.check_cores() == Finding("CPU cores", NOTE, "not counted (no torch)")


def test_missing_and_damaged_data_come_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("GENSCL_DATA", str(tmp_path))
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    batch.parent.mkdir()
    batch.write_bytes(b"half")
    digits, cifar10, cifar100 = doctor.check_data()
    assert digits == Finding("digits", OK, "1000 images to train, 797 to test")
    assert (cifar10.name, cifar10.status, cifar100.status) == ("cifar10", NOTE, NOTE)
    assert cifar10.text.startswith(
        f"{batch} is damaged (md5 7afe399f1415b137d0962f82662fa9d4, expected "
    )
    assert cifar100.text.startswith(f"{tmp_path / 'cifar-100-python' / 'train'} is missing (md5 ")
    assert cifar10.text.endswith("(the notebooks do without)")
    assert cifar100.fix.startswith(f"run `genscl data cifar100 --root {tmp_path}`")


def test_data_that_are_there(monkeypatch, tmp_path):
    monkeypatch.setenv("GENSCL_DATA", str(tmp_path))
    asked = []
    monkeypatch.setattr(
        builtin, "check_integrity", lambda path, md5: asked.append((path.name, md5)) or True
    )
    _, cifar10, cifar100 = doctor.check_data()
    assert (
        cifar10 == Finding("cifar10", OK, f"{tmp_path / 'cifar-10-batches-py'}, md5 right")
        and cifar100.status == OK
    )
    assert ("data_batch_1", "c99cafc152244af753f735de768cd75f") in asked and len(asked) == 7 + 3


def test_data_that_cannot_be_looked_at(machine):
    machine.broken["genscl_lite.datasets"] = ImportError("no torch")
    assert [f.status for f in doctor.check_data()] == [PROBLEM]


@pytest.mark.parametrize("status, code", [(OK, 0), (NOTE, 0), (PROBLEM, 1)])
def test_only_problems_fail(monkeypatch, capsys, status, code):
    looks = {"check_python": OK, "check_torch_pair": OK, "check_device": OK, "check_cores": status}
    for name, found in looks.items():
        monkeypatch.setattr(
            doctor, name, lambda found=found: Finding("b", found, "2.0", "pip install b")
        )
    monkeypatch.setattr(doctor, "check_packages", lambda: [])
    monkeypatch.setattr(doctor, "check_data", lambda: [])
    assert doctor.main([]) == code
    *_, cores, last = capsys.readouterr().out.splitlines()
    assert cores == f"{status:<8} b: 2.0; fix: pip install b"
    assert last == ("not ready: 1 to mend" if code else "ready")


def test_all_is_looked_at_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GENSCL_DATA", str(tmp_path))
    doctor.main([])
    names = re.findall(r"^(?:ok|note|problem) +([\w -]+):", capsys.readouterr().out, re.MULTILINE)
    assert len(names) == len(set(names))
    assert {"Python", "torch", "torchvision", "scikit-learn", "pandas", "papermill", "umap-learn", "nbval", "timm",
            "torch with torchvision", "GPU", "CPU cores", "digits", "cifar10", "cifar100"} <= set(names)  # fmt: skip


def test_it_reports_where_nothing_is_installed():
    """Without site-packages: the command needs nothing beyond Python, and says what to install."""
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r})\nfrom genscl_lite.tools.cli import main; sys.exit(main(['check']))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr
    assert re.search(
        "^problem  (genscl-lite|torch): not installed; fix: pip install", done.stdout, re.MULTILINE
    )
    assert (
        "problem  torch with torchvision: not both installed" in done.stdout
        and "not ready" in done.stdout
    )
