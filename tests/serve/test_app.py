"""The server of the local page, over real connections: masks as make overlay writes them, limits, and other pages."""

import gzip
import http.client
import io
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.errors import UserError
from pipeline.inference.image_model import load_image_model
from pipeline.inference.overlay import write_overlays
from pipeline.serve import app as app_module
from pipeline.serve import photos as photos_module
from pipeline.serve.app import clean_name
from pipeline.serve.photos import PhotoStore, predict_photo, preview_size
from pipeline.serve.server import listen
from tests.serve.helpers import OCTETS, photo_bytes, random_weights, running, sideways_photo

pytestmark = pytest.mark.slow
COMPETITIONS = ("carvana", "severstal-steel", "understanding-clouds", "nuclei-instances", "airbus-ship", "gone")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("weights")
    return {name: random_weights(folder / f"{name}.safetensors", name, recipe) for name in COMPETITIONS}


@pytest.fixture(scope="module")
def server(weights):
    with running(weights["carvana"]) as url:
        yield url


def post(url: str, data: bytes, name: str = "car_01.jpg", **headers: str) -> requests.Response:
    return requests.post(f"{url}/photos?name={quote(name)}", data=data, headers={**OCTETS, **headers}, timeout=30)


def png_bomb(width: int, height: int) -> bytes:
    """Return a PNG of some bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", COMPETITIONS)
def test_files_are_those_of_overlay_for_every_kind_of_competition(weights, name, tmp_path):
    """Also for a photo that EXIF turns: the mask is that of the upright photo."""
    for threshold, data, file in (("0.5", photo_bytes(1), "wide_01.jpg"), ("0.47", sideways_photo(2), "turned_02.jpg")):
        (tmp_path / file).write_bytes(data)
        list(write_overlays(weights[name], [tmp_path / file], tmp_path / "out", float(threshold)))
        expected = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix != ".jpg"}
        found = {}
        with running(weights[name]) as url:
            answer = post(url, data, file).json()
            assert answer["size"] == ([94, 62] if file.startswith("wide") else [62, 94])
            place = f"{url}/photos/{answer['key']}"
            files = [f"mask/{index}.png" for index in range(len(answer["needed"]))]
            for part in [*files, "rle.csv"] if name != "gone" else files:
                reply = requests.get(f"{place}/{part}?threshold={threshold}", timeout=30)
                saved_as = reply.headers["Content-Disposition"].removeprefix("attachment; filename*=UTF-8''")
                found[saved_as] = reply.content
            assert found == {key: value for key, value in expected.items() if key.startswith(file[:4])}
            assert requests.get(f"{place}/rle.csv", timeout=30).ok == (name != "gone")


def test_page_can_draw_the_mask_from_the_levels(server):
    answer = post(server, photo_bytes()).json()
    place = f"{server}/photos/{answer['key']}"
    levels = np.frombuffer(requests.get(f"{place}/levels", timeout=30).content, np.uint8).reshape(62, 94)
    for step, threshold in ((19, "0.2"), (49, "0.5"), (98, "0.99")):
        mask = np.asarray(
            Image.open(io.BytesIO(requests.get(f"{place}/mask/0.png?threshold={threshold}", timeout=30).content))
        )
        assert np.array_equal(levels >= answer["needed"][0][step], mask > 0)
        assert answer["areas"][0][step] == (mask > 0).sum()
    assert Image.open(io.BytesIO(requests.get(f"{place}/preview.jpg", timeout=30).content)).size == (94, 62)
    assert Image.open(io.BytesIO(requests.get(f"{place}/thumbnail.jpg", timeout=30).content)).size == (192, 127)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"Dear diary", "cannot be decoded (it is not BMP, GIF"),
        (photo_bytes()[:500], "cannot be decoded"),
        (png_bomb(60_000, 60_000), "claims 60000 × 60000 pixels; the limit is 50 million"),
        (png_bomb(9_000, 9_000), "claims 9000 × 9000 pixels; the limit is 50 million"),
        (png_bomb(6_000, 6_000), "cannot be decoded"),
        (b"", "is empty"),
    ],
    ids=["text", "truncated", "huge", "large", "claims", "empty"],
)
def test_a_bad_file_gets_a_sentence(server, data, sentence):
    answer = post(server, data, "x.png")
    assert answer.status_code == 200
    assert answer.json()["error"].startswith(sentence)


def test_every_stored_kind_of_photo_is_taken(server):
    for kind in ("PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG2000"):
        assert post(server, photo_bytes(format=kind), f"x.{kind}").status_code == 201
    assert post(server, photo_bytes(size=(3000, 1), format="PNG")).json()["preview_size"] == [3000, 1]


class TestOtherPages:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "0.0.0.0"])
    def test_a_rebound_name_is_refused(self, server, host):
        for method, path in (("GET", "/"), ("POST", "/photos?name=x"), ("GET", "/serve.js")):
            assert (
                requests.request(method, server + path, headers={**OCTETS, "Host": host}, timeout=9).status_code == 400
            )

    def test_both_names_of_loopback_are_allowed_through_any_port(self, server):
        for host in ("127.0.0.1", "localhost", "localhost:9000"):
            assert requests.get(server, headers={"Host": host}, timeout=9).ok

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:3000"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_requests_of_other_pages_are_refused(self, server, headers):
        assert post(server, photo_bytes(), **headers).status_code == 403
        key = post(server, photo_bytes()).json()["key"]
        for method, path in (("GET", "preview.jpg"), ("DELETE", ""), ("GET", "rle.csv")):
            url = f"{server}/photos/{key}/{path}".rstrip("/")
            assert requests.request(method, url, headers=headers, timeout=9).status_code == 403
        assert requests.get(f"{server}/photos/{key}/preview.jpg", timeout=9).ok

    def test_a_link_to_the_page_is_allowed_but_not_to_embed_it(self, server):
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert requests.get(server, headers=link, timeout=9).ok
        assert requests.get(server, headers={**link, "Sec-Fetch-Mode": "no-cors"}, timeout=9).status_code == 403
        policy = requests.get(server, timeout=9).headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy

    @pytest.mark.parametrize(
        "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
    )
    def test_a_form_cannot_upload(self, server, kind):
        assert post(server, photo_bytes(), **{"Content-Type": kind}).status_code == 415

    def test_no_answer_allows_another_origin_and_none_is_cached(self, server):
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answers = [requests.options(f"{server}/photos", headers=asked, timeout=9), requests.get(server, timeout=9)]
        for answer in answers:
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "server" not in {name.lower() for name in answer.headers} or answer.headers["server"] == "uvicorn"


class TestLimits:
    def test_a_file_that_is_too_long_is_refused_whether_or_not_it_says_so(self, weights, monkeypatch):
        monkeypatch.setattr(app_module, "MAX_BYTES", 100_000)
        with running(weights["carvana"]) as url:
            assert post(url, bytes(100_001)).json()["error"].startswith("a photo may have up to")
            host, port = url.removeprefix("http://").split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=9)
            chunks = (bytes(30_000) for _ in range(4))
            connection.request("POST", "/photos?name=x", chunks, OCTETS, encode_chunked=True)
            assert connection.getresponse().status == 413

    def test_one_photo_is_predicted_at_a_time_and_few_wait(self, weights, monkeypatch):
        running_now, most = 0, 0
        predict = app_module.predict_photo

        def slow(*arguments):
            nonlocal running_now, most
            running_now += 1
            most = max(most, running_now)
            time.sleep(0.3)
            running_now -= 1
            return predict(*arguments)

        monkeypatch.setattr(app_module, "predict_photo", slow)
        with running(weights["carvana"]) as url, ThreadPoolExecutor(12) as pool:
            codes = [answer.status_code for answer in pool.map(lambda _: post(url, photo_bytes()), range(12))]
            assert codes.count(201) == app_module.MAX_WAITING
            assert codes.count(503) == 12 - app_module.MAX_WAITING
            assert most == 1
            assert post(url, photo_bytes()).status_code == 201, "the places are free again"

    def test_a_page_that_goes_away_while_it_sends_frees_its_place(self, server):
        host, port = server.removeprefix("http://").split(":")
        for _ in range(2 * app_module.MAX_WAITING):
            with socket.create_connection((host, int(port))) as connection:
                head = f"POST /photos?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Type: {OCTETS['Content-Type']}\r\n"
                connection.sendall(f"{head}Content-Length: 5000\r\n\r\nabc".encode())
                time.sleep(0.05)
        time.sleep(0.2)
        assert post(server, photo_bytes()).status_code == 201

    def test_old_photos_are_forgotten_and_it_says_so(self, server, weights):
        model = load_image_model(weights["carvana"])
        photo = predict_photo(model, photo_bytes(), "x.jpg", [0.5])
        store = PhotoStore(2 * photo.stored_bytes)
        keys = [store.add(photo) for _ in range(3)]
        assert [store.get(key) is not None for key in keys] == [False, True, True]
        assert PhotoStore(1).get(PhotoStore(1).add(photo)) is None
        key = post(server, photo_bytes()).json()["key"]
        assert requests.delete(f"{server}/photos/{key}", timeout=9).status_code == 204
        answer = requests.get(f"{server}/photos/{key}/preview.jpg", timeout=9)
        assert (answer.status_code, answer.json()["error"]) == (
            404,
            "this photo is not in memory any more; drop it again",
        )

    def test_a_large_photo_is_shown_smaller_and_its_mask_has_all_pixels(self, weights, monkeypatch):
        monkeypatch.setattr(photos_module, "_PREVIEW_PIXELS", 1000)
        photo = predict_photo(load_image_model(weights["severstal-steel"]), photo_bytes(), "x.jpg", [0.5])
        width, height = photo.preview_size
        assert width * height <= 1000 * 1.05
        assert len(gzip.decompress(photo.shown_counts)) == 4 * width * height
        assert photo.masks(0.5).shape == (4, 62, 94)
        assert preview_size((100_000, 1)) == (4096, 1)

    def test_only_thresholds_of_the_page_are_answered(self, server):
        key = post(server, photo_bytes()).json()["key"]
        for text in ("0.123", "nan", "2", "x", ""):
            assert requests.get(f"{server}/photos/{key}/rle.csv?threshold={text}", timeout=9).status_code == 400
        assert requests.get(f"{server}/photos/{key}/mask/1.png?threshold=0.5", timeout=9).status_code == 404


def test_names_are_plain_and_downloads_keep_them(server):
    assert clean_name("../../etc/passwd") == "passwd"
    assert clean_name("C:\\photos\\a.jpg") == "a.jpg"
    assert clean_name("a\r\nSet-Cookie: x.jpg") == "aSet-Cookie: x.jpg"
    assert clean_name("..") == clean_name("") == "photo"
    assert clean_name("x" * 300 + ".jpg").endswith("x.jpg")
    key = post(server, photo_bytes(), 'größe "1".jpg').json()["key"]
    answer = requests.get(f"{server}/photos/{key}/rle.csv", timeout=9)
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22_rle.csv"
    assert answer.text.startswith('img,rle_mask\n"größe ""1"".jpg",')


def test_a_bug_is_a_sentence_and_the_server_goes_on(weights, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    with running(weights["carvana"]) as url:
        monkeypatch.setattr(app_module, "predict_photo", broken)
        answer = post(url, photo_bytes())
        assert (answer.status_code, answer.json()["error"]) == (500, "an error of the program; the terminal shows it")
        monkeypatch.undo()
        assert post(url, photo_bytes()).status_code == 201


def test_a_port_in_use_is_one_sentence_and_only_loopback_is_bound():
    with listen(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(UserError, match=f"port {port}: is used by another program; choose another one"):
            listen(port)
