"""The stages of the chain as Luigi tasks, a few lines each.

fetch prepare train evaluate export compare   the tasks; those for each dataset follow from `datasets.catalog`
"""
