"""Make tables, figures and web pages for people.

compare      the tables, tests, curves and pictures of a comparison
curves       figures of trainings and of PCK
page         the report as a web page
"""
