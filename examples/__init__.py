"""Programs that build on the workspace.

forecast  teaches recurrent layers on the exported hourglass to forecast poses
"""
