"""Example programs that use the workspace.

forecast  trains recurrent layers on the exported hourglass to forecast poses
"""
