// The page: keys and settings to the server, clips from it.

import { Film } from "/film.js";
import { Map3D } from "/map.js";
import { Tree } from "/tree.js";

const at = (id) => document.getElementById(id);
const clips = new Map(); // by number, as the server sent them
const state = { keys: {}, realTimeSamplers: {}, held: null, prompt: null, taps: null, shown: 0, ahead: null, queue: [], isWatching: false, before: null, pressed: null, latency: null };
const socket = new WebSocket(`ws${location.protocol === "https:" ? "s" : ""}://${location.host}/tab${location.search}`);
socket.binaryType = "arraybuffer";
const send = (message) => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); };

const film = new Film(at("film"), nextClip);
const map = new Map3D(at("map"), (clip) => { if (!state.isWatching) go(clip); });
const tree = new Tree(at("tree"), map.clips, go);
Object.assign(window, { flight: { clips, state, film, map, tree } }); // for tests and the curious

// Playing: the clip made ahead follows if its key is still held.

function nextClip() {
  if (state.isWatching) return take(state.queue.shift());
  if (state.again?.length && !state.held) return state.again.shift();
  state.again = null;
  const clip = state.ahead;
  if (!clip || clip.parent !== state.shown || clip.key !== state.held) return null;
  if (state.prompt !== null && clip.prompt !== state.prompt) return null; // made before the prompt was changed
  state.ahead = null;
  return take(clip);
}

function take(clip) {
  if (clip) show(clip);
  return clip ?? null;
}

function show(clip) {
  if (state.pressed !== null) state.latency = (performance.now() - state.pressed) / 1000;
  state.pressed = null;
  state.shown = map.here = clip.clip;
  send({ type: "playing", clip: clip.clip });
  if (state.taps === clip.key) hold(null); // the key was let go before its clip came
  remember(clip);
  status(clip);
  if (!state.before) note("");
}

async function remember(clip) {
  if (!clips.has(clip.clip)) {
    clips.set(clip.clip, clip);
    listBranches();
  }
  map.clips.set(clip.clip, clip);
  map.goal = clip.goal;
  map.target = [clip.achieved.at(-1)[3], clip.achieved.at(-1)[7], clip.achieved.at(-1)[11]];
  draw();
  if (!clip.picture) {
    clip.picture = await createImageBitmap(clip.blob, 0, (clip.frames - 1) * clip.height, clip.width, clip.height);
    draw();
  }
}

function draw() {
  tree.here = map.here;
  map.draw();
  tree.draw();
}

function status(clip) {
  const said = [`clip ${clip.clip}`];
  if (clip.key) said.push(`${(clip.frames / clip.seconds).toFixed(0)} frames/s`);
  said.push(`${clip.evaluations} evaluations`);
  if (state.latency !== null) said.push(`latency ${state.latency.toFixed(2)} s`);
  if (at("task").value !== "none" && !state.isWatching) said.push(`reward ${clip.reward}`);
  if (clip.blocked) said.push("blocked");
  if (clip.success) said.push("success");
  if (clip.over) said.push("the episode is over");
  at("prompt").placeholder = clip.prompt || "the world's own choice";
  if (clip.prompt) said.push(`“${clip.prompt}”`);
  at("status").textContent = said.join(" · ");
}

// Keys

function hold(key) {
  state.taps = null;
  if (state.held === key) return;
  state.held = key;
  state.pressed = key && performance.now();
  for (const each of document.querySelectorAll("kbd")) each.classList.toggle("held", each.dataset.key === key);
  at("error").hidden = true;
  send({ type: "hold", key });
  if (key) film.wake();
}

// A key that is let go before its clip began still gives that clip.
function release(key) {
  if (state.held !== key) return;
  if (clips.get(state.shown)?.key === key && film.isPlaying) hold(null);
  else state.taps = key;
}

const isTyping = () => ["prompt", "seed"].includes(document.activeElement?.id);
const keyOf = (event) => state.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];

addEventListener("keydown", (event) => {
  const key = keyOf(event);
  if (!key || isTyping() || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (!event.repeat) hold(key);
});
addEventListener("keyup", (event) => { const key = keyOf(event); if (key) release(key); });
addEventListener("blur", () => { if (state.held) release(state.held); });

let dragged = null;
at("film").addEventListener("pointerdown", (event) => {
  if (state.isWatching) return;
  dragged = [event.clientX, event.clientY];
  at("film").setPointerCapture(event.pointerId);
});
at("film").addEventListener("pointermove", (event) => {
  if (!dragged) return;
  const [dx, dy] = [event.clientX - dragged[0], event.clientY - dragged[1]];
  if (Math.hypot(dx, dy) < 20) return;
  hold(Math.abs(dx) > Math.abs(dy) ? (dx > 0 ? "pan_right" : "pan_left") : (dy > 0 ? "tilt_down" : "tilt_up"));
});
for (const end of ["pointerup", "pointercancel"]) {
  at("film").addEventListener(end, () => { dragged = null; if (state.held) release(state.held); });
}

// Settings

function choose(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
}

at("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  hold(null);
  at("error").hidden = true;
  document.activeElement.blur();
  const values = Object.fromEntries(["world", "sampler", "task", "collision", "prompt"].map((name) => [name, at(name).value]));
  send({ type: "reset", ...values, seed: Number(at("seed").value) });
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // a new prompt is no reset
  at("prompt").blur();
});
for (const select of document.querySelectorAll("select")) select.addEventListener("change", () => select.blur());
// a sampler of one world may be unknown to the next
at("world").addEventListener("change", () => { at("sampler").value = state.realTimeSamplers[at("world").value] ?? "default"; });
at("prompt").addEventListener("change", () => {
  state.prompt = at("prompt").value || null;
  send({ type: "prompt", text: state.prompt });
});
at("save").addEventListener("click", () => send({ type: "save", clip: state.shown }));
at("points").addEventListener("click", () => { note("reconstructing ..."); send({ type: "points", clip: state.shown }); });
at("load").addEventListener("click", () => send({ type: "load", name: at("flights").value }));
at("undo").addEventListener("click", () => {
  const parent = clips.get(state.shown)?.parent;
  if (parent !== null && parent !== undefined) go(parent);
});

function go(clip) {
  hold(null);
  state.ahead = null;
  send({ type: "go", clip });
}

async function sendPicture(file) {
  if (!file) return;
  if (file.size > 8 * 2 ** 20) return complain("The picture has more than 8 MB; make it smaller.");
  socket.send(await file.arrayBuffer());
}
at("picture").addEventListener("change", () => sendPicture(at("picture").files[0]));
at("no_picture").addEventListener("click", () => send({ type: "no_picture" }));
at("screen").addEventListener("dragover", (event) => { event.preventDefault(); at("screen").classList.add("drop"); });
at("screen").addEventListener("dragleave", () => at("screen").classList.remove("drop"));
at("screen").addEventListener("drop", (event) => {
  event.preventDefault();
  at("screen").classList.remove("drop");
  if (!state.isWatching) sendPicture(event.dataTransfer.files[0]);
});

// Branches: the film of the way to a clip, alone or two of them side by side.

function pathTo(number) {
  const way = [];
  for (let clip = clips.get(number); clip; clip = clips.get(clip.parent)) way.unshift(clip);
  return way;
}

function listBranches() {
  const parents = new Set([...clips.values()].map((clip) => clip.parent));
  const leaves = [...clips.keys()].filter((number) => !parents.has(number));
  for (const [name, chosen] of [["branch_a", leaves.at(-2)], ["branch_b", leaves.at(-1)]]) {
    at(name).replaceChildren(...leaves.map((leaf) => new Option(`clip ${leaf} (${pathTo(leaf).length - 1} clips)`, leaf, false, leaf === chosen)));
  }
}

function playPath(canvas, number) {
  const way = pathTo(number), player = new Film(canvas, () => way.shift() ?? null);
  player.fps = film.fps;
  player.wake();
  return player;
}

at("compare").addEventListener("click", () => {
  at("pair").hidden = false;
  state.pair?.forEach((player) => { player.isPlaying = false; });
  state.pair = ["a", "b"].map((side) => playPath(at(`film_${side}`), Number(at(`branch_${side}`).value)));
});
at("replay").addEventListener("click", () => {
  if (film.isPlaying) return;
  state.again = pathTo(state.shown);
  film.wake();
});

// What the server says

const note = (text) => { at("note").textContent = text; };
function complain(text) {
  at("error").textContent = text;
  at("error").hidden = false;
  note("");
}

const calls = {
  hello(message) {
    state.isWatching = message.mode === "watch";
    document.body.classList.toggle("watch", state.isWatching);
    note(state.isWatching ? "waiting for an episode ..." : "");
    if (state.isWatching) return;
    choose(at("world"), message.worlds);
    state.realTimeSamplers = message.real_time_samplers;
    for (const name of ["sampler", "task", "collision", "flights"]) choose(at(name), message[name]);
  },
  opened(message) {
    clips.clear();
    map.clips.clear();
    map.points = null;
    Object.assign(state, { keys: message.keys ?? {}, ahead: null, queue: [], shown: 0, prompt: null, held: null, taps: null });
    film.isPlaying = false;
    film.fps = message.fps;
    for (const name of ["world", "sampler", "task", "collision", "seed"]) if (name in message) at(name).value = message[name];
    if ("prompt" in message) at("prompt").value = message.prompt ?? "";
    const names = {};
    for (const [letter, key] of Object.entries(state.keys)) (names[key] ??= []).push(letter === " " ? "space" : letter.replace("Arrow", ""));
    at("keys").replaceChildren(...Object.entries(names).flatMap(([key, letters]) => {
      const boxes = letters.map((letter) => Object.assign(document.createElement("kbd"), { textContent: letter }));
      for (const box of boxes) box.dataset.key = key;
      return [...boxes, ` ${key.replace("_", " ")} `];
    }));
    note("");
  },
  saved(message) {
    at("saved").textContent = message.command;
    at("saved").hidden = false;
    choose(at("flights"), message.flights, message.flights.at(-1));
  },
  queue(message) {
    state.before = message.before;
    if (message.before) note(`${message.before} before you`);
    else if (/before you/.test(at("note").textContent)) note("");
  },
  at(message) {
    const clip = clips.get(message.clip);
    Object.assign(state, { shown: message.clip, ahead: null, prompt: null });
    at("prompt").value = ""; // the one in force is that clip's
    map.here = message.clip;
    film.still(clip);
    remember(clip);
    status(clip);
  },
  dropped(message) { if (state.ahead?.clip === message.clip) state.ahead = null; },
  picture(message) {
    at("no_picture").hidden = !message.bytes;
    if (!message.bytes) at("picture").value = "";
    note(message.bytes ? "reset to fly from this picture" : "");
  },
  note(message) { note(message.text); },
  error(message) {
    if (state.held) hold(null);
    state.prompt = null;
    complain(message.text);
  },
};

function takeBinary(data) {
  const length = new DataView(data).getUint32(0);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const rest = data.slice(4 + length);
  if (facts.type === "points") takePoints(facts.count, rest);
  else takeClip({ ...facts, blob: new Blob([rest], { type: "image/jpeg" }) });
}

function takePoints(count, data) {
  map.points = { xyz: new Float32Array(data, 0, 3 * count), rgb: new Uint8Array(data, 12 * count) };
  map.draw();
}

function takeClip(clip) {
  if (clip.loaded) {
    remember(clip);
  } else if (clip.parent === null) {
    state.shown = map.here = clip.clip;
    film.still(clip);
    remember(clip);
    status(clip);
  } else {
    if (state.isWatching) state.queue.push(clip);
    else state.ahead = clip;
    film.wake();
  }
}

socket.onmessage = (event) => {
  if (event.data instanceof ArrayBuffer) takeBinary(event.data);
  else { const message = JSON.parse(event.data); calls[message.type]?.(message); }
};
socket.onclose = () => { state.isClosed = true; if (at("error").hidden) complain("The server is gone. Start it again and reload this page."); };
