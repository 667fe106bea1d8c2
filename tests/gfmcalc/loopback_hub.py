"""A small Hugging Face hub on the loopback interface, for the real client to talk to.

It keeps repositories in memory: commits, one branch, tags, and large files by their SHA-256. It
can be told to fail: see `LoopbackHub.corrupt`, `answer` and `interlope`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopback"


@dataclass
class Repository:
    """The files of every commit, by path; the last commit is the head of `main`."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def commit(self, files: dict[str, bytes]) -> str:
        state = repr((len(self.commits), sorted(files.items())))
        sha = hashlib.sha1(state.encode()).hexdigest()
        self.commits[sha] = files
        return sha

    def find(self, revision: str) -> str | None:
        """The commit that a branch, tag or commit id stands for."""
        if revision == "main":
            return self.head
        return self.tags.get(revision, revision if revision in self.commits else None)


@dataclass
class Fault:
    """An answer with an error status, for the next requests that match."""

    status: int
    method: str
    path: str
    times: int


class LoopbackHub:
    """The server; a context manager that runs it in a thread."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.uploads: dict[str, bytes] = {}
        self._faults: list[Fault] = []
        self._corrupt: dict[str, int] = {}
        self._interloper = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LoopbackHub":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port: from now on no connection is accepted."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def corrupt(self, path: str, *, times: int = 1) -> None:
        """Change one byte of this file in the next downloads of it."""
        self._corrupt[path] = times

    def answer(self, status: int, *, method: str, path: str, times: int = 1) -> None:
        """Answer the next requests whose path contains `path` with an error."""
        self._faults.append(Fault(status, method, path, times))

    def interlope(self) -> None:
        """Let somebody else make a commit just before the next one arrives."""
        self._interloper = True

    def downloads(self, path: str) -> int:
        """How often this file was sent."""
        return sum(line.startswith("GET ") and line.endswith(f"/{path}") for line in self.requests)

    def take_fault(self, method: str, path: str) -> int | None:
        for fault in self._faults:
            if fault.times > 0 and fault.method == method and fault.path in path:
                fault.times -= 1
                return fault.status
        return None

    def on_the_way(self, path: str, data: bytes) -> bytes:
        """The bytes that a download gets, with one changed if that was asked for."""
        if self._corrupt.get(path, 0) == 0:
            return data
        self._corrupt[path] -= 1
        return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]

    def take_interloper(self, repository: Repository) -> None:
        if self._interloper:
            self._interloper = False
            repository.commit({**repository.commits[repository.head], "other.txt": b"other"})


class Refused(Exception):  # noqa: N818 (an answer of the server, not an error in it)
    """An answer with an error status; `document` is its body."""

    def __init__(self, status: int, code: str, message: str = "", document: Any = None) -> None:
        super().__init__(message or code)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message or code}
        self.body = b"" if document is None else json.dumps(document).encode()


def is_large(path: str) -> bool:
    """Whether a file goes the way of large files, by its SHA-256."""
    return path.endswith(".safetensors")


def git_id(data: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def etag(path: str, data: bytes) -> str:
    """What the hub calls this content."""
    return hashlib.sha256(data).hexdigest() if is_large(path) else git_id(data)


class HubHandler(BaseHTTPRequestHandler):
    """One request. Routes are tried in order; the groups of a pattern are the arguments."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.0"  # a connection per request: none outlives `LoopbackHub.stop`

    def do(self) -> None:
        """Answer a request of any method."""
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        try:
            self.route(path)
        except Refused as refused:
            self.send(refused.status, refused.body, refused.headers)

    def route(self, path: str) -> None:
        if (status := self.hub.take_fault(self.command, path)) is not None:
            raise Refused(status, "Injected")
        for method, pattern, action in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split():
                action(self, *found.groups())
                return
        raise Refused(404, "NoRoute", f"{self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = do  # noqa: N815 (the names that http.server looks for)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Be silent."""

    def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, document: Any) -> None:
        self.send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def repository(self, repo_id: str) -> Repository:
        if repo_id not in self.hub.repositories:
            raise Refused(404, "RepoNotFound", "Repository not found")
        return self.hub.repositories[repo_id]

    def commit_of(self, repo_id: str, revision: str) -> str:
        found = self.repository(repo_id).find(revision)
        if found is None:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        return found

    def require_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Unauthorized", "Invalid user token.")


def create(handler: HubHandler) -> None:
    handler.require_token()
    wanted = json.loads(handler.body)
    repo_id = f"{wanted['organization']}/{wanted['name']}"
    answer = {"url": f"{handler.hub.url}/{repo_id}", "name": repo_id}
    if repo_id in handler.hub.repositories:
        raise Refused(409, "Conflict", "You already created this model repo", answer)
    # Clients before 2.0 send `private`, later ones `visibility`.
    private = wanted.get("private") or wanted.get("visibility") == "private"
    repository = Repository(private=bool(private))
    repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
    handler.hub.repositories[repo_id] = repository
    handler.json(answer)


def validate_yaml(handler: HubHandler) -> None:
    handler.json({"errors": [], "warnings": []})


def info(handler: HubHandler, repo_id: str, revision: str | None) -> None:
    repository = handler.repository(repo_id)
    sha = handler.commit_of(repo_id, revision or "main")
    files = [{"rfilename": path} for path in repository.commits[sha]]
    fields = {"id": repo_id, "sha": sha, "private": repository.private, "siblings": files}
    handler.json({**fields, "tags": [], "downloads": 0, "likes": 0})


def refs(handler: HubHandler, repo_id: str) -> None:
    repository = handler.repository(repo_id)
    tags = [
        {"name": name, "ref": f"refs/tags/{name}", "targetCommit": sha}
        for name, sha in repository.tags.items()
    ]
    main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head}
    handler.json({"branches": [main], "tags": tags, "converts": []})


def tag(handler: HubHandler, repo_id: str, revision: str) -> None:
    handler.require_token()
    name = json.loads(handler.body)["tag"]
    handler.repository(repo_id).tags[name] = handler.commit_of(repo_id, revision)
    handler.json({})


def preupload(handler: HubHandler, repo_id: str) -> None:
    handler.require_token()
    handler.repository(repo_id)
    answers = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if is_large(file["path"]) else "regular",
            "shouldIgnore": False,
        }
        for file in json.loads(handler.body)["files"]
    ]
    handler.json({"files": answers})


def lfs_batch(handler: HubHandler, repo_id: str) -> None:
    handler.require_token()
    handler.repository(repo_id)
    objects = [
        {**wanted, "actions": {"upload": {"href": f"{handler.hub.url}/upload/{wanted['oid']}"}}}
        for wanted in json.loads(handler.body)["objects"]
    ]
    handler.json({"transfer": "basic", "objects": objects})


def lfs_put(handler: HubHandler, oid: str) -> None:
    if hashlib.sha256(handler.body).hexdigest() != oid:
        raise Refused(400, "ChecksumMismatch")
    handler.hub.uploads[oid] = handler.body
    handler.send(200, b"")


def commit(handler: HubHandler, repo_id: str) -> None:
    handler.require_token()
    repository = handler.repository(repo_id)
    handler.hub.take_interloper(repository)
    files = dict(repository.commits[repository.head])
    for line in handler.body.splitlines():
        operation = json.loads(line)
        key, value = operation["key"], operation["value"]
        if key == "header" and value.get("parentCommit") not in (None, repository.head):
            raise Refused(412, "PreconditionFailed", "A commit has happened since.")
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = handler.hub.uploads[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]
    sha = repository.commit(files)
    url = f"{handler.hub.url}/{repo_id}/commit/{sha}"
    handler.json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})


def tree(handler: HubHandler, repo_id: str, revision: str) -> None:
    files = handler.repository(repo_id).commits[handler.commit_of(repo_id, revision)]
    handler.json([_tree_entry(path, data) for path, data in files.items()])


def _tree_entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "oid": git_id(data), "size": len(data)}
    if not is_large(path):
        return entry
    return {**entry, "lfs": {"oid": etag(path, data), "size": len(data), "pointerSize": 134}}


def resolve(handler: HubHandler, repo_id: str, revision: str, path: str) -> None:
    sha = handler.commit_of(repo_id, revision)
    data = handler.repository(repo_id).commits[sha].get(path)
    if data is None:
        raise Refused(404, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": sha, "ETag": f'"{etag(path, data)}"'}
    if handler.command == "GET":
        data = handler.hub.on_the_way(path, data)
    handler.send(200, data, headers)


REPO = "([^/]+/[^/]+)"

ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("GET", f"/api/models/{REPO}(?:/revision/(.+))?", info),
    ("GET", f"/api/models/{REPO}/refs", refs),
    ("GET", f"/api/models/{REPO}/tree/([^/]+)", tree),
    ("POST", f"/api/models/{REPO}/tag/(.+)", tag),
    ("POST", f"/api/models/{REPO}/preupload/main", preupload),
    ("POST", f"/api/models/{REPO}/commit/main", commit),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", "/upload/([0-9a-f]{64})", lfs_put),
    ("HEAD GET", f"/{REPO}/resolve/([^/]+)/(.+)", resolve),
)


def _handler_of(hub: LoopbackHub) -> type[HubHandler]:
    return type("BoundHandler", (HubHandler,), {"hub": hub})
