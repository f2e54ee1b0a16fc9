"""Procedural moving scenes with exact pose, depth and object motion: training set, debug set and oracle.

Scene coordinates are metres in OpenCV axes (x right, y down, z forward). The ground is the plane y = 0, so everything
solid has y <= 0 and a camera 1.5 m above the ground stands at y = -1.5. Time is in seconds and all motion is a closed
form of time: any instant can be rendered without the instants before.
"""
