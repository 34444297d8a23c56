"""The folder of real data next to the project; tests that need it are skipped if it does not exist."""

from tests.python_path import ROOT

SHARED = ROOT.parent / "shared" / "data"
