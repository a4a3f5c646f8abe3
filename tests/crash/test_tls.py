"""Stores and workers over TLS: who cannot prove who he is gets nothing, and nobody is told a secret."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

import qanat
from qanat.errors import StoreError
from tests.crash.crew import Crew

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates"),
]


def run(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Give a folder with an authority and the certificates of two servers and of a client."""
    folder = tmp_path_factory.mktemp("papers")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(
        folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca"
    )
    for name, known_as in (
        ("here", "IP:127.0.0.1"),
        ("elsewhere", "DNS:elsewhere.example"),
        ("me", "DNS:me"),
    ):
        (folder / "more").write_text(f"subjectAltName={known_as}\n")
        run(folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run(
            folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "more",
        )  # fmt: skip
    return folder


class Gate:
    """A port that speaks TLS, before a server that does not."""

    def __init__(self, target, papers, name="here", *, asks=False, highest=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(papers / f"{name}.pem", papers / f"{name}.key")
        if highest is not None:
            self.context.minimum_version = self.context.maximum_version = highest
            self.context.set_ciphers("ALL:@SECLEVEL=0")
        if asks:
            self.context.load_verify_locations(papers / "ca.pem")
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.target = target
        self.ended = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self):
        while not self.ended.is_set():
            if select.select([self.listener], [], [], 0.05)[0]:
                near, _ = self.listener.accept()
                self.threads.append(threading.Thread(target=self._carry, args=(near,)))
                self.threads[-1].start()

    def _carry(self, plain):
        with plain, socket.socket(socket.AF_UNIX) as far:
            try:
                far.connect(self.target)
                with self.context.wrap_socket(plain, server_side=True) as near:
                    while not self.ended.is_set():
                        ready = [near] if near.pending() else select.select([near, far], [], [], 0.05)[0]
                        for each in ready:
                            data = each.recv(65536)
                            if not data:
                                return
                            (far if each is near else near).sendall(data)
            except OSError:
                pass  # refused by one of the two, or gone

    def close(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(10)
        self.listener.close()


@pytest.fixture
def gate(server, papers):
    """Give what opens such a port."""
    gates = []

    def make(*arguments, **options):
        gates.append(Gate(server.socket, papers, *arguments, **options))
        return f"rediss://127.0.0.1:{gates[-1].port}"

    yield make
    for each in gates:
        each.close()


def put(url):
    with qanat.open(url) as store:
        return store.queue("q", keep=60.0).put("a").is_new


def test_server_that_is_known_is_used_and_workers_work(gate, papers, server, tmp_path):
    url = f"{gate()}?ca={papers}/ca.pem"
    crew = Crew(tmp_path, server.url)
    try:
        crew.naps(20, 0.01)
        worker = crew.worker("--burst", url=url)
        assert worker.wait() == 0
        crew.check()
    finally:
        crew.end()


def test_server_that_nobody_vouches_for_is_refused(gate):
    with pytest.raises(StoreError, match="certificate verify failed"):
        put(gate())


def test_server_with_the_papers_of_another_is_refused(gate, papers):
    with pytest.raises(StoreError, match="certificate verify failed"):
        put(f"{gate('elsewhere')}?ca={papers}/ca.pem")


def test_client_shows_its_papers_where_they_are_asked_for(gate, papers):
    url = f"{gate(asks=True)}?ca={papers}/ca.pem"
    with pytest.raises(StoreError):
        put(url)
    assert put(f"{url}&cert={papers}/me.pem&key={papers}/me.key")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_what_is_older_than_tls_1_2_is_refused(gate, papers):
    with pytest.raises(StoreError):
        put(f"{gate(highest=ssl.TLSVersion.TLSv1_1)}?ca={papers}/ca.pem")
