"""Draw the built-in sample data: people in images and clips, packed in the layout of the official archives.

poses        poses and movements of 3D figures
people       drawing one person
scenes       drawing backgrounds and objects
pictures     complete images and clips with their labels
motions      the 3D movements of the drawn people, as motion capture
archives     images and labels, packed like the archives of MPII and Penn Action
"""
