// The branches: every clip beside the clip that it continues, a row for each branch.

const WIDE = 52, TALL = 32, GAP = 12, LINE = "#4ea1ff", HERE = "#ffffff";

export class Tree {
  // clips: by number, each with its parent and, once it is there, its picture; 0 is the first frame.
  constructor(canvas, clips, onPick) {
    Object.assign(this, { canvas, clips, onPick, here: null });
    canvas.addEventListener("click", (e) => {
      for (const number of this.layout().keys()) {
        const [x, y] = this.place(number);
        if (Math.abs(e.offsetX - x) < WIDE / 2 && Math.abs(e.offsetY - y) < TALL / 2) return this.onPick(number);
      }
    });
  }

  // Column and row of every clip.
  layout() {
    const children = new Map(), places = new Map();
    for (const { clip, parent } of this.clips.values()) children.set(parent, [...(children.get(parent) ?? []), clip]);
    let row = 0;
    const put = (number, column) => {
      places.set(number, [column, row]);
      (children.get(number) ?? []).forEach((child, index) => { row += index > 0; put(child, column + 1); });
    };
    if (this.clips.has(0)) put(0, 0);
    return places;
  }

  // The middle of a clip's picture, in pixels of the canvas.
  place(number, places = this.layout()) {
    const [column, row] = places.get(number);
    return [column * (WIDE + GAP) + WIDE / 2 + 2, row * (TALL + GAP) + TALL / 2 + 2];
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => { this.waiting = false; this.paint(); }, 15);
  }

  paint() {
    const places = this.layout(), all = [...places.values()];
    const [columns, rows] = [0, 1].map((axis) => Math.max(0, ...all.map((place) => place[axis])) + 1);
    this.canvas.width = columns * (WIDE + GAP) - GAP + 4;
    this.canvas.height = rows * (TALL + GAP) - GAP + 4;
    const context = this.canvas.getContext("2d");
    for (const number of places.keys()) this.paintClip(context, this.clips.get(number), places);
    if (!places.has(this.here)) return;
    const [x, y] = this.place(this.here, places), box = this.canvas.parentElement;
    if (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth) box.scrollLeft = x - box.clientWidth / 2;
    if (y < box.scrollTop || y > box.scrollTop + box.clientHeight) box.scrollTop = y - box.clientHeight / 2;
  }

  paintClip(context, clip, places) {
    const [x, y] = this.place(clip.clip, places);
    const isHere = clip.clip === this.here;
    context.strokeStyle = LINE;
    context.lineWidth = 2;
    if (places.has(clip.parent)) {
      const [px, py] = this.place(clip.parent, places), middle = x - WIDE / 2 - GAP / 2;
      context.beginPath();
      context.moveTo(px + WIDE / 2, py);
      context.lineTo(middle, py);
      context.lineTo(middle, y);
      context.lineTo(x - WIDE / 2, y);
      context.stroke();
    }
    if (clip.picture) context.drawImage(clip.picture, x - WIDE / 2, y - TALL / 2, WIDE, TALL);
    context.strokeStyle = isHere ? HERE : LINE;
    context.lineWidth = isHere ? 3 : 1;
    context.strokeRect(x - WIDE / 2, y - TALL / 2, WIDE, TALL);
  }
}
