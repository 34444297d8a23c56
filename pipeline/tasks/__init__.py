"""The stages of the chain as Luigi tasks of a few lines each. `datasets.catalog` defines which stages each dataset has.

base      ChainStage, the base class of the tasks
fetch     fetching datasets and networks, drawing the sample
prepare   cropping frames, converting labels, combining datasets
train     trainings
forecast  forecasts of movements
lifting   forecasts in 3D: motion capture, the converter and the lifter
evaluate  accuracies of networks
export    networks for other programs
compare   comparison of accuracies; the task Pipeline, which makes the whole chain
"""
