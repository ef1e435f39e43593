"""Audio encoders of transformers: CLAP, Whisper, and those of AutoModel such as wav2vec2, HuBERT and AST.

A door to transformers.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from asif.encoders.audio.windows import SoundEncoder, Windows
from asif.encoders.hub_access import open_hub
from asif.encoders.precision import Precision
from asif.encoders.torch_common import MODEL_LOCK, Device, ForwardPasses, hash_weights
from asif.encoders.torch_placement import TorchPlacement, choose_placement
from asif.encoders.torch_transfer import finish_one_behind, make_transfer
from asif.errors import AsifError, MissingDependency, UsageError
from asif.vectors import Float32, Float64

if TYPE_CHECKING:
    import torch

AudioLibrary: TypeAlias = Literal["clap", "whisper", "hf-audio"]
_WINDOWS_PER_PASS = {"cpu": 2, "cuda": 16}
_WINDOW_SECONDS = 10
"""Of models that take sounds of any length."""
_UNUSED_WEIGHTS = ("masked_spec_embed",)
"""Weights that some checkpoints lack and that only training uses."""
_TORCHAUDIO_EXTRACTORS = ("ASTFeatureExtractor", "Speech2TextFeatureExtractor")
"""They compute their spectrogram by torchaudio where it is installed, by numpy elsewhere: other last bits."""


class TransformersSoundEncoder(SoundEncoder):
    """Run a frozen audio model of transformers over windows, in float32 or by autocast.

    A vector does not depend on the other sounds of a call: every forward pass has the same shape, the last one padded
    with repetitions, because matrix products of other sizes are summed in another order.
    """

    pooling: str

    def __init__(
        self,
        spec: str,
        model: Any,
        extractor: Any,
        windows: Windows,
        device: Literal["cpu", "cuda"],
        precision: Precision = "float32",
    ) -> None:
        self.spec, self.windows = spec, windows
        self._placement = TorchPlacement(device, precision)
        self._transfer = make_transfer(device)
        size = _WINDOWS_PER_PASS[device]
        self._passes = ForwardPasses(size, least=1 if self._placement.is_exact else size)
        self._extractor = extractor
        weights = hash_weights(model)
        self._model = model.eval().to(device)
        self.dim = self._measure_width()
        self.fingerprint = self.make_fingerprint(
            library="transformers",
            architecture=type(model).__name__,
            weights_sha256=weights,
            preprocessing=_describe_extractor(extractor),
            pooling=self.pooling,
            **self._placement.describe(inputs_per_pass=size),
        )

    @property
    def batch(self) -> int:
        """Return how many sounds one call takes at best: those of one pass, of several on a CUDA device."""
        return self._passes.size * self._placement.passes_per_call

    @abstractmethod
    def run_model(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the model over windows of one shape: vectors [n, dim], or those of their frames [n, t, dim]."""

    def run_windows(self, inputs: Sequence[torch.Tensor], frames: Sequence[int]) -> Float64:
        """Run the model over windows in passes of one size: the mean over the frames that are no padding [n, dim]."""

        def start(batch: list[torch.Tensor]) -> Callable[[], Float32]:
            return self._transfer.download(self.run_model(self._transfer.upload(batch)))

        rows: list[Float64] = []
        with MODEL_LOCK, self._placement.settings():
            for some, outputs in finish_one_behind(self._passes.run(inputs, start)):
                counts = frames[some]
                rows += [_mean_over_frames(one, count) for one, count in zip(outputs, counts, strict=False)]
        return np.stack(rows)

    def _measure_width(self) -> int:
        """Return the width of the vectors, from a window that says nothing."""
        ready, frames = self.prepare_window(np.linspace(-0.5, 0.5, self.windows.length, dtype=np.float32))
        return int(self.run_windows([ready], [frames]).shape[1])


def _mean_over_frames(output: Float32, frames: int) -> Float64:
    wide = output.astype(np.float64)
    return wide if wide.ndim == 1 else np.asarray(wide[:frames].mean(axis=0))


class ClapEncoder(TransformersSoundEncoder):
    """Encode sounds with CLAP's audio tower: one vector for each window of the length that the model was trained on.

    The extractor would crop longer sounds at random, and mark a random one of a batch as longer: windows are never
    longer, and are marked as such. Shorter ones are repeated or padded as the extractor says.
    """

    pooling = "tower, weighted by samples"

    def prepare_window(self, samples: Float32) -> tuple[Any, int]:
        """Return the log-mel spectrogram [mels, frames, bands], and the number of samples."""
        found = self._extractor(samples, sampling_rate=self.windows.rate, return_tensors="pt")
        return found["input_features"][0].float(), len(samples)

    def run_model(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the tower, and its projection if the checkpoint has one."""
        import torch

        is_longer = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
        output = self._model(input_features=inputs, is_longer=is_longer)
        found: torch.Tensor = output.audio_embeds if hasattr(output, "audio_embeds") else output.pooler_output
        return found


class WhisperSoundEncoder(TransformersSoundEncoder):
    """Encode sounds with Whisper's encoder: the mean over the frames that are no padding of its 30-second windows."""

    pooling = "mean over frames"

    def prepare_window(self, samples: Float32) -> tuple[Any, int]:
        """Return the log-mel spectrogram [bands, frames], and how many of the encoder's frames are no padding."""
        found = self._extractor(samples, sampling_rate=self.windows.rate, return_tensors="pt")
        stride = 2 * self._extractor.hop_length  # the encoder halves the frames of the spectrogram
        return found["input_features"][0].float(), -(-len(samples) // stride)

    def run_model(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the encoder [n, t, dim]."""
        found: torch.Tensor = self._model(inputs).last_hidden_state
        return found


class WaveformEncoder(TransformersSoundEncoder):
    """Encode sounds with a model that reads samples: wav2vec2, HuBERT, WavLM; the mean over frames without padding."""

    pooling = "mean over frames"

    def prepare_window(self, samples: Float32) -> tuple[Any, int]:
        """Return the normalised samples, padded, above their mask [2, length]; and the number of frames."""
        import torch

        found = self._extractor(
            samples,
            sampling_rate=self.windows.rate,
            padding="max_length",
            max_length=self.windows.length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        both = torch.stack([found["input_values"][0].float(), found["attention_mask"][0].float()])
        lengths = self._model._get_feat_extract_output_lengths(torch.tensor(len(samples)))
        return both, max(1, int(lengths))

    def run_model(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the model [n, t, dim]; those that were trained without a mask get none."""
        mask = inputs[:, 1].long() if self._extractor.return_attention_mask else None
        found: torch.Tensor = self._model(inputs[:, 0], attention_mask=mask).last_hidden_state
        return found


class SpectrogramEncoder(TransformersSoundEncoder):
    """Encode sounds with a model that gives one vector for each spectrogram of a fixed size, such as AST."""

    pooling = "pooler, weighted by samples"

    def prepare_window(self, samples: Float32) -> tuple[Any, int]:
        """Return the spectrogram [frames, bands], and the number of samples."""
        found = self._extractor(samples, sampling_rate=self.windows.rate, return_tensors="pt")
        return found[self._extractor.model_input_names[0]][0].float(), len(samples)

    def run_model(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the model; raises UsageError if it gives no vector for the whole window."""
        pooled: torch.Tensor | None = getattr(self._model(inputs), "pooler_output", None)
        if pooled is None:
            raise UsageError(
                f"{self.spec}, a {type(self._model).__name__}, which gives frames that cannot be told from padding",
                "a model that reads samples, such as wav2vec2 or HuBERT, or one that pools, such as AST",
                "choose another encoder of sounds",
            )
        return pooled


def load_transformers_encoder(
    library: AudioLibrary, name: str, device: Device, precision: Precision = "float32"
) -> TransformersSoundEncoder:
    """Load an audio encoder: `id[@revision]` from the cache, the hub or a local folder.

    Raises AsifError for one that cannot be loaded, or whose weights are not all in the checkpoint.
    """
    transformers = _import_transformers()
    place, _, revision = name.partition("@")
    where = choose_placement(device, precision).device
    how = {"revision": revision} if revision else {}
    try:
        with open_hub(place), _silenced(transformers):
            extractor = transformers.AutoFeatureExtractor.from_pretrained(place, **how)
            kind, model = _load_model(transformers, library, place, how)
    except AsifError:
        raise
    except Exception as error:  # the library and the hub client have no common error; all of them mean "not loaded"
        raise _not_loaded(library, name, (str(error) or type(error).__name__).splitlines()[0]) from error
    if getattr(extractor, "dither", 0):
        extractor.dither = 0.0  # it would add noise, another one in each call
    windows = _choose_windows(library, extractor)
    return kind(f"{library}:{name}", model, extractor, windows, where, precision)


@contextmanager
def _silenced(transformers: Any) -> Iterator[None]:
    """Silence what transformers says about weights of other towers, and about empty bands of spectrograms."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _load_model(
    transformers: Any, library: AudioLibrary, place: str, how: Mapping[str, str]
) -> tuple[type[TransformersSoundEncoder], Any]:
    """Load the model, and choose what runs it."""
    if library == "clap":
        config = transformers.AutoConfig.from_pretrained(place, **how)
        has_projection = (config.architectures or [""])[0] != "ClapAudioModel"
        kind = transformers.ClapAudioModelWithProjection if has_projection else transformers.ClapAudioModel
        if hasattr(config, "audio_config"):  # of a checkpoint with both towers
            how = {**how, "config": config.audio_config}
        return ClapEncoder, _load_weights(kind, place, how)
    if library == "whisper":
        return WhisperSoundEncoder, _load_weights(transformers.WhisperModel, place, how).get_encoder()
    model = _load_weights(transformers.AutoModel, place, how)
    return (WaveformEncoder if hasattr(model, "_get_feat_extract_output_lengths") else SpectrogramEncoder), model


def _load_weights(kind: Any, place: str, how: Mapping[str, Any]) -> Any:
    """Load a model; raises AsifError where weights are missing, which transformers would fill with random numbers."""
    model, info = kind.from_pretrained(place, output_loading_info=True, **how)
    missing = sorted(name for name in info["missing_keys"] if not name.endswith(_UNUSED_WEIGHTS))
    if missing:
        raise AsifError(
            f"{place} lacks {len(missing)} weights of {type(model).__name__}: {', '.join(missing[:3])}",
            "a checkpoint with all weights of the audio model",
            "choose the encoder that the checkpoint was made for: clap:, whisper: or hf-audio:",
        )
    return model


def _choose_windows(library: AudioLibrary, extractor: Any) -> Windows:
    """Return the windows: as long as the model was trained on, without overlap."""
    rate = int(extractor.sampling_rate)
    fixed = {"clap": "nb_max_samples", "whisper": "n_samples"}.get(library)
    length = int(getattr(extractor, fixed)) if fixed else _WINDOW_SECONDS * rate
    return Windows(rate, length, length)


def _describe_extractor(extractor: Any) -> dict[str, Any]:
    """Return the settings of a feature extractor, as they are after JSON."""
    fields = {
        key: value
        for key, value in extractor.to_dict().items()
        if isinstance(value, str | int | float | bool | None) and not key.startswith("_")
    }
    name = type(extractor).__name__
    return {
        **fields,
        "feature_extractor_type": name,
        **({"by": _find_fbank()} if name in _TORCHAUDIO_EXTRACTORS else {}),
    }


def _find_fbank() -> str:
    from importlib.util import find_spec

    return "torchaudio" if find_spec("torchaudio") else "numpy"


def _not_loaded(library: str, name: str, why: str) -> AsifError:
    return AsifError(
        f"transformers could not load {library}:{name}: {why}",
        "an audio model with its feature extractor, in the local cache, in a folder, or on a hub that can be reached",
        "check the name and the network",
    )


def _import_transformers() -> Any:
    """Import transformers, or raise MissingDependency; silences its progress bars."""
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise MissingDependency(
            f"transformers cannot be imported ({error})", "transformers", "pip install transformers"
        ) from error
    logging.disable_progress_bar()
    return transformers
