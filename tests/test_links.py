"""tools.links: which addresses are found in a text, and which of them lead nowhere."""

import http.server
import threading

import pytest

from tools import links


@pytest.mark.parametrize(
    "text, found",
    [
        ("See [Kim 2014](https://a.org/D14-1181/).", {"https://a.org/D14-1181/"}),
        ("<https://a.org/x_(y)>, https://b.org.", {"https://a.org/x_(y)", "https://b.org"}),
        ("(at https://a.org/x), http://127.0.0.1:8888/lab", {"https://a.org/x"}),
        ('"git+https://a.org/o/n"', {"https://a.org/o/n"}),
        ("no address: a.org", set()),
    ],
)
def test_addresses_are_found_without_their_punctuation(text, found):
    assert links.find_links(text) == found


@pytest.fixture
def site():
    """A site with a page, one that refuses programs, and nothing else."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response({"/page": 200, "/refused": 403}.get(self.path, 404))
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_link_that_leads_nowhere_is_told(site):
    assert links.trouble(f"{site}/page") == links.trouble(f"{site}/refused") == ""
    assert links.trouble(f"{site}/gone") == "404 Not Found"
    assert links.trouble("http://127.0.0.1:1/") and links.trouble("http://")


def test_a_notebook_is_read_without_its_outputs(tmp_path):
    path = tmp_path / "01.ipynb"
    path.write_text('{"cells": [{"source": ["https://a.org"], "outputs": [{"text": "https://b.org"}]}]}')
    assert links.find_links(links.read(path)) == {"https://a.org"}
