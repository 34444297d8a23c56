"""The commands of python -m pipeline.

commands     run, status, report, why, verify, rerun, models
clean        the command clean
report       the command report: collects the facts and writes the page
"""
