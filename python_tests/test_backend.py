"""use_backend: one choice, as a call and in a with statement, and nothing falls back in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import helpers
import svm_ext
from svm_ext import backend, ops, use_backend
from svm_ext.ops import _library


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test chooses ends with it."""
    before = backend.selected()
    yield
    use_backend(before)


def seen_by_torch() -> str:
    """The namespace of the op that an attend really calls."""
    names: list[str] = []

    class Listen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(func.namespace)
            return func(*args, **(kwargs or {}))

    memory = helpers.empty_memory(size := helpers.size())
    with Listen():
        ops.memory_attend(helpers.tokens(size), *memory.pools)
    return next(name for name in names if name.startswith("svm_ext"))


def test_as_a_call_it_lasts():
    use_backend("auto")
    assert seen_by_torch() == "svm_ext"
    use_backend("reference")
    assert seen_by_torch() == "svm_ext_reference"
    assert backend.selected() == "reference"
    use_backend("cpu")
    assert seen_by_torch() == "svm_ext"


def test_in_a_with_statement_it_ends():
    use_backend("auto")
    with use_backend("reference"):
        assert seen_by_torch() == "svm_ext_reference"
        with use_backend("cpu"):
            assert seen_by_torch() == "svm_ext"
        assert seen_by_torch() == "svm_ext_reference"
    assert backend.selected() == "auto"
    with pytest.raises(KeyError), use_backend("reference"):
        raise KeyError
    assert backend.selected() == "auto"


def test_unknown_names_list_the_choices():
    expected = "^use_backend: expected one of auto, cpu, cuda, triton, reference, got 'gpu'; .*$"
    with pytest.raises(ValueError, match=expected):
        use_backend("gpu")
    assert backend.selected() == "auto"


def test_what_is_not_there_is_told_not_replaced():
    memory = helpers.empty_memory(size := helpers.size())
    with (
        use_backend("triton"),
        pytest.raises(NotImplementedError, match="^memory_attend: .*'triton'.*; .*reference.*$"),
    ):
        ops.memory_attend(helpers.tokens(size), *memory.pools)
    with use_backend("cuda"), pytest.raises(NotImplementedError, match="^memory_attend: .*'cuda'.*; .*reference.*$"):
        ops.memory_attend(helpers.tokens(size), *memory.pools)


def test_a_device_that_the_back_end_does_not_take(monkeypatch):
    memory = helpers.empty_memory(size := helpers.size())
    q, pools = helpers.tokens(size), [tensor.to("meta") for tensor in memory.pools]
    triton = backend.BackEnd("triton", "svm_ext_triton", ("cuda",), frozenset({"memory_attend"}))
    monkeypatch.setitem(backend._announced, "triton", triton)
    expected = "^memory_attend: the back end 'triton' takes cuda tensors, got meta; .*$"
    with use_backend("triton"), pytest.raises(NotImplementedError, match=expected):
        ops.memory_attend(q.to("meta"), *pools)


def test_triton_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.delitem(backend._announced, "triton", raising=False)
    memory = helpers.empty_memory(size := helpers.size())
    expected = (
        "^memory_attend: the back end 'triton' needs Triton, found none; type `pip install triton`; .*reference.*$"
    )
    with use_backend("triton"), pytest.raises(NotImplementedError, match=expected):
        ops.memory_attend(helpers.tokens(size), *memory.pools)
    status = svm_ext.info().backends["triton"]
    assert not status.built
    assert status.reason == "needs Triton, found none; type `pip install triton`"


def test_choice_by_device():
    use_backend("auto")
    assert backend.backend_for("cpu") == "cpu"
    assert backend.backend_for("meta") == "cpu"
    assert backend.backend_for("cuda") == ("cuda" if "cuda" in backend.announced() else "triton")
    with use_backend("reference"):
        assert backend.backend_for("cuda") == "reference"


def test_meta_tensors_have_shapes_only():
    memory = helpers.empty_memory(size := helpers.size())
    q = helpers.tokens(size).to("meta")
    out = ops.memory_attend(q, *(tensor.to("meta") for tensor in memory.pools))
    assert out.shape == q.shape
    assert out.device.type == "meta"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Beside the package under test: the source folder, where pytest may run, would hide an installed one.
    beside = Path(svm_ext.__file__).parents[1]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=beside, env=os.environ | environment, capture_output=True, text=True)


def test_environment_variable():
    code = "import svm_ext.backend as b; print(b.selected())"
    assert python(code, SVM_EXT_BACKEND="reference").stdout == "reference\n"
    assert python(code, SVM_EXT_BACKEND="").stdout == "auto\n"
    wrong = python(code, SVM_EXT_BACKEND="gpu")
    assert wrong.returncode == 1
    assert "SVM_EXT_BACKEND: expected one of auto, cpu, cuda, triton, reference, got 'gpu'" in wrong.stderr


def test_the_package_is_lazy():
    """Torch is loaded by the first name that needs it; what does not exist is an AttributeError."""
    code = """
import sys, svm_ext
assert "torch" not in sys.modules
assert {"StreamMemory", "info", "ops", "use_backend"} <= set(dir(svm_ext))
assert not hasattr(svm_ext, "nothing")
svm_ext.StreamMemory
assert "torch" in sys.modules
assert svm_ext.info().backends["cpu"].usable
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_a_library_of_another_build_is_refused(monkeypatch):
    """An editable installation whose C++ was not built again."""
    monkeypatch.setattr(_library, "build_info", lambda: {"schema": 99})
    with pytest.raises(
        ImportError,
        match=f"^svm_ext: expected compiled ops of schema {_library._SCHEMA_VERSION}, got 99; .*pip install .*$",
    ):
        _library._load()


def test_missing_library_is_told_in_one_line(tmp_path):
    """From sources that were never built."""
    code = f"""
import pathlib, shutil, sys, svm_ext
package = pathlib.Path(svm_ext.__file__).parent
shutil.copytree(package, {str(tmp_path)!r} + "/svm_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
"""
    assert python(code).returncode == 0
    done = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import svm_ext.ops")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: svm_ext: the compiled ops are missing")
    assert "pip install ." in last
