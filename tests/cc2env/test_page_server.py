"""Who may connect to the page, and what it serves."""

import urllib.error
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cc2env.viewer.page_server import PageServer


def echo(tab):
    for message in tab.messages():
        tab.send(message if isinstance(message, bytes) else {"got": message})


@pytest.fixture
def server():
    opened = PageServer(echo, most_tabs=2)
    yield opened
    opened.close()


def status(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def refused(address, **options):
    with pytest.raises(InvalidStatus) as refusal, connect(address, **options):
        pass
    return refusal.value.response.status_code


def test_the_page_and_its_files_are_served_and_nothing_else(server):
    for path in ("", "page.js", "film.js", "map.js", "tree.js", "style.css"):
        assert status(server.address + path) == 200
    for path in ("page_server.py", "../page_server.py", "%2e%2e/viewer.py", "page/index.html", "//etc/passwd", "x"):
        assert status(server.address + path) == 404


def test_messages_go_both_ways_and_what_is_no_object_has_no_type(server):
    with connect(server.address.replace("http", "ws") + "tab") as socket:
        for sent, received in (('{"a": 1}', '{"got": {"a": 1}}'), ("[1]", '{"got": {"type": null}}'), (b"ab", b"ab")):
            socket.send(sent)
            assert socket.recv(timeout=20) == received


def test_pages_of_other_sites_and_other_names_of_this_address_are_refused(server):
    tab = server.address.replace("http", "ws") + "tab"
    assert refused(tab, origin="http://evil.example") == 403
    assert refused(tab, origin="null") == 403
    assert refused(tab, origin=f"http://127.0.0.1:{server.port + 1}") == 403
    with connect(tab, origin=server.address.rstrip("/")):
        pass
    assert status(server.address, Host=f"evil.example:{server.port}") == 403
    assert status(server.address, Host=f"localhost:{server.port}") == 200


def test_another_host_needs_a_token_and_then_every_visitor_does():
    for options in ({"host": "0.0.0.0"}, {"host": "example.org"}, {"host": "0.0.0.0", "token": "short"}):
        with pytest.raises(ValueError, match=r"token: expected|give token="):
            PageServer(echo, **options)
    server = PageServer(echo, host="0.0.0.0", token="long and secret")
    address = f"http://127.0.0.1:{server.port}/"
    assert [status(address + query) for query in ("", "?token=", "?token=wrong", "?token=long%20and%20secret")] == [
        403, 403, 403, 200,
    ]  # fmt: skip
    assert refused(address.replace("http", "ws") + "tab?token=wrong") == 403
    with connect(address.replace("http", "ws") + "tab?token=long%20and%20secret") as socket:
        socket.send("{}")
        assert socket.recv(timeout=20) == '{"got": {}}'
    server.close()


def test_a_place_that_is_taken_is_one_line(server):
    with pytest.raises(ValueError, match="give port=0"):
        PageServer(echo, port=server.port)
    with pytest.raises(ValueError, match="port"):
        PageServer(echo, port=99_999)


def test_one_tab_too_many_is_told_so_and_a_closed_one_makes_room(server):
    address = server.address.replace("http", "ws") + "tab"
    with connect(address) as first, connect(address) as second:
        for socket in (first, second):
            socket.send("{}")
            socket.recv(timeout=20)  # both have their place before the third one comes
        with connect(address) as third:
            assert "2 places" in third.recv(timeout=20)
            with pytest.raises(ConnectionClosed):
                third.recv(timeout=20)
        first.close()
        while server.open_tabs > 1:
            pass
        with connect(address) as again:
            again.send("{}")
            assert again.recv(timeout=20) == '{"got": {}}'
