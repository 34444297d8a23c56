"""The commands of python -m pipeline.

commands     run, status, report, why, verify, rerun, models, settings
find         finds stages by their names
clean        the command clean
sweep        the command sweep
search       the option --search of the command sweep
combinations runs one stage with different settings
report       the command report: collects the facts and writes the page
"""
