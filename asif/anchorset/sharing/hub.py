"""The door to huggingface_hub: a set as a dataset repository with the files of a bundle and a dataset card.

Files are named by their content, so that a second push uploads only new ones. Tokens, endpoint, proxies and offline
mode are configured in huggingface_hub.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asif.anchorset.format.atomic_io import check_file_content, fsync_path, hash_file
from asif.anchorset.format.folder import CONTENT_SUFFIXES
from asif.anchorset.format.manifest import FileEntry
from asif.anchorset.sharing.bundle import CONTENT_KINDS, MANIFEST_FILE, MAX_MANIFEST_BYTES, Bundle, list_bundle_files
from asif.anchorset.sharing.verified_copy import ByteProgress
from asif.errors import AsifError, Conflict, InputRefused, IntegrityError, MissingDependency, NotFound, UsageError
from asif.version import VERSION

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

    Operation = CommitOperationAdd | CommitOperationCopy | CommitOperationDelete

_CARD_FILE = "README.md"
_REPO_TYPE = "dataset"


@dataclass(frozen=True)
class PushResult:
    """Hold the result of a push: the commit, and the paths of uploaded and deleted files."""

    repo: str
    revision: str
    commit: str
    uploaded: tuple[str, ...]
    bytes: int
    deleted: tuple[str, ...]
    private: bool


def push_bundle(
    bundle: Bundle,
    repo: str,
    card: str,
    *,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
) -> PushResult:
    """Upload a version to a dataset repository, in one commit; the repository is created if it does not exist.

    Blocks that it has already are not uploaded again, and those that the version does not have are deleted from it;
    other files of the repository stay. Raises AsifError if the Hub cannot be reached or refuses, NotFound, Conflict
    if someone else has pushed meanwhile, UsageError if `private` is given and the repository is public,
    IntegrityError.
    """
    check_repo_name(repo)
    with _translate_hub_errors(repo, shown=True):
        api = _make_api()
        api.create_repo(repo, repo_type=_REPO_TYPE, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, repo_type=_REPO_TYPE, exist_ok=True)
        info = api.dataset_info(repo, revision=revision)
        if private and not info.private:
            raise UsageError(
                f"the repository {repo} is public already", "a private one", "make it private first, or name another"
            )
        new, outdated = _find_changes(bundle, _list_repo_files(api, repo, str(info.sha)))
        commit = api.create_commit(
            repo,
            _build_operations(bundle, card, new, outdated),
            commit_message=message or f"{bundle.manifest.ref}: {bundle.manifest.count:,} anchors",
            repo_type=_REPO_TYPE,
            revision=revision,
            parent_commit=str(info.sha),
        )
    size = sum(list_bundle_files(bundle.manifest)[path].size for path in new)
    return PushResult(repo, revision or "main", str(commit.oid), tuple(new), size, tuple(outdated), bool(info.private))


def _find_changes(bundle: Bundle, existing: Mapping[str, FileEntry]) -> tuple[list[str], list[str]]:
    """Return the files to upload, and those to delete, which are blocks and tables of pairs only."""
    wanted = list_bundle_files(bundle.manifest)
    new = [path for path, entry in wanted.items() if existing.get(path) != entry]
    return new, [path for path in existing if path not in wanted and _is_content(path)]


def _is_content(path: str) -> bool:
    kind, _, name = path.partition("/")
    stem = name.partition(".")[0]
    return kind in CONTENT_KINDS and len(stem) == 64 and name == stem + CONTENT_SUFFIXES[kind]


def _build_operations(bundle: Bundle, card: str, new: list[str], outdated: list[str]) -> list[Operation]:
    """Return the operations of the commit, after checking every byte to upload."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    wanted = list_bundle_files(bundle.manifest)
    for path in new:
        check_file_content(bundle.locations[path], wanted[path].sha256, wanted[path].size)
    texts = {MANIFEST_FILE: bundle.manifest.to_bytes(), _CARD_FILE: card.encode()}
    return [
        *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=str(bundle.locations[path])) for path in new),
        *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=text) for path, text in texts.items()),
        *(CommitOperationDelete(path_in_repo=path) for path in outdated),
    ]


class HubSource:
    """Read an untrusted set from a dataset repository, at one commit.

    Raises NotFound, InputRefused if the repository has no set, IntegrityError, AsifError if the Hub cannot be
    reached.
    """

    retry_hint = "pull it again; if that fails, inform the publisher"
    sequential = False
    _scratch: Path

    def __init__(self, ref: str) -> None:
        self._repo, _, revision = ref.partition("@")
        check_repo_name(self._repo)
        with _translate_hub_errors(ref):
            self._api = _make_api()
            self._commit = str(self._api.dataset_info(self._repo, revision=revision or None).sha)
            self._entries = _list_repo_files(self._api, self._repo, self._commit)
        self.origin = f"{self._repo}@{self._commit[:12]}"

    @property
    def size(self) -> int:
        """Return the total size of the blocks and tables of pairs in the repository."""
        return sum(entry.size for path, entry in self._entries.items() if _is_content(path))

    def read_manifest(self, scratch: Path) -> bytes:
        """Download the manifest."""
        self._scratch = scratch / "download"
        if MANIFEST_FILE not in self._entries:
            raise InputRefused(
                f"{self.origin} has no {MANIFEST_FILE}", "a repository that asif anchors push made", "check its name"
            )
        if self._entries[MANIFEST_FILE].size > MAX_MANIFEST_BYTES:
            raise IntegrityError(
                f"the manifest in {self.origin} is too long", f"at most {MAX_MANIFEST_BYTES:,} bytes", self.retry_hint
            )
        return self._download(MANIFEST_FILE).read_bytes()

    def fetch_file(self, path: str, entry: FileEntry, to: Path, progress: ByteProgress) -> None:
        """Download a file, which must have the size and sha256 that the manifest gives."""
        listed = self._entries.get(path)
        if listed is None or listed.size != entry.size:
            came = "is missing" if listed is None else f"has {listed.size:,} bytes"
            raise IntegrityError(f"{self.origin}: {path} {came}", f"a file of {entry.size:,} bytes", self.retry_hint)
        os.replace(self._download(path), to)
        sha256, size = hash_file(to)
        if (sha256, size) != (entry.sha256, entry.size):
            raise IntegrityError(
                f"{self.origin}: {path} has sha256 {sha256}", f"sha256 {entry.sha256}", self.retry_hint
            )
        fsync_path(to)
        progress(size)

    def check_end(self) -> None:
        """Check nothing: only files that the manifest lists were downloaded."""

    def _download(self, path: str) -> Path:
        with _translate_hub_errors(self.origin):
            downloaded = self._api.hf_hub_download(
                self._repo, path, repo_type=_REPO_TYPE, revision=self._commit, local_dir=self._scratch
            )
        return Path(downloaded)


def _list_repo_files(api: HfApi, repo: str, commit: str) -> dict[str, FileEntry]:
    """List the files of a commit; the sha256 is empty if the Hub does not give it."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(repo, recursive=True, repo_type=_REPO_TYPE, revision=commit)
    return {
        file.path: FileEntry(file.lfs.sha256 if file.lfs else "", file.size)
        for file in tree
        if isinstance(file, RepoFile)
    }


def check_repo_name(repo: str) -> None:
    """Raise UsageError unless `repo` is USER/REPO."""
    owner, slash, name = repo.partition("/")
    plain = all(
        part and set(part) <= _NAME_CHARACTERS and part[0] not in "-." and ".." not in part for part in (owner, name)
    )
    if not slash or not plain or len(repo) > 96 or repo.endswith((".git", "-", ".")):
        raise UsageError(
            f"the repository {repo[:100]!a}", "USER/REPO, of letters, digits, . _ -", "name it as the Hub does"
        )


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _make_api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="asif", library_version=VERSION)


@contextmanager
def _hide_progress_bars(shown: bool) -> Iterator[None]:
    """Hide the progress bars of huggingface_hub unless `shown`."""
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
def _translate_hub_errors(what: str, shown: bool = False) -> Iterator[None]:
    """Turn errors of huggingface_hub into errors of asif that name the repository; a full disk stays an OSError.

    `shown` shows its progress bars, on a terminal.
    """
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingDependency(
            "huggingface_hub is not installed", "it, to push and to pull", "pip install huggingface_hub"
        ) from error
    transport: type[BaseException] = errors.HfHubHTTPError.__bases__[0]  # of whichever HTTP library it uses
    try:
        with _hide_progress_bars(sys.stderr.isatty() and shown):
            yield
    except (transport, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) else None  # of a failed upload
        original = cause or error
        if isinstance(original, OSError) and original.errno is not None:
            raise
        raise _explain_hub_error(what, original) from error


def _explain_hub_error(what: str, error: BaseException) -> AsifError:
    """Return the error of asif for one of huggingface_hub."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    login = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return AsifError(f"{what}: HF_HUB_OFFLINE is set", "a way to the Hub", "unset it, or share the set as a tar")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{what}: {error}", "names as the Hub has them", "check them")
    if isinstance(error, errors.GatedRepoError):
        return AsifError(
            f"{what} is only for those it was granted to", "access to it", f"request access on its page, then {login}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{what} has no such revision", "a branch, tag or commit that it has", "name another")
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = f"check the name; if it is private, {login}"
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
    unreachable = isinstance(error, (errors.HfHubHTTPError.__bases__[0], errors.LocalEntryNotFoundError))
    failure = (
        f"the Hub answered {status}" if status else "the Hub cannot be reached" if unreachable else "this went wrong"
    )
    return AsifError(f"{what}: {failure} ({_format_first_line(error)})", "a way to the Hub", "try again later")


def _format_first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
