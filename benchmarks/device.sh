#!/usr/bin/env bash
# What ran on the lent GPU: the tests that need one, then the tables. Usage: benchmarks/device.sh OUT, from the root.
# A first try of the compiled step comes alone, so that what is broken costs a minute; programs compile beside tests.
set -u
out=$1
bench() { timeout 120 python3 -W ignore -m benchmarks.device "$@"; }
bench --columns 256 --sides compiled --seconds 1 >"$out/try.log" 2>&1
cat "$out/try.log"
grep -q "german_credit" "$out/try.log" && ! grep -q "cannot be recorded" "$out/try.log" || exit 1
export TORCHINDUCTOR_COMPILE_THREADS=2
(timeout "${TESTS:-110}" python3 -m pytest -p no:benchmark -n 8 --dist=load -v --tb=short tests/vi/test_cuda.py \
  tests/cluster/test_cuda.py >"$out/tests.log" 2>&1; echo "tests $?") &
bench --only-compile --columns 64,1024,1 >"$out/compile1.log" 2>&1 &
bench --only-compile --columns 256,64 --samples 10 >"$out/compile10.log" 2>&1 &
bench --only-compile --models radon_mn,eight_schools --columns 256 >"$out/compile_small.log" 2>&1 &
bench --only-compile --models neural_network --columns 256 >"$out/compile_network.log" 2>&1 &
wait
grep -E "passed|failed|FAILED|ERROR" "$out/tests.log" | tail -20
cat "$out"/compile*.log
sides=launched,replayed,compiled,numpyro
bench --columns 64,256,1024 --sides $sides --seconds 2 >"$out/credit.log" 2>&1; tail -n +2 "$out/credit.log"
bench --columns 64,256 --samples 10 --sides $sides --seconds 2 >"$out/credit10.log" 2>&1; tail -n +3 "$out/credit10.log"
for model in radon_mn eight_schools neural_network; do
  bench --models $model --columns 256 --sides $sides --seconds 2 >"$out/$model.log" 2>&1; tail -n +3 "$out/$model.log"
done
bench --columns 1 --steps 512 --seconds 2 >"$out/credit1.log" 2>&1; tail -n +3 "$out/credit1.log"
