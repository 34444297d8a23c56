"""Small programs for people, each `python -m tools.NAME --help`.

bench   measures the speed of the workspace's parts on this machine
"""
