"""The lazy face: light to import, and every name it promises is there."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import psiphi


def test_import_loads_neither_torch_nor_numpy():
    code = (
        "import psiphi, sys; dir(psiphi); psiphi.__version__;"
        "print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", psiphi.__all__)
def test_every_public_name_resolves(name):
    value = getattr(psiphi, name)
    home = psiphi._NAMESPACES.get(name)
    if home:
        assert value is importlib.import_module(home)
        assert value.__file__, f"{home} is an empty folder"
    else:
        assert callable(value)
        assert value.__name__ == name
    assert name in dir(psiphi)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'vea'"):
        psiphi.vea  # noqa: B018


def test_every_name_of_the_face_is_listed():
    assert sorted(psiphi.__all__) == sorted([*psiphi._NAMESPACES, *psiphi._FUNCTIONS])
