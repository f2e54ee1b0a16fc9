// The map: camera paths, the view of every clip with its picture, blocked places, the goal, a cloud of points.
// The world's axes are the first camera's: x right, y down, z forward, metres.

const PATH = "#4ea1ff", HERE = "#ffffff", COMMANDED = "#ffb454", BLOCKED = "#ff5c5c", GOAL = "#7bd88f";

const centre = (pose) => [pose[3], pose[7], pose[11]];
const toWorld = (pose, p) => [0, 4, 8].map((row) => pose[row] * p[0] + pose[row + 1] * p[1] + pose[row + 2] * p[2] + pose[row + 3]);

export class Map3D {
  constructor(canvas, onPick) {
    Object.assign(this, { canvas, onPick, yaw: -0.6, pitch: 0.75, distance: 7, clips: new Map(), here: null, goal: [], points: null });
    this.target = [0, 0, 0];
    let from = null, moved = 0;
    canvas.addEventListener("pointerdown", (e) => { from = [e.clientX, e.clientY]; moved = 0; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointermove", (e) => {
      if (!from) return;
      const [dx, dy] = [e.clientX - from[0], e.clientY - from[1]];
      moved += Math.abs(dx) + Math.abs(dy);
      from = [e.clientX, e.clientY];
      this.yaw += dx * 0.008;
      this.pitch = Math.min(1.55, Math.max(-0.3, this.pitch + dy * 0.008));
      this.draw();
    });
    canvas.addEventListener("pointerup", (e) => { if (from && moved < 5) this.pick(e.offsetX, e.offsetY); from = null; });
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.distance = Math.min(60, Math.max(1.5, this.distance * Math.exp(e.deltaY * 0.001)));
      this.draw();
    }, { passive: false });
  }

  // Where a point of the world is on the canvas: [x, y, depth].
  project(p) {
    const [x, y, z] = [p[0] - this.target[0], p[1] - this.target[1], p[2] - this.target[2]];
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const [rx, rz] = [cy * x - sy * z, sy * x + cy * z];
    const [ry, depth] = [cp * y - sp * rz, sp * y + cp * rz + this.distance];
    const scale = 0.9 * this.canvas.height / Math.max(depth, 0.05);
    return [this.canvas.width / 2 + rx * scale, this.canvas.height / 2 + ry * scale, depth];
  }

  line(points, colour, width = 1, dash = []) {
    const context = this.context;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    let before = null;
    for (const p of points.map((q) => this.project(q))) {
      if (p[2] > 0.1) before ? context.lineTo(p[0], p[1]) : context.moveTo(p[0], p[1]);
      before = p[2] > 0.1 ? p : null;
    }
    context.stroke();
  }

  // The corners of a view: top left, top right, bottom right, bottom left.
  corners(pose, intrinsics, depth) {
    const [fx, fy, cx, cy] = intrinsics;
    return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([u, v]) => toWorld(pose, [(u - cx) / fx * depth, (v - cy) / fy * depth, depth]));
  }

  frustum(pose, intrinsics, depth, colour, picture) {
    const corners = this.corners(pose, intrinsics, depth), tip = centre(pose), context = this.context;
    const [a, b, , d] = corners.map((p) => this.project(p));
    if (picture && Math.min(a[2], b[2], d[2]) > 0.1) { // an affine map of three corners is near enough for a picture this small
      context.save();
      context.globalAlpha = 0.85;
      context.transform((b[0] - a[0]) / picture.width, (b[1] - a[1]) / picture.width, (d[0] - a[0]) / picture.height, (d[1] - a[1]) / picture.height, a[0], a[1]);
      context.drawImage(picture, 0, 0);
      context.restore();
    }
    this.line([...corners, corners[0]], colour, 1.5);
    for (const corner of corners) this.line([tip, corner], colour, 0.7);
  }

  cross(place, colour) {
    const [x, y, depth] = this.project(place), r = 6;
    if (depth < 0.1) return;
    const context = this.context;
    context.setLineDash([]);
    context.strokeStyle = colour;
    context.lineWidth = 3;
    context.beginPath();
    context.moveTo(x - r, y - r); context.lineTo(x + r, y + r); context.moveTo(x + r, y - r); context.lineTo(x - r, y + r);
    context.stroke();
  }

  draw() {
    if (this.waiting) return; // once for each frame of the screen
    this.waiting = true;
    setTimeout(() => { this.waiting = false; this.paint(); }, 15);
  }

  paint() {
    const context = (this.context = this.canvas.getContext("2d"));
    context.fillStyle = "#0c0e13";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const [gx, gz] = [Math.round(this.target[0]), Math.round(this.target[2])];
    for (let i = -8; i <= 8; i++) {
      this.line([[gx + i, 1, gz - 8], [gx + i, 1, gz + 8]], "#232733");
      this.line([[gx - 8, 1, gz + i], [gx + 8, 1, gz + i]], "#232733");
    }
    this.paintPoints();
    for (const clip of this.clips.values()) this.paintClip(clip);
    for (const pose of this.goal) {
      const intrinsics = this.clips.get(0)?.intrinsics ?? [0.65, 1.09, 0.5, 0.5];
      this.frustum(pose, intrinsics, 0.7, GOAL);
    }
  }

  paintClip(clip) {
    const parent = this.clips.get(clip.parent), last = clip.achieved.at(-1);
    if (parent) {
      const start = centre(parent.achieved.at(-1));
      this.line([start, ...clip.achieved.map(centre)], PATH, 2.5);
      if (clip.blocked) {
        this.line([start, ...clip.c2w.map(centre)], COMMANDED, 1.5, [5, 4]);
        this.cross(centre(last), BLOCKED);
      }
    }
    const isHere = clip.clip === this.here;
    this.frustum(last, clip.intrinsics, isHere ? 0.9 : 0.6, isHere ? HERE : PATH, clip.picture);
  }

  paintPoints() {
    if (!this.points) return;
    const { xyz, rgb } = this.points, context = this.context;
    const places = Array.from({ length: xyz.length / 3 }, (_, i) => [i, ...this.project(xyz.subarray(3 * i, 3 * i + 3))]);
    for (const [i, x, y, depth] of places.sort((a, b) => b[3] - a[3])) { // far ones first
      if (depth < 0.1) continue;
      context.fillStyle = `rgb(${rgb[3 * i]} ${rgb[3 * i + 1]} ${rgb[3 * i + 2]})`;
      const size = Math.min(6, Math.max(1.5, 16 / depth));
      context.fillRect(x, y, size, size);
    }
  }

  // Where the view of a clip is drawn, in pixels of the page.
  place(clip) {
    const corners = this.corners(clip.achieved.at(-1), clip.intrinsics, clip.clip === this.here ? 0.9 : 0.6);
    const middle = [0, 1, 2].map((axis) => (corners[0][axis] + corners[2][axis]) / 2);
    const [x, y, depth] = this.project(middle), scale = this.canvas.clientWidth / this.canvas.width;
    return [x * scale, y * scale, depth];
  }

  pick(x, y) {
    let best = null, nearest = 24;
    for (const clip of this.clips.values()) {
      const [px, py, depth] = this.place(clip), distance = Math.hypot(px - x, py - y);
      if (depth > 0.1 && distance < nearest) [best, nearest] = [clip, distance];
    }
    if (best) this.onPick(best.clip);
  }
}
