"""The commands of python -m pipeline.

commands     run, status, report, why, verify, rerun, models, settings
find         stages by their names
clean        the command clean
sweep        the command sweep
search       sweep --search
combinations runs of one stage with different settings
report       the command report: collects the facts and writes the page
"""
