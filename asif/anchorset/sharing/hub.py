"""The door to huggingface_hub: a set as a dataset repository, whose files are those of a parcel and a card.

Files are named by their content, so that a second push uploads only what is new. Tokens, endpoint, proxies, offline
mode are huggingface_hub's own business.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asif.anchorset.format.atomic_io import check_content, flush, hash_file
from asif.anchorset.format.folder import CONTENT
from asif.anchorset.format.manifest import FileEntry
from asif.anchorset.sharing.bundle import KINDS, MANIFEST, Parcel, listed
from asif.anchorset.sharing.verified_copy import Progress
from asif.errors import AsifError, Conflict, InputRefused, IntegrityError, MissingDependency, NotFound, UsageError
from asif.version import VERSION

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete

CARD = "README.md"
KIND = "dataset"
LARGEST = 64 << 20  # bytes of a manifest


@dataclass(frozen=True)
class Pushed:
    """Hold what a push came to: the commit, and which files were new there, and which are there no more."""

    repo: str
    revision: str
    commit: str
    uploaded: tuple[str, ...]
    bytes: int
    deleted: tuple[str, ...]
    private: bool


def push(
    parcel: Parcel,
    repo: str,
    card: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
) -> Pushed:
    """Make a dataset repository hold this version, in one commit; it is made where there is none.

    Blocks that it has already are not uploaded again, those that the version does not have are deleted from it; other
    files of the repository stay. Raises AsifError where the Hub cannot be reached or refuses, NotFound, Conflict where
    somebody else has pushed meanwhile, UsageError where it is to be private and is not, IntegrityError.
    """
    check_repo(repo)
    with speaking(repo, shown=True):
        api = _api()
        api.create_repo(repo, repo_type=KIND, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, repo_type=KIND, exist_ok=True)
        found = api.dataset_info(repo, revision=revision)
        if private and not found.private:
            raise UsageError(
                f"the repository {repo} is public already", "a private one", "make it private first, or name another"
            )
        new, gone = _changes(parcel, _files(api, repo, str(found.sha)))
        done = api.create_commit(
            repo,
            _operations(parcel, card, new, gone),
            commit_message=message or f"{parcel.manifest.ref}: {parcel.manifest.count:,} anchors",
            repo_type=KIND,
            revision=revision,
            parent_commit=str(found.sha),
        )
    size = sum(listed(parcel.manifest)[path].size for path in new)
    return Pushed(repo, revision or "main", str(done.oid), tuple(new), size, tuple(gone), bool(found.private))


def _changes(parcel: Parcel, there: Mapping[str, FileEntry]) -> tuple[list[str], list[str]]:
    """Return which files are to be uploaded, and which to be deleted: none but blocks and tables that were a set's."""
    wanted = listed(parcel.manifest)
    new = [path for path, entry in wanted.items() if there.get(path) != entry]
    return new, [path for path in there if path not in wanted and _is_content(path)]


def _is_content(path: str) -> bool:
    kind, _, name = path.partition("/")
    stem = name.partition(".")[0]
    return kind in KINDS and len(stem) == 64 and name == stem + CONTENT[kind]


def _operations(parcel: Parcel, card: str, new: list[str], gone: list[str]) -> list[Operation]:
    """Return what the commit consists of, after checking every byte that goes out."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    wanted = listed(parcel.manifest)
    for path in new:
        check_content(parcel.places[path], wanted[path].sha256, wanted[path].size)
    texts = {MANIFEST: parcel.manifest.to_bytes(), CARD: card.encode()}
    return [
        *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(parcel.places[path])) for path in new),
        *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=text) for path, text in texts.items()),
        *(CommitOperationDelete(path_in_repo=path) for path in gone),
    ]


class HubRepo:
    """Read a set from a dataset repository, at one commit; trusts nothing but what the manifest's hashes prove.

    Raises NotFound, InputRefused where there is no set in it, IntegrityError, AsifError where the Hub is out of reach.
    """

    again = "pull it again; where that does not help, tell whoever pushed it"
    in_order = False
    _scratch: Path

    def __init__(self, ref: str) -> None:
        self._repo, _, revision = ref.partition("@")
        check_repo(self._repo)
        with speaking(ref):
            self._api = _api()
            self._commit = str(self._api.dataset_info(self._repo, revision=revision or None).sha)
            self._there = _files(self._api, self._repo, self._commit)
        self.origin = f"{self._repo}@{self._commit[:12]}"

    @property
    def size(self) -> int:
        """Sum the sizes of the files of sets in the repository."""
        return sum(entry.size for path, entry in self._there.items() if _is_content(path))

    def begin(self, scratch: Path) -> bytes:
        """Download the manifest."""
        self._scratch = scratch / "download"
        if MANIFEST not in self._there:
            raise InputRefused(
                f"{self.origin} has no {MANIFEST}", "a repository that asif anchors push made", "check its name"
            )
        if self._there[MANIFEST].size > LARGEST:
            raise IntegrityError(f"the manifest in {self.origin} is too long", f"at most {LARGEST:,} bytes", self.again)
        return self._download(MANIFEST).read_bytes()

    def fetch(self, path: str, entry: FileEntry, to: Path, progress: Progress) -> None:
        """Download a file, of the size that the manifest gives it."""
        there = self._there.get(path)
        if there is None or there.size != entry.size:
            came = "is missing" if there is None else f"has {there.size:,} bytes"
            raise IntegrityError(f"{self.origin}: {path} {came}", f"a file of {entry.size:,} bytes", self.again)
        os.replace(self._download(path), to)
        sha256, size = hash_file(to)
        if (sha256, size) != (entry.sha256, entry.size):
            raise IntegrityError(f"{self.origin}: {path} has sha256 {sha256}", f"sha256 {entry.sha256}", self.again)
        flush(to)
        progress(size)

    def finish(self) -> None:
        """Nothing follows: only files that the manifest lists are looked at."""

    def _download(self, path: str) -> Path:
        with speaking(self.origin):
            found = self._api.hf_hub_download(
                self._repo, path, repo_type=KIND, revision=self._commit, local_dir=self._scratch
            )
        return Path(found)


def _files(api: HfApi, repo: str, commit: str) -> dict[str, FileEntry]:
    """List the files of a commit; the sha256 is empty where the Hub does not say it."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo, recursive=True, repo_type=KIND, revision=commit)
    return {
        file.path: FileEntry(file.lfs.sha256 if file.lfs else "", file.size)
        for file in tree
        if isinstance(file, RepoFile)
    }


def check_repo(repo: str) -> None:
    """Raise UsageError unless this is USER/REPO."""
    owner, slash, name = repo.partition("/")
    plain = all(part and set(part) <= _PLAIN and part[0] not in "-." and ".." not in part for part in (owner, name))
    if not slash or not plain or len(repo) > 96 or repo.endswith((".git", "-", ".")):
        raise UsageError(
            f"the repository {repo[:100]!a}", "USER/REPO, of letters, digits, . _ -", "name it as the Hub does"
        )


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="asif", library_version=VERSION)


@contextmanager
def _silent(shown: bool) -> Iterator[None]:
    """Hide the bars of huggingface_hub unless they are to be shown."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def speaking(what: str, shown: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors of asif that name the repository; a full disk stays one.

    Its own bars are shown where `shown`, on a terminal.
    """
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingDependency(
            "huggingface_hub is not installed", "it, to push and to pull", "pip install huggingface_hub"
        ) from error
    transport: type[BaseException] = errors.HfHubHTTPError.__bases__[0]  # of whichever HTTP library it uses
    try:
        with _silent(sys.stderr.isatty() and shown):
            yield
    except (transport, OSError, ValueError, RuntimeError) as error:
        hidden = error.__cause__ if isinstance(error, RuntimeError) else None  # what went wrong with an upload
        found = hidden or error
        if isinstance(found, OSError) and found.errno is not None:
            raise
        raise explained(what, found) from error


def explained(what: str, error: BaseException) -> AsifError:
    """Say in three beats what huggingface_hub means."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    login = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return AsifError(f"{what}: HF_HUB_OFFLINE is set", "a way to the Hub", "unset it, or share the set as a tar")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{what}: {error}", "names as the Hub has them", "check them")
    if isinstance(error, errors.GatedRepoError):
        return AsifError(
            f"{what} is only for those it was granted to", "access to it", f"ask for it on its page, then {login}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{what} has no such revision", "a branch, tag or commit that it has", "name another")
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = f"check the name; where it is private, {login}"
        return NotFound(
            f"there is no dataset repository {what}, or it is not open to you", "one that you can read", fix
        )
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return AsifError(f"{what}: the Hub does not know who you are", "a token that it accepts", login)
    if status == 403:
        return AsifError(f"{what}: the Hub does not let you do this", "a token that may write there", login)
    if status in (409, 412):
        return Conflict(
            f"somebody else changed {what} meanwhile", "the repository as it was found", "look, then push again"
        )
    away = isinstance(error, (errors.HfHubHTTPError.__bases__[0], errors.LocalEntryNotFoundError))
    told = f"the Hub answered {status}" if status else "the Hub cannot be reached" if away else "this went wrong"
    return AsifError(f"{what}: {told} ({_first_line(error)})", "a way to the Hub", "try again later")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
