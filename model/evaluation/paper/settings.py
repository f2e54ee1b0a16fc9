"""The settings of `python -m model.cli.evaluate paper`."""

from dataclasses import dataclass, field

from model.curation.poses import PosesConfig
from model.curation.tools import ToolsConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.world.options import WorldOptions


@dataclass(kw_only=True)
class PaperConfig(WorldOptions):
    """Which films are judged, against what, and by which estimators; a world's films are generated first.

    Attributes:
        out: The report, FILE.json; the tables, the ledger, the plot of the paths and the folder of the films' results
            get the same name.
        world: `tiny`, `synthetic` or a world's folder, which is flown through held-out scenes; it replaces videos,
            reference, poses and fov_deg.
        num_scenes: Scenes that the world is flown through.
        num_clips: Clips that the world generates in each scene.
        first_seed: The first scene's seed.
        batch_size: Scenes flown at once.
        captions: The world gets each scene's caption with the first frame.
        trajectories: Folder of paths to fly in place of the scenes' own.
        search: Also find the camera by the oracle's search: for pictures that are too small for structure from motion.
        videos: Folder of the films.
        reference: Folder of true films, for the Frechet distance; None leaves the distance out.
        poses: Folder of the commanded paths: NAME.npy (camera-to-world for every frame), or NAME.txt (RealEstate10K);
            None leaves TransErr and RotErr out.
        fov_deg: Horizontal angle of view of all films whose paths have no lens; None: it is estimated.
        frames_per_clip: Films are cut into clips of this many frames, for the Frechet distance and for appearance.
        most_frames: Longer films are not judged.
        motion: Measure motion strength.
        camera: Run structure from motion, which takes longest.
        pictures: Draw a sheet for each film.
        i3d: File of I3D's weights, or TorchScript: the distance is then FVD.
        videomae: Folder of VideoMAE in transformers' format: the distance is then FVD. Without both: `frechet_lab`.
        image_network: Folder of CLIP or DINOv2 in transformers' format, for appearance consistency; None: our own
            network's `lab_consistency`.
        tools: Estimators of flow, masks, paths and metric depth.
        solved: When structure from motion counts as successful.
    """

    out: str = "runs/evaluate/paper.json"
    world: str | None = None
    num_scenes: int = 16
    num_clips: int = 2
    first_seed: int = HELD_OUT_SEED
    batch_size: int = 16
    captions: bool = False
    trajectories: str | None = None
    search: bool = False
    videos: str | None = None
    reference: str | None = None
    poses: str | None = None
    fov_deg: float | None = None
    frames_per_clip: int = 16
    most_frames: int = 480
    motion: bool = True
    camera: bool = True
    pictures: bool = True
    i3d: str | None = None
    videomae: str | None = None
    image_network: str | None = None
    tools: ToolsConfig = field(default_factory=ToolsConfig)
    solved: PosesConfig = field(default_factory=PosesConfig)

    def __post_init__(self) -> None:
        """Checks the settings before any film is opened.

        Raises:
            ValueError: A number is out of its range, or a setting has no effect.
        """
        if self.frames_per_clip < 2 or self.most_frames < 2:
            raise ValueError(
                f"frames_per_clip, most_frames: expected at least 2, got {self.frames_per_clip} and {self.most_frames}"
            )
        if self.fov_deg is not None and not 0 < self.fov_deg < 180:
            raise ValueError(f"fov_deg: expected degrees between 0 and 180, got {self.fov_deg}")
        self._check_world()
        if not self.camera:
            for name in ("poses", "fov_deg"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: expected none with camera=false, which looks at no path; drop it")

    def _check_world(self) -> None:
        """Raises ValueError for settings that have no effect with a world, or without one."""
        if self.world is not None:
            for name in ("videos", "reference", "poses", "fov_deg"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: expected none beside world, which is flown; drop one of both")
        else:
            for name in ("trajectories", "captions", "search"):
                if getattr(self, name):
                    raise ValueError(f"{name}: expected the default without world, it has no effect on films; drop it")
