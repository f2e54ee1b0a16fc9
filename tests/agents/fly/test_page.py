"""The page in a real browser: keys fly, branches come back, tabs stay apart, and what is wrong is a message."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from agents.fly.record import load_flight
from agents.fly.replay import replay_flight
from agents.fly.server import FlyServer
from agents.fly.settings import Settings
from cc2env.viewer import Viewer

pytestmark = pytest.mark.slow


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_key_that_is_held_flies_clip_after_clip_and_the_path_grows(open_page):
    page = open_page()
    page.page.keyboard.down("w")
    page.wait("flight.clips.size >= 4")
    page.page.keyboard.up("w")
    page.wait("!flight.film.isPlaying")
    clips = page.get("[...flight.clips.values()].map(c => [c.parent, c.key, c.achieved.at(-1)[11]])")
    assert [clip[:2] for clip in clips[:4]] == [[None, ""], [0, "forward"], [1, "forward"], [2, "forward"]]
    assert [round(clip[2], 3) for clip in clips[:4]] == [0, 1.2, 2.4, 3.6]  # metres: 4 poses of 0.3
    assert "frames/s" in page.page.inner_text("#status")
    still = page.get("flight.clips.size")
    time.sleep(1)
    assert page.get("flight.clips.size") == still  # nothing goes on without a key


def test_the_film_moves_while_it_plays_and_the_arrows_turn(open_page):
    page = open_page()
    page.page.keyboard.down("ArrowRight")
    page.wait("flight.film.isPlaying")
    pictures = set()
    for _ in range(20):
        pictures.add(page.get("document.getElementById('film').toDataURL()"))
        time.sleep(0.05)
    page.page.keyboard.up("ArrowRight")
    assert len(pictures) >= 4
    assert page.get("flight.clips.get(1).key") == "pan_right"


def test_a_click_on_an_earlier_view_goes_back_and_the_same_key_shows_the_same_bytes(open_page, server):
    page, other = open_page(), open_page()
    first = page.tap("a")
    second = page.tap("w")
    x, y, _ = page.get("flight.map.place(flight.clips.get(0))")
    page.page.click("#map", position={"x": x, "y": y})
    page.wait("flight.state.shown === 0")
    branch = page.tap("d")
    assert page.get(f"flight.clips.get({branch}).parent") == 0
    page.page.click("#undo")
    page.wait("flight.state.shown === 0")
    assert page.tap("a") == first and page.tap("w") == second
    # another session flies the same keys: two tabs do not disturb each other, and see the same world
    assert len(other.digests()) == 1
    flown = [other.tap("a"), other.tap("w")]
    assert [other.digests()[str(number)] for number in flown] == [page.digests()[str(n)] for n in (first, second)]


def test_branches_are_a_tree_and_a_click_in_it_goes_there(open_page):
    page = open_page()
    first, second = page.tap("a"), page.tap("ArrowLeft")
    page.page.click("#undo")
    page.wait(f"flight.state.shown === {first}")
    third = page.tap("w")
    way = [0, first, second, third]
    places = page.get(f"(() => {{ const all = flight.tree.layout(); return {way}.map(n => all.get(n)); }})()")
    assert places == [[0, 0], [1, 0], [2, 0], [2, 1]]  # column and row: the second branch has its own
    for number in (second, 0, third):
        x, y = page.get(f"flight.tree.place({number})")
        page.page.click("#tree", position={"x": x, "y": y})
        page.wait(f"flight.state.shown === {number}")
    page.page.click("#replay")  # the film of this branch
    page.wait(f"flight.film.isPlaying && flight.film.clip.clip === {third}")
    page.wait("!flight.film.isPlaying")


def test_a_flight_is_saved_loaded_and_flown_on_and_two_branches_play_side_by_side(open_page, server):
    page = open_page()
    first = page.tap("w")
    beside = page.tap("d")  # a clip that was made ahead and dropped has a number, too
    page.page.click("#undo")
    page.wait(f"flight.state.shown === {first}")
    way = [0, first, page.tap("ArrowLeft")]
    other_branch = page.digests()[str(beside)]
    saved = [page.digests()[str(number)] for number in way]
    page.page.click("#save")
    page.wait("!document.getElementById('saved').hidden")
    assert page.page.inner_text("#saved").startswith("python -m agents.fly replay=")
    page.page.click("#undo")
    page.wait(f"flight.state.shown === {first}")
    branch = page.tap("a")
    page.page.click("#compare")
    page.wait("flight.state.pair.every(film => film.isPlaying)")
    page.wait("flight.state.pair.every(film => !film.isPlaying)")
    assert page.get("flight.state.pair.map(film => film.clip.clip)") == [way[-1], branch]
    pictures = page.get("['a', 'b'].map(side => document.getElementById(`film_${side}`).toDataURL())")
    assert pictures[0] != pictures[1]

    other = open_page()
    other.page.fill("#seed", "9")
    other.page.click("#reset")
    other.wait(f"flight.clips.get(0).sha256 !== '{saved[0]}'")
    other.page.click("#load")
    other.wait("flight.state.shown === 2")
    assert list(other.digests().values()) == [*saved, other_branch]  # the way, then the branch beside it
    assert other.get("flight.clips.get(3).parent") == 1
    assert other.tap("w") == 4 and other.get("flight.clips.get(4).parent") == 2


def test_the_scene_is_shown_as_points(open_page):
    page = open_page()
    page.tap("ArrowLeft")
    page.tap("d")
    before = page.get("document.getElementById('map').toDataURL()")
    page.page.click("#points")
    page.wait("flight.map.points !== null && /points/.test(document.getElementById('note').innerText)")
    assert page.get("flight.map.points.xyz.length") > 1000
    time.sleep(0.2)
    assert page.get("document.getElementById('map').toDataURL()") != before


def test_dragging_the_film_looks_around(open_page):
    page = open_page()
    page.page.mouse.move(300, 200)
    page.page.mouse.down()
    page.page.mouse.move(420, 210, steps=3)
    page.wait("flight.state.held === 'pan_right'")
    page.page.mouse.up()
    page.wait("flight.clips.size > 1 && flight.state.held === null")
    assert page.get("flight.clips.get(1).key") == "pan_right"


def test_a_closed_tab_frees_its_session(open_page, server):
    wait_until(lambda: server.num_sessions == 0)
    page = open_page()
    assert server.num_sessions == 1
    page.page.keyboard.down("w")
    page.page.close()
    wait_until(lambda: server.num_sessions == 0)


def test_what_cannot_be_done_is_a_message_and_the_flight_goes_on(open_page, server):
    page = open_page()
    missing = page.get("[...document.querySelectorAll('#world option')].map(o => o.value)")[1]
    for action, said in (
        (lambda: page.page.select_option("#world", missing), "missing"),
        (lambda: (page.page.select_option("#world", "synthetic"), page.page.fill("#prompt", "a red box")), "prompt"),
    ):
        action()
        page.page.click("#reset")
        page.wait(f"!document.getElementById('error').hidden && /{said}/.test(document.body.innerText)")
        assert "Traceback" not in page.page.inner_text("body")
    before = page.digests()
    page.page.fill("#prompt", "")
    page.page.fill("#seed", "8")
    page.page.click("#reset")
    page.wait(f"flight.clips.get(0)?.sha256 !== '{before['0']}'")
    assert page.tap("w") == 1


def test_another_world_is_chosen_with_a_sampler_that_it_has(open_page, server):
    page = open_page()
    page.tap("w")
    page.page.select_option("#sampler", "fast")  # the renderer has none: a reset would be refused
    page.page.select_option("#world", index=1)
    page.page.select_option("#world", "synthetic")
    assert page.page.input_value("#sampler") == "default"
    page.page.click("#reset")
    page.wait("flight.clips.size === 1")
    assert not page.page.is_visible("#error")


def test_the_server_survives_garbage(open_page, server):
    page = open_page()
    address = server.address.replace("http", "ws", 1) + "tab"
    with connect(address) as socket:
        for garbage in (
            "", "null", "[]", "{", "[" * 100_000, '{"type": []}', '{"type": "go", "clip": "../../etc/passwd"}',
            '{"type": "go", "clip": -1}', '{"type": "hold", "key": {}}', '{"type": "hold", "key": "jump"}',
            '{"type": "reset", "world": "/etc"}', '{"type": "reset", "seed": 1e400}', '{"type": "playing", "clip": 7}',
            b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        ):  # fmt: skip
            socket.send(garbage)
        errors = []
        while len(errors) < 13:
            said = socket.recv(timeout=60)
            errors += [said] if isinstance(said, str) and '"error"' in said else []
        assert not any("Traceback" in text for text in errors)
    assert page.tap("w") == 1


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(server):
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")  # some kilobytes
    with connect(server.address.replace("http", "ws", 1) + "tab") as socket:
        socket.send(bomb.getvalue())
        while not (isinstance(said := socket.recv(timeout=60), str) and '"error"' in said):
            pass
        assert "pixels" in said
        with pytest.raises(Exception, match=r"1009|too big"):
            socket.send(b"x" * (9 * 2**20))
            while True:
                socket.recv(timeout=60)


def test_four_sessions_at_once_stay_responsive_and_see_their_queue(server):
    def fly(number):
        before, clips, started = set(), 0, time.monotonic()
        with connect(server.address.replace("http", "ws", 1) + "tab") as socket:
            while clips < 4:
                message = socket.recv(timeout=60)
                if isinstance(message, bytes):
                    socket.send(json.dumps({"type": "playing", "clip": clips}))
                    socket.send(json.dumps({"type": "hold", "key": "left" if number % 2 else "forward"}))
                    clips += 1
                elif '"queue"' in message:
                    before.add(json.loads(message)["before"])
        return before, time.monotonic() - started

    wait_until(lambda: server.num_sessions == 0)
    with ThreadPoolExecutor(4) as threads:
        flown = list(threads.map(fly, range(4)))
    assert max(seconds for _, seconds in flown) < 60
    assert set.union(*(before for before, _ in flown)) >= {1, 2}


def test_an_episode_can_be_watched_live(open_page):
    env = Viewer(gym.make("CameraCtrlWorld-v0", world="synthetic"))
    env.reset(seed=3)
    page = open_page(env.address)
    assert page.page.is_hidden("#settings")
    for _ in range(3):
        env.step(np.full((4, 6), 0.1, np.float32))
    page.wait("Math.max(...flight.clips.keys()) === 4")
    page.wait("!flight.film.isPlaying")
    assert page.get("[...flight.clips.values()].flatMap(clip => clip.achieved).length") >= 12  # the whole path
    env.close()


def test_a_picture_and_a_prompt_are_flown_from_and_the_prompt_changes_in_flight(open_page, random_world, tmp_path):
    world = str(random_world.save(tmp_path / "world"))
    Image.effect_noise((64, 32), 90).convert("RGB").save(tmp_path / "picture.png")
    server = FlyServer(Settings(world=world, seed=3), [world], tmp_path / "run", port=0)
    page = open_page(server.address)
    before = page.digests()["0"]
    page.page.set_input_files("#picture", tmp_path / "picture.png")
    page.wait("/reset to fly/.test(document.getElementById('note').innerText)")
    page.page.fill("#prompt", "red box")
    page.page.click("#reset")
    page.wait(f"flight.clips.get(0)?.sha256 !== '{before}'")
    assert page.get("[flight.clips.get(0).prompt, flight.clips.get(0).evaluations]") == ["red box", 0]
    first = page.tap("w")
    page.page.fill("#prompt", "blue dome")
    page.page.press("#prompt", "Enter")
    second = page.tap("w")
    assert page.get(f"[{first}, {second}].map(number => flight.clips.get(number).prompt)") == ["red box", "blue dome"]
    page.page.click("#save")
    page.wait("!document.getElementById('saved').hidden")
    saved = tmp_path / "run" / "session-1" / "saved-0000"
    assert (saved / "first_frame").read_bytes() == (tmp_path / "picture.png").read_bytes()
    replay_flight(load_flight(saved))
    server.close()
