"""The built-in sample: drawn people in the layout of the official archives.

poses        movements as 3D figures
people       drawing one person
scenes       drawing the background
pictures     complete images and clips with their labels
motions      movements in space, as motion capture
archives     images and labels, packed like the archives of MPII and Penn Action
"""
