"""Make the tables, figures and web pages that show results.

compare      the tables, tests, curves and pictures of a comparison
curves       figures of trainings and of PCK
page         the report as a web page
"""
