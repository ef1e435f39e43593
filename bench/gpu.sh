#!/bin/sh
# On a machine with a CUDA device: the tests of its engine, a memory checker, the benchmark and its plot, in under nine
# minutes. PYTHON names the interpreter. A step that fails does not stop the others; rows for bench/RESULTS.md are only
# written where the tests are green. `bench/gpu.sh encode` does the same for the encoders, in under nine minutes of its
# own; what is measured there needs the real pairs (ASIF_REALDATA).
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-.venv/bin/python}
OUT=bench/results
mkdir -p "$OUT"
export PYTHONPATH=.

if [ "$1" = encode ]; then
    echo "== tests of the encoders: float32 as on the CPU, vectors that depend on no batch"
    timeout 240 "$PYTHON" -m pytest -q -p no:cacheprovider tests/encoders/test_torch_transfer.py \
        tests/encoders/test_torch_placement.py tests/encoders/test_timm.py tests/encoders/test_sentence_transformers.py \
        >"$OUT/gpu-encode-tests.txt" 2>&1
    tested=$?
    tail -n 40 "$OUT/gpu-encode-tests.txt"
    echo "tests: $tested (0: passed, 124: out of time)"
    echo "== rates of the encoders"
    timeout 280 "$PYTHON" -W ignore bench/encode.py --device cuda >"$OUT/gpu-encode.md"
    measured=$?
    cat "$OUT/gpu-encode.md"
    if [ "$tested" = 0 ] && [ "$measured" = 0 ]; then
        { printf '\n## Encoders on a GPU (`bench/gpu.sh encode`)\n\n'; cat "$OUT/gpu-encode.md"; } >>bench/RESULTS.md
        echo "rows were added to bench/RESULTS.md"
        exit 0
    fi
    echo "no rows were added to bench/RESULTS.md: something above has failed"
    exit 1
fi

echo "== tests"
timeout 180 "$PYTHON" -m pytest -q -x -p no:cacheprovider tests/kernels/test_cuda.py >"$OUT/gpu-tests.txt" 2>&1
cuda=$?
timeout 110 "$PYTHON" -m pytest -q -x -p no:cacheprovider tests/kernels -k cuda --deselect tests/kernels/test_cuda.py \
    >>"$OUT/gpu-tests.txt" 2>&1
engines=$?
tail -n 40 "$OUT/gpu-tests.txt"
echo "tests: $cuda $engines (0: passed, 124: out of time)"

echo "== memory checker"
checked="not there"
if command -v compute-sanitizer >/dev/null 2>&1; then
    # without torch's cache every tensor is an allocation of its own, whose ends are watched
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 50 compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$PYTHON" -m pytest -q -p no:cacheprovider tests/kernels/test_cuda.py -k "astray or full" \
        >"$OUT/gpu-memcheck.txt" 2>&1
    checked=$?
    tail -n 5 "$OUT/gpu-memcheck.txt"
fi
echo "memory checker: $checked (0: nothing found, 9: errors, 124: out of time)"

echo "== benchmark"
timeout 170 "$PYTHON" -W ignore bench/gpu.py --seconds 125 >"$OUT/gpu.md"
measured=$?
cat "$OUT/gpu.md"
timeout 20 "$PYTHON" bench/gpu_plot.py

if [ "$cuda" = 0 ] && [ "$engines" = 0 ] && [ "$measured" = 0 ]; then
    { printf '\n## On a GPU (`bench/gpu.sh`)\n\nMemory checker: %s.\n\n' "$checked"; cat "$OUT/gpu.md"; } >>bench/RESULTS.md
    echo "rows were added to bench/RESULTS.md"
else
    echo "no rows were added to bench/RESULTS.md: something above has failed"
    exit 1
fi
