"""Everything that becomes training clips: procedural moving scenes, files of real video, and how they are mixed."""
