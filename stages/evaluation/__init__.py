"""How accurate a network is.

metrics           training accuracy, PCKh, PCK
measures          each dataset's standard metrics
evaluate          accuracies of a network on one dataset
failures          the people on whom a network fails
scores            tables of accuracies, published ones beside ours
significance      confidence intervals, and tests between two networks
predictions       predicted joints as files for other programs
prediction_files  predicted joints of other programs
"""
