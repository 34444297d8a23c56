"""Make the tables, figures and web pages that show results.

compare      the tables, tests, curves and pictures of a comparison
curves       figures of trainings and of PCK
movements3d  movements in 3D: a page on which the mouse turns the skeletons, and strips of still views
page         the report as a web page
"""
