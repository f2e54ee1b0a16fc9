// Plays clips on a canvas at the film's own pace. A clip is one picture: its frames, one below the other.

export function drawFrame(canvas, clip, strip, frame) {
  if (canvas.height * clip.width !== canvas.width * clip.height) {
    canvas.height = Math.round(canvas.width * clip.height / clip.width);
  }
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(strip, 0, frame * clip.height, clip.width, clip.height, 0, 0, canvas.width, canvas.height);
}

export class Film {
  // next(): the clip to go on with, or null; it is asked whenever a clip has ended, and by `wake` while none plays.
  constructor(canvas, next) {
    this.canvas = canvas;
    this.next = next;
    this.fps = 12;
    this.clip = null;
    this.started = 0;
    this.isPlaying = false;
  }

  // Shows the last frame of a clip and stops there.
  async still(clip) {
    this.clip = clip;
    this.isPlaying = false;
    const strip = await createImageBitmap(clip.blob);
    if (this.clip === clip && !this.isPlaying) drawFrame(this.canvas, clip, strip, clip.frames - 1);
    strip.close();
  }

  async wake() {
    if (this.isPlaying) return;
    this.isPlaying = true;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const goesOn = () => this.isPlaying && turn === this.turn;
    for (let from = performance.now(), clip; goesOn() && (clip = this.next()); ) {
      this.clip = clip;
      const strip = await createImageBitmap(clip.blob);
      from = Math.max(from, performance.now() - 50);
      await this.play(clip, strip, from);
      strip.close();
      from += clip.frames * 1000 / this.fps; // no pause between clips
    }
    if (turn === this.turn) this.isPlaying = false;
  }

  play(clip, strip, from) {
    return new Promise((done) => {
      let shown = -1;
      const tick = () => {
        const frame = Math.floor((performance.now() - from) * this.fps / 1000);
        if (this.clip !== clip || !this.isPlaying || frame >= clip.frames) {
          if (this.clip === clip && shown < clip.frames - 1 && this.isPlaying) drawFrame(this.canvas, clip, strip, clip.frames - 1);
          done();
          return;
        }
        if (frame > shown && frame >= 0) drawFrame(this.canvas, clip, strip, (shown = frame));
        setTimeout(tick, 15); // also in a tab that is not seen, where animation frames stop
      };
      tick();
    });
  }
}
