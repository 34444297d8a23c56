"""Small programs for people, each `python -m tools.NAME --help`.

bench               measures the speed of the parts on this machine
compare_acc         accuracies of any experiments side by side, with tests and curves
decoders            prints what decoders, flip and scales add to a network's accuracy
describe            prints the layers and the cost of a preset or a checkpoint
inspect_dataset     prints what a dataset's annotations hold, and draws some of them
inspect_checkpoint  prints what a checkpoint says of itself
monitor             follows trainings in the terminal
predict             finds poses in images and videos
score               prints MPII's table for predictions of any program
"""
