"""Cameras and their motion: the one place where the conventions of this repository are stated.

Axes are OpenCV's: x right, y down, z forward. A pose is `c2w`, a 4x4 camera-to-world matrix in metres.
Intrinsics are (fx, fy, cx, cy) divided by the image's width or height, so they fit every resolution;
the centre of pixel (x, y) lies at ((x + 0.5) / width, (y + 0.5) / height).
A twist is (v, w): a translation in metres and a rotation vector in radians, both in the camera's own
axes; it moves a camera by `c2w @ se3.exp(twist)`.
"""
