#!/bin/bash
# Faults of the machine that take too long, or rights that not everybody has, for the other tests.
# Each says what it does and what happened. Run it anywhere, in a shell where `python -m genscl_lite` works: tests/faults.sh
# As root on Linux it also mounts small disks, sets a quota of cores and works as another user.
set -u
project=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$project CUDA_VISIBLE_DEVICES=
work=$(mktemp -d) && cd "$work" && chmod 755 "$work"
trap 'umount "$work/disk" 2>/dev/null; cd /; rm -rf "$work"' EXIT
failed=0
root() { [ "$(id -u)" = 0 ]; }
say() { printf '\n%s\n' "$*"; }
check() { if eval "$2"; then echo "  right: $1"; else echo "  WRONG: $1"; failed=1; fi; }
one_line() { [ "$(grep -vc '^\[W' "$1")" = 1 ] && grep -q '^error: ' "$1"; }
quick=(-p epochs=6 -p eval_every=6 -p checkpoint_every=1 -p probe_epochs=1 -p min_accuracy=0.0 --seeds 1)
train() { python -m genscl_lite train digits --only supcon "${quick[@]}" "$@"; }

say "20 times, a run with a queue, a teacher and an average over weights is killed at a random moment (SIGKILL), and goes on."
python "$project/tests/train/killed.py" killed
check "its end is that of an undisturbed run, bit for bit" "[ $? = 0 ]"

say "The same command is started twice at once."
train --out twice >one.out 2>one.err & one=$!
train --out twice >two.out 2>two.err & two=$!
wait $one; first=$?; wait $two; second=$?
cat one.err two.err | grep '^error' | sed 's/^/  /'
check "at least one succeeds, and one that does not says why in a line" \
    "[ $first = 0 ] && { [ $second = 0 ] || one_line two.err; } || { [ $second = 0 ] && one_line one.err; }"
train --out alone >/dev/null 2>&1
check "the result is that of one alone" \
    "cmp -s <(cut -d, -f1-5,8- alone/supcon/seed0/log.csv) <(cut -d, -f1-5,8- twice/supcon/seed0/log.csv)"

if root && mkdir disk && mount -t tmpfs -o size=600k tmpfs disk 2>/dev/null; then
    say "A disk of 600 kB is too small for a checkpoint; then it is made larger."
    train --out disk/run >out 2>err; status=$?; sed 's/^/  /' err
    check "one line, status 2, no half file" "[ $status = 2 ] && one_line err && ! find disk -name '*tmp*' | grep -q ."
    mount -o remount,size=9M disk
    train --out disk/run >out 2>err; status=$?
    check "the same command goes on to the end of an undisturbed run" "[ $status = 0 ] &&
        cmp -s <(cut -d, -f1-5,8- alone/supcon/seed0/log.csv) <(cut -d, -f1-5,8- disk/run/supcon/seed0/log.csv)"
    say "The disk is made read-only."
    mount -o remount,ro disk
    train --out disk/other >out 2>err; status=$?; sed 's/^/  /' err
    check "one line, status 2" "[ $status = 2 ] && one_line err"
    python -c 'from PIL import Image; Image.new("L", (8, 8)).save("a.png")'
    check "a finished run on it can be used" "python -m genscl_lite predict disk/run/supcon/seed0 a.png"
    umount disk

    say "The folder is another user's, who has not given the right to write (root without its capabilities starts the command)."
    chown -R 65534 alone
    setpriv --inh-caps=-all --bounding-set=-all python -m genscl_lite train digits --only supcon "${quick[@]}" \
        -p seed=1 --out alone >out 2>err; status=$?; sed 's/^/  /' err
    check "one line, status 2" "[ $status = 2 ] && one_line err"
else
    say "Small disks and another user: left out, this is not root, or nothing can be mounted."
fi

group=/sys/fs/cgroup/cpu/genscl_faults quota=cpu.cfs_quota_us value=100000
[ -f /sys/fs/cgroup/cgroup.controllers ] && group=/sys/fs/cgroup/genscl_faults quota=cpu.max value="100000 100000"
if root && mkdir $group 2>/dev/null && echo "$value" >$group/$quota 2>/dev/null; then
    say "A control group may use one core of $(nproc)."
    (echo $BASHPID >$group/cgroup.procs; python -m genscl_lite check) | grep cores | tee cores | sed 's/^/  /'
    check "it is counted as one" "grep -q 'cores: 1\\b' cores"
else
    say "A quota of cores: left out, none can be set here."
fi
rmdir $group 2>/dev/null

say "The main job on all cores, with OMP_NUM_THREADS unset, 1, 2 and 64: images a second, and threads of each kernel."
for threads in "" 1 2 64; do
    rm -rf table; (unset OMP_NUM_THREADS; [ -n "$threads" ] && export OMP_NUM_THREADS=$threads
    python -m genscl_lite reproduce digits --only ce --only supcon "${quick[@]}" --out table >out 2>err)
    python - "OMP_NUM_THREADS=$threads" <<'END'
import json, pathlib, sys
for path in sorted(pathlib.Path("table").glob("*/seed0/summary.json")):
    summary = json.loads(path.read_text())
    print(f"  {sys.argv[1]:<19} {summary['method']:<7} {summary['images_per_second']:>7.0f} images/s, {summary['device']}")
END
done
say "$([ $failed = 0 ] && echo 'all as it should be' || echo 'SOMETHING IS WRONG')"
exit $failed
