"""The folder of real data beside the project, which some tests use and skip without."""

from tests.python_path import ROOT

SHARED = ROOT.parent / "shared" / "data"
