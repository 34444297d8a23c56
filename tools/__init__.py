"""Small programs for people, each `python -m tools.NAME --help`.

bench               measures the speed of the parts on this machine
describe            prints the layers and the cost of a preset or a checkpoint
inspect_dataset     prints what a dataset's annotations hold, and draws some of them
inspect_checkpoint  prints what a checkpoint says of itself
"""
